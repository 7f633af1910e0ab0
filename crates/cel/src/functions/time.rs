//! Timestamps and durations.

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{Function, text, value};
use crate::value::Value;

type R = Result<Value, String>;

/// `1h2m3.5s` in nanoseconds, as Go's `time.ParseDuration` reads it; the error is its own.
pub fn parse_duration(s: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {s:?}");
    let (negative, mut rest) = match s.strip_prefix('-') {
        Some(r) => (true, r),
        None => (false, s.strip_prefix('+').unwrap_or(s)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let mut total = 0u64;
    while !rest.is_empty() {
        let (whole, tail) = rest.split_at(digits(rest));
        let (part, tail) = match tail.strip_prefix('.') {
            Some(tail) => tail.split_at(digits(tail)),
            None => ("", tail),
        };
        if whole.is_empty() && part.is_empty() {
            return Err(invalid());
        }
        let (unit, tail) =
            tail.split_at(tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len()));
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {s:?}")),
            _ => return Err(format!("time: unknown unit {unit:?} in duration {s:?}")),
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let part = if part.is_empty() { 0.0 } else { format!("0.{part}").parse().unwrap_or(0.0) };
        let more = whole.checked_mul(scale).and_then(|n| n.checked_add((part * scale as f64) as u64));
        total = more.and_then(|n| total.checked_add(n)).filter(|n| *n <= 1 << 63).ok_or_else(invalid)?;
        rest = tail;
    }
    match i64::try_from(total) {
        Ok(n) => Ok(if negative { -n } else { n }),
        // The one that has no positive.
        Err(_) if negative => Ok(i64::MIN),
        Err(_) => Err(invalid()),
    }
}

/// The text of a duration: seconds with an `s`.
pub fn seconds(nanos: i64) -> String {
    format!("{}s", nanos as f64 / 1e9)
}

fn duration(a: &[Value]) -> R {
    match value(a, 0)? {
        d @ Value::Duration(_) => Ok(d.clone()),
        _ => parse_duration(text(a, 0)?).map(Value::Duration),
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

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let minute = 60_000_000_000;
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("1m30s", minute + minute / 2),
            ("-1.5m", -minute - minute / 2),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("3us2µs1μs", 6_000),
            ("1h1ns", 60 * minute + 1),
            ("-9223372036854775808ns", i64::MIN),
            ("9223372036854775807ns", i64::MAX),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
        for (text, why) in [
            ("", "invalid duration \"\""),
            ("-", "invalid duration \"-\""),
            (".s", "invalid duration \".s\""),
            ("x", "invalid duration \"x\""),
            ("1.2.3s", "missing unit in duration \"1.2.3s\""),
            ("10", "missing unit in duration \"10\""),
            ("1d", "unknown unit \"d\" in duration \"1d\""),
            ("1é", "unknown unit \"é\" in duration \"1é\""),
            ("9223372036854775808ns", "invalid duration \"9223372036854775808ns\""),
            ("99999999999999999999h", "invalid duration \"99999999999999999999h\""),
            ("2562048h", "invalid duration \"2562048h\""),
        ] {
            assert_eq!(parse_duration(text), Err(format!("time: {why}")), "{text}");
        }
    }
}
