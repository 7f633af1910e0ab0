//! What a calculation needs to know of pods: their facts, and what they request. Pure.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use client::clock;
use jiff::Timestamp;
use serde_json::Value;

use super::calc::{PodFacts, Ready};

fn time(v: &Value) -> Option<Timestamp> {
    clock::parse(v.as_str()?)
}

fn list<'a>(v: &'a Value, field: &str) -> &'a [Value] {
    v[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn name(v: &Value) -> &str {
    v.as_str().unwrap_or_default()
}

pub fn facts(pod: &Value) -> PodFacts {
    let status = &pod["status"];
    let ready = list(status, "conditions").iter().find(|c| c["type"] == "Ready");
    PodFacts {
        name: name(&pod["metadata"]["name"]).to_owned(),
        deleting: !pod["metadata"]["deletionTimestamp"].is_null(),
        phase: name(&status["phase"]).to_owned(),
        started: time(&status["startTime"]),
        ready: ready.map(|c| Ready {
            status: name(&c["status"]).to_owned(),
            since: time(&c["lastTransitionTime"]).unwrap_or(Timestamp::UNIX_EPOCH),
        }),
    }
}

fn whole_pod(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Thousandths of what each pod requests of a resource: of one container, or of the pod as a whole.
pub fn requests(pods: &[Value], container: &str, resource: &str) -> Result<BTreeMap<String, i64>, String> {
    let one = |pod: &Value| {
        let said = pod["spec"]["resources"]["requests"].as_object();
        let value = match said.is_some_and(|r| r.keys().any(|k| whole_pod(k))) && container.is_empty() {
            true => api::quota::pod_requests(pod).get(resource).map(Quantity::milli_value).ok_or_else(|| {
                format!("missing pod-level request for {resource} in Pod {}", name(&pod["metadata"]["name"]))
            }),
            false => of_containers(pod, container, resource),
        };
        Ok((name(&pod["metadata"]["name"]).to_owned(), value?))
    };
    pods.iter().map(one).collect()
}

fn of_containers(pod: &Value, container: &str, resource: &str) -> Result<i64, String> {
    let spec = &pod["spec"];
    let pod = name(&pod["metadata"]["name"]);
    let sidecars = list(spec, "initContainers").iter().filter(|c| c["restartPolicy"] == "Always");
    let mut sum = 0i64;
    let mut found = false;
    for c in list(spec, "containers").iter().chain(sidecars) {
        let own = name(&c["name"]);
        if !container.is_empty() && container != own {
            continue;
        }
        found = true;
        let request = c["resources"]["requests"][resource].as_str().and_then(|q| Quantity::parse(q).ok());
        let request = request
            .ok_or_else(|| format!("missing request for {resource} in container {own} of Pod {pod}"))?;
        sum = sum.saturating_add(request.milli_value());
    }
    if !container.is_empty() && !found {
        return Err(format!("container {container} not found in Pod {pod}"));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_of_pods() {
        let c = |name: &str, requests: Value| json!({"name": name, "resources": {"requests": requests}});
        let pod = |spec: Value| json!({"metadata": {"name": "p"}, "spec": spec});
        let (half, one) = (json!({"cpu": "500m"}), json!({"cpu": "1", "memory": "1Gi"}));
        let mut sidecar = c("s", half.clone());
        sidecar["restartPolicy"] = json!("Always");
        let both = json!({"containers": [c("a", half.clone()), c("b", one.clone())]});
        let with_init =
            json!({"containers": [c("a", half.clone())], "initContainers": [sidecar, c("i", one.clone())]});
        let whole = json!({"containers": [c("a", half)], "resources": {"requests": {"cpu": "2"}}});
        for (spec, container, resource, want) in [
            (&both, "", "cpu", Ok(1500)),
            (&both, "b", "cpu", Ok(1000)),
            (&both, "b", "memory", Ok(1000 << 30)),
            (&both, "", "memory", Err("missing request for memory in container a of Pod p")),
            (&both, "z", "cpu", Err("container z not found in Pod p")),
            (&with_init, "", "cpu", Ok(1000)),
            (&with_init, "s", "cpu", Ok(500)),
            (&with_init, "i", "cpu", Err("container i not found in Pod p")),
            (&whole, "", "cpu", Ok(2000)),
            (&whole, "a", "cpu", Ok(500)),
            (&whole, "", "memory", Err("missing pod-level request for memory in Pod p")),
        ] {
            let got = requests(&[pod(spec.clone())], container, resource);
            let got = got.map(|r| r.values().copied().sum());
            assert_eq!(got, want.map_err(str::to_owned), "{spec} {container} {resource}");
        }
    }

    #[test]
    fn facts_of_a_pod() {
        let v = json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "startTime": "1970-01-01T00:00:05Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:07Z"}]}});
        let f = facts(&v);
        let at = |s| Timestamp::from_second(s).expect("time");
        assert_eq!((f.deleting, f.started), (false, Some(at(5))));
        assert_eq!(f.ready, Some(Ready { status: "True".into(), since: at(7) }));
        assert_eq!(facts(&json!({"metadata": {"name": "p"}})).ready, None);
    }
}
