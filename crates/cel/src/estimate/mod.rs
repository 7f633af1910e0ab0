//! What an expression costs before it runs: at least and at most, by the sizes that its values can have. Follows cel-go's
//! estimator step by step, oddities included, since what it gives decides which definitions Kubernetes takes. Each part of
//! the expression is looked at once.

mod calls;
mod folds;
mod path;
mod range;
#[cfg(test)]
mod tests;

pub use range::Range;

use crate::Env;
use crate::ast::{Expr, Kind};
use crate::check::{self, Types, namespaced};
use crate::types::Type;
use crate::value::Value;
use path::{ITEMS, Path};

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
struct Part<'e> {
    cost: Range,
    /// `None`: it depends on where the value comes from.
    size: Option<Range>,
    entries: Option<Entries>,
    /// `None`: the expression made the value.
    path: Option<Path<'e>>,
    kind: Type,
    /// The number, where it stands there.
    number: Option<i64>,
}

impl<'e> Part<'e> {
    fn made(cost: Range, kind: Type) -> Self {
        Self { cost, size: None, entries: None, path: None, kind, number: None }
    }

    fn sized(cost: Range, kind: Type, size: Range) -> Self {
        Self { size: Some(size), ..Self::made(cost, kind) }
    }

    fn read(cost: Range, kind: Type, path: Path<'e>) -> Self {
        Self { path: Some(path), ..Self::made(cost, kind) }
    }

    fn size(&self) -> Range {
        self.size.unwrap_or(Range::UNKNOWN)
    }
}

struct Local<'e> {
    name: &'e str,
    size: Option<Range>,
    entries: Option<Entries>,
    path: Option<Path<'e>>,
}

struct Estimator<'e, 's> {
    env: &'e Env,
    types: Types,
    start: Start<'e, 's>,
    scope: Vec<Local<'e>>,
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

impl<'e> Estimator<'e, '_> {
    fn kind(&self, e: &Expr) -> Type {
        self.types.of(e).cloned().unwrap_or(Type::Dyn)
    }

    fn most(&self, path: &Path) -> Option<Range> {
        path.shape(self.start).and_then(Shape::most).map(|m| Range::new(0, m))
    }

    /// With the size that is known by now.
    fn settle(&self, p: Part<'e>) -> Part<'e> {
        let read = || p.path.as_ref().and_then(|path| self.most(path));
        Part { size: p.size.or_else(read).or_else(|| scalar(&p.kind)), ..p }
    }

    fn settled(&mut self, e: &'e Expr) -> Part<'e> {
        let p = self.part(e);
        self.settle(p)
    }

    fn variable(&self, name: &'e str, kind: Type) -> Part<'e> {
        let one = Range::of(1);
        let Some(l) = self.scope.iter().rev().find(|l| l.name == name) else {
            return Part::read(one, kind, Path::variable(name));
        };
        let p = Part { path: l.path.clone(), entries: l.entries, ..Part::made(one, kind) };
        // Its own size is what is left when nothing else is known.
        let known = p.path.as_ref().and_then(|path| self.most(path)).or_else(|| scalar(&p.kind));
        Part { size: l.size.filter(|_| known.is_none()), ..p }
    }

    fn part(&mut self, e: &'e Expr) -> Part<'e> {
        let kind = self.kind(e);
        match &e.kind {
            Kind::Literal(v) => Part {
                size: literal(v),
                number: if let Value::Int(i) = v { Some(*i) } else { None },
                ..Part::made(Range::default(), kind)
            },
            Kind::Ident(name) => self.variable(name, kind),
            Kind::Select { operand, field, test, optional } => {
                // A variable with a dot in its name.
                if let Kind::Ident(n) = &operand.kind
                    && self.types.of(operand).is_none()
                    && let full = format!("{n}.{field}")
                    && let Some((name, _)) = self.env.variables.iter().find(|(v, _)| *v == full)
                {
                    return self.variable(name, kind);
                }
                let of = self.part(operand);
                if *test {
                    return Part::made(of.cost, kind);
                }
                if *optional {
                    return Part::made(of.cost.plus(Range::of(1)), kind);
                }
                let paid = matches!(of.kind, Type::Map(..) | Type::Object(_) | Type::Message(_));
                let cost = of.cost.plus(Range::of(u64::from(paid)));
                Part::read(cost, kind, Path::step(of.path.as_ref(), field))
            }
            Kind::Index { operand, index, optional } => {
                let of = self.part(operand);
                let cost = of.cost.plus(self.part(index).cost).plus(Range::of(1));
                if *optional || matches!(of.kind, Type::Optional(_)) {
                    return Part::made(cost, kind);
                }
                let p = Part::read(cost, kind, Path::step(of.path.as_ref(), ITEMS));
                self.settle(Part { size: of.entries.map(|n| n.value), ..p })
            }
            Kind::Call { name, target, args } => self.call(name, target.as_deref(), args, kind),
            Kind::Logic { terms, .. } => {
                let mut all = terms.iter().map(|t| self.part(t).cost);
                let first = all.next().unwrap_or_default();
                // The first may decide alone.
                let most = all.fold(first, Range::plus).max;
                Part::made(Range::new(first.min, most), kind)
            }
            Kind::Conditional { test, then, other } => {
                let (test, then, other) = (self.part(test), self.settled(then), self.settled(other));
                let cost = test.cost.plus(then.cost.or(other.cost));
                Part {
                    entries: Entries::or(then.entries, other.entries),
                    ..Part::sized(cost, kind, then.size().or(other.size()))
                }
            }
            Kind::List(items) => {
                let all = items.iter().map(|(e, _)| self.settled(e)).collect::<Vec<_>>();
                let cost = all.iter().map(|p| p.cost).fold(Range::of(10), Range::plus);
                let value = all.iter().map(Part::size).reduce(Range::or).unwrap_or_default();
                let entries = Some(Entries { list: true, key: Range::of(1), value });
                Part { entries, ..Part::sized(cost, kind, count(items.len())) }
            }
            Kind::Map(all) => {
                let (mut cost, mut sizes) = (Range::of(30), None::<(Range, Range)>);
                for (k, v, _) in all {
                    let (k, v) = (self.part(k), self.part(v));
                    cost = cost.plus(k.cost).plus(v.cost);
                    let (k, v) = (self.settle(k).size(), self.settle(v).size());
                    sizes = Some(sizes.map_or((k, v), |(a, b)| (a.or(k), b.or(v))));
                }
                let (key, value) = sizes.unwrap_or_default();
                let entries = Some(Entries { list: false, key, value });
                Part { entries, ..Part::sized(cost, kind, count(all.len())) }
            }
            Kind::Message { fields, .. } => {
                let cost = fields.iter().map(|(_, e, _)| self.part(e).cost).fold(Range::of(40), Range::plus);
                Part::made(cost, kind)
            }
            Kind::Fold(f) => self.fold(f, kind),
            Kind::Bind { name, value, body } => {
                let value = self.settled(value);
                let (size, entries, path) = (value.size, value.entries, value.path);
                self.scope.push(Local { name, size, entries, path });
                let mut p = self.part(body);
                self.scope.pop();
                // As there: what was bound is forgotten by then.
                if matches!(&body.kind, Kind::Ident(n) if n == name) {
                    p = Part { size: None, entries: None, ..p };
                }
                let p = self.settle(p);
                // The list that cel-go's form of it goes over is made, and empty.
                let cost = p.cost.plus(value.cost).plus(Range::of(10));
                Part { cost, path: None, number: None, ..p }
            }
            Kind::Inside { name, value, body, flat } => {
                let value = self.part(value);
                let inner = if let Type::Optional(t) = &value.kind { (**t).clone() } else { Type::Dyn };
                self.scope.push(Local { name, size: scalar(&inner), entries: None, path: None });
                let body = self.part(body);
                self.scope.pop();
                // cel-go's form of it asks the value twice, goes over an empty list, and wraps what it gets.
                let asked = value.cost.plus(Range::of(1));
                let found = asked.plus(body.cost).plus(Range::of(if *flat { 10 } else { 11 }));
                let size = scalar(&kind).unwrap_or(Range::UNKNOWN);
                Part::sized(asked.plus(found.or(Range::of(1))), kind, size)
            }
        }
    }

    fn call(&mut self, name: &str, target: Option<&'e Expr>, args: &'e [Expr], kind: Type) -> Part<'e> {
        if let Some(t) = target
            && self.types.of(t).is_none()
            && let Some(full) = namespaced(t, name)
        {
            return self.call(&full, None, args, kind);
        }
        let args: Vec<Part> = args.iter().map(|a| self.settled(a)).collect();
        let target = target.map(|t| self.settled(t));
        let paid = args.iter().chain(&target).map(|p| p.cost).fold(Range::default(), Range::plus);
        // It only hides a type.
        if let ("dyn", None, [arg]) = (name, &target, args.as_slice()) {
            let p = Part::made(paid.plus(Range::of(1)), kind);
            return Part { size: arg.size, entries: arg.entries, ..p };
        }
        let path = target.as_ref().and_then(|t| t.path.as_ref());
        let items = path.and_then(|p| p.shape(self.start)?.items()?.most());
        let items = items.map_or(Range::UNKNOWN, |m| Range::new(0, m));
        let call = calls::Call { name, target: target.as_ref(), items, args: &args };
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
        let entries = match args.as_slice() {
            [a, b] if joined => Entries::or(a.entries, b.entries),
            _ => None,
        };
        Part { size, entries, ..Part::made(paid.plus(cost.unwrap_or_default()), kind) }
    }
}
