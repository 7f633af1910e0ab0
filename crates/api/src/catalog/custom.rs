//! From a CustomResourceDefinition (apiextensions.k8s.io/v1) to the same `Descriptor` that built-in resources have. Pure.
//! https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::{
    Conversion, Descriptor, FieldFormat, Hub, Schema, SelectableField, Stage, Subresource, Version,
    api_version, version_priority,
};
use crate::columns::custom::Columns;
use crate::defaults;
use crate::schema::definition_from_openapi;
use crate::validation::custom as validation;

/// What a version of a custom resource has beyond a built-in one.
#[derive(Debug)]
pub struct Custom {
    schema: Arc<Value>,
    /// Compiled when the first object is checked: a cluster holds many more definitions than it uses.
    checks: OnceLock<validation::Schema>,
    pub columns: Columns,
    pub has_defaults: bool,
    pub scale: Option<ScalePaths>,
    /// Labels of `selectableFields`; other versions may have others.
    pub selectable: Vec<String>,
}

/// A conversion webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Converter {
    /// `WebhookClientConfig`.
    pub client: Value,
    /// The version of ConversionReview to speak: the first that both sides know.
    pub review: Option<&'static str>,
}

impl Converter {
    fn of(conversion: &Value) -> Option<Self> {
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let hook = &conversion["webhook"];
        let known = |v: &String| ["v1", "v1beta1"].into_iter().find(|k| k == v);
        Some(Self {
            client: hook["clientConfig"].clone(),
            review: texts(&hook["conversionReviewVersions"]).iter().find_map(known),
        })
    }
}

/// Where a custom resource keeps what `scale` shows, as field names from the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: Vec<String>,
    pub status_replicas: Vec<String>,
    pub selector: Option<Vec<String>>,
}

impl Custom {
    /// The checks of `openAPIV3Schema`.
    pub fn checks(&self) -> &validation::Schema {
        self.checks.get_or_init(|| validation::Schema::compile(&self.schema))
    }

    pub fn default(&self, object: &mut Value) {
        if self.has_defaults {
            defaults::custom::apply(&self.schema, object);
        }
    }
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap_or_default()
}

fn texts(v: &Value) -> Vec<String> {
    v.as_array().into_iter().flatten().filter_map(|s| Some(s.as_str()?.to_owned())).collect()
}

fn list(v: &Value) -> &[Value] {
    v.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// `.spec.replicas` as its field names.
fn path(p: &str) -> Vec<String> {
    p.trim_start_matches('.').split('.').map(str::to_owned).collect()
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

/// The resource that a definition makes, under the names it was given (`status.acceptedNames`). `None` when the
/// definition lacks what every one has.
pub fn descriptor(crd: &Value) -> Option<Descriptor> {
    let spec = &crd["spec"];
    let names = &crd["status"]["acceptedNames"];
    let (group, plural, kind) = (text(spec, "group"), text(names, "plural"), text(names, "kind"));
    if group.is_empty() || plural.is_empty() || kind.is_empty() {
        return None;
    }
    let stored = list(&spec["versions"]).iter().find(|v| v["storage"] == true)?;
    let mut versions: Vec<Version> =
        list(&spec["versions"]).iter().map(|v| version(group, kind, v)).collect();
    versions.sort_by(|a, b| {
        version_priority(&b.name).cmp(&version_priority(&a.name)).then_with(|| a.name.cmp(&b.name))
    });
    let mut selectable =
        vec![SelectableField::text("metadata.name"), SelectableField::text("metadata.namespace")];
    for f in list(&spec["versions"]).iter().flat_map(|v| list(&v["selectableFields"])) {
        let label = label(f);
        if !label.is_empty() && !selectable.iter().any(|s| s.label == label) {
            selectable.push(SelectableField::new(label, label, FieldFormat::Text));
        }
    }
    Some(Descriptor {
        group: group.to_owned(),
        kind: kind.to_owned(),
        list_kind: match text(names, "listKind") {
            "" => format!("{kind}List"),
            l => l.to_owned(),
        },
        plural: plural.to_owned(),
        singular: match text(names, "singular") {
            "" => kind.to_lowercase(),
            s => s.to_owned(),
        },
        short_names: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        namespaced: text(spec, "scope") != "Cluster",
        key_prefix: format!("/registry/{group}/{plural}"),
        hub: Hub { group: group.to_owned(), version: text(stored, "name").to_owned(), kind: kind.to_owned() },
        storage_version: text(stored, "name").to_owned(),
        versions,
        selectable_fields: selectable,
        stored: true,
        custom: true,
        terminating: !crd["metadata"]["deletionTimestamp"].is_null(),
        converter: Converter::of(&spec["conversion"]).map(Arc::new),
    })
}

/// Of a selectable field.
fn label(f: &Value) -> &str {
    text(f, "jsonPath").trim_start_matches('.')
}

fn version(group: &str, kind: &str, v: &Value) -> Version {
    let name = text(v, "name");
    let schema = Arc::new(v["schema"]["openAPIV3Schema"].clone());
    let sub = |name: &str, kind: &str, group: &str, version: &str| Subresource {
        name: name.to_owned(),
        kind: kind.to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        verbs: words(&["get", "patch", "update"]),
        methods: words(&["GET", "PATCH", "PUT"]),
        connect: false,
        path_tail: false,
    };
    let mut subresources = Vec::new();
    if v["subresources"]["status"].is_object() {
        subresources.push(sub("status", kind, group, name));
    }
    let scale = &v["subresources"]["scale"];
    let scale = scale.is_object().then(|| ScalePaths {
        spec_replicas: path(text(scale, "specReplicasPath")),
        status_replicas: path(text(scale, "statusReplicasPath")),
        selector: Some(text(scale, "labelSelectorPath")).filter(|s| !s.is_empty()).map(path),
    });
    if scale.is_some() {
        subresources.push(sub("scale", "Scale", "autoscaling", "v1"));
    }
    let deprecated = (v["deprecated"] == true).then(|| match v["deprecationWarning"].as_str() {
        Some(w) => w.to_owned(),
        None => format!("{} {kind} is deprecated", api_version(group, name)),
    });
    Version {
        name: name.to_owned(),
        stage: Stage::Ga,
        served: v["served"] == true,
        verbs: words(&["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]),
        schema: Schema::Custom(definition_from_openapi(group, name, kind, &schema)),
        conversion: Conversion::Same,
        subresources,
        openapi: Some(schema.clone()),
        deprecation_warning: deprecated,
        custom: Some(Arc::new(Custom {
            checks: OnceLock::new(),
            columns: Columns::new(&v["additionalPrinterColumns"]),
            has_defaults: defaults::custom::any(&schema),
            scale,
            schema,
            selectable: list(&v["selectableFields"]).iter().map(|f| label(f).to_owned()).collect(),
        })),
        protobuf: OnceLock::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_becomes_a_resource() {
        let crd = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "versions": [
                {"name": "v1alpha1", "served": true, "storage": false, "deprecated": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v1", "served": true, "storage": true, "selectableFields": [{"jsonPath": ".spec.color"}],
                 "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                 "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
                    "n": {"type": "integer", "default": 2, "maximum": 3}}}}}}}]},
            "status": {"acceptedNames": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]}}});
        let d = descriptor(&crd).expect("descriptor");
        assert_eq!(
            (d.singular.as_str(), d.list_kind.as_str(), d.hub.version.as_str()),
            ("widget", "WidgetList", "v1")
        );
        assert_eq!(d.key("ns", "a"), "/registry/example.com/widgets/ns/a");
        assert_eq!(d.versions.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["v1", "v1alpha1"]);
        assert_eq!(
            d.version("v1alpha1").and_then(|v| v.deprecation_warning.as_deref()),
            Some("example.com/v1alpha1 Widget is deprecated")
        );
        assert!(d.selectable("v1", "spec.color").is_ok());
        assert!(d.selectable("v1alpha1", "spec.color").is_err(), "a field of another version");
        let c = d.version("v1").and_then(|v| v.custom.clone()).expect("custom");
        assert_eq!(c.scale.as_ref().map(|s| s.spec_replicas.join("/")).as_deref(), Some("spec/n"));
        let mut o = json!({"spec": {}});
        c.default(&mut o);
        assert_eq!(o["spec"]["n"], 2);
        assert!(descriptor(&json!({})).is_none());
    }
}
