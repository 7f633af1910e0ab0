//! What Go's encoding/json says of a text that is no JSON, or not of the wanted type: objects hold JSON in strings, and
//! error texts hold these words.

use super::errors::quote;
use serde_json::Value;

/// Nesting that is read; Go takes more, in texts that no object holds.
const DEEPEST: usize = 100;

/// Parses; the error is Go's.
pub fn parse(text: &[u8]) -> Result<Value, String> {
    let mut s = Scanner { text, at: 0 };
    s.spaces();
    s.value(0)?;
    s.spaces();
    match s.peek() {
        Some(_) => Err(s.invalid("after top-level value")),
        None => serde_json::from_slice(text).map_err(|e| e.to_string()),
    }
}

/// Parses an object, or null for an empty one. `wanted` is Go's name of the type.
pub fn object(text: &[u8], wanted: &str) -> Result<serde_json::Map<String, Value>, String> {
    let kind = match parse(text)? {
        Value::Object(o) => return Ok(o),
        Value::Null => return Ok(serde_json::Map::new()),
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
    };
    Err(format!("json: cannot unmarshal {kind} into Go value of type {wanted}"))
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }
    /// At this place something else was wanted.
    fn invalid(&self, place: &str) -> String {
        match self.peek() {
            None => "unexpected end of JSON input".into(),
            Some(b'\'') => format!("invalid character '\\'' {place}"),
            Some(b'"') => format!("invalid character '\"' {place}"),
            Some(b) => {
                let q = quote(&char::from(b).to_string());
                format!("invalid character '{}' {place}", &q[1..q.len() - 1])
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err("exceeded max depth".into());
        }
        match self.peek() {
            Some(b'{') => self.members(depth),
            Some(b'[') => self.elements(depth),
            Some(b'"') => self.string(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        for wanted in word.bytes() {
            if self.peek() != Some(wanted) {
                return Err(self.invalid(&format!("in literal {word} (expecting '{}')", char::from(wanted))));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn digits(&mut self, place: &str) -> Result<(), String> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.invalid(place));
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(self.invalid("in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                        return Err(self.invalid("in \\u hexadecimal character escape"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.invalid("in string escape code")),
        }
        Ok(())
    }

    fn members(&mut self, depth: usize) -> Result<(), String> {
        self.at += 1;
        self.spaces();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.invalid("looking for beginning of object key string"));
            }
            self.string()?;
            self.spaces();
            if self.peek() != Some(b':') {
                return Err(self.invalid("after object key"));
            }
            self.at += 1;
            self.spaces();
            self.value(depth + 1)?;
            self.spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.invalid("after object key:value pair")),
            }
            self.spaces();
        }
    }

    fn elements(&mut self, depth: usize) -> Result<(), String> {
        self.at += 1;
        self.spaces();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.invalid("after array element")),
            }
            self.spaces();
        }
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
