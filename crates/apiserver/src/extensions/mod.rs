//! Custom resources: follows CustomResourceDefinitions, decides on their names, and keeps the server's catalog in step.
//! Owns the map from definition to descriptor. Spawned by `start`: one task that follows, and one per definition whose
//! deletion is under way.
//! https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/

mod cleanup;
mod names;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use api::catalog::{Catalog, Descriptor, custom};
use api::{Object, Status};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::aggregation::register::{self, GroupVersion};
use crate::conditions;
use crate::follow::{Follower, follow};
use crate::reader::Change;
use crate::server::ApiServer;

pub(crate) const GROUP: &str = "apiextensions.k8s.io";
pub(crate) const PLURAL: &str = "customresourcedefinitions";
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

struct Entry {
    group: String,
    accepted: Value,
    /// Its spec and accepted names at the time, to leave the catalog alone when only conditions changed.
    made_of: (Value, Value, bool),
    descriptor: Option<Arc<Descriptor>>,
}

/// What the follower knows.
struct Definitions {
    server: ApiServer,
    /// The catalog without custom resources.
    base: Arc<Catalog>,
    /// The catalog with those that are served.
    catalog: Catalog,
    known: BTreeMap<String, Entry>,
    /// The group versions that were registered last.
    registered: Option<BTreeSet<GroupVersion>>,
    ending: Arc<Mutex<HashSet<String>>>,
}

/// Serves the definitions that are there already, and follows from then on.
pub async fn start(server: &ApiServer) -> Result<(), Status> {
    let base = server.catalog();
    let mut d = Definitions {
        server: server.clone(),
        catalog: (*base).clone(),
        base,
        known: BTreeMap::new(),
        registered: None,
        ending: Arc::default(),
    };
    let from = d.list().await?;
    let (stop, reader) = (server.stop.clone(), server.reader().clone());
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(&mut d, reader.as_ref(), GROUP, PLURAL, from) => {}
        }
    });
    Ok(())
}

impl Follower for Definitions {
    async fn list(&mut self) -> Result<u64, Status> {
        let reader = self.server.reader().clone();
        let revision = reader.revision();
        let all = reader.list(GROUP, PLURAL, "").await?;
        let names: HashSet<&str> = all.iter().map(Object::name).collect();
        for (_, gone) in self.known.extract_if(.., |k, _| !names.contains(k.as_str())) {
            hide(&mut self.catalog, &self.base, gone.descriptor.as_deref());
        }
        for o in &all {
            self.put(o).await;
        }
        self.publish();
        self.register().await;
        Ok(revision)
    }

    async fn apply(&mut self, batch: Vec<Change>) {
        let mut changed = false;
        for c in batch {
            changed |= match c {
                Change::Put(o) => self.put(&o).await,
                Change::Deleted(o) => self.removed(o.name()).await,
            };
        }
        if changed {
            self.publish();
            self.register().await;
        }
    }
}

impl Definitions {
    fn taken(&self, group: &str, but: &str) -> names::Taken {
        let mut taken = names::Taken::default();
        for (name, e) in &self.known {
            if e.group == group && name != but {
                taken.add(name, &e.accepted);
            }
        }
        for d in self.base.iter().filter(|d| d.group == group) {
            taken.add(
                "",
                &json!({"plural": d.plural, "singular": d.singular, "kind": d.kind, "listKind": d.list_kind,
                    "shortNames": d.short_names}),
            );
        }
        taken
    }

    /// Takes in a new or changed definition. True when the catalog must follow.
    async fn put(&mut self, o: &Object) -> bool {
        let Ok(crd) = o.value() else { return false };
        let name = o.name().to_owned();
        let group = crd["spec"]["group"].as_str().unwrap_or_default().to_owned();
        let taken = self.taken(&group, &name);
        let now = client::clock::rfc3339(client::clock::now());
        let deleting = o.meta().is_deleting();
        let decided = if deleting { crd.clone() } else { names::decide(&crd, &taken, &now) };
        if decided["status"] != crd["status"] {
            let status = decided["status"].clone();
            let uid = o.uid().to_owned();
            let written = self
                .server
                .reader()
                .update(GROUP, PLURAL, "", &name, &mut |mut v| {
                    if v["metadata"]["uid"] != uid.as_str() || !v["metadata"]["deletionTimestamp"].is_null() {
                        return Ok(None);
                    }
                    for k in ["acceptedNames", "conditions"] {
                        v["status"][k] = status[k].clone();
                    }
                    Ok(Some(v))
                })
                .await;
            if let Err(e) = written
                && !e.is_not_found()
            {
                tracing::warn!(definition = name, error = %e, "failed to write the status of a definition");
            }
        }
        if deleting {
            self.end(&name);
        }
        let accepted = decided["status"]["acceptedNames"].clone();
        let made_of = (crd["spec"].clone(), accepted.clone(), deleting);
        if self.known.get(&name).is_some_and(|e| e.made_of == made_of && e.descriptor.is_some()) {
            return false;
        }
        let served = conditions::is_true(&decided, "Established");
        let descriptor = served.then(|| custom::descriptor(&decided)).flatten().map(Arc::new);
        let old = self.known.insert(name, Entry { group, accepted, made_of, descriptor: descriptor.clone() });
        hide(&mut self.catalog, &self.base, old.and_then(|e| e.descriptor).as_deref());
        if let Some(d) = descriptor.filter(|d| self.base.by_plural(&d.group, &d.plural).is_none()) {
            self.catalog.insert(d);
        }
        true
    }

    /// A definition is gone: its names are free for those who waited.
    async fn removed(&mut self, name: &str) -> bool {
        let Some(gone) = self.known.remove(name) else { return false };
        hide(&mut self.catalog, &self.base, gone.descriptor.as_deref());
        let waiting: Vec<String> =
            self.known.iter().filter(|(_, e)| e.group == gone.group).map(|(n, _)| n.clone()).collect();
        for name in waiting {
            if let Ok(Some(o)) = self.server.reader().get(GROUP, PLURAL, "", &name).await {
                self.put(&o).await;
            }
        }
        true
    }

    fn publish(&self) {
        self.server.set_catalog(self.catalog.clone());
    }

    /// The group versions of what is served, as APIServices.
    async fn register(&mut self) {
        let served = self.known.values().filter_map(|e| e.descriptor.as_deref());
        let served = served.filter(|d| self.base.by_plural(&d.group, &d.plural).is_none());
        let wanted: BTreeSet<GroupVersion> =
            served.flat_map(|d| d.served().map(|v| (d.group.clone(), v.name.clone()))).collect();
        if self.registered.as_ref() != Some(&wanted) {
            register::custom(&self.server, &wanted).await;
            self.registered = Some(wanted);
        }
    }

    /// Begins the clean-up of a definition that is being deleted, once.
    fn end(&self, name: &str) {
        if !self.ending.lock().insert(name.to_owned()) {
            return;
        }
        let (server, ending, name) = (self.server.clone(), self.ending.clone(), name.to_owned());
        tokio::spawn(async move {
            let stop = server.stop.clone();
            tokio::select! { () = stop.cancelled() => {} () = cleanup::run(&server, &name) => {} }
            ending.lock().remove(&name);
        });
    }
}

/// Takes a custom resource out of a catalog; what the base has stays.
fn hide(catalog: &mut Catalog, base: &Catalog, gone: Option<&Descriptor>) {
    if let Some(d) = gone.filter(|d| base.by_plural(&d.group, &d.plural).is_none()) {
        catalog.remove(&d.group, &d.plural);
    }
}
