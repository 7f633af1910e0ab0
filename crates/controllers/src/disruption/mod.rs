//! The disruption loop: the status of PodDisruptionBudgets, which the eviction API charges, and marks of disruptions on
//! pods that then were not deleted. `plan` is pure; spawns its workers.

mod plan;
mod scale;

use std::collections::HashSet;

use api::Object;
use api::resource::{POD_DISRUPTION_BUDGETS, PODS};
use api::selector::LabelSelector;
use client::{Informer, ObjectRef, Patch, clock};
use serde_json::{Value, json};

use crate::Context;
use crate::pods::{self, Pod};
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};
use plan::View;
use scale::Scales;

struct Loop {
    ctx: Context,
    budgets: Informer,
    pods: Informer,
    scales: Scales,
}

fn selects(budget: &Object, pod: &Object) -> bool {
    budget.view::<View>().is_ok_and(|v| {
        LabelSelector::from_value(&v.spec.selector).is_ok_and(|s| s.matches(&pod.meta().labels))
    })
}

pub async fn run(ctx: Context) {
    let (queue, marks) = (Queue::default(), Queue::default());
    let (budgets, pods) = (ctx.informers.get(&POD_DISRUPTION_BUDGETS), ctx.informers.get(&PODS));
    let scales = Scales::new(ctx.client.clone(), &ctx.informers);
    skeleton::enqueue_self(&budgets, &queue);
    let (q, m, all) = (queue.clone(), marks.clone(), budgets.clone());
    pods.on_change(move |c| {
        let mut seen = HashSet::new();
        for o in [c.old, c.new].into_iter().flatten() {
            for budget in all.list(Some(o.namespace())) {
                if !seen.contains(budget.name()) && selects(&budget, o) {
                    seen.insert(budget.name().to_owned());
                    q.add(key_of(&budget));
                }
            }
        }
        if let Some(o) =
            c.new.filter(|o| Pod::of((*o).clone()).is_ok_and(|p| p.condition("DisruptionTarget").is_some()))
        {
            m.add(key_of(o));
        }
    });
    let mut all = scales.informers();
    all.extend([&budgets, &pods]);
    if !skeleton::synced(&ctx.token, &all).await {
        return;
    }
    let l = Loop { ctx: ctx.clone(), budgets, pods, scales };
    tokio::join!(
        skeleton::work("disruption", &ctx.token, &queue, 2, |key| l.reconcile(key)),
        skeleton::work("disruption", &ctx.token, &marks, 1, |key| l.unmark(key)),
    );
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(budget) = self.budgets.get(&key.0, &key.1) else { return Ok(Next::Wait) };
        let view: View = budget.view()?;
        let events = &self.ctx.events;
        let about = ObjectRef::of(&POD_DISRUPTION_BUDGETS, &budget);
        let selector = match LabelSelector::from_value(&view.spec.selector) {
            Ok(s) => s,
            Err(e) => return self.fail(&budget, &view, &e.to_string()).await,
        };
        let mut objects = self.pods.list(Some(&key.0));
        objects.retain(|o| selector.matches(&o.meta().labels));
        let pods = pods::parse(objects)?;
        let scale = if view.spec.by_scale() {
            match self.scales.of(&key.0, &pods).await {
                Ok(sum) => sum,
                Err(e) => {
                    events.warning(
                        about,
                        "CalculateExpectedPodCountFailed",
                        format!("Failed to calculate the number of expected pods: {e}"),
                    );
                    return self.fail(&budget, &view, &e.to_string()).await;
                }
            }
        } else {
            scale::Sum::default()
        };
        let wanted = match plan::wanted(&view.spec, pods.len(), scale.replicas) {
            Ok(w) => w,
            Err(e) => return self.fail(&budget, &view, &e.to_string()).await,
        };
        let now = clock::now();
        let disrupted = plan::disrupted(&view.status, &pods, now);
        let healthy = plan::healthy(&pods, &disrupted.pending);
        let status = plan::status(&view.status, budget.meta().generation, healthy, wanted, &disrupted, now);
        if status != view.status {
            self.tell(&about, &pods, &selector, &scale, &disrupted);
            self.write(&budget, status).await?;
        }
        Ok(disrupted.next.map_or(Next::Wait, Next::After))
    }

    /// Events that go with a changed status; an unchanged one is not told again.
    fn tell(
        &self,
        about: &ObjectRef,
        pods: &[Pod],
        selector: &LabelSelector,
        scale: &scale::Sum,
        d: &plan::Disrupted,
    ) {
        let events = &self.ctx.events;
        if pods.is_empty() {
            events.normal(about.clone(), "NoPods", "No matching pods found");
        }
        if !scale.unmanaged.is_empty() {
            let text = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            events.warning(about.clone(), "UnmanagedPods", text);
        }
        for p in pods.iter().filter(|p| d.given_up.iter().any(|n| n == p.object.name())) {
            let text = format!(
                "Pod was expected by PDB {}/{} to be deleted but it wasn't",
                about.namespace, about.name
            );
            events.warning(ObjectRef::of(&PODS, &p.object), "NotDeleted", text);
        }
    }

    /// Nothing may go while the budget can't be worked out. That is the end of it until something changes.
    async fn fail(&self, budget: &Object, view: &View, why: &str) -> Result<Next, Error> {
        let status = plan::failed(&view.status, why, clock::now());
        if status != view.status {
            self.write(budget, status).await?;
        }
        Ok(Next::Wait)
    }

    /// As it was seen: the eviction API may have charged it in between, and that must not be lost.
    async fn write(&self, budget: &Object, status: Value) -> Result<(), Error> {
        let mut body = budget.value()?;
        body["status"] = status;
        match self
            .ctx
            .client
            .update(&POD_DISRUPTION_BUDGETS, budget.namespace(), budget.name(), "status", &body)
            .await
        {
            Err(s) if s.is_not_found() => Ok(()),
            other => Ok(other.map(|_| ())?),
        }
    }

    async fn unmark(&self, key: Key) -> Result<Next, Error> {
        let Some(object) = self.pods.get(&key.0, &key.1) else { return Ok(Next::Wait) };
        let pod = Pod::of(object)?;
        let now = clock::now();
        let Some(left) = plan::stale_mark(&pod, now) else { return Ok(Next::Wait) };
        if !left.is_zero() {
            return Ok(Next::After(left));
        }
        let status = json!({ "conditions": [{ "type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
            "lastTransitionTime": clock::rfc3339(now) }] });
        let patch = json!({ "metadata": { "uid": pod.object.uid(), "resourceVersion": pod.object.revision().to_string() }, "status": status });
        match self.ctx.client.patch(&PODS, &key.0, &key.1, "status", &Patch::Strategic(patch)).await {
            Err(s) if s.is_not_found() => Ok(Next::Wait),
            Err(s) => Err(s.into()),
            Ok(_) => Ok(Next::Wait),
        }
    }
}
