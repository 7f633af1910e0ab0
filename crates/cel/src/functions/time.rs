//! Timestamps and durations.

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{Function, text, value};
use crate::value::Value;

type R = Result<Value, String>;

/// `1h2m3.5s` in nanoseconds.
pub fn parse_duration(s: &str) -> Option<i64> {
    let (negative, mut rest) = match s.strip_prefix('-') {
        Some(r) => (true, r),
        None => (false, s.strip_prefix('+').unwrap_or(s)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let scale = match unit {
            "h" => 3_600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = next;
    }
    let total = if negative { -total } else { total };
    (total.abs() < 9.2e18).then_some(total.round() as i64)
}

/// The text of a duration: seconds with an `s`.
pub fn seconds(nanos: i64) -> String {
    format!("{}s", nanos as f64 / 1e9)
}

fn duration(a: &[Value]) -> R {
    match value(a, 0)? {
        d @ Value::Duration(_) => Ok(d.clone()),
        _ => {
            let s = text(a, 0)?;
            parse_duration(s).map(Value::Duration).ok_or_else(|| format!("time: invalid duration {s:?}"))
        }
    }
}

fn timestamp(a: &[Value]) -> R {
    match value(a, 0)? {
        t @ Value::Timestamp(_) => Ok(t.clone()),
        Value::Int(i) => {
            Timestamp::from_second(*i).map(Value::Timestamp).map_err(|_| "timestamp overflow".to_owned())
        }
        _ => {
            let s = text(a, 0)?;
            s.parse().map(Value::Timestamp).map_err(|_| format!("invalid timestamp {s:?}"))
        }
    }
}

fn local(a: &[Value]) -> Result<Zoned, String> {
    let Value::Timestamp(t) = value(a, 0)? else { return Err("no such overload".into()) };
    let zone = if a.len() > 1 { text(a, 1)? } else { "UTC" };
    let known = if zone == "UTC" { Some(TimeZone::UTC) } else { offset(zone) };
    let tz = known.or_else(|| TimeZone::get(zone).ok()).ok_or_else(|| format!("unknown time zone {zone}"))?;
    Ok(t.to_zoned(tz))
}

/// `+02:00`, `-08:30`.
fn offset(zone: &str) -> Option<TimeZone> {
    let (sign, rest) = match zone.strip_prefix('-') {
        Some(r) => (-1, r),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (h, m) = rest.split_once(':')?;
    let seconds = sign * (h.parse::<i32>().ok()? * 3600 + m.parse::<i32>().ok()? * 60);
    jiff::tz::Offset::from_seconds(seconds).ok().map(TimeZone::fixed)
}

fn whole(n: impl Into<i64>) -> R {
    Ok(Value::Int(n.into()))
}

fn year(a: &[Value]) -> R {
    whole(local(a)?.year())
}
fn month(a: &[Value]) -> R {
    whole(local(a)?.month() - 1)
}
fn date(a: &[Value]) -> R {
    whole(local(a)?.day())
}
fn day_of_month(a: &[Value]) -> R {
    whole(local(a)?.day() - 1)
}
fn day_of_week(a: &[Value]) -> R {
    whole(local(a)?.weekday().to_sunday_zero_offset())
}
fn day_of_year(a: &[Value]) -> R {
    whole(local(a)?.day_of_year() - 1)
}

fn hours(a: &[Value]) -> R {
    match value(a, 0)? {
        Value::Duration(d) => whole(d / 3_600_000_000_000),
        _ => whole(local(a)?.hour()),
    }
}
fn minutes(a: &[Value]) -> R {
    match value(a, 0)? {
        Value::Duration(d) => whole(d / 60_000_000_000),
        _ => whole(local(a)?.minute()),
    }
}
fn whole_seconds(a: &[Value]) -> R {
    match value(a, 0)? {
        Value::Duration(d) => whole(d / 1_000_000_000),
        _ => whole(local(a)?.second()),
    }
}
fn milliseconds(a: &[Value]) -> R {
    match value(a, 0)? {
        Value::Duration(d) => whole(d / 1_000_000 % 1000),
        _ => whole(local(a)?.millisecond()),
    }
}

pub const ALL: &[(&str, Function)] = &[
    ("duration(string)->duration", duration),
    ("duration(duration)->duration", duration),
    ("timestamp(string)->timestamp", timestamp),
    ("timestamp(int)->timestamp", timestamp),
    ("timestamp(timestamp)->timestamp", timestamp),
    ("timestamp:getFullYear()->int", year),
    ("timestamp:getFullYear(string)->int", year),
    ("timestamp:getMonth()->int", month),
    ("timestamp:getMonth(string)->int", month),
    ("timestamp:getDate()->int", date),
    ("timestamp:getDate(string)->int", date),
    ("timestamp:getDayOfMonth()->int", day_of_month),
    ("timestamp:getDayOfMonth(string)->int", day_of_month),
    ("timestamp:getDayOfWeek()->int", day_of_week),
    ("timestamp:getDayOfWeek(string)->int", day_of_week),
    ("timestamp:getDayOfYear()->int", day_of_year),
    ("timestamp:getDayOfYear(string)->int", day_of_year),
    ("timestamp:getHours()->int", hours),
    ("timestamp:getHours(string)->int", hours),
    ("timestamp:getMinutes()->int", minutes),
    ("timestamp:getMinutes(string)->int", minutes),
    ("timestamp:getSeconds()->int", whole_seconds),
    ("timestamp:getSeconds(string)->int", whole_seconds),
    ("timestamp:getMilliseconds()->int", milliseconds),
    ("timestamp:getMilliseconds(string)->int", milliseconds),
    ("duration:getHours()->int", hours),
    ("duration:getMinutes()->int", minutes),
    ("duration:getSeconds()->int", whole_seconds),
    ("duration:getMilliseconds()->int", milliseconds),
];
