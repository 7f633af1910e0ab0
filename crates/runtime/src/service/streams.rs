//! exec, attach, port-forward. Pipes go to the shim as descriptors, so their bytes never pass through it (exec) or only
//! once (attach). Spawns one small task per exec or attach that waits for its end.

use super::*;
use crate::sandbox::shim_client::Channel;
use shim::protocol::{ExecRequest as ShimExec, Reply, Request};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// What exec_sync keeps of each stream, as containerd does.
const SYNC_LIMIT: u64 = 16 << 20;

/// A terminal's master side.
#[derive(Clone)]
struct Pty(Arc<AsyncFd<OwnedFd>>);

impl Pty {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        shim::sys::set_nonblocking(&fd)?;
        // SAFETY: the descriptor is owned by the `AsyncFd` and lives as long as its registration.
        Ok(Pty(Arc::new(unsafe { AsyncFd::register(fd) }?)))
    }

    fn resize(&self, s: TerminalSize) {
        let ws = libc::winsize { ws_row: s.height, ws_col: s.width, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `ws` lives through the call; the descriptor is open.
        unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCSWINSZ, &ws) };
    }
}

impl AsyncRead for Pty {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            match guard
                .try_io(|fd| nix::unistd::read(fd.get_ref(), buf.initialize_unfilled()).map_err(Into::into))
            {
                Ok(Ok(n)) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(()));
                }
                // The last process on the other side has closed it.
                Ok(Err(e)) if e.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_) => continue,
            }
        }
    }
}

impl AsyncWrite for Pty {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(r) = guard.try_io(|fd| nix::unistd::write(fd.get_ref(), data).map_err(Into::into)) {
                return Poll::Ready(r);
            }
        }
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Our ends, and the other ends for the shim, in the protocol's order.
#[derive(Default)]
struct Pipes {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    theirs: Vec<OwnedFd>,
}

fn pipes(stdin: bool, stdout: bool, stderr: bool) -> io::Result<Pipes> {
    let mut p = Pipes::default();
    if stdin {
        let (r, w) = shim::sys::pipe()?;
        p.stdin = Some(pipe::Sender::from_owned_fd(w)?);
        p.theirs.push(r);
    }
    for (wanted, slot) in [(stdout, &mut p.stdout), (stderr, &mut p.stderr)] {
        if wanted {
            let (r, w) = shim::sys::pipe()?;
            *slot = Some(pipe::Receiver::from_owned_fd(r)?);
            p.theirs.push(w);
        }
    }
    Ok(p)
}

fn boxed_read(r: Option<pipe::Receiver>) -> Option<BoxRead> {
    r.map(|r| Box::new(r) as BoxRead)
}

impl Inner {
    fn running(&self, id: &str) -> Result<Arc<Container>> {
        let c = self.container(id)?;
        match c.state() {
            ContainerState::Running => Ok(c),
            _ => Err(CriError::FailedPrecondition(format!("container {id} is not running"))),
        }
    }

    async fn channel(&self, sandbox: &str) -> Result<Channel> {
        Channel::open(&self.sandbox(sandbox)?.dir).await.map_err(from_shim)
    }

    pub async fn exec_stream(self: &Arc<Self>, req: &ExecRequest) -> Result<ExecStream> {
        let c = self.running(&req.container_id)?;
        if req.cmd.is_empty() {
            return Err(CriError::InvalidArgument("no command to execute".into()));
        }
        let ch = self.channel(&c.rec.sandbox_id).await?;
        let p = match req.tty {
            true => Pipes::default(),
            false => pipes(req.stdin, req.stdout, req.stderr).map_err(CriError::internal)?,
        };
        let ask = Request::Exec(ShimExec {
            id: req.container_id.clone(),
            args: req.cmd.clone(),
            tty: req.tty,
            stdin: req.stdin && !req.tty,
            stdout: req.stdout && !req.tty,
            stderr: req.stderr && !req.tty,
        });
        let Pipes { stdin, stdout, stderr, theirs } = p;
        let (_, fds) = ch.call(ask, &theirs).await.map_err(from_shim)?;
        drop(theirs);
        let pty = fds.into_iter().next().map(Pty::new).transpose().map_err(CriError::internal)?;
        let (resize, mut sizes) = mpsc::channel::<TerminalSize>(8);
        let (mut done, exit) = oneshot::channel();
        let own = pty.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    r = ch.recv() => match r {
                        Ok((f, _)) => if let Reply::ExecExited { code } = f.reply {
                            let _ = done.send(Ok(code));
                            return;
                        },
                        Err(e) => {
                            let _ = done.send(Err(from_shim(e)));
                            return;
                        }
                    },
                    // Nobody waits any more: closing the channel ends the process.
                    () = done.closed() => return,
                    Some(s) = sizes.recv() => if let Some(p) = &own { p.resize(s) },
                }
            }
        });
        Ok(match pty {
            Some(p) => ExecStream {
                stdin: req.stdin.then(|| Box::new(p.clone()) as BoxWrite),
                stdout: req.stdout.then(|| Box::new(p) as BoxRead),
                stderr: None,
                resize,
                exit,
            },
            None => ExecStream {
                stdin: stdin.map(|s| Box::new(s) as BoxWrite),
                stdout: boxed_read(stdout),
                stderr: boxed_read(stderr),
                resize,
                exit,
            },
        })
    }

    pub async fn exec_and_wait(
        self: &Arc<Self>,
        id: &str,
        cmd: &[String],
        timeout: i64,
    ) -> Result<ExecSyncResponse> {
        let req = ExecRequest {
            container_id: id.to_string(),
            cmd: cmd.to_vec(),
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        let run = async {
            let s = self.exec_stream(&req).await?;
            let read = |r: Option<BoxRead>| {
                tokio::spawn(async move {
                    let mut out = Vec::new();
                    if let Some(mut r) = r {
                        let _ = (&mut r).take(SYNC_LIMIT).read_to_end(&mut out).await;
                        // The rest is let through, so that the process isn't stopped by a full pipe.
                        let _ = tokio::io::copy(&mut r, &mut tokio::io::sink()).await;
                    }
                    out
                })
            };
            let (out, err) = (read(s.stdout), read(s.stderr));
            let exit_code =
                s.exit.await.unwrap_or_else(|_| Err(CriError::Internal("the exec got lost".into())))?;
            Ok(ExecSyncResponse {
                stdout: out.await.unwrap_or_default(),
                stderr: err.await.unwrap_or_default(),
                exit_code,
            })
        };
        if timeout <= 0 {
            return run.await;
        }
        let limit = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
        tokio::time::timeout(limit, run).await.unwrap_or_else(|_| {
            Err(CriError::DeadlineExceeded(format!("command {cmd:?} timed out: timeout {timeout}s exceeded")))
        })
    }

    pub async fn attach_stream(self: &Arc<Self>, req: &AttachRequest) -> Result<ExecStream> {
        let c = self.running(&req.container_id)?;
        let shim = self.shim_of(&c.rec.sandbox_id)?;
        let ch = self.channel(&c.rec.sandbox_id).await?;
        let tty = c.rec.config.tty;
        let p = pipes(req.stdin, req.stdout, req.stderr && !tty).map_err(CriError::internal)?;
        let Pipes { stdin, stdout, stderr, theirs } = p;
        let id = req.container_id.clone();
        let ask = Request::Attach {
            id: id.clone(),
            stdin: req.stdin,
            stdout: req.stdout,
            stderr: req.stderr && !tty,
        };
        ch.call(ask, &theirs).await.map_err(from_shim)?;
        drop(theirs);
        let (resize, mut sizes) = mpsc::channel::<TerminalSize>(8);
        let (mut done, exit) = oneshot::channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    r = ch.recv() => match r {
                        Ok((f, _)) => if let Reply::ExecExited { code } = f.reply {
                            let _ = done.send(Ok(code));
                            return;
                        },
                        Err(_) => {
                            let _ = done.send(Ok(0));
                            return;
                        }
                    },
                    () = done.closed() => return,
                    Some(s) = sizes.recv() => {
                        let req = Request::Resize { id: id.clone(), width: s.width, height: s.height };
                        let _ = shim.call(req).await;
                    }
                }
            }
        });
        Ok(ExecStream {
            stdin: stdin.map(|s| Box::new(s) as BoxWrite),
            stdout: boxed_read(stdout),
            stderr: boxed_read(stderr),
            resize,
            exit,
        })
    }

    pub async fn forward(&self, sandbox: &str, port: u16) -> Result<BoxDuplex> {
        self.shim_of(sandbox)?;
        let ch = self.channel(sandbox).await?;
        let (_, fds) = ch.call(Request::Connect { port }, &[]).await.map_err(from_shim)?;
        let fd = fds.into_iter().next().ok_or_else(|| CriError::Internal("no connection came".into()))?;
        let stream =
            tokio::net::TcpStream::from_std(std::net::TcpStream::from(fd)).map_err(CriError::internal)?;
        let failed = |e: io::Error| CriError::Internal(format!("connect to port {port} in the pod: {e}"));
        stream.writable().await.map_err(failed)?;
        match stream.take_error().map_err(failed)? {
            Some(e) => Err(failed(e)),
            None => Ok(Box::new(stream)),
        }
    }
}
