//! Endpoints and EndpointSlice.

use super::at::At;
use super::common::{format, non_special_ip, one_of, optional_format, required};
use super::errors::ErrorList;
use super::names;
use serde_json::Value;
use std::collections::HashSet;

/// Endpoints.
pub fn endpoints(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    for s in root.get("subsets").iter() {
        let (ready, not) = (s.get("addresses"), s.get("notReadyAddresses"));
        if ready.is_empty() && not.is_empty() {
            e.required(&s, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in [&ready, &not] {
            for a in list.iter() {
                let ip = a.get("ip");
                format(&ip, names::ip, e);
                // Told by the older check too.
                if names::parse_ip(ip.str()).is_none() {
                    e.invalid(&ip, ip.str(), "must be a valid IP address");
                }
                optional_format(&a.get("hostname"), names::dns1123_label, e);
                optional_format(&a.get("nodeName"), names::dns1123_subdomain, e);
                non_special_ip(&ip, ip.str(), e);
            }
        }
        let ports = s.get("ports");
        for p in ports.iter() {
            endpoint_port(&p, ports.len() > 1, e);
        }
    }
}
fn endpoint_port(p: &At, many: bool, e: &mut ErrorList) {
    let name = p.get("name");
    if many {
        required(&name, e);
    }
    optional_format(&name, names::dns1123_label, e);
    let n = p.i("port").unwrap_or(0);
    e.each(&p.at("port"), n, names::port_number(n));
    one_of(&p.get("protocol"), &["SCTP", "TCP", "UDP"], e);
    let app = p.get("appProtocol");
    if !app.is_null() {
        format(&app, names::qualified_name, e);
    }
}

/// EndpointSlice.
pub fn slice(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let family = root.get("addressType");
    one_of(&family, &["FQDN", "IPv4", "IPv6"], e);
    slice_of(&root, family.str(), e);
}

/// Where traffic is better sent: names, once each.
fn hints(h: &At, e: &mut ErrorList) {
    for (f, max) in [("forZones", 8), ("forNodes", 8)] {
        let list = h.get(f);
        if list.len() > max {
            e.too_many(&list, list.len(), max);
        }
        let mut seen = HashSet::new();
        for x in list.iter() {
            let name = x.get("name");
            if !seen.insert(name.str()) {
                e.duplicate(&name, name.str());
            }
            if f == "forNodes" {
                format(&name, names::dns1123_subdomain, e);
            } else if !name.str().is_empty() {
                format(&name, names::label_value, e);
            }
        }
    }
}

fn slice_of(root: &At, family: &str, e: &mut ErrorList) {
    let list = root.get("endpoints");
    if list.len() > 1000 {
        e.too_many(&list, list.len(), 1000);
    }
    for p in list.iter() {
        let addresses = p.get("addresses");
        if addresses.is_empty() {
            e.required(&addresses, "");
        } else if addresses.len() > 100 {
            e.too_many(&addresses, addresses.len(), 100);
        }
        for a in addresses.iter() {
            let ip = names::parse_ip(a.str());
            match family {
                "FQDN" => format(&a, names::dns1123_subdomain, e),
                "IPv4" | "IPv6" => {
                    format(&a, names::ip, e);
                    if ip.is_some_and(|ip| ip.is_ipv4() != (family == "IPv4")) {
                        e.invalid(&addresses, a.str(), &format!("must be an {family} address"));
                    }
                    non_special_ip(&a, a.str(), e);
                }
                _ => {}
            }
        }
        optional_format(&p.get("nodeName"), names::dns1123_subdomain, e);
        optional_format(&p.get("hostname"), names::dns1123_label, e);
        hints(&p.get("hints"), e);
    }
    let ports = root.get("ports");
    if ports.len() > 20_000 {
        e.too_many(&ports, ports.len(), 20_000);
    }
    let mut seen = HashSet::new();
    for p in ports.iter() {
        let name = p.get("name");
        optional_format(&name, names::dns1123_label, e);
        if !seen.insert(name.str()) {
            e.duplicate(&name, name.str());
        }
        one_of(&p.get("protocol"), &["SCTP", "TCP", "UDP"], e);
        let app = p.get("appProtocol");
        if !app.is_null() {
            format(&app, names::qualified_name, e);
        }
    }
}
pub fn slice_update(n: &Value, o: &Value, e: &mut ErrorList) {
    let (root, was) = (At::root(n), At::root(o));
    // Judged by the type that it keeps.
    slice_of(&root, was.s("addressType"), e);
    if root.s("addressType") != was.s("addressType") {
        e.invalid(&root.at("addressType"), Value::Null, super::IMMUTABLE);
    }
}
