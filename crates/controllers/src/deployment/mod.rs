//! The Deployment loop: one ReplicaSet per template, rolled over or recreated, with history, undo by revision, pause and
//! a progress deadline. `rollout` decides (pure), this file acts, `status` words the conditions.

mod rollout;
mod status;

use std::time::Duration;

use api::resource::{DEPLOYMENTS, PODS, REPLICA_SETS};
use api::selector::LabelSelector;
use api::{Object, Status};
use client::{DeleteOptions, Informer, ObjectRef, Patch, clock};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::skeleton::{self, Error, Key, Next, Queue};
use crate::{Context, owners, template};
use rollout::{Sets, Strategy};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const HASH_LABEL: &str = "pod-template-hash";

#[derive(Deserialize)]
struct View {
    metadata: Annotated,
    spec: Spec,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Annotated {
    annotations: Option<serde_json::Map<String, Value>>,
}

impl Annotated {
    fn get(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name)?.as_str()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    replicas: Option<i64>,
    selector: Value,
    template: Value,
    #[serde(default)]
    strategy: Value,
    #[serde(default)]
    min_ready_seconds: i64,
    #[serde(default)]
    revision_history_limit: Option<i64>,
    #[serde(default)]
    progress_deadline_seconds: Option<i64>,
    #[serde(default)]
    paused: bool,
}

/// A ReplicaSet of the deployment with what the decisions need.
#[derive(Debug, Clone)]
pub struct Rs {
    pub object: Object,
    pub template: Value,
    pub annotations: serde_json::Map<String, Value>,
    pub replicas: i64,
    pub status_replicas: i64,
    pub ready: i64,
    pub available: i64,
    pub observed: bool,
}

impl Rs {
    fn of(object: Object) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct V {
            metadata: Annotated,
            spec: S,
            #[serde(default)]
            status: T,
        }
        #[derive(Deserialize)]
        struct S {
            #[serde(default)]
            replicas: Option<i64>,
            #[serde(default)]
            template: Value,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct T {
            replicas: i64,
            ready_replicas: i64,
            available_replicas: i64,
            observed_generation: i64,
        }
        let v: V = object.view()?;
        Ok(Self {
            template: v.spec.template,
            annotations: v.metadata.annotations.unwrap_or_default(),
            replicas: v.spec.replicas.unwrap_or(1),
            status_replicas: v.status.replicas,
            ready: v.status.ready_replicas,
            available: v.status.available_replicas,
            observed: v.status.observed_generation >= object.meta().generation,
            object,
        })
    }

    fn revision(&self) -> i64 {
        self.annotations.get(REVISION).and_then(Value::as_str).and_then(|r| r.parse().ok()).unwrap_or(0)
    }

    fn annotation_number(&self, name: &str) -> Option<i64> {
        self.annotations.get(name)?.as_str()?.parse().ok()
    }
}

/// Whether two templates are the same but for the hash label that this loop adds.
fn same_template(a: &Value, b: &Value) -> bool {
    let strip = |v: &Value| {
        let mut v = v.clone();
        if let Some(l) = v["metadata"].get_mut("labels").and_then(Value::as_object_mut) {
            l.remove(HASH_LABEL);
        }
        v
    };
    strip(a) == strip(b)
}

struct Loop {
    ctx: Context,
    deployments: Informer,
    sets: Informer,
    pods: Informer,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (deployments, sets, pods) =
        (ctx.informers.get(&DEPLOYMENTS), ctx.informers.get(&REPLICA_SETS), ctx.informers.get(&PODS));
    sets.index_by_owner();
    pods.index_by_owner();
    skeleton::enqueue_self(&deployments, &queue);
    skeleton::enqueue_owner(&sets, &queue, "Deployment");
    // A Recreate deployment goes on when the last old pod is gone.
    let (q, all) = (queue.clone(), sets.clone());
    pods.on_change(move |c| {
        if let (Some(old), None) = (c.old, c.new)
            && let Some(owner) = old.meta().controller().filter(|o| o.kind == "ReplicaSet")
            && let Some(set) = all.get(old.namespace(), &owner.name)
            && let Some(d) = set.meta().controller()
        {
            q.add((old.namespace().to_owned(), d.name.clone()));
        }
    });
    if !skeleton::synced(&ctx.token, &[&deployments, &sets, &pods]).await {
        return;
    }
    let l = Loop { ctx: ctx.clone(), deployments, sets, pods };
    skeleton::work("deployment", &ctx.token, &queue, 5, |key| l.reconcile(key)).await;
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(d) = self.deployments.get(&key.0, &key.1) else { return Ok(Next::Wait) };
        let view: View = d.view()?;
        let spec = &view.spec;
        let candidates = self.sets.list(Some(&key.0));
        let client = &self.ctx.client;
        let selector =
            LabelSelector::from_value(&spec.selector).map_err(|e| Status::bad_request(e.to_string()))?;
        let claimed =
            owners::claim_all(client, &DEPLOYMENTS, &d, &selector, &REPLICA_SETS, candidates).await?;
        let mut all = claimed.into_iter().map(Rs::of).collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|a, b| {
            a.object
                .meta()
                .creation_timestamp
                .cmp(&b.object.meta().creation_timestamp)
                .then_with(|| a.object.name().cmp(b.object.name()))
        });
        let newest = all.iter().position(|rs| same_template(&rs.template, &spec.template));
        let mut sets = Sets { new: newest.map(|i| all.remove(i)), old: all };
        if d.meta().is_deleting() {
            self.write_status(&d, &view, &sets, false).await?;
            return Ok(Next::Wait);
        }
        let desired = spec.replicas.unwrap_or(1);
        let strategy = Strategy::parse(&spec.strategy, desired);

        let scaling = rollout::is_scaling(&sets, desired);
        if spec.paused || scaling {
            if let Some(rs) = sets.new.take() {
                sets.new = Some(self.mark(&d, &view, rs, &sets.old, &strategy, desired).await?);
            }
            for (name, n) in rollout::proportional(&sets, desired, &strategy) {
                self.scale(&d, &mut sets, &name, n, &strategy, desired).await?;
            }
            if spec.paused {
                self.clean_up(spec, &sets).await?;
            }
            return self.write_status(&d, &view, &sets, false).await;
        }

        let created;
        match strategy {
            Strategy::Recreate => {
                let downs: Vec<String> =
                    sets.old.iter().filter(|r| r.replicas > 0).map(|r| r.object.name().into()).collect();
                if !downs.is_empty() {
                    for name in downs {
                        self.scale(&d, &mut sets, &name, 0, &strategy, desired).await?;
                    }
                    return self.write_status(&d, &view, &sets, false).await;
                }
                if self.old_pods_remain(&sets) {
                    return self.write_status(&d, &view, &sets, false).await;
                }
                created = self.ensure_new(&d, &view, &mut sets, &strategy, desired).await?;
                if let Some(name) =
                    sets.new.as_ref().filter(|r| r.replicas != desired).map(|r| r.object.name().to_owned())
                {
                    self.scale(&d, &mut sets, &name, desired, &strategy, desired).await?;
                }
            }
            Strategy::Rolling { .. } => {
                created = self.ensure_new(&d, &view, &mut sets, &strategy, desired).await?;
                for (name, n) in rollout::step(&sets, desired, &strategy) {
                    self.scale(&d, &mut sets, &name, n, &strategy, desired).await?;
                }
            }
        }
        if status::is_complete(&sets, desired) {
            self.clean_up(spec, &sets).await?;
        }
        self.write_status(&d, &view, &sets, created).await
    }

    fn old_pods_remain(&self, sets: &Sets) -> bool {
        sets.old.iter().any(|rs| {
            self.pods.by_index("owner", rs.object.uid()).iter().any(|p| {
                !p.view::<crate::pods::PodView>()
                    .is_ok_and(|v| matches!(v.status.phase.as_str(), "Failed" | "Succeeded"))
            })
        })
    }

    /// Makes the ReplicaSet of the present template, or brings its annotations up to date; true when it was made.
    async fn ensure_new(
        &self,
        d: &Object,
        view: &View,
        sets: &mut Sets,
        strategy: &Strategy,
        desired: i64,
    ) -> Result<bool, Error> {
        if let Some(rs) = sets.new.take() {
            sets.new = Some(self.mark(d, view, rs, &sets.old, strategy, desired).await?);
            return Ok(false);
        }
        let collisions = view.status["collisionCount"].as_i64().unwrap_or(0);
        let hash = template::hash(&view.spec.template, collisions);
        let name = format!("{}-{hash}", d.name());
        let revision = sets.old.iter().map(Rs::revision).max().unwrap_or(0) + 1;
        let mut template = view.spec.template.clone();
        template["metadata"]["labels"][HASH_LABEL] = json!(hash);
        let mut selector = view.spec.selector.clone();
        selector["matchLabels"][HASH_LABEL] = json!(hash);
        let replicas = rollout::new_replicas(sets, desired, strategy);
        let mut annotations = inherited(&view.metadata);
        annotations.insert(REVISION.into(), json!(revision.to_string()));
        annotations.insert(DESIRED.into(), json!(desired.to_string()));
        annotations.insert(MAX_REPLICAS.into(), json!((desired + strategy.surge()).to_string()));
        let body = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": { "name": name, "namespace": d.namespace(), "labels": template["metadata"]["labels"],
                "annotations": annotations, "ownerReferences": [owners::controller_ref(&DEPLOYMENTS, d)] },
            "spec": { "replicas": replicas, "minReadySeconds": view.spec.min_ready_seconds, "selector": selector, "template": template } });
        match self.ctx.client.create(&REPLICA_SETS, d.namespace(), &body).await {
            Ok(o) => {
                if replicas > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    self.ctx.events.normal(ObjectRef::of(&DEPLOYMENTS, d), "ScalingReplicaSet", message);
                }
                sets.new = Some(Rs::of(o)?);
                self.set_revision(d, view, revision).await?;
                Ok(true)
            }
            Err(s) if s.is_already_exists() => {
                let existing = self.ctx.client.get(&REPLICA_SETS, d.namespace(), &name).await?;
                let ours = existing.meta().controller().is_some_and(|c| c.uid == d.uid());
                let rs = Rs::of(existing)?;
                if ours && same_template(&rs.template, &view.spec.template) {
                    sets.new = Some(rs);
                    return Ok(true);
                }
                // Two templates with one hash: count the collision, which changes the next name.
                let status = json!({ "collisionCount": collisions + 1 });
                self.ctx.client.patch_status(&DEPLOYMENTS, d.namespace(), d.name(), status).await?;
                Err(s.into())
            }
            Err(s) => {
                let patch = status::failed_create(&view.status, &name, &s, clock::now());
                self.ctx.client.patch_status(&DEPLOYMENTS, d.namespace(), d.name(), patch).await?;
                Err(s.into())
            }
        }
    }

    /// Brings the revision and the annotations of the present ReplicaSet up to date.
    async fn mark(
        &self,
        d: &Object,
        view: &View,
        rs: Rs,
        old: &[Rs],
        strategy: &Strategy,
        desired: i64,
    ) -> Result<Rs, Error> {
        let newest_old = old.iter().map(Rs::revision).max().unwrap_or(0);
        let revision = if rs.revision() > newest_old { rs.revision() } else { newest_old + 1 };
        let mut want = inherited(&view.metadata);
        if revision != rs.revision() && rs.revision() > 0 {
            let history = rs.annotations.get(REVISION_HISTORY).and_then(Value::as_str).unwrap_or_default();
            let joined = if history.is_empty() {
                rs.revision().to_string()
            } else {
                format!("{history},{}", rs.revision())
            };
            want.insert(REVISION_HISTORY.into(), json!(joined));
        }
        want.insert(REVISION.into(), json!(revision.to_string()));
        if rs.annotation_number(DESIRED).is_none() {
            want.insert(DESIRED.into(), json!(desired.to_string()));
            want.insert(MAX_REPLICAS.into(), json!((desired + strategy.surge()).to_string()));
        }
        let changed = want.iter().any(|(k, v)| rs.annotations.get(k) != Some(v));
        let rs = if changed {
            let patch = Patch::Merge(json!({ "metadata": { "annotations": want },
                "spec": { "minReadySeconds": view.spec.min_ready_seconds } }));
            Rs::of(self.ctx.client.patch(&REPLICA_SETS, d.namespace(), rs.object.name(), "", &patch).await?)?
        } else {
            rs
        };
        self.set_revision(d, view, revision).await?;
        Ok(rs)
    }

    async fn set_revision(&self, d: &Object, view: &View, revision: i64) -> Result<(), Error> {
        let text = revision.to_string();
        if view.metadata.get(REVISION) != Some(&text) {
            let patch = Patch::Merge(json!({ "metadata": { "annotations": { REVISION: text } } }));
            self.ctx.client.patch(&DEPLOYMENTS, d.namespace(), d.name(), "", &patch).await?;
        }
        Ok(())
    }

    async fn scale(
        &self,
        d: &Object,
        sets: &mut Sets,
        name: &str,
        to: i64,
        strategy: &Strategy,
        desired: i64,
    ) -> Result<(), Error> {
        let Some(rs) = sets.iter_mut().find(|r| r.object.name() == name) else { return Ok(()) };
        let max = (desired + strategy.surge()).to_string();
        let desired = desired.to_string();
        let noted = rs.annotations.get(DESIRED).and_then(Value::as_str) == Some(&desired)
            && rs.annotations.get(MAX_REPLICAS).and_then(Value::as_str) == Some(&max);
        if rs.replicas == to && noted {
            return Ok(());
        }
        let from = rs.replicas;
        let patch = Patch::Merge(json!({ "metadata": { "uid": rs.object.uid(),
            "annotations": { DESIRED: desired, MAX_REPLICAS: max } }, "spec": { "replicas": to } }));
        *rs = Rs::of(self.ctx.client.patch(&REPLICA_SETS, d.namespace(), name, "", &patch).await?)?;
        if from != to {
            let way = if to > from { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {name} from {from} to {to}");
            self.ctx.events.normal(ObjectRef::of(&DEPLOYMENTS, d), "ScalingReplicaSet", message);
        }
        Ok(())
    }

    /// Deletes the oldest ReplicaSets beyond the history limit, only such that are scaled down and settled.
    async fn clean_up(&self, spec: &Spec, sets: &Sets) -> Result<(), Error> {
        let Some(limit) = spec.revision_history_limit.and_then(|l| usize::try_from(l).ok()) else {
            return Ok(());
        };
        let mut done: Vec<&Rs> = sets
            .old
            .iter()
            .filter(|r| {
                r.replicas == 0 && r.status_replicas == 0 && r.observed && !r.object.meta().is_deleting()
            })
            .collect();
        done.sort_by_key(|r| r.revision());
        let surplus = done.len().saturating_sub(limit);
        for rs in done.into_iter().take(surplus) {
            let options = DeleteOptions::uid(rs.object.uid());
            self.ctx
                .client
                .delete_if_there(&REPLICA_SETS, rs.object.namespace(), rs.object.name(), &options)
                .await?;
        }
        Ok(())
    }

    async fn write_status(&self, d: &Object, view: &View, sets: &Sets, created: bool) -> Result<Next, Error> {
        let now = clock::now();
        let spec = &view.spec;
        let want = status::Inputs {
            generation: d.meta().generation,
            desired: spec.replicas.unwrap_or(1),
            max_unavailable: Strategy::parse(&spec.strategy, spec.replicas.unwrap_or(1)).unavailable(),
            deadline: spec.progress_deadline_seconds.filter(|s| *s < i64::from(i32::MAX)),
            paused: spec.paused,
            created,
        };
        let new = status::status(&view.status, d.name(), sets, &want, now);
        if new != view.status {
            self.ctx.client.patch_status(&DEPLOYMENTS, d.namespace(), d.name(), new.clone()).await?;
        }
        Ok(status::next_check(&new, &want, sets, now)
            .map_or(Next::Wait, |s| Next::After(Duration::from_secs(s))))
    }
}

/// The deployment's annotations that its ReplicaSets carry too.
fn inherited(m: &Annotated) -> serde_json::Map<String, Value> {
    let skip = |k: &str| {
        matches!(
            k,
            REVISION
                | REVISION_HISTORY
                | DESIRED
                | MAX_REPLICAS
                | "kubectl.kubernetes.io/last-applied-configuration"
                | "deprecated.deployment.rollback.to"
        )
    };
    m.annotations.iter().flatten().filter(|(k, _)| !skip(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
}
