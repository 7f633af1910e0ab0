//! The API as a term of office sees it: once the term is over, requests under way are dropped and none gets in any more,
//! also where a timer came late because the process was held up. Spawns nothing.

use std::sync::Arc;
use std::time::Instant;

use api::{Reason, Status};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::transport::{LocalBody, LocalServer};

pub struct Fence {
    server: Arc<dyn LocalServer>,
    name: &'static str,
    until: Mutex<Instant>,
    closed: CancellationToken,
}

impl Fence {
    pub fn new(server: Arc<dyn LocalServer>, name: &'static str, until: Instant) -> Self {
        Self { server, name, until: Mutex::new(until), closed: CancellationToken::new() }
    }

    /// The term was renewed.
    pub fn extend(&self, until: Instant) {
        *self.until.lock() = until;
    }

    pub fn until(&self) -> Instant {
        *self.until.lock()
    }

    /// The term is over.
    pub fn close(&self) {
        self.closed.cancel();
    }

    fn refused(&self) -> Response<LocalBody> {
        let status = Status::new(
            Reason::ServiceUnavailable,
            format!("this server does not lead {} any more; its loops make way", self.name),
        );
        let mut r = Response::new(LocalBody::Bytes(status.to_value().to_string().into()));
        *r.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        r
    }
}

#[async_trait]
impl LocalServer for Fence {
    async fn serve(&self, request: Request<Bytes>) -> Response<LocalBody> {
        if Instant::now() >= self.until() {
            return self.refused();
        }
        tokio::select! {
            biased;
            () = self.closed.cancelled() => self.refused(),
            r = self.server.serve(request) => r,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Answers only what asks it to.
    struct Slow;

    #[async_trait]
    impl LocalServer for Slow {
        async fn serve(&self, request: Request<Bytes>) -> Response<LocalBody> {
            if request.body().is_empty() {
                std::future::pending::<()>().await;
            }
            Response::new(LocalBody::Bytes(request.into_body()))
        }
    }

    #[tokio::test]
    async fn what_comes_late_is_refused_and_what_is_under_way_dropped() {
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        let quick = || Request::new(Bytes::from_static(b"x"));
        let fence = Fence::new(Arc::new(Slow), "kube-scheduler", now);
        assert_eq!(fence.serve(quick()).await.status(), 503, "the time is over");
        fence.extend(now + hour);
        assert_eq!(fence.serve(quick()).await.status(), 200);
        let (dropped, ()) = tokio::join!(fence.serve(Request::new(Bytes::new())), async {
            tokio::task::yield_now().await;
            fence.close();
        });
        assert_eq!(dropped.status(), 503);
        let LocalBody::Bytes(b) = dropped.into_body() else { panic!("a status") };
        assert!(String::from_utf8_lossy(&b).contains("kube-scheduler"));
        assert_eq!(fence.serve(quick()).await.status(), 503);
    }
}
