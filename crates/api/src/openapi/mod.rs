//! OpenAPI documents, built on demand from the catalog and the schemas: v3 per group version, v2 for everything.
//! The caller caches the bytes; nothing is kept here.

mod components;
pub mod descriptions;
mod paths;
pub mod proto;

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::catalog::{Catalog, api_version};

/// Which form of OpenAPI is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    V2,
    V3,
}

/// Descriptions for `explain`: asked with a definition's id and, for a field, its name.
pub type Describe<'a> = &'a dyn Fn(&str, Option<&str>) -> Option<Cow<'a, str>>;

/// One line of the `/openapi/v3` index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupVersion {
    pub group: String,
    pub version: String,
}

impl GroupVersion {
    /// `api/v1` or `apis/apps/v1`: the key in the index, and the path below `/openapi/v3/`.
    pub fn path(&self) -> String {
        if self.group.is_empty() {
            format!("api/{}", self.version)
        } else {
            format!("apis/{}/{}", self.group, self.version)
        }
    }

    /// The inverse of `path`.
    pub fn from_path(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let (group, version) = match (parts.next()?, parts.next()?, parts.next()) {
            ("api", version, None) => ("", version),
            ("apis", group, Some(version)) => (group, version),
            _ => return None,
        };
        parts.next().is_none().then(|| GroupVersion { group: group.into(), version: version.into() })
    }
}

/// The group versions that have a document.
pub fn group_versions(catalog: &Catalog) -> Vec<GroupVersion> {
    let gv = |g: &str, v: &str| GroupVersion { group: g.to_string(), version: v.to_string() };
    catalog
        .groups()
        .into_iter()
        .flat_map(|g| catalog.group_versions(g).into_iter().map(move |v| gv(g, v)))
        .collect()
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.37.0"})
}

/// The v3 document of one group version; `None` when it is not served.
pub fn v3(catalog: &Catalog, group: &str, version: &str, describe: Describe<'_>) -> Option<Value> {
    let mut paths = Map::new();
    let mut wanted = BTreeSet::new();
    let mut schemas = Map::new();
    let mut any = false;
    for (d, v) in catalog.resources(group, version) {
        any = true;
        paths::resource(d, v, Flavor::V3, &mut paths, &mut wanted);
        components::custom(d, v, Flavor::V3, &mut schemas, &mut wanted);
    }
    if !any {
        return None;
    }
    components::closure(wanted, Flavor::V3, describe, &mut schemas);
    components::delete_options(&mut schemas, &[api_version(group, version)]);
    Some(json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization",
                "description": "Bearer Token authentication"}},
        },
    }))
}

/// The v2 document of everything that is served.
pub fn v2(catalog: &Catalog, describe: Describe<'_>) -> Value {
    let mut paths = Map::new();
    let mut wanted = BTreeSet::new();
    let mut schemas = Map::new();
    let mut versions = Vec::new();
    for gv in group_versions(catalog) {
        versions.push(api_version(&gv.group, &gv.version));
        for (d, v) in catalog.resources(&gv.group, &gv.version) {
            paths::resource(d, v, Flavor::V2, &mut paths, &mut wanted);
            components::custom(d, v, Flavor::V2, &mut schemas, &mut wanted);
        }
    }
    components::closure(wanted, Flavor::V2, describe, &mut schemas);
    components::delete_options(&mut schemas, &versions);
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": schemas,
        "securityDefinitions": {"BearerToken": {"type": "apiKey", "in": "header", "name": "authorization",
            "description": "Bearer Token authentication"}},
        "security": [{"BearerToken": []}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::builtin;

    /// Every `$ref` in the document points at something that is there.
    fn check_refs(v: &Value, have: &Map<String, Value>, prefix: &str) {
        match v {
            Value::Object(m) => {
                if let Some(r) = m.get("$ref").and_then(Value::as_str) {
                    let id = r.strip_prefix(prefix).unwrap_or_else(|| panic!("{r}"));
                    assert!(have.contains_key(id), "{id} is missing");
                }
                m.values().for_each(|v| check_refs(v, have, prefix));
            }
            Value::Array(a) => a.iter().for_each(|v| check_refs(v, have, prefix)),
            _ => {}
        }
    }

    #[test]
    fn every_group_version_has_a_closed_document() {
        for gv in group_versions(builtin()) {
            assert_eq!(GroupVersion::from_path(&gv.path()), Some(gv.clone()));
            let doc = v3(builtin(), &gv.group, &gv.version, &descriptions::of).expect("document");
            let have = doc["components"]["schemas"].as_object().expect("schemas");
            check_refs(&doc, have, "#/components/schemas/");
            for (id, schema) in have {
                let known = crate::schema::definition(id).is_some()
                    || id.rsplit('.').next().is_some_and(|n| {
                        ["Quantity", "IntOrString", "RawExtension", "Time", "MicroTime", "FieldsV1", "Patch"]
                            .contains(&n)
                            || n.starts_with("JSON")
                    });
                assert!(known, "{id}: {schema}");
            }
        }
        let doc = v2(builtin(), &descriptions::of);
        check_refs(&doc, doc["definitions"].as_object().expect("definitions"), "#/definitions/");
        assert!(v3(builtin(), "nope", "v1", &descriptions::of).is_none());
    }

    #[test]
    fn kubectl_finds_what_it_looks_for() {
        let doc = v3(builtin(), "apps", "v1", &descriptions::of).expect("apps");
        let patch = &doc["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "apps", "kind": "Deployment", "version": "v1"})
        );
        let names: Vec<&str> =
            patch["parameters"].as_array().into_iter().flatten().filter_map(|p| p["name"].as_str()).collect();
        assert!(["dryRun", "fieldManager", "fieldValidation", "force"].iter().all(|n| names.contains(n)));
        assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
        let schemas = &doc["components"]["schemas"];
        let strategy = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
        assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
        assert_eq!(
            strategy["allOf"][0]["$ref"],
            "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"
        );
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert_eq!(
            schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"][0]["kind"],
            "Deployment"
        );
        let core = v3(builtin(), "", "v1", &descriptions::of).expect("core");
        assert!(core["paths"].get("/api/v1/namespaces/{namespace}/pods/{name}/log").is_some());
        assert!(core["paths"].get("/api/v1/pods").is_some());
    }
}
