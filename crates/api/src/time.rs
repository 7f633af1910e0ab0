//! metav1.Time and MicroTime as text: RFC 3339 in UTC, to the second or the microsecond. No clock in here. And durations
//! as Go writes them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parsing time {0:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {0:?} as \"2006\"")]
pub struct TimeError(pub String);

/// Reads RFC 3339 with any offset and any fraction.
pub fn parse(s: &str) -> Result<Timestamp, TimeError> {
    let err = || TimeError(s.to_string());
    // jiff reads a little more than RFC 3339 allows; hold it to the fixed frame.
    let b = s.as_bytes();
    let framed = b.len() >= 20
        && b.get(4) == Some(&b'-')
        && b.get(7) == Some(&b'-')
        && matches!(b.get(10), Some(b'T' | b't'))
        && b.get(13) == Some(&b':')
        && b.get(16) == Some(&b':')
        && !s.ends_with(']');
    if !framed {
        return Err(err());
    }
    s.parse().map_err(|_| err())
}

/// `2006-01-02T15:04:05Z`.
pub fn format(t: Timestamp) -> String {
    let z = t.to_zoned(TimeZone::UTC);
    std::format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        z.year(),
        z.month(),
        z.day(),
        z.hour(),
        z.minute(),
        z.second()
    )
}

/// `2006-01-02T15:04:05.000000Z`.
pub fn format_micro(t: Timestamp) -> String {
    let mut s = format(t);
    s.pop();
    let micros = t.subsec_nanosecond().rem_euclid(1_000_000_000) / 1000;
    s.push_str(&std::format!(".{micros:06}Z"));
    s
}

/// The text that a Time is stored as. A fraction is cut off.
pub fn canonical(s: &str) -> Result<String, TimeError> {
    if is_canonical(s) {
        parse(s)?;
        return Ok(s.to_string());
    }
    Ok(format(floor_second(parse(s)?)))
}

/// The text that a MicroTime is stored as.
pub fn canonical_micro(s: &str) -> Result<String, TimeError> {
    Ok(format_micro(parse(s)?))
}

fn is_canonical(s: &str) -> bool {
    s.len() == 20 && s.ends_with('Z')
}

fn floor_second(t: Timestamp) -> Timestamp {
    let nanos = t.subsec_nanosecond();
    let seconds = t.as_second() - i64::from(nanos < 0);
    Timestamp::from_second(seconds).unwrap_or(t)
}

/// Nanoseconds of Go's text of a duration (`15.5s`, `1m0s`).
pub fn go_nanos(s: &str) -> Option<i64> {
    cel::functions::duration(s).ok()
}

/// A duration as Go writes it: `1h1m1.001s`, `250ms`, `0s`.
pub fn go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let decimal = |whole: u64, rest: u64, digits: usize| {
        let text = format!("{whole}.{rest:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match n {
        0 => return "0s".into(),
        1..1_000 => return format!("{sign}{n}ns"),
        1_000..1_000_000 => return format!("{sign}{}µs", decimal(n / 1_000, n % 1_000, 3)),
        1_000_000..1_000_000_000 => return format!("{sign}{}ms", decimal(n / 1_000_000, n % 1_000_000, 6)),
        _ => {}
    }
    let (whole, rest) = (n / 1_000_000_000, n % 1_000_000_000);
    let (hours, minutes) = (whole / 3600, whole / 60 % 60);
    let before = match (hours, minutes) {
        (0, 0) => String::new(),
        (0, m) => format!("{m}m"),
        (h, m) => format!("{h}h{m}m"),
    };
    format!("{sign}{before}{}s", decimal(whole % 60, rest, 9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (nanos, want) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_000_000_000, "1s"),
            (15_034_000_000, "15.034s"),
            (60_000_000_000, "1m0s"),
            (3_661_001_000_000, "1h1m1.001s"),
            (7_200_000_000_000, "2h0m0s"),
            (-1_500_000_000, "-1.5s"),
        ] {
            assert_eq!(go_duration(nanos), want);
            assert_eq!(go_nanos(want), Some(nanos));
        }
        assert_eq!(go_nanos("soon"), None);
    }

    #[test]
    fn times_are_normalised() {
        assert_eq!(canonical("2026-01-02T03:04:05Z").as_deref(), Ok("2026-01-02T03:04:05Z"));
        assert_eq!(canonical("2026-01-02T03:04:05.999+01:00").as_deref(), Ok("2026-01-02T02:04:05Z"));
        assert_eq!(canonical_micro("2026-01-02T03:04:05Z").as_deref(), Ok("2026-01-02T03:04:05.000000Z"));
        assert_eq!(
            canonical_micro("2026-01-02T03:04:05.1234567Z").as_deref(),
            Ok("2026-01-02T03:04:05.123456Z")
        );
        for bad in
            ["", "now", "2026-01-02", "2026-13-02T03:04:05Z", "2026-01-02T03:04:05", "2026-01-02 03:04:05Z"]
        {
            assert!(canonical(bad).is_err(), "{bad}");
        }
    }
}
