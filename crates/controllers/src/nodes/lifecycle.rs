//! The node lifecycle loop: a node that gives no sign of life becomes `Unknown`, conditions and `spec.unschedulable`
//! become taints, pods of nodes that are not ready are marked so, and taints that evict are set at a rate by zone. Owns
//! what it knows of each node's health; spawns its workers.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use api::Object;
use api::resource::{LEASES, NODES, PODS};
use client::{Informer, ObjectRef, Patch, clock};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use super::health::{self, Health, Turn, Zones};
use super::view::{self, NOT_READY, NodeView, Taint, UNREACHABLE};
use super::{BY_NODE, index_by_node, node_of, patch_pod};
use crate::Context;
use crate::pods::Pod;
use crate::skeleton::{self, Error, Key, Next, Queue};

const PERIOD: Duration = Duration::from_secs(5);
/// A new node gets this much more time for its first status.
const STARTUP: Duration = Duration::from_secs(10);
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Nodes that do not count when a zone's state is judged.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

struct Entry {
    health: Health,
    zone: String,
    counts: bool,
}

#[derive(Default)]
struct Known {
    /// When any node was looked at last.
    looked: Option<Timestamp>,
    nodes: HashMap<String, Entry>,
    zones: Zones,
    /// Nodes whose pods are still to be marked not ready.
    marks: HashSet<String>,
}

struct Loop {
    ctx: Context,
    nodes: Informer,
    pods: Informer,
    leases: Informer,
    queue: Queue,
    known: Mutex<Known>,
    period: Duration,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (nodes, pods, leases) =
        (ctx.informers.get(&NODES), ctx.informers.get(&PODS), ctx.informers.get(&LEASES));
    index_by_node(&pods);
    let period = PERIOD.min(ctx.config.node_grace / 4).max(Duration::from_millis(100));
    let l = std::sync::Arc::new(Loop {
        ctx: ctx.clone(),
        nodes,
        pods,
        leases,
        queue,
        known: Mutex::default(),
        period,
    });
    if !skeleton::synced(&ctx.token, &[&l.nodes, &l.pods, &l.leases]).await {
        return;
    }
    // All nodes first: one that is down must not look like all of them.
    let now = clock::now();
    for node in l.nodes.list(None) {
        if let Ok(view) = node.view() {
            l.look(&node, &view, now);
        }
    }
    l.judge();
    skeleton::enqueue_self(&l.nodes, &l.queue);
    let weak = std::sync::Arc::downgrade(&l);
    l.pods.on_change(move |c| {
        let (Some(l), Some(new)) = (weak.upgrade(), c.new) else { return };
        let node = node_of(new);
        if !node.is_empty() && c.old.is_none_or(|o| node_of(o) != node) {
            l.bound(node);
        }
    });
    skeleton::work("node-lifecycle", &ctx.token, &l.queue, 8, |key| l.reconcile(key)).await;
}

fn time(text: Option<&str>) -> Option<Timestamp> {
    clock::parse(text?)
}

impl Loop {
    /// A pod that comes to a node that is not ready is not ready either.
    fn bound(&self, node: String) {
        let mut k = self.known.lock();
        let down = k.nodes.get(&node).is_some_and(|e| e.health.ready.as_deref().is_some_and(|r| r != "True"));
        if down {
            k.marks.insert(node.clone());
            drop(k);
            self.queue.add((String::new(), node));
        }
    }

    fn renewed(&self, node: &str) -> Option<Timestamp> {
        #[derive(Deserialize)]
        struct Lease {
            spec: Spec,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            renew_time: Option<String>,
        }
        let lease: Lease = self.leases.get(LEASE_NAMESPACE, node)?.view().ok()?;
        time(lease.spec.renew_time.as_deref())
    }

    /// Notes what the node shows. Answers its health, the readiness seen before, and whether its zone has to be judged.
    fn look(&self, node: &Object, view: &NodeView, now: Timestamp) -> (Health, Option<String>, bool) {
        let created = time(node.meta().creation_timestamp()).unwrap_or(now);
        let renewed = self.renewed(node.name());
        let (zone, counts) = (health::zone(&node.meta().labels), !node.meta().labels.contains_key(EXCLUDED));
        let mut k = self.known.lock();
        let before = k.nodes.get(node.name());
        let health = health::observe(before.map(|e| &e.health), view, created, renewed, now);
        let was = before.and_then(|e| e.health.ready.clone());
        let changed = before.is_none_or(|e| e.zone != zone || e.counts != counts) || was != health.ready;
        k.nodes.insert(node.name().to_owned(), Entry { health: health.clone(), zone, counts });
        (health, was, changed)
    }

    /// Judges all zones anew.
    fn judge(&self) {
        let mut k = self.known.lock();
        let Known { nodes, zones, .. } = &mut *k;
        let ready = |e: &Entry| (e.zone.clone(), e.health.ready.as_deref() == Some("True"));
        let turn = zones.look(nodes.values().filter(|e| e.counts).map(ready));
        match turn {
            Turn::None => return,
            Turn::AllDown => tracing::warn!("no node is ready any more; evicting nothing until one is"),
            Turn::Back => {
                let now = clock::now();
                nodes.values_mut().for_each(|e| e.health.seen = now);
            }
        }
        for name in nodes.keys() {
            self.queue.add((String::new(), name.clone()));
        }
    }

    /// After a pause of our own (a machine that slept, a clock that jumped) nobody's silence counts.
    fn forgive(&self, now: Timestamp) {
        let mut k = self.known.lock();
        let slept =
            k.looked.is_some_and(|l| clock::between(l, now) > self.ctx.config.node_grace / 2 + self.period);
        if slept {
            k.nodes.values_mut().for_each(|e| e.health.seen = now);
        }
        k.looked = Some(now);
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let name = key.1;
        self.forgive(clock::now());
        let Some(node) = self.nodes.get("", &name) else {
            let gone = self.known.lock().nodes.remove(&name).is_some();
            if gone {
                let about = ObjectRef {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: name.clone(),
                    ..ObjectRef::default()
                };
                self.ctx.events.normal(
                    about,
                    "RemovingNode",
                    format!("Removing Node {name} from Controller"),
                );
                self.judge();
            }
            return Ok(Next::Wait);
        };
        let view: NodeView = node.view()?;
        let now = clock::now();
        let about = ObjectRef::of(&NODES, &node);
        let new = !self.known.lock().nodes.contains_key(&name);
        let (health, was, changed) = self.look(&node, &view, now);
        if new {
            self.ctx.events.normal(
                about.clone(),
                "RegisteredNode",
                format!("Registered Node {name} in Controller"),
            );
        }
        if changed {
            self.judge();
        }
        let not_ready = view.ready().is_some_and(|r| r != "True");
        if was.as_deref() == Some("True") && not_ready {
            self.ctx.events.normal(about, "NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
            self.known.lock().marks.insert(name.clone());
        }
        if let Some(change) = view::labels(&node.meta().labels) {
            self.ctx
                .client
                .patch(&NODES, "", &name, "", &Patch::Merge(json!({ "metadata": { "labels": change } })))
                .await?;
        }
        let grace =
            self.ctx.config.node_grace + if view.ready().is_none() { STARTUP } else { Duration::ZERO };
        let silent = clock::between(health.seen, now);
        if silent > grace {
            let created = node.meta().creation_timestamp().unwrap_or_default();
            if let Some(status) = health::unknown(&view, created, &clock::rfc3339(now)) {
                // As it was seen: a sign of life in between makes this write lose.
                let patch = json!({ "metadata": { "resourceVersion": node.revision().to_string() }, "status": status });
                self.ctx.client.patch(&NODES, "", &name, "status", &Patch::Strategic(patch)).await?;
                return Ok(Next::After(self.period));
            }
        }
        let wait = self.taint(&node, &view, now).await?;
        // A node that answers may see its pods better than we do: those are marked once. A silent one can't object.
        let marked = self.known.lock().marks.contains(&name);
        if not_ready && (marked || view.ready() == Some("Unknown")) {
            self.mark_pods(&name).await?;
        }
        self.known.lock().marks.remove(&name);
        let overdue = grace.saturating_sub(silent) + Duration::from_millis(1);
        Ok(Next::After(
            self.period.min(overdue).min(wait.unwrap_or(self.period)).max(Duration::from_millis(10)),
        ))
    }

    /// Brings the taints in line; how long to wait for the node's turn, when it is not its turn yet.
    async fn taint(&self, node: &Object, view: &NodeView, now: Timestamp) -> Result<Option<Duration>, Error> {
        let at = clock::rfc3339(now);
        let name = node.name();
        let mut wait = None;
        let mut took = None;
        let mut taints: Option<Vec<Taint>> = view::no_schedule(view, &at);
        let evicting = match view.ready() {
            Some("True") => Some(None),
            Some("False") => Some(Some(NOT_READY)),
            Some(_) => Some(Some(UNREACHABLE)),
            None => None,
        };
        if let Some(mut want) = evicting {
            let has = view.has_taint(NOT_READY, "NoExecute") || view.has_taint(UNREACHABLE, "NoExecute");
            let mut k = self.known.lock();
            if k.zones.all_down() {
                want = None;
            } else if want.is_some() && !has {
                let zone = k.nodes.get(name).map(|e| e.zone.clone()).unwrap_or_default();
                match k.zones.take(&zone, now) {
                    Ok(()) => took = Some(zone),
                    Err(later) => {
                        (want, wait) = (None, later);
                    }
                }
            }
            drop(k);
            let present = NodeView {
                spec: view::NodeSpec {
                    taints: taints.clone().unwrap_or_else(|| view.spec.taints.clone()),
                    ..view.spec.clone()
                },
                ..NodeView::default()
            };
            taints = view::no_execute(&present, want, &at).or(taints);
        }
        if let Some(taints) = taints {
            let patch = json!({ "metadata": { "resourceVersion": node.revision().to_string() }, "spec": { "taints": taints } });
            if let Err(s) = self.ctx.client.patch(&NODES, "", name, "", &Patch::Merge(patch)).await {
                if let Some(zone) = took {
                    self.known.lock().zones.give_back(&zone);
                }
                return Err(s.into());
            }
        }
        Ok(wait)
    }

    async fn mark_pods(&self, node: &str) -> Result<(), Error> {
        for object in self.pods.by_index(BY_NODE, node) {
            let pod = Pod::of(object)?;
            if !pod.is_ready() {
                continue;
            }
            let status = json!({ "conditions": [{ "type": "Ready", "status": "False", "lastTransitionTime": clock::rfc3339(clock::now()) }] });
            if patch_pod(&self.ctx.client, &pod.object, status).await? {
                self.ctx.events.warning(
                    ObjectRef::of(&PODS, &pod.object),
                    "NodeNotReady",
                    "Node is not ready",
                );
            }
        }
        Ok(())
    }
}
