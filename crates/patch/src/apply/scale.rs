//! Owners across `/scale`: a Scale shows who owns `replicas` of its parent, and what is written to it ends up there.

use super::element::Path;
use super::manager::field_path;
use super::managers::{Entry, ManagerId, Managers, Trust, decode, encode};
use super::set::Set;
use serde_json::{Value, json};

const SCALE: &str = "autoscaling/v1";

/// Carries owners between an object and its Scale.
pub struct ScaleOwners<'a> {
    /// `managedFields` of the parent.
    pub parent: Option<&'a Value>,
    /// The parent's apiVersion at this endpoint.
    pub api_version: &'a str,
    /// Where `replicas` is in objects of an apiVersion; `None` when the version is unknown.
    pub replicas: &'a dyn Fn(&str) -> Option<Path>,
}

fn in_scale() -> Path {
    field_path(&["spec", "replicas"])
}

impl ScaleOwners<'_> {
    /// `managedFields` of the Scale.
    pub fn to_scale(&self) -> Result<Option<Value>, String> {
        let mut out = Managers::new();
        for (id, e) in decode(self.parent.cloned(), Trust::Stored)? {
            let Some(path) = (self.replicas)(&e.api_version) else { continue };
            if e.set()?.has(&path) {
                let mut entry = Entry::new(SCALE, Set::from_iter([in_scale()]));
                entry.time = e.time;
                out.insert(id, entry);
            }
        }
        Ok(encode(out))
    }

    /// `managedFields` of the parent after a write to the Scale left it with these.
    pub fn to_parent(&self, scale: Option<&Value>) -> Result<Option<Value>, String> {
        // The same writer has another version on either side.
        let anonymous = |id: &ManagerId| ManagerId { api_version: String::new(), ..id.clone() };
        let mut scale: Managers =
            decode(scale.cloned(), Trust::Stored)?.into_iter().map(|(id, e)| (anonymous(&id), e)).collect();
        let mut out = Managers::new();
        for (id, mut e) in decode(self.parent.cloned(), Trust::Stored)? {
            let Some(path) = (self.replicas)(&e.api_version) else { continue };
            let set = e.set()?;
            // Still the owner there, or never was one: the entry stays.
            if !set.has(&path) || scale.remove(&anonymous(&id)).is_some() {
                out.insert(id, e);
                continue;
            }
            let rest = set.difference(&Set::from_iter([path]));
            if !rest.is_empty() {
                e.replace(rest);
                out.insert(id, e);
            }
        }
        for (id, e) in scale {
            let Some(path) = (self.replicas)(self.api_version) else { continue };
            if !e.set()?.has(&in_scale()) {
                continue;
            }
            let id = ManagerId::new(&id.manager, id.operation, self.api_version, &id.subresource);
            let mut set = Set::from_iter([path]);
            if let Some(before) = out.remove(&id) {
                set = set.union(before.set()?);
            }
            let mut entry = Entry::new(self.api_version, set);
            entry.time = e.time;
            out.insert(id, entry);
        }
        Ok(encode(out))
    }
}

/// An applied Scale as the configuration of its parent: apply that with the subresource `scale`.
pub fn parent_config(scale: &Value, api_version: &str, kind: &str, replicas: &[&str]) -> Value {
    let mut out = json!({"apiVersion": api_version, "kind": kind, "metadata": {}});
    for k in ["name", "namespace"] {
        if let Some(v) = scale.get("metadata").and_then(|m| m.get(k)) {
            out["metadata"][k] = v.clone();
        }
    }
    if let Some(n) = scale.pointer("/spec/replicas") {
        let field = replicas.iter().rev().fold(n.clone(), |v, name| json!({*name: v}));
        crate::merge::merge(&mut out, &field);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, op: &str, version: &str, subresource: &str, fields: Value) -> Value {
        let mut e = json!({"manager": manager, "operation": op, "apiVersion": version, "fieldsType": "FieldsV1",
            "fieldsV1": fields, "time": "2026-01-01T00:00:00Z"});
        if !subresource.is_empty() {
            e["subresource"] = json!(subresource);
        }
        e
    }

    #[test]
    fn there_and_back() {
        let replicas = |v: &str| (v == "apps/v1").then(in_scale);
        let parent = json!([
            entry("a", "Apply", "apps/v1", "", json!({"f:spec": {"f:replicas": {}, "f:paused": {}}})),
            entry("u", "Update", "apps/v1", "", json!({"f:spec": {"f:selector": {}}})),
            entry("gone", "Update", "apps/v0", "", json!({"f:spec": {"f:replicas": {}}})),
        ]);
        let owners = ScaleOwners { parent: Some(&parent), api_version: "apps/v1", replicas: &replicas };
        let fields = json!({"f:spec": {"f:replicas": {}}});
        let shown = owners.to_scale().unwrap().unwrap();
        assert_eq!(shown, json!([entry("a", "Apply", SCALE, "", fields.clone())]));

        // Nothing changed: the parent's entries stay, but for those of unknown versions.
        let back = owners.to_parent(Some(&shown)).unwrap().unwrap();
        assert_eq!(back, json!([parent[0], parent[1]]));

        // Somebody took it by a write to the Scale.
        let stolen = json!([entry("thief", "Update", SCALE, "scale", fields.clone())]);
        let back = owners.to_parent(Some(&stolen)).unwrap().unwrap();
        assert_eq!(
            back,
            json!([
                entry("a", "Apply", "apps/v1", "", json!({"f:spec": {"f:paused": {}}})),
                entry("thief", "Update", "apps/v1", "scale", fields),
                parent[1],
            ])
        );
    }
}
