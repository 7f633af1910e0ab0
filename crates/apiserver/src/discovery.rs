//! What there is: the old documents of `/api` and `/apis`, and the aggregated one of v2. Pure, from the catalog.

use api::catalog::{Catalog, Descriptor, Version};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::server::ApiServer;

/// `APIVersions` of `/api`.
pub fn api_versions(s: &ApiServer) -> Value {
    let address = std::net::SocketAddr::new(s.cluster.advertise_address, s.cluster.advertise_port);
    json!({"kind": "APIVersions", "versions": s.catalog().group_versions(""),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address.to_string()}]})
}

/// Groups by upstream's priority, the rest by name.
const ORDER: [&str; 20] = [
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
];

fn groups(c: &Catalog) -> Vec<&str> {
    let mut g: Vec<&str> =
        c.groups().into_iter().filter(|g| !g.is_empty() && !c.group_versions(g).is_empty()).collect();
    let place = |g: &str| ORDER.iter().position(|o| *o == g).unwrap_or(ORDER.len());
    g.sort_by(|a, b| (place(a), a).cmp(&(place(b), b)));
    g
}

/// `APIGroup`, without kind and apiVersion.
fn group_body(c: &Catalog, name: &str) -> Option<Value> {
    let versions: Vec<Value> = c
        .group_versions(name)
        .iter()
        .map(|v| json!({"groupVersion": format!("{name}/{v}"), "version": v}))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({"name": name, "versions": versions, "preferredVersion": preferred}))
}

pub fn group_list(c: &Catalog) -> Value {
    let all: Vec<Value> = groups(c).into_iter().filter_map(|g| group_body(c, g)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all})
}

pub fn group(c: &Catalog, name: &str) -> Option<Value> {
    if name.is_empty() {
        return None;
    }
    let mut v = group_body(c, name)?;
    v["kind"] = json!("APIGroup");
    v["apiVersion"] = json!("v1");
    Some(v)
}

/// `APIResourceList` of one version.
pub fn resource_list(c: &Catalog, group: &str, version: &str) -> Option<Value> {
    let mut all = Vec::new();
    for (d, v) in c.resources(group, version) {
        let mut r = json!({"name": d.plural, "singularName": d.singular, "namespaced": d.namespaced, "kind": d.kind,
            "verbs": v.verbs});
        if !d.short_names.is_empty() {
            r["shortNames"] = json!(d.short_names);
        }
        if !d.categories.is_empty() {
            r["categories"] = json!(d.categories);
        }
        if v.verbs.iter().any(|v| v == "list") && d.stored {
            r["storageVersionHash"] = json!(storage_hash(d));
        }
        all.push(r);
        for s in &v.subresources {
            let mut r = json!({"name": format!("{}/{}", d.plural, s.name), "singularName": "", "namespaced": d.namespaced,
                "kind": s.kind, "verbs": s.verbs});
            if (s.group.as_str(), s.version.as_str()) != (group, version) {
                if !s.group.is_empty() {
                    r["group"] = json!(s.group);
                }
                r["version"] = json!(s.version);
            }
            all.push(r);
        }
    }
    if all.is_empty() {
        return None;
    }
    let gv = api::catalog::api_version(group, version);
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": all}))
}

/// Changes when the stored form does.
fn storage_hash(d: &Descriptor) -> String {
    use base64::Engine as _;
    let text = format!("{}/{}/{}", d.hub.group, d.hub.version, d.hub.kind);
    let h = Sha256::digest(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(h.iter().take(8).copied().collect::<Vec<u8>>())
}

fn kind_of(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn discovered(d: &Descriptor, v: &Version) -> Value {
    let mut r = json!({
        "resource": d.plural,
        "responseKind": kind_of(&d.group, &v.name, &d.kind),
        "scope": if d.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": d.singular,
        "verbs": v.verbs,
    });
    if !d.short_names.is_empty() {
        r["shortNames"] = json!(d.short_names);
    }
    if !d.categories.is_empty() {
        r["categories"] = json!(d.categories);
    }
    if !v.subresources.is_empty() {
        let subs: Vec<Value> = v
            .subresources
            .iter()
            .map(|s| {
                json!({"subresource": s.name, "responseKind": kind_of(&s.group, &s.version, &s.kind), "verbs": s.verbs})
            })
            .collect();
        r["subresources"] = json!(subs);
    }
    r
}

/// The `APIGroupDiscoveryList` of `/api` (core) or `/apis`, and its hash.
pub fn aggregated(c: &Catalog, core: bool) -> (Vec<u8>, String) {
    let names = if core { vec![""] } else { groups(c) };
    let items: Vec<Value> = names
        .into_iter()
        .map(|g| {
            let versions: Vec<Value> = c
                .group_versions(g)
                .iter()
                .map(|v| {
                    let resources: Vec<Value> = c.resources(g, v).map(|(d, v)| discovered(d, v)).collect();
                    json!({"version": v, "freshness": "Current", "resources": resources})
                })
                .collect();
            let mut item = json!({"metadata": {}, "versions": versions});
            if !g.is_empty() {
                item["metadata"]["name"] = json!(g);
            }
            item
        })
        .collect();
    let v = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    let bytes = serde_json::to_vec(&v).unwrap_or_default();
    let etag: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02X}")).collect();
    (bytes, etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let c = api::catalog::builtin();
        let l = resource_list(c, "apps", "v1").expect("apps");
        let names: Vec<&str> =
            l["resources"].as_array().expect("list").iter().filter_map(|r| r["name"].as_str()).collect();
        assert!(names.contains(&"deployments") && names.contains(&"deployments/scale"));
        assert!(resource_list(c, "apps", "v9").is_none());
        assert_eq!(group(c, "apps").expect("group")["preferredVersion"]["groupVersion"], "apps/v1");
        let (doc, _) = aggregated(c, true);
        let v: Value = serde_json::from_slice(&doc).expect("json");
        assert_eq!(v["items"][0]["versions"][0]["version"], "v1");
        assert!(group_list(c)["groups"].as_array().expect("groups").len() > 15);
    }
}
