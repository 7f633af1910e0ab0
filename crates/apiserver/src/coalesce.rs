//! Writes of an HTTP/2 connection, gathered. Each frame is handed down on its own and flushed on its own: a TLS record and a
//! system call for each of the thousand watchers that an event goes to. What is ready at one time goes out as one instead.
//! Owns a buffer while there is something in it; spawns nothing.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered; before there are more, these are written. Four full TLS records.
const GATHERED: usize = 64 * 1024;
/// Two writes that would come as close as this belong to something that many streams are sent.
const CLOSE: Duration = Duration::from_micros(250);
/// Room that an empty buffer keeps.
const KEPT: usize = 1024;

struct State<T> {
    inner: T,
    buffer: Vec<u8>,
    /// Of these, written.
    done: usize,
}

impl<T: AsyncWrite + Unpin> State<T> {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.done < self.buffer.len() {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.buffer[self.done..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.done += n;
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
        self.done = 0;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Room for at least one more byte.
    fn room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.len() >= GATHERED {
            ready!(self.drain(cx))?;
        }
        Poll::Ready(Ok(GATHERED - self.buffer.len()))
    }
}

/// What the connection writes to. A flush does nothing: `Turns` writes, once the others have had their turn.
pub struct Coalesce<T>(Arc<Mutex<State<T>>>);

/// Drives a connection over a `Coalesce`, and writes what it has gathered.
pub struct Turns<T, F> {
    state: Arc<Mutex<State<T>>>,
    connection: Pin<Box<F>>,
    /// Those who were ready when something was there to be written first have had their turn.
    waited: bool,
    /// When it last wrote.
    written: Option<Instant>,
}

/// The two ends, around a connection that is made of the first.
pub fn gather<T, F>(inner: T, connection: impl FnOnce(Coalesce<T>) -> F) -> Turns<T, F> {
    let state = Arc::new(Mutex::new(State { inner, buffer: Vec::new(), done: 0 }));
    let connection = Box::pin(connection(Coalesce(state.clone())));
    Turns { state, connection, waited: false, written: None }
}

impl<T, F, E> Future for Turns<T, F>
where
    T: AsyncWrite + Unpin,
    F: Future<Output = Result<(), E>>,
    E: From<io::Error>,
{
    type Output = Result<(), E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        let ended = me.connection.as_mut().poll(cx);
        let mut state = me.state.lock();
        if ended.is_ready() || state.buffer.is_empty() {
            return ended;
        }
        if !me.waited && me.written.is_some_and(|at| at.elapsed() < CLOSE) {
            // Those who are ready now may have more for this connection. An answer that comes alone does not wait: to be
            // polled again costs more than it saves.
            me.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Poll::Ready(written) = state.drain(cx) {
            (me.waited, me.written) = (false, Some(Instant::now()));
            written?;
        }
        Poll::Pending
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalesce<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut s = self.0.lock();
        let n = ready!(s.room(cx))?.min(bytes.len());
        s.buffer.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut s = self.0.lock();
        let mut left = ready!(s.room(cx))?;
        let mut taken = 0;
        for part in parts {
            let n = left.min(part.len());
            s.buffer.extend_from_slice(&part[..n]);
            (left, taken) = (left - n, taken + n);
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut s = self.0.lock();
        ready!(s.drain(cx))?;
        Pin::new(&mut s.inner).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Coalesce<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().inner).poll_read(cx, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Counts what it is handed, takes a little at a time, and is not ready every other time.
    struct Narrow {
        to: Arc<Mutex<Vec<Vec<u8>>>>,
        at_once: usize,
        pending: bool,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.pending = !self.pending;
            if self.pending {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let n = bytes.len().min(self.at_once);
            self.to.lock().push(bytes[..n].to_vec());
            Poll::Ready(Ok(n))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_ready_at_one_time_goes_out_as_one() {
        let to = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (seen, (end, ended)) = (to.clone(), tokio::sync::oneshot::channel::<()>());
        let narrow = Narrow { to, at_once: usize::MAX, pending: false };
        let mut turns = gather(narrow, |mut c| async move {
            for i in 0..100u8 {
                let n = c.write_vectored(&[IoSlice::new(&[i]), IoSlice::new(&[i, i])]).await?;
                assert_eq!(n, 3);
                c.flush().await?;
                // Another task's turn; what comes then goes along.
                if i == 50 {
                    tokio::task::yield_now().await;
                }
            }
            while seen.lock().is_empty() {
                tokio::task::yield_now().await;
            }
            let _ = ended.await;
            c.shutdown().await
        });
        let state = turns.state.clone();
        // As in the middle of a burst, however slow this machine is.
        turns.written = Instant::now().checked_add(Duration::from_secs(3600));
        let task = tokio::spawn(turns);
        end.send(()).expect("it waits");
        task.await.expect("no panic").expect("no error");
        let s = state.lock();
        let parts: Vec<usize> = s.inner.to.lock().iter().map(Vec::len).collect();
        assert_eq!(parts, [300]);
        assert!(s.buffer.is_empty() && s.buffer.capacity() <= KEPT);
    }

    #[tokio::test]
    async fn nothing_is_lost_where_little_is_taken() {
        let to = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let all: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        let sent = all.clone();
        let narrow = Narrow { to: to.clone(), at_once: 1000, pending: false };
        let done: io::Result<()> = gather(narrow, |mut c| async move {
            for part in sent.chunks(7777) {
                c.write_all(part).await?;
            }
            c.shutdown().await
        })
        .await;
        done.expect("no error");
        assert_eq!(to.lock().concat(), all);
    }
}
