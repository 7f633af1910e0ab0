//! Paths and operations of a resource.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Flavor;
use super::components::{META, ids, reference};
use crate::catalog::{Descriptor, Subresource, Version};
use crate::schema::definition_id_for;

const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const WRITE: &[(&str, &str)] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const LIST: &[(&str, &str)] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: &[(&str, &str)] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// Writes operations in one flavor and remembers which definitions they name.
struct Writer<'a> {
    flavor: Flavor,
    wanted: &'a mut BTreeSet<String>,
    tag: String,
    gvk: Value,
    /// Middle of the operation ids: `CoreV1NamespacedPod`.
    name: String,
    /// A custom resource takes no strategic merge patch.
    custom: bool,
}

fn camel(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for word in s.split(['.', '-', '_']) {
        let mut c = word.chars();
        out.extend(c.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(c.as_str());
    }
    out
}

impl Writer<'_> {
    fn refer(&mut self, id: &str) -> Value {
        self.wanted.insert(id.to_string());
        reference(id, self.flavor)
    }

    fn parameter(&self, place: &str, name: &str, ty: &str) -> Value {
        let mut p = json!({"name": name, "in": place});
        if place == "path" {
            p["required"] = json!(true);
        }
        if self.flavor == Flavor::V3 {
            p["schema"] = json!({"type": ty});
        } else {
            p["type"] = json!(ty);
        }
        if place == "query" {
            p["uniqueItems"] = json!(true);
            if self.flavor == Flavor::V3 {
                p["schema"]["uniqueItems"] = json!(true);
                if let Some(o) = p.as_object_mut() {
                    o.remove("uniqueItems");
                }
            }
        }
        p
    }

    fn query(&self, names: &[(&str, &str)]) -> Vec<Value> {
        names.iter().map(|(n, t)| self.parameter("query", n, t)).collect()
    }

    /// One operation. `body` is a definition id with the media types it may come in.
    fn operation(
        &mut self,
        verb: &str,
        action: &str,
        mut parameters: Vec<Value>,
        body: Option<(&str, &[&str])>,
        answer: &str,
        codes: &[&str],
    ) -> Value {
        let mut op = json!({"operationId": format!("{verb}{}", self.name), "tags": [self.tag], "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.gvk});
        if let Some((id, media)) = body {
            let schema = self.refer(id);
            if self.flavor == Flavor::V3 {
                let content: Map<String, Value> =
                    media.iter().map(|m| (m.to_string(), json!({"schema": schema}))).collect();
                op["requestBody"] = json!({"content": content, "required": action != "delete" && action != "deletecollection"});
            } else {
                parameters.push(
                    json!({"name": "body", "in": "body", "required": action != "delete", "schema": schema}),
                );
                op["consumes"] = json!(media);
            }
        }
        if !parameters.is_empty() {
            op["parameters"] = Value::Array(parameters);
        }
        let text = answer.is_empty();
        let schema = if text { json!({"type": "string"}) } else { self.refer(answer) };
        let mut responses = Map::new();
        for code in codes {
            let description = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let r = match self.flavor {
                Flavor::V2 => json!({"description": description, "schema": schema}),
                Flavor::V3 => {
                    let media = if text { "text/plain" } else { "application/json" };
                    json!({"description": description, "content": {media: {"schema": schema}}})
                }
            };
            responses.insert(code.to_string(), r);
        }
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        op["responses"] = Value::Object(responses);
        op
    }

    fn read(&mut self, id: &str) -> Value {
        self.operation("read", "get", Vec::new(), None, id, &["200"])
    }

    fn replace(&mut self, id: &str) -> Value {
        let q = self.query(WRITE);
        self.operation("replace", "put", q, Some((id, &["*/*"])), id, &["200", "201"])
    }

    fn create(&mut self, id: &str) -> Value {
        let q = self.query(WRITE);
        self.operation("create", "post", q, Some((id, &["*/*"])), id, &["200", "201", "202"])
    }

    fn patch(&mut self, id: &str) -> Value {
        let mut q = self.query(WRITE);
        q.extend(self.query(&[("force", "boolean")]));
        let media = if self.custom { &PATCHES[..3] } else { &PATCHES[..] };
        self.operation("patch", "patch", q, Some((&format!("{META}Patch"), media)), id, &["200", "201"])
    }

    fn common(&self, namespaced: bool, name: bool) -> Vec<Value> {
        let mut out = Vec::new();
        if name {
            out.push(self.parameter("path", "name", "string"));
        }
        if namespaced {
            out.push(self.parameter("path", "namespace", "string"));
        }
        out.push(self.parameter("query", "pretty", "string"));
        out
    }
}

fn put(paths: &mut Map<String, Value>, path: String, parameters: Vec<Value>, ops: Map<String, Value>) {
    if ops.is_empty() {
        return;
    }
    let mut item = ops;
    item.insert("parameters".into(), Value::Array(parameters));
    paths.insert(path, Value::Object(item));
}

/// Adds the paths of one version of a resource.
pub(super) fn resource(
    d: &Descriptor,
    v: &Version,
    flavor: Flavor,
    paths: &mut Map<String, Value>,
    wanted: &mut BTreeSet<String>,
) {
    let (id, list_id) = ids(d, v);
    let group = match d.group.as_str() {
        "" => "core",
        g => g.strip_suffix(".k8s.io").unwrap_or(g),
    };
    let scope = if d.namespaced { "Namespaced" } else { "" };
    let mut w = Writer {
        flavor,
        wanted,
        tag: format!("{}_{}", group.replace('.', "_"), v.name),
        gvk: json!({"group": d.group, "version": v.name, "kind": d.kind}),
        name: format!("{}{}{scope}{}", camel(group), camel(&v.name), d.kind),
        custom: d.custom,
    };
    let root = match d.group.as_str() {
        "" => format!("/api/{}", v.name),
        g => format!("/apis/{g}/{}", v.name),
    };
    let base = if d.namespaced {
        format!("{root}/namespaces/{{namespace}}/{}", d.plural)
    } else {
        format!("{root}/{}", d.plural)
    };
    collection(d, v, &mut w, &base, &id, &list_id, paths);
    if d.namespaced && v.has_verb("list") {
        let q = w.query(LIST);
        let name = std::mem::take(&mut w.name);
        w.name = format!("{}ForAllNamespaces", name.replacen("Namespaced", "", 1));
        let list = w.operation("list", "list", q, None, &list_id, &["200"]);
        w.name = name;
        put(
            paths,
            format!("{root}/{}", d.plural),
            w.common(false, false),
            Map::from_iter([("get".into(), list)]),
        );
    }
    let item = format!("{base}/{{name}}");
    let mut ops = Map::new();
    if v.has_verb("get") {
        ops.insert("get".into(), w.read(&id));
    }
    if v.has_verb("update") {
        ops.insert("put".into(), w.replace(&id));
    }
    if v.has_verb("patch") {
        ops.insert("patch".into(), w.patch(&id));
    }
    if v.has_verb("delete") {
        let q = w.query(DELETE);
        let body = format!("{META}DeleteOptions");
        let status = format!("{META}Status");
        let op = w.operation("delete", "delete", q, Some((&body, &["*/*"])), &status, &["200", "202"]);
        ops.insert("delete".into(), op);
    }
    put(paths, item.clone(), w.common(d.namespaced, true), ops);
    for s in &v.subresources {
        subresource(d, s, &mut w, &item, &id, paths);
    }
}

fn collection(
    d: &Descriptor,
    v: &Version,
    w: &mut Writer<'_>,
    base: &str,
    id: &str,
    list_id: &str,
    paths: &mut Map<String, Value>,
) {
    let mut ops = Map::new();
    if v.has_verb("list") {
        let q = w.query(LIST);
        ops.insert("get".into(), w.operation("list", "list", q, None, list_id, &["200"]));
    }
    if v.has_verb("create") {
        ops.insert("post".into(), w.create(id));
    }
    if v.has_verb("deletecollection") {
        let mut q = w.query(LIST);
        q.retain(|p| p["name"] != "watch" && p["name"] != "allowWatchBookmarks");
        q.extend(w.query(DELETE));
        let body = format!("{META}DeleteOptions");
        let status = format!("{META}Status");
        let op = w.operation(
            "deleteCollection",
            "deletecollection",
            q,
            Some((&body, &["*/*"])),
            &status,
            &["200"],
        );
        ops.insert("delete".into(), op);
    }
    put(paths, base.to_string(), w.common(d.namespaced, false), ops);
}

fn subresource(
    d: &Descriptor,
    s: &Subresource,
    w: &mut Writer<'_>,
    item: &str,
    own_id: &str,
    paths: &mut Map<String, Value>,
) {
    let id = if s.group == d.group && s.kind == d.kind {
        own_id.to_string()
    } else {
        definition_id_for(&s.group, &s.version, &s.kind).unwrap_or_default()
    };
    let saved = (w.name.clone(), w.gvk.clone());
    w.name.push_str(&camel(&s.name));
    w.gvk = json!({"group": s.group, "version": s.version, "kind": s.kind});
    let mut ops = Map::new();
    for m in &s.methods {
        let method = m.to_ascii_lowercase();
        let op = match method.as_str() {
            _ if s.connect => {
                w.operation(&format!("connect{}", camel(&method)), "connect", Vec::new(), None, "", &["200"])
            }
            "get" if s.name == "log" => w.operation("read", "get", log_parameters(w), None, "", &["200"]),
            "get" => w.read(&id),
            "put" => w.replace(&id),
            "patch" => w.patch(&id),
            "post" => w.create(&id),
            _ => continue,
        };
        ops.insert(method, op);
    }
    put(paths, format!("{item}/{}", s.name), w.common(d.namespaced, true), ops.clone());
    if s.path_tail {
        let mut parameters = w.common(d.namespaced, true);
        parameters.push(w.parameter("path", "path", "string"));
        for op in ops.values_mut() {
            let id = format!("{}WithPath", op["operationId"].as_str().unwrap_or_default());
            op["operationId"] = json!(id);
        }
        put(paths, format!("{item}/{}/{{path}}", s.name), parameters, ops);
    }
    (w.name, w.gvk) = saved;
}

fn log_parameters(w: &Writer<'_>) -> Vec<Value> {
    w.query(&[
        ("container", "string"),
        ("follow", "boolean"),
        ("insecureSkipTLSVerifyBackend", "boolean"),
        ("limitBytes", "integer"),
        ("previous", "boolean"),
        ("sinceSeconds", "integer"),
        ("stream", "string"),
        ("tailLines", "integer"),
        ("timestamps", "boolean"),
    ])
}
