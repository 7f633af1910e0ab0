//! LimitRanger: containers get the namespace's defaults, and keep within its least, its most and its ratio.

use api::Status;
use api::quantity::Quantity;
use api::quota::{List, list, pod_limits, pod_requests};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::json::{items, object, put, text};
use super::{Context, Operation, Plugin, Request};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub struct LimitRanger;

#[async_trait]
impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, r: &Request<'_>) -> bool {
        if r.namespace.is_empty() || r.old.is_some_and(|o| !o["metadata"]["deletionTimestamp"].is_null()) {
            return false;
        }
        match (r.group, r.resource, r.operation) {
            // A pod's containers are fixed once it exists.
            ("", "pods", Operation::Create) => r.subresource.is_empty(),
            ("", "pods", Operation::Update) => r.subresource == "resize",
            ("", "persistentvolumeclaims", Operation::Create | Operation::Update) => r.subresource.is_empty(),
            _ => false,
        }
    }

    async fn admit(&self, cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        if !r.is_pod() || !r.subresource.is_empty() {
            return Ok(());
        }
        for range in ranges(cx, r).await? {
            default_pod(&mut r.object, &range);
        }
        Ok(())
    }

    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        for range in ranges(cx, r).await? {
            let problems =
                if r.is_pod() { judge_pod(&r.object, &range) } else { judge_claim(&r.object, &range) };
            match problems.as_slice() {
                [] => {}
                [one] => return Err(r.forbidden(one)),
                many => return Err(r.forbidden(format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

async fn ranges(cx: &Context, r: &Request<'_>) -> Result<Vec<Value>, Status> {
    let all = cx.reader.list("", "limitranges", r.namespace).await?;
    all.iter().map(|o| o.value().map_err(Status::internal)).collect()
}

fn limits_of<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    items(&range["spec"], "limits").iter().filter(move |l| text(l, "type") == kind)
}

/// Fills in what containers don't say, and notes it in an annotation.
fn default_pod(pod: &mut Value, range: &Value) {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    for l in limits_of(range, "Container") {
        requests.extend(
            l["defaultRequest"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())),
        );
        limits.extend(l["default"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
    }
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let mut notes: Vec<String> = Vec::new();
    for (field, word) in [("containers", "container"), ("initContainers", "init container")] {
        let Some(list) = pod.get_mut("spec").and_then(|s| s.get_mut(field)).and_then(Value::as_array_mut)
        else {
            continue;
        };
        for c in list {
            let name = text(c, "name").to_owned();
            let resources = object(object(c).entry("resources").or_insert(Value::Null));
            for (kind, wanted, noun) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                if wanted.is_empty() {
                    continue;
                }
                let have = object(resources.entry(kind).or_insert(Value::Null));
                let mut set: Vec<&str> = Vec::new();
                for (k, v) in wanted {
                    if !have.contains_key(k) {
                        have.insert(k.clone(), v.clone());
                        set.push(k);
                    }
                }
                if !set.is_empty() {
                    notes.push(format!("{} {noun} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        put(pod, &["metadata", "annotations", ANNOTATION], json!(note));
    }
}

fn judge_pod(pod: &Value, range: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let spec = &pod["spec"];
    for l in items(&range["spec"], "limits") {
        match text(l, "type") {
            "Container" => {
                for c in items(spec, "containers").iter().chain(items(spec, "initContainers")) {
                    let (req, lim) = (list(&c["resources"]["requests"]), list(&c["resources"]["limits"]));
                    judge(l, "Container", &req, &lim, &mut out);
                }
            }
            "Pod" => judge(l, "Pod", &pod_requests(pod), &pod_limits(pod), &mut out),
            _ => {}
        }
    }
    out
}

fn judge(l: &Value, kind: &str, requests: &List, limits: &List, out: &mut Vec<String>) {
    for (k, v) in list(&l["min"]) {
        out.extend(least(kind, &k, v, requests.get(&k).copied(), limits.get(&k).copied()));
    }
    for (k, v) in list(&l["max"]) {
        out.extend(most(kind, &k, v, requests.get(&k).copied(), limits.get(&k).copied()));
    }
    for (k, v) in list(&l["maxLimitRequestRatio"]) {
        out.extend(ratio(kind, &k, v, requests.get(&k).copied(), limits.get(&k).copied()));
    }
}

fn least(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<Quantity>,
    limit: Option<Quantity>,
) -> Option<String> {
    let head = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Some(format!("{head}.  No request is specified")),
        (Some(r), _) if r < bound => Some(format!("{head}, but request is {r}")),
        (_, Some(l)) if l < bound => Some(format!("{head}, but limit is {l}")),
        _ => None,
    }
}

fn most(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<Quantity>,
    limit: Option<Quantity>,
) -> Option<String> {
    let head = format!("maximum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (_, None) => Some(format!("{head}.  No limit is specified")),
        (_, Some(l)) if l > bound => Some(format!("{head}, but limit is {l}")),
        (Some(r), _) if r > bound => Some(format!("{head}, but request is {r}")),
        _ => None,
    }
}

fn ratio(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<Quantity>,
    limit: Option<Quantity>,
) -> Option<String> {
    let head = format!("{name} max limit to request ratio per {kind} is {bound}");
    let Some(r) = request.filter(|r| !r.is_zero()) else {
        return Some(format!("{head}, but no request is specified or request is 0"));
    };
    let Some(l) = limit.filter(|l| !l.is_zero()) else {
        return Some(format!("{head}, but no limit is specified or limit is 0"));
    };
    let observed = l.as_f64() / r.as_f64();
    (observed > bound.as_f64()).then(|| format!("{head}, but provided ratio is {observed:.6}"))
}

/// A claim has requests only.
fn judge_claim(claim: &Value, range: &Value) -> Vec<String> {
    let requests = list(&claim["spec"]["resources"]["requests"]);
    let mut out = Vec::new();
    for l in limits_of(range, "PersistentVolumeClaim") {
        for (k, v) in list(&l["min"]) {
            out.extend(least("PersistentVolumeClaim", &k, v, requests.get(&k).copied(), None));
        }
        for (k, v) in list(&l["max"]) {
            let head = format!("maximum {k} usage per PersistentVolumeClaim is {v}");
            match requests.get(&k) {
                None => out.push(format!("{head}.  No request is specified")),
                Some(r) if *r > v => out.push(format!("{head}, but request is {r}")),
                _ => {}
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(l: Value) -> Value {
        json!({"spec": {"limits": [l]}})
    }

    #[test]
    fn defaults_are_filled_in_and_noted() {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2"}}}]}});
        let r = range(
            json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}),
        );
        default_pod(&mut pod, &r);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}})
        );
        assert_eq!(pod["spec"]["containers"][1]["resources"]["limits"], json!({"cpu": "2", "memory": "1Gi"}));
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu request for container b; \
             memory limit for container b"
        );
    }

    #[test]
    fn bounds_are_worded_as_upstream() {
        let pod = |r: Value| json!({"spec": {"containers": [{"name": "a", "resources": r}]}});
        let t = [
            (
                json!({"type": "Container", "min": {"cpu": "100m"}}),
                json!({}),
                vec!["minimum cpu usage per Container is 100m.  No request is specified"],
            ),
            (
                json!({"type": "Container", "min": {"cpu": "100m"}}),
                json!({"requests": {"cpu": "50m"}}),
                vec!["minimum cpu usage per Container is 100m, but request is 50m"],
            ),
            (
                json!({"type": "Container", "max": {"memory": "1Gi"}}),
                json!({"limits": {"memory": "2Gi"}}),
                vec!["maximum memory usage per Container is 1Gi, but limit is 2Gi"],
            ),
            (
                json!({"type": "Pod", "max": {"cpu": "1"}}),
                json!({"requests": {"cpu": "1"}}),
                vec!["maximum cpu usage per Pod is 1.  No limit is specified"],
            ),
            (
                json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}),
                vec!["cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"],
            ),
            (
                json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}}),
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}),
                vec![],
            ),
        ];
        for (l, r, want) in t {
            assert_eq!(judge_pod(&pod(r), &range(l)), want);
        }
        let claim = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
        let r = range(json!({"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}}));
        assert_eq!(
            judge_claim(&claim, &r),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
    }
}
