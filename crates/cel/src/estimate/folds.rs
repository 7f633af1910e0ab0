//! Macros over lists and maps cost what cel-go's expansions of them cost: a loop with an accumulator, which is read in
//! every turn and once at the end.

use super::path::{ITEMS, KEYS, POSITIONS, Path};
use super::{Entries, Estimator, Local, Part, Range};
use crate::ast::{Fold, FoldKind};
use crate::types::Type;

/// The accumulator, read.
const ACCUMULATOR: Range = Range::of(1);

impl<'e> Estimator<'e, '_> {
    pub(super) fn fold(&mut self, f: &'e Fold, kind: Type) -> Part<'e> {
        let range = self.part(&f.range);
        let list = range.entries.map_or(matches!(range.kind, Type::List(_)), |n| n.list);
        let (key, value) = (range.entries.map(|n| n.key), range.entries.map(|n| n.value));
        let keys = (if list { POSITIONS } else { KEYS }, key);
        let values = (ITEMS, value);
        let before = self.scope.len();
        let mut push = |name: &'e str, (step, size): (&'static str, Option<Range>)| {
            let path = Some(Path::step(range.path.as_ref(), step));
            self.scope.push(Local { name, size, entries: None, path });
        };
        match &f.second {
            Some(second) => {
                push(&f.var, keys);
                push(second, values);
            }
            None if list => push(&f.var, values),
            None => push(&f.var, keys),
        }
        let filter = f.filter.as_ref().map(|e| self.part(e));
        let body = self.settled(&f.body);
        let item = match (&range.kind, list) {
            (Type::List(t), true) | (Type::Map(t, _), false) => (**t).clone(),
            _ => Type::Dyn,
        };
        let item = self.settle(self.variable(&f.var, item));
        self.scope.truncate(before);
        // Only now, as there.
        let range = self.settle(range);

        // What an added item costs: the call, the accumulator, a list of one.
        let added = |p: &Part| p.cost.plus(Range::of(12));
        let chosen = |test: &Part, then: Range| test.cost.plus(then.or(ACCUMULATOR));
        let (start, turn, end) = match f.kind {
            // The loop's condition is a function of the accumulator (of its negation).
            FoldKind::All => (0, Range::new(1, body.cost.max.saturating_add(1)).plus(Range::of(2)), 1),
            FoldKind::Exists => (0, Range::new(1, body.cost.max.saturating_add(1)).plus(Range::of(3)), 1),
            FoldKind::ExistsOne => (0, chosen(&body, Range::of(2)), 2),
            FoldKind::Filter => (10, chosen(&body, added(&item)), 1),
            FoldKind::Map | FoldKind::TransformList => {
                let step = added(&body);
                (10, filter.as_ref().map_or(step, |t| chosen(t, step)), 1)
            }
            FoldKind::TransformMap | FoldKind::TransformMapEntry => {
                // The key is read where the body does not give it.
                let key = if f.kind == FoldKind::TransformMap { 1 } else { 0 };
                let step = body.cost.plus(Range::of(2 + key));
                (30, filter.as_ref().map_or(step, |t| chosen(t, step)), 1)
            }
        };
        let cost = range.cost.plus(Range::of(start + end)).plus(range.size().times(turn));
        let made = match f.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => return Part::made(cost, kind),
            FoldKind::Filter => Some(&item),
            FoldKind::Map | FoldKind::TransformList => Some(&body),
            FoldKind::TransformMap | FoldKind::TransformMapEntry => None,
        };
        let entries =
            made.map(|p| Entries { list: true, key: Range::of(1), value: Range::new(0, p.size().max) });
        Part { entries, ..Part::sized(cost, kind, range.size()) }
    }
}
