//! The judge: whether a correct store could have said all that. Pure.
//!
//! 1. The scribe's log orders all writes. Each answered write is in it, at its revision, with just its changes; whatever
//!    else is in it is a write without an answer (each at most once) or the end of a record by its TTL.
//! 2. Each answer fits the state at its revision: conditions, results, lists with their counts, watches without gap,
//!    repetition or split revision.
//! 3. Real time: a call that began after another one had ended lies behind it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::replay::{Entry, Log};
use super::{Answer, Call, Condition, Deed, History, Item, Listed, Seen, Step, Watched};
use crate::Revision;

/// How much was judged.
#[derive(Debug, Default, Clone, Copy)]
pub struct Verdict {
    pub calls: usize,
    pub writes: usize,
    /// Without an answer, and done all the same.
    pub unanswered: usize,
    pub events: usize,
}

pub fn judge(h: &History) -> Result<Verdict, String> {
    let log = Log::of(&h.scribe)?;
    let mut j = Judge { h, log, owner: Vec::new(), verdict: Verdict::default() };
    j.owner = vec![None; j.log.entries.len()];
    j.answered_writes()?;
    j.unanswered_writes()?;
    for call in &h.calls {
        j.fits(call).map_err(|why| format!("{why}: {call:?}"))?;
    }
    j.real_time()?;
    for w in h.scribe.iter().chain(&h.watches) {
        j.watched(w).map_err(|why| format!("{why}, by the watch of {:?} from {}", w.prefix, w.from))?;
    }
    j.verdict.calls = h.calls.len();
    Ok(j.verdict)
}

struct Judge<'a> {
    h: &'a History,
    log: Log,
    /// Which call each entry is of.
    owner: Vec<Option<usize>>,
    verdict: Verdict,
}

/// What a branch leaves behind, given the results of its steps; `None` for a key that was deleted.
fn effect(steps: &[Step], results: &[Option<Seen>]) -> BTreeMap<String, Option<Seen>> {
    let mut all = BTreeMap::new();
    for (step, result) in steps.iter().zip(results) {
        match step {
            Step::Put { key, .. } => {
                all.insert(key.clone(), result.clone());
            }
            Step::Delete { key } if result.is_some() => {
                all.insert(key.clone(), None);
            }
            _ => {}
        }
    }
    all
}

impl Judge<'_> {
    fn own(&mut self, entry: usize, call: usize) -> Result<(), String> {
        match self.owner[entry].replace(call) {
            None => Ok(()),
            Some(other) => Err(format!(
                "revision {} was given twice: {:?} and {:?}",
                self.log.entries[entry].revision, self.h.calls[other], self.h.calls[call]
            )),
        }
    }

    fn answered_writes(&mut self) -> Result<(), String> {
        for (i, call) in self.h.calls.iter().enumerate() {
            let Deed::Write { then, otherwise, answer: Some(a), .. } = &call.deed else { continue };
            let steps = if a.succeeded { then } else { otherwise };
            let effect = effect(steps, &a.results);
            if effect.is_empty() {
                continue;
            }
            self.verdict.writes += 1;
            match self.log.at(a.revision) {
                Some((at, entry)) if entry.changes == effect => self.own(at, i)?,
                found => {
                    let found = found.map(|(_, e)| &e.changes);
                    return Err(format!(
                        "an answered write is not what was told of its revision: {call:?} and {found:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Finds out which of the writes without an answer have happened.
    fn unanswered_writes(&mut self) -> Result<(), String> {
        let mut by_value: HashMap<&str, usize> = HashMap::new();
        let mut deletes: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, call) in self.h.calls.iter().enumerate() {
            let Deed::Write { then, otherwise, answer: None, .. } = &call.deed else { continue };
            for step in then.iter().chain(otherwise) {
                match step {
                    Step::Put { value, .. } => {
                        by_value.insert(value, i);
                    }
                    Step::Delete { key } => deletes.entry(key).or_default().push(i),
                    Step::Get { .. } => {}
                }
            }
        }
        let mut taken = HashSet::new();
        for at in 0..self.log.entries.len() {
            if self.owner[at].is_some() {
                continue;
            }
            let entry = &self.log.entries[at];
            let told =
                || format!("nobody wrote what was told of revision {}: {:?}", entry.revision, entry.changes);
            let put = entry.changes.values().flatten().next();
            let mut found = put.and_then(|s| by_value.get(s.value.as_str()).copied());
            if put.is_none() {
                let key = entry.changes.keys().next().ok_or_else(told)?;
                if self.expired(entry) {
                    continue;
                }
                let free = |i: &&usize| {
                    !taken.contains(*i) && self.h.calls[**i].start < entry.heard && self.could(**i, entry)
                };
                // Whichever it was, the one that began first could have been it.
                let all = deletes.get(key.as_str()).into_iter().flatten();
                found = all.filter(free).min_by_key(|i| self.h.calls[**i].start).copied();
            }
            let i = found.ok_or_else(told)?;
            if !taken.insert(i) {
                return Err(format!(
                    "{:?} happened twice, the second time at {}",
                    self.h.calls[i], entry.revision
                ));
            }
            if !self.could(i, entry) {
                return Err(format!(
                    "{:?} can't have done what was told of {}",
                    self.h.calls[i], entry.revision
                ));
            }
            self.own(at, i)?;
            self.verdict.unanswered += 1;
        }
        Ok(())
    }

    /// Whether a write, had it happened at that revision, would have left this behind.
    fn could(&self, call: usize, entry: &Entry) -> bool {
        let Deed::Write { conditions, then, otherwise, .. } = &self.h.calls[call].deed else { return false };
        let before = entry.revision - 1;
        let steps = if self.hold(conditions, before) { then } else { otherwise };
        let mut want: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Put { key, value, .. } => {
                    want.insert(key, Some(value));
                }
                Step::Delete { key } if self.log.state(key, before).is_some() => {
                    want.insert(key, None);
                }
                _ => {}
            }
        }
        let is = entry.changes.iter().map(|(k, s)| (k.as_str(), s.as_ref().map(|s| s.value.as_str())));
        want.into_iter().eq(is)
    }

    fn hold(&self, conditions: &[Condition], at: Revision) -> bool {
        conditions.iter().all(|(key, r)| self.log.state(key, at).map_or(0, |s| s.modified) == *r)
    }

    /// Whether an entry is the end of one record that was put with a TTL.
    fn expired(&self, entry: &Entry) -> bool {
        let Some((key, None)) = entry.changes.iter().next() else { return false };
        let Some(state) = self.log.state(key, entry.revision - 1) else { return false };
        let with_ttl =
            |step: &Step| matches!(step, Step::Put { value, ttl: Some(_), .. } if *value == state.value);
        entry.changes.len() == 1
            && self.h.calls.iter().any(|c| match &c.deed {
                Deed::Write { then, otherwise, .. } => then.iter().chain(otherwise).any(with_ttl),
                _ => false,
            })
    }

    fn fits(&self, call: &Call) -> Result<(), String> {
        match &call.deed {
            Deed::Write { conditions, then, otherwise, answer: Some(a), .. } => {
                let steps = if a.succeeded { then } else { otherwise };
                let wrote = !effect(steps, &a.results).is_empty();
                let before = if wrote { a.revision - 1 } else { a.revision };
                if self.hold(conditions, before) != a.succeeded {
                    return Err("the conditions did not decide".into());
                }
                self.results(steps, a, before)?;
                self.past(call, before)
            }
            Deed::Get { key, found } => {
                let at = found.as_ref().map_or(0, |s| s.modified);
                if found.is_some() && self.log.state(key, at) != found.as_ref() {
                    return Err("such a state was never there".into());
                }
                self.past(call, at)
            }
            Deed::List { prefix, limit, at, listed, .. } => {
                if at.is_some_and(|at| at != listed.revision) {
                    return Err("another revision was asked for".into());
                }
                self.list(prefix, *limit, listed)?;
                self.past(call, listed.revision)
            }
            Deed::Forgotten { at } => match *at < self.h.compacted || self.h.may_forget {
                true => Ok(()),
                false => Err("nobody asked to forget that".into()),
            },
            _ => Ok(()),
        }
    }

    /// Each step's result, as the steps before it have left the state.
    fn results(&self, steps: &[Step], a: &Answer, before: Revision) -> Result<(), String> {
        let mut own: HashMap<&str, Option<&Seen>> = HashMap::new();
        if steps.len() != a.results.len() {
            return Err("results are missing".into());
        }
        for (step, result) in steps.iter().zip(&a.results) {
            let key = step.key();
            let now = own.get(key).copied().unwrap_or_else(|| self.log.state(key, before));
            match (step, result) {
                (Step::Put { value, .. }, Some(s)) => {
                    let good = s.value == *value
                        && s.modified == a.revision
                        && s.create == now.map_or(a.revision, |n| n.create)
                        && s.version == now.map_or(0, |n| n.version) + 1;
                    if !good {
                        return Err(format!("{s:?} was put over {now:?}"));
                    }
                    own.insert(key, Some(s));
                }
                (Step::Put { .. }, None) => return Err("a put has no record".into()),
                (Step::Delete { .. } | Step::Get { .. }, found) if found.as_ref() != now => {
                    return Err(format!("{key} was {now:?}, not {found:?}"));
                }
                (Step::Delete { .. }, _) => {
                    own.insert(key, None);
                }
                (Step::Get { .. }, _) => {}
            }
        }
        Ok(())
    }

    fn list(&self, prefix: &str, limit: usize, l: &Listed) -> Result<(), String> {
        let all = self.log.all(prefix, l.revision);
        let shown = if limit == 0 { all.len() } else { limit.min(all.len()) };
        let same = l.records.iter().map(|(k, s)| (k.as_str(), s)).eq(all.iter().copied().take(shown));
        if !same || l.count != all.len() as u64 || l.more != (shown < all.len()) {
            return Err(format!("the list at {} was {all:?}", l.revision));
        }
        Ok(())
    }

    /// What a call saw had begun before the call ended.
    fn past(&self, call: &Call, seen: Revision) -> Result<(), String> {
        let upto = self.log.up_to(seen);
        let future = self.owner[..upto].iter().flatten().find(|i| self.h.calls[**i].start > call.end);
        match future {
            Some(i) => Err(format!("it saw what was begun later: {:?}", self.h.calls[*i])),
            None => Ok(()),
        }
    }

    /// Walks through all beginnings and ends in order.
    fn real_time(&self) -> Result<(), String> {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (i, c) in self.h.calls.iter().enumerate() {
            moments.extend([(c.start, false, i), (c.end, true, i)]);
        }
        moments.sort_unstable();
        let unanswered: HashMap<usize, Revision> =
            self.owner.iter().zip(&self.log.entries).filter_map(|(o, e)| Some(((*o)?, e.revision))).collect();
        // The newest revision that somebody has been told of, and what each call must not fall behind.
        let mut newest = 0;
        let mut floors: HashMap<usize, Revision> = HashMap::new();
        for (_, end, i) in moments {
            if !end {
                floors.insert(i, newest);
                continue;
            }
            let call = &self.h.calls[i];
            let floor = floors.remove(&i).unwrap_or(0);
            let behind = |at: Revision| {
                Err(format!("{at} is behind {floor}, which was told before it began: {call:?}"))
            };
            match &call.deed {
                Deed::Write { then, otherwise, answer: Some(a), .. } => {
                    let steps = if a.succeeded { then } else { otherwise };
                    let wrote = !effect(steps, &a.results).is_empty();
                    if a.revision < floor || (wrote && a.revision == floor) {
                        return behind(a.revision);
                    }
                    newest = newest.max(a.revision);
                }
                Deed::Write { answer: None, .. } => {
                    if let Some(at) = unanswered.get(&i).filter(|at| **at <= floor) {
                        return behind(*at);
                    }
                }
                Deed::Get { key, found: Some(s) } => {
                    let (_, next) = self.log.span(key, s.modified);
                    if next <= floor {
                        return behind(s.modified);
                    }
                    newest = newest.max(s.modified);
                }
                Deed::Get { key, found: None } => {
                    // Gone at some revision between what was told before and now.
                    let mut at = floor;
                    while self.log.state(key, at).is_some() {
                        let (_, next) = self.log.span(key, at);
                        let begun = self.log.at(next).and_then(|(e, _)| self.owner[e]);
                        if next == Revision::MAX || begun.is_some_and(|o| self.h.calls[o].start > call.end) {
                            return Err(format!("{key} was there all the time: {call:?}"));
                        }
                        at = next;
                    }
                    newest = newest.max(self.log.span(key, at).0);
                }
                Deed::List { at: None, known: false, listed, .. } => {
                    if listed.revision < floor {
                        return behind(listed.revision);
                    }
                    newest = newest.max(listed.revision);
                }
                Deed::List { at: Some(_), .. } | Deed::List { known: true, .. } => {}
                Deed::Forgotten { .. } | Deed::Compact { .. } => {}
            }
        }
        Ok(())
    }

    fn watched(&mut self, w: &Watched) -> Result<(), String> {
        if w.forgotten && w.from > self.h.compacted && !self.h.may_forget {
            return Err("history is gone, and nobody asked to forget it".into());
        }
        let mut next = self.log.up_to(w.from.saturating_sub(1));
        let mut newest = w.from.saturating_sub(1);
        for (heard, item) in &w.items {
            let changes = match item {
                Item::Progress(to) => {
                    if *to < newest {
                        return Err(format!("progress went back from {newest} to {to}"));
                    }
                    // What came after the scribe's end is not known.
                    self.skip(w, &mut next, (*to).min(self.h.end))?;
                    newest = *to;
                    continue;
                }
                Item::Changes(changes) => changes,
            };
            let mut changes = changes.iter().peekable();
            while let Some(first) = changes.peek() {
                let at = first.revision;
                if at > self.h.end {
                    return Ok(());
                }
                if at <= newest {
                    return Err(format!("revision {at} came after {newest}, or in parts"));
                }
                self.skip(w, &mut next, at - 1)?;
                let Some((e, entry)) = self.log.at(at) else {
                    return Err(format!("revision {at} came, of which the scribe never heard"));
                };
                if self.owner[e].is_some_and(|o| self.h.calls[o].start > *heard) {
                    return Err(format!("revision {at} came before it was written"));
                }
                let mut told = BTreeMap::new();
                while let Some(c) = changes.next_if(|c| c.revision == at) {
                    if self.log.state(&c.key, at - 1) != c.before.as_ref() {
                        return Err(format!(
                            "the previous state of {} at {at} came as {:?}",
                            c.key, c.before
                        ));
                    }
                    if told.insert(c.key.clone(), c.now.clone()).is_some() {
                        return Err(format!("{} came twice at {at}", c.key));
                    }
                    self.verdict.events += 1;
                }
                let want = entry.changes.iter().filter(|(k, _)| k.starts_with(&w.prefix));
                if !want.eq(told.iter()) {
                    return Err(format!("of revision {at} came {told:?}, not {:?}", entry.changes));
                }
                (next, newest) = (e + 1, at);
            }
        }
        Ok(())
    }

    /// What lies up to a revision must be none of the watch's.
    fn skip(&self, w: &Watched, next: &mut usize, to: Revision) -> Result<(), String> {
        while let Some(e) = self.log.entries.get(*next).filter(|e| e.revision <= to) {
            if e.changes.keys().any(|k| k.starts_with(&w.prefix)) {
                return Err(format!("revision {} never came", e.revision));
            }
            *next += 1;
        }
        Ok(())
    }
}
