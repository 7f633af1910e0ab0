//! The device-taint-eviction loop: a pod whose device has a `NoExecute` taint that its claim does not tolerate is deleted, at
//! once or when the time that is tolerated is over. Taints stand in ResourceSlices and in DeviceTaintRules. Owns the list
//! of deletions to come; spawns its workers.
//! https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#device-taints-and-tolerations

use std::collections::HashSet;

use api::placement::{Taint, Toleration};
use api::resource::PODS;
use api::{Object, Resource};
use client::{DeleteOptions, Informer, ObjectRef, clock};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;

use crate::Context;
use crate::nodes::{disruption_target, patch_pod};
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};

const CLAIMS: Resource = Resource::new("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", true);
const SLICES: Resource = Resource::new("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", false);
const RULES: Resource = Resource::new("resource.k8s.io", "v1", "devicetaintrules", "DeviceTaintRule", false);
const NO_EXECUTE: &str = "NoExecute";
const REASON: &str = "DeviceTaintManagerEviction";
/// Claims by the uids of the pods that may use them.
const BY_USER: &str = "reserved for";

fn list<'a>(v: &'a Value, field: &str) -> &'a [Value] {
    v[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Evicting taints of an allocated device.
fn taints<'a>(device: &Value, slices: &'a [Value], rules: &'a [Value]) -> Vec<&'a Value> {
    let of_pool =
        |s: &&Value| s["spec"]["driver"] == device["driver"] && s["spec"]["pool"]["name"] == device["pool"];
    // Older slices of a pool are about to go.
    let generation = |s: &Value| s["spec"]["pool"]["generation"].as_i64().unwrap_or(0);
    let newest = slices.iter().filter(of_pool).map(generation).max();
    let current = slices.iter().filter(of_pool).filter(|s| Some(generation(s)) == newest);
    let device_of = current.flat_map(|s| list(&s["spec"], "devices")).find(|d| d["name"] == device["device"]);
    let own = device_of.map(|d| list(d, "taints")).unwrap_or_default().iter();
    let selects = |r: &&Value| {
        let s = &r["spec"]["deviceSelector"];
        s.is_object() && ["driver", "pool", "device"].iter().all(|f| s[*f].is_null() || s[*f] == device[*f])
    };
    let ruled = rules.iter().filter(selects).map(|r| &r["spec"]["taint"]);
    own.chain(ruled).filter(|t| t["effect"] == NO_EXECUTE).collect()
}

/// When a claim's devices drive its pods away; `None`: they do not.
fn due(claim: &Value, slices: &[Value], rules: &[Value], now: Timestamp) -> Option<Timestamp> {
    let mut first: Option<Timestamp> = None;
    for device in list(&claim["status"]["allocation"]["devices"], "results") {
        let tolerations: Vec<(Toleration, Option<i64>)> = list(device, "tolerations")
            .iter()
            .filter(|t| t["effect"] == NO_EXECUTE)
            .filter_map(|t| Some((serde_json::from_value(t.clone()).ok()?, t["tolerationSeconds"].as_i64())))
            .collect();
        for t in taints(device, slices, rules) {
            let Ok(taint) = serde_json::from_value::<Taint>(t.clone()) else { continue };
            let bears: Vec<Option<i64>> =
                tolerations.iter().filter(|(b, _)| b.tolerates(&taint)).map(|(_, s)| *s).collect();
            if bears.contains(&None) {
                continue;
            }
            let seconds = bears.into_iter().flatten().min().unwrap_or(0).max(0);
            let since = t["timeAdded"].as_str().and_then(clock::parse).unwrap_or(now);
            let at = since.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
            first = Some(first.map_or(at, |f| f.min(at)));
        }
    }
    first
}

fn users(claim: &Object) -> Vec<String> {
    let v = claim.value().unwrap_or_default();
    let uid = |u: &Value| u["uid"].as_str().map(str::to_owned);
    list(&v["status"], "reservedFor").iter().filter(|u| u["resource"] == "pods").filter_map(uid).collect()
}

/// Queues the pods of a claim.
fn queue_users(queue: &Queue, claim: &Object) {
    let v = claim.value().unwrap_or_default();
    for u in list(&v["status"], "reservedFor").iter().filter(|u| u["resource"] == "pods") {
        queue.add((claim.namespace().to_owned(), u["name"].as_str().unwrap_or_default().to_owned()));
    }
}

struct Loop {
    ctx: Context,
    pods: Informer,
    claims: Informer,
    slices: Informer,
    rules: Informer,
    /// Pods that were found to have to go, for the word that they may stay.
    planned: Mutex<HashSet<Key>>,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let l = Loop {
        pods: ctx.informers.get(&PODS),
        claims: ctx.informers.get(&CLAIMS),
        slices: ctx.informers.get(&SLICES),
        rules: ctx.informers.get(&RULES),
        planned: Mutex::default(),
        ctx: ctx.clone(),
    };
    l.claims.add_index(BY_USER, users);
    let q = queue.clone();
    l.claims.on_change(move |c| [c.old, c.new].into_iter().flatten().for_each(|o| queue_users(&q, o)));
    for informer in [&l.slices, &l.rules] {
        let (claims, q) = (l.claims.clone(), queue.clone());
        informer.on_change(move |_| claims.list(None).iter().for_each(|c| queue_users(&q, c)));
    }
    if !skeleton::synced(&ctx.token, &[&l.pods, &l.claims, &l.slices, &l.rules]).await {
        return;
    }
    l.claims.list(None).iter().for_each(|c| queue_users(&queue, c));
    let (claims, q) = (l.claims.clone(), queue.clone());
    l.pods.on_change(move |c| {
        if let Some(o) = c.new.filter(|o| !claims.is_empty() && !claims.by_index(BY_USER, o.uid()).is_empty())
        {
            q.add(key_of(o));
        }
    });
    skeleton::work("device-taint-eviction", &ctx.token, &queue, 4, |key| l.reconcile(key)).await;
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(pod) = self.pods.get(&key.0, &key.1).filter(|p| !p.meta().is_deleting()) else {
            self.planned.lock().remove(&key);
            return Ok(Next::Wait);
        };
        let now = clock::now();
        let values = |all: Vec<Object>| all.iter().filter_map(|o| o.value().ok()).collect::<Vec<_>>();
        let claims = values(self.claims.by_index(BY_USER, pod.uid()));
        let (slices, rules) = (values(self.slices.list(None)), values(self.rules.list(None)));
        let placed = pod.value()?["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
        let first = claims.iter().filter_map(|c| due(c, &slices, &rules, now)).min().filter(|_| placed);
        let about = ObjectRef { resource_version: String::new(), ..ObjectRef::of(&PODS, &pod) };
        let Some(at) = first else {
            if self.planned.lock().remove(&key) {
                self.ctx.events.normal(about, REASON, "Cancelling deletion");
            }
            return Ok(Next::Wait);
        };
        self.planned.lock().insert(key.clone());
        if at > now {
            return Ok(Next::After(clock::between(now, at)));
        }
        self.ctx.events.normal(about, REASON, "Marking for deletion");
        let text = "Device Taint manager: deleting due to NoExecute taint";
        let condition = disruption_target("DeletionByDeviceTaintManager", text);
        patch_pod(&self.ctx.client, &pod, serde_json::json!({ "conditions": [condition] })).await?;
        self.ctx.client.delete_if_there(&PODS, &key.0, &key.1, &DeleteOptions::uid(pod.uid())).await?;
        self.planned.lock().remove(&key);
        Ok(Next::Wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn when_a_device_drives_pods_away() {
        let now = Timestamp::from_second(1000).expect("time");
        let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect, "timeAdded": "1970-01-01T00:10:00Z"});
        let slice = |generation: i64, taints: Value| json!({"spec": {"driver": "d", "pool": {"name": "p", "generation": generation}, "devices": [{"name": "gpu", "taints": taints}]}});
        let claim = |tolerations: Value| {
            json!({"status": {"allocation": {"devices": {"results": [
                {"driver": "d", "pool": "p", "device": "gpu", "tolerations": tolerations}]}}}})
        };
        let rule =
            |selector: Value| json!({"spec": {"deviceSelector": selector, "taint": taint("r", NO_EXECUTE)}});
        let bears = |more: Value| {
            let mut v = json!({"key": "x", "operator": "Exists", "effect": NO_EXECUTE});
            v.as_object_mut().expect("object").extend(more.as_object().cloned().unwrap_or_default());
            json!([v])
        };
        let x = || json!([taint("x", NO_EXECUTE)]);
        for (name, slices, rules, tolerations, want) in [
            ("clean", vec![slice(1, json!([]))], vec![], json!([]), None),
            ("tainted", vec![slice(1, x())], vec![], json!([]), Some(600)),
            ("only for new pods", vec![slice(1, json!([taint("x", "NoSchedule")]))], vec![], json!([]), None),
            ("an older slice", vec![slice(1, x()), slice(2, json!([]))], vec![], json!([]), None),
            ("tolerated", vec![slice(1, x())], vec![], bears(json!({})), None),
            ("for a while", vec![slice(1, x())], vec![], bears(json!({"tolerationSeconds": 30})), Some(630)),
            ("another is tolerated", vec![slice(1, x())], vec![], bears(json!({"key": "y"})), Some(600)),
            ("by a rule", vec![], vec![rule(json!({"driver": "d", "device": "gpu"}))], json!([]), Some(600)),
            ("by a rule for all", vec![], vec![rule(json!({}))], json!([]), Some(600)),
            ("by a rule for others", vec![], vec![rule(json!({"pool": "q"}))], json!([]), None),
            ("by a rule for nothing", vec![], vec![rule(Value::Null)], json!([]), None),
        ] {
            let got = due(&claim(tolerations), &slices, &rules, now).map(|t| t.as_second());
            assert_eq!(got, want, "{name}");
        }
        assert_eq!(due(&json!({}), &[slice(1, x())], &[], now), None);
    }
}
