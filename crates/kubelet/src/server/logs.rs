//! `containerLogs`: a container's log file, decoded, from where the client wants it, followed across rotation. One task
//! per reader; the channel to the client holds a few chunks.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use client::clock;
use cri::ContainerState;
use futures::stream;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::pod_worker::{Snapshot, plan::over};
use crate::server::{Body, Cx, Query, Refused};

/// How often a follower looks at the file.
const LOOK: Duration = Duration::from_millis(60);
const CHUNK: usize = 32 << 10;

#[derive(Debug, Clone, Default)]
struct Options {
    follow: bool,
    timestamps: bool,
    since: Option<jiff::Timestamp>,
    limit: Option<usize>,
    tail: Option<usize>,
    /// `stdout` or `stderr`; empty: both.
    stream: String,
}

/// One line of the file, split. Partial lines have no newline.
pub fn decode(line: &str) -> Option<(&str, &str, String)> {
    let mut parts = line.splitn(4, ' ');
    let (time, stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let text = if tag.starts_with('P') { text.trim_end_matches('\n').to_owned() } else { text.to_owned() };
    Some((time, stream, text))
}

struct Decoder {
    o: Options,
    left: Option<usize>,
    /// The line before was partial: no timestamp in the middle of a line.
    open: bool,
}

impl Decoder {
    /// Appends what the client gets of a line; `false` when the limit is reached.
    fn add(&mut self, line: &str, out: &mut Vec<u8>) -> bool {
        let Some((time, stream, text)) = decode(line) else { return true };
        if !self.o.stream.is_empty() && self.o.stream != stream {
            return true;
        }
        if let Some(since) = self.o.since
            && clock::parse(time).is_some_and(|t| t < since)
        {
            return true;
        }
        let mut piece = String::new();
        if self.o.timestamps && !self.open {
            piece.push_str(time);
            piece.push(' ');
        }
        piece.push_str(&text);
        self.open = !text.ends_with('\n');
        let bytes = piece.as_bytes();
        match &mut self.left {
            None => out.extend_from_slice(bytes),
            Some(left) => {
                let n = bytes.len().min(*left);
                out.extend_from_slice(bytes.get(..n).unwrap_or_default());
                *left -= n;
                return *left > 0;
            }
        }
        true
    }
}

/// Where the last `lines` lines begin.
fn tail_offset(f: &mut File, lines: usize) -> std::io::Result<u64> {
    let len = f.metadata()?.len();
    if lines == 0 {
        return Ok(len);
    }
    let (mut end, mut found) = (len, 0);
    let mut buf = vec![0; 64 << 10];
    while end > 0 {
        let n = end.min(buf.len() as u64);
        let start = end - n;
        f.seek(SeekFrom::Start(start))?;
        let block = buf.get_mut(..usize::try_from(n).unwrap_or(0)).unwrap_or_default();
        f.read_exact(block)?;
        for (i, b) in block.iter().enumerate().rev() {
            let at = start + i as u64;
            if *b == b'\n' && at + 1 != len {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

fn options(q: &Query) -> Options {
    let since = q.get("sinceTime").and_then(clock::parse).or_else(|| {
        let s = q.number("sinceSeconds")?;
        clock::now().checked_sub(jiff::SignedDuration::from_secs(s)).ok()
    });
    Options {
        follow: q.flag("follow"),
        timestamps: q.flag("timestamps"),
        since,
        limit: q.number("limitBytes").and_then(|n| usize::try_from(n).ok()),
        tail: q.number("tailLines").and_then(|n| usize::try_from(n).ok()),
        stream: match q.get("stream") {
            Some("Stdout") => "stdout".into(),
            Some("Stderr") => "stderr".into(),
            _ => String::new(),
        },
    }
}

/// Which container's file, or upstream's sentence why there is none.
fn choose(shot: &Snapshot, container: &str, previous: bool) -> Result<(PathBuf, String), Refused> {
    let name = &shot.pod.metadata.name;
    if shot.pod.container(container).is_none() {
        return Err(Refused::bad(format!("container {container} is not valid for pod {name}")));
    }
    let mut all: Vec<_> = shot.containers.iter().filter(|c| c.metadata.name == container).collect();
    all.sort_by_key(|c| (c.metadata.attempt, c.created_at));
    if previous {
        let newest_ended = all.last().is_some_and(|c| over(c));
        let st = shot.status.of(container);
        let waiting = st.is_some_and(|s| s.state.waiting.is_some());
        // While it waits for its restart, the run that ended is the previous one.
        let found = if newest_ended && waiting { all.last() } else { all.iter().rev().nth(1) };
        let c = found.ok_or_else(|| {
            Refused::bad(format!("previous terminated container \"{container}\" in pod \"{name}\" not found"))
        })?;
        return Ok((PathBuf::from(&c.log_path), c.id.clone()));
    }
    match all.last() {
        Some(c) => Ok((PathBuf::from(&c.log_path), c.id.clone())),
        None => {
            let waiting = shot.status.of(container).and_then(|s| s.state.waiting.clone()).unwrap_or_default();
            let state = format!("container \"{container}\" in pod \"{name}\" is waiting to start");
            Err(Refused::bad(match waiting.reason.as_str() {
                "ErrImagePull" => format!("{state}: image can't be pulled"),
                "ImagePullBackOff" => format!("{state}: trying and failing to pull image"),
                "" => state,
                r => format!("{state}: {r}"),
            }))
        }
    }
}

pub fn serve(cx: &Cx, shot: &Snapshot, container: &str, q: &Query) -> Result<Response<Body>, Refused> {
    let o = options(q);
    let (path, id) = choose(shot, container, q.flag("previous"))?;
    let (tx, rx) = mpsc::channel::<Bytes>(4);
    let (workers, uid) = (cx.workers.clone(), shot.pod.metadata.uid.clone());
    let alive = move || {
        workers.get(&uid).is_some_and(|h| {
            h.snapshot.read().containers.iter().any(|c| c.id == id && c.state == ContainerState::Running)
        })
    };
    tokio::spawn(read(path, o, tx, alive));
    let body = stream::unfold(rx, |mut rx| async move { rx.recv().await.map(|b| (Ok(Frame::data(b)), rx)) });
    let mut r = Response::new(BodyExt::boxed_unsync(StreamBody::new(body)));
    *r.status_mut() = StatusCode::OK;
    r.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    Ok(r)
}

/// Reads to the end, and on while `alive` when following. Files are local and reads small: they are done in place.
async fn read(path: PathBuf, o: Options, to: mpsc::Sender<Bytes>, alive: impl Fn() -> bool + Send) {
    let follow = o.follow;
    let mut d = Decoder { left: o.limit, o, open: false };
    if d.left == Some(0) {
        return;
    }
    let mut file = loop {
        match File::open(&path) {
            Ok(f) => break f,
            // A container that has just started may not have written yet.
            Err(_) if follow && alive() && !to.is_closed() => tokio::time::sleep(LOOK).await,
            Err(_) => return,
        }
    };
    let from = match d.o.tail {
        Some(n) => tail_offset(&mut file, n).unwrap_or(0),
        None => 0,
    };
    if file.seek(SeekFrom::Start(from)).is_err() {
        return;
    }
    let mut inode = file.metadata().map_or(0, |m| m.ino());
    let mut reader = BufReader::with_capacity(CHUNK, file);
    let mut line: Vec<u8> = Vec::new();
    let mut out = Vec::new();
    loop {
        // Asked before reading: what ended before is read whole.
        let running = follow && alive();
        loop {
            let whole = match reader.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => line.ends_with(b"\n"),
            };
            if !whole {
                break;
            }
            let go_on = d.add(&String::from_utf8_lossy(&line), &mut out);
            line.clear();
            let full = out.len() >= CHUNK || !go_on;
            let gone = full && to.send(std::mem::take(&mut out).into()).await.is_err();
            if gone || !go_on {
                return;
            }
        }
        if !out.is_empty() && to.send(std::mem::take(&mut out).into()).await.is_err() {
            return;
        }
        let rotated = std::fs::metadata(&path).ok().filter(|m| m.ino() != inode);
        if follow && let Some(m) = rotated {
            // The old file was read to its end; what came after stands in the new one.
            if let Ok(f) = File::open(&path) {
                inode = m.ino();
                reader = BufReader::with_capacity(CHUNK, f);
                line.clear();
                continue;
            }
        }
        if !running || to.is_closed() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(content: &str, o: Options) -> String {
        let t = tempfile::tempdir().expect("dir");
        let p = t.path().join("0.log");
        std::fs::write(&p, content).expect("write");
        let (tx, mut rx) = mpsc::channel(64);
        read(p, o, tx, || false).await;
        let mut all = Vec::new();
        while let Some(b) = rx.recv().await {
            all.extend_from_slice(&b);
        }
        String::from_utf8(all).expect("utf-8")
    }

    const LOG: &str = "2026-01-01T00:00:01.5Z stdout F one\n2026-01-01T00:00:02Z stderr P tw\n2026-01-01T00:00:02Z stderr F o\n2026-01-01T00:00:03Z stdout F three\n";

    #[tokio::test]
    async fn options_shape_the_text() {
        let o = Options::default();
        assert_eq!(text(LOG, o.clone()).await, "one\ntwo\nthree\n");
        assert_eq!(text(LOG, Options { tail: Some(1), ..o.clone() }).await, "three\n");
        assert_eq!(text(LOG, Options { tail: Some(0), ..o.clone() }).await, "");
        assert_eq!(text(LOG, Options { tail: Some(99), ..o.clone() }).await, "one\ntwo\nthree\n");
        assert_eq!(text(LOG, Options { limit: Some(5), ..o.clone() }).await, "one\nt");
        assert_eq!(text(LOG, Options { stream: "stderr".into(), ..o.clone() }).await, "two\n");
        let since = "2026-01-01T00:00:03Z".parse().ok();
        assert_eq!(text(LOG, Options { since, ..o.clone() }).await, "three\n");
        let stamped = text(LOG, Options { timestamps: true, ..o }).await;
        assert!(stamped.starts_with("2026-01-01T00:00:01.5Z one\n2026-01-01T00:00:02Z two\n"));
    }
}
