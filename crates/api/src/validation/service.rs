//! Service: ports, types, addresses and their families.

use super::at::At;
use super::common::{format, non_special_ip, one_of, optional_format, optional_one_of, port};
use super::errors::{ErrorList, same};
use super::internal::Internal;
use super::path::Path;
use super::{meta, names};
use serde_json::Value;
use std::collections::HashSet;

const ONCE_SET: &str = "may not change once set";
const ONLY_LB: &str = "may only be used when `type` is 'LoadBalancer'";

fn headless(spec: &At) -> bool {
    spec.get("clusterIPs").list() == ["None"]
}
fn kind<'v>(spec: &At<'v, '_>) -> &'v str {
    spec.s("type")
}
fn externally_accessible(spec: &At) -> bool {
    matches!(kind(spec), "LoadBalancer" | "NodePort")
        || (kind(spec) == "ClusterIP" && !spec.get("externalIPs").is_empty())
}
fn needs_health_check(spec: &At) -> bool {
    kind(spec) == "LoadBalancer" && spec.s("externalTrafficPolicy") == "Local"
}

/// A new service, before addresses and ports are allocated.
pub fn create(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let ports = spec.get("ports");
    if ports.is_empty() && !headless(&spec) && kind(&spec) != "ExternalName" {
        e.required(&ports, "");
    }
    by_type(&spec, e);
    let mut seen = HashSet::new();
    for p in ports.iter() {
        service_port(&p, ports.len() > 1, &mut seen, e);
    }
    meta::labels(&spec.get("selector"), e);
    affinity(&spec, e);
    cluster_ips(&spec, e);
    for ip in spec.get("externalIPs").iter() {
        let wrong = names::ip(ip.str());
        if wrong.is_empty() {
            non_special_ip(&ip, ip.str(), e);
        }
        e.each(&ip, ip.str(), wrong);
    }
    one_of(&spec.get("type"), &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], e);
    let (mut node_ports, mut numbers) = (HashSet::new(), HashSet::new());
    for p in ports.iter() {
        let (protocol, node_port) = (p.s("protocol"), p.i("nodePort").unwrap_or(0));
        if node_port != 0 {
            if kind(&spec) == "ClusterIP" {
                e.forbidden(&p.at("nodePort"), "may not be used when `type` is 'ClusterIP'");
            }
            if !node_ports.insert((protocol, node_port)) {
                e.duplicate(&p.at("nodePort"), node_port);
            }
        }
    }
    for p in ports.iter() {
        let (protocol, number) = (p.s("protocol"), p.i("port").unwrap_or(0));
        if !numbers.insert((protocol, number)) {
            // Upstream shows what makes the two alike, and the zero of everything else.
            let alike = serde_json::json!({"protocol": protocol, "port": number});
            e.duplicate(&p, Internal("ServicePort", &alike));
        }
    }
    load_balancer(&root, &spec, e);
    external_traffic(&spec, e);
    let internal = spec.get("internalTrafficPolicy");
    if internal.is_null() && matches!(kind(&spec), "NodePort" | "LoadBalancer" | "ClusterIP") {
        e.required(&internal, "");
    }
    optional_one_of(&internal, &["Cluster", "Local"], e);
    let distribution = spec.get("trafficDistribution");
    optional_one_of(&distribution, &["PreferClose", "PreferSameZone", "PreferSameNode"], e);
}

fn by_type(spec: &At, e: &mut ErrorList) {
    match kind(spec) {
        t @ ("LoadBalancer" | "NodePort") if headless(spec) => {
            let ips = spec.get("clusterIPs");
            e.invalid(&ips.p.index(0), "None", &format!("may not be set to 'None' for {t} services"));
        }
        "ExternalName" => {
            for f in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let v = spec.get(f);
                if !v.is_empty() || !v.str().is_empty() {
                    e.forbidden(&v, "may not be set for ExternalName services");
                }
            }
            let name = spec.get("externalName");
            let cname = name.str().strip_suffix('.').unwrap_or(name.str());
            if cname.is_empty() {
                e.required(&name, "");
            } else {
                e.each(&name, cname, names::dns1123_subdomain(cname));
            }
        }
        _ => {}
    }
}

fn service_port<'v>(p: &At<'v, '_>, many: bool, seen: &mut HashSet<&'v str>, e: &mut ErrorList) {
    let name = p.get("name");
    if name.str().is_empty() {
        if many {
            e.required(&name, "");
        }
    } else {
        format(&name, names::dns1123_label, e);
        if !seen.insert(name.v.as_str().unwrap_or_default()) {
            e.duplicate(&name, name.str());
        }
    }
    let n = p.i("port").unwrap_or(0);
    e.each(&p.at("port"), n, names::port_number(n));
    one_of(&p.get("protocol"), &["SCTP", "TCP", "UDP"], e);
    port(&p.get("targetPort"), e);
    let app = p.get("appProtocol");
    if !app.is_null() {
        format(&app, names::qualified_name, e);
    }
}

fn affinity(spec: &At, e: &mut ErrorList) {
    let kind = spec.get("sessionAffinity");
    one_of(&kind, &["ClientIP", "None"], e);
    let config = spec.get("sessionAffinityConfig");
    match kind.str() {
        "ClientIP" => {
            let why = "when session affinity type is ClientIP";
            let client = config.get("clientIP");
            let timeout = client.get("timeoutSeconds");
            if config.is_null() {
                e.required(&config, why);
            } else if client.is_null() {
                e.required(&client, why);
            } else if let Some(t) = timeout.int() {
                if t <= 0 || t > 86_400 {
                    e.bad(&timeout, "must be greater than 0 and less than 86400");
                }
            } else {
                e.required(&timeout, why);
            }
        }
        "None" if !config.is_null() => {
            e.forbidden(&config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn cluster_ips(spec: &At, e: &mut ErrorList) {
    if kind(spec) == "ExternalName" {
        return;
    }
    let (ips, families) = (spec.get("clusterIPs"), spec.get("ipFamilies"));
    let first = ips.list().first().and_then(Value::as_str);
    match (spec.s("clusterIP"), first) {
        ("", Some(_)) => e.bad(&ips, "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => e.required(&ips, ""),
        (ip, Some(f)) if ip != f => e.bad(&ips, "first value must match `clusterIP`"),
        _ => {}
    }
    let mut seen = HashSet::new();
    for f in families.iter() {
        optional_one_of(&f, &["IPv4", "IPv6"], e);
        if !seen.insert(f.str()) {
            e.duplicate(&f, f.str());
        }
    }
    optional_one_of(&spec.get("ipFamilyPolicy"), &["PreferDualStack", "RequireDualStack", "SingleStack"], e);
    let mut invalid = false;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && ip.str() == "None" {
            if ips.len() > 1 {
                invalid = true;
                e.bad(&ips, "'None' must be the first and only value");
            }
            continue;
        }
        let wrong = names::ip(ip.str());
        invalid |= !wrong.is_empty();
        e.each(&ip, ip.str(), wrong);
    }
    if ips.len() > 2 {
        e.bad(&ips, "may only hold up to 2 values");
    }
    if invalid {
        return;
    }
    let parsed: Vec<std::net::IpAddr> =
        ips.list().iter().filter_map(|v| names::parse_ip(v.as_str()?)).collect();
    if parsed.len() > 1 && !(parsed.iter().any(|i| i.is_ipv4()) && parsed.iter().any(|i| i.is_ipv6())) {
        e.bad(&ips, "may specify no more than one IP for each IP family");
    }
    if headless(spec) {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(families.list()).enumerate() {
        let v6 = ip.str().contains(':');
        let want = match family.as_str() {
            Some("IPv4") if v6 => "IPv4",
            Some("IPv6") if !v6 => "IPv6",
            _ => continue,
        };
        e.bad(&ip, &format!("expected an {want} value as indicated by `ipFamilies[{i}]`"));
    }
}

fn load_balancer(root: &At, spec: &At, e: &mut ErrorList) {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let lb = kind(spec) == "LoadBalancer";
    let ranges = spec.get("loadBalancerSourceRanges");
    let meta = root.get("metadata");
    let notes = meta.get("annotations");
    let check = |at: &dyn super::path::Place, text: &str, e: &mut ErrorList| {
        e.each(at, text.trim(), names::cidr(text.trim()));
    };
    if !ranges.is_empty() {
        let at = spec.at("LoadBalancerSourceRanges");
        if !lb {
            e.forbidden(&at, ONLY_LB);
        }
        for (i, r) in ranges.list().iter().enumerate() {
            check(&at.index(i), r.as_str().unwrap_or_default(), e);
        }
    } else if notes.has(ANNOTATION) {
        let at = notes.p.key(ANNOTATION);
        if !lb {
            e.forbidden(&at, ONLY_LB);
        }
        let text = notes.s(ANNOTATION).trim();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            check(&at, part, e);
        }
    }
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if !allocate.is_null() && !lb {
        e.forbidden(&allocate, ONLY_LB);
    }
    if allocate.is_null() && lb {
        e.required(&Path::new("allocateLoadBalancerNodePorts"), "");
    }
    let class = spec.get("loadBalancerClass");
    if !class.is_null() {
        if lb {
            format(&class, names::qualified_name, e);
        } else {
            e.forbidden(&class, ONLY_LB);
        }
    }
}

fn external_traffic(spec: &At, e: &mut ErrorList) {
    let policy = spec.get("externalTrafficPolicy");
    if externally_accessible(spec) {
        one_of(&policy, &["Cluster", "Local"], e);
    } else if !policy.str().is_empty() {
        e.bad(&policy, "may only be set for externally-accessible services");
    }
    let port = spec.get("healthCheckNodePort");
    let n = port.int().unwrap_or(0);
    if n != 0 && !needs_health_check(spec) {
        e.bad(&port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
    } else if n != 0 {
        e.each(&port, n, names::port_number(n));
    }
}

pub fn update(new: &Value, old: &Value, e: &mut ErrorList) {
    let (root, before) = (At::root(new), At::root(old));
    let (spec, was) = (root.get("spec"), before.get("spec"));
    if kind(&spec) != "ExternalName" && kind(&was) != "ExternalName" {
        ips_change(&spec, &was, e);
        families_change(&spec, &was, e);
    }
    if kind(&spec) == "LoadBalancer" && kind(&was) == "LoadBalancer" {
        let class = spec.get("loadBalancerClass");
        if !same(class.v, was.raw("loadBalancerClass")) {
            e.bad(&class, ONCE_SET);
        }
    }
    if needs_health_check(&spec) && needs_health_check(&was) {
        let f = "healthCheckNodePort";
        if spec.raw(f) != was.raw(f) {
            e.forbidden(&spec.at(f), super::IMMUTABLE);
        }
    }
    create(new, e);
}

fn ips_change(spec: &At, was: &At, e: &mut ErrorList) {
    if headless(spec) && headless(was) {
        return;
    }
    let (ips, had) = (spec.get("clusterIPs"), was.get("clusterIPs"));
    let (now, then) = (ips.list(), had.list());
    let first = ips.p.index(0);
    if now.len() == then.len() {
        for (i, (n, o)) in now.iter().zip(then).enumerate() {
            if n != o {
                e.invalid(&ips.p.index(i), ips, ONCE_SET);
            }
        }
        return;
    }
    if then.len() > now.len() && now.is_empty() {
        e.invalid(&first, ips, "primary clusterIP can not be unset");
    }
    if let (Some(n), Some(o)) = (now.first(), then.first())
        && n != o
    {
        e.invalid(&first, ips, ONCE_SET);
    }
    if then.len() > now.len() && now.len() == 1 && spec.s("ipFamilyPolicy") != "SingleStack" {
        let why = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        e.bad(&spec.get("ipFamilyPolicy"), why);
    }
}

fn families_change(spec: &At, was: &At, e: &mut ErrorList) {
    if headless(spec) || headless(was) {
        return;
    }
    let (families, had) = (spec.get("ipFamilies"), was.get("ipFamilies"));
    let (now, then) = (families.list(), had.list());
    let first = families.p.index(0);
    if now.len() == then.len() {
        for _ in now.iter().zip(then).filter(|(n, o)| n != o) {
            e.invalid(&first, families, ONCE_SET);
        }
        return;
    }
    if then.len() > now.len() && spec.get("clusterIPs").is_empty() {
        e.invalid(&first, families, "primary ipFamily can not be unset");
    }
    if let (Some(n), Some(o)) = (now.first(), then.first())
        && n != o
    {
        e.invalid(&first, families, ONCE_SET);
    }
    if then.len() > now.len() && now.len() == 1 && spec.s("ipFamilyPolicy") != "SingleStack" {
        let why = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        e.bad(&spec.get("ipFamilyPolicy"), why);
    }
}

/// Status: the load balancer's addresses. Also an Ingress's, for which `typed` is false.
pub fn load_balancer_status(new: &Value, typed: bool, e: &mut ErrorList) {
    let root = At::root(new);
    let status = root.get("status");
    let lb = status.get("loadBalancer");
    let list = lb.get("ingress");
    if typed && !list.is_empty() && root.get("spec").s("type") != "LoadBalancer" {
        e.forbidden(&list, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    for i in list.iter() {
        optional_format(&i.get("ip"), names::ip, e);
        let mode = i.get("ipMode");
        if !mode.is_null() && i.s("ip").is_empty() {
            e.forbidden(&mode, "may not be specified when `ip` is not set");
        } else {
            optional_one_of(&mode, &["Proxy", "VIP"], e);
        }
        let host = i.get("hostname");
        optional_format(&host, names::dns1123_subdomain, e);
        if names::parse_ip(host.str()).is_some() {
            e.bad(&host, "must be a DNS name, not an IP address");
        }
    }
}
