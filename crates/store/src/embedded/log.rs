//! The append side of the log: the active segment, rotation, and the making of segments. `Log` belongs to the commit
//! thread. Spawns nothing.

use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::fs::{File, Fs, is_full};
use super::segment::{self, GroupKind, SECTOR};
use super::{Core, Failure};

pub(super) struct Segment {
    pub file: Box<dyn File>,
    pub seq: u64,
    pub seed: u32,
    pub sectors: usize,
}

pub(super) fn segment_name(seq: u64) -> String {
    format!("{seq:016}.log")
}

pub(super) fn snapshot_name(seq: u64) -> String {
    format!("{seq:016}.snap")
}

/// The number in a file name of the given ending.
pub(super) fn file_number(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() == 16).then(|| digits.parse().ok()).flatten()
}

pub(super) fn random_seed() -> u32 {
    std::collections::hash_map::RandomState::new().build_hasher().finish() as u32
}

/// Makes a segment that is allocated, written and durable under its final name. `spare` is an old one to be reused.
pub(super) fn make_segment(
    fs: &dyn Fs,
    dir: &Path,
    seq: u64,
    sectors: usize,
    spare: Option<PathBuf>,
) -> io::Result<Segment> {
    let seed = random_seed();
    let tmp = spare.clone().unwrap_or_else(|| dir.join("segment.tmp"));
    let make = || {
        let file = if spare.is_some() { fs.open(&tmp)? } else { fs.create(&tmp)? };
        let mut at = file.len()? / SECTOR as u64 * SECTOR as u64;
        let end = (sectors * SECTOR) as u64;
        let zeroes = vec![0u8; (end.saturating_sub(at) as usize).min(256 << 10)];
        while at < end {
            let n = zeroes.len().min((end - at) as usize);
            file.write_at(&zeroes[..n], at)?;
            at += n as u64;
        }
        file.write_at(&segment::header(seq, seed), 0)?;
        file.sync()?;
        fs.rename(&tmp, &dir.join(segment_name(seq)))?;
        fs.sync_dir(dir)?;
        Ok(Segment { sectors: (at / SECTOR as u64) as usize, file, seq, seed })
    };
    make().inspect_err(|_| {
        // Half a segment only takes room.
        let _ = fs.remove(&tmp);
    })
}

pub(super) struct Log {
    pub active: Segment,
    pub next_sector: usize,
    /// A write failed half-way: this segment gets no more groups.
    pub must_rotate: bool,
    pub buffer: Vec<u8>,
}

impl Log {
    /// Makes a group durable.
    pub fn append(&mut self, core: &Core, kind: GroupKind, payload: &[u8]) -> Result<(), Failure> {
        let need = segment::sectors(payload.len());
        // One sector is kept for the seal.
        if self.must_rotate || self.next_sector + need + 1 > self.active.sectors {
            self.rotate(core, need)?;
        }
        self.write(core, kind, payload)
    }

    fn rotate(&mut self, core: &Core, need: usize) -> Result<(), Failure> {
        // Sealed only when its successor is durable: a seal without one means a lost file.
        let next = core.maintainer.take_next(need + 2)?;
        let seal = core.head();
        let next_seq = next.seq;
        match self.write(core, GroupKind::Seal, &seal) {
            Ok(()) => {}
            Err(e) => {
                core.maintainer.give_back(next);
                return Err(e);
            }
        }
        let old = std::mem::replace(&mut self.active, next);
        self.next_sector = 1;
        self.must_rotate = false;
        let live = core.view.read().live_bytes;
        core.maintainer.rotated(&old, next_seq, live, core.snapshot_bytes);
        Ok(())
    }

    fn write(&mut self, core: &Core, kind: GroupKind, payload: &[u8]) -> Result<(), Failure> {
        let mut buffer = std::mem::take(&mut self.buffer);
        segment::frame(&mut buffer, kind, payload, self.active.seed, self.next_sector);
        let path = || core.dir.join(segment_name(self.active.seq)).display().to_string();
        if let Err(e) = self.active.file.write_at(&buffer, (self.next_sector * SECTOR) as u64) {
            self.must_rotate = true;
            return Err(if is_full(&e) {
                Failure::Full(path())
            } else {
                Failure::Stopped(format!("a write to {} failed: {e}", path()))
            });
        }
        core.fsyncs.fetch_add(1, Ordering::Relaxed);
        if let Err(e) = self.active.file.sync() {
            // What is on disk is unknown now, and a second try may lie. Only reopening tells.
            return Err(Failure::Stopped(format!(
                "an fsync of {} failed: {e}; restart to read what is there",
                path()
            )));
        }
        core.log_bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.next_sector += buffer.len() / SECTOR;
        if buffer.capacity() > 1 << 20 {
            buffer = Vec::new();
        }
        self.buffer = buffer;
        Ok(())
    }
}
