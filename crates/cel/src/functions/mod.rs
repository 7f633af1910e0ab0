//! The functions: one table from name to overloads. A signature is text (`string.startsWith(string)->bool`), parsed when
//! the table is made. One file per family.

mod lists;
mod net;
mod numbers;
mod optional;
mod semver;
mod sequences;
mod strings;
mod time;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::types::Type;
use crate::value::Value;

pub use sequences::price;
pub use time::parse_duration as duration;

pub type Function = fn(&[Value]) -> Result<Value, String>;

#[derive(Debug, Clone)]
pub struct Overload {
    /// The first argument stands before the dot.
    pub member: bool,
    pub args: Vec<Type>,
    pub result: Type,
    pub run: Function,
}

#[derive(Debug, Clone, Default)]
pub struct Table(HashMap<String, Vec<Overload>>);

impl Table {
    pub fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn overloads(&self, name: &str) -> &[Overload] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a function. `opaque` names the types of the library that are not CEL's own. A signature that can't be read
    /// adds nothing.
    pub fn add(&mut self, signature: &'static str, opaque: &[&'static str], run: Function) {
        if let Some((name, overload)) = parse(signature, opaque, run) {
            self.0.entry(name).or_default().push(overload);
        }
    }

    fn family(&mut self, all: &[(&'static str, Function)], opaque: &[&'static str]) {
        for (signature, run) in all {
            self.add(signature, opaque, *run);
        }
    }
}

/// The functions of every environment.
pub fn standard() -> Arc<Table> {
    static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
    TABLE
        .get_or_init(|| {
            let mut t = Table::default();
            t.family(numbers::ALL, &[]);
            t.family(strings::ALL, &[]);
            t.family(lists::ALL, &[]);
            t.family(sequences::ALL, &[]);
            t.family(time::ALL, &[]);
            t.family(optional::ALL, &[]);
            t.family(net::ALL, &net::TYPES);
            t.family(semver::ALL, &semver::TYPES);
            Arc::new(t)
        })
        .clone()
}

fn parse(signature: &'static str, opaque: &[&'static str], run: Function) -> Option<(String, Overload)> {
    let (head, result) = signature.rsplit_once("->")?;
    let (before, args) = head.strip_suffix(')')?.split_once('(')?;
    // `list(A).join(string)`: the target may hold brackets of its own.
    let (target, name, args) = match before {
        "list" | "map" | "optional" if args.contains(").") => {
            let (inner, rest) = args.split_once(").")?;
            let (name, args) = rest.split_once('(')?;
            (Some(format!("{before}({inner})")), name.to_owned(), args)
        }
        _ => match before.split_once(':') {
            Some((target, name)) => (Some(target.to_owned()), name.to_owned(), args),
            None => (None, before.to_owned(), args),
        },
    };
    let mut types = Vec::new();
    if let Some(t) = &target {
        types.push(one(t, opaque)?);
    }
    for a in split(args) {
        types.push(one(a, opaque)?);
    }
    let overload = Overload { member: target.is_some(), args: types, result: one(result, opaque)?, run };
    Some((name, overload))
}

/// At commas outside brackets.
fn split(args: &str) -> Vec<&str> {
    let (mut depth, mut from, mut out) = (0, 0, Vec::new());
    for (i, c) in args.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.extend(args.get(from..i));
                from = i + 1;
            }
            _ => {}
        }
    }
    out.extend(args.get(from..).filter(|s| !s.trim().is_empty()));
    out.into_iter().map(str::trim).collect()
}

fn one(text: &str, opaque: &[&'static str]) -> Option<Type> {
    if let Some(o) = opaque.iter().find(|o| **o == text) {
        return Some(Type::Opaque(o));
    }
    let inner = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    Some(match text {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "type" => Type::Type,
        "A" => Type::Param('A'),
        "B" => Type::Param('B'),
        _ => {
            if let Some(t) = inner("list") {
                return Some(Type::list(one(t, opaque)?));
            }
            if let Some(t) = inner("optional") {
                return Some(Type::optional(one(t, opaque)?));
            }
            let parts = split(inner("map")?);
            Type::map(one(parts.first()?, opaque)?, one(parts.get(1)?, opaque)?)
        }
    })
}

/// Arguments of a call: the types were looked at before, so that a mismatch is an error of the table.
pub fn text(a: &[Value], i: usize) -> Result<&str, String> {
    a.get(i).and_then(Value::as_str).ok_or_else(|| "no such overload".into())
}

pub fn int(a: &[Value], i: usize) -> Result<i64, String> {
    match a.get(i) {
        Some(Value::Int(n)) => Ok(*n),
        _ => Err("no such overload".into()),
    }
}

pub fn list(a: &[Value], i: usize) -> Result<&[Value], String> {
    match a.get(i) {
        Some(Value::List(l)) => Ok(l),
        _ => Err("no such overload".into()),
    }
}

pub fn opaque<T: 'static>(a: &[Value], i: usize) -> Result<&T, String> {
    a.get(i).and_then(Value::downcast).ok_or_else(|| "no such overload".into())
}

pub fn value(a: &[Value], i: usize) -> Result<&Value, String> {
    a.get(i).ok_or_else(|| "no such overload".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_read() {
        let families = [
            (numbers::ALL, &[][..]),
            (strings::ALL, &[]),
            (lists::ALL, &[]),
            (sequences::ALL, &[]),
            (time::ALL, &[]),
            (optional::ALL, &[]),
            (net::ALL, &net::TYPES),
            (semver::ALL, &semver::TYPES),
        ];
        for (all, opaque) in families {
            for (signature, run) in all {
                assert!(parse(signature, opaque, *run).is_some(), "{signature}");
            }
        }
        let (name, o) = parse("list(A).indexOf(A)->int", &[], |_| Err(String::new())).expect("signature");
        assert_eq!((name.as_str(), o.member, o.args.len()), ("indexOf", true, 2));
    }
}
