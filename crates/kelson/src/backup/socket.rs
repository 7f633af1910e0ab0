//! How the commands read a running server's store: a socket in the data directory, for root and the server's own user. One
//! JSON line in, one out; records follow in the form of a backup, with its checksums. The server's side spawns one task
//! for the socket and one per connection.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use store::backup::{Header, Item, Reader, Writer};
use store::{Range, Record, Store};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::forget;
use super::place::{CLUSTER_KEY, Facts, header, uid};

const MAX_LINE: u64 = 64 << 10;
/// A reader that takes nothing for so long is let go, and with it the records that it holds.
const STALLED: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Request {
    Facts,
    /// `exact`: the one under this very key.
    Records {
        prefix: String,
        exact: bool,
    },
    Compact {
        revision: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Reply {
    Facts(Facts),
    /// They follow.
    Records,
    Compacted,
    Error(String),
}

pub fn path(dir: &Path) -> PathBuf {
    dir.join("store.sock")
}

/// The same by a path that is short enough for a socket, however deep the directory lies, as long as the handle is open.
fn short(dir: &Path) -> io::Result<(std::fs::File, PathBuf)> {
    use std::os::fd::AsRawFd;
    let handle = std::fs::File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/store.sock", handle.as_raw_fd()));
    Ok((handle, path))
}

/// What the socket serves.
pub struct Served {
    pub store: Arc<dyn Store>,
    /// Addresses of the etcd, where it is one.
    pub etcd: Option<Vec<String>>,
}

/// Listens until the token is cancelled. Without a socket the server works all the same.
pub fn serve(dir: PathBuf, served: Served, token: CancellationToken, tasks: &mut JoinSet<()>) {
    let listen = || {
        let _ = std::fs::remove_file(path(&dir));
        let (_handle, at) = short(&dir)?;
        let listener = UnixListener::bind(at)?;
        std::fs::set_permissions(path(&dir), std::fs::Permissions::from_mode(0o600))?;
        io::Result::Ok(listener)
    };
    let listener = match listen() {
        Ok(listener) => listener,
        Err(e) => {
            let at = path(&dir);
            warn!(error = %e, path = %at.display(), "no backups while this server runs: its socket can't be made");
            return;
        }
    };
    let served = Arc::new(served);
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = token.cancelled() => break,
                s = listener.accept() => s,
                Some(_) = connections.join_next() => continue,
            };
            let Ok((stream, _)) = stream else {
                tokio::task::yield_now().await;
                continue;
            };
            let served = served.clone();
            connections.spawn(async move {
                if let Err(e) = connection(stream, &served).await {
                    debug!(error = format!("{e:#}"), "a connection to the store's socket ended");
                }
            });
        }
        let _ = std::fs::remove_file(path(&dir));
    });
}

async fn send(stream: &mut UnixStream, bytes: &[u8]) -> anyhow::Result<()> {
    match tokio::time::timeout(STALLED, stream.write_all(bytes)).await {
        Ok(sent) => sent.context("failed to answer"),
        Err(_) => bail!("the reader takes nothing any more"),
    }
}

async fn connection(mut stream: UnixStream, served: &Served) -> anyhow::Result<()> {
    // The file's mode says the same, but for the moment in which the socket was made.
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != nix::unistd::geteuid().as_raw() {
        bail!("user {peer} may not read the store");
    }
    let mut line = String::new();
    let mut input = tokio::io::BufReader::new((&mut stream).take(MAX_LINE));
    match tokio::time::timeout(STALLED, input.read_line(&mut line)).await {
        Ok(read) => read.context("failed to read the request")?,
        Err(_) => bail!("no request came"),
    };
    let request = serde_json::from_str::<Request>(&line);
    let line_of = |reply: &Reply| serde_json::to_string(reply).map(|t| t + "\n");
    let store = &served.store;
    let reply = match request {
        Err(e) => Reply::Error(format!(
            "the server does not understand the request ({e}); are both of the same version?"
        )),
        Ok(Request::Facts) => Reply::Facts(facts(served)),
        Ok(Request::Compact { revision }) => match forget(&**store, revision).await {
            Ok(()) => Reply::Compacted,
            Err(e) => Reply::Error(e.to_string()),
        },
        Ok(Request::Records { prefix, exact }) => {
            let range = if exact { Range::key(&prefix) } else { Range::prefix(&prefix) };
            // All at once, by reference: what is replaced meanwhile stays until it has been sent.
            match store.range(range).await {
                Ok(found) => {
                    send(&mut stream, line_of(&Reply::Records)?.as_bytes()).await?;
                    return records(&mut stream, served, found).await;
                }
                Err(e) => Reply::Error(e.to_string()),
            }
        }
    };
    send(&mut stream, line_of(&reply)?.as_bytes()).await
}

fn facts(served: &Served) -> Facts {
    let s = served.store.stats();
    Facts {
        engine: if served.etcd.is_some() { "etcd" } else { "embedded" }.into(),
        revision: s.revision,
        compacted: s.compacted,
        keys: s.keys,
        bytes_in_memory: s.bytes_in_memory,
        bytes_on_disk: s.bytes_on_disk,
        parts: served.etcd.iter().flatten().map(|url| (url.clone(), 0)).collect(),
    }
}

async fn records(stream: &mut UnixStream, served: &Served, found: store::RangeResult) -> anyhow::Result<()> {
    let cluster = served.store.get(CLUSTER_KEY).await?;
    let head = Header {
        cluster: cluster.map_or(String::new(), |r| uid(&r)),
        revision: found.revision,
        records: found.records.len() as u64,
        ..header(&facts(served).engine)
    };
    let mut writer = Writer::new(Vec::new(), &head)?;
    for r in found.records {
        writer.record(&r)?;
        let ready = std::mem::take(writer.get_mut());
        if !ready.is_empty() {
            send(stream, &ready).await?;
        }
    }
    send(stream, &writer.finish()?).await
}

/// The other end.
pub struct Server {
    dir: PathBuf,
}

impl Server {
    /// `None` when no server runs on this data directory.
    pub fn find(dir: &Path) -> anyhow::Result<Option<Self>> {
        let server = Self { dir: dir.to_owned() };
        match server.connect() {
            Ok(_) => Ok(Some(server)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e).with_context(|| {
                format!("{} is for root and the user that the server runs as", path(dir).display())
            }),
            Err(e) => {
                Err(e).with_context(|| format!("failed to reach the server on {}", path(dir).display()))
            }
        }
    }

    fn connect(&self) -> io::Result<Blocking> {
        let (_handle, at) = short(&self.dir)?;
        Blocking::connect(at)
    }

    fn ask(&self, request: &Request) -> anyhow::Result<(Reply, BufReader<Blocking>)> {
        let mut stream = self.connect().context("failed to reach the server")?;
        let text = serde_json::to_string(request)? + "\n";
        stream.write_all(text.as_bytes()).context("failed to ask the server")?;
        let mut input = BufReader::with_capacity(256 << 10, stream);
        let mut line = String::new();
        input.read_line(&mut line).context("failed to hear from the server")?;
        if line.is_empty() {
            bail!("the server went away before it answered");
        }
        let reply = serde_json::from_str(&line).context(
            "the server answered something this program does not understand; are both of the same version?",
        )?;
        if let Reply::Error(e) = reply {
            bail!("{e}");
        }
        Ok((reply, input))
    }

    pub fn facts(&self) -> anyhow::Result<Facts> {
        match self.ask(&Request::Facts)?.0 {
            Reply::Facts(facts) => Ok(facts),
            other => bail!("the server answered {other:?}"),
        }
    }

    pub fn compact(&self, revision: u64) -> anyhow::Result<()> {
        self.ask(&Request::Compact { revision }).map(|_| ())
    }

    pub fn records(
        &self,
        prefix: &str,
        exact: bool,
        begin: impl FnOnce(Header) -> anyhow::Result<()>,
        mut visit: impl FnMut(&Record) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (_, input) = self.ask(&Request::Records { prefix: prefix.into(), exact })?;
        let cut = "the server's answer was cut short";
        let mut reader = Reader::open(input, "the server's answer").context(cut)?;
        begin(reader.header().clone())?;
        while let Some(item) = reader.item().context(cut)? {
            if let Item::Records(records) = item {
                records.iter().try_for_each(&mut visit)?;
            }
        }
        Ok(())
    }
}
