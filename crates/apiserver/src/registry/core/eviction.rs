//! pods/eviction: a deletion that disruption budgets may refuse.

use api::selector::LabelSelector;
use api::{Cause, Reason, Status};
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

/// What a budget says to one more eviction. Pure.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Allowed; the budget as it is afterwards.
    Allow(Box<Value>),
    Refuse(Status),
}

fn refuse(cause: &str, message: String) -> Verdict {
    let mut s = Status::new(
        Reason::TooManyRequests,
        "Cannot evict pod as it would violate the pod's disruption budget.",
    );
    s.causes.push(Cause { reason: cause.into(), message, field: String::new() });
    Verdict::Refuse(s)
}

pub fn judge(pdb: &Value, pod: &str, now: &str) -> Verdict {
    let name = meta::name(pdb);
    let observed = pdb["status"]["observedGeneration"].as_i64().unwrap_or(0);
    if observed < meta::generation(pdb) {
        let Verdict::Refuse(mut s) = refuse(
            "DisruptionBudget",
            format!("The disruption budget {name} is still being processed by the server."),
        ) else {
            return Verdict::Refuse(Status::internal("no verdict"));
        };
        s.retry_after_seconds = 10;
        return Verdict::Refuse(s);
    }
    let allowed = pdb["status"]["disruptionsAllowed"].as_i64().unwrap_or(0);
    let disrupted = pdb["status"]["disruptedPods"].as_object().map_or(0, |m| m.len());
    if allowed < 0 {
        return Verdict::Refuse(Status::forbidden(
            "policy",
            "poddisruptionbudgets",
            name,
            "pdb disruptions allowed is negative",
        ));
    }
    if disrupted > MAX_DISRUPTED {
        return Verdict::Refuse(Status::forbidden(
            "policy",
            "poddisruptionbudgets",
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let number = |k: &str| pdb["status"][k].as_i64().unwrap_or(0);
        return refuse(
            "DisruptionBudget",
            format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                number("desiredHealthy"),
                number("currentHealthy")
            ),
        );
    }
    let mut new = pdb.clone();
    new["status"]["disruptionsAllowed"] = json!(allowed - 1);
    if !new["status"]["disruptedPods"].is_object() {
        new["status"]["disruptedPods"] = json!({});
    }
    new["status"]["disruptedPods"][pod] = json!(now);
    Verdict::Allow(Box::new(new))
}

/// Pods that run nothing, or not healthily, may go without asking, as far as the budget's policy lets them.
fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn budget_ignored(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
        || matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
}

fn unhealthy_may_go(pod: &Value, pdb: &Value) -> bool {
    if is_ready(pod) {
        return false;
    }
    match pdb["spec"]["unhealthyPodEvictionPolicy"].as_str() {
        Some("AlwaysAllow") => true,
        _ => {
            let n = |k: &str| pdb["status"][k].as_i64().unwrap_or(0);
            n("currentHealthy") >= n("desiredHealthy") && n("desiredHealthy") > 0
        }
    }
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
    let key = target.key(call.namespace(), name);
    let pod = s.storage.get(&key).await?.ok_or_else(|| target.not_found(name))?;
    let value = pod.value().map_err(Status::internal)?;
    if !budget_ignored(&value) {
        charge(s, call, &w, &pod, &value).await?;
    }
    delete(&w, name, &options).await?;
    output::value(call, StatusCode::CREATED, &body::success(Value::Null))
}

async fn charge(
    s: &ApiServer,
    call: &Call,
    w: &Write<'_>,
    pod: &api::Object,
    value: &Value,
) -> Result<(), Status> {
    let catalog = s.catalog();
    let Some(kind) = catalog.by_plural("policy", "poddisruptionbudgets") else { return Ok(()) };
    let (budgets, _) = s.storage.all(&kind.key(call.namespace(), "")).await?;
    let mut matching = Vec::new();
    for b in budgets {
        let v = b.value().map_err(Status::internal)?;
        let sel = LabelSelector::from_value(&v["spec"]["selector"]).map_err(|e| Status::internal(&e))?;
        if sel.matches(&pod.meta().labels) {
            matching.push(b);
        }
    }
    let Some(pdb) = matching.pop() else { return Ok(()) };
    if !matching.is_empty() {
        return Err(Status::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    let key = kind.key(call.namespace(), pdb.name());
    for _ in 0..TRIES {
        let Some(now) = s.storage.get(&key).await? else { return Ok(()) };
        let v = now.value().map_err(Status::internal)?;
        if unhealthy_may_go(value, &v) {
            return Ok(());
        }
        match judge(&v, pod.name(), &client::clock::rfc3339(client::clock::now())) {
            Verdict::Refuse(s) => return Err(s),
            Verdict::Allow(new) => {
                if w.dry_run {
                    return Ok(());
                }
                let mut new = *new;
                adapt::canonical(kind, &mut new);
                if s.storage.replace(&key, now.revision(), &Encoded::new(new)?, None).await?.is_some() {
                    return Ok(());
                }
            }
        }
    }
    Err(too_contended(w.target, pod.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        let pdb = json!({"metadata": {"name": "b", "generation": 2}, "status": {"observedGeneration": 2,
            "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 3}});
        let Verdict::Allow(after) = judge(&pdb, "p", "t") else { panic!("refused") };
        assert_eq!(after["status"]["disruptionsAllowed"], 0);
        assert_eq!(after["status"]["disruptedPods"]["p"], "t");
        let Verdict::Refuse(s) = judge(&after, "q", "t") else { panic!("allowed") };
        assert_eq!((s.code, s.causes[0].reason.as_str()), (429, "DisruptionBudget"));
        let mut stale = pdb;
        stale["status"]["observedGeneration"] = json!(1);
        let Verdict::Refuse(s) = judge(&stale, "q", "t") else { panic!("allowed") };
        assert_eq!(s.retry_after_seconds, 10);
    }
}
