//! Who leads: decided from what was seen of a Lease, from what became of own writes and from a clock that is handed in.
//! Pure. As client-go: a lease that nobody renewed for as long as it lasts is free, by the time that passed here since the
//! last change, so that clocks of different machines need not agree.

use std::time::{Duration, Instant};

use api::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock;

/// How long a term lasts without being renewed, and when its holder gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Others wait for so long after the last renewal they saw.
    pub lease: Duration,
    /// A leader that could not renew for so long stops.
    pub deadline: Duration,
    /// Between two renewals, and between two attempts.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Empty: nobody.
    pub holder: String,
    pub lasts: Duration,
    pub acquired: Option<Timestamp>,
    pub renewed: Option<Timestamp>,
    pub transitions: i64,
}

impl Record {
    pub fn of(lease: &Object) -> Self {
        let spec = lease.view::<Value>().map(|mut v| v["spec"].take()).unwrap_or_default();
        let time = |k: &str| spec[k].as_str().and_then(clock::parse);
        Self {
            holder: spec["holderIdentity"].as_str().unwrap_or_default().to_owned(),
            lasts: Duration::from_secs(spec["leaseDurationSeconds"].as_u64().unwrap_or(0)),
            acquired: time("acquireTime"),
            renewed: time("renewTime"),
            transitions: spec["leaseTransitions"].as_i64().unwrap_or(0),
        }
    }

    /// Writes it into a Lease's `spec`; what else stands there stays.
    pub fn put(&self, lease: &mut Value) {
        let time = |t: Option<Timestamp>| t.map(clock::rfc3339_micro);
        let spec = &mut lease["spec"];
        spec["holderIdentity"] = json!(self.holder);
        spec["leaseDurationSeconds"] = json!(self.lasts.as_secs());
        spec["acquireTime"] = json!(time(self.acquired));
        spec["renewTime"] = json!(time(self.renewed));
        spec["leaseTransitions"] = json!(self.transitions);
    }
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing until then, or until the Lease changes.
    Wait(Instant),
    /// Write this over the revision of the Lease that was seen last; 0: it is not there.
    Write { over: u64, record: Record },
    /// The term is over: it could not be renewed in time, or somebody else took the Lease.
    Resign,
}

/// The Lease as it was seen last.
struct Seen {
    revision: u64,
    record: Record,
    /// When it changed, by our own clock.
    at: Instant,
}

/// One that wants to lead, or does.
pub struct Candidate {
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    /// While leading: when the last renewal that succeeded was begun.
    renewed: Option<Instant>,
    /// The earliest next attempt.
    next: Instant,
    /// A write lost a race and was tried again at once.
    again: bool,
}

impl Candidate {
    pub fn new(identity: &str, timing: Timing, now: Instant) -> Self {
        Self { identity: identity.to_owned(), timing, seen: None, renewed: None, next: now, again: false }
    }

    pub fn leads(&self) -> bool {
        self.renewed.is_some()
    }

    /// Until when the present term holds for certain, unless it is renewed.
    pub fn holds_until(&self) -> Option<Instant> {
        self.renewed.map(|r| r + self.timing.deadline)
    }

    /// The Lease was seen. What is older than what is known already changes nothing.
    pub fn saw(&mut self, revision: u64, record: Record, now: Instant) {
        if self.seen.as_ref().is_none_or(|s| s.revision < revision) {
            self.seen = Some(Seen { revision, record, at: now });
        }
    }

    /// There was no Lease at this revision.
    pub fn missed(&mut self, revision: u64) {
        if self.seen.as_ref().is_some_and(|s| s.revision < revision) {
            self.seen = None;
        }
    }

    pub fn step(&self, now: Instant, time: Timestamp) -> Step {
        let free = match &self.seen {
            None => true,
            Some(s) => s.record.holder.is_empty() || s.record.holder == self.identity,
        };
        if let Some(renewed) = self.renewed {
            let deadline = renewed + self.timing.deadline;
            return if now >= deadline || !free {
                Step::Resign
            } else if now >= self.next {
                self.write(time)
            } else {
                Step::Wait(self.next.min(deadline))
            };
        }
        let due = match &self.seen {
            Some(s) if !free => self.next.max(s.at + s.record.lasts),
            _ => self.next,
        };
        if now >= due { self.write(time) } else { Step::Wait(due) }
    }

    fn write(&self, time: Timestamp) -> Step {
        let before = self.seen.as_ref();
        let kept = before.map(|s| &s.record).filter(|r| r.holder == self.identity);
        let acquired = kept.filter(|_| self.leads()).and_then(|r| r.acquired).unwrap_or(time);
        let transitions = match (before, kept) {
            (Some(s), None) => s.record.transitions + 1,
            (_, Some(r)) => r.transitions,
            (None, None) => 0,
        };
        Step::Write {
            over: before.map_or(0, |s| s.revision),
            record: Record {
                holder: self.identity.clone(),
                lasts: self.timing.lease,
                acquired: Some(acquired),
                renewed: Some(time),
                transitions,
            },
        }
    }

    /// The write that was begun at `started` came through.
    pub fn wrote(&mut self, started: Instant, revision: u64, record: Record) {
        self.seen = Some(Seen { revision, record, at: started });
        self.renewed = Some(started);
        self.next = started + self.timing.retry;
        self.again = false;
    }

    /// The write met another state than was seen. The state that is there is to be told before the next step.
    pub fn lost(&mut self, now: Instant) {
        if std::mem::replace(&mut self.again, true) {
            self.failed(now);
        }
    }

    /// The write failed.
    pub fn failed(&mut self, now: Instant) {
        self.next = now + self.timing.retry;
        self.again = false;
    }

    /// The term has ended, and so has everything that was done in it.
    pub fn ended(&mut self, now: Instant) {
        self.renewed = None;
        self.failed(now);
    }

    /// What to write when the Lease is given back; `None`: it is not ours.
    pub fn release(&self, time: Timestamp) -> Option<(u64, Record)> {
        let seen = self.seen.as_ref().filter(|s| s.record.holder == self.identity)?;
        let record = Record {
            holder: String::new(),
            lasts: Duration::from_secs(1),
            acquired: Some(time),
            renewed: Some(time),
            transitions: seen.record.transitions,
        };
        Some((seen.revision, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A world of two clocks.
    struct World {
        start: Instant,
        time: Timestamp,
    }

    impl World {
        fn new() -> Self {
            Self { start: Instant::now(), time: Timestamp::from_second(1_800_000_000).expect("time") }
        }
        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }
        fn one(&self, name: &str) -> Candidate {
            Candidate::new(name, Timing::default(), self.start)
        }
        fn step(&self, c: &Candidate, seconds: f64) -> Step {
            c.step(self.at(seconds), self.time)
        }
        /// Writes as the step says, at this revision.
        fn carry(&self, c: &mut Candidate, seconds: f64, revision: u64) -> Record {
            match self.step(c, seconds) {
                Step::Write { record, .. } => {
                    c.wrote(self.at(seconds), revision, record.clone());
                    record
                }
                other => panic!("expected a write, got {other:?}"),
            }
        }
    }

    #[test]
    fn the_first_one_makes_the_lease_and_renews_it() {
        let w = World::new();
        let mut a = w.one("a");
        assert!(matches!(w.step(&a, 0.0), Step::Write { over: 0, .. }));
        let r = w.carry(&mut a, 0.0, 5);
        assert_eq!((r.holder.as_str(), r.lasts, r.transitions), ("a", 15 * SECOND, 0));
        assert!(a.leads());
        assert_eq!(a.holds_until(), Some(w.at(10.0)));
        assert_eq!(w.step(&a, 1.0), Step::Wait(w.at(2.0)));
        match w.step(&a, 2.0) {
            Step::Write { over: 5, record } => assert_eq!(record.acquired, r.acquired),
            other => panic!("{other:?}"),
        }
        w.carry(&mut a, 2.0, 6);
        assert_eq!(a.holds_until(), Some(w.at(12.0)));
    }

    #[test]
    fn another_waits_for_as_long_as_the_lease_lasts_since_it_saw_a_change() {
        let w = World::new();
        let (mut a, mut b) = (w.one("a"), w.one("b"));
        let first = w.carry(&mut a, 0.0, 5);
        b.saw(5, first.clone(), w.at(1.0));
        assert_eq!(w.step(&b, 1.0), Step::Wait(w.at(16.0)));
        // Seen again, it is no younger.
        b.saw(5, first, w.at(9.0));
        assert_eq!(w.step(&b, 9.0), Step::Wait(w.at(16.0)));
        let second = w.carry(&mut a, 9.0, 6);
        b.saw(6, second, w.at(10.0));
        assert_eq!(w.step(&b, 20.0), Step::Wait(w.at(25.0)));
        match w.step(&b, 25.0) {
            Step::Write { over: 6, record } => assert_eq!((&*record.holder, record.transitions), ("b", 1)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_leader_stops_before_another_may_begin() {
        let w = World::new();
        let (mut a, mut b) = (w.one("a"), w.one("b"));
        let r = w.carry(&mut a, 0.0, 5);
        // The write took three seconds, and was seen at once.
        b.saw(5, r, w.at(3.0));
        for at in [2.0, 4.0, 6.0, 8.0] {
            assert!(matches!(w.step(&a, at), Step::Write { .. }), "{at}");
            a.failed(w.at(at));
        }
        assert_eq!(w.step(&a, 9.0), Step::Wait(w.at(10.0)));
        assert_eq!(w.step(&a, 10.0), Step::Resign);
        assert_eq!(w.step(&b, 10.0), Step::Wait(w.at(18.0)));
        a.ended(w.at(10.5));
        assert!(!a.leads() && a.holds_until().is_none());
        // The Lease still names it: it may begin a new term, without a transition.
        match w.step(&a, 12.5) {
            Step::Write { over: 5, record } => assert_eq!(record.transitions, 0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_was_overthrown_steps_down() {
        let w = World::new();
        let mut a = w.one("a");
        w.carry(&mut a, 0.0, 5);
        // An older state that comes late means nothing.
        a.saw(4, Record { holder: "b".into(), ..Record::default() }, w.at(1.0));
        assert_eq!(w.step(&a, 1.0), Step::Wait(w.at(2.0)));
        a.saw(6, Record { holder: "b".into(), lasts: 15 * SECOND, ..Record::default() }, w.at(1.0));
        assert_eq!(w.step(&a, 1.0), Step::Resign);
        a.ended(w.at(1.0));
        assert_eq!(w.step(&a, 1.0), Step::Wait(w.at(16.0)));
    }

    #[test]
    fn what_was_given_back_is_taken_at_once() {
        let w = World::new();
        let (mut a, mut b) = (w.one("a"), w.one("b"));
        let r = w.carry(&mut a, 0.0, 5);
        b.saw(5, r, w.at(0.0));
        let (over, free) = a.release(w.time).expect("its own");
        assert_eq!((over, free.holder.as_str(), free.lasts), (5, "", SECOND));
        assert!(b.release(w.time).is_none());
        b.saw(6, free, w.at(0.5));
        match w.step(&b, 0.5) {
            Step::Write { over: 6, record } => assert_eq!((&*record.holder, record.transitions), ("b", 1)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_deleted_lease_is_made_again() {
        let w = World::new();
        let mut a = w.one("a");
        w.carry(&mut a, 0.0, 5);
        // What does not know our write yet does not know that it is gone.
        a.missed(4);
        assert!(matches!(w.step(&a, 2.0), Step::Write { over: 5, .. }));
        a.missed(7);
        assert!(matches!(w.step(&a, 2.0), Step::Write { over: 0, .. }));
    }

    #[test]
    fn a_lost_race_is_tried_again_once_at_once() {
        let w = World::new();
        let mut a = w.one("a");
        let r = w.carry(&mut a, 0.0, 5);
        // Somebody put a label on it.
        a.lost(w.at(2.0));
        a.saw(6, r.clone(), w.at(2.0));
        assert!(matches!(w.step(&a, 2.0), Step::Write { over: 6, .. }));
        a.lost(w.at(2.0));
        a.saw(7, r, w.at(2.0));
        assert_eq!(w.step(&a, 2.0), Step::Wait(w.at(4.0)));
    }

    #[test]
    fn a_record_survives_its_lease() {
        let w = World::new();
        let r = Record {
            holder: "a".into(),
            lasts: 15 * SECOND,
            acquired: Some(w.time),
            renewed: Some(w.time),
            transitions: 3,
        };
        let mut v = json!({"metadata": {"name": "l"}, "spec": {"strategy": "OldestEmulationVersion"}});
        r.put(&mut v);
        assert_eq!(v["spec"]["strategy"], "OldestEmulationVersion");
        assert_eq!(v["spec"]["renewTime"], "2027-01-15T08:00:00.000000Z");
        let o = Object::from_value(v, 1).expect("object");
        assert_eq!(Record::of(&o), r);
        assert_eq!(Record::of(&Object::from_value(json!({}), 1).expect("object")), Record::default());
    }
}
