//! Claims, volumes and storage classes into the cache, and the writes that give a waiting claim its volume. Registers
//! handlers on informers; spawns nothing.

use std::sync::Arc;

use api::Status;
use api::resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES};
use api::volumes::{BOUND_BY_CONTROLLER, Claim, Class, SELECTED_NODE, Volume};
use client::{Client, Informer, Informers, Patch};
use serde_json::json;

use crate::core::Choice;
use crate::pods::Shared;
use crate::queue::ClusterEvent;
use crate::watch::keep;

pub struct Storage {
    claims: Informer,
    volumes: Informer,
    classes: Informer,
}

impl Storage {
    pub fn new(shared: &Arc<Shared>, informers: &Informers) -> Self {
        let s = Self {
            claims: informers.get(&PERSISTENT_VOLUME_CLAIMS),
            volumes: informers.get(&PERSISTENT_VOLUMES),
            classes: informers.get(&STORAGE_CLASSES),
        };
        let event = || Some(ClusterEvent::StorageChanged);
        keep(
            shared,
            &s.classes,
            event(),
            Class::of,
            |c, k| c.volumes.set_class(k),
            |c, o| c.volumes.remove_class(o.name()),
        );
        keep(
            shared,
            &s.volumes,
            event(),
            Volume::of,
            |c, v| c.volumes.set_volume(v),
            |c, o| c.volumes.remove_volume(o.name()),
        );
        keep(
            shared,
            &s.claims,
            event(),
            Claim::of,
            |c, x| c.volumes.set_claim(x),
            |c, o| c.volumes.remove_claim(o.namespace(), o.name()),
        );
        s
    }

    pub async fn synced(&self) -> bool {
        self.claims.synced().await && self.volumes.synced().await && self.classes.synced().await
    }

    /// Writes the choices down. The binding loop or a provisioner does the rest, and the pod is tried again when it has.
    pub async fn apply(&self, client: &Client, node: &str, choices: &[Choice]) -> Result<(), Status> {
        for choice in choices {
            match choice {
                Choice::Bind { claim, volume, revision } => {
                    let known = self.volumes.get("", volume);
                    if known.is_some_and(|o| Volume::of(&o).is_ok_and(|v| v.claim.as_ref() == Some(claim))) {
                        continue;
                    }
                    let reference = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                        "namespace": claim.namespace, "name": claim.name, "uid": claim.uid });
                    let patch = json!({ "metadata": { "resourceVersion": revision.to_string(),
                        "annotations": { BOUND_BY_CONTROLLER: "yes" } }, "spec": { "claimRef": reference } });
                    client.patch(&PERSISTENT_VOLUMES, "", volume, "", &Patch::Merge(patch)).await?;
                }
                Choice::Provision { claim } => {
                    let known = self.claims.get(&claim.namespace, &claim.name);
                    if known.is_some_and(|o| Claim::of(&o).is_ok_and(|c| c.selected_node == node)) {
                        continue;
                    }
                    let patch =
                        json!({ "metadata": { "uid": claim.uid, "annotations": { SELECTED_NODE: node } } });
                    let ns = &claim.namespace;
                    client
                        .patch(&PERSISTENT_VOLUME_CLAIMS, ns, &claim.name, "", &Patch::Merge(patch))
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// After choices that could not be written: the cache knows again what the API last said.
    pub fn forget(&self, shared: &Shared, choices: &[Choice]) {
        let mut cache = shared.cache.lock();
        for choice in choices {
            if let Choice::Bind { volume, .. } = choice
                && let Some(Ok(v)) = self.volumes.get("", volume).map(|o| Volume::of(&o))
            {
                cache.volumes.set_volume(v);
            }
        }
    }
}
