//! `kelson restore`: verifies a backup to its end, then fills a data directory or an etcd from it. What clients know from
//! before is past: revisions begin above all that can have been handed out, and who resumes from one lists anew.
//! While it works, a file in the data directory (or a key in etcd) keeps a server from starting on half a cluster.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use apiserver::bootstrap::keys::KEY as FINGERPRINT;
use apiserver::registry::core::kubernetes_endpoints::LEASES;
use store::Record;
use store::backup::{Header, Item, Named, Reader};
use store::embedded::offline::{self, Offline};

use super::save::NETWORKS;
use super::{block_on, keys, now_ms, place, size};
use crate::args::RestoreArgs;
use crate::bar::Bar;
use crate::config::Instance;
use crate::mark;

/// 2026-01-01T00:00:00Z: no cluster has handed out a revision before.
const EPOCH_MS: u64 = 1_767_225_600_000;
/// Revisions a cluster can hand out in a millisecond, generously.
const PER_MS: u64 = 100;
/// For clocks that differ a little.
const MARGIN: u64 = 1_000_000;
/// In the data directory, as long as a restore is not done.
const UNFINISHED: &str = "restore.unfinished";

pub fn main(args: RestoreArgs) -> anyhow::Result<()> {
    block_on(run(args))
}

/// Refuses a data directory that a restore has left half done.
pub fn finished(dir: &Path) -> anyhow::Result<()> {
    match dir.join(UNFINISHED).exists() {
        true => bail!("a restore into {} has not come to its end: run it again, with --force", dir.display()),
        false => Ok(()),
    }
}

/// A revision above every one that was ever handed out: by the cluster since the backup, by one restored from it or from
/// another backup, or by the store that is replaced (`known`).
fn above(header: &Header, now_ms: u64, known: u64, asked: Option<u64>) -> u64 {
    let since = header.revision.saturating_add(now_ms.saturating_sub(header.time_ms).saturating_mul(PER_MS));
    let ever = now_ms.saturating_sub(EPOCH_MS).saturating_mul(PER_MS);
    let above = since.max(known).saturating_add(MARGIN).max(ever);
    // Beyond what clients take for a number.
    above.max(asked.unwrap_or(0)).min(i64::MAX as u64 / 2)
}

struct Backup {
    path: PathBuf,
    header: Header,
    files: Vec<Named>,
    bytes: u64,
    /// Servers wrote down whose keys they hold.
    fingerprint: bool,
}

type Input = Reader<BufReader<fs::File>>;

fn open(path: &Path) -> anyhow::Result<Input> {
    let file = fs::File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    Ok(Reader::open(BufReader::with_capacity(1 << 20, file), path.display().to_string())?)
}

/// Reads all of it.
fn verify(path: &Path) -> anyhow::Result<Backup> {
    let mut bar = Bar::counting(&format!("verifying {}", path.display()), "objects");
    let mut reader = open(path)?;
    let (header, mut files, mut done) = (reader.header().clone(), Vec::new(), 0);
    let mut fingerprint = false;
    while let Some(item) = reader.item()? {
        match item {
            Item::File(f) => files.push(f),
            Item::Records(r) => {
                done += r.len() as u64;
                fingerprint |= r.iter().any(|r| &*r.key == FINGERPRINT);
            }
        }
        bar.show(done, header.records);
    }
    keys::check(&files)?;
    Ok(Backup { path: path.to_owned(), header, files, bytes: reader.position(), fingerprint })
}

impl Backup {
    /// Who has no keys of the cluster writes down his own.
    fn without_fingerprint(&self) -> bool {
        self.fingerprint && self.files.is_empty()
    }

    fn total(&self) -> u64 {
        self.header.records - u64::from(self.without_fingerprint())
    }

    /// Its records, in batches.
    fn records(&self) -> anyhow::Result<impl FnMut() -> Result<Option<Vec<Record>>, store::Error>> {
        let (mut reader, without) = (open(&self.path)?, self.without_fingerprint());
        Ok(move || {
            loop {
                match reader.item()? {
                    Some(Item::Records(mut r)) => {
                        r.retain(|r| !without || &*r.key != FINGERPRINT);
                        return Ok(Some(r));
                    }
                    Some(Item::File(_)) => {}
                    None => return Ok(None),
                }
            }
        })
    }

    fn describe(&self) -> String {
        let taken = jiff::Timestamp::from_millisecond(i64::try_from(self.header.time_ms).unwrap_or(0));
        format!(
            "{} objects at revision {} of {}, cluster {}, from {}, {}, {}",
            self.header.records,
            self.header.revision,
            self.header.engine,
            if self.header.cluster.is_empty() { "unknown" } else { &self.header.cluster },
            taken.map_or("an unknown time".to_owned(), |t| t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
            if self.files.is_empty() { "without keys" } else { "with the cluster's keys" },
            size(self.bytes)
        )
    }
}

async fn run(args: RestoreArgs) -> anyhow::Result<()> {
    let mut backup = verify(&args.file)?;
    if args.check {
        println!("{}: whole; {}", args.file.display(), backup.describe());
        return Ok(());
    }
    println!("restoring {}", backup.describe());
    if args.without_keys {
        backup.files.clear();
    }
    let newest = match place::etcd(&args.place).await? {
        Some(direct) => into_etcd(&args, &backup, direct).await?,
        None => into_files(&args, &backup)?,
    };
    println!("restored as revision {newest}; clients list anew once the server runs again");
    Ok(())
}

/// The data directory, for this command alone, with a mark that says that it is being filled.
struct Target {
    instance: Instance,
    _hold: mark::Hold,
}

impl Target {
    fn take(args: &RestoreArgs, backup: &Backup, store: bool) -> anyhow::Result<Self> {
        let instance = Instance::of(&args.place.data_dir);
        let dir = &instance.data_dir;
        let networks = backup.header.more.get(NETWORKS).cloned().and_then(|n| serde_json::from_value(n).ok());
        if let mark::Place::Foreign(name) = mark::look(dir)? {
            bail!(
                "{} holds {name:?}, which is no cluster's; give --data-dir a directory of its own",
                dir.display()
            );
        }
        let pki = !backup.files.is_empty() && keys::present(&dir.join("pki"));
        if !args.force && (pki || (store && instance.store_dir().join("FORMAT").exists())) {
            bail!(
                "{} holds a cluster already; name another directory, or replace what is there with --force",
                dir.display()
            );
        }
        mark::claim(&instance, &[], None)?;
        let Some(hold) = place::hold(&instance)? else {
            bail!(
                "{} is in use; stop its server first (systemctl stop kelson, or end the process)",
                dir.display()
            );
        };
        mark::set_networks(dir, networks)?;
        fs::File::create(dir.join(UNFINISHED))
            .and_then(|f| f.sync_all())
            .and_then(|()| fs::File::open(dir)?.sync_all())
            .with_context(|| format!("failed to write into {}", dir.display()))?;
        Ok(Self { instance, _hold: hold })
    }

    /// Puts the keys in place; the directory serves again.
    fn finish(self, backup: &Backup) -> anyhow::Result<()> {
        let dir = &self.instance.data_dir;
        keys::write(&dir.join("pki"), &backup.files)?;
        fs::remove_file(dir.join(UNFINISHED))
            .and_then(|()| fs::File::open(dir)?.sync_all())
            .with_context(|| format!("failed to finish in {}", dir.display()))
    }
}

fn into_files(args: &RestoreArgs, backup: &Backup) -> anyhow::Result<u64> {
    let target = Target::take(args, backup, true)?;
    let (dir, old) = (&target.instance.data_dir, target.instance.store_dir());
    let known = match Offline::open(&old) {
        Ok(store) => store.map_or(0, |s| s.next_revision()),
        Err(e) => {
            eprintln!("the store that is replaced can't be read ({e}); revisions begin where the clock says");
            0
        }
    };
    let fresh = dir.join("store.restored");
    let clear = |path: &Path| match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    };
    clear(&fresh)?;
    let mut bar = Bar::counting(&format!("restoring into {}", dir.display()), "objects");
    let (mut records, mut done) = (backup.records()?, 0);
    let total = backup.total();
    let newest =
        offline::write(&fresh, above(&backup.header, now_ms(), known, args.above_revision), total, || {
            let batch = records()?;
            done += batch.as_ref().map_or(0, Vec::len) as u64;
            bar.show(done, total);
            Ok(batch)
        });
    drop(bar);
    let newest = newest.with_context(|| format!("failed to restore into {}", dir.display()))?;
    clear(&old)?;
    fs::rename(&fresh, &old).with_context(|| format!("failed to put {} in its place", old.display()))?;
    target.finish(backup)?;
    Ok(newest)
}

async fn into_etcd(
    args: &RestoreArgs,
    backup: &Backup,
    mut direct: store::etcd::direct::Direct,
) -> anyhow::Result<u64> {
    let facts = direct.facts().await?;
    let (keys, _) = direct.count("").await?;
    if keys > 0 && !args.force {
        bail!(
            "etcd holds {keys} keys below this prefix already; replace them with --force, or name another --etcd-prefix"
        );
    }
    let (servers, _) = direct.count(LEASES).await?;
    if servers > 0 {
        bail!(
            "API servers are using this etcd ({servers}, which kelson store ls {LEASES} names): stop them first; one that was killed is forgotten within 15 seconds"
        );
    }
    let target = match backup.files.is_empty() {
        true => None,
        false => Some(Target::take(args, backup, false)?),
    };
    // The etcd that the backup is of has gone on from there, and counts on.
    let same = backup.header.etcd == Some(facts.id) && facts.revision >= backup.header.revision;
    let above = match (same, args.above_revision) {
        (true, None) => 0,
        (_, asked) => above(&backup.header, now_ms(), facts.revision, asked),
    };
    let total = backup.total();
    let mut bar = Bar::counting("restoring into etcd", "objects");
    let restored = direct.restore(above, backup.records()?, |done| bar.show(done, total)).await;
    drop(bar);
    let (newest, written) = restored.context("failed to restore into etcd")?;
    if written < total {
        println!("{} objects had ended since by their time to live", total - written);
    }
    target.map_or(Ok(()), |t| t.finish(backup))?;
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_begin_above_all_that_were_handed_out() {
        let at = |revision, time_ms| Header { revision, time_ms, ..Header::default() };
        let day = 86_400_000;
        let taken = EPOCH_MS + 300 * day;
        let first = above(&at(5000, taken), taken + day, 0, None);
        assert!(first > 5000 + PER_MS * day);
        // Whatever was restored before, from whatever backup, and went on at full speed until now.
        for backup in [at(5000, taken), at(10, taken - 100 * day), at(first + 7, taken + day + 1)] {
            let later = taken + 2 * day;
            assert!(above(&backup, later, 0, None) >= first + PER_MS * (day - 1), "{backup:?}");
        }
        assert!(above(&at(5000, taken), taken, 1 << 60, None) > 1 << 60);
        assert_eq!(above(&at(1, taken), taken, 0, Some(1 << 61)), 1 << 61);
        // A clock that stands at its beginning.
        assert!(above(&at(5000, taken), 0, 0, None) > 5000);
        assert!(above(&at(u64::MAX, 0), u64::MAX, u64::MAX, Some(u64::MAX)) < u64::MAX / 2);
    }

    #[test]
    fn a_half_done_restore_is_told() {
        let dir = std::env::temp_dir().join(format!("kelson-unfinished-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("dir");
        assert!(finished(&dir).is_ok());
        fs::write(dir.join(UNFINISHED), "").expect("mark");
        assert!(finished(&dir).is_err_and(|e| e.to_string().contains("--force")));
        fs::remove_dir_all(&dir).expect("clean");
    }
}
