//! From text to tokens.

use crate::CompileError;

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Ident(String),
    /// A name in back quotes, after a dot.
    Quoted(String),
    Int(i64),
    /// 2^63: only right after a minus sign.
    IntEdge,
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Op(&'static str),
    End,
}

const OPS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}", "=",
];

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

fn fail<T>(offset: usize, message: impl Into<String>) -> Result<T, CompileError> {
    Err(CompileError { offset, message: message.into() })
}

/// Every token with its offset.
pub fn tokens(source: &str) -> Result<Vec<(Token, usize)>, CompileError> {
    let mut l = Lexer { chars: source.chars().collect(), at: 0 };
    let mut out = Vec::new();
    loop {
        l.space();
        let at = l.at;
        let Some(c) = l.peek(0) else {
            out.push((Token::End, at));
            return Ok(out);
        };
        out.push((l.token(c)?, at));
    }
}

impl Lexer {
    fn peek(&self, n: usize) -> Option<char> {
        self.chars.get(self.at + n).copied()
    }

    fn space(&mut self) {
        while let Some(c) = self.peek(0) {
            if c.is_whitespace() {
                self.at += 1;
            } else if c == '/' && self.peek(1) == Some('/') {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn take(&mut self, keep: impl Fn(char) -> bool) -> String {
        let from = self.at;
        while self.peek(0).is_some_and(&keep) {
            self.at += 1;
        }
        self.chars.get(from..self.at).unwrap_or_default().iter().collect()
    }

    fn token(&mut self, c: char) -> Result<Token, CompileError> {
        let from = self.at;
        if let Some(t) = self.string()? {
            return Ok(t);
        }
        if c.is_ascii_alphabetic() || c == '_' {
            return Ok(Token::Ident(self.take(|c| c.is_ascii_alphanumeric() || c == '_')));
        }
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if c == '`' {
            self.at += 1;
            let name = self.take(|c| c != '`' && c != '\n');
            if self.peek(0) != Some('`') {
                return fail(from, "Syntax error: token recognition error at: '`'");
            }
            self.at += 1;
            return Ok(Token::Quoted(name));
        }
        for op in OPS {
            if op.chars().enumerate().all(|(i, o)| self.peek(i) == Some(o)) {
                self.at += op.len();
                return Ok(Token::Op(op));
            }
        }
        fail(from, format!("Syntax error: token recognition error at: '{c}'"))
    }

    fn number(&mut self) -> Result<Token, CompileError> {
        let from = self.at;
        let wrong = |what: &str| fail(from, format!("invalid {what} literal"));
        if self.peek(0) == Some('0') && matches!(self.peek(1), Some('x' | 'X')) {
            self.at += 2;
            let digits = self.take(|c| c.is_ascii_hexdigit());
            return self.whole(&digits, 16).map_or_else(|| wrong("int"), Ok);
        }
        let mut text = self.take(|c| c.is_ascii_digit());
        let mut double = false;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            double = true;
            self.at += 1;
            text.push('.');
            text.push_str(&self.take(|c| c.is_ascii_digit()));
        }
        let exponent = match (self.peek(0), self.peek(1), self.peek(2)) {
            (Some('e' | 'E'), Some(d), _) if d.is_ascii_digit() => true,
            (Some('e' | 'E'), Some('+' | '-'), Some(d)) => d.is_ascii_digit(),
            _ => false,
        };
        if exponent {
            double = true;
            text.push('e');
            self.at += 1;
            if let Some(s @ ('+' | '-')) = self.peek(0) {
                text.push(s);
                self.at += 1;
            }
            text.push_str(&self.take(|c| c.is_ascii_digit()));
        }
        if double {
            return text.parse().map(Token::Double).or_else(|_| wrong("double"));
        }
        self.whole(&text, 10).map_or_else(|| wrong("int"), Ok)
    }

    fn whole(&mut self, digits: &str, radix: u32) -> Option<Token> {
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return u64::from_str_radix(digits, radix).ok().map(Token::Uint);
        }
        let n = u64::from_str_radix(digits, radix).ok()?;
        match i64::try_from(n) {
            Ok(i) => Some(Token::Int(i)),
            Err(_) if n == 1 << 63 => Some(Token::IntEdge),
            Err(_) => None,
        }
    }

    /// A string or bytes literal with its prefixes, if one stands here.
    fn string(&mut self) -> Result<Option<Token>, CompileError> {
        let (mut raw, mut bytes, mut n) = (false, false, 0);
        while let Some(c) = self.peek(n) {
            match c {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                '"' | '\'' => break,
                _ => return Ok(None),
            }
            n += 1;
        }
        let Some(quote) = self.peek(n) else { return Ok(None) };
        let from = self.at;
        self.at += n;
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let mut out: Vec<u8> = Vec::new();
        loop {
            let Some(c) = self.peek(0) else { return fail(from, "Syntax error: unterminated string") };
            if c == quote && (!triple || (self.peek(1) == Some(quote) && self.peek(2) == Some(quote))) {
                self.at += width;
                break;
            }
            if c == '\n' && !triple {
                return fail(from, "Syntax error: unterminated string");
            }
            if c == '\\' && !raw {
                self.escape(bytes, &mut out)?;
                continue;
            }
            self.at += 1;
            out.extend(c.to_string().as_bytes());
        }
        if bytes {
            return Ok(Some(Token::Bytes(out)));
        }
        match String::from_utf8(out) {
            Ok(s) => Ok(Some(Token::Text(s))),
            Err(_) => fail(from, "invalid string literal"),
        }
    }

    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), CompileError> {
        let from = self.at;
        let kind = self.peek(1).unwrap_or_default();
        self.at += 2;
        let plain = match kind {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => kind as u8,
            _ => 0,
        };
        if plain != 0 {
            out.push(plain);
            return Ok(());
        }
        let (len, radix) = match kind {
            'x' | 'X' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='3' => {
                self.at -= 1;
                (3, 8)
            }
            _ => return fail(from, "Syntax error: unknown escape"),
        };
        let digits: String = self.chars.get(self.at..self.at + len).unwrap_or_default().iter().collect();
        self.at += len;
        let code = u32::from_str_radix(&digits, radix).ok().filter(|_| digits.chars().count() == len);
        match code {
            Some(n) if bytes && matches!(kind, 'x' | 'X' | '0'..='3') => out.push((n & 0xff) as u8),
            Some(n) => match char::from_u32(n) {
                Some(c) => out.extend(c.to_string().as_bytes()),
                None => return fail(from, "Syntax error: no such code point"),
            },
            None => return fail(from, "Syntax error: bad escape"),
        }
        Ok(())
    }
}
