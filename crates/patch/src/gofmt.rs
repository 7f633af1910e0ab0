//! Renders JSON values the way Go's `%v`, `%q` and `%T` do: upstream's messages contain them and clients match on it.

use serde_json::{Number, Value};

pub(crate) fn number(n: &Number) -> String {
    match n.as_f64() {
        Some(f) if n.is_f64() => float(f),
        _ => n.to_string(),
    }
}

/// `%v` of a float64: shortest form, exponent below 1e-4 and from 1e21 on.
fn float(f: f64) -> String {
    if f == 0.0 {
        return if f.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    if (1e-4..1e21).contains(&f.abs()) {
        return f.to_string();
    }
    let s = format!("{f:e}");
    match s.split_once('e') {
        Some((m, e)) => {
            let (sign, digits) = match e.strip_prefix('-') {
                Some(d) => ('-', d),
                None => ('+', e),
            };
            format!("{m}e{sign}{digits:0>2}")
        }
        None => s,
    }
}

/// `%v`
pub(crate) fn v(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => number(n),
        Value::String(s) => s.clone(),
        Value::Array(a) => list(a),
        Value::Object(m) => {
            let parts: Vec<String> = m.iter().map(|(k, x)| format!("{k}:{}", v(x))).collect();
            format!("map[{}]", parts.join(" "))
        }
    }
}

pub(crate) fn list(items: &[Value]) -> String {
    format!("[{}]", items.iter().map(v).collect::<Vec<_>>().join(" "))
}

/// `%q`
pub(crate) fn q(s: &str) -> String {
    format!("{s:?}")
}

/// The Go type that upstream's decoder makes of it, as `%T` prints it.
pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// The same where upstream prints it with `%s`.
pub(crate) fn type_name(value: &Value) -> &'static str {
    if value.is_null() { "%!s(<nil>)" } else { go_type(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn like_go() {
        for (value, want) in [
            (json!({"b": 1, "a": [true, null, "x"]}), "map[a:[true <nil> x] b:1]"),
            (json!(1.5), "1.5"),
            (json!(2.0), "2"),
            (json!(1e21), "1e+21"),
            (json!(0.00001), "1e-05"),
            (json!(-0.5), "-0.5"),
        ] {
            assert_eq!(v(&value), want);
        }
    }
}
