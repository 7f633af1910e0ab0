//! The endpoint slices of one manager: which there are for a key, and the writes of a plan. Remembers what it wrote until
//! the informer shows it, so that no slice is made twice.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use api::{Object, Resource, Status};
use client::{Client, DeleteOptions, Informer, clock};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::pack::{Slice, Steps};
use super::{MANAGED_BY, SERVICE_NAME};
use crate::owners;
use crate::skeleton::{Key, Queue};

/// After that long a write that nobody has shown us is forgotten.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Revision written, and when.
type Written = HashMap<String, (u64, Timestamp)>;

pub struct Slices {
    pub client: Client,
    informer: Informer,
    manager: &'static str,
    written: Mutex<HashMap<Key, Written>>,
}

/// What new and changed slices carry besides their endpoints.
pub struct Dress<'a> {
    pub owner_resource: &'a Resource,
    pub owner: &'a Object,
    pub family: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    /// All annotations, by name; `None` takes one away.
    pub annotations: Vec<(&'a str, Option<String>)>,
}

impl Slices {
    pub fn new(client: Client, informer: Informer, manager: &'static str) -> Self {
        informer.add_index("service", |o| {
            let service = o.meta().labels.get(SERVICE_NAME);
            service.map(|s| format!("{}/{s}", o.namespace())).into_iter().collect()
        });
        Self { client, informer, manager, written: Mutex::default() }
    }

    /// The key of a slice of this manager.
    pub fn key(&self, o: &Object) -> Option<Key> {
        let labels = &o.meta().labels;
        labels.get(MANAGED_BY).filter(|m| *m == self.manager)?;
        Some((o.namespace().to_owned(), labels.get(SERVICE_NAME)?.to_owned()))
    }

    /// Queues the key of each slice that somebody changes: it is put right. To be called once.
    pub fn watch(self: &std::sync::Arc<Self>, queue: &Queue) {
        let (me, q) = (std::sync::Arc::downgrade(self), queue.clone());
        self.informer.on_change(move |c| {
            let Some(me) = me.upgrade() else { return };
            for o in [c.old, c.new].into_iter().flatten() {
                let Some(key) = me.key(o) else { continue };
                if c.new.is_none()
                    && let Some(w) = me.written.lock().get_mut(&key)
                {
                    w.remove(o.name());
                }
                q.add(key);
            }
        });
    }

    /// The slices of a key; `None` while the informer lags behind our own writes.
    pub fn existing(&self, key: &Key) -> Option<Vec<Object>> {
        let all = self.informer.by_index("service", &format!("{}/{}", key.0, key.1));
        let mine: Vec<Object> = all
            .into_iter()
            .filter(|o| o.meta().labels.get(MANAGED_BY).is_some_and(|m| m == self.manager))
            .collect();
        let mut written = self.written.lock();
        if let Some(w) = written.get_mut(key) {
            let now = clock::now();
            w.retain(|name, (revision, at)| {
                let seen = mine.iter().any(|o| o.name() == name && o.revision() >= *revision);
                !seen && clock::between(*at, now) < GIVE_UP
            });
            if !w.is_empty() {
                return None;
            }
            written.remove(key);
        }
        Some(mine)
    }

    fn note(&self, key: &Key, o: &Object) {
        self.written
            .lock()
            .entry(key.clone())
            .or_default()
            .insert(o.name().to_owned(), (o.revision(), clock::now()));
        // The informer may have been quicker, and what it has shown it does not show again.
        self.existing(key);
    }

    pub async fn apply(
        &self,
        r: &Resource,
        key: &Key,
        steps: Steps,
        dress: &Dress<'_>,
    ) -> Result<(), Status> {
        for slice in steps.create {
            let body = self.body(key, &slice, dress);
            match self.client.create(r, &key.0, &body).await {
                Ok(o) => self.note(key, &o),
                // Nothing is made in a namespace on its way out.
                Err(s) if s.causes.iter().any(|c| c.reason == "NamespaceTerminating") => return Ok(()),
                Err(s) => return Err(s),
            }
        }
        for (old, slice) in steps.update {
            let mut body = old.value().map_err(Status::internal)?;
            body["endpoints"] = json!(slice.endpoints);
            body["ports"] = json!(slice.ports);
            body["metadata"]["labels"] = json!(dress.labels);
            for (name, value) in &dress.annotations {
                match value {
                    Some(v) => body["metadata"]["annotations"][*name] = json!(v),
                    None => {
                        body["metadata"]["annotations"].as_object_mut().map(|m| m.remove(*name));
                    }
                }
            }
            let o = self.client.update(r, &key.0, old.name(), "", &body).await?;
            self.note(key, &o);
        }
        for old in steps.delete {
            self.client.delete_if_there(r, &key.0, old.name(), &DeleteOptions::uid(old.uid())).await?;
        }
        Ok(())
    }

    fn body(&self, key: &Key, slice: &Slice, dress: &Dress<'_>) -> Value {
        let annotations: Map<String, Value> = dress
            .annotations
            .iter()
            .filter_map(|(k, v)| Some(((*k).to_owned(), json!(v.as_ref()?))))
            .collect();
        json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "generateName": format!("{}-", key.1), "labels": dress.labels, "annotations": annotations,
                "ownerReferences": [owners::controller_ref(dress.owner_resource, dress.owner)] },
            "addressType": dress.family, "endpoints": slice.endpoints, "ports": slice.ports })
    }

    /// Deletes all slices of the key.
    pub async fn clear(&self, r: &Resource, key: &Key) -> Result<(), Status> {
        for o in self.existing(key).unwrap_or_default() {
            self.client.delete_if_there(r, &key.0, o.name(), &DeleteOptions::uid(o.uid())).await?;
        }
        Ok(())
    }
}
