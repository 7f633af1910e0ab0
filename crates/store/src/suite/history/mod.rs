//! Histories: clients work on a store while faults strike, everything they were told is written down, and a judge decides
//! whether any correct store could have said it. Revisions make that easy to decide: they order all writes, so what is
//! left to check is that every answer fits its place in that order, and the order fits real time.
//!
//! `load` is the clients, `judge` the judge (pure), `replay` the log of writes that it works on, `faulty` are stores that it
//! must reject. An engine's tests bring the faults. Spawns a task for each client and watcher, which end with the history.

pub mod faulty;
mod judge;
mod load;
mod replay;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::judge::judge;
pub use self::load::{FORGOTTEN, Stage, Work, run};
use crate::{Record, Revision};

/// A state of a key, as somebody was told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub value: String,
    pub create: Revision,
    pub modified: Revision,
    pub version: u64,
}

impl Seen {
    pub fn of(r: &Record) -> Self {
        Self {
            value: String::from_utf8_lossy(&r.value).into_owned(),
            create: r.create_revision,
            modified: r.mod_revision,
            version: r.version,
        }
    }

    pub fn maybe(r: Option<&Arc<Record>>) -> Option<Self> {
        r.map(|r| Self::of(r))
    }
}

/// One step of a transaction. Values are never used twice, so they tell whose write it was.
#[derive(Debug, Clone)]
pub enum Step {
    Put { key: String, value: String, ttl: Option<u64> },
    Delete { key: String },
    Get { key: String },
}

impl Step {
    pub fn key(&self) -> &str {
        match self {
            Step::Put { key, .. } | Step::Delete { key } | Step::Get { key } => key,
        }
    }
}

/// `(key, revision)`: the key must have been changed last at that revision; 0: must be missing.
pub type Condition = (String, Revision);

#[derive(Debug, Clone)]
pub struct Answer {
    pub succeeded: bool,
    pub revision: Revision,
    /// Per step of the branch taken: the record put, deleted or read.
    pub results: Vec<Option<Seen>>,
}

#[derive(Debug, Clone)]
pub struct Listed {
    pub revision: Revision,
    pub records: Vec<(String, Seen)>,
    pub count: u64,
    pub more: bool,
}

/// What was asked, and what came back. Calls that failed are left out, but for writes, which may have happened.
#[derive(Debug, Clone)]
pub enum Deed {
    Write {
        conditions: Vec<Condition>,
        then: Vec<Step>,
        otherwise: Vec<Step>,
        /// `None`: an error, or no answer at all.
        answer: Option<Answer>,
    },
    Get {
        key: String,
        found: Option<Seen>,
    },
    List {
        prefix: String,
        limit: usize,
        at: Option<Revision>,
        /// What one server knows, which may be old.
        known: bool,
        listed: Listed,
    },
    /// Refused as compacted.
    Forgotten {
        at: Revision,
    },
    Compact {
        revision: Revision,
    },
}

/// A call with the moments of its beginning and its end, on one clock for the whole history.
#[derive(Debug, Clone)]
pub struct Call {
    pub client: usize,
    pub start: u64,
    pub end: u64,
    pub deed: Deed,
}

/// One change as a watcher was told it.
#[derive(Debug, Clone)]
pub struct Told {
    pub key: String,
    pub revision: Revision,
    /// `None`: deleted.
    pub now: Option<Seen>,
    pub before: Option<Seen>,
}

#[derive(Debug, Clone)]
pub enum Item {
    Changes(Vec<Told>),
    Progress(Revision),
}

/// What one watch said, from its first revision to its end, with the moments.
#[derive(Debug, Clone)]
pub struct Watched {
    pub prefix: String,
    pub from: Revision,
    pub items: Vec<(u64, Item)>,
    /// Refused, or ended, because history was gone.
    pub forgotten: bool,
}

#[derive(Debug, Clone, Default)]
pub struct History {
    pub calls: Vec<Call>,
    /// One watch over everything, from the beginning to the end; it may be several one after another.
    pub scribe: Vec<Watched>,
    pub watches: Vec<Watched>,
    /// The scribe heard of everything up to here.
    pub end: Revision,
    /// Newest revision that a compaction was asked for.
    pub compacted: Revision,
    /// Whether history may be gone for other reasons: a store that keeps it in memory was opened again.
    pub may_forget: bool,
}

/// How many histories a test runs, and from which seed on. `make soak` asks for more by the environment: `HISTORIES`,
/// `HISTORIES_SEED`, and a directory `HISTORIES_STATE` in which the next seed is kept, so that a run that was ended goes on.
pub struct Plan {
    pub seeds: std::ops::Range<u64>,
    first: u64,
    state: Option<PathBuf>,
}

impl Plan {
    pub fn of(engine: &str, usual: u64) -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
        let first = number("HISTORIES_SEED").unwrap_or(1);
        let end = first + number("HISTORIES").unwrap_or(usual);
        let state = std::env::var_os("HISTORIES_STATE").map(|dir| PathBuf::from(dir).join(engine));
        let kept = state.as_ref().and_then(|p| std::fs::read_to_string(p).ok());
        // Where it began, and where it goes on.
        let next = kept.and_then(|t| {
            let (of, next) = t.trim().split_once(' ')?;
            (of.parse() == Ok(first)).then(|| next.parse::<u64>().ok()).flatten()
        });
        Self { seeds: next.unwrap_or(first).clamp(first, end)..end, first, state }
    }

    /// All seeds before this one are done.
    pub fn done(&self, next: u64) {
        if let Some(path) = &self.state {
            let _ = path.parent().map(std::fs::create_dir_all);
            std::fs::write(path, format!("{} {next}\n", self.first)).expect("the state of the histories");
        }
    }
}

/// Numbers that follow from a seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        // splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
