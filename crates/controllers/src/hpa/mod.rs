//! The horizontalpodautoscaling loop: every 15 seconds it asks for each autoscaler's figures, works out how many replicas
//! they call for, and scales the target. `calc` and `behavior` decide and are pure; `measure` reads the figures; `target`
//! reads and writes the scale. What it recommended and did lately is remembered in here and lost with the process, as
//! upstream's is. Spawns its workers.
//! https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/

mod behavior;
#[cfg(test)]
mod behavior_tests;
mod calc;
#[cfg(test)]
mod calc_tests;
mod measure;
mod metrics;
mod pods;
mod status;
mod target;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use api::Object;
use api::resource::{HORIZONTAL_POD_AUTOSCALERS, PODS};
use api::selector::LabelSelector;
use client::{Informer, ObjectRef, clock};
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::behavior::{Bounds, Memory};
use self::measure::Measure;
use self::metrics::Metrics;
use self::status::{ABLE, LIMITED, SCALING_ACTIVE, Status, TO_ZERO};
use self::target::{Scale, Targets};
use self::view::View;
use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};

const WORKERS: usize = 5;
/// At a status that others change the object of.
const ATTEMPTS: usize = 5;

/// What upstream's controller manager has flags for.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Between two looks at one autoscaler.
    pub sync: Duration,
    /// Over which the way down is stabilised where an autoscaler says nothing.
    pub downscale_stabilization: Duration,
    /// By how much a ratio may miss 1 where an autoscaler says nothing.
    pub tolerance: f64,
    pub cpu_initialization: Duration,
    pub initial_readiness: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sync: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            tolerance: 0.1,
            cpu_initialization: Duration::from_secs(300),
            initial_readiness: Duration::from_secs(30),
        }
    }
}

/// What is kept of an autoscaler between two looks.
#[derive(Default)]
struct Kept {
    memory: Memory,
    /// Of its target's pods, once that is known.
    selector: Option<LabelSelector>,
}

struct Loop {
    ctx: Context,
    scalers: Informer,
    pods: Informer,
    metrics: Metrics,
    targets: Targets,
    settings: Settings,
    kept: std::sync::Arc<Mutex<BTreeMap<Key, Kept>>>,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (scalers, pods) = (ctx.informers.get(&HORIZONTAL_POD_AUTOSCALERS), ctx.informers.get(&PODS));
    let kept = std::sync::Arc::new(Mutex::new(BTreeMap::<Key, Kept>::new()));
    let (to, all) = (queue.clone(), kept.clone());
    // A change of the status is our own word; the next look comes by time.
    scalers.on_change(move |c| match (c.old, c.new) {
        (Some(old), None) => drop(all.lock().remove(&key_of(old))),
        (Some(old), Some(new)) if old.meta().generation == new.meta().generation => {}
        (_, Some(new)) => {
            all.lock().entry(key_of(new)).or_default();
            to.add(key_of(new));
        }
        (None, None) => {}
    });
    if !skeleton::synced(&ctx.token, &[&scalers, &pods]).await {
        return;
    }
    let l = Loop {
        metrics: Metrics { client: ctx.client.clone() },
        targets: Targets::new(ctx.client.clone()),
        settings: ctx.config.autoscaling,
        ctx: ctx.clone(),
        scalers,
        pods,
        kept,
    };
    skeleton::work("horizontalpodautoscaling", &ctx.token, &queue, WORKERS, |key| l.reconcile(key)).await;
}

/// One look at one autoscaler.
struct Look {
    object: Object,
    view: View,
    about: ObjectRef,
    status: Status,
}

impl Look {
    fn generation(&self) -> i64 {
        self.object.meta().generation
    }
    fn namespace(&self) -> &str {
        self.object.namespace()
    }
}

/// What the metrics ask for together.
struct Measured {
    replicas: i32,
    name: String,
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(object) = self.scalers.get(&key.0, &key.1) else { return Ok(Next::Wait) };
        let view: View = object.view()?;
        let about = ObjectRef::of(&HORIZONTAL_POD_AUTOSCALERS, &object);
        let status = Status::over(&view.status, clock::now());
        let mut look = Look { object, view, about, status };
        if let Err(why) = self.look(&key, &mut look).await {
            tracing::debug!(namespace = %key.0, name = %key.1, error = why, "an autoscaler could do nothing");
        }
        self.write(&look).await;
        Ok(Next::After(self.settings.sync))
    }

    fn warn(&self, look: &Look, reason: &str, message: impl Into<String>) {
        self.ctx.events.warning(look.about.clone(), reason, message);
    }

    async fn scale(&self, look: &mut Look) -> Result<Scale, String> {
        let r = &look.view.spec.scale_target_ref;
        let found = async {
            if r.api_version.matches('/').count() > 1 {
                return Err(format!("unexpected GroupVersion string: {}", r.api_version));
            }
            let resource = self.targets.resource(r).await?;
            let scale = self.targets.scale(look.namespace(), &resource, &r.name).await;
            scale.map_err(|e| e.to_string())
        };
        let found = found.await;
        match &found {
            Ok(_) => {
                let text = "the HPA controller was able to get the target's current scale";
                look.status.set(ABLE, true, "SucceededGetScale", text);
            }
            Err(e) => {
                self.warn(look, "FailedGetScale", e);
                let text = format!("the HPA controller was unable to get the target's current scale: {e}");
                look.status.set(ABLE, false, "FailedGetScale", text);
            }
        }
        found
    }

    async fn look(&self, key: &Key, look: &mut Look) -> Result<(), String> {
        let now = clock::now();
        let scale = self.scale(look).await?;
        let current = scale.replicas();
        self.with(key, |k| k.memory.met(current, now));
        let spec = look.view.spec.clone();
        let (min, max) = (spec.min(), spec.max_replicas);
        // Who went to zero by itself comes back by what is measured elsewhere, or since it may not be zero any more.
        let from_zero = look.status.is(TO_ZERO);
        let mut metrics = None;
        let mut failed = None;
        let (desired, reason) = if current == 0 && !(from_zero && (min != 0 || spec.measures_outside())) {
            let text = "scaling is disabled since the replica count of the target is zero";
            look.status.set(SCALING_ACTIVE, false, "ScalingDisabled", text);
            (0, String::new())
        } else if current > max {
            (max, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current != 0 && current < min {
            (min, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            let (measured, statuses) = self.measure(key, look, &scale).await;
            metrics = Some(statuses);
            let measured = match measured {
                Ok((m, error)) => {
                    failed = error;
                    m
                }
                Err(why) => {
                    look.status.count(current, None, metrics, look.generation());
                    self.warn(look, "FailedComputeMetricsReplicas", &why);
                    return Err(why);
                }
            };
            let mut reason = match measured.replicas {
                n if n > current => format!("{} above target", measured.name),
                n if n < current => "All metrics below target".to_owned(),
                _ => String::new(),
            };
            let mut desired = self.normalize(key, look, Bounds { current, min, max }, measured.replicas);
            if current == 0 && min != 0 && desired < min {
                desired = min;
                if reason.is_empty() {
                    reason = "Current number of replicas below Spec.MinReplicas".into();
                }
            }
            (desired, reason)
        };
        if desired == current {
            look.status.count(current, Some(current), metrics, look.generation());
            return failed.map_or(Ok(()), Err);
        }
        if let Err(e) = self.targets.rescale(look.namespace(), scale, desired).await {
            self.warn(look, "FailedRescale", format!("New size: {desired}; reason: {reason}; error: {e}"));
            let text = format!("the HPA controller was unable to update the target scale: {e}");
            look.status.set(ABLE, false, "FailedUpdateScale", text);
            look.status.count(current, None, metrics, look.generation());
            return Err(e.to_string());
        }
        let text = format!("the HPA controller was able to update the target scale to {desired}");
        look.status.set(ABLE, true, "SucceededRescale", text);
        let told = format!("New size: {desired}; reason: {reason}");
        self.ctx.events.normal(look.about.clone(), "SuccessfulRescale", told);
        self.with(key, |k| k.memory.scaled(spec.behavior.as_ref(), current, desired, now));
        match current > 0 && desired == 0 && min == 0 && spec.measures_outside() {
            true => {
                let text = "the HPA controller scaled the workload to zero";
                look.status.set(TO_ZERO, true, "ScaledToZero", text);
            }
            false => {
                let text = "the HPA controller did not scale the workload to zero";
                look.status.set(TO_ZERO, false, "NotScaledToZero", text);
            }
        }
        look.status.count(current, Some(desired), metrics, look.generation());
        look.status.rescaled();
        failed.map_or(Ok(()), Err)
    }

    /// Does something with what is kept of an autoscaler, unless it is gone.
    fn with<T>(&self, key: &Key, f: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        self.kept.lock().get_mut(key).map(f)
    }

    fn normalize(&self, key: &Key, look: &mut Look, bounds: Bounds, desired: i32) -> i32 {
        let (now, window) = (clock::now(), self.settings.downscale_stabilization);
        let behavior = look.view.spec.behavior.as_ref();
        let decided = self.with(key, |k| match behavior {
            None => k.memory.decide(desired, bounds, window, now),
            Some(b) => k.memory.decide_by(b, desired, bounds, window, now),
        });
        let Some(d) = decided else { return bounds.current };
        look.status.why(ABLE, true, d.able);
        look.status.why(LIMITED, d.limited.0, d.limited.1);
        d.replicas
    }

    /// The selector of the target's pods, which must not be another autoscaler's too.
    fn selector(&self, key: &Key, look: &mut Look, scale: &Scale) -> Result<(String, Vec<Object>), String> {
        let text = scale.selector();
        if text.is_empty() {
            self.warn(look, "SelectorRequired", "selector is required");
            let text = "the HPA target's scale is missing a selector";
            look.status.set(SCALING_ACTIVE, false, "InvalidSelector", text);
            return Err("selector is required".into());
        }
        let parsed = match LabelSelector::parse(text) {
            Ok(s) => s,
            Err(e) => {
                let text =
                    format!("couldn't convert selector into a corresponding internal selector object: {e}");
                self.warn(look, "InvalidSelector", &text);
                look.status.set(SCALING_ACTIVE, false, "InvalidSelector", &text);
                return Err(text);
            }
        };
        let mut pods = self.pods.list(Some(&key.0));
        pods.retain(|p| parsed.matches(&p.meta().labels));
        if self.with(key, |k| k.selector = Some(parsed.clone())).is_none() {
            return Err(format!("HPA {}/{} was deleted during reconciliation", key.0, key.1));
        }
        let all = self.kept.lock();
        let selecting: Vec<String> = all
            .iter()
            .filter(|((ns, _), _)| *ns == key.0)
            .filter(|(_, k)| {
                k.selector.as_ref().is_some_and(|s| pods.iter().any(|p| s.matches(&p.meta().labels)))
            })
            .take(2)
            .map(|((ns, name), _)| format!("{{{name} {ns}}}"))
            .collect();
        drop(all);
        if selecting.len() > 1 {
            let text = format!(
                "pods by selector {text} are controlled by more than one HPA (e.g. [{}])",
                selecting.join(" ")
            );
            self.warn(look, "AmbiguousSelector", &text);
            look.status.set(SCALING_ACTIVE, false, "AmbiguousSelector", &text);
            return Err(text);
        }
        Ok((text.to_owned(), pods))
    }

    /// What all metrics ask for, the largest of it; with the failures that still left something to go by. An error when
    /// nothing can be done. The statuses are told in any case.
    async fn measure(
        &self,
        key: &Key,
        look: &mut Look,
        scale: &Scale,
    ) -> (Result<(Measured, Option<String>), String>, Vec<Value>) {
        let spec = look.view.spec.clone();
        let (_, pods) = match self.selector(key, look, scale) {
            Ok(s) => s,
            Err(e) => return (Err(e), Vec::new()),
        };
        let m = Measure {
            metrics: &self.metrics,
            targets: &self.targets,
            settings: self.settings,
            namespace: &key.0,
            spec: &spec,
            scale,
            pods: &pods,
            now: clock::now(),
        };
        let mut best = Measured { replicas: 0, name: String::new() };
        let mut statuses = Vec::new();
        let mut failures = Vec::new();
        for metric in &spec.metrics {
            match m.one(metric).await {
                Ok(p) => {
                    if best.replicas == 0 || p.replicas > best.replicas {
                        best = Measured { replicas: p.replicas, name: p.name };
                    }
                    statuses.push(p.status);
                }
                Err(f) => {
                    self.warn(look, f.reason, &f.told);
                    failures.push(f);
                    statuses.push(json!({"type": ""}));
                }
            }
        }
        let (bad, all) = (failures.len(), spec.metrics.len());
        let error = failures
            .first()
            .map(|f| format!("invalid metrics ({bad} invalid out of {all}), first error is: {}", f.whole));
        // A metric that is missing could have asked for more: nothing goes down without it.
        if let Some(first) = failures.first()
            && (bad >= all || best.replicas < scale.replicas())
        {
            let text = format!("the HPA was unable to compute the replica count: {}", first.told);
            look.status.set(SCALING_ACTIVE, false, first.reason, text);
            return (Err(error.unwrap_or_default()), statuses);
        }
        let text = format!("the HPA was able to successfully calculate a replica count from {}", best.name);
        look.status.set(SCALING_ACTIVE, true, "ValidMetricFound", text);
        (Ok((best, error)), statuses)
    }

    async fn write(&self, look: &Look) {
        if look.status.value == look.view.status {
            return;
        }
        let (ns, name) = (look.namespace(), look.object.name());
        let mut object = Some(look.object.clone());
        for _ in 0..ATTEMPTS {
            let Some(mut body) = object.take().and_then(|o| o.value().ok()) else { return };
            body["status"] = look.status.value.clone();
            let client = &self.ctx.client;
            match client.update(&HORIZONTAL_POD_AUTOSCALERS, ns, name, "status", &body).await {
                // Somebody changed the spec meanwhile; what was done was done all the same.
                Err(e) if e.is_conflict() => {
                    let new = client.find(&HORIZONTAL_POD_AUTOSCALERS, ns, name).await;
                    object = new.ok().flatten().filter(|o| o.uid() == look.object.uid());
                }
                Err(e) if !e.is_not_found() => {
                    return self.warn(look, "FailedUpdateStatus", e.to_string());
                }
                _ => return,
            }
        }
    }
}
