//! How the commands on this machine speak to a running daemon: one JSON line in, JSON lines out, over a socket that only
//! root can open. Spawns one task for the socket and one per connection.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use cri::{ImageService, ImageSpec};
use runtime::EmbeddedRuntime;
use runtime::images::Progress;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::bar::Bar;

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);
const MAX_LINE: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    Import { path: PathBuf, name: Option<String> },
    Pull { image: String },
    List,
    Remove { image: String },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRow {
    pub names: Vec<String>,
    pub id: String,
    pub size: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// Bytes of layers fetched so far; more follows.
    Progress {
        done: u64,
        total: u64,
    },
    Images(Vec<ImageRow>),
    Error(String),
}

fn row(i: &cri::Image) -> ImageRow {
    let mut names = i.repo_tags.clone();
    if names.is_empty() {
        names.clone_from(&i.repo_digests);
    }
    ImageRow { names, id: i.id.clone(), size: i.size }
}

/// Returns when a pull has come further than what was told.
pub async fn moved(progress: &Progress, told: &mut (u64, u64)) -> (u64, u64) {
    loop {
        let now = (progress.done.load(Ordering::Relaxed), progress.total.load(Ordering::Relaxed));
        if now != *told {
            *told = now;
            return now;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Carries a request out, in the daemon or in the command itself.
pub async fn perform(
    runtime: &EmbeddedRuntime,
    request: Request,
    progress: &Progress,
) -> anyhow::Result<Vec<ImageRow>> {
    let spec = |image: &str| ImageSpec { image: image.to_owned(), ..ImageSpec::default() };
    match request {
        Request::Import { path, name } => {
            let images = runtime.import_image(&path, name.as_deref()).await;
            Ok(images
                .with_context(|| format!("failed to import {}", path.display()))?
                .iter()
                .map(row)
                .collect())
        }
        Request::Pull { image } => {
            runtime.pull(&image, None, Some(progress)).await?;
            let found = runtime.image_status(&spec(&image)).await?;
            Ok(found.iter().map(row).collect())
        }
        Request::List => Ok(runtime.list_images(None).await?.iter().map(row).collect()),
        Request::Remove { image } => {
            let there = runtime.image_status(&spec(&image)).await?;
            let there = there.with_context(|| format!("there is no image {image}"))?;
            runtime.remove_image(&spec(&image)).await.with_context(|| format!("failed to remove {image}"))?;
            Ok(vec![row(&there)])
        }
    }
}

/// Listens until the token is cancelled.
pub fn serve(
    path: PathBuf,
    runtime: EmbeddedRuntime,
    token: CancellationToken,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let _ = std::fs::remove_file(&path);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    }
    let listener =
        UnixListener::bind(&path).with_context(|| format!("failed to listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("failed to protect {}", path.display()))?;
    let runtime = Arc::new(runtime);
    tasks.spawn(async move {
        loop {
            let stream = tokio::select! {
                () = token.cancelled() => break,
                s = listener.accept() => s,
            };
            let Ok((stream, _)) = stream else {
                tokio::task::yield_now().await;
                continue;
            };
            let runtime = runtime.clone();
            tokio::spawn(async move {
                if let Err(e) = connection(stream, &runtime).await {
                    debug!(error = %e, "an admin connection ended");
                }
            });
        }
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

async fn connection(stream: UnixStream, runtime: &EmbeddedRuntime) -> anyhow::Result<()> {
    use tokio::io::AsyncReadExt;
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_LINE)).read_line(&mut line).await?;
    let line_of = |reply: &Reply| serde_json::to_string(reply).map(|t| t + "\n");
    let reply = match serde_json::from_str::<Request>(&line) {
        Err(e) => Reply::Error(format!(
            "the daemon does not understand the request ({e}); are both of the same version?"
        )),
        Ok(request) => {
            let (progress, mut told) = (Progress::default(), (0, 0));
            let work = perform(runtime, request, &progress);
            tokio::pin!(work);
            let result = loop {
                tokio::select! {
                    biased;
                    result = &mut work => break result,
                    // When nobody waits any more, the pull ends with the connection.
                    (done, total) = moved(&progress, &mut told) => {
                        write.write_all(line_of(&Reply::Progress { done, total })?.as_bytes()).await?;
                    }
                }
            };
            match result {
                Ok(rows) => Reply::Images(rows),
                Err(e) => Reply::Error(format!("{e:#}")),
            }
        }
    };
    write.write_all(line_of(&reply)?.as_bytes()).await?;
    Ok(())
}

/// Asks a running daemon; `None` when none is running.
pub async fn ask(path: &Path, request: &Request, bar: &mut Bar) -> anyhow::Result<Option<Vec<ImageRow>>> {
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(e) => return Err(e).with_context(|| format!("failed to reach the daemon on {}", path.display())),
    };
    let (read, mut write) = stream.into_split();
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await.context("failed to ask the daemon")?;
    let mut lines = BufReader::new(read).lines();
    loop {
        let line = lines.next_line().await.context("failed to hear from the daemon")?;
        let line = line.context("the daemon went away in the middle of its answer")?;
        match serde_json::from_str(&line).context(
            "the daemon answered something this program does not understand; are both of the same version?",
        )? {
            Reply::Progress { done, total } => bar.show(done, total),
            Reply::Images(rows) => return Ok(Some(rows)),
            Reply::Error(e) => bail!("{e}"),
        }
    }
}
