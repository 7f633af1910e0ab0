//! `fieldRef` and `resourceFieldRef`: values of the pod itself, for env and downward API files. Pure.

use crate::pod::{Container, Pod, Quantities, ResourceFieldRef};
use crate::quantity;

/// What of the node a field may ask for.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    pub host_ips: Vec<String>,
    pub allocatable: Quantities,
}

/// The value at `path`, `None` for a path that is no field.
pub fn field(pod: &Pod, path: &str, pod_ips: &[String], node: &NodeFacts) -> Option<String> {
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &pod.metadata.labels,
            "metadata.annotations" => &pod.metadata.annotations,
            _ => return None,
        };
        return Some(map.get(key).cloned().unwrap_or_default());
    }
    Some(match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "metadata.labels" => lines(&pod.metadata.labels),
        "metadata.annotations" => lines(&pod.metadata.annotations),
        "spec.nodeName" => pod.spec.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "status.hostIP" => node.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => node.host_ips.join(","),
        "status.podIP" => pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => pod_ips.join(","),
        _ => return None,
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn lines(map: &std::collections::BTreeMap<String, String>) -> String {
    map.iter().map(|(k, v)| format!("{k}={}", quote(v))).collect::<Vec<_>>().join("\n")
}

/// Go's `%q`.
fn quote(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A limit or request of a container; a limit that is not set is the node's.
pub fn resource(
    pod: &Pod,
    own: &Container,
    r: &ResourceFieldRef,
    node: &NodeFacts,
) -> Result<String, String> {
    let c = match r.container_name.as_str() {
        "" => own,
        name => &pod.container(name).ok_or_else(|| format!("container {name} not found"))?.1.clone(),
    };
    let (list, res) = r
        .resource
        .split_once('.')
        .ok_or_else(|| format!("unsupported container resource : {}", r.resource))?;
    let value = match list {
        "limits" => c.resources.limits.get(res).or_else(|| node.allocatable.get(res)),
        "requests" => c.resources.requests.get(res),
        _ => return Err(format!("unsupported container resource : {}", r.resource)),
    };
    let value = value.map_or("0", |q| q.0.as_str());
    Ok(quantity::divided(value, &r.divisor.0).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"a": "x\"y", "b": "2"}},
            "spec": {"nodeName": "w", "containers": [{"name": "c", "resources": {"limits": {"memory": "64Mi"}}}]}
        }))
        .expect("pod");
        let node = NodeFacts {
            host_ips: vec!["10.0.0.1".into()],
            allocatable: [("cpu".to_owned(), crate::pod::Qty("2".into()))].into(),
        };
        let ips = ["10.1.0.2".to_owned(), "fd::2".to_owned()];
        for (path, want) in [
            ("metadata.name", Some("p")),
            ("metadata.labels['b']", Some("2")),
            ("metadata.labels['z']", Some("")),
            ("metadata.labels", Some("a=\"x\\\"y\"\nb=\"2\"")),
            ("status.podIPs", Some("10.1.0.2,fd::2")),
            ("status.hostIP", Some("10.0.0.1")),
            ("spec.nope", None),
        ] {
            assert_eq!(field(&pod, path, &ips, &node).as_deref(), want, "{path}");
        }
        let c = &pod.spec.containers[0];
        let r = |res: &str, div: &str| ResourceFieldRef {
            resource: res.into(),
            divisor: crate::pod::Qty(div.into()),
            ..Default::default()
        };
        assert_eq!(resource(&pod, c, &r("limits.memory", "1Mi"), &node).as_deref(), Ok("64"));
        assert_eq!(resource(&pod, c, &r("limits.cpu", "1m"), &node).as_deref(), Ok("2000"));
        assert_eq!(resource(&pod, c, &r("requests.cpu", ""), &node).as_deref(), Ok("0"));
    }
}
