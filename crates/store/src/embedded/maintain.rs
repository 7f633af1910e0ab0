//! The maintenance thread: makes the next segment ahead, writes snapshots, removes or recycles what a snapshot covers.
//! Owns the list of files. Sleeps on a condition; nothing wakes it while nobody writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::fs::is_full;
use super::log::{Segment, make_segment, segment_name, snapshot_name};
use super::segment::SECTOR;
use super::{Core, Failure, snapshot};

/// Old segments kept for reuse.
const SPARES: usize = 2;

#[derive(Default)]
pub(super) struct Maintainer {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: Option<Segment>,
    next_seq: u64,
    sectors: usize,
    min_sectors: usize,
    wanted: bool,
    failed: Option<Failure>,
    probes: Vec<oneshot::Sender<Result<(), Failure>>>,
    /// All log files but `next`, with their bytes.
    segments: BTreeMap<u64, u64>,
    active: u64,
    sealed_bytes: u64,
    snapshot_due: bool,
    snapshot: Option<(u64, u64)>,
    spares: Vec<PathBuf>,
    waiting: Vec<oneshot::Sender<()>>,
    closing: bool,
}

/// What opening found.
pub(super) struct Files {
    pub next: Option<Segment>,
    pub segments: BTreeMap<u64, u64>,
    pub active: u64,
    pub snapshot: Option<(u64, u64)>,
}

impl Maintainer {
    pub fn set(&self, files: Files, sectors: usize) {
        let mut s = self.state.lock();
        s.next_seq = files.active + 1;
        s.wanted = files.next.is_none();
        s.sealed_bytes = files.segments.iter().filter(|(seq, _)| **seq != files.active).map(|(_, b)| b).sum();
        (s.next, s.segments, s.active, s.snapshot) =
            (files.next, files.segments, files.active, files.snapshot);
        s.sectors = sectors;
    }

    /// The next segment, waiting until it is made. For the commit thread.
    pub fn take_next(&self, min_sectors: usize) -> Result<Segment, Failure> {
        let mut s = self.state.lock();
        s.min_sectors = min_sectors;
        if s.next.as_ref().is_some_and(|n| n.sectors < min_sectors) {
            // Its successor of the same name takes its place.
            s.next = None;
        }
        if s.next.is_none() {
            s.failed = None;
            s.wanted = true;
            self.changed.notify_all();
        }
        loop {
            if let Some(next) = s.next.take() {
                s.next_seq = next.seq + 1;
                s.min_sectors = 0;
                s.wanted = true;
                self.changed.notify_all();
                return Ok(next);
            }
            if let Some(failed) = s.failed.clone() {
                return Err(failed);
            }
            self.changed.wait(&mut s);
        }
    }

    /// A segment taken and not used after all.
    pub fn give_back(&self, segment: Segment) {
        let mut s = self.state.lock();
        s.next_seq = segment.seq;
        s.next = Some(segment);
        s.wanted = false;
    }

    pub fn rotated(&self, old: &Segment, active: u64, live_bytes: u64, snapshot_bytes: u64) {
        let mut s = self.state.lock();
        let bytes = (old.sectors * SECTOR) as u64;
        s.segments.insert(old.seq, bytes);
        s.segments.insert(active, 0);
        s.active = active;
        s.sealed_bytes += bytes;
        if s.sealed_bytes >= live_bytes.max(snapshot_bytes) {
            s.snapshot_due = true;
            self.changed.notify_all();
        }
    }

    /// Asks whether the disk has room again. Nobody answers once the store is closing.
    pub fn probe(&self) -> oneshot::Receiver<Result<(), Failure>> {
        let (tx, rx) = oneshot::channel();
        let mut s = self.state.lock();
        if !s.closing {
            s.probes.push(tx);
            s.wanted = true;
            self.changed.notify_all();
        }
        rx
    }

    /// Starts a snapshot now; the answer comes when it is done (or has failed). Nobody answers once the store is closing.
    pub fn snapshot_now(&self) -> oneshot::Receiver<()> {
        let (tx, rx) = oneshot::channel();
        let mut s = self.state.lock();
        if !s.closing {
            s.snapshot_due = true;
            s.waiting.push(tx);
            self.changed.notify_all();
        }
        rx
    }

    pub fn close(&self) {
        self.state.lock().closing = true;
        self.changed.notify_all();
    }

    pub fn closing(&self) -> bool {
        self.state.lock().closing
    }

    pub fn bytes_on_disk(&self, segment_bytes: u64) -> u64 {
        let s = self.state.lock();
        let logs: u64 = s.segments.values().map(|b| (*b).max(segment_bytes)).sum();
        let next = s.next.as_ref().map_or(0, |n| (n.sectors * SECTOR) as u64);
        logs + next + s.spares.len() as u64 * segment_bytes + s.snapshot.map_or(0, |(_, bytes)| bytes)
    }
}

impl Core {
    /// The maintenance thread.
    pub fn maintain_loop(self: &Arc<Self>) {
        loop {
            self.serve_segment();
            let m = &self.maintainer;
            let mut s = m.state.lock();
            if s.closing {
                s.probes.clear();
                s.waiting.clear();
                s.next = None;
                return;
            }
            if s.wanted {
                continue;
            }
            if !s.snapshot_due {
                m.changed.wait(&mut s);
                continue;
            }
            s.snapshot_due = false;
            let waiting = std::mem::take(&mut s.waiting);
            let log_seq = s.active;
            drop(s);
            if let Err(e) = self.take_snapshot(log_seq) {
                let _ = self.fs.remove(&self.dir.join("snapshot.tmp"));
                tracing::warn!(error = %e, "a snapshot failed; the log goes on growing until one succeeds");
            }
            for w in waiting {
                let _ = w.send(());
            }
        }
    }

    /// Makes a segment if one is asked for. Also called between the chunks of a snapshot, so that writers do not wait
    /// for it.
    pub(super) fn serve_segment(&self) {
        let m = &self.maintainer;
        let mut s = m.state.lock();
        if !s.wanted {
            return;
        }
        s.wanted = false;
        let mut outcome = Ok(());
        if s.next.is_none() {
            let sectors = s.sectors.max(s.min_sectors);
            let (seq, spare) = (s.next_seq, s.spares.pop());
            drop(s);
            let made = make_segment(&*self.fs, &self.dir, seq, sectors, spare);
            self.fsyncs.fetch_add(2, Ordering::Relaxed);
            s = m.state.lock();
            match made {
                Ok(segment) => {
                    s.failed = None;
                    s.next = Some(segment);
                }
                Err(e) => {
                    let path = self.dir.join(segment_name(seq)).display().to_string();
                    let failure = if is_full(&e) {
                        Failure::Full(path)
                    } else {
                        Failure::Stopped(format!("a log segment could not be made at {path}: {e}"))
                    };
                    s.failed = Some(failure.clone());
                    outcome = Err(failure);
                }
            }
        }
        for p in s.probes.drain(..) {
            let _ = p.send(outcome.clone());
        }
        m.changed.notify_all();
    }

    fn take_snapshot(&self, log_seq: u64) -> Result<(), crate::Error> {
        // `log_seq` was read first: all that is not in the view yet lies in that segment or later.
        let Some(bytes) = snapshot::write(self, log_seq)? else { return Ok(()) };
        let mut s = self.maintainer.state.lock();
        let older = s.snapshot.replace((log_seq, bytes));
        let mut covered = s.segments.split_off(&log_seq);
        std::mem::swap(&mut covered, &mut s.segments);
        s.sealed_bytes = s.segments.iter().filter(|(seq, _)| **seq != s.active).map(|(_, b)| b).sum();
        let free = SPARES.saturating_sub(s.spares.len());
        drop(s);
        let io = |what: &str| {
            let what = format!("{what} in {}", self.dir.display());
            move |source| crate::Error::Io { what, source }
        };
        if let Some((old, _)) = older.filter(|(old, _)| *old != log_seq) {
            self.fs.remove(&self.dir.join(snapshot_name(old))).map_err(io("remove an old snapshot"))?;
        }
        let mut spares = Vec::new();
        for (seq, bytes) in covered {
            let path = self.dir.join(segment_name(seq));
            if spares.len() < free && bytes == self.segment_bytes {
                let spare = self.dir.join(format!("spare-{seq}.tmp"));
                self.fs.rename(&path, &spare).map_err(io("rename an old log segment"))?;
                spares.push(spare);
            } else {
                self.fs.remove(&path).map_err(io("remove an old log segment"))?;
            }
        }
        // Before a spare is overwritten its old name must be gone for good.
        self.fs.sync_dir(&self.dir).map_err(io("sync the directory"))?;
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.maintainer.state.lock().spares.extend(spares);
        Ok(())
    }
}
