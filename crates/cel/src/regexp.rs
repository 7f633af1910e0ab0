//! Go's regular expressions (RE2 with Perl's classes), which API objects are written in: what is wrong with one in Go's
//! words, and the same expression as the `regex` crate takes it (its own syntax reads `[[`, `&&`, `\<` and octal escapes
//! otherwise, and its `\d` is Unicode's). Pure.
//! https://pkg.go.dev/regexp/syntax

use regex::{Regex, RegexBuilder};

/// Of a compiled expression: Go takes a thousand repetitions of a letter of any script, which are some megabytes.
const MAX_BYTES: usize = 32 << 20;
/// Repetitions above this are refused.
pub(crate) const MAX_REPEAT: i64 = 1000;

/// Compiles an expression. The error is Go's: ``error parsing regexp: missing closing ]: `[` ``.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    // Its run time is linear; its size is bounded here.
    let built = RegexBuilder::new(&translated).size_limit(MAX_BYTES).build();
    built.map_err(|e| {
        let what = match e {
            regex::Error::CompiledTooBig(_) => "expression too large",
            _ => "expression that this server does not take",
        };
        wrong(what, pattern)
    })
}

fn wrong(what: &str, part: &str) -> String {
    format!("error parsing regexp: {what}: `{part}`")
}

fn translate(pattern: &str) -> Result<String, String> {
    let mut p = Parser { whole: pattern, rest: pattern, out: String::with_capacity(pattern.len() + 8) };
    p.run()?;
    Ok(p.out)
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
    out: String,
}

/// One character of a class, or a class within it.
enum Item {
    Char(char),
    Class,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }
    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }
    /// What was read since `before`.
    fn since(&self, before: &'a str) -> &'a str {
        &before[..before.len() - self.rest.len()]
    }
    fn literal(&mut self, c: char) {
        if c.is_ascii_punctuation() {
            self.out.push('\\');
            // `\<` and `\>` are borders of words to the crate.
            if matches!(c, '<' | '>') {
                self.out.pop();
            }
        }
        self.out.push(c);
    }

    fn run(&mut self) -> Result<(), String> {
        let mut open = 0usize;
        // Whether there is something to repeat, and the repetition that was read last.
        let mut atom = false;
        let mut repeated: Option<&'a str> = None;
        while let Some(c) = self.peek() {
            let before = self.rest;
            let mut repeats = false;
            match c {
                '(' => {
                    let flags = self.group()?;
                    if !flags {
                        open += 1;
                        atom = false;
                    }
                }
                ')' => {
                    if open == 0 {
                        return Err(wrong("unexpected )", self.whole));
                    }
                    self.next();
                    self.out.push(')');
                    open -= 1;
                    atom = true;
                }
                '|' => {
                    self.next();
                    self.out.push('|');
                    atom = false;
                }
                '^' | '$' | '.' => {
                    self.next();
                    self.out.push(c);
                    atom = true;
                }
                '[' => {
                    self.class()?;
                    atom = true;
                }
                '*' | '+' | '?' => {
                    self.next();
                    self.repeat(before, atom, repeated)?;
                    repeats = true;
                }
                '{' => match self.counts() {
                    None => {
                        self.next();
                        self.literal('{');
                        atom = true;
                    }
                    Some((min, max)) => {
                        let sound = |n: i64| (0..=MAX_REPEAT).contains(&n);
                        if !sound(min) || max.is_some_and(|m| !sound(m) || m < min) {
                            return Err(wrong("invalid repeat count", self.since(before)));
                        }
                        self.repeat(before, atom, repeated)?;
                        repeats = true;
                    }
                },
                '\\' => {
                    self.escape()?;
                    atom = true;
                }
                c => {
                    self.next();
                    self.literal(c);
                    atom = true;
                }
            }
            repeated = repeats.then_some(before);
        }
        if open > 0 {
            return Err(wrong("missing closing )", self.whole));
        }
        Ok(())
    }

    /// After `*`, `+`, `?` or counts: they stand alone, after something, and not after one another.
    fn repeat(&mut self, before: &'a str, atom: bool, last: Option<&'a str>) -> Result<(), String> {
        if self.peek() == Some('?') {
            self.next();
        }
        if let Some(last) = last {
            return Err(wrong("invalid nested repetition operator", self.since(last)));
        }
        if !atom {
            return Err(wrong("missing argument to repetition operator", self.since(before)));
        }
        self.out.push_str(self.since(before));
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}`, read only if it is one. Huge numbers are -1.
    fn counts(&mut self) -> Option<(i64, Option<i64>)> {
        let number = |s: &str| -> Option<i64> {
            let plain = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
            (plain && (s.len() == 1 || !s.starts_with('0')))
                .then(|| s.parse().ok().filter(|n| *n < 100_000_000).unwrap_or(-1))
        };
        let inner = self.rest[1..].split(|c: char| !c.is_ascii_digit() && c != ',').next()?;
        let end = 1 + inner.len();
        if !self.rest[end..].starts_with('}') {
            return None;
        }
        let (min, max) = match inner.split_once(',') {
            None => (number(inner)?, Some(number(inner)?)),
            Some((a, "")) => (number(a)?, None),
            Some((a, b)) => (number(a)?, Some(number(b)?)),
        };
        self.rest = &self.rest[end + 1..];
        Some((min, max))
    }

    /// `(`, `(?:`, `(?P<name>`, `(?flags:`; true for `(?flags)`, which opens nothing.
    fn group(&mut self) -> Result<bool, String> {
        let before = self.rest;
        if !before.starts_with("(?") {
            self.next();
            self.out.push('(');
            return Ok(false);
        }
        for lead in ["(?P<", "(?<"] {
            if !before.starts_with(lead) || before.len() <= lead.len() {
                continue;
            }
            let Some(end) = before.find('>') else { return Err(wrong("invalid named capture", before)) };
            let name = &before[lead.len()..end];
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(wrong("invalid named capture", &before[..=end]));
            }
            self.rest = &before[end + 1..];
            // Names are of no use here, and to the crate they begin with no digit.
            self.out.push('(');
            return Ok(false);
        }
        self.rest = &before[2..];
        let (mut minus, mut any) = (false, false);
        while let Some(c) = self.next() {
            match c {
                'i' | 'm' | 's' | 'U' => any = true,
                '-' if !minus => {
                    minus = true;
                    any = false;
                }
                ':' | ')' if !minus || any => {
                    self.out.push_str(self.since(before));
                    return Ok(c == ')');
                }
                _ => break,
            }
        }
        Err(wrong("invalid or unsupported Perl syntax", self.since(before)))
    }

    /// Outside of classes.
    fn escape(&mut self) -> Result<(), String> {
        let before = self.rest;
        match before[1..].chars().next() {
            Some('Q') => {
                let inner = &before[2..];
                let (quoted, after) = inner.split_once("\\E").unwrap_or((inner, ""));
                quoted.chars().for_each(|c| self.literal(c));
                self.rest = after;
                return Ok(());
            }
            Some(c @ ('A' | 'z')) => {
                self.out.push('\\');
                self.out.push(c);
            }
            Some(c @ ('b' | 'B')) => {
                self.out.push_str("(?-u:\\");
                self.out.push(c);
                self.out.push(')');
            }
            Some('C') => return Err(wrong("invalid escape sequence", "\\C")),
            _ => {
                if !self.shorthand(false)? && !self.property()? {
                    let c = self.unescape()?;
                    self.literal(c);
                }
                return Ok(());
            }
        }
        self.rest = &before[2..];
        Ok(())
    }

    /// `\d`, `\s`, `\w` and their opposites.
    fn shorthand(&mut self, within: bool) -> Result<bool, String> {
        let (not, set) = match self.rest.get(..2) {
            Some("\\d") => ("", "0-9"),
            Some("\\D") => ("^", "0-9"),
            Some("\\s") => ("", "\\t\\n\\f\\r "),
            Some("\\S") => ("^", "\\t\\n\\f\\r "),
            Some("\\w") => ("", "0-9A-Za-z_"),
            Some("\\W") => ("^", "0-9A-Za-z_"),
            _ => return Ok(false),
        };
        self.rest = &self.rest[2..];
        match within && not.is_empty() {
            true => self.out.push_str(set),
            false => self.out.push_str(&format!("[{not}{set}]")),
        }
        Ok(true)
    }

    /// `\pL`, `\p{Greek}`, `\P{^Greek}`.
    fn property(&mut self) -> Result<bool, String> {
        let before = self.rest;
        if !before.starts_with("\\p") && !before.starts_with("\\P") {
            return Ok(false);
        }
        self.rest = &before[2..];
        let name = match self.next() {
            Some('{') => {
                let Some(end) = self.rest.find('}') else {
                    return Err(wrong("invalid character class range", before));
                };
                let name = &self.rest[..end];
                self.rest = &self.rest[end + 1..];
                name.to_owned()
            }
            Some(c) => c.to_string(),
            None => return Err(wrong("invalid character class range", before)),
        };
        let (not, name) = name.strip_prefix('^').map_or((false, name.as_str()), |n| (true, n));
        let upper = before.starts_with("\\P") != not;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(wrong("invalid character class range", self.since(before)));
        }
        self.out.push_str(&format!("\\{}{{{name}}}", if upper { 'P' } else { 'p' }));
        Ok(true)
    }

    /// `\n`, `\x41`, `\101`, `\.`: one character.
    fn unescape(&mut self) -> Result<char, String> {
        let before = self.rest;
        self.next();
        let Some(c) = self.next() else {
            return Err(wrong("trailing backslash at end of expression", ""));
        };
        let octal = |c: Option<char>| c.and_then(|c| c.to_digit(8));
        let found = match c {
            '1'..='7' if octal(self.peek()).is_none() => None,
            '0'..='7' => {
                let mut n = octal(Some(c)).unwrap_or(0);
                for _ in 0..2 {
                    let Some(d) = octal(self.peek()) else { break };
                    self.next();
                    n = n * 8 + d;
                }
                char::from_u32(n)
            }
            'x' => self.hex(),
            'a' => Some('\x07'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            c if c.is_ascii_punctuation() || (c.is_ascii() && !c.is_ascii_alphanumeric()) => Some(c),
            _ => None,
        };
        found.ok_or_else(|| wrong("invalid escape sequence", self.since(before)))
    }

    fn hex(&mut self) -> Option<char> {
        let mut n = 0u32;
        if self.peek() == Some('{') {
            self.next();
            let mut digits = 0;
            loop {
                match self.next()? {
                    '}' => return char::from_u32(n).filter(|_| digits > 0),
                    c => n = n.checked_mul(16)?.checked_add(c.to_digit(16)?)?,
                }
                digits += 1;
            }
        }
        for _ in 0..2 {
            n = n * 16 + self.next()?.to_digit(16)?;
        }
        char::from_u32(n)
    }

    /// `[…]`.
    fn class(&mut self) -> Result<(), String> {
        let whole = self.rest;
        self.next();
        self.out.push('[');
        if self.peek() == Some('^') {
            self.next();
            self.out.push('^');
        }
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            let before = self.rest;
            let Item::Char(low) = self.class_item(whole)? else { continue };
            let range = self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]");
            self.literal(low);
            if range {
                self.next();
                let high = self.class_char(whole)?;
                if high < low {
                    return Err(wrong("invalid character class range", self.since(before)));
                }
                self.out.push('-');
                self.literal(high);
            }
        }
        self.next();
        self.out.push(']');
        Ok(())
    }

    fn class_item(&mut self, whole: &'a str) -> Result<Item, String> {
        const NAMED: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        if let Some(end) = self.rest.strip_prefix("[:").and_then(|r| r.find(":]")) {
            let named = &self.rest[..end + 4];
            let inner = &named[2..end + 2];
            if !NAMED.contains(&inner.strip_prefix('^').unwrap_or(inner)) {
                return Err(wrong("invalid character class range", named));
            }
            self.out.push_str(named);
            self.rest = &self.rest[end + 4..];
            return Ok(Item::Class);
        }
        if self.property()? || self.shorthand(true)? {
            return Ok(Item::Class);
        }
        self.class_char(whole).map(Item::Char)
    }

    fn class_char(&mut self, whole: &'a str) -> Result<char, String> {
        match self.peek() {
            None => Err(wrong("missing closing ]", whole)),
            Some('\\') => self.unescape(),
            Some(c) => {
                self.next();
                Ok(c)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_in_gos_words() {
        let all = [
            ("[", "missing closing ]: `[`"),
            ("a[b-", "missing closing ]: `[b-`"),
            ("(a", "missing closing ): `(a`"),
            ("a)b", "unexpected ): `a)b`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("(|+)", "missing argument to repetition operator: `+`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:nope:]]", "invalid character class range: `[:nope:]`"),
            ("\\", "trailing backslash at end of expression: ``"),
            ("\\y", "invalid escape sequence: `\\y`"),
            ("\\1", "invalid escape sequence: `\\1`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?P<n!>a)", "invalid named capture: `(?P<n!>`"),
            ("(?P<n", "invalid named capture: `(?P<n`"),
        ];
        for (pattern, why) in all {
            assert_eq!(compile(pattern).err(), Some(format!("error parsing regexp: {why}")), "{pattern}");
        }
    }

    #[test]
    fn what_go_takes_means_the_same_here() {
        let all = [
            ("^[a-z]([-a-z0-9]*[a-z0-9])?$", "my-name", "My"),
            (r"^\d+$", "12", "٣"),
            (r"^[\d.]+$", "1.2", "a"),
            (r"^[^\s]+$", "ab", "a b"),
            (r"^\w\W$", "a-", "aa"),
            ("^[[]$", "[", "]"),
            ("^[]a]+$", "]a", "["),
            ("^[a&&b]+$", "&a", "c"),
            ("^[[:alpha:]_]+$", "a_", "1"),
            (r"^\101\x42\x{43}$", "ABC", "abc"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            ("^a{,2}$", "a{,2}", "aa"),
            ("^{a}$", "{a}", "a"),
            (r"^\<a\>$", "<a>", "a"),
            (r"\bfoo\b", "a foo", "afoo"),
            ("(?i:ABC)", "abc", "ab"),
            ("^(?P<a>x)(?<b>y)$", "xy", "x"),
            (r"^[^\D]$", "1", "a"),
            ("^a{2,}?$", "aaa", "a"),
            ("^é-ü$", "é-ü", "e-u"),
        ];
        for (pattern, yes, no) in all {
            let r = compile(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert!(r.is_match(yes) && !r.is_match(no), "{pattern} as {}", r.as_str());
        }
    }
}
