//! A file layer in memory that crashes as disks do: bytes not fsynced and directory entries not fsynced vanish, the
//! last write can be torn at any byte, unsynced sectors can survive one by one. Also a disk of limited size, an fsync
//! that fails or is slow, and flipped bits. Spawns nothing.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::fs::{File, Fs};

const SECTOR: usize = 512;

/// What of the unsynced bytes is on disk after a crash.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    All,
    /// Of the last write this many bytes were written (if it has as many).
    LastTornAt(usize),
    /// Every unsynced sector and the order-keeping prefix of directory changes by chance.
    Sectors(u64),
}

#[derive(Clone, Default)]
pub struct FakeFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Name tables after each change since the last directory sync.
    name_changes: Vec<BTreeMap<PathBuf, usize>>,
    last_write: Option<(usize, usize, usize)>,
    capacity: Option<u64>,
    /// Changing operations left before everything fails.
    fuse: Option<u64>,
    off: bool,
    ops: u64,
    syncs_until_failure: Option<u64>,
    sync_takes: Duration,
    locks: Vec<PathBuf>,
    syncs: u64,
}

#[derive(Default, Clone)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Unsynced ranges.
    dirty: Vec<(usize, usize)>,
}

struct FakeFile {
    disk: Arc<Mutex<Disk>>,
    file: usize,
}

struct FakeLock {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl Disk {
    /// One step of the machine; fails for good once the fuse is burnt.
    fn step(&mut self) -> io::Result<()> {
        self.ops += 1;
        match &mut self.fuse {
            Some(0) => {
                self.off = true;
                Err(io::Error::other("the machine is off"))
            }
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.names.values().filter_map(|f| self.files.get(*f)).map(|c| c.live.len() as u64).sum()
    }

    fn changed_names(&mut self) {
        let names = self.names.clone();
        self.name_changes.push(names);
    }

    fn lookup(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| not_found(path))
    }
}

impl FakeFs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `ops` more changing calls through; then the machine is off.
    pub fn power_off_after(&self, ops: u64) {
        self.disk.lock().fuse = Some(ops);
    }

    /// Changing calls so far.
    pub fn ops(&self) -> u64 {
        self.disk.lock().ops
    }

    pub fn syncs(&self) -> u64 {
        self.disk.lock().syncs
    }

    /// Bytes that files may take; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk.lock().capacity = bytes;
    }

    pub fn used(&self) -> u64 {
        self.disk.lock().used()
    }

    /// The sync after this many good ones fails, and its bytes are lost as by a real kernel.
    pub fn fail_sync_after(&self, good: u64) {
        self.disk.lock().syncs_until_failure = Some(good);
    }

    /// How long each sync takes from now on.
    pub fn slow_syncs(&self, each: Duration) {
        self.disk.lock().sync_takes = each;
    }

    /// What a machine finds that starts again after this one lost its power now.
    pub fn after_crash(&self, loss: Loss) -> FakeFs {
        let disk = self.disk.lock();
        let mut files: Vec<Content> = Vec::with_capacity(disk.files.len());
        let mut names = disk.durable_names.clone();
        let mut rng = match loss {
            Loss::Sectors(seed) => seed | 1,
            _ => 1,
        };
        let mut random = move || {
            rng ^= rng << 13;
            rng ^= rng >> 7;
            rng ^= rng << 17;
            rng >> 11
        };
        for (i, file) in disk.files.iter().enumerate() {
            let mut bytes = file.durable.clone();
            let mut keep = |from: usize, to: usize| {
                let to = to.min(file.live.len());
                if from < to {
                    if bytes.len() < to {
                        bytes.resize(to, 0);
                    }
                    bytes[from..to].copy_from_slice(&file.live[from..to]);
                }
            };
            match (loss, disk.last_write) {
                (Loss::LastTornAt(n), Some((f, at, len)))
                    if f == i && file.dirty.contains(&(at, at + len)) =>
                {
                    keep(at, at + n.min(len));
                }
                (Loss::Sectors(_), _) => {
                    for (from, to) in &file.dirty {
                        for sector in from / SECTOR..to.div_ceil(SECTOR) {
                            if random() % 2 == 0 {
                                keep((sector * SECTOR).max(*from), ((sector + 1) * SECTOR).min(*to));
                            }
                        }
                    }
                }
                _ => {}
            }
            files.push(Content { live: bytes.clone(), durable: bytes, dirty: Vec::new() });
        }
        if let (Loss::Sectors(_), n @ 1..) = (loss, disk.name_changes.len()) {
            let kept = random() as usize % (n + 1);
            if let Some(state) = kept.checked_sub(1).and_then(|i| disk.name_changes.get(i)) {
                names = state.clone();
            }
        }
        let disk = Disk { files, durable_names: names.clone(), names, ..Disk::default() };
        FakeFs { disk: Arc::new(Mutex::new(disk)) }
    }

    /// A second disk with the same bytes.
    pub fn copy(&self) -> FakeFs {
        let disk = self.disk.lock();
        let files = disk.files.iter().map(|f| Content {
            durable: f.live.clone(),
            live: f.live.clone(),
            dirty: Vec::new(),
        });
        let (files, names) = (files.collect(), disk.names.clone());
        FakeFs {
            disk: Arc::new(Mutex::new(Disk {
                files,
                durable_names: names.clone(),
                names,
                ..Disk::default()
            })),
        }
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.disk.lock().names.keys().cloned().collect()
    }

    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let disk = self.disk.lock();
        let file = disk.lookup(path)?;
        Ok(disk.files.get(file).map(|f| f.live.clone()).unwrap_or_default())
    }

    /// Changes a file behind the engine's back.
    pub fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let file = disk.lookup(path)?;
        if let Some(content) = disk.files.get_mut(file) {
            edit(&mut content.live);
            content.durable = content.live.clone();
        }
        Ok(())
    }
}

impl File for FakeFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files.get(self.file).map_or(0, |f| f.live.len() as u64))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let disk = self.disk.lock();
        let from = offset as usize;
        let source = disk.files.get(self.file).and_then(|f| f.live.get(from..from + buf.len()));
        buf.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        // The write at which the power goes is the one that may be torn; later ones do not happen at all.
        let was_off = disk.off;
        let off = disk.step();
        if was_off {
            return off;
        }
        let (from, to) = (offset as usize, offset as usize + buf.len());
        let grown = disk.files.get(self.file).map_or(0, |f| to.saturating_sub(f.live.len())) as u64;
        if disk.capacity.is_some_and(|c| grown > 0 && disk.used() + grown > c) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(f) = disk.files.get_mut(self.file) {
            if f.live.len() < to {
                f.live.resize(to, 0);
            }
            f.live[from..to].copy_from_slice(buf);
            f.dirty.push((from, to));
        }
        disk.last_write = Some((self.file, from, buf.len()));
        off
    }

    #[expect(clippy::disallowed_methods, reason = "a disk that is slow on purpose")]
    fn sync(&self) -> io::Result<()> {
        let takes = self.disk.lock().sync_takes;
        if !takes.is_zero() {
            std::thread::sleep(takes);
        }
        let mut disk = self.disk.lock();
        disk.step()?;
        disk.syncs += 1;
        let fails = match &mut disk.syncs_until_failure {
            Some(0) => true,
            Some(n) => {
                *n -= 1;
                false
            }
            None => false,
        };
        let Some(f) = disk.files.get_mut(self.file) else { return Ok(()) };
        let dirty = std::mem::take(&mut f.dirty);
        if fails {
            return Err(io::Error::from_raw_os_error(5));
        }
        f.durable.resize(f.live.len(), 0);
        for (from, to) in dirty {
            f.durable[from..to].copy_from_slice(&f.live[from..to]);
        }
        Ok(())
    }
}

impl Fs for FakeFs {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk.lock();
        let names = disk.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(names.filter_map(|p| p.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = self.disk.lock().lookup(path)?;
        Ok(Box::new(FakeFile { disk: self.disk.clone(), file }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut disk = self.disk.lock();
        disk.step()?;
        disk.files.push(Content::default());
        let file = disk.files.len() - 1;
        disk.names.insert(path.to_owned(), file);
        disk.changed_names();
        Ok(Box::new(FakeFile { disk: self.disk.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.step()?;
        let file = disk.names.remove(from).ok_or_else(|| not_found(from))?;
        disk.names.insert(to.to_owned(), file);
        disk.changed_names();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.step()?;
        disk.names.remove(path).ok_or_else(|| not_found(path))?;
        disk.changed_names();
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.step()?;
        disk.durable_names = disk.names.clone();
        disk.name_changes.clear();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let mut disk = self.disk.lock();
        if disk.locks.iter().any(|p| p == path) {
            return Ok(None);
        }
        disk.locks.push(path.to_owned());
        Ok(Some(Box::new(FakeLock { disk: self.disk.clone(), path: path.to_owned() })))
    }
}

impl Drop for FakeLock {
    fn drop(&mut self) {
        self.disk.lock().locks.retain(|p| *p != self.path);
    }
}
