//! Kinds of apps, batch and autoscaling.

use super::duration::{human, parse_time};
use super::row::{Row, condition_is, labels, list, or, selector, shown, since, text};
use serde_json::Value;

pub fn kind(kind: &str) -> Option<super::Kind> {
    const TEMPLATE: &str = "spec.template.spec.containers";
    Some(match kind {
        "Deployment" => ("Name:n,Ready,Up-to-date,Available,Age,Containers:w,Images:w,Selector:w", |r| {
            r.name();
            r.text(format!("{}/{}", r.int("status.readyReplicas"), r.int("spec.replicas")));
            r.number_at("status.updatedReplicas");
            r.number_at("status.availableReplicas");
            r.age();
            r.containers(TEMPLATE);
            r.text(selector(r.at("spec.selector")));
        }),
        "ReplicaSet" => ("Name:n,Desired:i,Current:i,Ready:i,Age,Containers:w,Images:w,Selector:w", |r| {
            r.name();
            r.number_at("spec.replicas");
            r.number_at("status.replicas");
            r.number_at("status.readyReplicas");
            r.age();
            r.containers(TEMPLATE);
            r.text(selector(r.at("spec.selector")));
        }),
        "StatefulSet" => ("Name:n,Ready,Age,Containers:w,Images:w", |r| {
            r.name();
            r.text(format!("{}/{}", r.int("status.readyReplicas"), r.int("spec.replicas")));
            r.age();
            r.containers(TEMPLATE);
        }),
        "DaemonSet" => (
            "Name:n,Desired:i,Current:i,Ready:i,Up-to-date:i,Available:i,Node Selector,Age,Containers:w,Images:w,Selector:w",
            |r| {
                r.name();
                for f in [
                    "desiredNumberScheduled",
                    "currentNumberScheduled",
                    "numberReady",
                    "updatedNumberScheduled",
                    "numberAvailable",
                ] {
                    r.number_at(&format!("status.{f}"));
                }
                r.text(labels(r.at("spec.template.spec.nodeSelector")));
                r.age();
                r.containers(TEMPLATE);
                r.text(selector(r.at("spec.selector")));
            },
        ),
        "ControllerRevision" => ("Name:n,Controller,Revision,Age", |r| {
            r.name();
            let owner = list(r.at("metadata.ownerReferences")).iter().find(|o| o["controller"] == true);
            r.text(owner.map_or_else(|| "<none>".into(), owner_text));
            r.number_at("revision");
            r.age();
        }),
        "Job" => ("Name:n,Status,Completions,Duration,Age,Containers:w,Images:w,Selector:w", job),
        "CronJob" => (
            "Name:n,Schedule,Timezone,Suspend:b,Active:i,Last Schedule,Age,Containers:w,Images:w,Selector:w",
            |r| {
                r.name();
                r.text_at("spec.schedule", "");
                r.text_at("spec.timeZone", "<none>");
                r.text(match r.at("spec.suspend").as_bool() {
                    Some(true) => "True",
                    Some(false) => "False",
                    None => "<unset>",
                });
                r.count_at("status.active");
                let last = r.str("status.lastScheduleTime");
                r.text(if last.is_empty() { "<none>".into() } else { since(last, r.now) });
                r.age();
                r.containers("spec.jobTemplate.spec.template.spec.containers");
                r.text(selector(r.at("spec.jobTemplate.spec.selector")));
            },
        ),
        "HorizontalPodAutoscaler" => ("Name:n,Reference,Targets,MinPods,MaxPods,Replicas,Age", |r| {
            r.name();
            r.text(format!("{}/{}", r.str("spec.scaleTargetRef.kind"), r.str("spec.scaleTargetRef.name")));
            r.text(targets(r));
            r.text(r.at("spec.minReplicas").as_i64().map_or_else(|| "<unset>".into(), |n| n.to_string()));
            r.number_at("spec.maxReplicas");
            r.number_at("status.currentReplicas");
            r.age();
        }),
        "Scale" => ("Name,Desired:i,Available:i,Age", |r| {
            r.name();
            r.number_at("spec.replicas");
            r.number_at("status.replicas");
            r.age();
        }),
        _ => return None,
    })
}

/// `deployment.apps/name`.
fn owner_text(o: &Value) -> String {
    let kind = text(o, "kind").to_lowercase();
    match text(o, "apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", text(o, "name")),
        None => format!("{kind}/{}", text(o, "name")),
    }
}

fn job(r: &mut Row) {
    r.name();
    let conditions = r.at("status.conditions");
    let on = |kind: &str| condition_is(conditions, kind, "True");
    let status = if on("Complete") {
        "Complete"
    } else if on("Failed") {
        "Failed"
    } else if r.deleting() {
        "Terminating"
    } else {
        ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(|k| on(k)).unwrap_or("Running")
    };
    r.text(status);
    let done = r.int("status.succeeded");
    let completions = match (r.at("spec.completions").as_i64(), r.int("spec.parallelism")) {
        (Some(n), _) => format!("{done}/{n}"),
        (None, p) if p > 1 => format!("{done}/1 of {p}"),
        (None, _) => format!("{done}/1"),
    };
    r.text(completions);
    let end = parse_time(r.str("status.completionTime")).unwrap_or(r.now);
    let duration = parse_time(r.str("status.startTime")).map_or_else(String::new, |t| human(end - t));
    r.text(duration);
    r.age();
    r.containers("spec.template.spec.containers");
    r.text(selector(r.at("spec.selector")));
}

/// `cpu: 12%/50%, 3/5 (avg) + 1 more...`.
fn targets(r: &Row) -> String {
    let metrics = list(r.at("spec.metrics"));
    let current = list(r.at("status.currentMetrics"));
    if metrics.is_empty() {
        // autoscaling/v1.
        let Some(want) = r.at("spec.targetCPUUtilizationPercentage").as_i64() else { return "<none>".into() };
        let have = r.at("status.currentCPUUtilizationPercentage").as_i64();
        return format!("cpu: {}/{want}%", have.map_or_else(|| "<unknown>".into(), |n| format!("{n}%")));
    }
    let mut all: Vec<String> = Vec::new();
    for (i, m) in metrics.iter().enumerate().take(2) {
        let (field, resource) = match text(m, "type") {
            "External" => ("external", false),
            "Pods" => ("pods", false),
            "Object" => ("object", false),
            "Resource" => ("resource", true),
            "ContainerResource" => ("containerResource", true),
            _ => {
                all.push("<unknown type>".into());
                continue;
            }
        };
        let (target, have) =
            (&m[field]["target"], current.get(i).map_or(&Value::Null, |c| &c[field]["current"]));
        let known = |f: &str| {
            let s = shown(&have[f]);
            or(&s, "<unknown>").to_owned()
        };
        let average = shown(&target["averageValue"]);
        let shown_ = if resource {
            let name = text(&m[field], "name");
            if average.is_empty() {
                let percent = |v: &Value| v.as_i64().map(|n| format!("{n}%"));
                let have = percent(&have["averageUtilization"]).unwrap_or_else(|| "<unknown>".into());
                let want = percent(&target["averageUtilization"]).unwrap_or_else(|| "<auto>".into());
                format!("{name}: {have}/{want}")
            } else {
                format!("{name}: {}/{average}", known("averageValue"))
            }
        } else if field == "pods" {
            format!("{}/{average}", known("averageValue"))
        } else if average.is_empty() {
            format!("{}/{}", known("value"), shown(&target["value"]))
        } else {
            format!("{}/{average} (avg)", known("averageValue"))
        };
        all.push(shown_);
    }
    let head = all.join(", ");
    if metrics.len() > 2 { format!("{head} + {} more...", metrics.len() - 2) } else { head }
}
