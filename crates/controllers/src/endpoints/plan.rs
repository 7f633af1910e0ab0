//! From pods to endpoint slices, pure.

use std::collections::BTreeMap;

use api::Object;
use api::object::DecodeError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Service, ServicePort};
use crate::pods::Pod;

/// Endpoints a slice, as upstream.
const MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slice {
    pub address_type: String,
    #[serde(default, deserialize_with = "null_default")]
    pub endpoints: Vec<Value>,
    #[serde(default, deserialize_with = "null_default")]
    pub ports: Vec<Value>,
}

fn null_default<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<Value>, D::Error> {
    Ok(Option::<Vec<Value>>::deserialize(d)?.unwrap_or_default())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ports {
    spec: PortsSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PortsSpec {
    containers: Vec<ContainerPorts>,
    init_containers: Vec<ContainerPorts>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPorts {
    restart_policy: String,
    ports: Vec<NamedPort>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NamedPort {
    name: String,
    protocol: String,
    container_port: i64,
}

/// The number behind a target port on this pod; a name that the pod does not have leaves it out.
pub fn target(port: &ServicePort, pod: &Pod) -> Option<i64> {
    match &port.target_port {
        Value::Number(n) => n.as_i64(),
        Value::String(name) => {
            let v: Ports = pod.object.view().ok()?;
            let sidecars = v.spec.init_containers.into_iter().filter(|c| c.restart_policy == "Always");
            v.spec
                .containers
                .into_iter()
                .chain(sidecars)
                .flat_map(|c| c.ports)
                .find(|p| p.name == *name && (p.protocol == port.protocol || p.protocol.is_empty()))
                .map(|p| p.container_port)
        }
        _ => Some(port.port),
    }
}

/// Whether the pod belongs into the slices at all.
pub fn included(pod: &Pod) -> bool {
    !pod.view.status.pod_ip.is_empty() && !pod.is_finished()
}

pub fn addresses<'a>(pod: &'a Pod, family: &str) -> Vec<&'a str> {
    let v6 = family == "IPv6";
    let all = pod.view.status.pod_ips.iter().map(|p| p.ip.as_str());
    let found: Vec<&str> = all.filter(|ip| ip.contains(':') == v6).collect();
    if found.is_empty() && pod.view.status.pod_ip.contains(':') == v6 && !pod.view.status.pod_ip.is_empty() {
        return vec![pod.view.status.pod_ip.as_str()];
    }
    found
}

fn endpoint(s: &Service, pod: &Pod, ip: &str, zone: Option<String>) -> Value {
    let terminating = pod.object.meta().is_deleting();
    let serving = pod.is_ready();
    let ready = s.spec.publish_not_ready_addresses || (serving && !terminating);
    let mut e = json!({ "addresses": [ip],
        "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
        "targetRef": { "kind": "Pod", "namespace": pod.object.namespace(), "name": pod.object.name(), "uid": pod.object.uid() } });
    if !pod.view.spec.node_name.is_empty() {
        e["nodeName"] = json!(pod.view.spec.node_name);
    }
    if let Some(zone) = zone {
        e["zone"] = json!(zone);
    }
    if !pod.view.spec.hostname.is_empty() && !pod.view.spec.subdomain.is_empty() {
        e["hostname"] = json!(pod.view.spec.hostname);
    }
    e
}

/// Slices as they should be: one group per address family and set of target ports, in a stable order, cut at 100.
pub fn slices(s: &Service, pods: &[Pod], zone: impl Fn(&str) -> Option<String>) -> Vec<Slice> {
    let default = vec!["IPv4".to_owned()];
    let families = if s.spec.ip_families.is_empty() { &default } else { &s.spec.ip_families };
    let mut out = Vec::new();
    for family in families {
        let mut groups: BTreeMap<String, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
        for pod in pods.iter().filter(|p| included(p)) {
            let ports: Vec<Value> = s
                .spec
                .ports
                .iter()
                .filter_map(|p| {
                    let mut v = json!({ "name": p.name, "protocol": p.protocol, "port": target(p, pod)? });
                    if let Some(app) = &p.app_protocol {
                        v["appProtocol"] = json!(app);
                    }
                    Some(v)
                })
                .collect();
            let group = groups.entry(json!(ports).to_string()).or_insert_with(|| (ports, Vec::new()));
            for ip in addresses(pod, family).into_iter().take(1) {
                group.1.push(endpoint(s, pod, ip, zone(&pod.view.spec.node_name)));
            }
        }
        groups.retain(|_, (_, endpoints)| !endpoints.is_empty());
        if groups.is_empty() {
            // A placeholder, so that a service without pods is known to have none.
            out.push(Slice { address_type: family.clone(), endpoints: Vec::new(), ports: Vec::new() });
        }
        for (ports, mut endpoints) in groups.into_values() {
            endpoints.sort_by(|a, b| a["targetRef"]["name"].as_str().cmp(&b["targetRef"]["name"].as_str()));
            for chunk in endpoints.chunks(MAX) {
                out.push(Slice {
                    address_type: family.clone(),
                    endpoints: chunk.to_vec(),
                    ports: ports.clone(),
                });
            }
        }
    }
    out
}

#[derive(Debug, Default)]
pub struct Steps {
    pub create: Vec<Slice>,
    pub update: Vec<(Object, Slice)>,
    pub delete: Vec<Object>,
}

/// The fewest writes: slices that are right stay, others of the same family are rewritten, the rest made or deleted.
pub fn difference(existing: &[Object], wanted: Vec<Slice>) -> Result<Steps, DecodeError> {
    let mut have: Vec<(Object, Slice)> = Vec::with_capacity(existing.len());
    for o in existing {
        let mut slice: Slice = o.view()?;
        slice.endpoints.iter_mut().for_each(normalise);
        have.push((o.clone(), slice));
    }
    let mut steps = Steps::default();
    let mut missing = Vec::new();
    for slice in wanted {
        match have.iter().position(|(_, h)| *h == slice) {
            Some(i) => {
                have.remove(i);
            }
            None => missing.push(slice),
        }
    }
    for slice in missing {
        // The same ports first, so that a changed endpoint stays in its slice.
        let same = |h: &Slice| h.address_type == slice.address_type;
        let found = have
            .iter()
            .position(|(_, h)| same(h) && h.ports == slice.ports)
            .or_else(|| have.iter().position(|(_, h)| same(h)));
        match found {
            Some(i) => steps.update.push((have.remove(i).0, slice)),
            None => steps.create.push(slice),
        }
    }
    steps.delete = have.into_iter().map(|(o, _)| o).collect();
    Ok(steps)
}

/// Conditions that the API leaves out when false are compared as false.
fn normalise(e: &mut Value) {
    for c in ["ready", "serving", "terminating"] {
        if e["conditions"][c].is_null() {
            e["conditions"][c] = json!(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ip: &str, ready: bool, deleting: bool) -> Pod {
        let mut v = json!({"metadata": {"name": name, "namespace": "d", "uid": name},
            "spec": {"nodeName": "n", "containers": [{"ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        if deleting {
            v["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Pod::of(Object::from_value(v, 1).expect("object")).expect("pod")
    }

    fn service(port: Value) -> Service {
        serde_json::from_value(json!({"spec": {"selector": {"a": "b"}, "ports": [{"protocol": "TCP", "port": 80, "targetPort": port}]}}))
            .expect("service")
    }

    #[test]
    fn named_ports_conditions_and_placeholder() {
        let s = service(json!("web"));
        let out =
            slices(&s, &[pod("a", "10.0.0.1", true, false), pod("b", "10.0.0.2", true, true)], |_| None);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].ports[0]["port"], 8080);
        assert_eq!(
            out[0].endpoints[0]["conditions"],
            json!({"ready": true, "serving": true, "terminating": false})
        );
        assert_eq!(
            out[0].endpoints[1]["conditions"],
            json!({"ready": false, "serving": true, "terminating": true})
        );
        let none = slices(&s, &[], |_| None);
        assert_eq!((none.len(), none[0].endpoints.len()), (1, 0));
    }

    #[test]
    fn many_endpoints_are_cut_and_right_slices_left_alone() {
        let s = service(json!(80));
        let pods: Vec<Pod> =
            (0..250).map(|i| pod(&format!("p{i:03}"), &format!("10.0.1.{i}"), true, false)).collect();
        let out = slices(&s, &pods, |_| None);
        assert_eq!(out.iter().map(|s| s.endpoints.len()).collect::<Vec<_>>(), [100, 100, 50]);
        let existing: Vec<Object> = out
            .iter()
            .enumerate()
            .map(|(i, s)| {
                let mut v = serde_json::to_value(s).expect("value");
                v["metadata"] = json!({"name": format!("s{i}")});
                Object::from_value(v, 1).expect("object")
            })
            .collect();
        let steps = difference(&existing, slices(&s, &pods[..249], |_| None)).expect("steps");
        assert_eq!((steps.create.len(), steps.update.len(), steps.delete.len()), (0, 1, 0));
    }
}
