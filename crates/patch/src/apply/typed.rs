//! Walking a value by its type: which shape it has, what identifies its list elements, whether it fits the schema, and
//! which paths it mentions.

use super::element::PathElement;
use super::set::Set;
use crate::gofmt;
use crate::schema::{Atom, Keys, List, ListOrder, Scalar, Type};
use serde_json::Value;
use std::collections::BTreeSet;

/// Violations, each with its path in front; joined as upstream joins them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Errors(Vec<(String, String)>);

impl Errors {
    pub(crate) fn one(message: impl Into<String>) -> Self {
        Errors(vec![(String::new(), message.into())])
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(crate) fn add_below(&mut self, at: &PathElement, below: Errors) {
        if !below.is_empty() {
            let prefix = at.to_string();
            self.0.extend(below.0.into_iter().map(|(path, m)| (format!("{prefix}{path}"), m)));
        }
    }
    pub(crate) fn add(&mut self, more: Errors) {
        self.0.extend(more.0);
    }
    pub(crate) fn check(self) -> Result<(), Errors> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line =
            |(path, m): &(String, String)| if path.is_empty() { m.clone() } else { format!("{path}: {m}") };
        match self.0.as_slice() {
            [one] => f.write_str(&line(one)),
            many => {
                f.write_str("errors:")?;
                many.iter().try_for_each(|e| write!(f, "\n  {}", line(e)))
            }
        }
    }
}

/// The shape in which a value is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Map,
    Scalar,
    List,
}

/// The shapes a type leaves a value: the one it has if the type allows it, otherwise all the type has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shapes {
    map: bool,
    scalar: bool,
    list: bool,
}

impl Shapes {
    pub(crate) fn of(atom: &Atom<'_>, v: Option<&Value>) -> Shapes {
        let none = Shapes { map: false, scalar: false, list: false };
        match v {
            Some(Value::Object(_)) if atom.map.is_some() => Shapes { map: true, ..none },
            Some(Value::Array(_)) if atom.list.is_some() => Shapes { list: true, ..none },
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) if atom.scalar.is_some() => {
                Shapes { scalar: true, ..none }
            }
            _ => Shapes { map: atom.map.is_some(), scalar: atom.scalar.is_some(), list: atom.list.is_some() },
        }
    }

    pub(crate) fn first(self) -> Shape {
        match (self.map, self.scalar) {
            (true, _) => Shape::Map,
            (_, true) => Shape::Scalar,
            _ => Shape::List,
        }
    }
}

/// The path element of a list's element.
pub(crate) fn element_of(list: &List<'_>, item: &Value) -> Result<PathElement, String> {
    match list.order {
        ListOrder::Atomic => Err("invalid indexing of non-associative list".into()),
        ListOrder::Set => match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            v => Ok(PathElement::Value(v.clone())),
        },
        ListOrder::Keyed(keys) => keyed(list, keys, item),
    }
}

fn keyed(list: &List<'_>, keys: Keys<'_>, item: &Value) -> Result<PathElement, String> {
    let Value::Object(map) = item else {
        return Err(match item {
            Value::Null => "associative list with keys may not have a null element".into(),
            _ => "associative list with keys may not have non-map elements".into(),
        });
    };
    let element = list.element.atom().map;
    let mut found = Vec::new();
    for key in keys.iter() {
        if let Some(v) = map.get(key) {
            found.push((key.to_owned(), v.clone()));
            continue;
        }
        let Some(element) = element else {
            return Err(format!(
                "couldn't find default value for {key}: associative list may not have non-map types"
            ));
        };
        // Without a default the element simply is another one than those that have the key.
        if let Some(d) = element.field(key).and_then(|f| f.default.as_ref()) {
            found.push((key.to_owned(), d.clone()));
        }
    }
    if found.is_empty() {
        let names: Vec<String> = keys.iter().map(gofmt::q).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
             values for any key fields)",
            names.join(" ")
        ));
    }
    Ok(PathElement::key(found))
}

/// `%v` and `%#v` of upstream's wrapped values.
fn wrapped(v: &Value) -> String {
    format!("&{{{}}}", gofmt::v(v))
}

fn wrapped_syntax(v: &Value) -> String {
    let inner = match v {
        Value::Array(_) | Value::Object(_) => format!("{}{{...}}", gofmt::type_name(v)),
        other => gofmt::v(other),
    };
    format!("&value.valueUnstructured{{Value:{inner}}}")
}

pub(crate) fn check_scalar(s: Scalar, v: Option<&Value>, prefix: &str) -> Result<(), Errors> {
    let Some(v) = v.filter(|v| !v.is_null()) else { return Ok(()) };
    let fault = match s {
        Scalar::Numeric if !v.is_number() => {
            format!("expected numeric (int or float), got {}", gofmt::type_name(v))
        }
        Scalar::String if !v.is_string() => format!("expected string, got {}", wrapped_syntax(v)),
        Scalar::Boolean if !v.is_boolean() => format!("expected boolean, got {}", wrapped(v)),
        Scalar::Untyped if v.is_object() || v.is_array() => {
            format!("expected any scalar, got {}", wrapped(v))
        }
        _ => return Ok(()),
    };
    Err(Errors::one(format!("{prefix}{fault}")))
}

/// Whether an applied configuration fits the schema: known fields, right kinds, no element twice.
pub(crate) fn validate(v: &Value, ty: Type<'_>) -> Errors {
    let atom = ty.atom();
    let mut errors = Errors::default();
    match (Shapes::of(&atom, Some(v)).first(), &atom) {
        (_, _) if v.is_null() => {}
        (Shape::Map, Atom { map: Some(map), .. }) => {
            let Value::Object(fields) = v else {
                return Errors::one(format!("expected map, got {}", wrapped(v)));
            };
            for (name, x) in fields {
                let at = PathElement::field(name);
                match map.child(name) {
                    Some(t) => errors.add_below(&at, validate(x, t)),
                    None => {
                        errors.add_below(&at, Errors::one("field not declared in schema"));
                        break;
                    }
                }
            }
        }
        (Shape::List, Atom { list: Some(list), .. }) => {
            let Value::Array(items) = v else {
                return Errors::one(format!("expected list, got {}", wrapped(v)));
            };
            let mut seen = BTreeSet::new();
            for (i, x) in items.iter().enumerate() {
                let at = match list.order {
                    ListOrder::Atomic => PathElement::Index(i as i64),
                    _ => match element_of(list, x) {
                        Ok(at) => at,
                        Err(e) => {
                            errors.add(Errors::one(format!("element {i}: {e}")));
                            break;
                        }
                    },
                };
                errors.add_below(&at, validate(x, list.element));
                if let Some(at) = seen.replace(at) {
                    errors.add(Errors::one(format!("duplicate entries for key {at}")));
                }
            }
        }
        (Shape::Scalar, Atom { scalar: Some(s), .. }) => {
            errors.add(check_scalar(*s, Some(v), "").err().unwrap_or_default());
        }
        _ => {}
    }
    errors
}

/// All paths a value mentions: its leaves, its atomic parts, map entries and list elements.
pub(crate) fn field_set(v: &Value, ty: Type<'_>) -> Set {
    mentioned(v, ty).1
}

/// Whether the value is a member itself, and what is below it.
fn mentioned(v: &Value, ty: Type<'_>) -> (bool, Set) {
    let atom = ty.atom();
    let mut set = Set::default();
    match (Shapes::of(&atom, Some(v)).first(), &atom) {
        (Shape::Map, Atom { map: Some(map), .. }) => {
            let Value::Object(fields) = v else { return (map.atomic, set) };
            if map.atomic {
                return (true, set);
            }
            for (name, x) in fields {
                let (mut member, below) = map.child(name).map_or((true, Set::default()), |t| mentioned(x, t));
                let empty = x.is_null() || x.as_object().is_some_and(|m| m.is_empty());
                member |= empty || map.field(name).is_none();
                let at = PathElement::field(name);
                if member {
                    set.insert_member(at.clone());
                }
                set.insert_child(at, below);
            }
            (false, set)
        }
        (Shape::List, Atom { list: Some(list), .. }) => {
            if matches!(list.order, ListOrder::Atomic) {
                return (true, set);
            }
            let Value::Array(items) = v else { return (false, set) };
            // An element that stands there twice is owned as a whole.
            let ids: Vec<Option<PathElement>> = items.iter().map(|x| element_of(list, x).ok()).collect();
            for (at, x) in ids.iter().zip(items).filter_map(|(at, x)| Some((at.as_ref()?, x))) {
                if ids.iter().filter(|o| o.as_ref() == Some(at)).nth(1).is_none() {
                    set.insert_child(at.clone(), mentioned(x, list.element).1);
                }
                set.insert_member(at.clone());
            }
            (false, set)
        }
        _ => (true, set),
    }
}
