//! The log of all writes as the scribe was told it, and the state of every key at every revision that follows from it.
//! Pure.

use std::collections::{BTreeMap, HashMap};

use super::{Item, Seen, Watched};
use crate::Revision;

pub(super) struct Entry {
    pub revision: Revision,
    pub changes: BTreeMap<String, Option<Seen>>,
    /// When the scribe heard of it.
    pub heard: u64,
}

pub(super) struct Log {
    pub entries: Vec<Entry>,
    /// By key: its states with the revisions at which they began.
    states: HashMap<String, Vec<(Revision, Option<Seen>)>>,
}

impl Log {
    /// Puts the scribe's watches together.
    pub fn of(scribe: &[Watched]) -> Result<Self, String> {
        let mut log = Self { entries: Vec::new(), states: HashMap::new() };
        let mut last = 0;
        for (heard, item) in scribe.iter().flat_map(|w| &w.items) {
            let changes = match item {
                Item::Progress(_) => continue,
                Item::Changes(changes) => changes,
            };
            if changes.first().is_some_and(|c| c.revision <= last) {
                return Err(format!("the scribe heard of revision {} after {last}", changes[0].revision));
            }
            for c in changes {
                if c.revision < last {
                    return Err(format!("the scribe heard of revision {} after {last}", c.revision));
                }
                if c.revision > last {
                    log.entries.push(Entry { revision: c.revision, changes: BTreeMap::new(), heard: *heard });
                    last = c.revision;
                }
                if log.state(&c.key, last) != c.before.as_ref() {
                    return Err(format!(
                        "the previous state of {} at {last} is told as {:?}",
                        c.key, c.before
                    ));
                }
                log.fits(&c.key, last, c.now.as_ref())?;
                let Some(entry) = log.entries.last_mut() else { continue };
                if entry.changes.insert(c.key.clone(), c.now.clone()).is_some() {
                    return Err(format!("{} changes twice at {last}", c.key));
                }
                log.states.entry(c.key.clone()).or_default().push((last, c.now.clone()));
            }
        }
        Ok(log)
    }

    /// A new state's counters follow from the old one.
    fn fits(&self, key: &str, at: Revision, now: Option<&Seen>) -> Result<(), String> {
        let before = self.state(key, at);
        let Some(now) = now else {
            return match before {
                Some(_) => Ok(()),
                None => Err(format!("{key} is deleted at {at} and was not there")),
            };
        };
        let create = before.map_or(at, |b| b.create);
        let version = before.map_or(0, |b| b.version) + 1;
        if (now.create, now.modified, now.version) != (create, at, version) {
            return Err(format!("{key} at {at} is told as {now:?}, after {before:?}"));
        }
        Ok(())
    }

    pub fn state(&self, key: &str, at: Revision) -> Option<&Seen> {
        let states = self.states.get(key)?;
        let n = states.partition_point(|(r, _)| *r <= at);
        states.get(n.checked_sub(1)?)?.1.as_ref()
    }

    /// When the state that a key has at a revision came about, and when the next one did.
    pub fn span(&self, key: &str, at: Revision) -> (Revision, Revision) {
        let Some(states) = self.states.get(key) else { return (0, Revision::MAX) };
        let n = states.partition_point(|(r, _)| *r <= at);
        let began = n.checked_sub(1).and_then(|i| states.get(i)).map_or(0, |(r, _)| *r);
        (began, states.get(n).map_or(Revision::MAX, |(r, _)| *r))
    }

    /// All keys with a prefix as they are at a revision, in order.
    pub fn all(&self, prefix: &str, at: Revision) -> Vec<(&str, &Seen)> {
        let keys = self.states.keys().filter(|k| k.starts_with(prefix));
        let mut all: Vec<_> = keys.filter_map(|k| Some((k.as_str(), self.state(k, at)?))).collect();
        all.sort_unstable_by_key(|(k, _)| *k);
        all
    }

    pub fn at(&self, revision: Revision) -> Option<(usize, &Entry)> {
        let i = self.entries.binary_search_by_key(&revision, |e| e.revision).ok()?;
        Some((i, self.entries.get(i)?))
    }

    /// How many entries lie at or before a revision.
    pub fn up_to(&self, revision: Revision) -> usize {
        self.entries.partition_point(|e| e.revision <= revision)
    }
}
