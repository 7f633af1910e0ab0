//! Kinds of the core group.

use super::pod;
use super::row::{Row, condition, first_three, labels, len, list, or, shown, since, text};
use serde_json::Value;

pub fn kind(kind: &str) -> Option<super::Kind> {
    Some(match kind {
        "Pod" => (pod::COLUMNS, pod::cells),
        "Node" => (
            "Name:n,Status,Roles,Age,Version,Internal-IP:w,External-IP:w,OS-Image:w,Kernel-Version:w,Container-Runtime:w",
            node,
        ),
        "Service" => ("Name:n,Type,Cluster-IP,External-IP,Port(s),Age,Selector:w", service),
        "Namespace" => ("Name:n,Status,Age", |r| {
            r.name();
            r.text_at("status.phase", "");
            r.age();
        }),
        "ConfigMap" => ("Name:n,Data,Age", |r| {
            r.name();
            r.number(len(r.at("data")) + len(r.at("binaryData")));
            r.age();
        }),
        "Secret" => ("Name:n,Type,Data,Age", |r| {
            r.name();
            r.text_at("type", "");
            r.count_at("data");
            r.age();
        }),
        "ServiceAccount" => ("Name:n,Secrets,Age", |r| {
            r.name();
            r.count_at("secrets");
            r.age();
        }),
        "Endpoints" => ("Name:n,Endpoints,Age", endpoints),
        "Event" => {
            ("Last Seen,Type,Reason,Object,Subobject:w,Source:w,Message,First Seen:w,Count:w,Name:nw", event)
        }
        "ReplicationController" => {
            ("Name:n,Desired:i,Current:i,Ready:i,Age,Containers:w,Images:w,Selector:w", |r| {
                r.name();
                r.number_at("spec.replicas");
                r.number_at("status.replicas");
                r.number_at("status.readyReplicas");
                r.age();
                r.containers("spec.template.spec.containers");
                r.text(labels(r.at("spec.selector")));
            })
        }
        "PodTemplate" => ("Name:n,Containers,Images,Pod Labels", |r| {
            r.name();
            r.containers("template.spec.containers");
            r.text(labels(r.at("template.metadata.labels")));
        }),
        "ResourceQuota" => ("Name:n,Request,Limit,Age", quota),
        "PersistentVolume" => (
            "Name:n,Capacity,Access Modes,Reclaim Policy,Status,Claim,StorageClass,VolumeAttributesClass,Reason,Age,VolumeMode:w",
            volume,
        ),
        "PersistentVolumeClaim" => (
            "Name:n,Status,Volume,Capacity,Access Modes,StorageClass,VolumeAttributesClass,Age,VolumeMode:w",
            claim,
        ),
        "ComponentStatus" => ("Name:n,Status,Message,Error", |r| {
            r.name();
            let healthy = condition(r.at("conditions"), "Healthy");
            let status = match healthy.map(|c| text(c, "status")) {
                Some("True") => "Healthy",
                Some("False") => "Unhealthy",
                _ => "Unknown",
            };
            r.text(status);
            r.text(healthy.map_or("", |c| text(c, "message")));
            r.text(healthy.map_or("", |c| text(c, "error")));
        }),
        _ => return None,
    })
}

fn node(r: &mut Row) {
    r.name();
    let ready = match condition(r.at("status.conditions"), "Ready").map(|c| text(c, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let off = r.at("spec.unschedulable") == &Value::Bool(true);
    r.text(if off { format!("{ready},SchedulingDisabled") } else { ready.to_owned() });
    let mut roles: Vec<&str> = Vec::new();
    for (k, v) in r.at("metadata.labels").as_object().into_iter().flatten() {
        match k.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => roles.push(role),
            _ if k == "kubernetes.io/role" => roles.extend(v.as_str().filter(|s| !s.is_empty())),
            _ => {}
        }
    }
    roles.sort_unstable();
    roles.dedup();
    let roles = roles.join(",");
    r.text(or(&roles, "<none>"));
    r.age();
    r.text_at("status.nodeInfo.kubeletVersion", "");
    for kind in ["InternalIP", "ExternalIP"] {
        let found = list(r.at("status.addresses")).iter().find(|a| text(a, "type") == kind);
        r.text(found.map_or("<none>", |a| text(a, "address")));
    }
    for f in ["osImage", "kernelVersion", "containerRuntimeVersion"] {
        r.text_at(&format!("status.nodeInfo.{f}"), "<unknown>");
    }
}

/// Addresses of a load balancer's status: sorted, each once.
pub fn balancer(v: &Value) -> Vec<String> {
    let mut all: Vec<String> = list(v)
        .iter()
        .map(|i| or(text(i, "ip"), text(i, "hostname")).to_owned())
        .filter(|s| !s.is_empty())
        .collect();
    all.sort();
    all.dedup();
    all
}

fn service(r: &mut Row) {
    r.name();
    r.text_at("spec.type", "");
    let ip = list(r.at("spec.clusterIPs")).first().and_then(Value::as_str).unwrap_or(r.str("spec.clusterIP"));
    r.text(or(ip, "<none>"));
    let external: Vec<String> =
        list(r.at("spec.externalIPs")).iter().filter_map(|v| Some(v.as_str()?.to_owned())).collect();
    let shown = match r.str("spec.type") {
        "ExternalName" => r.str("spec.externalName").to_owned(),
        "LoadBalancer" => {
            let mut all = balancer(r.at("status.loadBalancer.ingress"));
            all.extend(external);
            or(&all.join(","), "<pending>").to_owned()
        }
        _ => or(&external.join(","), "<none>").to_owned(),
    };
    r.text(shown);
    let ports: Vec<String> = list(r.at("spec.ports"))
        .iter()
        .map(|p| {
            let (port, node) = (shown_int(p, "port"), shown_int(p, "nodePort"));
            let protocol = text(p, "protocol");
            if node == 0 { format!("{port}/{protocol}") } else { format!("{port}:{node}/{protocol}") }
        })
        .collect();
    r.text(or(&ports.join(","), "<none>"));
    r.age();
    r.text(labels(r.at("spec.selector")));
}
fn shown_int(v: &Value, f: &str) -> i64 {
    v.get(f).and_then(Value::as_i64).unwrap_or(0)
}

fn endpoints(r: &mut Row) {
    r.name();
    let mut all = Vec::new();
    for s in list(r.at("subsets")) {
        let addresses = s.get("addresses").map(list).unwrap_or_default();
        let ports = s.get("ports").map(list).unwrap_or_default();
        let join =
            |ip: &str, p: i64| if ip.contains(':') { format!("[{ip}]:{p}") } else { format!("{ip}:{p}") };
        if ports.is_empty() {
            all.extend(addresses.iter().map(|a| text(a, "ip").to_owned()));
        }
        for p in ports {
            all.extend(addresses.iter().map(|a| join(text(a, "ip"), shown_int(p, "port"))));
        }
    }
    r.text(if all.is_empty() { "<none>".to_owned() } else { first_three(&all) });
    r.age();
}

fn event(r: &mut Row) {
    // Both groups' names for the same fields.
    let pick = |r: &Row, fields: &[&str]| -> String {
        fields.iter().map(|f| shown(r.at(f))).find(|s| !s.is_empty()).unwrap_or_default()
    };
    let first = pick(r, &["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"]);
    let last = pick(r, &["series.lastObservedTime", "lastTimestamp", "deprecatedLastTimestamp"]);
    let last = if last.is_empty() { &first } else { &last };
    r.text(since(last, r.now));
    r.text_at("type", "");
    r.text_at("reason", "");
    let about = if r.at("involvedObject").is_null() { "regarding" } else { "involvedObject" };
    let target =
        format!("{}/{}", r.str(&format!("{about}.kind")).to_lowercase(), r.str(&format!("{about}.name")));
    r.text(target);
    r.text_at(&format!("{about}.fieldPath"), "");
    let component = pick(
        r,
        &["source.component", "deprecatedSource.component", "reportingComponent", "reportingController"],
    );
    let host = pick(r, &["source.host", "deprecatedSource.host", "reportingInstance"]);
    r.text(if host.is_empty() { component } else { format!("{component}, {host}") });
    let message = pick(r, &["message", "note"]);
    r.text(message.trim());
    r.text(since(&first, r.now));
    let count =
        ["series.count", "count", "deprecatedCount"].iter().map(|f| r.int(f)).find(|n| *n != 0).unwrap_or(1);
    r.number(count);
    r.name();
}

fn quota(r: &mut Row) {
    r.name();
    let used = r.at("status.used");
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (k, hard) in r.at("status.hard").as_object().into_iter().flatten() {
        let have = used.get(k).map_or_else(|| "0".to_owned(), shown);
        let text = format!("{k}: {have}/{}", shown(hard));
        if k.starts_with("limits.") { limits.push(text) } else { requests.push(text) }
    }
    r.text(requests.join(", "));
    r.text(limits.join(", "));
    r.age();
}

fn modes(v: &Value) -> String {
    let short = |m: &Value| match m.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    let all: Vec<&str> = list(v).iter().map(short).collect();
    // Upstream's order, each once.
    ["RWO", "ROX", "RWX", "RWOP"].into_iter().filter(|m| all.contains(m)).collect::<Vec<_>>().join(",")
}
fn phase(r: &mut Row) {
    if r.deleting() { r.text("Terminating") } else { r.text_at("status.phase", "") }
}
/// The old annotation wins over the field.
fn class(r: &Row) -> String {
    let old =
        r.at("metadata.annotations").get("volume.beta.kubernetes.io/storage-class").and_then(Value::as_str);
    old.unwrap_or(r.str("spec.storageClassName")).to_owned()
}

fn volume(r: &mut Row) {
    r.name();
    r.text(shown(r.at("spec.capacity.storage")));
    r.text(modes(r.at("spec.accessModes")));
    r.text_at("spec.persistentVolumeReclaimPolicy", "");
    phase(r);
    let claim = r.at("spec.claimRef");
    let text_ = if claim.is_null() {
        String::new()
    } else {
        format!("{}/{}", text(claim, "namespace"), text(claim, "name"))
    };
    r.text(text_);
    r.text(class(r));
    r.text_at("spec.volumeAttributesClassName", "<unset>");
    r.text_at("status.reason", "");
    r.age();
    r.text_at("spec.volumeMode", "<unset>");
}

fn claim(r: &mut Row) {
    r.name();
    phase(r);
    r.text_at("spec.volumeName", "");
    let bound = !r.str("spec.volumeName").is_empty();
    r.text(if bound { shown(r.at("status.capacity.storage")) } else { String::new() });
    r.text(if bound { modes(r.at("status.accessModes")) } else { String::new() });
    r.text(class(r));
    r.text_at("spec.volumeAttributesClassName", "<unset>");
    r.age();
    r.text_at("spec.volumeMode", "<unset>");
}
