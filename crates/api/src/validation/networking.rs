//! networking.k8s.io: NetworkPolicy, Ingress, IngressClass, IPAddress, ServiceCIDR.

use super::at::At;
use super::common::{format, label_selector, optional_format, optional_one_of, port, required};
use super::errors::ErrorList;
use super::names;
use super::path::Path;
use serde_json::Value;

/// NetworkPolicy.
pub fn policy(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    label_selector(&spec.get("podSelector"), e);
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for r in spec.get(list).iter() {
            for p in r.get("ports").iter() {
                policy_port(&p, e);
            }
            for p in r.get(peers).iter() {
                peer(&p, e);
            }
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        e.bad(&types, "may not specify more than two policyTypes");
        return;
    }
    for t in types.iter() {
        optional_one_of(&t, &["Ingress", "Egress"], e);
    }
}

fn policy_port(p: &At, e: &mut ErrorList) {
    let protocol = p.get("protocol");
    if !matches!(protocol.str(), "TCP" | "UDP" | "SCTP") && !protocol.is_null() {
        e.not_supported(&protocol, protocol.str(), &["TCP", "UDP", "SCTP"]);
    }
    let (number, end) = (p.get("port"), p.get("endPort"));
    if !number.is_null() {
        port(&number, e);
    }
    let Some(last) = end.int() else { return };
    if number.is_null() {
        e.bad(&end, "may not be specified when `port` is not specified");
    } else if let Some(first) = number.int() {
        if last < first {
            e.bad(&end, "must be greater than or equal to `port`");
        }
        e.each(&end, last, names::port_number(last));
    } else {
        e.bad(&end, "may not be specified when `port` is non-numeric");
    }
}

fn peer(p: &At, e: &mut ErrorList) {
    let mut count = 0;
    for f in ["podSelector", "namespaceSelector"] {
        let s = p.get(f);
        if !s.is_null() {
            count += 1;
            label_selector(&s, e);
        }
    }
    let block = p.get("ipBlock");
    if !block.is_null() {
        count += 1;
        ip_block(&block, e);
        if count > 1 {
            e.forbidden(p, "may not specify both ipBlock and another peer");
        }
    }
    if count == 0 {
        e.required(p, "must specify a peer");
    }
}

fn ip_block(b: &At, e: &mut ErrorList) {
    let cidr = b.get("cidr");
    if !required(&cidr, e) {
        return;
    }
    let Some((net, len)) = names::parse_cidr(cidr.str()) else {
        format(&cidr, names::cidr, e);
        return;
    };
    for x in b.get("except").iter() {
        let Some((ip, n)) = names::parse_cidr(x.str()) else {
            format(&x, names::cidr, e);
            continue;
        };
        let inside =
            ip.is_ipv4() == net.is_ipv4() && n > len && names::mask(ip, len) == names::mask(net, len);
        if !inside {
            e.bad(&x, "must be a strict subset of `cidr`");
        }
    }
}

/// Ingress.
pub fn ingress(o: &Value, e: &mut ErrorList) {
    routes(o, false, false, e);
    let root = At::root(o);
    let meta = root.get("metadata");
    let class = "kubernetes.io/ingress.class";
    let (noted, named) = (meta.get("annotations"), root.get("spec"));
    let (noted, named) = (noted.raw(class), named.raw("ingressClassName"));
    if !noted.is_null() && !named.is_null() && noted != named {
        let at = Path::new("annotations");
        e.invalid(&at.child(class), noted, "must match `ingressClassName` when both are specified");
    }
}

/// Names that were let in before are still let in.
pub fn ingress_update(n: &Value, o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let wrong_secret = |t: &Value| {
        let name = t["secretName"].as_str().unwrap_or_default();
        !name.is_empty() && !names::dns1123_subdomain(name).is_empty()
    };
    let wrong_host = |r: &Value| {
        let host = r["host"].as_str().unwrap_or_default();
        host.contains('*') && !names::wildcard_dns1123_subdomain(host).is_empty()
    };
    let any_secret = spec.get("tls").list().iter().any(wrong_secret);
    let any_host = spec.get("rules").list().iter().any(wrong_host);
    routes(n, any_secret, any_host, e);
}

fn routes(o: &Value, any_secret: bool, any_host: bool, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let (rules, default) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && default.is_null() {
        e.invalid(&spec, rules.v, "either `defaultBackend` or `rules` must be specified");
    }
    if !default.is_null() {
        backend(&default, e);
    }
    for r in rules.iter() {
        let host = r.get("host");
        let name = host.str();
        if !name.is_empty() {
            if names::parse_ip(name).is_some() {
                e.bad(&host, "must be a DNS name, not an IP address");
            }
            if !(any_host && name.contains('*')) {
                host_name(&host, e);
            }
        }
        let http = r.get("http");
        if http.is_null() {
            continue;
        }
        let paths = http.get("paths");
        if paths.is_empty() {
            e.required(&paths, "");
        }
        for p in paths.iter() {
            http_path(&p, e);
        }
    }
    for t in spec.get("tls").iter() {
        for h in t.get("hosts").iter() {
            host_name(&h, e);
        }
        let secret = t.get("secretName");
        if !any_secret {
            optional_format(&secret, names::dns1123_subdomain, e);
        }
    }
    let class = spec.get("ingressClassName");
    if !class.is_null() {
        format(&class, names::dns1123_subdomain, e);
    }
}

fn host_name(a: &At, e: &mut ErrorList) {
    let rule =
        if a.str().contains('*') { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
    format(a, rule, e);
}

fn http_path(p: &At, e: &mut ErrorList) {
    const KINDS: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
    let (kind, path) = (p.get("pathType"), p.get("path"));
    let text = path.str();
    match kind.v.as_str() {
        None => e.required(&kind, "pathType must be specified"),
        Some("Exact" | "Prefix") => {
            if !text.starts_with('/') {
                e.invalid(&path, text, "must be an absolute path");
            } else {
                for s in ["//", "/./", "/../", "%2f", "%2F"] {
                    if text.contains(s) {
                        e.bad(&path, &format!("must not contain '{s}'"));
                    }
                }
                for s in ["/..", "/."] {
                    if text.ends_with(s) {
                        e.bad(&path, &format!("cannot end with '{s}'"));
                    }
                }
            }
        }
        Some("ImplementationSpecific") => {
            if !text.is_empty() && !text.starts_with('/') {
                e.bad(&path, "must be an absolute path");
            }
        }
        Some(other) => e.not_supported(&kind, other, &KINDS),
    }
    backend(&p.get("backend"), e);
}

fn backend(b: &At, e: &mut ErrorList) {
    let (service, resource) = (b.get("service"), b.get("resource"));
    match (service.is_null(), resource.is_null()) {
        (false, false) => e.invalid(b, "", "cannot set both resource and service backends"),
        (true, true) => e.invalid(b, "", "resource or service backend is required"),
        (true, false) => {
            optional_format(&resource.get("apiGroup"), names::dns1123_subdomain, e);
            required(&resource.get("kind"), e);
            required(&resource.get("name"), e);
        }
        (false, true) => {
            let name = service.get("name");
            if required(&name, e) {
                format(&name, names::dns1123_label, e);
            }
            let p = service.get("port");
            let (named, number) = (p.s("name"), p.i("number").unwrap_or(0));
            match (named.is_empty(), number == 0) {
                (false, false) => e.invalid(b, "", "cannot set both port name & port number"),
                (true, true) => e.required(b, "port name or number is required"),
                (false, true) => e.each(&p.at("name"), named, names::port_name(named)),
                (true, false) => e.each(&p.at("number"), number, names::port_number(number)),
            }
        }
    }
}

/// IngressClass.
pub fn ingress_class(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let controller = spec.get("controller");
    if controller.str().len() > 250 {
        e.too_long(&controller, 250);
    }
    domain_path(&controller, e);
    let p = spec.get("parameters");
    if p.is_null() {
        return;
    }
    let group = p.get("apiGroup");
    if !group.is_null() {
        format(&group, names::dns1123_subdomain, e);
    }
    for f in ["kind", "name"] {
        let v = p.get(f);
        if required(&v, e) {
            e.each(&v, v.str(), names::path_segment(v.str(), false));
        }
    }
    let scope = p.get("scope");
    let ns = p.get("namespace");
    if !matches!(scope.str(), "Cluster" | "Namespace") {
        if scope.is_null() {
            e.required(&scope, "");
        } else {
            e.not_supported(&scope, scope.str(), &["Cluster", "Namespace"]);
        }
        return;
    }
    if scope.str() == "Namespace" {
        if ns.is_null() {
            e.required(&ns, "`parameters.scope` is set to 'Namespace'");
        } else {
            format(&ns, names::dns1123_label, e);
        }
    } else if !ns.is_null() {
        e.forbidden(&ns, "`parameters.scope` is set to 'Cluster'");
    }
}
pub fn ingress_class_update(n: &Value, o: &Value, e: &mut ErrorList) {
    let (root, was) = (At::root(n), At::root(o));
    e.immutable(&root.get("spec").get("controller"), was.get("spec").raw("controller"));
    ingress_class(n, e);
}

/// `acme.io/foo`.
pub fn domain_path(a: &At, e: &mut ErrorList) {
    if !required(a, e) {
        return;
    }
    match a.str().split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            e.each(a, domain, names::dns1123_subdomain(domain));
            let ok = |c: u8| c.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:%".contains(&c);
            if !path.bytes().all(ok) {
                let why = names::format_error("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]);
                e.invalid(a, path, &why);
            }
        }
        _ => e.bad(a, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

/// IPAddress: named after the address it is.
pub fn ip_address(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let meta = root.get("metadata");
    let name = meta.get("name");
    match names::parse_ip(name.str()) {
        None => e.bad(&name, "not a valid ip in canonical format"),
        Some(ip) if ip.to_string() != name.str() => e.bad(&name, "not a valid ip in canonical format"),
        _ => {}
    }
    let spec = root.get("spec");
    let parent = spec.get("parentRef");
    if parent.is_null() {
        e.required(&parent, "");
        return;
    }
    let group = parent.get("group");
    if !group.str().is_empty() {
        format(&group, names::dns1123_subdomain, e);
    }
    for f in ["resource", "name"] {
        let v = parent.get(f);
        if required(&v, e) {
            e.each(&v, v.str(), names::path_segment(v.str(), false));
        }
    }
    let ns = parent.get("namespace");
    if !ns.str().is_empty() {
        e.each(&ns, ns.str(), names::path_segment(ns.str(), false));
    }
}
pub fn ip_address_update(n: &Value, o: &Value, e: &mut ErrorList) {
    let (root, was) = (At::root(n), At::root(o));
    e.immutable(&root.get("spec").get("parentRef"), was.get("spec").raw("parentRef"));
}

/// ServiceCIDR: one range, or one of each family.
pub fn service_cidr(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let list = spec.get("cidrs");
    if list.is_empty() {
        e.required(&list, "at least one CIDR required");
        return;
    }
    if list.len() > 2 {
        e.bad(&list, "may only hold up to 2 values");
        return;
    }
    let mut families = Vec::new();
    for c in list.iter() {
        let Some((ip, len)) = names::parse_cidr(c.str()) else {
            format(&c, names::cidr, e);
            continue;
        };
        families.push(ip.is_ipv4());
        if names::mask(ip, len) != ip {
            e.bad(
                &c,
                &format!(
                    "must not have bits set beyond the prefix length (expected {}/{len})",
                    names::mask(ip, len)
                ),
            );
        } else if format!("{ip}/{len}") != c.str() {
            e.bad(&c, &format!("must be in canonical form ({ip}/{len})"));
        }
    }
    if let [a, b] = families.as_slice()
        && a == b
    {
        e.bad(
            &list,
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        );
    }
}
pub fn service_cidr_update(n: &Value, o: &Value, e: &mut ErrorList) {
    let (root, was) = (At::root(n), At::root(o));
    let (spec, before) = (root.get("spec"), was.get("spec"));
    let (now, then) = (spec.get("cidrs"), before.get("cidrs"));
    match (now.list(), then.list()) {
        // From one family to two, the first stays.
        ([a, _], [b]) if a == b => service_cidr(n, e),
        ([a], [b, _]) if a == b => {}
        ([_, _], [_]) => e.bad(&now, super::IMMUTABLE),
        (a, b) if a != b => e.bad(&now, super::IMMUTABLE),
        _ => {}
    }
}
