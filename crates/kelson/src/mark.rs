//! The mark by which a data directory is known to be a cluster's. The server makes it before it writes anything else, and
//! only in a directory that holds nothing foreign; `clean` removes nothing without it. It also remembers which places
//! outside the data directory this cluster was the first to use, and the networks it took beside other clusters.
//! Owns `<data-dir>/kelson.cluster`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::config::Instance;

pub const NAME: &str = "kelson.cluster";
const FORMAT: u32 = 1;

/// What may lie in a directory before a cluster's first start there.
const BEFORE: &[&str] = &["kelson.log", "kelson.pid", "lost+found"];
/// What an operator may have put there for the cluster.
const PREPARED: &[&str] = &["manifests", "pki", "config.yaml"];
/// What a cluster from before the mark consists of.
const CLUSTER: &[&str] = &["store", "runtime", "network", "kubelet", "logs", "admin.kubeconfig"];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    pub format: u32,
    pub instance: String,
    /// Directories outside the data directory that held nothing before this cluster used them.
    #[serde(default)]
    pub owns: Vec<PathBuf>,
    #[serde(default)]
    pub networks: Option<Networks>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Networks {
    pub pods: String,
    pub services: String,
}

/// What a directory is to a cluster.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// Missing, or holding only what is there before a first start.
    Empty,
    Marked(Mark),
    /// A cluster from before the mark, or one that an operator prepared.
    Unmarked,
    /// Holds something that is no cluster's.
    Foreign(String),
}

/// Decides by the names in a directory; `store`: it holds a store.
fn judge(names: &[String], store: bool) -> Place {
    let known = |n: &&String| {
        let n = n.as_str();
        BEFORE.contains(&n)
            || PREPARED.contains(&n)
            || (store && (CLUSTER.contains(&n) || n.starts_with(NAME)))
    };
    match names.iter().find(|n| !known(n)) {
        Some(n) => Place::Foreign(n.clone()),
        None if names.iter().all(|n| BEFORE.contains(&n.as_str())) => Place::Empty,
        None => Place::Unmarked,
    }
}

/// What is in the directory; an unreadable or newer mark is an error.
pub fn look(dir: &Path) -> anyhow::Result<Place> {
    let path = dir.join(NAME);
    match fs::read(&path) {
        Ok(raw) if !raw.is_empty() => {
            let mark: serde_json::Value = serde_json::from_slice(&raw).with_context(|| {
                format!("{} is damaged; remove it if {} is a cluster's", path.display(), dir.display())
            })?;
            let format = mark["format"].as_u64().unwrap_or_default();
            if format > u64::from(FORMAT) {
                bail!(
                    "{} was written by a newer version (format {format}, this one knows up to {FORMAT}); use that version",
                    dir.display()
                );
            }
            let mark = serde_json::from_value(mark).with_context(|| {
                format!("{} is damaged; remove it if {} is a cluster's", path.display(), dir.display())
            })?;
            return Ok(Place::Marked(mark));
        }
        // Cut off by a power loss in the middle of the first start: as if it were not there.
        Ok(_) => {}
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(e) => return Err(e).with_context(|| format!("failed to read {}", path.display())),
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Place::Empty),
        Err(e) => {
            return Err(e).with_context(|| format!("failed to read the data directory {}", dir.display()));
        }
    };
    let mut names = Vec::new();
    for e in entries {
        let e = e.with_context(|| format!("failed to read the data directory {}", dir.display()))?;
        let name = e.file_name().to_string_lossy().into_owned();
        if !name.starts_with(NAME) {
            names.push(name);
        }
    }
    Ok(judge(&names, dir.join("store/FORMAT").exists()))
}

fn save(dir: &Path, mark: &Mark) -> io::Result<()> {
    let tmp = dir.join(format!("{NAME}.tmp"));
    let mut file = fs::File::create(&tmp)?;
    file.write_all(&serde_json::to_vec(mark)?)?;
    file.sync_data()?;
    fs::rename(&tmp, dir.join(NAME))
}

/// Takes over the networks of a cluster that is restored here.
pub fn set_networks(dir: &Path, networks: Option<Networks>) -> anyhow::Result<()> {
    if let (Place::Marked(mark), Some(networks)) = (look(dir)?, networks) {
        save(dir, &Mark { networks: Some(networks), ..mark })
            .with_context(|| format!("failed to write the cluster's mark into {}", dir.display()))?;
    }
    Ok(())
}

fn vacant(dir: &Path) -> bool {
    match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

/// Makes the data directory a cluster's, or finds that it is one. Of `outside` (places beyond the data directory) it
/// claims those that nobody has used; `networks` are remembered when none are yet.
pub fn claim(instance: &Instance, outside: &[PathBuf], networks: Option<Networks>) -> anyhow::Result<Mark> {
    let dir = &instance.data_dir;
    let fresh = || Mark { format: FORMAT, instance: instance.name.clone(), owns: Vec::new(), networks: None };
    let (old, mut mark) = match look(dir)? {
        Place::Marked(mark) => (Some(mark.clone()), mark),
        Place::Empty | Place::Unmarked => (None, fresh()),
        Place::Foreign(name) => bail!(
            "{} holds {name:?}, which is no cluster's; give --data-dir a directory of its own",
            dir.display()
        ),
    };
    for path in outside {
        if !mark.owns.contains(path) && vacant(path) {
            mark.owns.push(path.clone());
        }
    }
    mark.networks = mark.networks.or(networks);
    if old.as_ref() != Some(&mark) {
        fs::create_dir_all(dir)
            .with_context(|| format!("failed to make the data directory {}", dir.display()))?;
        save(dir, &mark)
            .with_context(|| format!("failed to write the cluster's mark into {}", dir.display()))?;
    }
    Ok(mark)
}

/// Held by the process that runs the cluster of a data directory; goes with it, however it ends.
pub struct Hold(#[expect(dead_code, reason = "an open file, which is the lock")] fs::File);

/// Takes the directory for this process; `None` when another one has it.
pub fn hold(dir: &Path) -> io::Result<Option<Hold>> {
    let file = fs::File::open(dir)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Hold(file))),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(e)) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn only_a_cluster_is_a_cluster() {
        assert_eq!(judge(&names(&[]), false), Place::Empty);
        assert_eq!(judge(&names(&["kelson.log", "lost+found"]), false), Place::Empty);
        assert_eq!(judge(&names(&["pki", "manifests"]), false), Place::Unmarked);
        assert_eq!(judge(&names(&["store", "pki", "runtime"]), true), Place::Unmarked);
        assert_eq!(judge(&names(&["network", "logs"]), false), Place::Foreign("network".into()));
        assert_eq!(judge(&names(&["passwd", "pki"]), true), Place::Foreign("passwd".into()));
    }

    #[test]
    fn a_mark_is_made_once_and_remembers() {
        let t = std::env::temp_dir().join(format!("kelson-mark-{}", std::process::id()));
        let _ = fs::remove_dir_all(&t);
        let instance = Instance::of(&t.join("data"));
        let (used, free) = (t.join("used"), t.join("free"));
        fs::create_dir_all(used.join("x")).expect("dir");
        let nets = |n: &str| Some(Networks { pods: n.into(), services: "s".into() });
        let first = claim(&instance, &[used.clone(), free.clone()], nets("a")).expect("claim");
        assert_eq!(first.owns, [free]);
        fs::write(instance.data_dir.join("anything"), "").expect("file");
        let again = claim(&instance, &[used], nets("b")).expect("claim");
        assert_eq!(again, first);
        fs::write(instance.data_dir.join(NAME), r#"{"format":9,"instance":"x"}"#).expect("mark");
        assert!(format!("{:#}", look(&instance.data_dir).expect_err("newer")).contains("newer version"));
        fs::write(instance.data_dir.join(NAME), "{").expect("mark");
        assert!(format!("{:#}", look(&instance.data_dir).expect_err("damaged")).contains("is damaged"));
        fs::write(instance.data_dir.join(NAME), "").expect("mark");
        assert_eq!(look(&instance.data_dir).expect("cut off"), Place::Foreign("anything".into()));
        fs::remove_dir_all(&t).expect("clean");
    }
}
