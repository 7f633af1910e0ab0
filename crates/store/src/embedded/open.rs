//! Opening: lock, format, newest snapshot, then the log behind it. Files are read and checked in parallel and replayed
//! in order. Only a last group that was provably never finished is dropped; any other fault is an error with its
//! place.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::codec::{Entry, Reader};
use super::format::{self, MIGRATIONS};
use super::fs::{Fs, is_full};
use super::log::{Log, Segment, file_number, make_segment, segment_name, snapshot_name};
use super::maintain::Files;
use super::segment::{self, GroupKind, SECTOR, Scan, Tail};
use super::snapshot::Snapshot;
use crate::memory::{View, tombstone};
use crate::{Error, Event, EventKind, Record, Revision};

pub(super) struct Opened {
    pub log: Log,
    pub files: Files,
    pub next_revision: Revision,
    /// The log's last group was torn: the segment gets a seal and no more.
    pub torn: bool,
}

pub(super) struct Found {
    pub snapshots: Vec<u64>,
    pub segments: Vec<u64>,
    /// Of no use any more.
    pub leftovers: Vec<PathBuf>,
}

pub(super) fn io_error(what: String) -> impl FnOnce(io::Error) -> Error {
    move |source| match is_full(&source) {
        true => Error::Full { path: what },
        false => Error::Io { what, source },
    }
}

fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> Error {
    Error::Damaged { path: path.display().to_string(), offset, why: why.into() }
}

pub(super) fn find(fs: &dyn Fs, dir: &Path) -> Result<Found, Error> {
    let mut found = Found { snapshots: Vec::new(), segments: Vec::new(), leftovers: Vec::new() };
    for name in fs.list(dir).map_err(io_error(format!("list {}", dir.display())))? {
        if name.ends_with(".tmp") {
            found.leftovers.push(dir.join(&name));
        } else if let Some(seq) = file_number(&name, ".log") {
            found.segments.push(seq);
        } else if let Some(seq) = file_number(&name, ".snap") {
            found.snapshots.push(seq);
        }
    }
    found.segments.sort_unstable();
    found.snapshots.sort_unstable();
    Ok(found)
}

pub(super) enum Piece {
    Chunk(Vec<Arc<Record>>),
    Segment { groups: Vec<Group>, scan: Scan, seed: u32, bytes: u64 },
}

/// A decoded group of the log.
pub(super) struct Group {
    place: u64,
    kind: GroupKind,
    reserve: Revision,
    time: u64,
    entries: Vec<Entry>,
}

fn decode(kind: GroupKind, sector: usize, payload: &[u8]) -> Result<Group, &'static str> {
    let mut r = Reader::new(payload);
    let (Some(reserve), Some(time)) = (r.u64(), r.u64()) else {
        return Err("a group is shorter than its head");
    };
    let mut entries = Vec::new();
    while !r.is_empty() {
        entries.push(r.entry().ok_or("a group holds something that is no entry")?);
    }
    Ok(Group { place: (sector * SECTOR) as u64, kind, reserve, time, entries })
}

/// Reads everything into the view, and makes the directory ready for writing.
pub(super) fn open(fs: &dyn Fs, dir: &Path, segment_bytes: u64, view: &mut View) -> Result<Opened, Error> {
    let sectors = (segment_bytes / SECTOR as u64) as usize;
    let version = format::read(fs, dir)?;
    if let Some(version) = version {
        format::settle(fs, dir, version, MIGRATIONS)?;
    }
    let found = find(fs, dir)?;
    if version.is_none() {
        remove(fs, &found.leftovers)?;
        return create(fs, dir, sectors, &found.snapshots, &found.segments);
    }
    let (opened, leftovers) = read(fs, dir, found, view)?;
    remove(fs, &leftovers)?;
    Ok(opened)
}

fn remove(fs: &dyn Fs, paths: &[PathBuf]) -> Result<(), Error> {
    paths.iter().try_for_each(|p| fs.remove(p).map_err(io_error(format!("remove {}", p.display()))))
}

/// Reads everything into the view and changes nothing; answers too which files are of no use any more.
pub(super) fn read(
    fs: &dyn Fs,
    dir: &Path,
    found: Found,
    view: &mut View,
) -> Result<(Opened, Vec<PathBuf>), Error> {
    let Found { snapshots, segments, mut leftovers } = found;
    let snapshot = match snapshots.last() {
        Some(seq) => Some((*seq, Snapshot::open(fs, &dir.join(snapshot_name(*seq)), *seq)?)),
        None => None,
    };
    let first = snapshot.as_ref().map_or(1, |(seq, _)| *seq);
    let needed: Vec<u64> = segments.iter().copied().filter(|seq| *seq >= first).collect();
    for (i, seq) in (first..).zip(needed.iter().map(Some).chain([None])).take(needed.len().max(1)) {
        if seq != Some(&i) {
            return Err(damaged(&dir.join(segment_name(i)), 0, "the file is missing"));
        }
    }
    let mut pieces = read_all(fs, dir, snapshot.as_ref().map(|(_, s)| s), &needed)?;
    let logs = pieces.split_off(snapshot.as_ref().map_or(0, |(_, s)| s.chunks()));
    let (mut began, mut ended, mut reserve) = (0, 0, 0);
    if let Some((seq, s)) = &snapshot {
        let mut records = Vec::with_capacity(s.count as usize);
        for piece in pieces {
            if let Piece::Chunk(chunk) = piece {
                records.extend(chunk);
            }
        }
        let sorted = records.is_sorted_by(|a, b| a.key < b.key);
        if records.len() as u64 != s.count || !sorted {
            return Err(damaged(
                &dir.join(snapshot_name(*seq)),
                s.bytes - 40,
                "records are missing or out of order",
            ));
        }
        view.load(records);
        (began, ended, reserve) = (s.began, s.ended, s.reserve);
        view.compacted = s.compacted;
    }
    let (log, mut files, last, reserve, torn) =
        replay(fs, dir, &needed, logs, view, (ended, reserve), &mut leftovers)?;
    if last.max(began) < ended {
        let name = dir.join(segment_name(log.active.seq));
        let offset = (log.next_sector * SECTOR) as u64;
        return Err(damaged(
            &name,
            offset,
            format!("the log ends at revision {last}, before its snapshot's {ended}"),
        ));
    }
    view.revision = view.revision.max(last).max(ended);
    view.base = ended;
    files.snapshot = snapshot.as_ref().map(|(seq, s)| (*seq, s.bytes));
    leftovers.extend(segments.iter().filter(|seq| **seq < first).map(|seq| dir.join(segment_name(*seq))));
    leftovers.extend(snapshots.iter().rev().skip(1).map(|seq| dir.join(snapshot_name(*seq))));
    let opened = Opened { log, files, next_revision: view.revision.max(reserve) + 1, torn };
    Ok((opened, leftovers))
}

/// A new directory, or one whose making was cut short. FORMAT comes last, so that without it nothing was answered.
fn create(
    fs: &dyn Fs,
    dir: &Path,
    sectors: usize,
    snapshots: &[u64],
    segments: &[u64],
) -> Result<Opened, Error> {
    let missing =
        || damaged(&dir.join(format::NAME), 0, "the file is missing though there is data beside it");
    if !snapshots.is_empty() || segments.iter().any(|seq| *seq > 1) {
        return Err(missing());
    }
    for seq in segments {
        let path = dir.join(segment_name(*seq));
        if let Piece::Segment { scan, .. } = read_segment(fs, &path, *seq, &mut Vec::new())?
            && (scan.groups > 0 || scan.tail != Tail::Clean)
        {
            return Err(missing());
        }
        fs.remove(&path).map_err(io_error(format!("remove {}", path.display())))?;
    }
    let what = || format!("create a store in {}", dir.display());
    let active = make_segment(fs, dir, 1, sectors, None).map_err(io_error(what()))?;
    format::write(fs, dir, format::known(MIGRATIONS)).map_err(io_error(what()))?;
    Ok(Opened {
        files: Files { next: None, segments: BTreeMap::from([(1, 0)]), active: 1, snapshot: None },
        log: Log { active, next_sector: 1, must_rotate: false, buffer: Vec::new() },
        next_revision: 1,
        torn: false,
    })
}

/// `buffer` is used again for the next segment.
pub(super) fn read_segment(fs: &dyn Fs, path: &Path, seq: u64, buffer: &mut Vec<u8>) -> Result<Piece, Error> {
    let name = path.display().to_string();
    let file = fs.open(path).map_err(io_error(format!("open {name}")))?;
    let bytes = file.len().map_err(io_error(format!("read {name}")))?;
    buffer.resize(bytes as usize, 0);
    file.read_at(buffer, 0).map_err(io_error(format!("read {name}")))?;
    let mut groups = Vec::new();
    let scan = segment::scan(buffer, seq, &name, |kind, sector, payload| {
        groups.push(decode(kind, sector, payload)?);
        Ok(())
    })?;
    let seed = segment::read_header(buffer, seq).map_err(|why| damaged(path, 0, why))?;
    Ok(Piece::Segment { groups, scan, seed, bytes })
}

/// Reads snapshot chunks and segments on all cores; answers them in order, chunks first.
fn read_all(
    fs: &dyn Fs,
    dir: &Path,
    snapshot: Option<&Snapshot>,
    segments: &[u64],
) -> Result<Vec<Piece>, Error> {
    let chunks = snapshot.map_or(0, Snapshot::chunks);
    let total = chunks + segments.len();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Piece, Error>)>> = Mutex::new(Vec::with_capacity(total));
    let work = || {
        let mut buffer = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let piece = match (snapshot, segments.get(i.wrapping_sub(chunks))) {
                (Some(s), _) if i < chunks => s.read(i).map(Piece::Chunk),
                (_, Some(seq)) => read_segment(fs, &dir.join(segment_name(*seq)), *seq, &mut buffer),
                _ => return,
            };
            done.lock().push((i, piece));
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8).min(total);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done.into_inner();
    done.sort_unstable_by_key(|(i, _)| *i);
    // The first fault in log order is the one to tell.
    done.into_iter().map(|(_, piece)| piece).collect()
}

type Replayed = (Log, Files, Revision, Revision, bool);

fn replay(
    fs: &dyn Fs,
    dir: &Path,
    seqs: &[u64],
    pieces: Vec<Piece>,
    view: &mut View,
    (ended, mut reserve): (Revision, Revision),
    leftovers: &mut Vec<PathBuf>,
) -> Result<Replayed, Error> {
    let mut files = Files { next: None, segments: BTreeMap::new(), active: 0, snapshot: None };
    let mut active: Option<(Log, bool)> = None;
    let mut last = 0;
    for (seq, piece) in seqs.iter().zip(pieces) {
        let Piece::Segment { groups, scan, seed, bytes } = piece else { continue };
        let path = dir.join(segment_name(*seq));
        let sectors = (bytes / SECTOR as u64) as usize;
        if let Some((log, _)) = &active {
            if scan.groups > 0 || scan.tail != Tail::Clean {
                let path = dir.join(segment_name(log.active.seq));
                let offset = (log.next_sector * SECTOR) as u64;
                return Err(damaged(
                    &path,
                    offset,
                    "its end is missing though the log goes on in the next segment",
                ));
            }
            // Made ahead and not used yet.
            if files.next.is_none() {
                let file = fs.open(&path).map_err(io_error(format!("open {}", path.display())))?;
                files.next = Some(Segment { file, seq: *seq, seed, sectors });
            } else {
                leftovers.push(path);
            }
            continue;
        }
        for g in groups {
            reserve = if g.kind == GroupKind::Close { g.reserve } else { g.reserve.max(reserve) };
            apply(g.entries, view, ended, g.time, &mut last).map_err(|why| damaged(&path, g.place, why))?;
        }
        files.segments.insert(*seq, bytes);
        if scan.tail != Tail::Sealed {
            files.active = *seq;
            let file = fs.open(&path).map_err(io_error(format!("open {}", path.display())))?;
            let segment = Segment { file, seq: *seq, seed, sectors };
            let log = Log { active: segment, next_sector: scan.end, must_rotate: false, buffer: Vec::new() };
            active = Some((log, scan.tail == Tail::Torn));
        }
    }
    match active {
        Some((log, torn)) => Ok((log, files, last, reserve, torn)),
        None => {
            let next = seqs.last().map_or(1, |seq| seq + 1);
            Err(damaged(&dir.join(segment_name(next)), 0, "the file is missing though the log goes on in it"))
        }
    }
}

/// Replays a group. Up to the end of the snapshot a change counts only where it is newer than what is there.
fn apply(
    entries: Vec<Entry>,
    view: &mut View,
    ended: Revision,
    time: u64,
    last: &mut Revision,
) -> Result<(), &'static str> {
    for entry in entries {
        let (kind, record) = match entry {
            Entry::Compact(revision) => {
                view.compact(revision);
                continue;
            }
            Entry::Put(record) => (EventKind::Put, record),
            Entry::Delete { key, revision } => (EventKind::Delete, tombstone(key, revision)),
        };
        if record.mod_revision < *last {
            return Err("revisions are out of order");
        }
        *last = record.mod_revision;
        if record.mod_revision <= ended {
            let newer = view.get(&record.key).is_none_or(|now| now.mod_revision < record.mod_revision);
            if newer {
                view.set(kind, &record);
            }
            continue;
        }
        let previous = view.set(kind, &record);
        view.remember(Event { kind, record, previous });
    }
    if view.revision > ended {
        view.trim(time);
    }
    Ok(())
}
