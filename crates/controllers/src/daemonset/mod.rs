//! The DaemonSet loop: one pod on every node that the template fits. `nodes` says where pods belong, `plan` what to do
//! next (both pure), `backoff` how long a failed pod waits, this file acts. Owns expectations and back-offs; spawns its
//! workers.

mod backoff;
mod nodes;
mod plan;
#[cfg(test)]
mod plan_tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::resource::{CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS};
use api::selector::LabelSelector;
use api::{Object, Status};
use client::{DeleteOptions, Informer, ObjectRef, Patch, clock};
use futures::future::join_all;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::expectations::Expectations;
use crate::history::{self, Revision};
use crate::pods::{self, Pod};
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};
use crate::slow_start::slow_start;
use crate::{Context, owners, template};
use backoff::Backoff;
use nodes::{Node, Wishes};
use plan::{GENERATION, HASH, Inputs, Plan, Strategy, Version};

/// Creates or deletes at once at most, as upstream.
const BURST: usize = 250;
/// Kept by the API server: counts the changes of the template.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

#[derive(Deserialize)]
struct View {
    #[serde(default)]
    metadata: Annotated,
    spec: Spec,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Annotated {
    annotations: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    selector: Value,
    #[serde(default)]
    template: Value,
    #[serde(default)]
    update_strategy: Value,
    #[serde(default)]
    min_ready_seconds: i64,
    #[serde(default)]
    revision_history_limit: Option<i64>,
}

struct Loop {
    ctx: Context,
    sets: Informer,
    pods: Informer,
    nodes: Informer,
    revisions: Informer,
    expected: Arc<Expectations>,
    failures: Mutex<Backoff>,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (sets, pods) = (ctx.informers.get(&DAEMON_SETS), ctx.informers.get(&PODS));
    let (nodes, revisions) = (ctx.informers.get(&NODES), ctx.informers.get(&CONTROLLER_REVISIONS));
    owners::index(&pods);
    owners::index(&revisions);
    let expected = Arc::new(Expectations::default());
    skeleton::enqueue_self(&sets, &queue);
    skeleton::enqueue_owner_of_revision(&revisions, &queue, "DaemonSet");
    let seen = expected.clone();
    owners::enqueue_for_pods(&pods, &sets, &DAEMON_SETS, &queue, selector, move |key, c| {
        seen.observe(key, c)
    });
    let (q, all) = (queue.clone(), sets.clone());
    nodes.on_change(move |c| {
        let (old, new) = (c.old.and_then(Node::of), c.new.and_then(Node::of));
        // Heartbeats change nothing here.
        if let (Some(old), Some(new)) = (&old, &new)
            && !old.differs(new)
        {
            return;
        }
        all.list(None).iter().for_each(|set| q.add(key_of(set)));
    });
    if !skeleton::synced(&ctx.token, &[&sets, &pods, &nodes, &revisions]).await {
        return;
    }
    let l = Loop { ctx: ctx.clone(), sets, pods, nodes, revisions, expected, failures: Mutex::default() };
    skeleton::work("daemonset", &ctx.token, &queue, 2, |key| l.reconcile(key)).await;
}

fn selector(set: &Object) -> Result<LabelSelector, Error> {
    let v: View = set.view()?;
    LabelSelector::from_value(&v.spec.selector).map_err(|e| Status::bad_request(e.to_string()).into())
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(set) = self.sets.get(&key.0, &key.1) else {
            self.expected.forget(&key);
            return Ok(Next::Wait);
        };
        let view: View = set.view()?;
        let selector = selector(&set)?;
        if selector.is_everything() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.ctx.events.warning(ObjectRef::of(&DAEMON_SETS, &set), "SelectingAll", message);
            return Ok(Next::Wait);
        }
        if set.meta().is_deleting() {
            return Ok(Next::Wait);
        }
        let now = clock::now();
        let ready_to_act = self.expected.satisfied(&key, now);
        let client = &self.ctx.client;
        let owner = history::Owner {
            client,
            resource: &DAEMON_SETS,
            set: &set,
            annotations: &view.metadata.annotations,
            template: &view.spec.template,
            hash_label: HASH,
        };
        let mut revisions = owner.list(&self.revisions, &selector).await?;
        let mut collisions = view.status["collisionCount"].as_i64().unwrap_or(0);
        let present = owner.settle(&mut revisions, &mut collisions).await?;

        let candidates = owners::candidates(&self.pods, &set);
        let claimed = owners::claim_all(client, &DAEMON_SETS, &set, &selector, &PODS, candidates).await?;
        let pods = pods::parse(claimed)?;
        self.merge_duplicates(&set, &mut revisions, &present, &pods).await?;

        let wishes = Wishes::of(&view.spec.template);
        let nodes: BTreeMap<String, nodes::Verdict> = self
            .nodes
            .list(None)
            .iter()
            .filter_map(Node::of)
            .map(|n| (n.name.clone(), wishes.verdict(&n)))
            .collect();
        let mut by_node: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
        for p in pods.iter().filter(|p| !(p.is_finished() && p.object.meta().is_deleting())) {
            if let Some(node) = nodes::target(p) {
                by_node.entry(node).or_default().push(p.clone());
            }
        }
        let desired = nodes.values().filter(|v| v.run).count();
        let inputs = Inputs {
            nodes: &nodes,
            pods: &by_node,
            version: Version {
                hash: present.label(HASH),
                generation: view.metadata.annotations.get(TEMPLATE_GENERATION).and_then(Value::as_str),
            },
            strategy: Strategy::parse(&view.spec.update_strategy, crate::counts::of(desired)),
            min_ready: view.spec.min_ready_seconds,
            now,
        };
        let mut next = pods::next_available(&pods, view.spec.min_ready_seconds, now);
        let mut failure = None;
        if ready_to_act {
            let mut plan = plan::manage(&inputs);
            next = self.replace_ended(&set, &mut plan, now, next);
            failure = self.carry_out(&key, &set, &view, &inputs, plan, &pods).await.err();
            if failure.is_none() && self.expected.satisfied(&key, now) {
                let plan = plan::update(&inputs);
                failure = self.carry_out(&key, &set, &view, &inputs, plan, &pods).await.err();
            }
            let hashes: HashSet<&str> =
                pods.iter().filter_map(|p| p.object.meta().labels.get(HASH)).collect();
            let mut live: HashSet<&str> =
                revisions.iter().filter(|r| hashes.contains(r.label(HASH))).map(Revision::name).collect();
            live.insert(present.name());
            owner.truncate(&revisions, &live, view.spec.revision_history_limit.unwrap_or(10)).await?;
        }
        let status = plan::status(&view.status, &inputs, set.meta().generation, collisions);
        if status != view.status {
            client.patch_status(&DAEMON_SETS, &key.0, &key.1, status).await?;
        }
        match failure {
            Some(status) => Err(status.into()),
            None => Ok(next),
        }
    }

    /// Revisions that keep the same template (adopted ones, say) become one: pods of the others get its hash.
    async fn merge_duplicates(
        &self,
        set: &Object,
        all: &mut Vec<Revision>,
        present: &Revision,
        pods: &[Pod],
    ) -> Result<(), Error> {
        let is_double = |r: &Revision| r.data == present.data && r.name() != present.name();
        let doubles: Vec<Revision> = all.iter().filter(|r| is_double(r)).cloned().collect();
        let client = &self.ctx.client;
        for double in &doubles {
            for p in pods.iter().filter(|p| p.object.meta().labels.get(HASH) == Some(double.label(HASH))) {
                let patch = Patch::Merge(
                    json!({ "metadata": { "uid": p.object.uid(), "labels": { HASH: present.label(HASH) } } }),
                );
                client.patch(&PODS, set.namespace(), p.object.name(), "", &patch).await?;
            }
            let options = DeleteOptions::uid(double.object.uid());
            client.delete_if_there(&CONTROLLER_REVISIONS, set.namespace(), double.name(), &options).await?;
        }
        all.retain(|r| !doubles.iter().any(|d| d.name() == r.name()));
        Ok(())
    }

    /// Tells of ended pods and adds to the plan's deletes those that may go now; a failed one waits its back-off first.
    fn replace_ended(&self, set: &Object, plan: &mut Plan, now: Timestamp, mut next: Next) -> Next {
        let about = ObjectRef::of(&DAEMON_SETS, set);
        for (pod, node) in std::mem::take(&mut plan.failed) {
            if let Some(left) = self.failures.lock().wait(set.uid(), &node, now) {
                let left = Duration::try_from(left).unwrap_or(Duration::from_secs(1));
                next = match next {
                    Next::After(d) => Next::After(d.min(left)),
                    Next::Wait => Next::After(left),
                };
                continue;
            }
            let message = format!(
                "Found failed daemon pod {}/{pod} on node {node}, will try to kill it",
                set.namespace()
            );
            self.ctx.events.warning(about.clone(), "FailedDaemonPod", message);
            plan.delete.push(pod);
        }
        for (pod, node) in std::mem::take(&mut plan.succeeded) {
            let message = format!(
                "Found succeeded daemon pod {}/{pod} on node {node}, will try to delete it",
                set.namespace()
            );
            self.ctx.events.normal(about.clone(), "SucceededDaemonPod", message);
            plan.delete.push(pod);
        }
        next
    }

    async fn carry_out(
        &self,
        key: &Key,
        set: &Object,
        view: &View,
        i: &Inputs<'_>,
        plan: Plan,
        pods: &[Pod],
    ) -> Result<(), Status> {
        let mut template = view.spec.template.clone();
        template["metadata"]["labels"][HASH] = json!(i.version.hash);
        if let Some(g) = i.version.generation {
            template["metadata"]["labels"][GENERATION] = json!(g);
        }
        let template = &template;
        let create: Vec<String> = plan.create.into_iter().take(BURST).collect();
        let made = slow_start(create, |node| async move {
            let mut template = template.clone();
            nodes::pin(&mut template, &node);
            let body = template::pod(&template, &DAEMON_SETS, set);
            let about = ObjectRef::of(&DAEMON_SETS, set);
            match self.ctx.client.create(&PODS, &key.0, &body).await {
                Ok(pod) => {
                    self.expected.created(key, &pod, &self.pods, clock::now());
                    self.ctx.events.normal(about, "SuccessfulCreate", format!("Created pod: {}", pod.name()));
                    Ok(())
                }
                Err(s) => {
                    self.ctx.events.warning(about, "FailedCreate", format!("Error creating: {s}"));
                    Err(s)
                }
            }
        })
        .await;
        let victims: Vec<&Object> = plan
            .delete
            .iter()
            .filter_map(|name| pods.iter().find(|p| p.object.name() == name).map(|p| &p.object))
            .take(BURST)
            .collect();
        let deletes = victims.into_iter().map(|o| async move {
            self.expected.deleting(key, o, clock::now());
            let result =
                self.ctx.client.delete_if_there(&PODS, &key.0, o.name(), &DeleteOptions::uid(o.uid())).await;
            let about = ObjectRef::of(&DAEMON_SETS, set);
            match &result {
                Ok(()) => {
                    self.ctx.events.normal(about, "SuccessfulDelete", format!("Deleted pod: {}", o.name()))
                }
                Err(s) => {
                    self.expected.not_deleted(key, o);
                    self.ctx.events.warning(about, "FailedDelete", format!("Error deleting: {s}"));
                }
            }
            result
        });
        join_all(deletes).await.into_iter().find_map(Result::err).map_or(made, Err)
    }
}
