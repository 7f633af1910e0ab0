//! Few connections for many identities: requests of all nodes share a bounded number of HTTP/2 connections of a member of
//! system:masters, and each names the node it is of (impersonation), so that the Node authorizer and NodeRestriction judge
//! it as they judge a kubelet. Why: docs/adr/0008.

use std::sync::Arc;

use api::{Object, Status};
use async_trait::async_trait;
use bytes::Bytes;
use client::{Client, ObjectList, Transport, WatchStream};
use http::{HeaderValue, Request, Response};

/// The connections, each made when it is first used.
#[derive(Clone)]
pub struct Access {
    connections: Arc<[Arc<dyn Transport>]>,
}

struct As {
    inner: Arc<dyn Transport>,
    node: HeaderValue,
}

impl As {
    fn named(&self, mut request: Request<Bytes>) -> Request<Bytes> {
        let headers = request.headers_mut();
        headers.insert("impersonate-user", self.node.clone());
        headers.insert("impersonate-group", HeaderValue::from_static("system:nodes"));
        request
    }
}

#[async_trait]
impl Transport for As {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        self.inner.call(self.named(request)).await
    }
    async fn object(&self, request: Request<Bytes>) -> Result<Object, Status> {
        self.inner.object(self.named(request)).await
    }
    async fn list(&self, request: Request<Bytes>) -> Result<ObjectList, Status> {
        self.inner.list(self.named(request)).await
    }
    async fn watch(&self, request: Request<Bytes>) -> Result<WatchStream, Status> {
        self.inner.watch(self.named(request)).await
    }
}

impl Access {
    /// At least one connection is needed.
    pub fn new(connections: Vec<Arc<dyn Transport>>) -> Option<Self> {
        (!connections.is_empty()).then(|| Self { connections: connections.into() })
    }

    fn connection(&self, of: usize) -> Option<&Arc<dyn Transport>> {
        self.connections.get(of % self.connections.len().max(1))
    }

    /// The simulation itself, which reads for all nodes.
    pub fn itself(&self) -> Option<Client> {
        self.connection(0).map(|c| Client::new(c.clone(), "kelson-simulation"))
    }

    /// A node: its number chooses the connection, its name the identity.
    pub fn node(&self, number: usize, name: &str) -> Option<Client> {
        let node = HeaderValue::from_str(&format!("system:node:{name}")).ok()?;
        let inner = self.connection(number)?.clone();
        Some(Client::new(Arc::new(As { inner, node }), "kubelet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Notes who asked.
    #[derive(Default)]
    struct Notes(Mutex<Vec<(String, String)>>);

    #[async_trait]
    impl Transport for Notes {
        async fn call(&self, r: Request<Bytes>) -> Result<Response<Bytes>, Status> {
            let of =
                |n: &str| r.headers().get(n).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
            self.0.lock().expect("lock").push((of("impersonate-user"), of("impersonate-group")));
            Ok(Response::new(Bytes::new()))
        }
        async fn object(&self, r: Request<Bytes>) -> Result<Object, Status> {
            self.call(r).await?;
            Object::from_wire(b"{}").map_err(Status::internal)
        }
        async fn list(&self, r: Request<Bytes>) -> Result<ObjectList, Status> {
            self.call(r).await.map(|_| ObjectList::default())
        }
        async fn watch(&self, _: Request<Bytes>) -> Result<WatchStream, Status> {
            Err(Status::internal("no watch here"))
        }
    }

    #[test]
    fn each_request_names_its_node() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let (a, b) = (Arc::new(Notes::default()), Arc::new(Notes::default()));
        let access = Access::new(vec![a.clone() as Arc<dyn Transport>, b.clone()]).expect("connections");
        runtime.block_on(async {
            for (number, name) in [(0, "sim-0"), (1, "sim-1"), (2, "sim-2")] {
                let client = access.node(number, name).expect("a client");
                client.get(&api::resource::NODES, "", name).await.expect("an answer");
            }
            access.itself().expect("a client").get(&api::resource::NODES, "", "x").await.expect("an answer");
        });
        let node = |n: &str| (format!("system:node:{n}"), "system:nodes".to_owned());
        assert_eq!(
            *a.0.lock().expect("lock"),
            [node("sim-0"), node("sim-2"), (String::new(), String::new())]
        );
        assert_eq!(*b.0.lock().expect("lock"), [node("sim-1")]);
        assert!(Access::new(vec![]).is_none());
    }
}
