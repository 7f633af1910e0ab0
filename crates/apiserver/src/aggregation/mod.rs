//! Aggregation: group versions that another API server answers, by APIService objects. Requests for them pass the filter
//! chain and are handed on; discovery and OpenAPI show them beside our own.
//!
//! Owns the table of remote services. Spawned by `start`: one task that follows the APIServices, one for each remote
//! service that checks it, and one that wakes those when Services and EndpointSlices change.
//! https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/apiserver-aggregation/

mod check;
mod connect;
pub mod documents;
pub mod priorities;
pub mod proxy;
pub mod register;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::{Object, Status};
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::conditions::is_true;
use crate::follow::{Follower, follow};
use crate::reader::Change;
use crate::server::ApiServer;
use connect::Backend;
pub use connect::{Connections, FrontProxy, strip};

pub const GROUP: &str = "apiregistration.k8s.io";
pub const PLURAL: &str = "apiservices";

/// A group version that is answered elsewhere.
pub struct Remote {
    pub name: String,
    pub group: String,
    pub version: String,
    pub group_priority: i64,
    pub version_priority: i64,
    pub backend: Backend,
    /// As the object's status says.
    available: AtomicBool,
    documents: RwLock<documents::Remote>,
    /// The part of the object that this was made of.
    spec: Value,
    /// Wakes the check.
    look: Notify,
    gone: CancellationToken,
}

impl Remote {
    fn of(name: &str, v: &Value, parent: &CancellationToken) -> Option<Self> {
        let spec = &v["spec"];
        let backend = Backend::of(spec)?;
        let text = |k: &str| spec[k].as_str().unwrap_or_default().to_owned();
        Some(Self {
            name: name.to_owned(),
            group: text("group"),
            version: text("version"),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or_default(),
            version_priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            backend,
            available: AtomicBool::new(is_true(v, "Available")),
            documents: RwLock::default(),
            spec: spec.clone(),
            look: Notify::new(),
            gone: parent.child_token(),
        })
    }

    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }

    /// What its last answers said about its resources.
    pub fn documents(&self) -> documents::Remote {
        self.documents.read().clone()
    }
}

/// The remote group versions, by group and version.
#[derive(Default)]
pub struct Services {
    any: AtomicBool,
    table: RwLock<BTreeMap<(String, String), Arc<Remote>>>,
}

impl Services {
    /// Who answers this path, if it is not us.
    pub fn find(&self, path: &str) -> Option<Arc<Remote>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut parts = path.split('/').filter(|p| !p.is_empty());
        if parts.next() != Some("apis") {
            return None;
        }
        self.get(parts.next()?, parts.next()?)
    }

    pub fn get(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        self.table.read().get(&(group.to_owned(), version.to_owned())).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Remote>> {
        self.table.read().values().cloned().collect()
    }

    fn replace(&self, key: (String, String), new: Option<Arc<Remote>>) {
        let mut table = self.table.write();
        let old = match new {
            Some(n) => table.insert(key, n),
            None => table.remove(&key),
        };
        if let Some(old) = old {
            old.gone.cancel();
        }
        self.any.store(!table.is_empty(), Ordering::Release);
    }
}

/// Registers what we serve ourselves, and follows the APIServices from then on.
pub async fn start(server: &ApiServer) -> Result<(), Status> {
    register::built_in(server).await?;
    let mut f = Registrations { server: server.clone(), backends: None };
    let from = f.list().await?;
    let (stop, reader) = (server.stop.clone(), server.reader().clone());
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(&mut f, reader.as_ref(), GROUP, PLURAL, from) => {}
        }
    });
    Ok(())
}

/// What follows the APIServices.
struct Registrations {
    server: ApiServer,
    /// Runs while there is a remote service.
    backends: Option<CancellationToken>,
}

/// `v1alpha1.wardle.example.com` as group and version.
fn key(name: &str) -> Option<(String, String)> {
    let (version, group) = name.split_once('.')?;
    Some((group.to_owned(), version.to_owned()))
}

impl Follower for Registrations {
    async fn list(&mut self) -> Result<u64, Status> {
        let reader = self.server.reader().clone();
        let revision = reader.revision();
        let all = reader.list(GROUP, PLURAL, "").await?;
        for old in self.server.aggregation.all() {
            if !all.iter().any(|o| o.name() == old.name) {
                self.removed(&old.name);
            }
        }
        for o in &all {
            self.put(o).await;
        }
        Ok(revision)
    }

    async fn apply(&mut self, batch: Vec<Change>) {
        for c in batch {
            match c {
                Change::Put(o) => self.put(&o).await,
                Change::Deleted(o) => self.removed(o.name()),
            }
        }
    }
}

impl Registrations {
    async fn put(&mut self, o: &Object) {
        let (Ok(v), Some(key)) = (o.value(), key(o.name())) else { return };
        let services = &self.server.aggregation;
        if v["spec"]["service"].is_null() {
            if services.get(&key.0, &key.1).is_some() {
                self.removed(o.name());
            }
            register::mark_local(&self.server, o.name(), &v).await;
            return;
        }
        if let Some(have) = services.get(&key.0, &key.1).filter(|r| r.spec == v["spec"]) {
            have.available.store(is_true(&v, "Available"), Ordering::Release);
            return;
        }
        let Some(new) = Remote::of(o.name(), &v, &self.server.stop) else { return };
        let new = Arc::new(new);
        services.replace(key, Some(new.clone()));
        self.server.openapi.forget();
        tokio::spawn(check::run(self.server.clone(), new));
        self.mind_backends();
    }

    fn removed(&mut self, name: &str) {
        let Some(key) = key(name) else { return };
        self.server.aggregation.replace(key, None);
        self.server.openapi.forget();
        self.mind_backends();
    }

    /// Follows Services and EndpointSlices as long as a remote service depends on them.
    fn mind_backends(&mut self) {
        let any = self.server.aggregation.any.load(Ordering::Acquire);
        match (&self.backends, any) {
            (None, true) => {
                let stop = self.server.stop.child_token();
                for (group, plural) in [("", "services"), ("discovery.k8s.io", "endpointslices")] {
                    let (server, stop) = (self.server.clone(), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! { () = stop.cancelled() => {} () = wake(&server, group, plural) => {} }
                    });
                }
                self.backends = Some(stop);
            }
            (Some(stop), false) => {
                stop.cancel();
                self.backends = None;
            }
            _ => {}
        }
    }
}

/// Wakes the checks of what a change is about.
async fn wake(server: &ApiServer, group: &str, plural: &str) {
    loop {
        let reader = server.reader();
        let from = reader.revision();
        let every = |r: &Arc<Remote>| r.look.notify_one();
        server.aggregation.all().iter().for_each(every);
        let Ok(mut changes) = reader.changes(group, plural, from).await else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        while let Ok(all) = changes.next().await {
            for c in all {
                let (Change::Put(o) | Change::Deleted(o)) = c;
                let service = match plural {
                    "services" => Some(o.name()),
                    _ => o.meta().labels.get("kubernetes.io/service-name"),
                };
                let is = |r: &&Arc<Remote>| {
                    r.backend.namespace == o.namespace() && Some(r.backend.name.as_str()) == service
                };
                server.aggregation.all().iter().filter(is).for_each(every);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_their_service() {
        let s = Services::default();
        assert!(s.find("/apis/g.example.com/v1/things").is_none());
        let v = json!({"spec": {"group": "g.example.com", "version": "v1", "service": {"namespace": "n", "name": "s", "port": 443}}});
        let stop = CancellationToken::new();
        let r = Arc::new(Remote::of("v1.g.example.com", &v, &stop).expect("remote"));
        s.replace(key("v1.g.example.com").expect("key"), Some(r.clone()));
        for (path, found) in [
            ("/apis/g.example.com/v1", true),
            ("/apis/g.example.com/v1/namespaces/a/things/b", true),
            ("/apis/g.example.com/v2/things", false),
            ("/apis/g.example.com", false),
            ("/apis", false),
            ("/api/v1/pods", false),
        ] {
            assert_eq!(s.find(path).is_some(), found, "{path}");
        }
        s.replace(key("v1.g.example.com").expect("key"), None);
        assert!(r.gone.is_cancelled() && s.find("/apis/g.example.com/v1").is_none());
        assert!(Remote::of("v1.apps", &json!({"spec": {"group": "apps", "version": "v1"}}), &stop).is_none());
    }
}
