//! What there is: the old documents of `/api` and `/apis`, and the aggregated one of v2. Pure, from the catalog and what
//! remote API servers have said.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::catalog::{Catalog, Descriptor, Version, version_priority};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::aggregation::{self, Remote, priorities};
use crate::server::ApiServer;

/// `APIVersions` of `/api`.
pub fn api_versions(s: &ApiServer) -> Value {
    let address = std::net::SocketAddr::new(s.cluster.advertise_address, s.cluster.advertise_port);
    json!({"kind": "APIVersions", "versions": s.catalog().group_versions(""),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address.to_string()}]})
}

/// What a group serves: its own versions and those of others, the preferred one first.
struct Group {
    name: String,
    priority: i64,
    /// Priority and name.
    versions: Vec<(i64, String)>,
}

/// Groups by upstream's priority, then by name; core is left out.
fn groups(c: &Catalog, remotes: &[Arc<Remote>]) -> Vec<Group> {
    let mut all: BTreeMap<String, Group> = BTreeMap::new();
    let mut add = |group: &str, version: &str, (of_group, of_version): (i64, i64)| {
        let g = all.entry(group.to_owned()).or_insert_with(|| Group {
            name: group.to_owned(),
            priority: of_group,
            versions: Vec::new(),
        });
        g.priority = g.priority.max(of_group);
        g.versions.retain(|(_, v)| v != version);
        g.versions.push((of_version, version.to_owned()));
    };
    for g in c.groups().into_iter().filter(|g| !g.is_empty()) {
        for v in c.group_versions(g) {
            let own = (g == aggregation::GROUP).then_some((priorities::OWN, 1));
            add(g, v, priorities::of(g, v).or(own).unwrap_or(priorities::CUSTOM));
        }
    }
    for r in remotes {
        add(&r.group, &r.version, (r.group_priority, r.version_priority));
    }
    let mut all: Vec<Group> = all.into_values().collect();
    all.sort_by_key(|g| std::cmp::Reverse(g.priority));
    for g in &mut all {
        g.versions.sort_by(|(p, v), (q, w)| {
            (q, version_priority(w)).cmp(&(p, version_priority(v))).then_with(|| v.cmp(w))
        });
    }
    all
}

/// `APIGroup`, without kind and apiVersion.
fn group_body(g: &Group) -> Value {
    let name = &g.name;
    let one = |v: &str| json!({"groupVersion": format!("{name}/{v}"), "version": v});
    let versions: Vec<Value> = g.versions.iter().map(|(_, v)| one(v)).collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    json!({"name": name, "versions": versions, "preferredVersion": preferred})
}

pub fn group_list(c: &Catalog, remotes: &[Arc<Remote>]) -> Value {
    let all: Vec<Value> = groups(c, remotes).iter().map(group_body).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all})
}

pub fn group(c: &Catalog, remotes: &[Arc<Remote>], name: &str) -> Option<Value> {
    let mut v = groups(c, remotes).iter().find(|g| g.name == name).map(group_body)?;
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

fn own_version(c: &Catalog, group: &str, version: &str) -> Value {
    let resources: Vec<Value> = c.resources(group, version).map(|(d, v)| discovered(d, v)).collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}

/// What a remote API server said last; `None` while it never said anything.
fn remote_version(r: &Remote) -> Option<Value> {
    let resources = r.documents().resources?;
    let freshness = if r.is_available() { "Current" } else { "Stale" };
    Some(json!({"version": r.version, "freshness": freshness, "resources": *resources}))
}

/// The `APIGroupDiscoveryList` of `/api` (core) or `/apis`, and its hash.
pub fn aggregated(c: &Catalog, remotes: &[Arc<Remote>], core: bool) -> (Vec<u8>, String) {
    let items: Vec<Value> = if core {
        let versions: Vec<Value> = c.group_versions("").iter().map(|v| own_version(c, "", v)).collect();
        vec![json!({"metadata": {}, "versions": versions})]
    } else {
        let one = |g: &Group| {
            let version = |(_, v): &(i64, String)| match remotes
                .iter()
                .find(|r| r.group == g.name && r.version == *v)
            {
                Some(r) => remote_version(r),
                None => Some(own_version(c, &g.name, v)),
            };
            let versions: Vec<Value> = g.versions.iter().filter_map(version).collect();
            (!versions.is_empty()).then(|| json!({"metadata": {"name": g.name}, "versions": versions}))
        };
        groups(c, remotes).iter().filter_map(one).collect()
    };
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
        assert_eq!(group(c, &[], "apps").expect("group")["preferredVersion"]["groupVersion"], "apps/v1");
        let (doc, _) = aggregated(c, &[], true);
        let v: Value = serde_json::from_slice(&doc).expect("json");
        assert_eq!(v["items"][0]["versions"][0]["version"], "v1");
        let all = group_list(c, &[]);
        let names: Vec<&str> =
            all["groups"].as_array().expect("groups").iter().filter_map(|g| g["name"].as_str()).collect();
        assert!(names.len() > 15);
        assert_eq!(names.get(..3), Some(&["apiregistration.k8s.io", "apps", "events.k8s.io"][..]));
    }
}
