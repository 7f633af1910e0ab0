//! The evaluator. Every step is paid for, so that an expression ends.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::EvalError;
use crate::ast::{Expr, Fold, FoldKind, Kind};
use crate::check::{TYPE_NAMES, namespaced};
use crate::functions::{self, Table};
use crate::patterns;
use crate::value::{Key, Message, Value};

type Result<T> = std::result::Result<T, EvalError>;

struct Eval<'a> {
    functions: &'a Table,
    scope: Vec<(Cow<'a, str>, Value)>,
    /// Some variable has a dot in its name.
    dotted: bool,
    budget: &'a mut u64,
}

pub fn run(e: &Expr, functions: &Table, variables: &[(&str, Value)], budget: &mut u64) -> Result<Value> {
    let scope = variables.iter().map(|(n, v)| (Cow::Owned((*n).to_owned()), v.clone())).collect();
    let dotted = variables.iter().any(|(n, _)| n.contains('.'));
    Eval { functions, scope, dotted, budget }.expr(e)
}

fn failed<T>(why: impl Into<String>) -> Result<T> {
    Err(EvalError::Failed(why.into()))
}

fn show(v: &Value) -> String {
    match v {
        Value::String(s) => s.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => d.to_string(),
        Value::Bool(b) => b.to_string(),
        v => v.type_name().to_owned(),
    }
}

/// The position a number means in a list.
fn position(v: &Value) -> Option<i64> {
    match v {
        Value::Int(i) => Some(*i),
        Value::Uint(u) => i64::try_from(*u).ok(),
        Value::Double(d) if d.fract() == 0.0 => Some(*d as i64),
        _ => None,
    }
}

/// `None`: there is none.
fn lookup(v: &Value, index: &Value) -> Result<Option<Value>> {
    match v {
        Value::List(l) => match position(index) {
            Some(i) => Ok(usize::try_from(i).ok().and_then(|i| l.get(i)).cloned()),
            None => failed("no such overload"),
        },
        Value::Map(m) => match index.key() {
            Some(k) => Ok(m.get(&k).cloned()),
            None => failed("no such overload"),
        },
        Value::Message(m) => match index.as_str() {
            Some(k) => Ok(m.fields.get(k).cloned()),
            None => failed("no such overload"),
        },
        _ => failed("no such overload"),
    }
}

/// What a function does beyond looking at each of its arguments once.
fn dearer(name: &str, values: &[Value]) -> u64 {
    let items = |i: usize| match values.get(i) {
        Some(Value::List(l)) => u64::try_from(l.len()).unwrap_or(u64::MAX),
        _ => 0,
    };
    match (name, values) {
        ("sets.contains" | "sets.equivalent" | "sets.intersects", _) => items(0).saturating_mul(items(1)),
        ("matches" | "find" | "findAll", [_, Value::String(pattern), ..]) => patterns::work(pattern),
        _ => 0,
    }
}

impl Eval<'_> {
    fn pay(&mut self, cost: u64) -> Result<()> {
        match self.budget.checked_sub(cost) {
            Some(left) => {
                *self.budget = left;
                Ok(())
            }
            None => {
                *self.budget = 0;
                Err(EvalError::CostLimit)
            }
        }
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.scope.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    fn expr(&mut self, e: &Expr) -> Result<Value> {
        match &e.kind {
            Kind::Literal(v) => Ok(v.clone()),
            Kind::Ident(n) => {
                self.pay(1)?;
                match self.variable(n) {
                    Some(v) => Ok(v.clone()),
                    None if TYPE_NAMES.contains(&n.as_str()) => Ok(Value::Type(n.as_str().into())),
                    None => failed(format!("no such attribute(s): {n}")),
                }
            }
            Kind::Select { operand, field, test, optional } => {
                if self.dotted
                    && let Kind::Ident(n) = &operand.kind
                    && let Some(v) = self.variable(&format!("{n}.{field}")).cloned()
                {
                    self.pay(1)?;
                    return Ok(if *test { Value::Bool(true) } else { v });
                }
                let v = self.expr(operand)?;
                self.pay(1)?;
                let key = Value::from(field.as_str());
                self.member(v, &key, *test, *optional)
            }
            Kind::Index { operand, index, optional } => {
                let v = self.expr(operand)?;
                let i = self.expr(index)?;
                self.pay(1)?;
                self.member(v, &i, false, *optional)
            }
            Kind::Call { name, target, args } => self.call(name, target.as_deref(), args),
            Kind::Logic { and, terms } => {
                let mut error = None;
                for t in terms {
                    match self.expr(t) {
                        Ok(Value::Bool(b)) if b != *and => return Ok(Value::Bool(b)),
                        Ok(Value::Bool(_)) => {}
                        Ok(_) => error = error.or(Some(EvalError::Failed("no such overload".into()))),
                        Err(EvalError::CostLimit) => return Err(EvalError::CostLimit),
                        Err(e) => error = error.or(Some(e)),
                    }
                }
                error.map_or(Ok(Value::Bool(*and)), Err)
            }
            Kind::Conditional { test, then, other } => match self.expr(test)? {
                Value::Bool(true) => self.expr(then),
                Value::Bool(false) => self.expr(other),
                _ => failed("no such overload"),
            },
            Kind::List(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    match (self.expr(item)?, optional) {
                        (Value::Optional(o), true) => out.extend(o.map(|v| *v)),
                        (v, _) => out.push(v),
                    }
                }
                self.pay(10)?;
                Ok(out.into())
            }
            Kind::Map(entries) => {
                let mut out = BTreeMap::new();
                for (k, v, optional) in entries {
                    let Some(k) = self.expr(k)?.key() else { return failed("unsupported key type") };
                    let v = match (self.expr(v)?, optional) {
                        (Value::Optional(None), true) => continue,
                        (Value::Optional(Some(v)), true) => *v,
                        (v, _) => v,
                    };
                    if out.insert(k, v).is_some() {
                        return failed("insert failed: key already exists");
                    }
                }
                self.pay(30)?;
                Ok(Value::Map(out.into()))
            }
            Kind::Message { name, fields } => {
                let mut out = BTreeMap::new();
                for (field, e, optional) in fields {
                    let v = match (self.expr(e)?, optional) {
                        (Value::Optional(None), true) => continue,
                        (Value::Optional(Some(v)), true) => *v,
                        (v, _) => v,
                    };
                    out.insert(field.clone(), v);
                }
                self.pay(40)?;
                Ok(Value::Message(Message { name: name.as_str().into(), fields: out }.into()))
            }
            Kind::Fold(f) => self.fold(f),
            Kind::Bind { name, value, body } => {
                let v = self.expr(value)?;
                self.scope.push((Cow::Owned(name.clone()), v));
                let r = self.expr(body);
                self.scope.pop();
                r
            }
            Kind::Inside { name, value, body, flat } => {
                let inner = match self.expr(value)? {
                    Value::Optional(inner) => inner,
                    _ => return failed("no such overload"),
                };
                self.pay(2)?;
                let Some(inner) = inner else { return Ok(Value::Optional(None)) };
                self.pay(10)?;
                self.scope.push((Cow::Owned(name.clone()), *inner));
                let r = self.expr(body);
                self.scope.pop();
                r.map(|v| if *flat { v } else { Value::Optional(Some(Box::new(v))) })
            }
        }
    }

    fn member(&mut self, v: Value, key: &Value, test: bool, optional: bool) -> Result<Value> {
        let (v, chained) = match v {
            Value::Optional(None) if test => return Ok(Value::Bool(false)),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(v)) => (*v, true),
            v => (v, false),
        };
        let found = match (&v, key.as_str()) {
            (Value::Lazy(l), Some(name)) => l.field(name, self.budget).transpose()?,
            _ => lookup(&v, key)?,
        };
        if test {
            return Ok(Value::Bool(found.is_some()));
        }
        if optional || chained {
            return Ok(Value::Optional(found.map(Box::new)));
        }
        match (found, &v) {
            (Some(v), _) => Ok(v),
            (None, Value::List(_)) => failed(format!("index out of bounds: {}", show(key))),
            (None, _) => failed(format!("no such key: {}", show(key))),
        }
    }

    fn call(&mut self, name: &str, target: Option<&Expr>, args: &[Expr]) -> Result<Value> {
        if let Some(t) = target
            && let Some(full) = namespaced(t, name)
            && let Kind::Ident(n) = &t.kind
            && self.variable(n).is_none()
            && self.functions.knows(&full)
        {
            return self.call(&full, None, args);
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for e in target.into_iter().chain(args) {
            values.push(self.expr(e)?);
        }
        self.pay(functions::price(name, &values, *self.budget))?;
        let weight: u64 = values.iter().map(Value::weight).fold(0, u64::saturating_add);
        self.pay((1 + weight / 10).saturating_add(dearer(name, &values)))?;
        for o in self.functions.overloads(name) {
            let fits = o.member == target.is_some()
                && o.args.len() == values.len()
                && o.args.iter().zip(&values).all(|(t, v)| t.holds(v));
            if fits {
                let made = (o.run)(&values).map_err(EvalError::Failed)?;
                // What is larger than what it was made of is paid for as well.
                self.pay(made.weight().saturating_sub(weight) / 10)?;
                return Ok(made);
            }
        }
        failed("no such overload")
    }

    fn fold(&mut self, f: &Fold) -> Result<Value> {
        let range = self.expr(&f.range)?;
        // What the first and the second variable stand for, one pair an item.
        let items: Vec<(Value, Value)> = match &range {
            Value::List(l) if f.second.is_some() => l
                .iter()
                .enumerate()
                .map(|(i, v)| (Value::Int(i64::try_from(i).unwrap_or(i64::MAX)), v.clone()))
                .collect(),
            Value::List(l) => l.iter().map(|v| (v.clone(), Value::Null)).collect(),
            Value::Map(m) => m.iter().map(|(k, v)| (Value::from(k.clone()), v.clone())).collect(),
            _ => return failed("no such overload"),
        };
        let before = self.scope.len();
        let r = self.items(f, items);
        self.scope.truncate(before);
        r
    }

    fn items(&mut self, f: &Fold, items: Vec<(Value, Value)>) -> Result<Value> {
        let before = self.scope.len();
        let (mut list, mut map, mut count) = (Vec::new(), BTreeMap::<Key, Value>::new(), 0usize);
        let mut error = None;
        for (first, second) in items {
            self.pay(2)?;
            self.scope.truncate(before);
            self.scope.push((Cow::Owned(f.var.clone()), first.clone()));
            if let Some(s) = &f.second {
                self.scope.push((Cow::Owned(s.clone()), second));
            }
            if let Some(filter) = &f.filter {
                match self.expr(filter)? {
                    Value::Bool(true) => {}
                    Value::Bool(false) => continue,
                    _ => return failed("no such overload"),
                }
            }
            let body = match (self.expr(&f.body), f.kind) {
                // Another item may decide all the same.
                (Err(e @ EvalError::Failed(_)), FoldKind::All | FoldKind::Exists) => {
                    error = error.or(Some(e));
                    continue;
                }
                (b, _) => b?,
            };
            match (f.kind, body) {
                (FoldKind::All, Value::Bool(false)) => return Ok(Value::Bool(false)),
                (FoldKind::Exists, Value::Bool(true)) => return Ok(Value::Bool(true)),
                (FoldKind::All | FoldKind::Exists, Value::Bool(_)) => {}
                (FoldKind::ExistsOne, Value::Bool(b)) => count += usize::from(b),
                (FoldKind::Filter, Value::Bool(true)) => list.push(first),
                (FoldKind::Filter, Value::Bool(false)) => {}
                (FoldKind::Map | FoldKind::TransformList, v) => list.push(v),
                (FoldKind::TransformMap, v) => {
                    if let Some(k) = first.key() {
                        map.insert(k, v);
                    }
                }
                (FoldKind::TransformMapEntry, Value::Map(entries)) => {
                    for (k, v) in entries.iter() {
                        self.pay(1)?;
                        if map.insert(k.clone(), v.clone()).is_some() {
                            let key = show(&Value::from(k.clone()));
                            return failed(format!("insert failed: key {key} already exists"));
                        }
                    }
                }
                _ => return failed("no such overload"),
            }
        }
        if let Some(e) = error {
            return Err(e);
        }
        Ok(match f.kind {
            FoldKind::All => Value::Bool(true),
            FoldKind::Exists => Value::Bool(false),
            FoldKind::ExistsOne => Value::Bool(count == 1),
            FoldKind::TransformMap | FoldKind::TransformMapEntry => Value::Map(map.into()),
            FoldKind::Filter | FoldKind::Map | FoldKind::TransformList => list.into(),
        })
    }
}
