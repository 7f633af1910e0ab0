//! Claims, volumes, storage classes and what drivers take into the cache, and the writes that give a waiting claim its volume. Registers
//! handlers on informers; spawns nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::DecodeError;
use api::resource::{
    CSI_NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES, VOLUME_ATTACHMENTS,
};
use api::volumes::{BOUND_BY_CONTROLLER, Claim, Class, SELECTED_NODE, Volume};
use api::{Object, Status};
use client::{Client, Informer, Informers, Patch};
use serde_json::{Value, json};

use crate::core::Choice;
use crate::pods::Shared;
use crate::queue::Kind;
use crate::watch::keep;

/// The node of a CSINode, and how many volumes each driver takes there.
fn limits(o: &Object) -> Result<(String, BTreeMap<String, usize>), DecodeError> {
    let v = o.value()?;
    let drivers = v["spec"]["drivers"].as_array().cloned().unwrap_or_default();
    let one = |d: &Value| {
        let most = d["allocatable"]["count"].as_u64()?;
        Some((d["name"].as_str()?.to_owned(), usize::try_from(most).unwrap_or(usize::MAX)))
    };
    Ok((o.name().to_owned(), drivers.iter().filter_map(one).collect()))
}

/// Name, node, driver and volume of a VolumeAttachment.
fn attachment(o: &Object) -> Result<(String, String, String, String), DecodeError> {
    let v = o.value()?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let spec = &v["spec"];
    let volume = text(&spec["source"]["persistentVolumeName"]);
    Ok((o.name().to_owned(), text(&spec["nodeName"]), text(&spec["attacher"]), volume))
}

pub struct Storage {
    claims: Informer,
    volumes: Informer,
    classes: Informer,
    limits: Informer,
    attachments: Informer,
}

impl Storage {
    pub fn new(shared: &Arc<Shared>, informers: &Informers) -> Self {
        let s = Self {
            claims: informers.get(&PERSISTENT_VOLUME_CLAIMS),
            volumes: informers.get(&PERSISTENT_VOLUMES),
            classes: informers.get(&STORAGE_CLASSES),
            limits: informers.get(&CSI_NODES),
            attachments: informers.get(&VOLUME_ATTACHMENTS),
        };
        let event = Some(Kind::StorageChanged);
        keep(
            shared,
            &s.classes,
            event,
            Class::of,
            |c, k| c.volumes.set_class(k),
            |c, o| c.volumes.remove_class(o.name()),
        );
        keep(
            shared,
            &s.volumes,
            event,
            Volume::of,
            |c, v| c.volumes.set_volume(v),
            |c, o| c.volumes.remove_volume(o.name()),
        );
        keep(
            shared,
            &s.claims,
            event,
            Claim::of,
            |c, x| c.volumes.set_claim(x),
            |c, o| c.volumes.remove_claim(o.namespace(), o.name()),
        );
        keep(
            shared,
            &s.limits,
            event,
            limits,
            |c, (node, limits)| c.volumes.set_limits(&node, limits),
            |c, o| c.volumes.remove_limits(o.name()),
        );
        keep(
            shared,
            &s.attachments,
            event,
            attachment,
            |c, (name, node, driver, volume)| c.volumes.set_attachment(&name, node, driver, volume),
            |c, o| c.volumes.remove_attachment(o.name()),
        );
        s
    }

    pub async fn synced(&self) -> bool {
        let all = [&self.claims, &self.volumes, &self.classes, &self.limits, &self.attachments];
        for i in all {
            if !i.synced().await {
                return false;
            }
        }
        true
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
