//! What OpenAPI says of custom resources, and what kubectl makes of it (test/e2e/apimachinery/crd_publish_openapi.go).

use serde_json::{Value, json};
use testkit::wait_for;

use crate::world::{Tests, World, newer};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema [Conformance]",
        with_a_schema,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema [Conformance]",
        without_a_schema,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at the schema root [Conformance]",
        open_at_the_root,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in an embedded object [Conformance]",
        open_inside,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different groups [Conformance]",
        two_groups,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group but different versions [Conformance]",
        two_versions,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group and version but different kinds [Conformance]",
        two_kinds,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one version gets renamed [Conformance]",
        renamed,
    ),
    (
        "[sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when one version gets changed to not be served [Conformance]",
        not_served,
    ),
];

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// An object with a description and these fields.
fn object(description: &str, properties: Value) -> Value {
    json!({"type": "object", "description": description, "properties": properties})
}

fn foo() -> Value {
    let mut feeling = text("How the bar is.");
    feeling["enum"] = json!(["Great", "Down"]);
    let bazs = json!({"type": "array", "description": "List of bazs.", "items": {"type": "string"}});
    let bar = json!({
        "type": "object",
        "required": ["name"],
        "properties": {"name": text("Name of the bar."), "age": text("Its age."), "feeling": feeling, "bazs": bazs},
    });
    let mut qux = text("What it is beside.");
    qux["pattern"] = "in-tree|out-of-tree".into();
    let state = json!({"type": "object", "properties": {"available": {"type": "boolean"}, "qux": qux}});
    let list = |items: Value| json!({"type": "array", "description": "List of bars.", "items": items});
    let spec = object("What a foo is to be", json!({"bars": list(bar)}));
    object(
        "Foo for a test",
        json!({"spec": spec, "status": object("What it is", json!({"bars": list(state)}))}),
    )
}

fn waldo() -> Value {
    let dummy = json!({"type": "object", "description": "A dummy."});
    let bars = json!({"type": "array", "items": {"type": "object"}});
    let spec = object("What a waldo is to be", json!({"dummy": dummy}));
    object("Waldo for a test", json!({"spec": spec, "status": object("What it is", json!({"bars": bars}))}))
}

/// A kind whose name no other test has, since kubectl looks for it by that.
struct Kind<'w> {
    w: &'w World<'w>,
    name: String,
    group: String,
    path: String,
}

impl<'w> Kind<'w> {
    /// In the group `<group>.<namespace>.example.com`; the first version is stored.
    fn define(w: &'w World<'w>, name: &str, group: &str, versions: &[&str], schema: &Value) -> Self {
        let name = format!("{name}{}", w.namespace.trim_start_matches("e2e-"));
        let group = format!("{group}.{}.example.com", w.namespace);
        let schema = json!({"openAPIV3Schema": schema});
        let version = |(i, version): (usize, &&str)| json!({"name": version, "served": true, "storage": i == 0, "schema": schema});
        let versions: Vec<Value> = versions.iter().enumerate().map(version).collect();
        let path = w.define(&name, &json!({"group": group, "versions": versions}));
        Self { w, name, group, path }
    }

    /// What OpenAPI has of it in a version, without what every kind has.
    fn published(&self, version: &str) -> Option<Value> {
        let mut group: Vec<&str> = self.group.split('.').collect();
        group.reverse();
        let name = format!("{}.{version}.{}", group.join("."), self.name);
        let mut found = self.w.get("/openapi/v2")["definitions"].get_mut(&name)?.take();
        let fields = found.as_object_mut()?;
        fields.retain(|k, _| k != "x-kubernetes-group-version-kind" && k != "x-kubernetes-selectable-fields");
        if let Some(own) = fields.get_mut("properties").and_then(Value::as_object_mut) {
            own.retain(|k, _| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata"));
            if own.is_empty() {
                fields.remove("properties");
            }
        }
        Some(found)
    }

    fn wait_published(&self, version: &str, schema: &Value) {
        wait_for(&format!("{} in version {version} in OpenAPI", self.name), || {
            let found = self.published(version);
            found.is_some_and(|found| {
                assert_eq!(&found, schema);
                true
            })
        });
    }

    fn wait_removed(&self, version: &str) {
        wait_for(&format!("no {} in version {version} in OpenAPI", self.name), || {
            self.published(version).is_none()
        });
    }

    fn remove(&self, versions: &[&str]) {
        self.w.delete(&self.path);
        versions.iter().for_each(|v| self.wait_removed(v));
    }

    fn plural(&self) -> String {
        format!("{}s", self.name.to_lowercase())
    }

    /// An object of v1 with one more field.
    fn object(&self, field: &str, value: Value) -> String {
        let version = format!("{}/v1", self.group);
        let mut o = json!({"apiVersion": version, "kind": self.name, "metadata": {"name": "one"}});
        o[field] = value;
        o.to_string()
    }

    /// `kubectl create` and `kubectl apply` take it.
    fn taken(&self, object: &str) {
        for verb in ["create", "apply"] {
            let out = self.w.try_kubectl(&[verb, "-f", "-"], Some(object));
            assert!(out.ok, "{out:?}");
            self.w.kubectl(&["delete", &self.plural(), "one"]);
        }
    }

    /// They refuse it with words that have this part.
    fn refused(&self, object: &str, part: &str) {
        for verb in ["create", "apply"] {
            let out = self.w.try_kubectl(&[verb, "-f", "-"], Some(object));
            assert!(!out.ok && out.stderr.contains(part), "{part}: {out:?}");
        }
    }

    /// `kubectl explain` has these, one after the other.
    fn explained(&self, field: &str, parts: &[&str]) {
        let shown = self.w.kubectl(&["explain", &format!("{}{field}", self.plural())]);
        let mut rest = shown.as_str();
        for part in parts {
            let found = rest.find(part).unwrap_or_else(|| panic!("no {part:?} after the others in {shown}"));
            rest = &rest[found + part.len()..];
        }
    }
}

fn with_a_schema(w: &World) {
    let kind = Kind::define(w, "Foo", "foo", &["v1"], &foo());
    kind.wait_published("v1", &foo());
    let spec = |bar: Value| kind.object("spec", json!({"bars": [bar]}));
    kind.taken(&spec(json!({"name": "bar"})));
    kind.refused(&spec(json!({"name": "bar", "feeling": "Unknown"})), "Unsupported value: \"Unknown\"");
    kind.refused(&kind.object("spec", json!({"foo": true})), "unknown field \"spec.foo\"");
    kind.refused(&spec(json!({"age": "10"})), "spec.bars[0].name: Required value");

    let fields =
        ["DESCRIPTION:", "Foo for a test", "FIELDS:", "apiVersion", "<string>", "APIVersion defines"];
    kind.explained("", &[&fields[..], &["spec", "<Object>", "What a foo is to be"]].concat());
    let metadata = ["DESCRIPTION:", "Standard object's metadata", "FIELDS:", "creationTimestamp", "<string>"];
    kind.explained(".metadata", &[&metadata[..], &["CreationTimestamp is a timestamp"]].concat());
    kind.explained(
        ".spec",
        &["DESCRIPTION:", "What a foo is to be", "FIELDS:", "bars", "<[]Object>", "List of bars"],
    );
    let bars =
        ["FIELD:", "bars", "<[]Object>", "DESCRIPTION:", "List of bars", "FIELDS:", "bazs", "<[]string>"];
    kind.explained(
        ".spec.bars",
        &[&bars[..], &["List of bazs", "name", "<string>", "Name of the bar"]].concat(),
    );
    let out = w.try_kubectl(&["explain", &format!("{}.spec.bars2", kind.plural())], None);
    assert!(!out.ok && out.stderr.contains("field \"bars2\" does not exist"), "{out:?}");
    kind.remove(&["v1"]);
}

fn without_a_schema(w: &World) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let kind = Kind::define(w, "Empty", "empty", &["v1"], &schema);
    kind.wait_published("v1", &json!({"type": "object"}));
    kind.taken(&kind.object("a", json!({"b": [{"c": "d"}]})));
    kind.explained("", &["DESCRIPTION:", "<empty>"]);
    kind.remove(&["v1"]);
}

fn open_at_the_root(w: &World) {
    let mut schema = waldo();
    schema["x-kubernetes-preserve-unknown-fields"] = true.into();
    let kind = Kind::define(w, "Root", "root", &["v1"], &schema);
    wait_for("the kind in OpenAPI", || kind.published("v1").is_some());
    kind.taken(&kind.object("a", json!({"b": [{"c": "d"}]})));
    kind.explained("", &["KIND:", &kind.name]);
    kind.remove(&["v1"]);
}

fn open_inside(w: &World) {
    let mut schema = waldo();
    schema["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] = true.into();
    let kind = Kind::define(w, "Nested", "nested", &["v1"], &schema);
    wait_for("the kind in OpenAPI", || kind.published("v1").is_some());
    kind.taken(&kind.object("spec", json!({"a": null, "b": [{"c": "d"}]})));
    kind.explained("", &["DESCRIPTION:", "Waldo for a test"]);
    kind.remove(&["v1"]);
}

/// Two kinds, each in a group and a version, with schemas of their own.
fn two(w: &World, groups: [&str; 2], versions: [&str; 2]) {
    let (schemas, names) = ([foo(), waldo()], ["Foo", "Waldo"]);
    let kinds = [0, 1].map(|i| Kind::define(w, names[i], groups[i], &[versions[i]], &schemas[i]));
    for i in [0, 1] {
        kinds[i].wait_published(versions[i], &schemas[i]);
    }
    for i in [0, 1] {
        kinds[i].remove(&[versions[i]]);
    }
}

fn two_groups(w: &World) {
    two(w, ["foo", "waldo"], ["v1", "v1beta1"]);
}

fn two_versions(w: &World) {
    let versions = ["v2", "v3"];
    let kind = Kind::define(w, "Multi", "multi", &versions, &foo());
    versions.iter().for_each(|v| kind.wait_published(v, &foo()));
    kind.remove(&versions);
    two(w, ["common", "common"], ["v4", "v5"]);
}

fn two_kinds(w: &World) {
    two(w, ["common", "common"], ["v6", "v6"]);
}

fn renamed(w: &World) {
    let kind = Kind::define(w, "Multi", "multi", &["v2", "v3"], &foo());
    ["v2", "v3"].iter().for_each(|v| kind.wait_published(v, &foo()));
    let at = "/spec/versions/1/name";
    let patch =
        json!([{"op": "test", "path": at, "value": "v3"}, {"op": "replace", "path": at, "value": "v4"}]);
    w.patch(&kind.path, "json-patch+json", &patch);
    kind.wait_published("v4", &foo());
    kind.wait_removed("v3");
    kind.wait_published("v2", &foo());
    kind.remove(&["v2", "v4"]);
}

fn not_served(w: &World) {
    let kind = Kind::define(w, "Multi", "multi", &["v5", "v6alpha1"], &foo());
    ["v5", "v6alpha1"].iter().for_each(|v| kind.wait_published(v, &foo()));
    let before = w.get(&kind.path);
    let updated = w.update(&kind.path, "", |o| o["spec"]["versions"][1]["served"] = false.into());
    assert!(newer(&updated, &before));
    kind.wait_removed("v6alpha1");
    kind.wait_published("v5", &foo());
    kind.remove(&["v5"]);
}
