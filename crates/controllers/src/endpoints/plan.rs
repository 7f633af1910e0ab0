//! From a Service and its pods to the endpoints that its slices should hold, pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Service, ServicePort};
use crate::pods::Pod;

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
    let status = &pod.view.status;
    (!status.pod_ip.is_empty() || !status.pod_ips.is_empty()) && !pod.is_finished()
}

pub fn addresses<'a>(pod: &'a Pod, family: &str) -> Vec<&'a str> {
    let v6 = family == "IPv6";
    let status = &pod.view.status;
    let all: Vec<&str> = match status.pod_ips.as_slice() {
        [] => vec![status.pod_ip.as_str()],
        ips => ips.iter().map(|p| p.ip.as_str()).collect(),
    };
    all.into_iter().filter(|ip| !ip.is_empty() && ip.contains(':') == v6).collect()
}

/// The pod's name in the service's domain, when it asks for one.
pub fn hostname<'a>(pod: &'a Pod, service: &str) -> Option<&'a str> {
    let s = &pod.view.spec;
    (!s.hostname.is_empty() && s.subdomain == service).then_some(s.hostname.as_str())
}

/// The families of a service; one that names none has the first.
pub fn families(s: &Service) -> Vec<&str> {
    if s.spec.ip_families.is_empty() {
        vec!["IPv4"]
    } else {
        s.spec.ip_families.iter().map(String::as_str).collect()
    }
}

/// Endpoints that serve the same ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub ports: Vec<Value>,
    pub endpoints: Vec<Value>,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Unknown,
    In(Option<String>),
}

/// What the slices of one family should hold, by ports; and whether a pod was left out since its node is not known.
pub fn desired(
    name: &str,
    s: &Service,
    pods: &[Pod],
    family: &str,
    node: impl Fn(&str) -> Node,
) -> (Vec<Group>, bool) {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut missing = false;
    for pod in pods.iter().filter(|p| included(p)) {
        let ips = addresses(pod, family);
        if ips.is_empty() {
            continue;
        }
        let zone = match pod.view.spec.node_name.as_str() {
            "" => None,
            n => match node(n) {
                Node::In(zone) => zone,
                // Whoever publishes what is not ready takes this too.
                Node::Unknown if s.spec.publish_not_ready_addresses => None,
                Node::Unknown => {
                    missing = true;
                    continue;
                }
            },
        };
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
        let group =
            groups.entry(json!(ports).to_string()).or_insert_with(|| Group { ports, endpoints: Vec::new() });
        group.endpoints.push(endpoint(name, s, pod, &ips, zone));
    }
    (groups.into_values().collect(), missing)
}

fn endpoint(service: &str, s: &Service, pod: &Pod, ips: &[&str], zone: Option<String>) -> Value {
    let terminating = pod.object.meta().is_deleting();
    let serving = pod.is_ready();
    let ready = s.spec.publish_not_ready_addresses || (serving && !terminating);
    let mut e = json!({ "addresses": ips,
        "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
        "targetRef": { "kind": "Pod", "namespace": pod.object.namespace(), "name": pod.object.name(), "uid": pod.object.uid() } });
    let node = pod.view.spec.node_name.as_str();
    if !node.is_empty() {
        e["nodeName"] = json!(node);
    }
    if let Some(zone) = &zone {
        e["zone"] = json!(zone);
    }
    if let Some(hostname) = hostname(pod, service) {
        e["hostname"] = json!(hostname);
    }
    if ready {
        hint(&mut e, s.spec.traffic_distribution.as_deref(), node, zone.as_deref());
    }
    e
}

/// Where a ready endpoint is best used, as the service wants its traffic to go.
fn hint(e: &mut Value, distribution: Option<&str>, node: &str, zone: Option<&str>) {
    if !matches!(distribution, Some("PreferClose" | "PreferSameZone" | "PreferSameNode")) {
        return;
    }
    if let Some(zone) = zone {
        e["hints"]["forZones"] = json!([{ "name": zone }]);
    }
    if !node.is_empty() && distribution == Some("PreferSameNode") {
        e["hints"]["forNodes"] = json!([{ "name": node }]);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use api::Object;

    pub fn pod(name: &str, ip: &str, ready: bool, deleting: bool) -> Pod {
        let mut v = json!({"metadata": {"name": name, "namespace": "d", "uid": name},
            "spec": {"nodeName": "n", "hostname": name, "subdomain": "web",
                "containers": [{"ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}, {"ip": "fd00::1"}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}});
        if deleting {
            v["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Pod::of(Object::from_value(v, 1).expect("object")).expect("pod")
    }

    pub fn service(spec: Value) -> Service {
        let mut v = json!({"spec": {"selector": {"a": "b"}, "ports": [{"protocol": "TCP", "port": 80, "targetPort": "web"}]}});
        for (k, x) in spec.as_object().into_iter().flatten() {
            v["spec"][k] = x.clone();
        }
        serde_json::from_value(v).expect("service")
    }

    fn zone_a(_: &str) -> Node {
        Node::In(Some("a".into()))
    }

    #[test]
    fn ports_conditions_names_and_zones() {
        let pods = [
            pod("a", "10.0.0.1", true, false),
            pod("b", "10.0.0.2", true, true),
            pod("c", "10.0.0.3", false, false),
        ];
        let (out, missing) = desired("web", &service(json!({})), &pods, "IPv4", zone_a);
        assert_eq!((out.len(), missing), (1, false));
        assert_eq!(out[0].ports[0]["port"], 8080);
        let conditions = |i: usize| out[0].endpoints[i]["conditions"].clone();
        assert_eq!(conditions(0), json!({"ready": true, "serving": true, "terminating": false}));
        assert_eq!(conditions(1), json!({"ready": false, "serving": true, "terminating": true}));
        assert_eq!(conditions(2), json!({"ready": false, "serving": false, "terminating": false}));
        assert_eq!(
            (&out[0].endpoints[0]["hostname"], &out[0].endpoints[0]["zone"]),
            (&json!("a"), &json!("a"))
        );
        assert!(out[0].endpoints[0].get("hints").is_none());
        // A name counts in its own service only.
        let (out, _) = desired("other", &service(json!({})), &pods, "IPv6", zone_a);
        assert_eq!(
            (out[0].endpoints[0].get("hostname"), &out[0].endpoints[0]["addresses"]),
            (None, &json!(["fd00::1"]))
        );
        let open = service(json!({"publishNotReadyAddresses": true}));
        let (out, _) = desired("web", &open, &pods, "IPv4", zone_a);
        assert!(out[0].endpoints.iter().all(|e| e["conditions"]["ready"] == true));
    }

    #[test]
    fn pods_of_unknown_nodes_wait_and_hints_follow_the_wish() {
        let pods = [pod("a", "10.0.0.1", true, false), pod("b", "10.0.0.2", false, false)];
        assert_eq!(desired("web", &service(json!({})), &pods, "IPv4", |_| Node::Unknown), (vec![], true));
        let open = service(json!({"publishNotReadyAddresses": true}));
        assert_eq!(desired("web", &open, &pods, "IPv4", |_| Node::Unknown).0[0].endpoints.len(), 2);
        let near = |how: &str| {
            desired("web", &service(json!({"trafficDistribution": how})), &pods, "IPv4", zone_a).0.remove(0)
        };
        assert_eq!(near("PreferSameZone").endpoints[0]["hints"], json!({"forZones": [{"name": "a"}]}));
        assert_eq!(
            near("PreferSameNode").endpoints[0]["hints"],
            json!({"forZones": [{"name": "a"}], "forNodes": [{"name": "n"}]})
        );
        assert!(near("PreferClose").endpoints[1].get("hints").is_none(), "only what is ready is hinted at");
    }
}
