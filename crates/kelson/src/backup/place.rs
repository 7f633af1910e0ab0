//! Where a cluster's store is, and how it is read: through the running server, from the files of a stopped one (which is
//! kept from starting meanwhile), or from etcd. Spawns nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use store::Record;
use store::backup::Header;
use store::embedded::offline::Offline;
use store::etcd::direct::Direct;

use super::{now_ms, socket};
use crate::VERSION;
use crate::args::PlaceArgs;
use crate::config::Instance;
use crate::mark;

/// How long a server may take from its start to its socket.
const PATIENCE: Duration = Duration::from_secs(10);
/// The namespace whose uid is taken for the cluster's, as everywhere.
pub const CLUSTER_KEY: &str = "/registry/namespaces/kube-system";

/// What a store says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// `embedded`, or `etcd` with its version.
    pub engine: String,
    pub revision: u64,
    pub compacted: u64,
    pub keys: u64,
    pub bytes_in_memory: u64,
    pub bytes_on_disk: u64,
    /// Etcd's addresses, or paths of files, with sizes where they are known.
    pub parts: Vec<(String, u64)>,
}

pub enum Place {
    Server(socket::Server),
    /// Nobody else has the data directory as long as this lives.
    Files(Instance, #[expect(dead_code, reason = "an open file, which is the lock")] mark::Hold),
    Etcd(Box<Direct>),
}

/// The data directory for this command alone; `None` when a server has it.
pub fn hold(instance: &Instance) -> anyhow::Result<Option<mark::Hold>> {
    let dir = &instance.data_dir;
    mark::hold(dir).with_context(|| format!("failed to lock {}", dir.display()))
}

/// Opens the etcd of the flags, when there are any.
pub async fn etcd(args: &PlaceArgs) -> anyhow::Result<Option<Direct>> {
    if args.etcd.compaction_interval.is_some() {
        bail!("--etcd-compaction-interval is for a server");
    }
    match args.etcd.clone().options()? {
        Some(etcd) => Ok(Some(Direct::open(&etcd.engine()).await.context("failed to open etcd")?)),
        None => Ok(None),
    }
}

pub async fn find(args: &PlaceArgs) -> anyhow::Result<Place> {
    if let Some(direct) = etcd(args).await? {
        return Ok(Place::Etcd(Box::new(direct)));
    }
    let instance = Instance::of(&args.data_dir);
    let dir = &instance.data_dir;
    if !dir.is_dir() {
        bail!(
            "there is no data directory {}; name the cluster's with --data-dir, or its etcd with --etcd-servers",
            dir.display()
        );
    }
    // A server that starts has the directory before it listens.
    let begun = Instant::now();
    loop {
        if let Some(server) = socket::Server::find(dir)? {
            return Ok(Place::Server(server));
        }
        if let Some(hold) = hold(&instance)? {
            return Ok(Place::Files(instance, hold));
        }
        if begun.elapsed() > PATIENCE {
            bail!(
                "{} is in use, and its server does not answer on {}",
                dir.display(),
                socket::path(dir).display()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The uid in an object.
pub fn uid(record: &Record) -> String {
    let object: serde_json::Value = serde_json::from_slice(&record.value).unwrap_or_default();
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

pub fn header(engine: &str) -> Header {
    Header { time_ms: now_ms(), engine: engine.into(), program: VERSION.into(), ..Header::default() }
}

/// The files of a stopped server's store.
pub fn open(instance: &Instance) -> anyhow::Result<Offline> {
    let dir = instance.store_dir();
    let found =
        Offline::open(&dir).with_context(|| format!("failed to read the store in {}", dir.display()))?;
    found.with_context(|| {
        format!(
            "{} holds no store; if the cluster is kept in an etcd, name it with --etcd-servers",
            dir.display()
        )
    })
}

impl Place {
    pub async fn facts(&self) -> anyhow::Result<Facts> {
        Ok(match self {
            Place::Server(server) => server.facts()?,
            Place::Files(instance, _) => {
                let o = open(instance)?;
                Facts {
                    engine: "embedded".into(),
                    revision: o.revision(),
                    compacted: o.compacted(),
                    keys: o.keys(),
                    bytes_on_disk: o.files().iter().map(|(_, n)| n).sum(),
                    parts: o.files().to_vec(),
                    ..Facts::default()
                }
            }
            Place::Etcd(direct) => {
                let f = direct.facts().await?;
                let mut parts = vec![("in use of it".to_owned(), f.db_bytes_in_use)];
                if f.offset > 0 {
                    parts.push((format!("revisions since a restore are etcd's own and {}", f.offset), 0));
                }
                Facts {
                    engine: format!("etcd {}", f.version),
                    revision: f.revision,
                    keys: direct.count("").await?.0,
                    bytes_on_disk: f.db_bytes,
                    parts,
                    ..Facts::default()
                }
            }
        })
    }

    /// Hands out records in key order as they are at one revision, after a header that says how many there are. `exact`:
    /// the one under this very key.
    pub async fn records(
        &self,
        prefix: &str,
        exact: bool,
        begin: impl FnOnce(Header) -> anyhow::Result<()>,
        mut visit: impl FnMut(&Record) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Place::Server(server) => server.records(prefix, exact, begin, visit),
            Place::Files(instance, _) => {
                let o = open(instance)?;
                let wanted = |r: &&std::sync::Arc<Record>| !exact || *r.key == *prefix;
                let cluster = o.records(CLUSTER_KEY).find(|r| *r.key == *CLUSTER_KEY);
                begin(Header {
                    cluster: cluster.map_or(String::new(), |r| uid(r)),
                    revision: o.revision(),
                    records: o.records(prefix).filter(wanted).count() as u64,
                    ..header("embedded")
                })?;
                o.records(prefix).filter(wanted).try_for_each(|r| visit(r))
            }
            Place::Etcd(direct) => {
                let facts = direct.facts().await?;
                if facts.restoring {
                    bail!("a restore into this etcd has not come to its end: what is there is no cluster");
                }
                let cluster = direct.get(CLUSTER_KEY).await?;
                let one = if exact { direct.get(prefix).await? } else { None };
                let (count, revision) = match &one {
                    Some(r) => (1, r.mod_revision),
                    None if exact => (0, facts.revision),
                    None => direct.count(prefix).await?,
                };
                begin(Header {
                    cluster: cluster.as_ref().map_or(String::new(), uid),
                    revision,
                    records: count,
                    etcd: Some(facts.id),
                    ..header(&format!("etcd {}", facts.version))
                })?;
                if exact {
                    return one.iter().try_for_each(visit);
                }
                let walked = direct.walk(prefix, revision, |r| visit(&r)).await;
                match walked {
                    Err(e) if matches!(e.downcast_ref(), Some(store::Error::Compacted { .. })) => Err(e).context(
                        "etcd's history was compacted while it was read; run it again, or let the API servers compact less often (--etcd-compaction-interval)",
                    ),
                    other => other,
                }
            }
        }
    }
}

/// The directory that keys are kept in.
pub fn pki_dir(args: &PlaceArgs) -> PathBuf {
    Instance::of(&args.data_dir).data_dir.join("pki")
}
