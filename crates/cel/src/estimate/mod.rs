//! What an expression costs before it runs: at least and at most, by the sizes that its values can have. Follows cel-go's
//! estimator step by step, oddities included, since what it gives decides which definitions Kubernetes takes. Each part of
//! the expression is looked at once.

mod calls;
mod folds;
mod range;
#[cfg(test)]
mod tests;

pub use range::Range;

use crate::Env;
use crate::ast::{Expr, Kind};
use crate::check::{self, Types, namespaced};
use crate::types::Type;
use crate::value::Value;

/// How large a value and its parts can be.
pub trait Shape {
    /// Characters of a text, items of a list, entries of a map; `None`: nothing is known.
    fn most(&self) -> Option<u64>;
    fn field(&self, name: &str) -> Option<&dyn Shape>;
    /// The items of a list, the values of a map.
    fn items(&self) -> Option<&dyn Shape>;
    fn keys(&self) -> Option<&dyn Shape>;
}

/// The shape at the beginning of a path: of a variable, or of what is taken (`@items`, a field) of a value made by the
/// expression itself.
pub type Start<'e, 's> = &'e dyn Fn(&str) -> Option<&'s dyn Shape>;

/// A step of a path.
#[derive(Clone, Copy)]
enum Step<'e> {
    Field(&'e str),
    Items,
    Keys,
    Positions,
}

/// Where a value comes from.
#[derive(Clone, Copy)]
enum Place<'s> {
    /// Made by the expression.
    Made,
    /// Read; `None`: there is nothing known of it.
    Read(Option<&'s dyn Shape>),
}

/// What is known of the items or entries of a value that the expression made.
#[derive(Clone, Copy)]
struct Entries {
    list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn or(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (a, b) = (a?, b?);
        Some(Self { list: a.list, key: a.key.or(b.key), value: a.value.or(b.value) })
    }
}

/// What is known of a part of the expression.
struct Part<'s> {
    cost: Range,
    size: Option<Range>,
    entries: Option<Entries>,
    place: Place<'s>,
    kind: Type,
    /// The number, where it stands there.
    number: Option<i64>,
}

impl Part<'_> {
    fn size(&self) -> Range {
        self.size.unwrap_or(Range::UNKNOWN)
    }
}

struct Local<'e, 's> {
    name: &'e str,
    size: Option<Range>,
    entries: Option<Entries>,
    place: Place<'s>,
}

struct Estimator<'e, 's> {
    env: &'e Env,
    types: Types,
    start: Start<'e, 's>,
    scope: Vec<Local<'e, 's>>,
}

pub fn run<'s>(e: &Expr, env: &Env, start: Start<'_, 's>) -> Range {
    let types = check::types(e, env);
    Estimator { env, types, start, scope: Vec::new() }.part(e).cost
}

/// What is of one size whatever its value.
fn scalar(t: &Type) -> Option<Range> {
    match t {
        Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Timestamp | Type::Duration => {
            Some(Range::of(1))
        }
        Type::Optional(t) => scalar(t),
        _ => None,
    }
}

fn count(n: usize) -> Range {
    Range::of(u64::try_from(n).unwrap_or(u64::MAX))
}

fn literal(v: &Value) -> Option<Range> {
    match v {
        Value::String(s) => Some(count(s.chars().count())),
        Value::Bytes(b) => Some(count(b.len())),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => {
            Some(Range::of(1))
        }
        _ => None,
    }
}

impl<'e, 's> Estimator<'e, 's> {
    fn kind(&self, e: &Expr) -> Type {
        self.types.of(e).cloned().unwrap_or(Type::Dyn)
    }

    fn step(&self, from: Place<'s>, step: Step) -> Place<'s> {
        Place::Read(match (from, step) {
            (Place::Made, Step::Field(name)) => (self.start)(name),
            (Place::Made, Step::Items) => (self.start)("@items"),
            (Place::Made, Step::Keys) => (self.start)("@keys"),
            (Place::Made, Step::Positions) => (self.start)("@indices"),
            (Place::Read(at), Step::Field(name)) => at.and_then(|s| s.field(name)),
            (Place::Read(at), Step::Items) => at.and_then(Shape::items),
            (Place::Read(at), Step::Keys) => at.and_then(Shape::keys),
            (Place::Read(_), Step::Positions) => None,
        })
    }

    /// A value with the size that its place or its type tells.
    fn placed(cost: Range, place: Place<'s>, kind: Type) -> Part<'s> {
        let most = match place {
            Place::Read(Some(s)) => s.most(),
            Place::Read(None) | Place::Made => None,
        };
        let size = most.map(|m| Range::new(0, m)).or_else(|| scalar(&kind));
        Part { cost, size, entries: None, place, kind, number: None }
    }

    fn made(cost: Range, kind: Type) -> Part<'s> {
        Self::placed(cost, Place::Made, kind)
    }

    fn sized(cost: Range, kind: Type, size: Range) -> Part<'s> {
        Part { size: Some(size), ..Self::made(cost, kind) }
    }

    fn variable(&self, name: &str, kind: Type) -> Part<'s> {
        let one = Range::of(1);
        match self.scope.iter().rev().find(|l| l.name == name) {
            Some(l) => {
                let p = Self::placed(one, l.place, kind);
                Part { size: p.size.or(l.size), entries: l.entries, ..p }
            }
            None => Self::placed(one, Place::Read((self.start)(name)), kind),
        }
    }

    fn part(&mut self, e: &'e Expr) -> Part<'s> {
        let kind = self.kind(e);
        match &e.kind {
            Kind::Literal(v) => Part {
                size: literal(v),
                number: if let Value::Int(i) = v { Some(*i) } else { None },
                ..Self::made(Range::default(), kind)
            },
            Kind::Ident(name) => self.variable(name, kind),
            Kind::Select { operand, field, test, optional } => {
                // A variable with a dot in its name.
                if let Kind::Ident(n) = &operand.kind
                    && self.types.of(operand).is_none()
                {
                    return self.variable(&format!("{n}.{field}"), kind);
                }
                let of = self.part(operand);
                if *test {
                    return Self::made(of.cost, kind);
                }
                if *optional {
                    return Self::made(of.cost.plus(Range::of(1)), kind);
                }
                let paid = matches!(of.kind, Type::Map(..) | Type::Object(_) | Type::Message(_));
                let cost = of.cost.plus(Range::of(u64::from(paid)));
                Self::placed(cost, self.step(of.place, Step::Field(field)), kind)
            }
            Kind::Index { operand, index, optional } => {
                let of = self.part(operand);
                let cost = of.cost.plus(self.part(index).cost).plus(Range::of(1));
                if *optional || matches!(of.kind, Type::Optional(_)) {
                    return Self::made(cost, kind);
                }
                let p = Self::placed(cost, self.step(of.place, Step::Items), kind);
                Part { size: of.entries.map(|n| n.value).or(p.size), ..p }
            }
            Kind::Call { name, target, args } => self.call(name, target.as_deref(), args, kind),
            Kind::Logic { terms, .. } => {
                let mut all = terms.iter().map(|t| self.part(t).cost);
                let first = all.next().unwrap_or_default();
                // The first may decide alone.
                let most = all.fold(first, Range::plus).max;
                Self::made(Range::new(first.min, most), kind)
            }
            Kind::Conditional { test, then, other } => {
                let (test, then, other) = (self.part(test), self.part(then), self.part(other));
                let cost = test.cost.plus(then.cost.or(other.cost));
                Part {
                    entries: Entries::or(then.entries, other.entries),
                    ..Self::sized(cost, kind, then.size().or(other.size()))
                }
            }
            Kind::List(items) => {
                let all = items.iter().map(|(e, _)| self.part(e)).collect::<Vec<_>>();
                let cost = all.iter().map(|p| p.cost).fold(Range::of(10), Range::plus);
                let value = all.iter().map(Part::size).reduce(Range::or).unwrap_or_default();
                let entries = Some(Entries { list: true, key: Range::of(1), value });
                Part { entries, ..Self::sized(cost, kind, count(items.len())) }
            }
            Kind::Map(all) => {
                let (mut cost, mut sizes) = (Range::of(30), None::<(Range, Range)>);
                for (k, v, _) in all {
                    let (k, v) = (self.part(k), self.part(v));
                    cost = cost.plus(k.cost).plus(v.cost);
                    let (a, b) = sizes.unwrap_or((k.size(), v.size()));
                    sizes = Some((a.or(k.size()), b.or(v.size())));
                }
                let (key, value) = sizes.unwrap_or_default();
                let entries = Some(Entries { list: false, key, value });
                Part { entries, ..Self::sized(cost, kind, count(all.len())) }
            }
            Kind::Message { fields, .. } => {
                let cost = fields.iter().map(|(_, e, _)| self.part(e).cost).fold(Range::of(40), Range::plus);
                Self::made(cost, kind)
            }
            Kind::Fold(f) => self.fold(f, kind),
            Kind::Bind { name, value, body } => {
                let value = self.part(value);
                let (size, entries, place) = (value.size, value.entries, value.place);
                self.scope.push(Local { name, size, entries, place });
                let mut p = self.part(body);
                self.scope.pop();
                // As there: what was bound is forgotten by then.
                if matches!(&body.kind, Kind::Ident(n) if n == name) {
                    p = Self::placed(p.cost, p.place, p.kind);
                }
                // The list that cel-go's form of it goes over is made, and empty.
                Part { cost: p.cost.plus(value.cost).plus(Range::of(10)), place: Place::Made, number: None, ..p }
            }
        }
    }

    fn call(&mut self, name: &str, target: Option<&'e Expr>, args: &'e [Expr], kind: Type) -> Part<'s> {
        if let Some(t) = target
            && self.types.of(t).is_none()
            && let Some(full) = namespaced(t, name)
        {
            return self.call(&full, None, args, kind);
        }
        let args: Vec<Part> = args.iter().map(|a| self.part(a)).collect();
        let target = target.map(|t| self.part(t));
        let paid = args.iter().chain(&target).map(|p| p.cost).fold(Range::default(), Range::plus);
        // It only hides a type.
        if let ("dyn", None, [arg]) = (name, &target, args.as_slice()) {
            let cost = paid.plus(Range::of(1));
            let p = Self::made(cost, kind);
            return Part { size: arg.size.or(p.size), entries: arg.entries, ..p };
        }
        let items = target.as_ref().map(|t| match self.step(t.place, Step::Items) {
            Place::Read(Some(s)) if matches!(t.place, Place::Read(_)) => {
                s.most().map_or(Range::UNKNOWN, |m| Range::new(0, m))
            }
            _ => Range::UNKNOWN,
        });
        let call = calls::Call { name, target: target.as_ref(), items: items.unwrap_or_default(), args: &args };
        let types: Vec<Type> = target.iter().chain(&args).map(|p| p.kind.clone()).collect();
        let (mut cost, mut size, mut joined) = (None::<Range>, None::<Range>, false);
        for (o, _) in check::fitting(&self.env.functions, name, target.is_some(), &types) {
            let (one, result) = call.estimate(o);
            cost = Some(cost.map_or(one, |c| c.or(one)));
            size = match (size, result) {
                (Some(a), Some(b)) => Some(a.or(b)),
                (a, b) => a.or(b).or_else(|| scalar(&kind)),
            };
            joined |= calls::joins(name, o);
        }
        let p = Self::made(paid.plus(cost.unwrap_or_default()), kind);
        let entries = match args.as_slice() {
            [a, b] if joined => Entries::or(a.entries, b.entries),
            _ => None,
        };
        Part { size: size.or(p.size), entries, ..p }
    }
}
