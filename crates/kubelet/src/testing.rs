//! A fake API below the transport, and a node on a fake runtime, for the tests of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Status};
use async_trait::async_trait;
use bytes::Bytes;
use client::{Client, EventRecorder, Informers, ObjectList, Transport, WatchStream};
use cri::fake::FakeRuntime;
use futures::StreamExt;
use http::{Request, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::containers::resources::Layout;
use crate::node_ctx::Node;
use crate::volumes::mounter::NoMounter;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    patches: Vec<(String, Value)>,
    deleted: Vec<String>,
}

/// Objects by path; every write is recorded and wakes who waits.
#[derive(Default)]
pub struct FakeApi {
    state: Mutex<State>,
    changed: Notify,
}

impl FakeApi {
    pub fn put(&self, path: &str, v: Value) {
        self.state.lock().objects.insert(path.to_owned(), v);
    }
    /// The bodies patched to `path`, oldest first.
    pub fn patches(&self, path: &str) -> Vec<Value> {
        self.state.lock().patches.iter().filter(|(p, _)| p == path).map(|(_, v)| v.clone()).collect()
    }
    pub fn deleted(&self, path: &str) -> bool {
        self.state.lock().deleted.iter().any(|p| p == path)
    }
    pub fn events(&self) -> Vec<String> {
        let s = self.state.lock();
        let events = s.objects.values().filter(|v| v["kind"] == "Event");
        events.map(|v| v["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }
    /// Waits until `f` is true after some write (or fails the test after a while).
    pub async fn until(&self, what: &str, f: impl Fn(&FakeApi) -> bool) {
        let wait = async {
            loop {
                let next = self.changed.notified();
                if f(self) {
                    return;
                }
                // Not every condition comes with a write to the API.
                let _ = tokio::time::timeout(Duration::from_millis(20), next).await;
            }
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(),
            "timed out waiting for: {what}"
        );
    }
    fn path(r: &Request<Bytes>) -> String {
        r.uri().path().to_owned()
    }
}

#[async_trait]
impl Transport for FakeApi {
    async fn call(&self, r: Request<Bytes>) -> Result<Response<Bytes>, Status> {
        let path = Self::path(&r);
        if r.method() == http::Method::DELETE {
            let mut s = self.state.lock();
            s.objects.remove(&path);
            s.deleted.push(path);
            self.changed.notify_waiters();
        }
        Ok(Response::new(Bytes::from_static(b"{}")))
    }

    async fn object(&self, r: Request<Bytes>) -> Result<Object, Status> {
        let path = Self::path(&r);
        let body: Value = serde_json::from_slice(r.body()).unwrap_or_default();
        let v = {
            let mut s = self.state.lock();
            match r.method().as_str() {
                "GET" => {
                    s.objects.get(&path).cloned().ok_or_else(|| Status::not_found("", "things", &path))?
                }
                "PATCH" => {
                    s.patches.push((path, body.clone()));
                    body
                }
                _ if path.ends_with("/token") => {
                    json!({"metadata": {}, "status": {"token": "tok", "expirationTimestamp": "2100-01-01T00:00:00Z"}})
                }
                _ => {
                    let name = body["metadata"]["name"].as_str().unwrap_or_default();
                    s.objects.insert(format!("{path}/{name}"), body.clone());
                    body
                }
            }
        };
        self.changed.notify_waiters();
        Object::from_value(v, 1).map_err(Status::internal)
    }

    async fn list(&self, r: Request<Bytes>) -> Result<ObjectList, Status> {
        let path = Self::path(&r);
        let name = r
            .uri()
            .query()
            .and_then(|q| q.split("metadata.name%3D").nth(1))
            .map(|q| q.split('&').next().unwrap_or(q).to_owned());
        let s = self.state.lock();
        let of = s.objects.iter().filter(|(k, _)| match &name {
            Some(n) => **k == format!("{path}/{n}"),
            None => k.starts_with(&format!("{path}/")),
        });
        let items: Result<_, _> = of.map(|(_, v)| Object::from_value(v.clone(), 1)).collect();
        Ok(ObjectList { items: items.map_err(Status::internal)?, revision: 1, ..ObjectList::default() })
    }

    async fn watch(&self, _: Request<Bytes>) -> Result<WatchStream, Status> {
        Ok(futures::stream::pending().boxed())
    }
}

pub struct Rig {
    pub api: Arc<FakeApi>,
    pub runtime: FakeRuntime,
    pub node: Arc<Node>,
    pub dir: tempfile::TempDir,
}

pub fn rig() -> Rig {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = FakeRuntime::new();
    runtime.add_image("img");
    let api = Arc::new(FakeApi::default());
    let client = Client::new(api.clone(), "kubelet");
    let informers = Informers::new(client.clone(), CancellationToken::new());
    let cfg = crate::Config {
        node_name: "n1".into(),
        root_dir: dir.path().join("root"),
        pods_log_dir: dir.path().join("logs"),
        containers_log_dir: dir.path().join("links"),
        node_ips: vec![std::net::Ipv4Addr::new(192, 168, 0, 1).into()],
        manage_cgroups: false,
        mount_tmpfs: false,
        ..crate::Config::default()
    };
    let node = Node {
        refs: crate::refs::Refs::new(client.clone()),
        tokens: crate::volumes::token::Tokens::new(client.clone()),
        certificates: crate::volumes::certificate::Issuer::new(client.clone(), informers.clone(), "n1"),
        itself: informers.scoped(
            &api::resource::NODES,
            client::Scope { field_selector: "metadata.name=n1".into(), ..client::Scope::default() },
        ),
        services: informers.get(&api::resource::SERVICES),
        slices: None,
        mounter: Arc::new(NoMounter),
        layout: Layout::V1(Vec::new()),
        memory_capacity: 1 << 30,
        cpu_capacity: 2000,
        runtime_name: parking_lot::RwLock::new("fake".into()),
        pressure: parking_lot::RwLock::default(),
        http: crate::probes::http::HttpClient::default(),
        recorder: EventRecorder::new(client.clone(), "kubelet", "n1"),
        cfg,
        client,
        informers,
        runtime: Arc::new(runtime.clone()),
    };
    Rig { api, runtime, node: Arc::new(node), dir }
}
