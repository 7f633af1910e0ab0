//! What is scaled: any kind with a `scale` subresource.

use std::sync::Arc;

use api::{Resource, Status};
use client::Client;
use parking_lot::Mutex;
use serde_json::Value;

use super::view::Reference;
use crate::discovery;

/// Attempts at a scale that somebody else writes too.
const ATTEMPTS: usize = 5;

/// Kinds by group, as discovery told them last.
pub struct Targets {
    pub client: Client,
    known: Mutex<Option<Arc<Vec<Resource>>>>,
}

/// A Scale as it was read.
pub struct Scale {
    pub resource: Resource,
    pub object: Value,
}

impl Scale {
    pub fn replicas(&self) -> i32 {
        number(&self.object["spec"]["replicas"])
    }
    pub fn status_replicas(&self) -> i32 {
        number(&self.object["status"]["replicas"])
    }
    pub fn selector(&self) -> &str {
        self.object["status"]["selector"].as_str().unwrap_or_default()
    }
}

fn number(v: &Value) -> i32 {
    v.as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0)
}

impl Targets {
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::new(None) }
    }

    /// What a kind is called in paths; asked for anew when it is not known.
    pub async fn resource(&self, r: &Reference) -> Result<Resource, String> {
        let find = |all: &[Resource]| {
            all.iter().find(|k| k.kind == r.kind.as_str() && k.group == r.group()).cloned()
        };
        let known = self.known.lock().clone();
        if let Some(found) = known.and_then(|all| find(&all)) {
            return Ok(found);
        }
        let all = discovery::resources(&self.client, &["get"]).await.map_err(|e| e.to_string())?;
        let found = find(&all);
        *self.known.lock() = Some(Arc::new(all));
        found.ok_or_else(|| match r.group() {
            "" => format!("no matches for kind \"{}\" in group \"\"", r.kind),
            group => format!("no matches for kind \"{}\" in group \"{group}\"", r.kind),
        })
    }

    pub async fn scale(&self, namespace: &str, resource: &Resource, name: &str) -> Result<Scale, Status> {
        let path = resource.path(namespace, Some(name), Some("scale"));
        match self.client.json(&path, &[]).await {
            Ok(object) => Ok(Scale { resource: resource.clone(), object }),
            Err(e) => {
                // Its kind may have moved to another version meanwhile.
                *self.known.lock() = None;
                Err(e)
            }
        }
    }

    /// Sets the number of replicas, also when others write in between.
    pub async fn rescale(&self, namespace: &str, mut scale: Scale, replicas: i32) -> Result<(), Status> {
        let name = scale.object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            scale.object["spec"]["replicas"] = replicas.into();
            let r = &scale.resource;
            match self.client.update(r, namespace, &name, "scale", &scale.object).await {
                Err(e) if e.is_conflict() && left > 0 => {
                    if let Ok(new) = self.scale(namespace, r, &name).await {
                        scale = new;
                    }
                }
                Err(e) => return Err(e),
                Ok(_) => return Ok(()),
            }
        }
    }
}
