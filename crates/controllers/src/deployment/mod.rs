//! The Deployment loop: one ReplicaSet per template, rolled over or recreated, with history, undo by revision, pause and
//! a progress deadline. `rollout` and `revision` decide (pure), this file acts, `status` words the conditions.

mod revision;
mod rollout;
mod sets;
mod status;

use api::resource::{DEPLOYMENTS, PODS, REPLICA_SETS};
use api::selector::LabelSelector;
use api::{Object, Status};
use client::{DeleteOptions, Informer, ObjectRef, Patch, clock};
use serde_json::{Value, json};

use crate::skeleton::{self, Error, Key, Next, Queue};
use crate::{Context, owners, pods, template};
use revision::Rollback;
use rollout::Strategy;
use sets::{HASH_LABEL, REVISION, ROLLBACK, Rs, Sets, View, same_template};

struct Loop {
    ctx: Context,
    deployments: Informer,
    sets: Informer,
    pods: Informer,
}

/// One deployment under reconciliation.
struct Run<'a> {
    l: &'a Loop,
    d: &'a Object,
    view: &'a View,
    strategy: Strategy,
    desired: i64,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (deployments, sets, pods) =
        (ctx.informers.get(&DEPLOYMENTS), ctx.informers.get(&REPLICA_SETS), ctx.informers.get(&PODS));
    owners::index(&sets);
    owners::index(&pods);
    skeleton::enqueue_self(&deployments, &queue);
    skeleton::enqueue_owner(&sets, &queue, "Deployment");
    // An orphan may be adopted by whoever selects it.
    let (q, all) = (queue.clone(), deployments.clone());
    sets.on_change(move |c| {
        let Some(o) = c.new.filter(|o| o.meta().controller().is_none()) else { return };
        for d in all.list(Some(o.namespace())) {
            let selects = d.view::<View>().is_ok_and(|v| {
                LabelSelector::from_value(&v.spec.selector).is_ok_and(|s| s.matches(&o.meta().labels))
            });
            if selects {
                q.add(skeleton::key_of(&d));
            }
        }
    });
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
        let desired = view.spec.desired();
        let run = Run {
            l: self,
            d: &d,
            view: &view,
            strategy: Strategy::parse(&view.spec.strategy, desired),
            desired,
        };
        run.reconcile().await
    }
}

impl Run<'_> {
    async fn reconcile(&self) -> Result<Next, Error> {
        let (d, spec) = (self.d, &self.view.spec);
        if spec.selects_all() {
            let text = "This deployment is selecting all pods. A non-empty selector is required.";
            self.l.ctx.events.warning(self.about(), "SelectingAll", text);
            if self.view.status["observedGeneration"].as_i64().unwrap_or(0) < d.meta().generation {
                self.patch_status(None, json!({ "observedGeneration": d.meta().generation })).await?;
            }
            return Ok(Next::Wait);
        }
        let selector =
            LabelSelector::from_value(&spec.selector).map_err(|e| Status::bad_request(e.to_string()))?;
        let candidates = owners::candidates(&self.l.sets, d);
        let client = &self.l.ctx.client;
        let claimed =
            owners::claim_all(client, &DEPLOYMENTS, d, &selector, &REPLICA_SETS, candidates).await?;
        let all = claimed.into_iter().map(Rs::of).collect::<Result<Vec<_>, _>>()?;
        let mut sets = Sets::sort(all, &spec.template);
        if d.meta().is_deleting() {
            self.mark(&mut sets).await?;
            return self.write_status(&sets, false, false).await;
        }
        if spec.paused {
            return self.scale_only(sets).await;
        }
        if let Some(to) = self.view.metadata.get(ROLLBACK).and_then(|r| r.parse().ok()) {
            return self.roll_back(&sets, to).await;
        }
        if rollout::is_scaling(&sets, self.desired) {
            return self.scale_only(sets).await;
        }
        let created = match self.strategy {
            Strategy::Recreate => {
                self.mark(&mut sets).await?;
                let downs: Vec<String> =
                    sets.old.iter().filter(|r| r.replicas > 0).map(|r| r.name().into()).collect();
                for name in &downs {
                    self.scale(&mut sets, name, 0).await?;
                }
                if !downs.is_empty() || self.old_pods_remain(&sets) {
                    return self.write_status(&sets, false, true).await;
                }
                let created = self.ensure_new(&mut sets).await?;
                if let Some(name) = sets.new.as_ref().map(|r| r.name().to_owned()) {
                    self.scale(&mut sets, &name, self.desired).await?;
                }
                created
            }
            Strategy::Rolling { .. } => {
                let created = self.ensure_new(&mut sets).await?;
                for (name, n) in rollout::step(&sets, self.desired, &self.strategy) {
                    self.scale(&mut sets, &name, n).await?;
                }
                created
            }
        };
        if status::is_complete(&sets, self.desired) {
            self.clean_up(&sets).await?;
        }
        self.write_status(&sets, created, true).await
    }

    fn about(&self) -> ObjectRef {
        ObjectRef::of(&DEPLOYMENTS, self.d)
    }

    /// A paused deployment, or one whose size has changed: no rollout, only sizes.
    async fn scale_only(&self, mut sets: Sets) -> Result<Next, Error> {
        self.mark(&mut sets).await?;
        for (name, n) in rollout::proportional(&sets, self.desired, &self.strategy) {
            self.scale(&mut sets, &name, n).await?;
        }
        if self.view.spec.paused {
            self.clean_up(&sets).await?;
        }
        self.write_status(&sets, false, false).await
    }

    fn old_pods_remain(&self, sets: &Sets) -> bool {
        let finished = |p: &Object| {
            p.view::<pods::PodView>().is_ok_and(|v| matches!(v.status.phase.as_str(), "Failed" | "Succeeded"))
        };
        sets.old.iter().any(|rs| {
            rs.status_replicas > 0
                || self.l.pods.by_index("owner", rs.object.uid()).iter().any(|p| !finished(p))
        })
    }

    /// Makes the ReplicaSet of the present template, or brings its annotations up to date; true when it was made.
    async fn ensure_new(&self, sets: &mut Sets) -> Result<bool, Error> {
        if sets.new.is_some() {
            self.mark(sets).await?;
            return Ok(false);
        }
        let (d, spec, client) = (self.d, &self.view.spec, &self.l.ctx.client);
        let collisions = self.view.status["collisionCount"].as_i64().unwrap_or(0);
        let hash = template::hash(&spec.template, collisions);
        let name = revision::name(d.name(), &hash);
        let mut template = spec.template.clone();
        template["metadata"]["labels"][HASH_LABEL] = json!(hash);
        let mut selector = spec.selector.clone();
        selector["matchLabels"][HASH_LABEL] = json!(hash);
        let replicas = rollout::new_replicas(sets, self.desired, &self.strategy);
        let mut annotations = revision::inherited(&self.view.metadata);
        annotations.insert(REVISION.into(), json!(revision::newest(&sets.old, None).to_string()));
        for (k, v) in revision::sizes(self.desired, &self.strategy) {
            annotations.insert(k.into(), v);
        }
        let body = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": { "name": name, "namespace": d.namespace(), "labels": template["metadata"]["labels"],
                "annotations": annotations, "ownerReferences": [owners::controller_ref(&DEPLOYMENTS, d)] },
            "spec": { "replicas": replicas, "minReadySeconds": spec.min_ready_seconds, "selector": selector, "template": template } });
        match client.create(&REPLICA_SETS, d.namespace(), &body).await {
            Ok(o) => {
                if replicas > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    self.l.ctx.events.normal(self.about(), "ScalingReplicaSet", message);
                }
                sets.new = Some(Rs::of(o)?);
                Ok(true)
            }
            Err(s) if s.is_already_exists() => {
                let existing = client.get(&REPLICA_SETS, d.namespace(), &name).await?;
                let ours = existing.meta().controller().is_some_and(|c| c.uid == d.uid());
                let rs = Rs::of(existing)?;
                if ours && same_template(&rs.template, &spec.template) {
                    sets.new = Some(rs);
                    return Ok(false);
                }
                // Two templates with one hash: count the collision, which changes the next name.
                self.patch_status(None, json!({ "collisionCount": collisions + 1 })).await?;
                Err(s.into())
            }
            // Nothing is made in a namespace on its way out, and nothing is wrong with that.
            Err(s) if s.causes.iter().any(|c| c.reason == "NamespaceTerminating") => Ok(false),
            Err(s) => {
                if spec.deadline().is_some() {
                    self.patch_status(
                        None,
                        status::failed_create(&self.view.status, &name, &s, clock::now()),
                    )
                    .await?;
                }
                self.l.ctx.events.warning(
                    self.about(),
                    "ReplicaSetCreateError",
                    status::create_error(&name, &s),
                );
                Err(s.into())
            }
        }
    }

    /// Brings revision, annotations and `minReadySeconds` of the present ReplicaSet up to date.
    async fn mark(&self, sets: &mut Sets) -> Result<(), Error> {
        let Some(rs) = &sets.new else { return Ok(()) };
        let annotations = revision::changes(&self.view.metadata, rs, revision::newest(&sets.old, Some(rs)));
        let min_ready = self.view.spec.min_ready_seconds;
        if annotations.is_empty() && rs.min_ready_seconds == min_ready {
            return Ok(());
        }
        let patch =
            json!({ "metadata": { "annotations": annotations }, "spec": { "minReadySeconds": min_ready } });
        sets.new = Some(self.patch_set(rs, patch).await?);
        Ok(())
    }

    /// Changes a set as it was seen: a newer one makes the write lose, and the next look decides again.
    async fn patch_set(&self, rs: &Rs, mut patch: Value) -> Result<Rs, Error> {
        patch["metadata"]["uid"] = json!(rs.object.uid());
        patch["metadata"]["resourceVersion"] = json!(rs.object.revision().to_string());
        let ns = self.d.namespace();
        Rs::of(self.l.ctx.client.patch(&REPLICA_SETS, ns, rs.name(), "", &Patch::Merge(patch)).await?)
    }

    async fn scale(&self, sets: &mut Sets, name: &str, to: i64) -> Result<(), Error> {
        let Some(rs) = sets.iter_mut().find(|r| r.name() == name) else { return Ok(()) };
        let sizes = revision::sizes(self.desired, &self.strategy);
        if rs.replicas == to && sizes.iter().all(|(k, v)| rs.annotations.get(*k) == Some(v)) {
            return Ok(());
        }
        let from = rs.replicas;
        let annotations: serde_json::Map<String, Value> =
            sizes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        *rs = self
            .patch_set(rs, json!({ "metadata": { "annotations": annotations }, "spec": { "replicas": to } }))
            .await?;
        if from != to {
            let way = if to > from { "up" } else { "down" };
            let message = format!("Scaled {way} replica set {name} from {from} to {to}");
            self.l.ctx.events.normal(self.about(), "ScalingReplicaSet", message);
        }
        Ok(())
    }

    async fn clean_up(&self, sets: &Sets) -> Result<(), Error> {
        let Some(limit) = self.view.spec.history_limit() else { return Ok(()) };
        for rs in revision::surplus(&sets.old, limit) {
            let o = &rs.object;
            self.l
                .ctx
                .client
                .delete_if_there(&REPLICA_SETS, o.namespace(), o.name(), &DeleteOptions::uid(o.uid()))
                .await?;
        }
        Ok(())
    }

    /// Carries the deprecated rollback annotation out and takes it away.
    async fn roll_back(&self, sets: &Sets, to: i64) -> Result<Next, Error> {
        let about = self.about();
        let mut patch = json!({ "metadata": { "annotations": { ROLLBACK: null }, "resourceVersion": self.d.revision().to_string() } });
        let events = &self.l.ctx.events;
        match revision::rollback(sets, &self.view.spec.template, to) {
            Rollback::To { revision, template, annotations } => {
                for k in
                    revision::inherited(&self.view.metadata).keys().filter(|k| !annotations.contains_key(*k))
                {
                    patch["metadata"]["annotations"][k] = Value::Null;
                }
                for (k, v) in annotations {
                    patch["metadata"]["annotations"][k] = v;
                }
                // Whole, so that nothing of the present template stays.
                let mut body = self.d.value()?;
                body["spec"]["template"] = template;
                body = merged(body, &patch);
                self.l.ctx.client.update(&DEPLOYMENTS, self.d.namespace(), self.d.name(), "", &body).await?;
                events.normal(
                    about,
                    "DeploymentRollback",
                    format!("Rolled back deployment \"{}\" to revision {revision}", self.d.name()),
                );
                return Ok(Next::Wait);
            }
            Rollback::Unchanged(revision) => {
                let text = format!(
                    "The rollback revision contains the same template as current deployment \"{}\"",
                    self.d.name()
                );
                tracing::debug!(revision, "{text}");
                events.warning(about, "DeploymentRollbackTemplateUnchanged", text);
            }
            Rollback::NotFound(text) => events.warning(about, "DeploymentRollbackRevisionNotFound", text),
        }
        self.l
            .ctx
            .client
            .patch(&DEPLOYMENTS, self.d.namespace(), self.d.name(), "", &Patch::Merge(patch))
            .await?;
        Ok(Next::Wait)
    }

    /// Status, and the revision beside it when it is another one; through `status`, so that the generation stays.
    async fn patch_status(&self, revision: Option<String>, status: Value) -> Result<(), Error> {
        let mut patch = json!({ "metadata": { "uid": self.d.uid() }, "status": status });
        if let Some(revision) = revision {
            patch["metadata"]["annotations"] = json!({ REVISION: revision });
        }
        let client = &self.l.ctx.client;
        client.patch(&DEPLOYMENTS, self.d.namespace(), self.d.name(), "status", &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn write_status(&self, sets: &Sets, created: bool, rollout: bool) -> Result<Next, Error> {
        let now = clock::now();
        let spec = &self.view.spec;
        let want = status::Inputs {
            generation: self.d.meta().generation,
            desired: self.desired,
            max_unavailable: self.strategy.unavailable(),
            deadline: spec.deadline(),
            paused: spec.paused,
            created,
            rollout,
        };
        let new = status::status(&self.view.status, self.d.name(), sets, &want, now);
        let revision = sets.new.as_ref().map(Rs::revision).filter(|r| *r > 0).map(|r| r.to_string());
        let revision = revision.filter(|r| self.view.metadata.get(REVISION) != Some(r));
        if new != self.view.status || revision.is_some() {
            self.patch_status(revision, new.clone()).await?;
        }
        Ok(status::next_check(&new, &want, sets, now).map_or(Next::Wait, Next::After))
    }
}

/// Annotations and resourceVersion of a merge patch, on a whole object.
fn merged(mut body: Value, patch: &Value) -> Value {
    body["metadata"]["resourceVersion"] = patch["metadata"]["resourceVersion"].clone();
    for (k, v) in patch["metadata"]["annotations"].as_object().into_iter().flatten() {
        if v.is_null() {
            body["metadata"]["annotations"].as_object_mut().map(|m| m.remove(k));
        } else {
            body["metadata"]["annotations"][k] = v.clone();
        }
    }
    body
}
