//! What is wrong with a text that is no JSON, in the words of Go's scanner: clients and their authors know them. Runs
//! only after a parse has failed. Pure, and without recursion.

/// Deeper than this is refused, as upstream does.
const MAX_DEPTH: usize = 10_000;

/// What is expected next inside an open array or object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Array,
    /// After `{`, or after a comma: a key.
    Key,
    Value,
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

const END: &str = "unexpected end of JSON input";

/// The first fault; `None` when the syntax is sound.
pub fn error(text: &[u8]) -> Option<String> {
    Scanner { text, at: 0 }.document().err()
}

fn quoted(c: u8) -> String {
    match c {
        b'\'' => "'\\''".into(),
        b'"' => "'\"'".into(),
        c => format!("'{}'", char::from(c).escape_go()),
    }
}

trait GoEscape {
    fn escape_go(self) -> String;
}
impl GoEscape for char {
    fn escape_go(self) -> String {
        match self {
            '\u{7}' => "\\a".into(),
            '\u{8}' => "\\b".into(),
            '\u{b}' => "\\v".into(),
            '\u{c}' => "\\f".into(),
            '\n' => "\\n".into(),
            '\r' => "\\r".into(),
            '\t' => "\\t".into(),
            '\\' => "\\\\".into(),
            c if c.is_control() && c.is_ascii() => format!("\\x{:02x}", u32::from(c)),
            c if c.is_control() || c == '\u{a0}' || c == '\u{ad}' => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        }
    }
}

fn fault<T>(c: u8, place: &str) -> Result<T, String> {
    Err(format!("invalid character {} {place}", quoted(c)))
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
    fn next(&mut self) -> Result<u8, String> {
        let c = self.peek().ok_or(END)?;
        self.at += 1;
        Ok(c)
    }
    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn document(&mut self) -> Result<(), String> {
        let mut open: Vec<Open> = Vec::new();
        loop {
            // A value, or a bracket that opens or closes one.
            self.blank();
            let c = self.next()?;
            match (c, open.last().copied()) {
                (b'"', Some(Open::Key)) => {
                    self.string()?;
                    self.blank();
                    match self.next()? {
                        b':' => {}
                        c => return fault(c, "after object key"),
                    }
                    if let Some(o) = open.last_mut() {
                        *o = Open::Value;
                    }
                    continue;
                }
                (c, Some(Open::Key)) => return fault(c, "looking for beginning of object key string"),
                (b'{' | b'[', _) => {
                    if open.len() >= MAX_DEPTH {
                        return Err("exceeded max depth".into());
                    }
                    self.blank();
                    let close = if c == b'{' { b'}' } else { b']' };
                    if self.peek() != Some(close) {
                        open.push(if c == b'{' { Open::Key } else { Open::Array });
                        continue;
                    }
                    self.at += 1;
                }
                (b'"', _) => self.string()?,
                (b't', _) => self.literal("true")?,
                (b'f', _) => self.literal("false")?,
                (b'n', _) => self.literal("null")?,
                (b'-' | b'0'..=b'9', _) => self.number(c)?,
                (c, _) => return fault(c, "looking for beginning of value"),
            }
            // A value is complete: what follows closes, or goes on.
            loop {
                self.blank();
                let Some(in_what) = open.last_mut() else {
                    return match self.peek() {
                        None => Ok(()),
                        Some(c) => fault(c, "after top-level value"),
                    };
                };
                let array = *in_what == Open::Array;
                match (self.next()?, array) {
                    (b',', true) => break,
                    (b',', false) => {
                        *in_what = Open::Key;
                        break;
                    }
                    (b']', true) | (b'}', false) => {
                        open.pop();
                    }
                    (c, true) => return fault(c, "after array element"),
                    (c, false) => return fault(c, "after object key:value pair"),
                }
            }
        }
    }

    fn string(&mut self) -> Result<(), String> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let c = self.next()?;
                            if !c.is_ascii_hexdigit() {
                                return fault(c, "in \\u hexadecimal character escape");
                            }
                        }
                    }
                    c => return fault(c, "in string escape code"),
                },
                c if c < 0x20 => return fault(c, "in string literal"),
                _ => {}
            }
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), String> {
        for want in word.bytes().skip(1) {
            let c = self.next()?;
            if c != want {
                return fault(c, &format!("in literal {word} (expecting {})", quoted(want)));
            }
        }
        Ok(())
    }

    fn digits(&mut self, place: &str) -> Result<(), String> {
        match self.next()? {
            b'0'..=b'9' => {}
            c => return fault(c, place),
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self, first: u8) -> Result<(), String> {
        let lead = if first == b'-' { self.next()? } else { first };
        match lead {
            b'0' => {}
            b'1'..=b'9' => {
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.at += 1;
                }
            }
            c => return fault(c, "in numeric literal"),
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn faults_are_worded_as_go_does() {
        for (text, want) in [
            ("", END),
            ("{", END),
            ("{\"a\"", END),
            ("{a", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[1}", "invalid character '}' after array element"),
            ("1 2", "invalid character '2' after top-level value"),
            ("nul!", "invalid character '!' in literal null (expecting 'l')"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1e+x", "invalid character 'x' in exponent of numeric literal"),
            ("\"\\u00g0\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("\"\t\"", "invalid character '\\t' in string literal"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
            ("\u{0}", "invalid character '\\x00' looking for beginning of value"),
        ] {
            assert_eq!(error(text.as_bytes()).as_deref(), Some(want), "{text:?}");
        }
        assert_eq!(error(&vec![b'['; 20_000]).as_deref(), Some("exceeded max depth"));
        assert_eq!(error(b" {\"a\": [1, -2.5e3, \"x\\n\", {}, [], null, true]} "), None);
    }

    proptest! {
        #[test]
        fn agrees_with_the_parser(s in "[\\[\\]{}:,\"0-9a-e. -]{0,20}") {
            let parsed = serde_json::from_str::<serde_json::Value>(&s);
            // Out of range numbers are sound syntax.
            let sound = parsed.as_ref().err().is_none_or(|e| e.to_string().starts_with("number out of range"));
            prop_assert_eq!(error(s.as_bytes()).is_none(), sound, "{:?}", parsed);
        }
    }
}
