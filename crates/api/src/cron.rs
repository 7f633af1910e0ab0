//! Cron schedules: parsing, and the next time after a moment in a time zone. Five fields with lists, ranges, steps,
//! names and the `@hourly` kind of shorthand; `@every` with a Go duration. No clock in here.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Why a schedule cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("empty spec string")]
    Empty,
    #[error("expected exactly 5 fields, found {0}: [{1}]")]
    Fields(usize, String),
    #[error("failed to parse int from {0}: strconv.Atoi: parsing {0:?}: invalid syntax")]
    Number(String),
    #[error("end of range ({0}) above maximum ({1}): {2}")]
    Above(u32, u32, String),
    #[error("beginning of range ({0}) below minimum ({1}): {2}")]
    Below(u32, u32, String),
    #[error("beginning of range ({0}) beyond end of range ({1}): {2}")]
    Order(u32, u32, String),
    #[error("step of range should be a positive number: {0}")]
    Step(String),
    #[error("too many {0}: {1}")]
    TooMany(&'static str, String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}: {1}")]
    Duration(String, String),
    #[error("provided bad location {0}: unknown time zone {0}")]
    Zone(String),
}

/// The sets of minutes, hours, days, months and weekdays, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    kind: Kind,
    /// The zone that the text names (`TZ=…`, `CRON_TZ=…`).
    zone: Option<TimeZone>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Every(i64),
    Fields { minute: u64, hour: u64, day: u64, month: u64, weekday: u64, any_day: bool, any_weekday: bool },
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Whether there is such a zone.
pub fn known_zone(name: &str) -> bool {
    zone(name).is_some()
}
/// The zone of that name; empty is UTC.
pub fn zone(name: &str) -> Option<TimeZone> {
    if name.is_empty() || name.eq_ignore_ascii_case("utc") {
        Some(TimeZone::UTC)
    } else {
        TimeZone::get(name).ok()
    }
}

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, CronError> {
        if text.is_empty() {
            return Err(CronError::Empty);
        }
        let named = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
        let Some(named) = named else { return Ok(Self { kind: Kind::parse(text)?, zone: None }) };
        let (name, rest) = named.split_once(' ').unwrap_or((named, ""));
        let zone = zone(name).ok_or_else(|| CronError::Zone(name.into()))?;
        Ok(Self { kind: Kind::parse(rest.trim())?, zone: Some(zone) })
    }

    /// The first time after `after` (whole seconds), in the zone that the text names, else in `zone`; none within five
    /// years means never.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.kind.next(after, self.zone.as_ref().unwrap_or(zone))
    }
}

impl Kind {
    fn parse(text: &str) -> Result<Self, CronError> {
        if text.starts_with('@') {
            return descriptor(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(CronError::Fields(fields.len(), fields.join(" ")));
        };
        let (minute, _) = field(minute, 0, 59, &[])?;
        let (hour, _) = field(hour, 0, 23, &[])?;
        let (day, any_day) = field(day, 1, 31, &[])?;
        let (month, _) = field(month, 1, 12, &MONTHS)?;
        let (weekday, any_weekday) = field(weekday, 0, 6, &DAYS)?;
        Ok(Kind::Fields { minute, hour, day, month, weekday, any_day, any_weekday })
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match *self {
            Kind::Every(seconds) => {
                let base = Timestamp::from_second(after.as_second()).ok()?;
                base.checked_add(SignedDuration::from_secs(seconds)).ok()
            }
            Kind::Fields { month, .. } => {
                let from = Timestamp::from_second((after.as_second().div_euclid(60) + 1) * 60).ok()?;
                let mut day = after.to_zoned(zone.clone()).date();
                let last = day.year() + 5;
                while day.year() <= last {
                    if !has(month, day.month()) {
                        day = day.last_of_month().tomorrow().ok()?;
                        continue;
                    }
                    if self.day_matches(day)
                        && let Some(t) = self.within(day, from, zone)
                    {
                        return Some(t);
                    }
                    day = day.tomorrow().ok()?;
                }
                None
            }
        }
    }

    /// The first match on that day, not before `from`. Goes by real minutes: a time that daylight saving skips does not
    /// happen, one that it repeats happens twice.
    fn within(&self, day: Date, from: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let Kind::Fields { minute, hour, .. } = *self else { return None };
        let mut t = zone.to_ambiguous_zoned(day.at(0, 0, 0, 0)).compatible().ok()?.timestamp().max(from);
        loop {
            let at = t.to_zoned(zone.clone());
            if at.date() != day {
                return None;
            }
            let step = match (has(hour, at.hour()), has(minute, at.minute())) {
                (true, true) => return Some(t),
                (true, false) => 1,
                (false, _) => 60 - i64::from(at.minute()),
            };
            t = t.checked_add(SignedDuration::from_mins(step)).ok()?;
        }
    }

    fn day_matches(&self, t: Date) -> bool {
        let Kind::Fields { day, weekday, any_day, any_weekday, .. } = *self else { return false };
        let by_day = has(day, t.day());
        let by_weekday = has(weekday, t.weekday().to_sunday_zero_offset());
        if any_day || any_weekday { by_day && by_weekday } else { by_day || by_weekday }
    }
}

fn has(set: u64, n: i8) -> bool {
    u32::try_from(n).is_ok_and(|n| set & (1 << n) != 0)
}

fn descriptor(text: &str) -> Result<Kind, CronError> {
    if let Some(d) = text.strip_prefix("@every ") {
        let nanos = cel::functions::duration(d).map_err(|why| CronError::Duration(text.into(), why))?;
        let seconds = nanos / 1_000_000_000;
        return Ok(Kind::Every(seconds.max(1)));
    }
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return Err(CronError::Descriptor(text.into())),
    };
    Kind::parse(fields)
}

/// The bits of one field, and whether it was a star.
fn field(text: &str, min: u32, max: u32, names: &[&str]) -> Result<(u64, bool), CronError> {
    let mut bits = 0u64;
    let mut any = false;
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (b, star) = range(part, min, max, names)?;
        bits |= b;
        any |= star;
    }
    Ok((bits, any))
}

fn range(text: &str, min: u32, max: u32, names: &[&str]) -> Result<(u64, bool), CronError> {
    let mut by_step = text.split('/');
    let span = by_step.next().unwrap_or_default();
    let step_text = by_step.next();
    if by_step.next().is_some() {
        return Err(CronError::TooMany("slashes", text.into()));
    }
    let mut star = false;
    let ends: Vec<&str> = span.split('-').collect();
    let (lo, mut hi) = match ends.as_slice() {
        ["*"] | ["?"] => {
            star = true;
            (min, max)
        }
        [one] => {
            let n = number(one, min, names)?;
            (n, n)
        }
        [a, b] => (number(a, min, names)?, number(b, min, names)?),
        _ => return Err(CronError::TooMany("hyphens", text.into())),
    };
    let step = match step_text {
        None => 1,
        Some(s) => {
            if ends.len() == 1 && !star {
                hi = max;
            }
            let step = number(s, 0, &[])?;
            star &= step <= 1;
            step
        }
    };
    if lo < min {
        return Err(CronError::Below(lo, min, text.into()));
    }
    if hi > max {
        return Err(CronError::Above(hi, max, text.into()));
    }
    if lo > hi {
        return Err(CronError::Order(lo, hi, text.into()));
    }
    if step == 0 {
        return Err(CronError::Step(text.into()));
    }
    let bits = (lo..=hi).step_by(step as usize).fold(0u64, |b, n| b | (1 << n));
    Ok((bits, star))
}

fn number(text: &str, base: u32, names: &[&str]) -> Result<u32, CronError> {
    let lower = text.to_ascii_lowercase();
    if let Some(i) = names.iter().position(|n| *n == lower) {
        return Ok(base + u32::try_from(i).unwrap_or(0));
    }
    if text.is_empty() || text.len() > 4 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CronError::Number(text.into()));
    }
    text.parse().map_err(|_| CronError::Number(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_schedule() {
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@never",
            "* * * * 7",
            "@every x",
            "1-2-3 * * * *",
        ] {
            assert!(Schedule::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            Schedule::parse("* * *").expect_err("three").to_string(),
            "expected exactly 5 fields, found 3: [* * *]"
        );
    }

    #[test]
    fn next_times() {
        let cases = [
            ("* * * * *", "2024-01-01T00:00:30Z", "", Some("2024-01-01T00:01:00Z")),
            ("*/15 * * * *", "2024-01-01T00:15:00Z", "", Some("2024-01-01T00:30:00Z")),
            ("0 9 * * 1-5", "2024-01-05T09:00:00Z", "", Some("2024-01-08T09:00:00Z")),
            ("0 0 29 2 *", "2024-03-01T00:00:00Z", "", Some("2028-02-29T00:00:00Z")),
            ("0 0 31 2 *", "2024-03-01T00:00:00Z", "", None),
            ("0 0 13 * fri", "2024-01-01T00:00:00Z", "", Some("2024-01-05T00:00:00Z")),
            ("@hourly", "2024-01-01T00:00:00Z", "", Some("2024-01-01T01:00:00Z")),
            ("@every 90s", "2024-01-01T00:00:00Z", "", Some("2024-01-01T00:01:30Z")),
            ("0 12 * * *", "2024-07-01T00:00:00Z", "Europe/Berlin", Some("2024-07-01T10:00:00Z")),
            ("CRON_TZ=Europe/Berlin 0 12 * * *", "2024-07-01T00:00:00Z", "", Some("2024-07-01T10:00:00Z")),
            // The hour that comes twice when the clocks go back.
            ("30 1 * * *", "2024-11-03T00:00:00Z", "America/New_York", Some("2024-11-03T05:30:00Z")),
            ("30 1 * * *", "2024-11-03T05:30:00Z", "America/New_York", Some("2024-11-03T06:30:00Z")),
            ("* * * * *", "2024-11-03T05:59:00Z", "America/New_York", Some("2024-11-03T06:00:00Z")),
            ("0 0 * * *", "2024-12-31T12:00:00Z", "Asia/Kolkata", Some("2024-12-31T18:30:00Z")),
            // 02:30 does not exist on the day the clocks go forward.
            ("30 2 * * *", "2024-03-30T12:00:00Z", "Europe/Berlin", Some("2024-04-01T00:30:00Z")),
        ];
        for (spec, after, tz, want) in cases {
            let Some(zone) = zone(tz) else { continue };
            let s = Schedule::parse(spec).expect(spec);
            let got = s.next(after.parse().expect("time"), &zone).map(|t| t.to_string());
            assert_eq!(got.as_deref(), want, "{spec}");
        }
    }
}
