//! A data directory that no engine has open: read without changing anything, checked file by file, or written whole by a
//! restore. Holds the directory's lock; spawns nothing that outlives a call.

use std::any::Any;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{self, MIGRATIONS};
use super::fs::{Fs, RealFs};
use super::log::{make_segment, segment_name, snapshot_name};
use super::open::{self, Found, io_error};
use super::segment::SECTOR;
use super::snapshot::{CHUNK, Sheet, Snapshot};
use super::{Options, RESERVE};
use crate::memory::{Limits, View};
use crate::{Error, Record, Revision, prefix_end};

/// The lock's file, which every opened directory has.
const LOCK: &str = "LOCK";

/// The records of a directory at its newest revision.
pub struct Offline {
    view: View,
    next_revision: Revision,
    files: Vec<(String, u64)>,
    _lock: Box<dyn Any + Send + Sync>,
}

/// What a check of the files found.
#[derive(Debug, Default)]
pub struct Findings {
    pub files: usize,
    pub bytes: u64,
    pub faults: Vec<Error>,
}

/// Takes the lock of a store; `None` when there is no store.
fn take(fs: &dyn Fs, dir: &Path) -> Result<Option<Box<dyn Any + Send + Sync>>, Error> {
    let Some(version) = format::read(fs, dir)? else { return Ok(None) };
    let known = format::known(MIGRATIONS);
    if version > known {
        return Err(Error::Newer { path: dir.display().to_string(), found: version, known });
    }
    let lock = fs.lock(&dir.join(LOCK)).map_err(io_error(format!("lock {}", dir.display())))?;
    match lock {
        Some(lock) => Ok(Some(lock)),
        None => Err(Error::Locked { path: dir.display().to_string() }),
    }
}

fn paths(dir: &Path, found: &Found) -> Vec<PathBuf> {
    let snapshots = found.snapshots.iter().map(|seq| dir.join(snapshot_name(*seq)));
    snapshots.chain(found.segments.iter().map(|seq| dir.join(segment_name(*seq)))).collect()
}

fn size(fs: &dyn Fs, path: &Path) -> Result<u64, Error> {
    let len = fs.open(path).and_then(|f| f.len());
    len.map_err(io_error(format!("read {}", path.display())))
}

impl Offline {
    /// `None` when the directory holds no store; an error when a process has it open or it is damaged.
    pub fn open(dir: &Path) -> Result<Option<Self>, Error> {
        Self::open_on(&RealFs, dir)
    }

    pub(super) fn open_on(fs: &dyn Fs, dir: &Path) -> Result<Option<Self>, Error> {
        let Some(lock) = take(fs, dir)? else { return Ok(None) };
        let found = open::find(fs, dir)?;
        let files = paths(dir, &found).into_iter().map(|p| Ok((p.display().to_string(), size(fs, &p)?)));
        let files = files.collect::<Result<_, Error>>()?;
        let o = Options::new(dir);
        let mut view = View::new(Limits { kind: 0, small_kind: 0, total: 0, age: o.history_age });
        let (opened, _) = open::read(fs, dir, found, &mut view)?;
        Ok(Some(Self { view, next_revision: opened.next_revision, files, _lock: lock }))
    }

    pub fn revision(&self) -> Revision {
        self.view.revision
    }

    /// No revision below it will be handed out again.
    pub fn next_revision(&self) -> Revision {
        self.next_revision
    }

    pub fn compacted(&self) -> Revision {
        self.view.compacted
    }

    pub fn keys(&self) -> u64 {
        self.view.len() as u64
    }

    /// Paths and sizes.
    pub fn files(&self) -> &[(String, u64)] {
        &self.files
    }

    /// In key order.
    pub fn records<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Record>> {
        let end = prefix_end(prefix);
        let all = self.view.range((Bound::Included(prefix), Bound::Unbounded));
        all.take_while(move |r| *r.key < *end)
    }
}

/// Verifies every file on its own, then all of them together. `None` when the directory holds no store.
pub fn check(dir: &Path) -> Result<Option<Findings>, Error> {
    check_on(&RealFs, dir)
}

pub(super) fn check_on(fs: &dyn Fs, dir: &Path) -> Result<Option<Findings>, Error> {
    let lock = match take(fs, dir) {
        Ok(None) => return Ok(None),
        Ok(Some(lock)) => lock,
        Err(e @ Error::Damaged { .. }) => {
            return Ok(Some(Findings { faults: vec![e], ..Findings::default() }));
        }
        Err(e) => return Err(e),
    };
    let found = open::find(fs, dir)?;
    let mut out = Findings::default();
    let mut one = |bytes: Result<u64, Error>| {
        out.files += 1;
        match bytes {
            Ok(n) => out.bytes += n,
            Err(e) => out.faults.push(e),
        }
    };
    for seq in &found.snapshots {
        one(Snapshot::open(fs, &dir.join(snapshot_name(*seq)), *seq).and_then(|s| {
            (0..s.chunks()).try_for_each(|i| s.read(i).map(|_| ()))?;
            Ok(s.bytes)
        }));
    }
    let mut buffer = Vec::new();
    for seq in &found.segments {
        let path = dir.join(segment_name(*seq));
        one(open::read_segment(fs, &path, *seq, &mut buffer).and_then(|_| size(fs, &path)));
    }
    if out.faults.is_empty() {
        drop(lock);
        if let Err(e) = Offline::open_on(fs, dir) {
            out.faults.push(e);
        }
    }
    Ok(Some(out))
}

/// Writes a new store, whose history begins with `began`: of `count` records, in key order, the first gets the revision
/// behind `began`, the next the one behind that. The directory must not hold a store. Durable when it returns.
pub fn write(
    dir: &Path,
    began: Revision,
    count: u64,
    records: impl FnMut() -> Result<Option<Vec<Record>>, Error>,
) -> Result<Revision, Error> {
    write_on(&RealFs, dir, began, count, records)
}

pub(super) fn write_on(
    fs: &dyn Fs,
    dir: &Path,
    began: Revision,
    count: u64,
    mut records: impl FnMut() -> Result<Option<Vec<Record>>, Error>,
) -> Result<Revision, Error> {
    let failed = || io_error(format!("write a store into {}", dir.display()));
    fs.create_dir(dir).map_err(failed())?;
    let Some(_lock) = fs.lock(&dir.join(LOCK)).map_err(failed())? else {
        return Err(Error::Locked { path: dir.display().to_string() });
    };
    let tmp = dir.join("snapshot.tmp");
    let ended = began.saturating_add(count);
    let mut sheet = Sheet::begin(fs.create(&tmp).map_err(failed())?, 1, ended).map_err(failed())?;
    let mut revision = began;
    while let Some(batch) = records()? {
        let renumbered = batch.into_iter().map(|r| {
            revision += 1;
            Record { create_revision: revision, mod_revision: revision, version: 1, ..r }
        });
        let renumbered: Vec<Record> = renumbered.collect();
        let mut from = 0;
        let mut bytes = 0;
        for (i, r) in renumbered.iter().enumerate() {
            bytes += r.key.len() + r.value.len();
            if bytes >= CHUNK || i + 1 == renumbered.len() {
                sheet.chunk(&renumbered[from..=i]).map_err(failed())?;
                (from, bytes) = (i + 1, 0);
            }
        }
    }
    if revision != ended {
        let why = format!("{} records were announced, {} came", count, revision - began);
        return Err(Error::Damaged { path: dir.display().to_string(), offset: 0, why });
    }
    // All that was before is compacted: who resumes from there is told to list anew.
    sheet.end(ended, ended, ended + RESERVE).map_err(failed())?;
    fs.rename(&tmp, &dir.join(snapshot_name(1))).map_err(failed())?;
    let sectors = (Options::new(dir).segment_bytes / SECTOR as u64) as usize;
    make_segment(fs, dir, 1, sectors, None).map_err(failed())?;
    format::write(fs, dir, format::known(MIGRATIONS)).map_err(failed())?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::super::Engine;
    use super::super::fake::FakeFs;
    use super::super::tests::{DIR, small};
    use super::*;
    use crate::suite::{delete, must, put};
    use crate::{Range, Store};

    fn record(key: &str, value: &str) -> Record {
        Record {
            key: key.into(),
            value: value.to_owned().into(),
            create_revision: 3,
            mod_revision: 5,
            version: 2,
            expires_at_ms: None,
            aux: OnceLock::new(),
        }
    }

    #[tokio::test]
    async fn what_is_written_offline_is_a_store_with_new_revisions() {
        let fs = FakeFs::new();
        let dir = Path::new(DIR);
        let mut batches =
            vec![vec![record("/r/p/c", "3")], vec![record("/r/p/a", "1"), record("/r/p/b", "2")]];
        let ended = write_on(&fs, dir, 1000, 3, || Ok(batches.pop())).unwrap();
        assert_eq!(ended, 1003);
        // As much as survives a power cut.
        let fs = fs.after_crash(super::super::fake::Loss::All);
        assert!(check_on(&fs, dir).unwrap().is_some_and(|f| f.faults.is_empty() && f.files == 2));
        let store: Arc<dyn Store> = Arc::new(Engine::open(small(&fs)).unwrap());
        let all = store.range(Range::prefix("/r/")).await.unwrap();
        let seen: Vec<_> = all.records.iter().map(|r| (&*r.key, r.mod_revision, r.create_revision)).collect();
        assert_eq!(seen, [("/r/p/a", 1001, 1001), ("/r/p/b", 1002, 1002), ("/r/p/c", 1003, 1003)]);
        assert_eq!(store.revision(), 1003);
        for from in [1, 5, 1000, 1003] {
            assert!(matches!(store.watch("/r/", Some(from)).await, Err(Error::Compacted { .. })), "{from}");
        }
        assert!(store.watch("/r/", Some(1004)).await.is_ok());
        let then = Range { at: Some(5), ..Range::prefix("/r/") };
        assert!(matches!(store.range(then).await, Err(Error::Compacted { .. })));
        assert!(must(&store, put("/r/p/a", "4")).await.revision > 1003);
    }

    #[tokio::test]
    async fn a_closed_store_is_read_and_not_changed() {
        let fs = FakeFs::new();
        let dir = Path::new(DIR);
        assert!(Offline::open_on(&fs, dir).unwrap().is_none());
        let engine = Arc::new(Engine::open(small(&fs)).unwrap());
        let store: Arc<dyn Store> = engine.clone();
        assert!(matches!(Offline::open_on(&fs, dir), Err(Error::Locked { .. })));
        for i in 0..300 {
            must(&store, put(&format!("/r/p/{:03}", i % 100), "x".repeat(i * 7))).await;
            if i % 10 == 9 {
                must(&store, delete(&format!("/r/p/{:03}", i % 100))).await;
            }
            if i == 200 {
                engine.snapshot().await;
            }
        }
        let all = store.range(Range::prefix("/r/")).await.unwrap();
        store.close().await.unwrap();
        drop((store, engine));
        let before = fs.ops();
        let offline = Offline::open_on(&fs, dir).unwrap().unwrap();
        let key = |r: &Arc<Record>| (r.key.clone(), r.value.clone(), r.mod_revision);
        assert!(offline.records("/r/").map(key).eq(all.records.iter().map(key)));
        assert_eq!(offline.records("/r/p/00").count(), 9);
        assert_eq!(offline.revision(), all.revision);
        assert!(offline.next_revision() > all.revision);
        assert_eq!(fs.ops(), before, "nothing was written");
    }

    #[tokio::test]
    async fn damage_is_told_with_every_place() {
        let fs = FakeFs::new();
        let dir = Path::new(DIR);
        let engine = Engine::open(small(&fs)).unwrap();
        for i in 0..200 {
            engine.txn(put(&format!("/r/p/{i:03}"), "x".repeat(2000))).await.unwrap();
            if i == 100 {
                engine.snapshot().await;
            }
        }
        engine.close().await.unwrap();
        drop(engine);
        assert!(check_on(&fs, dir).unwrap().unwrap().faults.is_empty());
        let hit: Vec<PathBuf> = fs
            .paths()
            .into_iter()
            .filter(|p| p.extension().is_some_and(|e| e == "snap" || e == "log"))
            .collect();
        let logs = hit.iter().filter(|p| p.extension().is_some_and(|e| e == "log")).count();
        assert!(logs > 2 && hit.len() == logs + 1, "{hit:?}");
        // The last two are the segment that is written to, and its empty successor.
        let hit = &hit[..hit.len() - 2];
        hit.iter().for_each(|path| fs.edit(path, |bytes| bytes[900] ^= 4).unwrap());
        let found = check_on(&fs, dir).unwrap().unwrap();
        let told: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), hit.len(), "{told:?}");
        assert!(told.iter().all(|t| t.contains("damaged file") && t.contains("at byte")), "{told:?}");
    }
}
