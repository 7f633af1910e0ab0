//! Versions by semver.org, read as strictly as upstream reads them and refused in its words, which is why no crate reads
//! them. https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-semver-library

use std::any::Any;
use std::cmp::Ordering;

use super::{Function, opaque, text, value};
use crate::value::{Opaque, Value};

type R = Result<Value, String>;

pub const TYPES: [&str; 1] = ["kubernetes.Semver"];

/// Numbers are before texts.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    Number(u64),
    Text(String),
}

/// What is built from it does not count.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    pre: Vec<Pre>,
}

impl Version {
    fn order(&self, other: &Self) -> Ordering {
        // What comes before a version is below it.
        let last = self.pre.is_empty().cmp(&other.pre.is_empty());
        self.numbers.cmp(&other.numbers).then(last).then_with(|| self.pre.cmp(&other.pre))
    }
}

impl Opaque for Version {
    fn type_name(&self) -> &'static str {
        TYPES[0]
    }
    fn same(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref::<Self>() == Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn digits(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_digit())
}

fn letters(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn padded(s: &str) -> bool {
    s.len() > 1 && s.starts_with('0')
}

fn number(s: &str) -> Result<u64, String> {
    let why = if s.is_empty() { "invalid syntax" } else { "value out of range" };
    s.parse().map_err(|_| format!("strconv.ParseUint: parsing {s:?}: {why}"))
}

fn part(s: &str, name: &str) -> Result<u64, String> {
    if !digits(s) {
        return Err(format!("Invalid character(s) found in {} number {s:?}", name.to_ascii_lowercase()));
    }
    if padded(s) {
        return Err(format!("{name} number must not contain leading zeroes {s:?}"));
    }
    number(s)
}

fn pre(s: &str) -> Result<Pre, String> {
    match s {
        "" => Err("Prerelease is empty".into()),
        s if digits(s) && padded(s) => {
            Err(format!("Numeric PreRelease version must not contain leading zeroes {s:?}"))
        }
        s if digits(s) => number(s).map(Pre::Number),
        s if letters(s) => Ok(Pre::Text(s.into())),
        s => Err(format!("Invalid character(s) found in prerelease {s:?}")),
    }
}

fn parse(s: &str) -> Result<Version, String> {
    if s.is_empty() {
        return Err("Version string empty".into());
    }
    let mut parts = s.splitn(3, '.');
    let (Some(major), Some(minor), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("No Major.Minor.Patch elements found".into());
    };
    let (major, minor) = (part(major, "Major")?, part(minor, "Minor")?);
    let (rest, build) = rest.split_once('+').map_or((rest, None), |(r, b)| (r, Some(b)));
    let (patch, before) = rest.split_once('-').map_or((rest, None), |(p, b)| (p, Some(b)));
    let numbers = [major, minor, part(patch, "Patch")?];
    let pre = before.into_iter().flat_map(|b| b.split('.')).map(pre).collect::<Result<Vec<_>, _>>()?;
    for b in build.into_iter().flat_map(|b| b.split('.')) {
        if b.is_empty() {
            return Err("Build meta data is empty".into());
        }
        if !letters(b) {
            return Err(format!("Invalid character(s) found in build meta data {b:?}"));
        }
    }
    Ok(Version { numbers, pre })
}

/// Also `v1`, `1.2` and `01.02.03`.
fn tolerant(s: &str) -> Result<Version, String> {
    let plain = |p: &str| {
        let p = if p.len() > 1 { p.trim_start_matches('0') } else { return p.to_owned() };
        if p.starts_with(|c: char| c.is_ascii_digit()) { p.to_owned() } else { format!("0{p}") }
    };
    let mut parts: Vec<String> = s.strip_prefix('v').unwrap_or(s).splitn(3, '.').map(plain).collect();
    if parts.len() < 3 && parts.last().is_some_and(|l| l.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".into());
    }
    parts.resize(3, "0".into());
    parse(&parts.join("."))
}

fn read(a: &[Value]) -> Result<Version, String> {
    let s = text(a, 0)?;
    match a.get(1) {
        Some(Value::Bool(true)) => tolerant(s),
        _ => parse(s),
    }
}

fn semver(a: &[Value]) -> R {
    read(a).map(Value::opaque)
}

fn is_semver(a: &[Value]) -> R {
    value(a, 0)?;
    Ok(Value::Bool(read(a).is_ok()))
}

fn compare(a: &[Value]) -> Result<Ordering, String> {
    Ok(opaque::<Version>(a, 0)?.order(opaque::<Version>(a, 1)?))
}

fn compare_to(a: &[Value]) -> R {
    Ok(Value::Int(compare(a)? as i64))
}

fn greater(a: &[Value]) -> R {
    Ok(Value::Bool(compare(a)?.is_gt()))
}

fn less(a: &[Value]) -> R {
    Ok(Value::Bool(compare(a)?.is_lt()))
}

/// Numbers above what a whole number holds turn negative, as there.
fn piece(a: &[Value], i: usize) -> R {
    let n = opaque::<Version>(a, 0)?.numbers.get(i).copied().unwrap_or_default();
    Ok(Value::Int(n.cast_signed()))
}

pub const ALL: &[(&str, Function)] = &[
    ("semver(string)->kubernetes.Semver", semver),
    ("semver(string,bool)->kubernetes.Semver", semver),
    ("isSemver(string)->bool", is_semver),
    ("isSemver(string,bool)->bool", is_semver),
    ("kubernetes.Semver:isGreaterThan(kubernetes.Semver)->bool", greater),
    ("kubernetes.Semver:isLessThan(kubernetes.Semver)->bool", less),
    ("kubernetes.Semver:compareTo(kubernetes.Semver)->int", compare_to),
    ("kubernetes.Semver:major()->int", |a| piece(a, 0)),
    ("kubernetes.Semver:minor()->int", |a| piece(a, 1)),
    ("kubernetes.Semver:patch()->int", |a| piece(a, 2)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_in_upstreams_words() {
        for (s, why) in [
            ("", "Version string empty"),
            ("v1.0", "No Major.Minor.Patch elements found"),
            ("v1.0.0", "Invalid character(s) found in major number \"v1\""),
            (" 1.0.0", "Invalid character(s) found in major number \" 1\""),
            ("1. 0.0", "Invalid character(s) found in minor number \" 0\""),
            ("1.0.0 ", "Invalid character(s) found in patch number \"0 \""),
            ("01.01.01", "Major number must not contain leading zeroes \"01\""),
            ("1..0", "strconv.ParseUint: parsing \"\": invalid syntax"),
            (
                "1.0.99999999999999999999",
                "strconv.ParseUint: parsing \"99999999999999999999\": value out of range",
            ),
            ("1.0.0-", "Prerelease is empty"),
            ("1.0.0-01", "Numeric PreRelease version must not contain leading zeroes \"01\""),
            ("1.0.0-a_b", "Invalid character(s) found in prerelease \"a_b\""),
            ("1.0.0+", "Build meta data is empty"),
            ("1.0.0+é", "Invalid character(s) found in build meta data \"é\""),
        ] {
            assert_eq!(parse(s).err().as_deref(), Some(why), "{s}");
        }
        let short = "short version cannot contain PreRelease/Build meta data";
        assert_eq!(tolerant("1.0-rc").err().as_deref(), Some(short));
        for s in ["", " 1.0.0", "1. 0.0", "1.0.0 "] {
            assert!(tolerant(s).is_err(), "{s}");
        }
        for (s, same) in [
            ("v1.0.0", "1.0.0"),
            ("01.01.01", "1.1.1"),
            ("1", "1.0.0"),
            ("v00.0-", ""),
            ("1.2.00-0a", "1.2.0-0a"),
        ] {
            assert_eq!(tolerant(s).ok(), parse(same).ok(), "{s}");
        }
    }

    #[test]
    fn versions_are_ordered_by_semver_org() {
        let all = [
            "1.0.0-1",
            "1.0.0-2",
            "1.0.0-a",
            "1.0.0-a.1",
            "1.0.0-a.b",
            "1.0.0-b",
            "1.0.0",
            "1.0.1",
            "1.2.3",
            "10.0.0",
        ];
        for (i, a) in all.iter().enumerate() {
            for (k, b) in all.iter().enumerate() {
                let (a, b) = (parse(a).expect(a), parse(b).expect(b));
                assert_eq!(a.order(&b), i.cmp(&k), "{a:?} {b:?}");
            }
        }
        assert_eq!(parse("1.0.0+a.01"), parse("1.0.0+b"));
    }
}
