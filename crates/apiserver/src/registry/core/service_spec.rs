//! The pure half of Services: addresses and ports as their author left them, brought into shape before allocation.

use serde_json::{Map, Value, json};

pub fn spec(v: &Value) -> &Value {
    &v["spec"]
}

pub fn service_type(v: &Value) -> &str {
    match v["spec"]["type"].as_str() {
        None | Some("") => "ClusterIP",
        Some(t) => t,
    }
}

pub fn texts(v: &Value) -> Vec<String> {
    v.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub fn cluster_ips(v: &Value) -> Vec<String> {
    texts(&v["spec"]["clusterIPs"])
}

pub fn is_headless(v: &Value) -> bool {
    v["spec"]["clusterIP"] == "None"
}

pub fn needs_cluster_ip(v: &Value) -> bool {
    service_type(v) != "ExternalName"
}

pub fn needs_node_ports(v: &Value) -> bool {
    match service_type(v) {
        "NodePort" => true,
        "LoadBalancer" => v["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

pub fn needs_health_port(v: &Value) -> bool {
    service_type(v) == "LoadBalancer" && v["spec"]["externalTrafficPolicy"] == "Local"
}

fn spec_mut(v: &mut Value) -> Option<&mut Map<String, Value>> {
    v.get_mut("spec")?.as_object_mut()
}

fn set(v: &mut Value, key: &str, value: Value) {
    if let Some(s) = spec_mut(v) {
        if value.is_null() {
            s.remove(key);
        } else {
            s.insert(key.into(), value);
        }
    }
}

/// `clusterIP` and `clusterIPs` say the same.
pub fn normalize(new: &mut Value, old: Option<&Value>) {
    let single = new["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    let many = cluster_ips(new);
    match old {
        None => {
            if !single.is_empty() && many.is_empty() {
                set(new, "clusterIPs", json!([single]));
            }
        }
        Some(old) => {
            let old_single = old["spec"]["clusterIP"].as_str().unwrap_or_default();
            let old_many = cluster_ips(old);
            // Only the old field was changed: the new one follows.
            if single != old_single && many == old_many {
                if single.is_empty() {
                    set(new, "clusterIPs", Value::Null);
                } else {
                    let mut all = many;
                    match all.first_mut() {
                        Some(first) => *first = single,
                        None => all.push(single),
                    }
                    set(new, "clusterIPs", json!(all));
                }
            }
        }
    }
}

/// An update that leaves out what was allocated keeps it, as long as the type still has it.
pub fn keep_allocated(new: &mut Value, old: &Value) {
    let (n, o) = (service_type(new).to_owned(), service_type(old).to_owned());
    if n != "ExternalName" && o != "ExternalName" {
        if new["spec"]["clusterIP"].as_str().unwrap_or_default().is_empty() && cluster_ips(new).is_empty() {
            set(new, "clusterIP", old["spec"]["clusterIP"].clone());
            set(new, "clusterIPs", old["spec"]["clusterIPs"].clone());
        }
        for k in ["ipFamilies", "ipFamilyPolicy"] {
            if new["spec"].get(k).is_none_or(Value::is_null) {
                set(new, k, old["spec"][k].clone());
            }
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        let known: Vec<(Value, Value, Value)> = ports(old)
            .iter()
            .map(|p| (p["port"].clone(), p["protocol"].clone(), p["nodePort"].clone()))
            .collect();
        let used: Vec<Value> = ports(new).iter().map(|p| p["nodePort"].clone()).collect();
        for p in ports_mut(new) {
            if p["nodePort"].as_i64().unwrap_or(0) == 0
                && let Some((_, _, np)) =
                    known.iter().find(|(port, proto, _)| *port == p["port"] && *proto == p["protocol"])
                && !np.is_null()
                && !used.contains(np)
            {
                p["nodePort"] = np.clone();
            }
        }
    }
    if needs_health_port(old)
        && needs_health_port(new)
        && new["spec"]["healthCheckNodePort"].as_i64().unwrap_or(0) == 0
    {
        set(new, "healthCheckNodePort", old["spec"]["healthCheckNodePort"].clone());
    }
}

/// What a change of type leaves behind.
pub fn drop_unused(new: &mut Value, old: Option<&Value>) {
    if service_type(new) == "ExternalName" {
        if old.is_some_and(|o| service_type(o) != "ExternalName") {
            for k in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
                set(new, k, Value::Null);
            }
        }
        if let Some(s) = spec_mut(new) {
            s.remove("internalTrafficPolicy");
        }
    }
    if let Some(old) = old {
        let same_ports = |a: &Value, b: &Value| {
            let nps =
                |v: &Value| -> Vec<i64> { ports(v).iter().filter_map(|p| p["nodePort"].as_i64()).collect() };
            nps(a) == nps(b)
        };
        if needs_node_ports(old) && !needs_node_ports(new) && same_ports(new, old) {
            for p in ports_mut(new) {
                if let Some(m) = p.as_object_mut() {
                    m.remove("nodePort");
                }
            }
        }
        if needs_health_port(old) && !needs_health_port(new) {
            set(new, "healthCheckNodePort", Value::Null);
        }
        let reaches_out = |v: &Value| {
            matches!(service_type(v), "NodePort" | "LoadBalancer")
                || (service_type(v) == "ClusterIP" && !texts(&v["spec"]["externalIPs"]).is_empty())
        };
        let same_policy = new["spec"]["externalTrafficPolicy"] == old["spec"]["externalTrafficPolicy"];
        if reaches_out(old) && !reaches_out(new) && same_policy {
            set(new, "externalTrafficPolicy", Value::Null);
        }
        if service_type(old) == "LoadBalancer" && service_type(new) != "LoadBalancer" {
            set(new, "allocateLoadBalancerNodePorts", Value::Null);
            set(new, "loadBalancerClass", Value::Null);
        }
    }
}

pub fn ports(v: &Value) -> &[Value] {
    v["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default()
}

pub fn ports_mut(v: &mut Value) -> impl Iterator<Item = &mut Value> {
    v.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten()
}

/// Node ports in use, the health check's included.
pub fn node_ports(v: &Value) -> Vec<u16> {
    let mut out: Vec<u16> = ports(v)
        .iter()
        .filter_map(|p| p["nodePort"].as_u64())
        .chain(v["spec"]["healthCheckNodePort"].as_u64())
        .filter_map(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0)
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// Addresses that an IPAddress object stands for.
pub fn allocated_ips(v: &Value) -> Vec<String> {
    if !needs_cluster_ip(v) {
        return Vec::new();
    }
    cluster_ips(v).into_iter().filter(|ip| ip != "None" && !ip.is_empty()).collect()
}

/// Families and policy, from what the author said and what the cluster has. `Err`: field and message.
pub fn families(new: &mut Value, cluster: &[&'static str]) -> Result<(), (&'static str, String)> {
    if !needs_cluster_ip(new) {
        return Ok(());
    }
    let headless = is_headless(new);
    let selectorless = new["spec"]["selector"].as_object().is_none_or(Map::is_empty);
    let given = texts(&new["spec"]["ipFamilies"]);
    let ips: Vec<std::net::IpAddr> = cluster_ips(new).iter().filter_map(|s| s.parse().ok()).collect();
    let mut policy = new["spec"]["ipFamilyPolicy"].as_str().unwrap_or_default().to_owned();
    let mut all: Vec<String> = given.clone();
    for ip in ips.iter().skip(all.len()) {
        all.push(super::cidr::family(*ip).to_owned());
    }
    if policy.is_empty() {
        let open = headless && selectorless && all.len() < 2 && given.is_empty();
        let both = open || all.len() == 2 || ips.len() == 2;
        policy = if both { "RequireDualStack" } else { "SingleStack" }.to_owned();
    }
    if all.is_empty() {
        all.push(cluster.first().copied().unwrap_or("IPv4").to_owned());
    }
    let other = |f: &str| if f == "IPv4" { "IPv6" } else { "IPv4" };
    if all.len() == 1 && policy != "SingleStack" {
        let second = other(all.first().map(String::as_str).unwrap_or_default());
        if cluster.contains(&second) || (headless && selectorless) {
            all.push(second.to_owned());
        } else if policy == "RequireDualStack" {
            return Err((
                "spec.ipFamilyPolicy",
                "Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services"
                    .into(),
            ));
        }
    }
    if policy == "SingleStack" {
        all.truncate(1);
    }
    if !(headless && selectorless) {
        for (i, f) in all.iter().enumerate() {
            if !cluster.contains(&f.as_str()) {
                let _ = i;
                return Err((
                    "spec.ipFamilies",
                    format!("Invalid value: \"{f}\": not configured on this cluster"),
                ));
            }
        }
    }
    set(new, "ipFamilies", json!(all));
    set(new, "ipFamilyPolicy", json!(policy));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_follow_policy_and_cluster() {
        let mut v = json!({"spec": {"selector": {"a": "b"}}});
        families(&mut v, &["IPv4"]).expect("ok");
        assert_eq!(
            (&v["spec"]["ipFamilies"], &v["spec"]["ipFamilyPolicy"]),
            (&json!(["IPv4"]), &json!("SingleStack"))
        );
        let mut v = json!({"spec": {"ipFamilyPolicy": "PreferDualStack", "selector": {"a": "b"}}});
        families(&mut v, &["IPv4", "IPv6"]).expect("ok");
        assert_eq!(v["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
        let mut v = json!({"spec": {"ipFamilyPolicy": "RequireDualStack", "selector": {"a": "b"}}});
        assert!(families(&mut v, &["IPv4"]).is_err());
        let mut v = json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
        families(&mut v, &["IPv4"]).expect("ok");
        assert_eq!(v["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    }

    #[test]
    fn updates_keep_what_was_allocated() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}});
        keep_allocated(&mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.5"]));
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
        let mut plain = old.clone();
        plain["spec"]["type"] = json!("ClusterIP");
        drop_unused(&mut plain, Some(&old));
        assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
        let mut ext = json!({"spec": {"type": "ExternalName", "externalName": "x", "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"]}});
        drop_unused(&mut ext, Some(&old));
        assert!(ext["spec"].get("clusterIP").is_none());
    }

    #[test]
    fn one_address_field_follows_the_other() {
        let mut v = json!({"spec": {"clusterIP": "None"}});
        normalize(&mut v, None);
        assert_eq!(v["spec"]["clusterIPs"], json!(["None"]));
    }
}
