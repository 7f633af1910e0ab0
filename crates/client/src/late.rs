//! An API server that is not there yet: requests wait until it is, so that a node can start, and start pods it knows,
//! before its API answers. Spawns nothing.

use std::sync::Arc;

use api::{Reason, Status};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::watch;

use crate::transport::{LocalBody, LocalServer};

#[derive(Clone)]
enum State {
    Waiting,
    Here(Arc<dyn LocalServer>),
    Never,
}

pub struct LateServer {
    state: watch::Sender<State>,
}

impl Default for LateServer {
    fn default() -> Self {
        Self { state: watch::channel(State::Waiting).0 }
    }
}

impl LateServer {
    /// From now on requests are served, those that wait first.
    pub fn attach(&self, server: Arc<dyn LocalServer>) {
        self.state.send_replace(State::Here(server));
    }

    /// It will not come: what waits and what comes is answered with an error.
    pub fn give_up(&self) {
        self.state.send_if_modified(|s| {
            let waiting = matches!(s, State::Waiting);
            if waiting {
                *s = State::Never;
            }
            waiting
        });
    }
}

#[async_trait]
impl LocalServer for LateServer {
    async fn serve(&self, request: Request<Bytes>) -> Response<LocalBody> {
        let mut state = self.state.subscribe();
        let state = state.wait_for(|s| !matches!(s, State::Waiting)).await.map(|s| s.clone());
        if let Ok(State::Here(server)) = state {
            return server.serve(request).await;
        }
        let status = Status::new(Reason::ServiceUnavailable, "the API server did not start");
        let body = LocalBody::Bytes(Bytes::from(status.to_value().to_string()));
        let mut response = Response::new(body);
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    #[async_trait]
    impl LocalServer for Echo {
        async fn serve(&self, request: Request<Bytes>) -> Response<LocalBody> {
            Response::new(LocalBody::Bytes(request.into_body()))
        }
    }

    async fn ask(server: &LateServer) -> u16 {
        server.serve(Request::new(Bytes::from_static(b"x"))).await.status().as_u16()
    }

    #[tokio::test]
    async fn requests_wait_for_the_server() {
        let late = LateServer::default();
        let (status, ()) = tokio::join!(ask(&late), async {
            tokio::task::yield_now().await;
            late.attach(Arc::new(Echo));
        });
        assert_eq!(status, 200);
        late.give_up();
        assert_eq!(ask(&late).await, 200, "what is there stays");
        let never = LateServer::default();
        let (status, ()) = tokio::join!(ask(&never), async { never.give_up() });
        assert_eq!(status, 503);
    }
}
