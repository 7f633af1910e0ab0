//! The parser of label selectors in text form.

use super::{Op, Requirement, SelectorError};
use crate::validation::names;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    End,
    Word,
    In,
    NotIn,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    Comma,
    Open,
    Close,
}

struct Parser<'a> {
    tokens: Vec<(Token, &'a str)>,
    at: usize,
}

fn fail<T>(text: String) -> Result<T, SelectorError> {
    Err(SelectorError(text))
}

fn is_special(c: u8) -> bool {
    matches!(c, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

fn lex(text: &str) -> Vec<(Token, &str)> {
    let b = text.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while let Some(&c) = b.get(i) {
        if c.is_ascii_whitespace() {
            i += 1;
            continue;
        }
        let start = i;
        let token = if is_special(c) {
            let two = b.get(i + 1) == Some(&b'=');
            i += 1 + usize::from(two && matches!(c, b'=' | b'!'));
            match c {
                b'=' if two => Token::DoubleEquals,
                b'=' => Token::Equals,
                b'!' if two => Token::NotEquals,
                b'!' => Token::Not,
                b'(' => Token::Open,
                b')' => Token::Close,
                b',' => Token::Comma,
                b'>' => Token::Greater,
                _ => Token::Less,
            }
        } else {
            while b.get(i).is_some_and(|c| !is_special(*c) && !c.is_ascii_whitespace()) {
                i += 1;
            }
            match text.get(start..i) {
                Some("in") => Token::In,
                Some("notin") => Token::NotIn,
                _ => Token::Word,
            }
        };
        out.push((token, text.get(start..i).unwrap_or_default()));
    }
    out
}

impl<'a> Parser<'a> {
    /// The next token; `in` and `notin` are words wherever values may stand.
    fn peek(&self, values: bool) -> (Token, &'a str) {
        match self.tokens.get(self.at) {
            Some((Token::In | Token::NotIn, s)) if values => (Token::Word, s),
            Some(t) => *t,
            None => (Token::End, ""),
        }
    }

    fn next(&mut self, values: bool) -> (Token, &'a str) {
        let t = self.peek(values);
        self.at += 1;
        t
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut token, mut key) = self.next(true);
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.next(true);
        }
        if token != Token::Word {
            return fail(format!("found '{key}', expected: identifier"));
        }
        check_key(key)?;
        let bare = matches!(self.peek(true).0, Token::End | Token::Comma);
        if negated || bare {
            let op = if negated { Op::DoesNotExist } else { Op::Exists };
            return checked(key, op, Vec::new());
        }
        let (token, text) = self.next(false);
        let op = match token {
            Token::In => Op::In,
            Token::NotIn => Op::NotIn,
            Token::Equals | Token::DoubleEquals => Op::Equals,
            Token::NotEquals => Op::NotEquals,
            Token::Greater => Op::GreaterThan,
            Token::Less => Op::LessThan,
            _ => return fail(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let values = if matches!(op, Op::In | Op::NotIn) { self.values()? } else { vec![self.value()?] };
        checked(key, op, values)
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek(true) {
            (Token::End | Token::Comma, _) => Ok(String::new()),
            (Token::Word, s) => {
                self.at += 1;
                Ok(s.to_string())
            }
            (_, s) => fail(format!("found '{s}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        let (token, text) = self.next(true);
        if token != Token::Open {
            return fail(format!("found '{text}' expected: '('"));
        }
        let mut out = Vec::new();
        match self.peek(true) {
            (Token::Close, _) => {
                self.at += 1;
                return Ok(out);
            }
            (Token::Word | Token::Comma, _) => {}
            (_, s) => return fail(format!("found '{s}', expected: ',', ')' or identifier")),
        }
        // A place between commas without a word is the empty value.
        let mut open_place = true;
        loop {
            match self.next(true) {
                (Token::Word, s) if open_place => {
                    out.push(s.to_string());
                    open_place = false;
                }
                (Token::Comma, _) => {
                    if open_place {
                        out.push(String::new());
                    }
                    open_place = true;
                }
                (Token::Close, _) => {
                    if open_place {
                        out.push(String::new());
                    }
                    return Ok(out);
                }
                (Token::Word, s) => return fail(format!("found '{s}', expected: ',' or ')'")),
                (_, s) => return fail(format!("found '{s}', expected: ')'")),
            }
        }
    }
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    match names::qualified_name(key).into_iter().next() {
        Some(m) => fail(format!("<nil>: Invalid value: {key:?}: {m}")),
        None => Ok(()),
    }
}

/// A requirement whose key and values are valid for its operator.
pub(super) fn checked(key: &str, op: Op, values: Vec<String>) -> Result<Requirement, SelectorError> {
    check_key(key)?;
    match op {
        Op::In | Op::NotIn if values.is_empty() => {
            return fail(
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".into(),
            );
        }
        Op::Exists | Op::DoesNotExist if !values.is_empty() => {
            return fail(format!(
                "values: Invalid value: {values:?}: values set must be empty for exists and does not exist"
            ));
        }
        Op::GreaterThan | Op::LessThan if values.iter().any(|v| v.parse::<i64>().is_err()) => {
            let v = values.first().map_or("", String::as_str);
            return fail(format!(
                "values[0]: Invalid value: {v:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            ));
        }
        _ => {}
    }
    for (i, v) in values.iter().enumerate() {
        if let Some(m) = names::label_value(v).into_iter().next() {
            return fail(format!("values[{i}][{key}]: Invalid value: {v:?}: {m}"));
        }
    }
    Ok(Requirement { key: key.to_string(), op, values })
}

pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut p = Parser { tokens: lex(text), at: 0 };
    let mut out = Vec::new();
    loop {
        match p.peek(true) {
            (Token::Word | Token::Not, _) => {
                let r = p
                    .requirement()
                    .map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
                out.push(r);
                match p.next(true) {
                    (Token::End, _) => return Ok(out),
                    (Token::Comma, _) => match p.peek(true) {
                        (Token::Word | Token::Not, _) => {}
                        (_, s) => return fail(format!("found '{s}', expected: identifier after ','")),
                    },
                    (_, s) => return fail(format!("found '{s}', expected: ',' or 'end of string'")),
                }
            }
            (Token::End, _) => return Ok(out),
            (_, s) => return fail(format!("found '{s}', expected: !, identifier, or 'end of string'")),
        }
    }
}
