//! The built-in catalog, made once from `data/resources.txt`.

use std::sync::{Arc, OnceLock};

use super::{
    Catalog, Conversion, Descriptor, Hub, Schema, Stage, Subresource, Version, fields, version_priority,
};
use crate::{conversion, schema};

/// The second file is written by hand: it belongs to no release of Kubernetes itself.
const ASSET: &str =
    concat!(include_str!("../../data/resources.txt"), include_str!("../../data/resources-metrics.txt"));
const STANDARD: [&str; 8] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// All built-in resources. GA versions are served; `RuntimeConfig::apply` turns others on.
pub fn builtin() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| Catalog::new(parse(ASSET).into_iter().map(Arc::new)))
}

fn list(s: &str) -> Vec<String> {
    match s {
        "-" => Vec::new(),
        "*" => STANDARD.map(str::to_string).to_vec(),
        s => s.split(',').map(str::to_string).collect(),
    }
}

fn group_name(s: &str) -> String {
    if s == "-" { String::new() } else { s.to_string() }
}

fn parse(text: &str) -> Vec<Descriptor> {
    let mut out: Vec<Descriptor> = Vec::with_capacity(100);
    let mut current: Option<(usize, usize)> = None;
    for line in text.lines() {
        if let Some(sub) = line.strip_prefix('\t') {
            let target = current.and_then(|(d, v)| out.get_mut(d)?.versions.get_mut(v));
            if let (Some(version), Some(sub)) = (target, parse_subresource(sub)) {
                version.subresources.push(sub);
            }
            continue;
        }
        let cols: Vec<&str> = line.split(' ').collect();
        let [group, version, plural, kind, singular, scope, verbs, short, cats] = cols[..] else { continue };
        let group = group_name(group);
        let at = match out.iter().position(|d| d.group == group && d.plural == plural) {
            Some(i) => i,
            None => {
                out.push(Descriptor {
                    kind: kind.into(),
                    list_kind: format!("{kind}List"),
                    plural: plural.into(),
                    singular: if singular == "-" { String::new() } else { singular.into() },
                    short_names: list(short),
                    categories: list(cats),
                    namespaced: scope == "ns",
                    key_prefix: key_prefix(&group, plural),
                    hub: Hub { group: group.clone(), version: version.into(), kind: kind.into() },
                    storage_version: String::new(),
                    versions: Vec::new(),
                    selectable_fields: fields::builtin(&group, plural),
                    stored: true,
                    custom: false,
                    terminating: false,
                    converter: None,
                    group,
                });
                out.len() - 1
            }
        };
        let Some(d) = out.get_mut(at) else { continue };
        d.stored = list(verbs).iter().any(|v| v == "update");
        d.versions.push(new_version(d, version, list(verbs)));
        current = Some((at, d.versions.len() - 1));
    }
    for d in &mut out {
        d.versions.sort_by_key(|v| std::cmp::Reverse(version_priority(&v.name)));
        d.hub = hub(d);
        d.storage_version = d.hub.version.clone();
    }
    out
}

fn new_version(d: &Descriptor, name: &str, verbs: Vec<String>) -> Version {
    let stage = Stage::of_version(name);
    Version {
        name: name.to_string(),
        stage,
        // The figures of nodes and pods have never left beta, and everybody relies on them.
        served: stage == Stage::Ga || d.group == "metrics.k8s.io",
        verbs,
        schema: schema::reference_for(&d.group, name, &d.kind).map_or(Schema::None, Schema::Builtin),
        conversion: match (d.group.as_str(), d.plural.as_str(), name) {
            ("autoscaling", "horizontalpodautoscalers", "v1") => Conversion::Functions {
                to_hub: conversion::autoscaling::v1_to_v2,
                from_hub: conversion::autoscaling::v2_to_v1,
            },
            ("events.k8s.io", "events", "v1") => Conversion::Functions {
                to_hub: conversion::events::events_to_core,
                from_hub: conversion::events::core_to_events,
            },
            ("resource.k8s.io", "resourceclaims" | "resourceclaimtemplates", "v1beta1") => {
                Conversion::Functions {
                    to_hub: conversion::resource::claim_to_v1,
                    from_hub: conversion::resource::claim_from_v1,
                }
            }
            ("certificates.k8s.io", "podcertificaterequests", "v1") => {
                Conversion::Functions { to_hub: |_| {}, from_hub: conversion::certificates::request_to_v1 }
            }
            ("resource.k8s.io", "resourceslices", "v1beta1") => Conversion::Functions {
                to_hub: conversion::resource::slice_to_v1,
                from_hub: conversion::resource::slice_from_v1,
            },
            _ => Conversion::Same,
        },
        subresources: Vec::new(),
        openapi: None,
        deprecation_warning: match (d.group.as_str(), d.plural.as_str(), name) {
            ("", "componentstatuses", _) => Some("v1 ComponentStatus is deprecated in v1.19+".into()),
            ("", "endpoints", _) => {
                Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into())
            }
            _ => None,
        },
        custom: None,
        protobuf: OnceLock::new(),
    }
}

fn hub(d: &Descriptor) -> Hub {
    let (group, version) = match (d.group.as_str(), d.plural.as_str()) {
        ("events.k8s.io", "events") => ("", "v1"),
        // It still knows an older form of requests.
        ("certificates.k8s.io", "podcertificaterequests") => ("certificates.k8s.io", "v1beta1"),
        // The most stable version; within a stage the highest.
        (g, _) => (g, d.versions.first().map_or("v1", |v| v.name.as_str())),
    };
    Hub { group: group.into(), version: version.into(), kind: d.kind.clone() }
}

/// Upstream's place of a resource in the store.
fn key_prefix(group: &str, plural: &str) -> String {
    let own = match (group, plural) {
        ("", "replicationcontrollers") => "controllers",
        ("", "endpoints") => "services/endpoints",
        ("", "services") => "services/specs",
        ("", "nodes") => "minions",
        ("networking.k8s.io", "ingresses") => "ingress",
        ("apiregistration.k8s.io" | "apiextensions.k8s.io", p) => return format!("/registry/{group}/{p}"),
        (_, p) => p,
    };
    format!("/registry/{own}")
}

fn parse_subresource(line: &str) -> Option<Subresource> {
    let cols: Vec<&str> = line.split(' ').collect();
    let [name, kind, group, version, verbs, methods, flag] = cols[..] else { return None };
    Some(Subresource {
        name: name.into(),
        kind: kind.into(),
        group: group_name(group),
        version: version.into(),
        verbs: list(verbs),
        methods: list(methods),
        connect: flag.starts_with("connect"),
        path_tail: flag == "connect-tail",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_and_lookups_are_upstreams() {
        let c = builtin();
        let key = |g: &str, p: &str| c.by_plural(g, p).map(|d| d.key("ns", "x")).unwrap_or_default();
        assert_eq!(key("", "pods"), "/registry/pods/ns/x");
        assert_eq!(key("", "nodes"), "/registry/minions/x");
        assert_eq!(key("", "services"), "/registry/services/specs/ns/x");
        assert_eq!(key("", "endpoints"), "/registry/services/endpoints/ns/x");
        assert_eq!(key("events.k8s.io", "events"), "/registry/events/ns/x");
        assert_eq!(key("networking.k8s.io", "ingresses"), "/registry/ingress/ns/x");
        assert_eq!(
            key("apiextensions.k8s.io", "customresourcedefinitions"),
            "/registry/apiextensions.k8s.io/customresourcedefinitions/x"
        );
        let d = c.by_kind("apps", "Deployment").expect("deployment");
        assert_eq!(d.short_names, ["deploy"]);
        assert!(d.versions[0].subresource("scale").is_some());
        assert!(c.by_plural("apps", "pods").is_none());
        assert_eq!(c.groups().first(), Some(&""));
        assert_eq!(c.group_versions("autoscaling"), ["v2", "v1"]);
    }

    #[test]
    fn every_version_has_its_schema_and_only_ga_is_served() {
        for d in builtin().iter() {
            for v in &d.versions {
                assert!(v.schema.definition().is_some(), "{}/{}", d.group_resource(), v.name);
                assert_eq!(v.served, v.stage == Stage::Ga || d.group == "metrics.k8s.io");
            }
            assert!(d.hub_definition().is_some(), "{}", d.group_resource());
        }
        let hpa = builtin().by_plural("autoscaling", "horizontalpodautoscalers").expect("hpa");
        assert_eq!(hpa.hub.version, "v2");
        assert!(!builtin().by_plural("", "bindings").expect("bindings").stored);
    }

    #[test]
    fn field_values_read_the_stored_form() {
        let pods = builtin().by_plural("", "pods").expect("pods");
        let v = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"nodeName": "n"}});
        let f = pods.field_values(&v);
        assert!(f.contains(&("spec.nodeName", "n".into())));
        assert!(f.contains(&("spec.hostNetwork", "false".into())));
        assert!(pods.selectable("v1", "spec.nope").is_err());
        let jobs = builtin().by_plural("batch", "jobs").expect("jobs");
        assert_eq!(jobs.selectable("v1", "status.successful").map(|f| f.value(&json!({}))), Ok("0".into()));
    }
}
