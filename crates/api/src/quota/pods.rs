//! What a pod asks for, and what of it counts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{List, Scope, add, list, one};

/// Counted of pods, besides huge pages and extended resources.
const NAMES: [&str; 11] = [
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "count/pods",
];
/// A quota on one of these makes every container state it.
const DEMANDED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(super) fn counts_against(name: &str) -> bool {
    NAMES.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || (!is_native(name) && name.starts_with("requests."))
}

fn items<'a>(spec: &'a Value, field: &str) -> &'a [Value] {
    spec[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn raise(into: &mut List, other: &List) {
    for (k, q) in other {
        into.entry(k.clone()).and_modify(|x| *x = (*x).max(*q)).or_insert(*q);
    }
}

/// The sum over containers and sidecars, or what the init phase needs at its height, whichever is more.
fn total(spec: &Value, which: &str) -> List {
    let of = |c: &Value| list(&c["resources"][which]);
    let mut sum = items(spec, "containers").iter().fold(List::new(), |acc, c| add(&acc, &of(c)));
    let mut sidecars = List::new();
    let mut height = List::new();
    for c in items(spec, "initContainers") {
        let mine = of(c);
        if c["restartPolicy"] == "Always" {
            sum = add(&sum, &mine);
            sidecars = add(&sidecars, &mine);
            raise(&mut height, &sidecars);
        } else {
            raise(&mut height, &add(&mine, &sidecars));
        }
    }
    raise(&mut sum, &height);
    // What is said for the pod as a whole wins.
    for (k, q) in list(&spec["resources"][which]) {
        sum.insert(k, q);
    }
    sum
}

/// What the pod asks for, overhead included.
pub fn requests(pod: &Value) -> List {
    add(&total(&pod["spec"], "requests"), &list(&pod["spec"]["overhead"]))
}

/// The same as quotas count it: of a container that is being resized the most of what it asks for, was granted and has.
fn held(pod: &Value) -> List {
    let mut spec = pod["spec"].clone();
    for (containers, statuses) in
        [("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")]
    {
        for c in spec[containers].as_array_mut().into_iter().flatten() {
            let Some(st) = items(&pod["status"], statuses).iter().find(|s| s["name"] == c["name"]) else {
                continue;
            };
            let mut most = list(&c["resources"]["requests"]);
            raise(&mut most, &list(&st["allocatedResources"]));
            raise(&mut most, &list(&st["resources"]["requests"]));
            if !most.is_empty() {
                c["resources"]["requests"] = super::to_value(&most);
            }
        }
    }
    add(&total(&spec, "requests"), &list(&pod["spec"]["overhead"]))
}

/// The pod's limits; overhead is added where there is a limit.
pub fn limits(pod: &Value) -> List {
    let mut out = total(&pod["spec"], "limits");
    for (k, q) in list(&pod["spec"]["overhead"]) {
        out.entry(k).and_modify(|x| *x += q);
    }
    out
}

/// Requests and limits under the names that quotas use.
fn compute(requests: &List, limits: &List) -> List {
    let mut out = List::from([("pods".to_owned(), one())]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(q) = requests.get(name) {
            out.insert(name.into(), *q);
            out.insert(format!("requests.{name}"), *q);
        }
        if let Some(q) = limits.get(name) {
            out.insert(format!("limits.{name}"), *q);
        }
    }
    for (k, q) in requests {
        if k.starts_with("hugepages-") {
            out.insert(k.clone(), *q);
            out.insert(format!("requests.{k}"), *q);
        } else if !is_native(k) && !k.starts_with("requests.") {
            out.insert(format!("requests.{k}"), *q);
        }
    }
    out
}

pub(super) fn usage(pod: &Value, now: i64, out: &mut List) {
    if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) || overdue(pod, now) {
        return;
    }
    let more = compute(&held(pod), &limits(pod));
    out.extend(more);
}

/// Being deleted, and past its grace period: perhaps its node is lost.
fn overdue(pod: &Value, now: i64) -> bool {
    let m = &pod["metadata"];
    let (Some(at), Some(grace)) = (m["deletionTimestamp"].as_str(), m["deletionGracePeriodSeconds"].as_i64())
    else {
        return false;
    };
    at.parse::<jiff::Timestamp>().is_ok_and(|t| now > t.as_second().saturating_add(grace))
}

pub(super) fn constraints(required: &[String], pod: &Value) -> Result<(), String> {
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let spec = &pod["spec"];
    let stated_for_pod = compute(&list(&spec["resources"]["requests"]), &list(&spec["resources"]["limits"]));
    for c in items(spec, "containers").iter().chain(items(spec, "initContainers")) {
        let stated = compute(&list(&c["resources"]["requests"]), &list(&c["resources"]["limits"]));
        for name in required.iter().filter(|r| DEMANDED.contains(&r.as_str())) {
            if !stated.contains_key(name) && !stated_for_pod.contains_key(name) {
                missing.entry(name).or_default().insert(c["name"].as_str().unwrap_or_default());
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let parts: Vec<String> = missing
        .into_iter()
        .map(|(r, containers)| format!("{r} for: {}", containers.into_iter().collect::<Vec<_>>().join(",")))
        .collect();
    Err(format!("must specify {}", parts.join("; ")))
}

/// No container (nor the pod) asks for CPU or memory.
pub fn quality_is_best_effort(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let states = |r: &Value| {
        ["requests", "limits"]
            .iter()
            .any(|w| list(&r[*w]).iter().any(|(k, q)| matches!(k.as_str(), "cpu" | "memory") && q.sign() > 0))
    };
    !states(&spec["resources"])
        && !items(spec, "containers")
            .iter()
            .chain(items(spec, "initContainers"))
            .any(|c| states(&c["resources"]))
}

fn crosses_namespaces(spec: &Value) -> bool {
    let term = |t: &Value| !items(t, "namespaces").is_empty() || t["namespaceSelector"].is_object();
    ["podAffinity", "podAntiAffinity"].iter().any(|a| {
        let a = &spec["affinity"][*a];
        items(a, "requiredDuringSchedulingIgnoredDuringExecution").iter().any(term)
            || items(a, "preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|w| term(&w["podAffinityTerm"]))
    })
}

pub(super) fn in_scope(scope: &Scope, pod: &Value) -> bool {
    let spec = &pod["spec"];
    let ends = spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0);
    match scope.name.as_str() {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => quality_is_best_effort(pod),
        "NotBestEffort" => !quality_is_best_effort(pod),
        "PriorityClass" => scope.chooses(spec["priorityClassName"].as_str().filter(|c| !c.is_empty())),
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        _ => false,
    }
}
