//! pods/eviction: a deletion that disruption budgets may refuse.

use api::selector::LabelSelector;
use api::{Cause, Object, Reason, Status};
use client::{clock, planted};
use http::StatusCode;
use serde_json::{Value, json};

use crate::adapt;
use crate::admission::Operation;
use crate::body::{self, Reply};
use crate::call::Call;
use crate::handlers::delete::{Options, delete};
use crate::handlers::write::{TRIES, Write, too_contended};
use crate::handlers::{Target, decode, meta, output};
use crate::server::ApiServer;
use crate::storage::Encoded;

/// Disrupted pods that a budget remembers at most.
const MAX_DISRUPTED: usize = 2000;
const BUDGET: &str = "DisruptionBudget";

/// What a budget says to one more eviction. Pure.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Allowed; the budget as it is afterwards.
    Allow(Box<Value>),
    Refuse(Status),
}

fn refused(message: String, retry_after_seconds: u32) -> Status {
    let mut s = Status::new(
        Reason::TooManyRequests,
        "Cannot evict pod as it would violate the pod's disruption budget.",
    );
    s.causes.push(Cause { reason: BUDGET.into(), message, field: String::new() });
    s.retry_after_seconds = retry_after_seconds;
    s
}

fn in_progress(budget: &str) -> Status {
    refused(format!("The disruption budget {budget} is still being processed by the server."), 10)
}

pub fn judge(pdb: &Value, pod: &str, now: &str) -> Verdict {
    let name = meta::name(pdb);
    let number = |k: &str| pdb["status"][k].as_i64().unwrap_or(0);
    let forbidden =
        |why: &str| Verdict::Refuse(Status::forbidden("policy", "poddisruptionbudget", name, why));
    if number("observedGeneration") < meta::generation(pdb) {
        return Verdict::Refuse(in_progress(name));
    }
    let allowed = number("disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if pdb["status"]["disruptedPods"].as_object().map_or(0, |m| m.len()) > MAX_DISRUPTED {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        let (desired, current) = (number("desiredHealthy"), number("currentHealthy"));
        let text =
            format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently");
        return Verdict::Refuse(refused(text, 0));
    }
    let mut new = pdb.clone();
    let status = &mut new["status"];
    status["disruptionsAllowed"] = json!(allowed - i64::from(!planted::is_on("budget-uncounted")));
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][pod] = json!(now);
    if allowed == 1 {
        exhaust(status, now);
    }
    Verdict::Allow(Box::new(new))
}

/// The condition of a budget that has nothing left.
fn exhaust(status: &mut Value, now: &str) {
    let generation = status["observedGeneration"].clone();
    for c in
        status["conditions"].as_array_mut().into_iter().flatten().filter(|c| c["type"] == "DisruptionAllowed")
    {
        if c["status"] != "False" {
            c["status"] = json!("False");
            c["lastTransitionTime"] = json!(now);
        }
        c["reason"] = json!("InsufficientPods");
        c["message"] = json!("");
        if generation.as_i64().is_some_and(|g| g != 0) {
            c["observedGeneration"] = generation.clone();
        }
    }
}

fn is_ready(pod: &Value) -> bool {
    let mut all = pod["status"]["conditions"].as_array().into_iter().flatten();
    all.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// What runs nothing is asked no budget.
fn budget_ignored(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
        || matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
}

/// A pod that may begin to run in between must be deleted as it was seen.
fn may_start(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_string()
        && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// A pod that is not healthy costs its budget nothing, as far as the budget's policy lets it go.
fn unhealthy_may_go(pod: &Value, pdb: &Value) -> bool {
    let n = |k: &str| pdb["status"][k].as_i64().unwrap_or(0);
    let kept = n("currentHealthy") >= n("desiredHealthy") && n("desiredHealthy") > 0;
    !is_ready(pod) && (kept || pdb["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow")
}

/// The pod with the reason of its end.
fn marked(mut pod: Value, now: &str) -> Value {
    let condition = json!({ "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now });
    let all = pod["status"]["conditions"].as_array_mut();
    match all {
        None => pod["status"]["conditions"] = json!([condition]),
        Some(all) => match all.iter_mut().find(|c| c["type"] == "DisruptionTarget") {
            Some(c) if c["status"] == "True" && c["reason"] == condition["reason"] => {}
            Some(c) => *c = condition,
            None => all.push(condition),
        },
    }
    pod
}

pub async fn create(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let name = call.name();
    let mut v = decode::loose(call)?;
    if v.is_null() {
        v = json!({"metadata": {"name": name}});
    }
    let body_name = meta::name(&v);
    if !body_name.is_empty() && body_name != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut w = Write::new(s, call, target, "eviction")?;
    let v = w.admit(Operation::Create, v, None).await?;
    let v = w.validated(Operation::Create, v, None).await?;
    w.sub = "";
    let text = |p: &str| v.pointer(p).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned);
    let options = Options {
        grace: v["deleteOptions"]["gracePeriodSeconds"].as_i64(),
        uid: text("/deleteOptions/preconditions/uid"),
        resource_version: text("/deleteOptions/preconditions/resourceVersion"),
        dry_run: w.dry_run
            || v["deleteOptions"]["dryRun"].as_array().is_some_and(|d| d.iter().any(|x| x == "All")),
        propagation: None,
    };
    w.dry_run = options.dry_run;
    evict(s, call, &w, &options).await?;
    output::value(call, StatusCode::CREATED, &body::success(Value::Null))
}

async fn evict(s: &ApiServer, call: &Call, w: &Write<'_>, options: &Options) -> Result<(), Status> {
    let name = call.name();
    let key = w.target.key(call.namespace(), name);
    for _ in 0..TRIES {
        let pod = s.storage.get(&key).await?.ok_or_else(|| w.target.not_found(name))?;
        let value = pod.value().map_err(Status::internal)?;
        let pinned = || Options { resource_version: Some(pod.revision().to_string()), ..options.clone() };
        let free = options.resource_version.is_none();
        if budget_ignored(&value) {
            let o = if free && may_start(&value) { pinned() } else { options.clone() };
            match end(s, w, &key, name, o).await {
                // It has changed meanwhile: it is looked at again.
                Err(e)
                    if free && e.is_conflict() && options.uid.as_deref().is_none_or(|u| u == pod.uid()) =>
                {
                    continue;
                }
                other => return other,
            }
        }
        let Some(budget) = charge(s, call, w, &pod, &value).await? else {
            return end(s, w, &key, name, options.clone()).await;
        };
        // Not charged since it was not ready: should it be so by now, the budget has to be asked.
        let o = if free { pinned() } else { options.clone() };
        return match end(s, w, &key, name, o).await {
            Err(e) if free && e.is_conflict() => Err(in_progress(&budget)),
            other => other,
        };
    }
    Err(too_contended(w.target, name))
}

/// Marks the pod and deletes it, within the preconditions.
async fn end(s: &ApiServer, w: &Write<'_>, key: &str, name: &str, mut o: Options) -> Result<(), Status> {
    let mut tries = 0;
    while !o.dry_run {
        let pod = s.storage.get(key).await?.ok_or_else(|| w.target.not_found(name))?;
        o.check(w.target, &pod)?;
        let mut new = marked(pod.value().map_err(Status::internal)?, &clock::rfc3339(clock::now()));
        adapt::canonical(&w.target.kind, &mut new);
        let new = Encoded::new(new)?;
        if new.bytes == pod.stored_bytes() {
            break;
        }
        if let Some(written) = s.storage.replace(key, pod.revision(), &new, None).await? {
            if o.resource_version.is_some() {
                o.resource_version = Some(written.revision().to_string());
            }
            break;
        }
        tries += 1;
        if tries == TRIES {
            return Err(too_contended(w.target, name));
        }
    }
    delete(w, name, &o).await.map(|_| ())
}

/// Charges the pod's budget. Answers the budget's name when the pod may go without a charge.
async fn charge(
    s: &ApiServer,
    call: &Call,
    w: &Write<'_>,
    pod: &Object,
    value: &Value,
) -> Result<Option<String>, Status> {
    let catalog = s.catalog();
    let Some(kind) = catalog.by_plural("policy", "poddisruptionbudgets") else { return Ok(None) };
    let (budgets, _) = s.storage.all(&kind.key(call.namespace(), ""), store::Fresh::Newest).await?;
    let mut matching = Vec::new();
    for b in budgets {
        let v = b.value().map_err(Status::internal)?;
        // One that can't be read selects nothing.
        if LabelSelector::from_value(&v["spec"]["selector"]).is_ok_and(|sel| sel.matches(&pod.meta().labels))
        {
            matching.push(b);
        }
    }
    let Some(pdb) = matching.pop() else { return Ok(None) };
    if !matching.is_empty() {
        let mut s = Status::new(
            Reason::Unknown,
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        );
        s.code = 500;
        return Err(s);
    }
    let key = kind.key(call.namespace(), pdb.name());
    for _ in 0..TRIES {
        let Some(now) = s.storage.get(&key).await? else { return Ok(None) };
        let v = now.value().map_err(Status::internal)?;
        if unhealthy_may_go(value, &v) {
            return Ok(Some(pdb.name().to_owned()));
        }
        match judge(&v, pod.name(), &clock::rfc3339(clock::now())) {
            Verdict::Refuse(s) => return Err(s),
            Verdict::Allow(_) if w.dry_run => return Ok(None),
            Verdict::Allow(new) => {
                let mut new = *new;
                adapt::canonical(kind, &mut new);
                if s.storage.replace(&key, now.revision(), &Encoded::new(new)?, None).await?.is_some() {
                    return Ok(None);
                }
            }
        }
    }
    let mut s = Status::new(
        Reason::Timeout,
        format!("Timeout: couldn't update PodDisruptionBudget \"{}\" due to conflicts", pdb.name()),
    );
    s.retry_after_seconds = 10;
    Err(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        let pdb = json!({"metadata": {"name": "b", "generation": 2}, "status": {"observedGeneration": 2,
            "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 3,
            "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods"}]}});
        let Verdict::Allow(after) = judge(&pdb, "p", "t") else { panic!("refused") };
        assert_eq!(after["status"]["disruptionsAllowed"], 0);
        assert_eq!(after["status"]["disruptedPods"]["p"], "t");
        assert_eq!(after["status"]["conditions"][0]["reason"], "InsufficientPods");
        let Verdict::Refuse(s) = judge(&after, "q", "t") else { panic!("allowed") };
        assert_eq!((s.code, s.causes[0].reason.as_str()), (429, "DisruptionBudget"));
        let mut stale = pdb;
        stale["status"]["observedGeneration"] = json!(1);
        let Verdict::Refuse(s) = judge(&stale, "q", "t") else { panic!("allowed") };
        assert_eq!(s.retry_after_seconds, 10);
    }

    #[test]
    fn pods_that_run_nothing_or_not_healthily() {
        let pod = |phase: &str, ready: &str| json!({"metadata": {}, "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}});
        assert!(budget_ignored(&pod("Pending", "False")) && may_start(&pod("Pending", "False")));
        assert!(budget_ignored(&pod("Failed", "False")) && !may_start(&pod("Failed", "False")));
        assert!(!budget_ignored(&pod("Running", "False")));
        let pdb = |policy: Value, current: i64| json!({"spec": {"unhealthyPodEvictionPolicy": policy}, "status": {"currentHealthy": current, "desiredHealthy": 2}});
        let sick = pod("Running", "False");
        assert!(unhealthy_may_go(&sick, &pdb(Value::Null, 2)));
        assert!(!unhealthy_may_go(&sick, &pdb(json!("IfHealthyBudget"), 1)));
        assert!(unhealthy_may_go(&sick, &pdb(json!("AlwaysAllow"), 0)));
        assert!(!unhealthy_may_go(&pod("Running", "True"), &pdb(json!("AlwaysAllow"), 5)));
        let once = marked(sick, "t");
        assert_eq!(once["status"]["conditions"][1]["reason"], "EvictionByEvictionAPI");
        assert_eq!(marked(once.clone(), "u"), once);
    }
}
