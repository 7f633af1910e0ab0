//! When a cron job starts its next job, and what keeps it from it. Pure.

use std::time::Duration;

use api::cron::Schedule;
use client::clock;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A wake-up comes this much after the minute, so that the minute is surely over.
const AFTER: Duration = Duration::from_millis(100);
/// From here on somebody should be told.
const MANY: i64 = 100;

/// What the decision hangs on.
#[derive(Debug, Clone)]
pub struct Facts {
    pub created: Timestamp,
    pub last: Option<Timestamp>,
    pub deadline_seconds: Option<i64>,
    pub policy: Policy,
    pub active: usize,
    pub now: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Allow,
    Forbid,
    Replace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is due.
    Wait,
    /// Was due then, and the deadline is over.
    TooLate(Timestamp),
    /// Has been started already.
    Done,
    /// The one before is still running, and it may run alone.
    Busy,
    Start {
        at: Timestamp,
        /// What still runs has to go first.
        replace: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    /// More start times were missed than anybody wants.
    pub many_missed: bool,
    /// When to look again.
    pub wait: Option<Duration>,
}

struct Recent {
    earliest: Timestamp,
    latest: Option<Timestamp>,
    missed: i64,
}

const NEVER: &str = "time difference between two schedules is less than 1 second";

/// `started` says whether there is a job for that time already. The error is about a schedule that never comes.
pub fn decide(
    f: &Facts,
    schedule: &Schedule,
    zone: &TimeZone,
    started: impl Fn(Timestamp) -> bool,
) -> Result<Decision, &'static str> {
    let recent = recent(f, schedule, zone, true)?;
    let mut d = Decision { verdict: Verdict::Wait, many_missed: false, wait: wait(f, schedule, zone) };
    let Some(at) = recent.latest.filter(|t| *t <= f.now) else { return Ok(d) };
    d.many_missed = recent.missed > MANY;
    let end = f.deadline_seconds.map(|s| later(at, s));
    d.verdict = if end.is_some_and(|end| end < f.now) {
        Verdict::TooLate(at)
    } else if f.last == Some(at) || started(at) {
        Verdict::Done
    } else if f.policy == Policy::Forbid && f.active > 0 {
        Verdict::Busy
    } else {
        Verdict::Start { at, replace: f.policy == Policy::Replace && f.active > 0 }
    };
    Ok(d)
}

fn later(t: Timestamp, seconds: i64) -> Timestamp {
    t.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(t)
}

/// Until the start after the most recent one.
pub fn wait(f: &Facts, schedule: &Schedule, zone: &TimeZone) -> Option<Duration> {
    let from = match recent(f, schedule, zone, false) {
        Err(_) => f.now,
        Ok(r) => r.latest.unwrap_or(if r.missed == 0 { r.earliest } else { f.now }),
    };
    Some(clock::between(f.now, schedule.next(from, zone)?) + AFTER)
}

/// The most recent time at which a job was due since the last one (or since the cron job is there).
fn recent(
    f: &Facts,
    schedule: &Schedule,
    zone: &TimeZone,
    with_deadline: bool,
) -> Result<Recent, &'static str> {
    let mut earliest = f.last.unwrap_or(f.created);
    if let Some(s) = f.deadline_seconds.filter(|_| with_deadline) {
        // Nothing before that is going to be started.
        earliest = earliest.max(later(f.now, -s));
    }
    let first = schedule.next(earliest, zone).ok_or(NEVER)?;
    if f.now < first {
        return Ok(Recent { earliest, latest: None, missed: 0 });
    }
    let second = schedule.next(first, zone).ok_or(NEVER)?;
    if f.now < second {
        return Ok(Recent { earliest, latest: Some(first), missed: 0 });
    }
    let between = second.as_second() - first.as_second();
    if between < 1 {
        return Err(NEVER);
    }
    // Roughly how many there were: not all of them are walked through, after years there may be millions.
    let missed = f.now.duration_since(first).as_secs() / between + 1;
    let mut latest = None;
    let mut t = schedule.next(later(first, (missed - 2) * between), zone);
    while let Some(at) = t.filter(|at| *at <= f.now) {
        latest = Some(at);
        t = schedule.next(at, zone);
    }
    Ok(Recent { earliest, latest, missed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: &str) -> Timestamp {
        format!("2026-03-{s}Z").parse().expect("time")
    }

    fn facts(now: &str) -> Facts {
        Facts {
            created: at("02T10:00:30"),
            last: None,
            deadline_seconds: None,
            policy: Policy::Allow,
            active: 0,
            now: at(now),
        }
    }

    fn ask(f: &Facts, schedule: &str) -> Decision {
        decide(f, &Schedule::parse(schedule).expect("schedule"), &TimeZone::UTC, |_| false).expect("decision")
    }

    fn start(t: &str) -> Verdict {
        Verdict::Start { at: at(t), replace: false }
    }

    #[test]
    fn what_is_due_is_started_and_the_next_is_waited_for() {
        for (schedule, now, verdict, wait) in [
            ("* * * * *", "02T10:00:40", Verdict::Wait, 20),
            ("* * * * *", "02T10:01:00", start("02T10:01:00"), 60),
            ("* * * * *", "02T10:01:10", start("02T10:01:00"), 50),
            // The latest of several that were missed, once.
            ("* * * * *", "02T10:05:10", start("02T10:05:00"), 50),
            ("0 * * * *", "02T10:59:59", Verdict::Wait, 1),
            ("0 * * * *", "05T12:30:00", start("05T12:00:00"), 1800),
            ("@every 45s", "02T10:01:15", start("02T10:01:15"), 45),
            ("@every 45s", "02T10:03:00", start("02T10:02:45"), 30),
            // Uneven distances: 6, 10, 14 o'clock on workdays; the 7th is a Saturday, and the search goes back two
            // distances only, as upstream's does.
            ("30 6-16/4 * * 1-5", "06T15:00:00", start("06T14:30:00"), 63 * 3600 + 1800),
            ("30 6-16/4 * * 1-5", "07T12:00:00", Verdict::Wait, 42 * 3600 + 1800),
        ] {
            let d = ask(&facts(now), schedule);
            assert_eq!(d.verdict, verdict, "{schedule} {now}");
            assert_eq!(d.wait, Some(Duration::from_secs(wait) + AFTER), "{schedule} {now}");
        }
    }

    #[test]
    fn the_last_start_counts_not_the_creation() {
        let mut f = facts("02T10:05:10");
        f.last = Some(at("02T10:05:00"));
        assert_eq!(ask(&f, "* * * * *").verdict, Verdict::Wait);
        f.last = Some(at("02T10:04:00"));
        assert_eq!(ask(&f, "* * * * *").verdict, start("02T10:05:00"));
        let every_minute = Schedule::parse("* * * * *").expect("schedule");
        let d = decide(&f, &every_minute, &TimeZone::UTC, |t| t == at("02T10:05:00")).expect("decision");
        assert_eq!(d.verdict, Verdict::Done);
    }

    #[test]
    fn a_deadline_lets_old_starts_go() {
        let mut f = facts("02T12:00:20");
        for (deadline, verdict) in [
            (None, start("02T12:00:00")),
            (Some(21), start("02T12:00:00")),
            (Some(20), Verdict::Wait),
            (Some(0), Verdict::Wait),
        ] {
            f.deadline_seconds = deadline;
            assert_eq!(ask(&f, "0 * * * *").verdict, verdict, "{deadline:?}");
        }
    }

    #[test]
    fn concurrency() {
        let mut f = facts("02T10:01:00");
        f.active = 1;
        for (policy, verdict) in [
            (Policy::Allow, start("02T10:01:00")),
            (Policy::Forbid, Verdict::Busy),
            (Policy::Replace, Verdict::Start { at: at("02T10:01:00"), replace: true }),
        ] {
            f.policy = policy;
            assert_eq!(ask(&f, "* * * * *").verdict, verdict);
        }
    }

    #[test]
    fn many_misses_are_told_and_never_is_an_error() {
        assert!(!ask(&facts("02T11:40:00"), "* * * * *").many_missed);
        assert!(ask(&facts("02T11:41:01"), "* * * * *").many_missed);
        let never = Schedule::parse("0 0 31 2 *").expect("schedule");
        assert_eq!(decide(&facts("02T10:00:40"), &never, &TimeZone::UTC, |_| false), Err(NEVER));
        assert_eq!(wait(&facts("02T10:00:40"), &never, &TimeZone::UTC), None);
    }

    #[test]
    fn a_day_is_where_the_zone_has_it() {
        let zone = api::cron::zone("Asia/Tokyo");
        let Some(zone) = zone else { return };
        let daily = Schedule::parse("@daily").expect("schedule");
        let d = decide(&facts("02T16:00:00"), &daily, &zone, |_| false).expect("decision");
        assert_eq!(d.verdict, start("02T15:00:00"));
    }
}
