//! Writes Events as upstream's recorder does: repeats of the same event raise the count of the first one. Owns a bounded
//! queue and one task; when the queue is full an event is dropped, never a loop delayed.

use std::collections::HashMap;

use api::{Object, Resource, Status};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

use crate::clock;
use crate::verbs::{Client, Patch};

const QUEUE: usize = 1024;
const REMEMBERED: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

/// `involvedObject`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    pub api_version: String,
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
}

impl ObjectRef {
    pub fn of(resource: &Resource, o: &Object) -> Self {
        Self {
            api_version: resource.api_version(),
            kind: resource.kind.to_string(),
            namespace: o.namespace().into(),
            name: o.name().into(),
            uid: o.uid().into(),
            resource_version: o.revision().to_string(),
            field_path: String::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    about: ObjectRef,
    kind: EventType,
    reason: String,
    message: String,
}

/// A handle for one component; cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Entry>,
}

impl EventRecorder {
    /// `host` is the node for node components, empty otherwise. Spawns the writing task, which ends when every handle
    /// is dropped.
    pub fn new(client: Client, component: &str, host: &str) -> Self {
        let (queue, rx) = mpsc::channel(QUEUE);
        tokio::spawn(write(rx, client, component.to_owned(), host.to_owned()));
        Self { queue }
    }

    pub fn event(&self, about: ObjectRef, kind: EventType, reason: &str, message: impl Into<String>) {
        let entry = Entry { about, kind, reason: reason.into(), message: message.into() };
        if let Err(e) = self.queue.try_send(entry) {
            debug!(error = %e, "dropped an event");
        }
    }

    pub fn normal(&self, about: ObjectRef, reason: &str, message: impl Into<String>) {
        self.event(about, EventType::Normal, reason, message);
    }

    pub fn warning(&self, about: ObjectRef, reason: &str, message: impl Into<String>) {
        self.event(about, EventType::Warning, reason, message);
    }
}

struct Seen {
    namespace: String,
    name: String,
    count: u32,
}

async fn write(mut rx: mpsc::Receiver<Entry>, client: Client, component: String, host: String) {
    let mut seen: HashMap<Entry, Seen> = HashMap::new();
    while let Some(entry) = rx.recv().await {
        let mut key = entry.clone();
        key.about.resource_version.clear();
        if seen.len() > REMEMBERED {
            seen.clear();
        }
        let result = match seen.get_mut(&key) {
            Some(s) => {
                s.count += 1;
                match repeat(&client, s).await {
                    Err(status) if status.is_not_found() => {
                        seen.remove(&key);
                        first(&client, &entry, &component, &host).await.map(Some)
                    }
                    other => other.map(|()| None),
                }
            }
            None => first(&client, &entry, &component, &host).await.map(Some),
        };
        match result {
            Ok(Some(s)) => {
                seen.insert(key, s);
            }
            Ok(None) => {}
            Err(status) => debug!(error = %status, reason = %entry.reason, "failed to write an event"),
        }
    }
}

async fn first(client: &Client, e: &Entry, component: &str, host: &str) -> Result<Seen, Status> {
    let now = clock::now();
    let at = clock::rfc3339(now);
    let namespace =
        if e.about.namespace.is_empty() { "default".to_owned() } else { e.about.namespace.clone() };
    let name = format!("{}.{:x}", e.about.name, now.as_nanosecond());
    let mut source = json!({ "component": component });
    if !host.is_empty() {
        source["host"] = json!(host);
    }
    let body = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "name": name, "namespace": namespace },
        "involvedObject": e.about, "reason": e.reason, "message": e.message,
        "type": match e.kind { EventType::Normal => "Normal", EventType::Warning => "Warning" },
        "source": source, "firstTimestamp": at, "lastTimestamp": at, "count": 1,
        "reportingComponent": component, "reportingInstance": host,
    });
    client.create(&api::resource::EVENTS, &namespace, &body).await?;
    Ok(Seen { namespace, name, count: 1 })
}

async fn repeat(client: &Client, s: &Seen) -> Result<(), Status> {
    let patch = Patch::Strategic(json!({ "count": s.count, "lastTimestamp": clock::rfc3339(clock::now()) }));
    client.patch(&api::resource::EVENTS, &s.namespace, &s.name, "", &patch).await.map(|_| ())
}
