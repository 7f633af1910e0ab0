//! The ReplicaSet loop, and the ReplicationController loop, which differs in its kind and selector only. Keeps the
//! number of pods, adopts and releases, reports status. Owns nothing but expectations; spawns its workers.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use api::resource::{PODS, REPLICA_SETS, REPLICATION_CONTROLLERS};
use api::selector::LabelSelector;
use api::{Object, Resource, Status};
use client::{DeleteOptions, Informer, ObjectRef, clock, planted};
use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::expectations::Expectations;
use crate::pods::{self, Condition, Pod};
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};
use crate::{Context, expectations, owners, template};

/// Creates or deletes at once at most.
const BURST: usize = 500;

#[derive(Deserialize)]
struct View {
    spec: Spec,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    replicas: Option<i64>,
    #[serde(default)]
    min_ready_seconds: i64,
    #[serde(default)]
    selector: Value,
    #[serde(default)]
    template: Value,
}

struct Set {
    ctx: Context,
    resource: Resource,
    sets: Informer,
    pods: Informer,
    expected: Arc<Expectations>,
}

pub async fn replica_sets(ctx: Context) {
    run(ctx, REPLICA_SETS).await;
}

pub async fn replication_controllers(ctx: Context) {
    run(ctx, REPLICATION_CONTROLLERS).await;
}

async fn run(ctx: Context, resource: Resource) {
    let queue = Queue::default();
    let (sets, pods) = (ctx.informers.get(&resource), ctx.informers.get(&PODS));
    owners::index(&pods);
    if resource == REPLICA_SETS {
        sets.index_by_owner();
    }
    let expected = Arc::new(Expectations::default());
    skeleton::enqueue_self(&sets, &queue);
    let (q, e, all, kind) = (queue.clone(), expected.clone(), sets.clone(), resource.kind.to_string());
    pods.on_change(move |c| {
        for o in [c.old, c.new].into_iter().flatten() {
            match o.meta().controller() {
                Some(owner) if owner.kind == kind => {
                    let key = (o.namespace().to_owned(), owner.name.clone());
                    e.observe(&key, c);
                    let gone = c.new.is_none_or(|n| n.meta().is_deleting());
                    if gone && planted::is_on("deletion-unseen") {
                        continue;
                    }
                    q.add(key);
                }
                Some(_) => {}
                // An orphan: whoever selects it may adopt it.
                None if c.old.is_none_or(|old| {
                    old.meta().labels != o.meta().labels || old.meta().controller().is_some()
                }) =>
                {
                    for set in all.list(Some(o.namespace())) {
                        if selector(&set).is_ok_and(|s| s.matches(&o.meta().labels)) {
                            q.add(key_of(&set));
                        }
                    }
                }
                None => {}
            }
        }
    });
    if !skeleton::synced(&ctx.token, &[&sets, &pods]).await {
        return;
    }
    let name = resource.plural.to_string();
    let set = Set { ctx: ctx.clone(), resource, sets, pods, expected };
    skeleton::work(&name, &ctx.token, &queue, 5, |key| set.reconcile(key)).await;
}

fn selector(set: &Object) -> Result<LabelSelector, Error> {
    let v: View = set.view()?;
    parse_selector(&v.spec.selector)
}

/// A ReplicationController's selector is a plain map of labels.
fn parse_selector(v: &Value) -> Result<LabelSelector, Error> {
    let structured = v.get("matchLabels").is_some_and(Value::is_object)
        || v.get("matchExpressions").is_some_and(Value::is_array);
    if !structured {
        return Ok(LabelSelector::from_map_value(v));
    }
    LabelSelector::from_value(v).map_err(|e| Status::bad_request(e.to_string()).into())
}

impl Set {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(set) = self.sets.get(&key.0, &key.1) else {
            self.expected.forget(&key);
            return Ok(Next::Wait);
        };
        let now = clock::now();
        let ready_to_act = self.expected.satisfied(&key, now);
        let view: View = set.view()?;
        let selector = parse_selector(&view.spec.selector)?;
        let client = &self.ctx.client;
        let (active, rest): (Vec<Pod>, Vec<Pod>) =
            pods::parse(owners::candidates(&self.pods, &set))?.into_iter().partition(Pod::is_active);
        let candidates = active.into_iter().map(|p| p.object).collect();
        let claimed = owners::claim_all(client, &self.resource, &set, &selector, &PODS, candidates).await?;
        let active = pods::parse(claimed)?;
        let mine = |p: &&Pod| p.object.meta().controller().is_some_and(|c| c.uid == set.uid());
        let leaving = rest
            .iter()
            .filter(mine)
            .filter(|p| p.is_terminating() && selector.matches(&p.object.meta().labels));
        let terminating = (self.resource == REPLICA_SETS).then(|| leaving.count());
        let want = usize::try_from(view.spec.replicas.unwrap_or(1)).unwrap_or(0);

        let mut failure = None;
        if ready_to_act && !set.meta().is_deleting() {
            failure = self.manage(&key, &set, &view, &active, want).await.err();
        }
        let min_ready = view.spec.min_ready_seconds;
        let status =
            plan::status(&view.status, &set, &active, terminating, &view.spec.template, min_ready, now);
        let status = with_failure(status, failure.as_ref(), active.len(), want);
        if status != view.status {
            client.patch_status(&self.resource, &key.0, &key.1, status).await?;
        }
        if let Some(status) = failure {
            return Err(status.into());
        }
        let next = pods::next_available(&active, min_ready, now);
        Ok(if next == Next::Wait && !ready_to_act { Next::After(expectations::LOOK_AGAIN) } else { next })
    }

    /// Active pods by node, of this set and of those with the same owner: a deployment spreads as a whole.
    fn related(&self, set: &Object, active: &[Pod]) -> HashMap<String, usize> {
        let Some(owner) = set.meta().controller().filter(|_| self.resource == REPLICA_SETS) else {
            return plan::per_node(active.iter());
        };
        let sets = self.sets.by_index("owner", &owner.uid);
        let objects = sets.iter().flat_map(|s| self.pods.by_index("owner", s.uid()));
        let all: Vec<Pod> = objects.filter_map(|o| Pod::of(o).ok()).filter(Pod::is_active).collect();
        plan::per_node(all.iter())
    }

    async fn manage(
        &self,
        key: &Key,
        set: &Object,
        view: &View,
        active: &[Pod],
        want: usize,
    ) -> Result<(), Status> {
        if active.len() < want {
            return self.create(key, set, view, (want - active.len()).min(BURST)).await;
        }
        if active.len() > want {
            let surplus = (active.len() - want).min(BURST);
            let now = clock::now();
            let victims = plan::victims(active, surplus, &self.related(set, active), now);
            let deletes = victims.into_iter().map(|pod| async move {
                self.expected.deleting(key, &pod.object, now);
                let o = &pod.object;
                let result =
                    self.ctx.client.delete(&PODS, &key.0, o.name(), &DeleteOptions::uid(o.uid())).await;
                let about = ObjectRef::of(&self.resource, set);
                match result {
                    Ok(()) => {
                        self.ctx.events.normal(
                            about,
                            "SuccessfulDelete",
                            format!("Deleted pod: {}", o.name()),
                        );
                        Ok(())
                    }
                    // Gone, or another one by that name: nothing to wait for.
                    Err(s) if s.is_not_found() || s.is_conflict() => {
                        self.expected.not_deleted(key, o);
                        Ok(())
                    }
                    Err(s) => {
                        self.expected.not_deleted(key, o);
                        self.ctx.events.warning(about, "FailedDelete", format!("Error deleting: {s}"));
                        Err(s)
                    }
                }
            });
            return join_all(deletes).await.into_iter().find(Result::is_err).unwrap_or(Ok(()));
        }
        Ok(())
    }

    /// In batches that double, so that a pod that can't be created (quota) costs one failed request, not hundreds.
    async fn create(&self, key: &Key, set: &Object, view: &View, count: usize) -> Result<(), Status> {
        let body = template::pod(&view.spec.template, &self.resource, set);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let n = batch.min(left);
            let one = || async {
                let pod = self.ctx.client.create(&PODS, &key.0, &body).await?;
                self.expected.created(key, &pod, &self.pods, clock::now());
                Ok::<Object, Status>(pod)
            };
            let (mut failed, mut ended) = (None, false);
            for result in join_all((0..n).map(|_| one())).await {
                let about = ObjectRef::of(&self.resource, set);
                match result {
                    Ok(pod) => {
                        let message = format!("Created pod: {}", pod.name());
                        self.ctx.events.normal(about, "SuccessfulCreate", message);
                    }
                    // A namespace on its way out is no failure.
                    Err(s) if s.causes.iter().any(|c| c.reason == "NamespaceTerminating") => ended = true,
                    Err(s) => {
                        self.ctx.events.warning(about, "FailedCreate", format!("Error creating: {s}"));
                        failed = Some(s);
                    }
                }
            }
            if let Some(s) = failed {
                return Err(s);
            }
            if ended {
                return Ok(());
            }
            left -= n;
            batch *= 2;
        }
        Ok(())
    }
}

fn with_failure(mut status: Value, failure: Option<&Status>, have: usize, want: usize) -> Value {
    let mut conditions: Vec<Condition> =
        status.get("conditions").cloned().and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default();
    let old = conditions.iter().position(|c| c.r#type == "ReplicaFailure");
    match (failure, old) {
        (Some(_), Some(_)) | (None, None) => return status,
        (Some(s), None) => conditions.push(Condition {
            r#type: "ReplicaFailure".into(),
            status: "True".into(),
            reason: if have < want { "FailedCreate" } else { "FailedDelete" }.into(),
            message: s.message.clone(),
            last_transition_time: Some(clock::rfc3339(clock::now())),
            last_update_time: None,
        }),
        (None, Some(i)) => {
            conditions.remove(i);
        }
    }
    status["conditions"] = if conditions.is_empty() { Value::Null } else { json!(conditions) };
    status
}
