//! The loop that binds claims and volumes. One worker, so that two claims never reach for the same volume; keys without
//! a namespace are volumes. `plan` decides (pure), this file acts.

use std::collections::BTreeMap;
use std::path::Path;

use api::Object;
use api::resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES};
use api::volumes::{BIND_COMPLETED, BOUND_BY_CONTROLLER, Claim, ClaimRef, Class, Volume};
use client::{DeleteOptions, Informer, ObjectRef, Patch};
use serde_json::{Value, json};

use super::plan::{self, ClaimStep, Reclaim, Say, VolumeStep, World};
use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};

struct Loop {
    ctx: Context,
    claims: Informer,
    volumes: Informer,
    classes: Informer,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let claims = ctx.informers.get(&PERSISTENT_VOLUME_CLAIMS);
    let (volumes, classes) = (ctx.informers.get(&PERSISTENT_VOLUMES), ctx.informers.get(&STORAGE_CLASSES));
    let (q, all) = (queue.clone(), volumes.clone());
    claims.on_change(move |c| {
        let Some(o) = c.object() else { return };
        q.add(key_of(o));
        let Ok(claim) = Claim::of(o) else { return };
        if !claim.volume_name.is_empty() {
            q.add((String::new(), claim.volume_name.clone()));
        }
        if c.new.is_none() {
            let held = all.list(None).into_iter().filter(|v| {
                Volume::of(v).is_ok_and(|v| {
                    v.claim.is_some_and(|r| r.namespace == claim.namespace && r.name == claim.name)
                })
            });
            held.for_each(|v| q.add(key_of(&v)));
        }
    });
    let (q, all) = (queue.clone(), claims.clone());
    volumes.on_change(move |c| {
        for o in [c.old, c.new].into_iter().flatten() {
            q.add(key_of(o));
            if let Ok(Volume { claim: Some(r), .. }) = Volume::of(o) {
                q.add((r.namespace, r.name));
            }
        }
        // Whoever waits may be served by it, or has lost it.
        queue_unbound(&all, &q);
    });
    let (q, all) = (queue.clone(), claims.clone());
    classes.on_change(move |_| queue_unbound(&all, &q));
    if !skeleton::synced(&ctx.token, &[&claims, &volumes, &classes]).await {
        return;
    }
    let l = Loop { ctx: ctx.clone(), claims, volumes, classes };
    skeleton::work("persistentvolume-binder", &ctx.token, &queue, 1, |key| l.reconcile(key)).await;
}

fn queue_unbound(claims: &Informer, queue: &Queue) {
    for o in claims.list(None) {
        if Claim::of(&o).is_ok_and(|c| !c.is_bound()) {
            queue.add(key_of(&o));
        }
    }
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        if key.0.is_empty() {
            self.volume(&key.1).await?
        } else {
            self.claim(&key).await?
        }
        Ok(Next::Wait)
    }

    fn tell(&self, about: ObjectRef, say: Option<Say>) {
        match say {
            Some(s) if s.warning => self.ctx.events.warning(about, s.reason, s.message),
            Some(s) => self.ctx.events.normal(about, s.reason, s.message),
            None => {}
        }
    }

    async fn claim(&self, key: &Key) -> Result<(), Error> {
        let Some(object) = self.claims.get(&key.0, &key.1) else { return Ok(()) };
        let claim = Claim::of(&object)?;
        let volumes: BTreeMap<String, Volume> = self
            .volumes
            .list(None)
            .iter()
            .map(|o| Ok((o.name().to_owned(), Volume::of(o)?)))
            .collect::<Result<_, Error>>()?;
        let classes: BTreeMap<String, Class> = self
            .classes
            .list(None)
            .iter()
            .map(|o| Ok((o.name().to_owned(), Class::of(o)?)))
            .collect::<Result<_, Error>>()?;
        let about = ObjectRef::of(&PERSISTENT_VOLUME_CLAIMS, &object);
        match plan::claim(&claim, &World { volumes: &volumes, classes: &classes }) {
            // A claim on its way out takes no new volume, but keeps the one it has until it is gone.
            ClaimStep::Bind(_) | ClaimStep::Class(_) | ClaimStep::Provision { .. }
                if claim.deleting && !claim.bind_completed =>
            {
                Ok(())
            }
            ClaimStep::Bind(name) => match volumes.get(&name) {
                Some(v) => self.bind(&object, &claim, v).await,
                None => Ok(()),
            },
            ClaimStep::Class(name) => {
                let patch = json!({ "metadata": version(&object), "spec": { "storageClassName": name } });
                self.patch_claim(&object, patch).await
            }
            ClaimStep::Pending(say) => {
                self.tell(about, say);
                self.claim_status(&object, json!({ "phase": "Pending" })).await
            }
            ClaimStep::Lost(say) => {
                self.tell(about, say);
                self.claim_status(&object, json!({ "phase": "Lost", "capacity": null, "accessModes": null }))
                    .await
            }
            ClaimStep::Provision { provisioner, say } => {
                let notes = json!({ "volume.kubernetes.io/storage-provisioner": provisioner,
                    "volume.beta.kubernetes.io/storage-provisioner": provisioner });
                self.tell(about, say);
                let have = object.value()?;
                if notes
                    .as_object()
                    .into_iter()
                    .flatten()
                    .all(|(k, v)| have["metadata"]["annotations"][k] == *v)
                {
                    return Ok(());
                }
                self.patch_claim(&object, json!({ "metadata": { "uid": claim.uid, "annotations": notes } }))
                    .await
            }
        }
    }

    /// The four writes of a binding, each left out when it is done already.
    async fn bind(&self, object: &Object, c: &Claim, v: &Volume) -> Result<(), Error> {
        let client = &self.ctx.client;
        let Some(mut volume) = self.volumes.get("", &v.name) else { return Ok(()) };
        if v.claim.as_ref() != Some(&ClaimRef::to(c)) {
            let mut patch = json!({ "metadata": version(&volume), "spec": { "claimRef": reference(c) } });
            if v.claim.is_none() {
                patch["metadata"]["annotations"] = json!({ BOUND_BY_CONTROLLER: "yes" });
            }
            volume = client.patch(&PERSISTENT_VOLUMES, "", &v.name, "", &Patch::Merge(patch)).await?;
        }
        self.phase(&volume, "Bound", None).await?;
        let mut bound = object.clone();
        if c.volume_name != v.name || !c.bind_completed {
            let mut notes = json!({ BIND_COMPLETED: "yes" });
            if c.volume_name.is_empty() {
                notes[BOUND_BY_CONTROLLER] = json!("yes");
            }
            let mut meta = version(object);
            meta["annotations"] = notes;
            let patch = Patch::Merge(json!({ "metadata": meta, "spec": { "volumeName": v.name } }));
            bound = client
                .patch(&PERSISTENT_VOLUME_CLAIMS, object.namespace(), object.name(), "", &patch)
                .await?;
        }
        let spec = &volume.value()?["spec"];
        let mut status = json!({ "phase": "Bound", "accessModes": spec["accessModes"] });
        // A growing claim keeps what it has until it has grown.
        if bound.value()?["status"]["capacity"]["storage"].is_null() || c.phase != "Bound" {
            status["capacity"] = spec["capacity"].clone();
        }
        if !v.attributes_class.is_empty() {
            status["currentVolumeAttributesClassName"] = json!(v.attributes_class);
        }
        self.claim_status(&bound, status).await
    }

    async fn patch_claim(&self, o: &Object, patch: Value) -> Result<(), Error> {
        self.ctx
            .client
            .patch(&PERSISTENT_VOLUME_CLAIMS, o.namespace(), o.name(), "", &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    async fn claim_status(&self, o: &Object, status: Value) -> Result<(), Error> {
        let have = &o.value()?["status"];
        if status.as_object().into_iter().flatten().any(|(k, v)| have[k] != *v) {
            self.ctx.client.patch_status(&PERSISTENT_VOLUME_CLAIMS, o.namespace(), o.name(), status).await?;
        }
        Ok(())
    }

    /// Sets a volume's phase; a message says what went wrong.
    async fn phase(&self, o: &Object, phase: &str, message: Option<&str>) -> Result<(), Error> {
        let have = &o.value()?["status"];
        if have["phase"] == phase && have["message"].as_str() == message {
            return Ok(());
        }
        let status = json!({ "phase": phase, "message": message });
        self.ctx.client.patch_status(&PERSISTENT_VOLUMES, "", o.name(), status).await?;
        Ok(())
    }

    async fn volume(&self, name: &str) -> Result<(), Error> {
        let Some(object) = self.volumes.get("", name) else { return Ok(()) };
        let v = Volume::of(&object)?;
        let claim = match &v.claim {
            Some(r) if !r.uid.is_empty() => self.claim_of(r).await?,
            _ => None,
        };
        match plan::volume(&v, claim.as_ref()) {
            VolumeStep::Available => self.phase(&object, "Available", None).await,
            VolumeStep::Bound => self.phase(&object, "Bound", None).await,
            VolumeStep::Claim | VolumeStep::Nothing => Ok(()),
            VolumeStep::Unbind => {
                let mut meta = version(&object);
                meta["annotations"] = json!({ BOUND_BY_CONTROLLER: null });
                self.patch_volume(name, json!({ "metadata": meta, "spec": { "claimRef": null } })).await?;
                self.phase(&object, "Available", None).await
            }
            VolumeStep::Unreserve => {
                let patch = json!({ "metadata": version(&object), "spec": { "claimRef": { "uid": null } } });
                self.patch_volume(name, patch).await?;
                self.phase(&object, "Available", None).await
            }
            VolumeStep::Released => {
                self.phase(&object, "Released", None).await?;
                self.reclaim(&object, &v).await
            }
        }
    }

    /// The claim that a volume names. The informer may lag behind, and what follows its loss can't be undone: the API is
    /// asked before it counts as gone.
    async fn claim_of(&self, r: &ClaimRef) -> Result<Option<Claim>, Error> {
        let known = self.claims.get(&r.namespace, &r.name).filter(|o| o.uid() == r.uid);
        let found = match known {
            Some(o) => Some(o),
            None => self.ctx.client.find(&PERSISTENT_VOLUME_CLAIMS, &r.namespace, &r.name).await?,
        };
        Ok(found.filter(|o| o.uid() == r.uid).map(|o| Claim::of(&o)).transpose()?)
    }

    async fn patch_volume(&self, name: &str, patch: Value) -> Result<(), Error> {
        self.ctx.client.patch(&PERSISTENT_VOLUMES, "", name, "", &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn reclaim(&self, object: &Object, v: &Volume) -> Result<(), Error> {
        let value = object.value()?;
        match plan::reclaim(v, value["spec"]["hostPath"]["path"].as_str()) {
            Reclaim::Keep | Reclaim::Theirs => Ok(()),
            Reclaim::Directory(path) => match remove(&path).await {
                Ok(()) => Ok(self
                    .ctx
                    .client
                    .delete_if_there(
                        &PERSISTENT_VOLUMES,
                        "",
                        object.name(),
                        &DeleteOptions::uid(object.uid()),
                    )
                    .await?),
                Err(e) => {
                    self.failed(object, "VolumeFailedDelete", &format!("failed to delete {path}: {e}")).await
                }
            },
            Reclaim::Fail { reason, message } => self.failed(object, reason, &message).await,
        }
    }

    async fn failed(&self, object: &Object, reason: &str, message: &str) -> Result<(), Error> {
        self.ctx.events.warning(ObjectRef::of(&PERSISTENT_VOLUMES, object), reason, message);
        self.phase(object, "Failed", Some(message)).await
    }
}

async fn remove(path: &str) -> std::io::Result<()> {
    let path = Path::new(path).to_owned();
    let gone = tokio::task::spawn_blocking(move || match std::fs::remove_dir_all(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    });
    gone.await.map_err(std::io::Error::other)?
}

/// Metadata of a patch that must meet the object as it was seen.
fn version(o: &Object) -> Value {
    json!({ "uid": o.uid(), "resourceVersion": o.revision().to_string() })
}

fn reference(c: &Claim) -> Value {
    json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": c.namespace, "name": c.name, "uid": c.uid })
}
