//! What a status update of a pod may say.

use super::super::at::At;
use super::super::common::{format, optional_format};
use super::super::errors::ErrorList;
use super::super::names;
use super::update::annotation_updates;
use serde_json::Value;
use std::collections::HashSet;

/// Rules for the `status` subresource.
pub fn update_status(new: &Value, old: &Value, e: &mut ErrorList) {
    let (new, old) = (At::root(new), At::root(old));
    annotation_updates(&new, &old, e);
    let (spec, status, was) = (new.get("spec"), new.get("status"), old.get("status"));
    for c in status.get("conditions").iter() {
        let kind = c.s("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            e.each(&c.at("Type"), kind, names::qualified_name(kind));
        }
    }
    if spec.s("nodeName") != old.get("spec").s("nodeName") {
        e.forbidden(&status.at("nodeName"), "may not be changed directly");
    }
    if status.s("nominatedNodeName") != was.s("nominatedNodeName") {
        optional_format(&status.get("nominatedNodeName"), names::dns1123_subdomain, e);
    }
    if !was.s("qosClass").is_empty() {
        e.immutable(&status.get("qosClass"), was.raw("qosClass"));
    }
    let policy = old.get("spec").s("restartPolicy");
    let old_spec = old.get("spec");
    transitions(
        &status.get("containerStatuses"),
        &was.get("containerStatuses"),
        policy,
        &old_spec.get("containers"),
        e,
    );
    transitions(
        &status.get("initContainerStatuses"),
        &was.get("initContainerStatuses"),
        policy,
        &old_spec.get("initContainers"),
        e,
    );
    let none = At::root(&Value::Null);
    transitions(
        &status.get("ephemeralContainerStatuses"),
        &was.get("ephemeralContainerStatuses"),
        "Never",
        &none,
        e,
    );
    claims(&status.get("resourceClaimStatuses"), &spec.get("resourceClaims"), e);
    ips(&status.get("podIPs"), "[]PodIP", e);
    let hosts = status.get("hostIPs");
    if let Some(first) = hosts.iter().next()
        && first.s("ip") != status.s("hostIP")
    {
        e.invalid(&first.at("ip"), first.s("ip"), "must be equal to `hostIP`");
    }
    ips(&hosts, "[]HostIP", e);
}

/// A container that is not restarted stays terminated.
fn transitions(now: &At, before: &At, policy: &str, containers: &At, e: &mut ErrorList) {
    if policy == "Always" {
        return;
    }
    for (i, o) in before.iter().enumerate() {
        let state = o.get("state");
        let ended = state.get("terminated");
        if ended.is_null() || (ended.i("exitCode").unwrap_or(0) != 0 && policy == "OnFailure") {
            continue;
        }
        let name = o.s("name");
        let own_policy = containers
            .list()
            .iter()
            .find(|c| c["name"] == name)
            .is_some_and(|c| c.get("restartPolicy").is_some() || c.get("restartPolicyRules").is_some());
        if own_policy {
            continue;
        }
        if now.iter().any(|n| n.s("name") == name && !n.get("state").has("terminated")) {
            let place = now.p.index(i);
            e.forbidden(&place.child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

fn claims(list: &At, spec: &At, e: &mut ErrorList) {
    let mut seen = HashSet::new();
    for c in list.iter() {
        let name = c.get("name");
        if !spec.list().iter().any(|s| s["name"] == *name.v) {
            e.bad(&name, "must match the name of an entry in `spec.resourceClaims`");
        }
        if !seen.insert(name.str()) {
            e.duplicate(&name, name.str());
        }
        optional_format(&c.get("resourceClaimName"), names::dns1123_subdomain, e);
    }
}

/// At most one address of each family, none twice.
fn ips(list: &At, shape: &str, e: &mut ErrorList) {
    let mut seen = HashSet::new();
    let (mut v4, mut v6) = (0, 0);
    for a in list.iter() {
        let ip = a.get("ip");
        format(&At::new(ip.v, a.p), names::ip, e);
        if !seen.insert(ip.str()) {
            e.duplicate(&a, ip.str());
        }
        match names::parse_ip(ip.str()) {
            Some(std::net::IpAddr::V4(_)) => v4 += 1,
            Some(std::net::IpAddr::V6(_)) => v6 += 1,
            None => {}
        }
    }
    if v4 > 1 || v6 > 1 {
        e.bad_as(shape, list, "may specify no more than one IP for each IP family");
    }
}
