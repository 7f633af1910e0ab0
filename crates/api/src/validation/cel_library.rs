//! Kubernetes' own functions in CEL: quantities and named formats. https://kubernetes.io/docs/reference/using-api/cel/

use std::any::Any;
use std::sync::{Arc, OnceLock};

use cel::functions::{Function, Table, opaque, text};
use cel::{Opaque, Value};

use super::{formats, names};
use crate::quantity::Quantity;

const TYPES: [&str; 2] = ["kubernetes.Quantity", "kubernetes.NamedFormat"];

#[derive(Debug)]
struct Amount(Quantity);

#[derive(Debug)]
struct Format(&'static str, fn(&str) -> Vec<String>);

impl Opaque for Amount {
    fn type_name(&self) -> &'static str {
        TYPES[0]
    }
    fn same(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|o| self.0.cmp(&o.0).is_eq())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Opaque for Format {
    fn type_name(&self) -> &'static str {
        TYPES[1]
    }
    fn same(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|o| self.0 == o.0)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

type R = Result<Value, String>;

fn parse(a: &[Value]) -> Result<Quantity, String> {
    Quantity::parse(text(a, 0)?).map_err(|e| e.to_string())
}

fn amount(a: &[Value], i: usize) -> Result<Quantity, String> {
    match a.get(i) {
        Some(Value::Int(n)) => Ok(Quantity::from_i64(*n, crate::quantity::Format::DecimalSI)),
        _ => Ok(opaque::<Amount>(a, i)?.0),
    }
}

fn boolean(b: bool) -> R {
    Ok(Value::Bool(b))
}
fn quantity(a: &[Value]) -> R {
    Ok(Value::opaque(Amount(parse(a)?)))
}
fn is_quantity(a: &[Value]) -> R {
    boolean(parse(a).is_ok())
}
fn is_integer(a: &[Value]) -> R {
    boolean(amount(a, 0)?.is_exact(0))
}
fn as_integer(a: &[Value]) -> R {
    let q = amount(a, 0)?;
    if q.is_exact(0) { Ok(Value::Int(q.value())) } else { Err("cannot convert value to integer".into()) }
}
fn approximate(a: &[Value]) -> R {
    Ok(Value::Double(amount(a, 0)?.as_f64()))
}
fn sign(a: &[Value]) -> R {
    Ok(Value::Int(amount(a, 0)?.sign().into()))
}
fn add(a: &[Value]) -> R {
    Ok(Value::opaque(Amount(amount(a, 0)? + amount(a, 1)?)))
}
fn sub(a: &[Value]) -> R {
    Ok(Value::opaque(Amount(amount(a, 0)? - amount(a, 1)?)))
}
fn compare(a: &[Value]) -> Result<std::cmp::Ordering, String> {
    Ok(amount(a, 0)?.cmp(&amount(a, 1)?))
}
fn compare_to(a: &[Value]) -> R {
    Ok(Value::Int(compare(a)? as i64))
}
fn greater(a: &[Value]) -> R {
    boolean(compare(a)?.is_gt())
}
fn less(a: &[Value]) -> R {
    boolean(compare(a)?.is_lt())
}

fn prefix(s: &str, rule: fn(&str) -> names::Messages) -> Vec<String> {
    names::with_prefix(s, true, rule)
}

/// A format that schemas have, too.
fn schema(s: &str, format: &str, why: &str) -> Vec<String> {
    if formats::holds(format, s) { Vec::new() } else { vec![why.to_owned()] }
}

fn uri(s: &str) -> Vec<String> {
    let why = if s.is_empty() { "empty url" } else { "invalid URI for request" };
    schema(s, "uri", &format!("parse {s:?}: {why}"))
}

/// Each format by its name, and the function of CEL that gives it.
macro_rules! formats {
    ($($name:literal: $check:expr,)*) => {
        const FORMATS: &[(&str, fn(&str) -> Vec<String>)] = &[$(($name, $check)),*];
        const NAMED: &[(&str, Function)] =
            &[$((concat!("format.", $name, "()->kubernetes.NamedFormat"), |_| known($name))),*];
    };
}

formats! {
    "dns1123Label": |s| names::dns1123_label(s).into_iter().collect(),
    "dns1123Subdomain": |s| names::dns1123_subdomain(s).into_iter().collect(),
    "dns1035Label": |s| names::dns1035_label(s).into_iter().collect(),
    "qualifiedName": |s| names::qualified_name(s).into_iter().collect(),
    "labelValue": |s| names::label_value(s).into_iter().collect(),
    "dns1123LabelPrefix": |s| prefix(s, names::dns1123_label),
    "dns1123SubdomainPrefix": |s| prefix(s, names::dns1123_subdomain),
    "dns1035LabelPrefix": |s| prefix(s, names::dns1035_label),
    "uri": uri,
    "uuid": |s| schema(s, "uuid", "does not match the UUID format"),
    "byte": |s| schema(s, "byte", "invalid base64"),
    "date": |s| schema(s, "date", "invalid date"),
    "datetime": |s| schema(s, "datetime", "invalid datetime"),
}

fn named(name: &str) -> Option<Value> {
    FORMATS.iter().find(|(n, _)| *n == name).map(|(n, f)| Value::opaque(Format(n, *f)))
}

fn named_format(a: &[Value]) -> R {
    Ok(Value::Optional(named(text(a, 0)?).map(Box::new)))
}

fn known(name: &str) -> R {
    named(name).ok_or_else(|| "no such format".into())
}

/// No value when the text has the format, else what is wrong with it.
fn validate(a: &[Value]) -> R {
    let f = opaque::<Format>(a, 0)?;
    let wrong: Vec<Value> = (f.1)(text(a, 1)?).into_iter().map(Value::from).collect();
    Ok(Value::Optional((!wrong.is_empty()).then(|| Box::new(Value::from(wrong)))))
}

const ALL: &[(&str, Function)] = &[
    ("quantity(string)->kubernetes.Quantity", quantity),
    ("isQuantity(string)->bool", is_quantity),
    ("kubernetes.Quantity:isInteger()->bool", is_integer),
    ("kubernetes.Quantity:asInteger()->int", as_integer),
    ("kubernetes.Quantity:asApproximateFloat()->double", approximate),
    ("kubernetes.Quantity:sign()->int", sign),
    ("kubernetes.Quantity:add(kubernetes.Quantity)->kubernetes.Quantity", add),
    ("kubernetes.Quantity:add(int)->kubernetes.Quantity", add),
    ("kubernetes.Quantity:sub(kubernetes.Quantity)->kubernetes.Quantity", sub),
    ("kubernetes.Quantity:sub(int)->kubernetes.Quantity", sub),
    ("kubernetes.Quantity:compareTo(kubernetes.Quantity)->int", compare_to),
    ("kubernetes.Quantity:isGreaterThan(kubernetes.Quantity)->bool", greater),
    ("kubernetes.Quantity:isLessThan(kubernetes.Quantity)->bool", less),
    ("format.named(string)->optional(kubernetes.NamedFormat)", named_format),
    ("kubernetes.NamedFormat:validate(string)->optional(list(string))", validate),
];

/// The standard functions and these.
pub fn functions() -> Arc<Table> {
    static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
    TABLE
        .get_or_init(|| {
            let mut t = (*cel::functions::standard()).clone();
            for (signature, run) in ALL.iter().chain(NAMED) {
                t.add(signature, &TYPES, *run);
            }
            Arc::new(t)
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_and_formats() {
        let env = cel::Env::with(Vec::new(), functions());
        for source in [
            "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').add(quantity('500m')) == quantity('1')",
            "isQuantity('3Ki') && !isQuantity('three') && quantity('2').asInteger() == 2 && !quantity('1500m').isInteger()",
            "quantity('2').sub(1).compareTo(quantity('1')) == 0 && quantity('-1').sign() == -1",
            "!format.dns1123Label().validate('a-b').hasValue() && format.dns1123Label().validate('A').hasValue()",
            "!format.dns1123LabelPrefix().validate('a-').hasValue() && format.dns1035LabelPrefix().validate('1-').hasValue() && !format.dns1123SubdomainPrefix().validate('a.b-').hasValue()",
            "format.uuid().validate('x').value() == ['does not match the UUID format'] && !format.uuid().validate('e5d1f6a0-4d3c-4f53-8f3c-1b2a3c4d5e6f').hasValue()",
            "format.byte().validate('!').value() == ['invalid base64'] && !format.byte().validate('YQ==').hasValue() && format.date().validate('x').value() == ['invalid date']",
            "format.datetime().validate('x').value() == ['invalid datetime'] && !format.datetime().validate('2024-01-01T00:00:00Z').hasValue()",
            "!format.uri().validate('https://a.b/c').hasValue() && format.uri().validate('a b').value() == ['parse \\\"a b\\\": invalid URI for request']",
            "format.named('qualifiedName').value().validate('a/b') == optional.none()",
        ] {
            let p = env.compile(source, Some(&cel::Type::Bool)).unwrap_or_else(|e| panic!("{source}: {e:?}"));
            let got = p.eval(&[], &mut 10_000);
            assert!(matches!(got, Ok(Value::Bool(true))), "{source}: {got:?}");
        }
    }
}
