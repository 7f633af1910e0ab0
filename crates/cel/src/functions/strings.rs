//! Strings, regular expressions, and texts of other values.

use std::fmt::Write;

use super::{Function, int, list, text, value};
use crate::value::Value;

type R = Result<Value, String>;

/// Of a text that a function makes: what grows must not grow without end.
const LONGEST: usize = 10_000_000;

fn fits(length: usize) -> Result<(), String> {
    if length > LONGEST { Err("result is too long".into()) } else { Ok(()) }
}

fn boolean(b: bool) -> R {
    Ok(Value::Bool(b))
}

fn chars(s: &str) -> Vec<char> {
    s.chars().collect()
}

fn index(n: i64) -> Result<usize, String> {
    usize::try_from(n).map_err(|_| format!("index out of range: {n}"))
}

fn contains(a: &[Value]) -> R {
    boolean(text(a, 0)?.contains(text(a, 1)?))
}
fn starts_with(a: &[Value]) -> R {
    boolean(text(a, 0)?.starts_with(text(a, 1)?))
}
fn ends_with(a: &[Value]) -> R {
    boolean(text(a, 0)?.ends_with(text(a, 1)?))
}

fn regex(a: &[Value]) -> Result<regex::Regex, String> {
    crate::patterns::compile(text(a, 1)?)
}

fn matches(a: &[Value]) -> R {
    boolean(regex(a)?.is_match(text(a, 0)?))
}

fn find(a: &[Value]) -> R {
    Ok(Value::from(regex(a)?.find(text(a, 0)?).map_or("", |m| m.as_str())))
}

fn find_all(a: &[Value]) -> R {
    let most = match a.get(2) {
        Some(_) => usize::try_from(int(a, 2)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let all: Vec<Value> =
        regex(a)?.find_iter(text(a, 0)?).take(most).map(|m| Value::from(m.as_str())).collect();
    Ok(all.into())
}

fn char_at(a: &[Value]) -> R {
    let s = chars(text(a, 0)?);
    let i = index(int(a, 1)?)?;
    match s.get(i) {
        Some(c) => Ok(Value::from(c.to_string())),
        None if i == s.len() => Ok(Value::from("")),
        None => Err(format!("index out of range: {i}")),
    }
}

/// Where a character of the text begins; behind the last one for its length.
fn offset(s: &str, n: usize) -> Option<usize> {
    s.char_indices().map(|(at, _)| at).chain([s.len()]).nth(n)
}

/// A place in bytes as one in characters, or -1.
fn place(s: &str, at: Option<usize>) -> R {
    let n = at.and_then(|at| s.get(..at)).map(|before| before.chars().count());
    Ok(Value::Int(n.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1)))
}

fn index_of(a: &[Value]) -> R {
    let (s, part) = (text(a, 0)?, text(a, 1)?);
    let n = if a.len() > 2 { index(int(a, 2)?)? } else { 0 };
    let from = offset(s, n).ok_or_else(|| format!("index out of range: {n}"))?;
    place(s, s.get(from..).and_then(|rest| rest.find(part)).map(|at| from + at))
}

fn last_index_of(a: &[Value]) -> R {
    let (s, part) = (text(a, 0)?, text(a, 1)?);
    let to = if a.len() > 2 { offset(s, index(int(a, 2)?)?) } else { None };
    // What begins at `to` ends there.
    let end = to.map_or(s.len(), |to| s.floor_char_boundary(to.saturating_add(part.len())));
    place(s, s.get(..end).and_then(|s| s.rfind(part)))
}

fn lower(a: &[Value]) -> R {
    Ok(Value::from(text(a, 0)?.to_ascii_lowercase()))
}
fn upper(a: &[Value]) -> R {
    Ok(Value::from(text(a, 0)?.to_ascii_uppercase()))
}
fn trim(a: &[Value]) -> R {
    Ok(Value::from(text(a, 0)?.trim()))
}

fn replace(a: &[Value]) -> R {
    let (s, from, to) = (text(a, 0)?, text(a, 1)?, text(a, 2)?);
    let most = match a.get(3) {
        Some(_) => usize::try_from(int(a, 3)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let times = s.matches(from).take(most).count();
    fits(times.saturating_mul(to.len()).saturating_add(s.len()))?;
    Ok(Value::from(s.replacen(from, to, most)))
}

fn split(a: &[Value]) -> R {
    let (s, by) = (text(a, 0)?, text(a, 1)?);
    let most = if a.len() > 2 { int(a, 2)? } else { -1 };
    let parts: Vec<String> = match (by.is_empty(), usize::try_from(most)) {
        (_, Ok(0)) => Vec::new(),
        (true, _) => s.chars().map(|c| c.to_string()).collect(),
        (false, Ok(n)) => s.splitn(n, by).map(str::to_owned).collect(),
        (false, Err(_)) => s.split(by).map(str::to_owned).collect(),
    };
    Ok(parts.into_iter().map(Value::from).collect::<Vec<_>>().into())
}

fn substring(a: &[Value]) -> R {
    let s = chars(text(a, 0)?);
    let from = index(int(a, 1)?)?;
    let to = if a.len() > 2 { index(int(a, 2)?)? } else { s.len() };
    match s.get(from..to) {
        Some(part) => Ok(Value::from(part.iter().collect::<String>())),
        None if from > to => Err(format!("invalid substring range. start: {from}, end: {to}")),
        None => Err(format!("index out of range: {}", from.max(to))),
    }
}

fn join(a: &[Value]) -> R {
    let by = if a.len() > 1 { text(a, 1)? } else { "" };
    let parts: Option<Vec<&str>> = list(a, 0)?.iter().map(Value::as_str).collect();
    let parts = parts.ok_or("no such overload")?;
    let between = parts.len().saturating_mul(by.len());
    fits(parts.iter().map(|p| p.len()).fold(between, usize::saturating_add))?;
    Ok(Value::from(parts.join(by)))
}

fn quote(a: &[Value]) -> R {
    Ok(Value::from(format!("{:?}", text(a, 0)?)))
}

/// Writes the text of a value as `string()` and `%s` give it. Stops at once when it becomes too long: a value that holds
/// another many times over is small, and its text is not.
fn show(v: &Value, out: &mut String) -> Option<()> {
    match v {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => write!(out, "{i}").ok()?,
        Value::Uint(u) => write!(out, "{u}").ok()?,
        Value::Double(d) => write!(out, "{d}").ok()?,
        Value::String(s) | Value::Type(s) => out.push_str(s),
        Value::Bytes(b) => out.push_str(std::str::from_utf8(b).ok()?),
        Value::Timestamp(t) => write!(out, "{t}").ok()?,
        Value::Duration(d) => out.push_str(&super::time::seconds(*d)),
        Value::List(l) => {
            out.push('[');
            for (i, v) in l.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                show(v, out)?;
            }
            out.push(']');
        }
        Value::Map(m) => {
            out.push('{');
            for (i, (k, v)) in m.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                show(&Value::from(k.clone()), out)?;
                out.push_str(": ");
                show(v, out)?;
            }
            out.push('}');
        }
        Value::Optional(_) | Value::Opaque(_) | Value::Message(_) | Value::Lazy(_) => return None,
    }
    fits(out.len()).ok()
}

fn shown(v: &Value) -> Option<String> {
    let mut out = String::new();
    show(v, &mut out).map(|()| out)
}

fn to_string(a: &[Value]) -> R {
    match value(a, 0)? {
        Value::List(_) | Value::Map(_) | Value::Null => Err("no such overload".into()),
        v => {
            shown(v).map(Value::from).ok_or_else(|| "invalid UTF-8 in bytes, cannot convert to string".into())
        }
    }
}

/// `"%s has %d".format([a, b])`.
fn format(a: &[Value]) -> R {
    let (pattern, mut args) = (text(a, 0)?, list(a, 1)?.iter());
    let mut out = String::new();
    let mut c = pattern.chars().peekable();
    while let Some(x) = c.next() {
        if x != '%' {
            out.push(x);
            continue;
        }
        if c.peek() == Some(&'%') {
            c.next();
            out.push('%');
            continue;
        }
        let mut precision = None;
        if c.peek() == Some(&'.') {
            c.next();
            let mut digits = String::new();
            while let Some(d) = c.peek().filter(|d| d.is_ascii_digit()) {
                digits.push(*d);
                c.next();
            }
            precision = digits.parse::<usize>().ok().filter(|n| *n <= 100);
        }
        let verb = c.next().ok_or("unexpected end of format string")?;
        let v = args.next().ok_or("not enough arguments for format string")?;
        out.push_str(&clause(verb, precision, v).ok_or_else(|| {
            format!("error during formatting: %{verb} can't be used with a value of type {}", v.type_name())
        })?);
        fits(out.len())?;
    }
    Ok(out.into())
}

fn clause(verb: char, precision: Option<usize>, v: &Value) -> Option<String> {
    let digits = precision.unwrap_or(6);
    let double = |v: &Value| match v {
        Value::Double(d) => Some(*d),
        Value::Int(i) => Some(*i as f64),
        Value::Uint(u) => Some(*u as f64),
        _ => None,
    };
    Some(match (verb, v) {
        ('s', v) => shown(v)?,
        ('d', Value::Int(_) | Value::Uint(_)) => shown(v)?,
        ('d', Value::Double(d)) if d.fract() == 0.0 => d.to_string(),
        ('f', v) => format!("{:.digits$}", double(v)?),
        ('e', v) => format!("{:.digits$e}", double(v)?),
        ('b', Value::Int(i)) => format!("{i:b}"),
        ('b', Value::Uint(u)) => format!("{u:b}"),
        ('b', Value::Bool(b)) => u8::from(*b).to_string(),
        ('o', Value::Int(i)) => format!("{i:o}"),
        ('o', Value::Uint(u)) => format!("{u:o}"),
        ('x', Value::Int(i)) => format!("{i:x}"),
        ('x', Value::Uint(u)) => format!("{u:x}"),
        ('x', Value::String(s)) => s.bytes().map(|b| format!("{b:02x}")).collect(),
        ('x', Value::Bytes(s)) => s.iter().map(|b| format!("{b:02x}")).collect(),
        ('X', Value::Int(i)) => format!("{i:X}"),
        ('X', Value::Uint(u)) => format!("{u:X}"),
        _ => return None,
    })
}

pub const ALL: &[(&str, Function)] = &[
    ("string:contains(string)->bool", contains),
    ("string:startsWith(string)->bool", starts_with),
    ("string:endsWith(string)->bool", ends_with),
    ("string:matches(string)->bool", matches),
    ("matches(string,string)->bool", matches),
    ("string:find(string)->string", find),
    ("string:findAll(string)->list(string)", find_all),
    ("string:findAll(string,int)->list(string)", find_all),
    ("string:charAt(int)->string", char_at),
    ("string:indexOf(string)->int", index_of),
    ("string:indexOf(string,int)->int", index_of),
    ("string:lastIndexOf(string)->int", last_index_of),
    ("string:lastIndexOf(string,int)->int", last_index_of),
    ("string:lowerAscii()->string", lower),
    ("string:upperAscii()->string", upper),
    ("string:trim()->string", trim),
    ("string:replace(string,string)->string", replace),
    ("string:replace(string,string,int)->string", replace),
    ("string:split(string)->list(string)", split),
    ("string:split(string,int)->list(string)", split),
    ("string:substring(int)->string", substring),
    ("string:substring(int,int)->string", substring),
    ("string:format(list(dyn))->string", format),
    ("strings.quote(string)->string", quote),
    ("list(string).join()->string", join),
    ("list(string).join(string)->string", join),
    ("string(bool)->string", to_string),
    ("string(int)->string", to_string),
    ("string(uint)->string", to_string),
    ("string(double)->string", to_string),
    ("string(string)->string", to_string),
    ("string(bytes)->string", to_string),
    ("string(timestamp)->string", to_string),
    ("string(duration)->string", to_string),
];
