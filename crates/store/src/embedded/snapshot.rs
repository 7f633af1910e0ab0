//! Snapshots: all current records in key order, written in the background while writes go on, and read in parallel.
//!
//! The writer holds the view's read lock for a chunk at a time and clones nothing but `Arc`s, so a snapshot is not one
//! instant: it began at revision `began` and ended at `ended`. Replaying the log from `began` on, taking a change only
//! where it is newer than the record at hand, gives the exact state at `ended`. The end marker counts the records; a
//! file without it is never given its name.

use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crc32fast::Hasher;

use super::codec::{self, Entry, Reader};
use super::fs::{File, is_full};
use super::log::{random_seed, snapshot_name};
use super::{Core, Failure, RESERVE};
use crate::{Error, Record, Revision};

const MAGIC: &[u8; 8] = b"KELSNAP1";
const HEADER: usize = 32;
pub(super) const CHUNK: usize = 256 << 10;
const END: u32 = u32::MAX;
/// Synced in between, so that the last sync does not stall the log's.
const SYNC_EVERY: u64 = 8 << 20;

fn crc(seed: u32, index: u64, len: u32, payload: &[u8]) -> u32 {
    let mut h = Hasher::new_with_initial(seed);
    h.update(&index.to_le_bytes());
    h.update(&len.to_le_bytes());
    h.update(payload);
    h.finalize()
}

fn header(log_seq: u64, began: Revision, seed: u32) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[..8].copy_from_slice(MAGIC);
    out[8..16].copy_from_slice(&log_seq.to_le_bytes());
    out[16..24].copy_from_slice(&began.to_le_bytes());
    out[24..28].copy_from_slice(&seed.to_le_bytes());
    let mut h = Hasher::new();
    h.update(&out[..28]);
    out[28..].copy_from_slice(&h.finalize().to_le_bytes());
    out
}

/// A snapshot file that is being written: header, chunks, end marker. What goes in, in key order, is up to the caller.
pub(super) struct Sheet {
    file: Box<dyn File>,
    seed: u32,
    index: u64,
    count: u64,
    pub at: u64,
    out: Vec<u8>,
}

impl Sheet {
    pub fn begin(file: Box<dyn File>, log_seq: u64, began: Revision) -> io::Result<Self> {
        let seed = random_seed();
        file.write_at(&header(log_seq, began, seed), 0)?;
        let out = Vec::with_capacity(CHUNK * 2);
        Ok(Self { file, seed, index: 0, count: 0, at: HEADER as u64, out })
    }

    pub fn chunk<'r>(&mut self, records: impl IntoIterator<Item = &'r Record>) -> io::Result<()> {
        let out = &mut self.out;
        out.clear();
        out.resize(8, 0);
        for r in records {
            codec::put(out, r);
            self.count += 1;
        }
        let len = (out.len() - 8) as u32;
        let sum = crc(self.seed, self.index, len, &out[8..]);
        out[..4].copy_from_slice(&len.to_le_bytes());
        out[4..8].copy_from_slice(&sum.to_le_bytes());
        self.file.write_at(out, self.at)?;
        self.at += out.len() as u64;
        self.index += 1;
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Makes it whole and durable, but for its name. Answers its bytes.
    pub fn end(self, ended: Revision, compacted: Revision, reserve: Revision) -> io::Result<u64> {
        let mut end = Vec::with_capacity(32);
        [self.count, ended, compacted, reserve].iter().for_each(|n| end.extend_from_slice(&n.to_le_bytes()));
        let mut out = END.to_le_bytes().to_vec();
        out.extend_from_slice(&crc(self.seed, self.index, END, &end).to_le_bytes());
        out.extend_from_slice(&end);
        self.file.write_at(&out, self.at)?;
        self.file.sync()?;
        Ok(self.at + out.len() as u64)
    }
}

/// Writes a snapshot that needs the log from `log_seq` on. Answers its bytes, or `None` when the engine closes.
pub(super) fn write(core: &Core, log_seq: u64) -> Result<Option<u64>, Error> {
    let tmp = core.dir.join("snapshot.tmp");
    let failed = |source: io::Error| {
        if is_full(&source) {
            Failure::Full(tmp.display().to_string()).into()
        } else {
            Error::Io { what: format!("write {}", tmp.display()), source }
        }
    };
    let file = core.fs.create(&tmp).map_err(failed)?;
    let began = core.view.read().revision;
    let mut sheet = Sheet::begin(file, log_seq, began).map_err(failed)?;
    let mut synced = 0;
    let mut last: Option<Arc<str>> = None;
    let mut batch: Vec<Arc<Record>> = Vec::new();
    loop {
        {
            let view = core.view.read();
            let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut size = 0;
            for record in view.range((from, Bound::Unbounded)) {
                size += record.key.len() + record.value.len() + 64;
                batch.push(record.clone());
                if size >= CHUNK {
                    break;
                }
            }
        }
        let Some(newest) = batch.last() else { break };
        last = Some(newest.key.clone());
        sheet.chunk(batch.iter().map(|r| &**r)).map_err(failed)?;
        batch.clear();
        if sheet.at - synced > SYNC_EVERY {
            sheet.sync().map_err(failed)?;
            core.fsyncs.fetch_add(1, Ordering::Relaxed);
            synced = sheet.at;
        }
        core.serve_segment();
        if core.maintainer.closing() {
            let _ = core.fs.remove(&tmp);
            return Ok(None);
        }
    }
    let (ended, compacted) = {
        let view = core.view.read();
        (view.revision, view.compacted)
    };
    // The log this snapshot needs may turn out empty, and then knows of no reserve.
    let reserve = core.pending.lock().next_revision + RESERVE;
    let bytes = sheet.end(ended, compacted, reserve).map_err(failed)?;
    core.fs.rename(&tmp, &core.dir.join(snapshot_name(log_seq))).map_err(failed)?;
    core.fs.sync_dir(&core.dir).map_err(failed)?;
    core.fsyncs.fetch_add(2, Ordering::Relaxed);
    Ok(Some(bytes))
}

/// A snapshot file whose frame was walked; chunks are read and checked one by one, by whoever likes.
pub(super) struct Snapshot {
    file: Box<dyn File>,
    path: String,
    seed: u32,
    pub began: Revision,
    pub ended: Revision,
    pub compacted: Revision,
    pub reserve: Revision,
    pub count: u64,
    pub bytes: u64,
    /// (offset of the payload, length, checksum)
    chunks: Vec<(u64, u32, u32)>,
}

impl Snapshot {
    pub fn open(fs: &dyn super::fs::Fs, path: &Path, log_seq: u64) -> Result<Self, Error> {
        let name = path.display().to_string();
        let io = |source| Error::Io { what: format!("read {name}"), source };
        let damaged =
            |offset: u64, why: &str| Error::Damaged { path: name.clone(), offset, why: why.to_owned() };
        let file = fs.open(path).map_err(io)?;
        let bytes = file.len().map_err(io)?;
        let mut head = [0u8; HEADER];
        if bytes < HEADER as u64 {
            return Err(damaged(0, "the file is too short for its header"));
        }
        file.read_at(&mut head, 0).map_err(io)?;
        let mut r = Reader::new(&head[16..28]);
        let (began, seed) = (r.u64().unwrap_or(0), r.u32().unwrap_or(0));
        if head != header(log_seq, began, seed) {
            return Err(damaged(0, "the snapshot header's checksum is wrong"));
        }
        let mut chunks = Vec::new();
        let mut at = HEADER as u64;
        loop {
            let mut frame = [0u8; 8];
            if at + 8 > bytes {
                return Err(damaged(at, "the end marker is missing"));
            }
            file.read_at(&mut frame, at).map_err(io)?;
            let mut r = Reader::new(&frame);
            let (len, sum) = (r.u32().unwrap_or(0), r.u32().unwrap_or(0));
            let index = chunks.len() as u64;
            if len != END {
                if at + 8 + u64::from(len) > bytes {
                    return Err(damaged(at, "a chunk reaches past the end of the file"));
                }
                chunks.push((at + 8, len, sum));
                at += 8 + u64::from(len);
                continue;
            }
            let mut end = [0u8; 32];
            if at + 40 != bytes {
                return Err(damaged(at, "the end marker is not at the end of the file"));
            }
            file.read_at(&mut end, at + 8).map_err(io)?;
            if crc(seed, index, END, &end) != sum {
                return Err(damaged(at, "the end marker's checksum is wrong"));
            }
            let mut r = Reader::new(&end);
            let mut next = || r.u64().unwrap_or(0);
            let (count, ended, compacted, reserve) = (next(), next(), next(), next());
            return Ok(Self {
                path: name,
                file,
                seed,
                began,
                ended,
                compacted,
                reserve,
                count,
                bytes,
                chunks,
            });
        }
    }

    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The records of a chunk, checked.
    pub fn read(&self, index: usize) -> Result<Vec<Arc<Record>>, Error> {
        let Some(&(at, len, sum)) = self.chunks.get(index) else { return Ok(Vec::new()) };
        let damaged =
            |why: &str| Error::Damaged { path: self.path.clone(), offset: at - 8, why: why.to_owned() };
        let mut payload = vec![0; len as usize];
        let read = self.file.read_at(&mut payload, at);
        read.map_err(|source| Error::Io { what: format!("read {}", self.path), source })?;
        if crc(self.seed, index as u64, len, &payload) != sum {
            return Err(damaged("a chunk's checksum is wrong"));
        }
        let mut records = Vec::new();
        let mut r = Reader::new(&payload);
        while !r.is_empty() {
            match r.entry() {
                Some(Entry::Put(record)) => records.push(record),
                _ => return Err(damaged("a chunk holds something that is no record")),
            }
        }
        Ok(records)
    }
}
