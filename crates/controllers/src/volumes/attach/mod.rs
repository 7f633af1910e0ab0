//! The attachdetach loop: a VolumeAttachment for each volume of a CSI driver and node whose pods use it, taken away when none
//! does; what is attached stands in the node's status. `plan` is pure. Owns since when a node has a volume without
//! need; spawns its workers.
//! https://kubernetes-csi.github.io/docs/external-attacher.html

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::resource::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTACHMENTS};
use api::{Object, Resource};
use client::{DeleteOptions, Informer, ObjectRef, Patch, clock};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::protection::used;
use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue};
use plan::{Attachment, Node, Volume, is_over, plan};

const DRIVERS: Resource = Resource::new("storage.k8s.io", "v1", "csidrivers", "CSIDriver", false);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Pods by the claims that they use on a node.
const BY_CLAIM: &str = "claims";
/// The same pods by node.
const WITH_CLAIMS: &str = "claims by node";
const BY_VOLUME: &str = "volume";
const BY_NODE: &str = "node";

struct Loop {
    ctx: Context,
    pods: Informer,
    claims: Informer,
    volumes: Informer,
    nodes: Informer,
    attachments: Informer,
    drivers: Informer,
    /// By volume and node.
    idle: Mutex<BTreeMap<String, BTreeMap<String, Timestamp>>>,
    /// Pods that were told that they wait, or that they have their volume.
    told: Mutex<BTreeSet<(String, String, &'static str)>>,
}

fn field(o: &Object, path: &str) -> String {
    o.value()
        .ok()
        .and_then(|v| v.pointer(path).and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_default()
}

fn volume_of(attachment: &Object) -> String {
    field(attachment, "/spec/source/persistentVolumeName")
}

fn node_of(attachment: &Object) -> String {
    field(attachment, "/spec/nodeName")
}

fn some(s: String) -> Vec<String> {
    if s.is_empty() { Vec::new() } else { vec![s] }
}

/// A volume's key; nodes have theirs with a namespace that no volume has.
fn volume_key(name: String) -> Key {
    (String::new(), name)
}

fn node_key(name: &str) -> Key {
    ("node".to_owned(), name.to_owned())
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let l = Arc::new(Loop {
        pods: ctx.informers.get(&PODS),
        claims: ctx.informers.get(&PERSISTENT_VOLUME_CLAIMS),
        volumes: ctx.informers.get(&PERSISTENT_VOLUMES),
        nodes: ctx.informers.get(&NODES),
        attachments: ctx.informers.get(&VOLUME_ATTACHMENTS),
        drivers: ctx.informers.get(&DRIVERS),
        ctx: ctx.clone(),
        idle: Mutex::default(),
        told: Mutex::default(),
    });
    l.pods.add_index(BY_CLAIM, |o| used(o).into_iter().map(|c| format!("{}/{c}", o.namespace())).collect());
    l.pods.add_index(WITH_CLAIMS, |o| match used(o).is_empty() {
        true => Vec::new(),
        false => some(field(o, "/spec/nodeName")),
    });
    l.attachments.add_index(BY_VOLUME, |o| some(volume_of(o)));
    l.attachments.add_index(BY_NODE, |o| some(node_of(o)));
    watch(&l, &queue);
    let all = [&l.pods, &l.claims, &l.volumes, &l.nodes, &l.attachments, &l.drivers];
    if !skeleton::synced(&ctx.token, &all).await {
        return;
    }
    skeleton::work("attachdetach", &ctx.token, &queue, 4, |key| l.reconcile(key)).await;
}

fn watch(l: &Arc<Loop>, queue: &Queue) {
    let (claims, q) = (l.claims.clone(), queue.clone());
    l.pods.on_change(move |c| {
        if claims.is_empty() {
            return;
        }
        for o in [c.old, c.new].into_iter().flatten() {
            for claim in used(o).iter().filter_map(|name| claims.get(o.namespace(), name)) {
                some(field(&claim, "/spec/volumeName")).into_iter().for_each(|v| q.add(volume_key(v)));
            }
        }
    });
    let q = queue.clone();
    l.claims.on_change(move |c| {
        for o in [c.old, c.new].into_iter().flatten() {
            some(field(o, "/spec/volumeName")).into_iter().for_each(|v| q.add(volume_key(v)));
        }
    });
    let q = queue.clone();
    l.volumes.on_change(move |c| {
        if let Some(o) = c.object() {
            q.add(volume_key(o.name().to_owned()));
        }
    });
    let q = queue.clone();
    l.attachments.on_change(move |c| {
        for o in [c.old, c.new].into_iter().flatten() {
            some(volume_of(o)).into_iter().for_each(|v| q.add(volume_key(v)));
            q.add(node_key(&node_of(o)));
        }
    });
    let (attachments, pods, claims) = (l.attachments.clone(), l.pods.clone(), l.claims.clone());
    let q = queue.clone();
    l.nodes.on_change(move |c| {
        let Some(o) = c.object() else { return };
        let there = attachments.by_index(BY_NODE, o.name());
        if !there.is_empty() {
            q.add(node_key(o.name()));
        }
        // Pods may have been bound to a node before it came.
        let waiting = if c.old.is_none() { pods.by_index(WITH_CLAIMS, o.name()) } else { Vec::new() };
        for pod in waiting {
            for claim in used(&pod).iter().filter_map(|name| claims.get(pod.namespace(), name)) {
                some(field(&claim, "/spec/volumeName")).into_iter().for_each(|v| q.add(volume_key(v)));
            }
        }
        for a in there {
            some(volume_of(&a)).into_iter().for_each(|v| q.add(volume_key(v)));
        }
    });
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        match key.0.as_str() {
            "" => self.volume(&key.1).await,
            _ => self.report(&key.1, None).await.map(|()| Next::Wait),
        }
    }

    /// Pods on nodes that use the volume.
    fn users(&self, v: &Value) -> Vec<Object> {
        let claim = &v["spec"]["claimRef"];
        let text = |f: &str| claim[f].as_str().unwrap_or_default();
        let bound = self.claims.get(text("namespace"), text("name")).filter(|c| {
            c.uid() == text("uid")
                && field(c, "/spec/volumeName") == v["metadata"]["name"].as_str().unwrap_or_default()
        });
        if bound.is_none() {
            return Vec::new();
        }
        let mut all = self.pods.by_index(BY_CLAIM, &format!("{}/{}", text("namespace"), text("name")));
        all.retain(|p| p.value().is_ok_and(|p| !is_over(&p)));
        all
    }

    fn attached(&self, volume: &str) -> Vec<Attachment> {
        let one = |o: Object| Attachment {
            name: o.name().to_owned(),
            node: node_of(&o),
            deleting: o.meta().is_deleting(),
        };
        self.attachments.by_index(BY_VOLUME, volume).into_iter().map(one).collect()
    }

    fn facts(&self, name: &str, unique: &str) -> Option<Node> {
        let v = self.nodes.get("", name)?.value().ok()?;
        let has = |list: &Value, f: &dyn Fn(&Value) -> bool| list.as_array().into_iter().flatten().any(f);
        Some(Node {
            in_use: has(&v["status"]["volumesInUse"], &|n| n == unique),
            ready: has(&v["status"]["conditions"], &|c| c["type"] == "Ready" && c["status"] == "True"),
            out_of_service: has(&v["spec"]["taints"], &|t| t["key"] == OUT_OF_SERVICE),
        })
    }

    async fn volume(&self, name: &str) -> Result<Next, Error> {
        let object = self.volumes.get("", name);
        let value = object.as_ref().map(Object::value).transpose()?;
        let Some(volume) = value.as_ref().and_then(Volume::of) else {
            self.idle.lock().remove(name);
            return Ok(Next::Wait);
        };
        // A driver that attaches nothing says so.
        let driver = self.drivers.get("", &volume.driver).map(|d| d.value()).transpose()?;
        let attaches = driver.is_none_or(|d| d["spec"]["attachRequired"] != false);
        let users = match (&value, attaches) {
            (Some(v), true) => self.users(v),
            _ => Vec::new(),
        };
        let by_node = |p: &Object| field(p, "/spec/nodeName");
        let wanted: BTreeSet<String> = users.iter().map(by_node).collect();
        let have = self.attached(name);
        let names = wanted.iter().cloned().chain(have.iter().map(|a| a.node.clone()));
        let nodes: BTreeMap<String, Node> =
            names.filter_map(|n| Some((n.clone(), self.facts(&n, &volume.unique())?))).collect();
        let now = clock::now();
        let since = self.idle.lock().get(name).cloned().unwrap_or_default();
        let p = plan(&volume, &wanted, &have, &nodes, &since, now);
        let idle = p.idle.iter().map(|n| (n.clone(), since.get(n).copied().unwrap_or(now))).collect();
        self.idle.lock().insert(name.to_owned(), idle);
        for a in &p.detach {
            // The node hears of it first, so that nothing is mounted any more.
            self.report(&a.node, Some(&volume.unique())).await?;
            self.ctx
                .client
                .delete_if_there(&VOLUME_ATTACHMENTS, "", &a.name, &DeleteOptions::default())
                .await?;
        }
        for node in &p.attach {
            let body = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
                "metadata": {"name": volume.attachment(node)},
                "spec": {"attacher": volume.driver, "nodeName": node, "source": {"persistentVolumeName": name}}});
            match self.ctx.client.create(&VOLUME_ATTACHMENTS, "", &body).await {
                Err(e) if !e.is_already_exists() => return Err(e.into()),
                _ => {}
            }
        }
        self.tell(&volume, &users, &p.blocked);
        Ok(p.again.map_or(Next::Wait, Next::After))
    }

    /// What pods hear of their volume, once each.
    fn tell(&self, v: &Volume, users: &[Object], blocked: &[String]) {
        let mut told = self.told.lock();
        told.retain(|(volume, uid, _)| *volume != v.name || users.iter().any(|u| u.uid() == uid));
        let mut once = |pod: &Object, what| told.insert((v.name.clone(), pod.uid().to_owned(), what));
        let states = self.attachments.by_index(BY_VOLUME, &v.name);
        for pod in users {
            let (node, about) = (field(pod, "/spec/nodeName"), ObjectRef::of(&PODS, pod));
            let events = &self.ctx.events;
            if blocked.contains(&node) {
                let others: Vec<&str> = users
                    .iter()
                    .filter(|o| field(o, "/spec/nodeName") != node && o.namespace() == pod.namespace())
                    .map(|o| o.name())
                    .collect();
                let text = match others.is_empty() {
                    true => format!(
                        "Waiting for detach for volume \"{}\" Volume is already exclusively attached to one node, waiting on detach before it can be attached to another node",
                        v.name
                    ),
                    false => format!(
                        "Multi-Attach error for volume \"{}\" Volume is already used by pod(s) {}",
                        v.name,
                        others.join(", ")
                    ),
                };
                if once(pod, "blocked") {
                    events.warning(about, "FailedAttachVolume", text);
                }
                continue;
            }
            let state = states.iter().find(|a| node_of(a) == node).and_then(|a| a.value().ok());
            let Some(status) = state.map(|s| s["status"].clone()) else { continue };
            if status["attached"] == true {
                if once(pod, "attached") {
                    let text = format!("AttachVolume.Attach succeeded for volume \"{}\" ", v.name);
                    events.normal(about, "SuccessfulAttachVolume", text);
                }
            } else if let Some(e) = status["attachError"]["message"].as_str()
                && once(pod, "failed")
            {
                let text = format!("AttachVolume.Attach failed for volume \"{}\" : {e}", v.name);
                events.warning(about, "FailedAttachVolume", text);
            }
        }
    }

    /// What is attached to a node, in its status; without what is about to go.
    async fn report(&self, name: &str, without: Option<&str>) -> Result<(), Error> {
        let Some(node) = self.nodes.get("", name) else { return Ok(()) };
        let mut names: BTreeSet<String> = BTreeSet::new();
        for a in self.attachments.by_index(BY_NODE, name) {
            let v = a.value()?;
            let volume = self.volumes.get("", &volume_of(&a)).and_then(|o| Volume::of(&o.value().ok()?));
            if v["status"]["attached"] == true && !a.meta().is_deleting() {
                names.extend(volume.map(|v| v.unique()));
            }
        }
        without.map(|w| names.remove(w));
        let value = node.value()?;
        let had = value["status"]["volumesAttached"].as_array().cloned().unwrap_or_default();
        let is = |n: &Value| n["name"].as_str().unwrap_or_default().to_owned();
        if had.iter().map(is).collect::<BTreeSet<_>>() == names {
            return Ok(());
        }
        let new: Vec<Value> = names.iter().map(|n| json!({"name": n, "devicePath": ""})).collect();
        let patch = Patch::Merge(json!({ "status": { "volumesAttached": new } }));
        match self.ctx.client.patch(&NODES, "", name, "status", &patch).await {
            Err(s) if !s.is_not_found() => Err(s.into()),
            _ => Ok(()),
        }
    }
}
