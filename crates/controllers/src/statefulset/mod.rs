//! The StatefulSet loop: pods with names, in order, each with claims of its own. `plan` decides (pure), `identity` says
//! what a pod of a set is, `retention` whose the claims are, this file acts. Spawns its workers.

mod identity;
mod plan;
#[cfg(test)]
mod plan_tests;
mod retention;

use std::collections::HashSet;

use api::resource::{CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use api::selector::LabelSelector;
use api::{Object, Status};
use client::{DeleteOptions, Informer, ObjectRef, Patch, clock, planted};
use serde_json::json;

use crate::history::{self, Revision};
use crate::pods::{self, Pod};
use crate::skeleton::{self, Error, Key, Next, Queue};
use crate::slow_start::slow_start;
use crate::{Context, owners};
use identity::View;
use plan::{Act, Inputs, Member};

const HASH_LABEL: &str = "controller.kubernetes.io/hash";

struct Loop {
    ctx: Context,
    sets: Informer,
    pods: Informer,
    claims: Informer,
    revisions: Informer,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (sets, pods) = (ctx.informers.get(&STATEFUL_SETS), ctx.informers.get(&PODS));
    let (claims, revisions) =
        (ctx.informers.get(&PERSISTENT_VOLUME_CLAIMS), ctx.informers.get(&CONTROLLER_REVISIONS));
    owners::index(&pods);
    owners::index(&revisions);
    skeleton::enqueue_self(&sets, &queue);
    owners::enqueue_for_pods(&pods, &sets, &STATEFUL_SETS, &queue, selector, |_, _| {});
    skeleton::enqueue_owner_of_revision(&revisions, &queue, "StatefulSet");
    // A claim of a former pod that is gone at last: its successor may be made.
    let (q, all) = (queue.clone(), sets.clone());
    claims.on_change(move |c| {
        if let (Some(old), None) = (c.old, c.new) {
            for r in
                old.meta().owner_references().iter().filter(|r| r.kind == "Pod" || r.kind == "StatefulSet")
            {
                let set = r.name.rsplit_once('-').map_or("", |(set, _)| set);
                for name in [set, &r.name] {
                    if all.get(old.namespace(), name).is_some() {
                        q.add((old.namespace().to_owned(), name.to_owned()));
                    }
                }
            }
        }
    });
    if !skeleton::synced(&ctx.token, &[&sets, &pods, &claims, &revisions]).await {
        return;
    }
    let l = Loop { ctx: ctx.clone(), sets, pods, claims, revisions };
    skeleton::work("statefulset", &ctx.token, &queue, 5, |key| l.reconcile(key)).await;
}

fn selector(set: &Object) -> Result<LabelSelector, Error> {
    let v: View = set.view()?;
    LabelSelector::from_value(&v.spec.selector).map_err(|e| Status::bad_request(e.to_string()).into())
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(set) = self.sets.get(&key.0, &key.1) else { return Ok(Next::Wait) };
        let view: View = set.view()?;
        let selector = selector(&set)?;
        let client = &self.ctx.client;
        let owner = history::Owner {
            client,
            resource: &STATEFUL_SETS,
            set: &set,
            annotations: &view.metadata.annotations,
            template: &view.spec.template,
            hash_label: HASH_LABEL,
        };
        let mut revisions = owner.list(&self.revisions, &selector).await?;
        let members = self.members(&set, &selector).await?;
        let mut collisions = view.status["collisionCount"].as_i64().unwrap_or(0);
        let update = match set.meta().is_deleting() {
            true => revisions.last().cloned(),
            false => Some(owner.settle(&mut revisions, &mut collisions).await?),
        };
        let Some(update) = update else { return Ok(Next::Wait) };
        let current = self.current(&set, &view, &revisions).await?.unwrap_or_else(|| update.clone());

        let now = clock::now();
        let inputs = Inputs::new(&view.spec, &view.status, current.name(), update.name(), now);
        let (mut failure, mut updating) = (None, 0);
        if !set.meta().is_deleting() {
            let stale = |ordinal| self.has_former_claim(&set, &view, ordinal);
            let acts = plan::plan(&inputs, &members, &stale);
            updating = acts.iter().filter(|a| matches!(a, Act::Update(_))).count();
            // Claims get their owners before pods go, or a claim could outlive what should take it along.
            let (first, last): (Vec<Act>, Vec<Act>) =
                acts.into_iter().partition(|a| !matches!(a, Act::Delete(_) | Act::Update(_)));
            let members = &members;
            let (set, view, current, update) = (&set, &view, &current, &update);
            let act = |act| self.act(set, view, act, members, [current, update]);
            failure = match slow_start(first, act).await {
                Ok(()) => slow_start(last, act).await.err(),
                Err(s) => Some(s),
            };
        }
        let updating = if failure.is_some() { 0 } else { updating };
        let status =
            plan::status(&view.status, &inputs, &members, set.meta().generation, collisions, updating);
        if status != view.status {
            client.patch_status(&STATEFUL_SETS, &key.0, &key.1, status).await?;
        }
        let mut live: HashSet<&str> = members.iter().map(Member::revision).collect();
        live.extend([current.name(), update.name()]);
        owner.truncate(&revisions, &live, view.spec.revision_history_limit.unwrap_or(10)).await?;
        if let Some(status) = failure {
            return Err(status.into());
        }
        let pods: Vec<Pod> = members.into_iter().map(|m| m.pod).collect();
        Ok(pods::next_available(&pods, view.spec.min_ready_seconds, now))
    }

    /// The set's pods; only those whose name is one of the set's may be adopted.
    async fn members(&self, set: &Object, selector: &LabelSelector) -> Result<Vec<Member>, Error> {
        let named = |o: &Object| identity::ordinal(set.name(), o.name()).is_some();
        let candidates: Vec<Object> = owners::candidates(&self.pods, set).into_iter().filter(named).collect();
        let mine =
            owners::claim_all(&self.ctx.client, &STATEFUL_SETS, set, selector, &PODS, candidates).await?;
        let member = |o: Object| {
            let ordinal = identity::ordinal(set.name(), o.name())?;
            Some(Pod::of(o).map(|pod| Member { ordinal, pod }))
        };
        Ok(mine.into_iter().filter_map(member).collect::<Result<_, _>>()?)
    }

    /// The revision that the status calls current. The informer may lag behind one that was made just now.
    async fn current(
        &self,
        set: &Object,
        view: &View,
        known: &[Revision],
    ) -> Result<Option<Revision>, Error> {
        let name = view.status["currentRevision"].as_str().unwrap_or_default();
        if name.is_empty() {
            return Ok(None);
        }
        if let Some(r) = known.iter().find(|r| r.name() == name) {
            return Ok(Some(r.clone()));
        }
        let found = self.ctx.client.find(&CONTROLLER_REVISIONS, set.namespace(), name).await?;
        found.map(Revision::of).transpose()
    }

    fn has_former_claim(&self, set: &Object, view: &View, ordinal: i64) -> bool {
        let pod = identity::pod_name(set.name(), ordinal);
        let policy = view.spec.persistent_volume_claim_retention_policy.as_ref();
        identity::claims(set.name(), &view.spec, ordinal).iter().any(|(_, claim)| {
            self.claims
                .get(set.namespace(), claim)
                .is_some_and(|c| retention::belongs_to_former_pod(policy, &c, &pod))
        })
    }

    async fn act(
        &self,
        set: &Object,
        view: &View,
        act: Act,
        members: &[Member],
        revisions: [&Revision; 2],
    ) -> Result<(), Status> {
        let find = |ordinal: i64| members.iter().find(|m| m.ordinal == ordinal);
        match act {
            Act::Create { ordinal, revision } => {
                let Some(r) = revisions.into_iter().find(|r| r.name() == revision) else { return Ok(()) };
                self.create(set, view, r, ordinal).await
            }
            Act::Claims(ordinal) => self.make_claims(set, view, ordinal).await,
            Act::Tidy(ordinal) => match find(ordinal) {
                Some(m) => self.tidy(set, view, m).await,
                None => Ok(()),
            },
            Act::Delete(ordinal) | Act::Update(ordinal) => match find(ordinal) {
                Some(m) => self.delete(set, &m.pod).await,
                None => Ok(()),
            },
        }
    }

    fn tell(&self, set: &Object, verb: &str, what: &str, result: Result<(), &Status>) {
        let about = ObjectRef::of(&STATEFUL_SETS, set);
        let (lower, name) = (verb.to_lowercase(), set.name());
        let good = if what.starts_with("Claim") { "success" } else { "successful" };
        match result {
            Ok(()) => self.ctx.events.normal(
                about,
                &format!("Successful{verb}"),
                format!("{lower} {what} in StatefulSet {name} {good}"),
            ),
            Err(s) => self.ctx.events.warning(
                about,
                &format!("Failed{verb}"),
                format!("{lower} {what} in StatefulSet {name} failed error: {s}"),
            ),
        }
    }

    async fn create(
        &self,
        set: &Object,
        view: &View,
        revision: &Revision,
        ordinal: i64,
    ) -> Result<(), Status> {
        self.make_claims(set, view, ordinal).await?;
        let body = identity::pod(set, &view.spec, &revision.template(), revision.name(), ordinal);
        let what = format!("Pod {}", identity::pod_name(set.name(), ordinal));
        match self.ctx.client.create(&PODS, set.namespace(), &body).await {
            Ok(_) => {
                self.tell(set, "Create", &what, Ok(()));
                Ok(())
            }
            // The informer lags, or somebody else's pod has the name and the next event will tell.
            Err(s) if s.is_already_exists() => Err(s),
            Err(s) => {
                self.tell(set, "Create", &what, Err(&s));
                Err(s)
            }
        }
    }

    async fn make_claims(&self, set: &Object, view: &View, ordinal: i64) -> Result<(), Status> {
        let pod = identity::pod_name(set.name(), ordinal);
        for body in identity::claim_bodies(set, &view.spec, ordinal) {
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            if let Some(claim) = self.claims.get(set.namespace(), name) {
                if claim.meta().is_deleting() {
                    let why = format!("persistentvolumeclaim {name:?} of pod {pod:?} is being deleted");
                    return Err(Status::conflict("", "persistentvolumeclaims", name, &why));
                }
                continue;
            }
            match self.ctx.client.create(&PERSISTENT_VOLUME_CLAIMS, set.namespace(), &body).await {
                Ok(_) => self.tell(set, "Create", &format!("Claim {name} Pod {pod}"), Ok(())),
                Err(s) if s.is_already_exists() => {}
                Err(s) => {
                    self.tell(set, "Create", &format!("Claim {name} for Pod {pod}"), Err(&s));
                    return Err(s);
                }
            }
        }
        Ok(())
    }

    async fn tidy(&self, set: &Object, view: &View, m: &Member) -> Result<(), Status> {
        let o = &m.pod.object;
        let labels = identity::missing_labels(&m.pod, m.ordinal);
        if !labels.is_empty() {
            let patch = Patch::Merge(json!({ "metadata": { "uid": o.uid(), "labels": labels } }));
            let result = self.ctx.client.patch(&PODS, o.namespace(), o.name(), "", &patch).await;
            self.tell(set, "Update", &format!("Pod {}", o.name()), result.as_ref().map(|_| ()));
            result?;
        }
        let policy = view.spec.persistent_volume_claim_retention_policy.as_ref();
        let condemned = !view.spec.wants(m.ordinal);
        for (_, name) in identity::claims(set.name(), &view.spec, m.ordinal) {
            let Some(claim) = self.claims.get(set.namespace(), &name) else { continue };
            if let Some(refs) = retention::owners(policy, &claim, set, o, condemned) {
                let patch = Patch::Merge(json!({ "metadata": { "uid": claim.uid(),
                    "resourceVersion": claim.revision().to_string(), "ownerReferences": refs } }));
                self.ctx.client.patch(&PERSISTENT_VOLUME_CLAIMS, set.namespace(), &name, "", &patch).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, set: &Object, pod: &Pod) -> Result<(), Status> {
        let o = &pod.object;
        let mut options = DeleteOptions::uid(o.uid());
        if planted::is_on("replaced-too-soon") {
            options.grace_period_seconds = Some(0);
        }
        let result = self.ctx.client.delete_if_there(&PODS, o.namespace(), o.name(), &options).await;
        self.tell(set, "Delete", &format!("Pod {}", o.name()), result.as_ref().copied());
        result
    }
}
