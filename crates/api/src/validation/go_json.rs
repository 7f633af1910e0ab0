//! What Go's encoding/json says of a text that is no JSON, or not of the wanted type: objects hold JSON in strings, and
//! error texts hold these words.

use crate::decode::json_error;
use serde_json::Value;

/// Parses; the error is Go's.
pub fn parse(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|e| json_error(text, &e))
}

/// Parses an object, or null for an empty one. `wanted` is Go's name of the type.
pub fn object(text: &[u8], wanted: &str) -> Result<serde_json::Map<String, Value>, String> {
    match parse(text)? {
        Value::Object(o) => Ok(o),
        Value::Null => Ok(serde_json::Map::new()),
        other => Err(mismatch(&other, wanted)),
    }
}

/// What is said of a value that a Go type can't hold.
pub fn mismatch(v: &Value, wanted: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {wanted}", kind(v))
}

/// Which of JSON's kinds a value is.
pub fn kind(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_gos() {
        let all = [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("a", "invalid character 'a' looking for beginning of value"),
            ("'", "invalid character '\\'' looking for beginning of value"),
            ("{}x", "invalid character 'x' after top-level value"),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1", "invalid character '1' after object key"),
            ("{\"a\":1 \"", "invalid character '\"' after object key:value pair"),
            ("[1 2", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("trux", "invalid character 'x' in literal true (expecting 'e')"),
            ("\"a\n", "invalid character '\\n' in string literal"),
            ("\"\\x", "invalid character 'x' in string escape code"),
            ("\"\\u00g", "invalid character 'g' in \\u hexadecimal character escape"),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.a", "invalid character 'a' after decimal point in numeric literal"),
            ("1ea", "invalid character 'a' in exponent of numeric literal"),
            ("01", "invalid character '1' after top-level value"),
        ];
        for (text, why) in all {
            assert_eq!(parse(text.as_bytes()), Err(why.to_owned()), "{text}");
        }
        assert_eq!(object(b"[]", "T").unwrap_err(), "json: cannot unmarshal array into Go value of type T");
        assert!(object(b" null ", "T").is_ok_and(|o| o.is_empty()));
        assert!(object(b"{\"a\": [1.5e3, \"\\u00e9\", true, {}]}", "T").is_ok_and(|o| o.contains_key("a")));
    }

    #[test]
    fn deep_texts_are_refused_without_harm() {
        assert!(parse("[".repeat(200_000).as_bytes()).is_err());
    }
}
