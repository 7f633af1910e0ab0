//! The rules of `metadata` and of the spec/status split that hold for every kind. Pure: the caller brings time and uid.

use api::Status;
use api::catalog::Descriptor;
use serde_json::{Map, Value, json};

use super::Target;

pub fn object_mut(v: &mut Value) -> Result<&mut Map<String, Value>, Status> {
    v.as_object_mut().ok_or_else(|| Status::bad_request("the request body is not an object"))
}

/// `metadata`, made if it is missing.
pub fn meta_mut(v: &mut Value) -> Result<&mut Map<String, Value>, Status> {
    let m = object_mut(v)?.entry("metadata").or_insert_with(|| json!({}));
    if m.is_null() {
        *m = json!({});
    }
    m.as_object_mut().ok_or_else(|| Status::bad_request("metadata is not an object"))
}

pub fn text<'a>(v: &'a Value, pointer: &str) -> &'a str {
    v.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn name(v: &Value) -> &str {
    text(v, "/metadata/name")
}

/// Namespace and name of a body must agree with the URL.
pub fn agree(v: &mut Value, target: &Target, namespace: &str, name: &str) -> Result<(), Status> {
    let m = meta_mut(v)?;
    let get =
        |m: &Map<String, Value>, k: &str| m.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
    let body_ns = get(m, "namespace");
    if target.kind.namespaced {
        if body_ns.is_empty() {
            m.insert("namespace".into(), json!(namespace));
        } else if body_ns != namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    } else if !body_ns.is_empty() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if !name.is_empty() {
        let body_name = get(m, "name");
        if body_name.is_empty() {
            return Err(Status::bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
        if body_name != name {
            return Err(Status::bad_request(format!(
                "the name of the object ({body_name}) does not match the name on the URL ({name})"
            )));
        }
    }
    Ok(())
}

/// What the system fills in at birth.
pub fn born(v: &mut Value, uid: &str, now: &str, has_generation: bool) -> Result<(), Status> {
    let m = meta_mut(v)?;
    for k in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        m.remove(k);
    }
    m.insert("uid".into(), json!(uid));
    m.insert("creationTimestamp".into(), json!(now));
    if has_generation {
        m.insert("generation".into(), json!(1));
    } else {
        m.remove("generation");
    }
    Ok(())
}

/// What no update may change: copied from the old object.
pub fn kept(new: &mut Value, old: &Value) -> Result<(), Status> {
    let old_meta = old.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let m = meta_mut(new)?;
    m.remove("selfLink");
    for k in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "namespace",
        "name",
    ] {
        // Another name or grace, and a deletion that nobody asked for, are validation's to refuse.
        let refused = matches!(k, "name" | "namespace" | "deletionGracePeriodSeconds");
        match old_meta.get(k) {
            Some(v) if !refused || m.get(k).is_none_or(Value::is_null) => {
                m.insert(k.into(), v.clone());
            }
            Some(_) => {}
            None if matches!(k, "deletionTimestamp" | "deletionGracePeriodSeconds") => {}
            None => {
                m.remove(k);
            }
        }
    }
    Ok(())
}

/// What of the metadata a write of status leaves as it is. Most kinds take labels and annotations there; newer ones none
/// of it (`ResetObjectMetaForStatus` upstream).
fn frozen(kind: &Descriptor, sub: &str) -> &'static [&'static str] {
    const ALL: &[&str] = &["labels", "annotations", "finalizers", "ownerReferences"];
    match (kind.group.as_str(), kind.plural.as_str()) {
        _ if sub == "approval" => &[],
        _ if kind.custom => ALL,
        ("", "pods") => &["ownerReferences"],
        ("apps", "deployments") => &["labels"],
        ("admissionregistration.k8s.io", _)
        | ("apiextensions.k8s.io", _)
        | ("certificates.k8s.io", "podcertificaterequests")
        | ("internal.apiserver.k8s.io", _)
        | ("lifecycle.k8s.io", _)
        | ("networking.k8s.io", "servicecidrs")
        | ("resource.k8s.io", _)
        | ("scheduling.k8s.io", _)
        | ("storage.k8s.io", _)
        | ("storagemigration.k8s.io", _) => ALL,
        _ => &[],
    }
}

/// Through `/status`, only status changes; elsewhere it does not.
pub fn split_status(target: &Target, sub: &str, new: &mut Value, old: &Value) -> Result<(), Status> {
    let n = object_mut(new)?;
    let o = old.as_object();
    let get = |k: &str| o.and_then(|o| o.get(k)).cloned();
    if sub == "status" || sub == "approval" {
        let keys: Vec<String> = n.keys().chain(o.into_iter().flat_map(|o| o.keys())).cloned().collect();
        for k in keys {
            if matches!(k.as_str(), "status" | "metadata" | "apiVersion" | "kind") {
                continue;
            }
            match get(&k) {
                Some(v) => n.insert(k, v),
                None => n.remove(&k),
            };
        }
        let old_meta = old.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(m) = n.get_mut("metadata").and_then(Value::as_object_mut) {
            for k in frozen(&target.kind, sub) {
                match old_meta.get(*k) {
                    Some(v) => m.insert((*k).into(), v.clone()),
                    None => m.remove(*k),
                };
            }
        }
    } else if target.has_subresource("status") || target.kind.group == "certificates.k8s.io" {
        match get("status") {
            Some(v) => n.insert("status".into(), v),
            None => n.remove("status"),
        };
    }
    Ok(())
}

/// Whether anything but metadata and status differs: what generation counts.
pub fn spec_changed(new: &Value, old: &Value) -> bool {
    let skip = |k: &str| matches!(k, "metadata" | "status" | "apiVersion" | "kind");
    let (Some(n), Some(o)) = (new.as_object(), old.as_object()) else { return true };
    n.iter().any(|(k, v)| !skip(k) && o.get(k) != Some(v)) || o.keys().any(|k| !skip(k) && !n.contains_key(k))
}

pub fn annotations_changed(new: &Value, old: &Value) -> bool {
    let of = |v: &Value| v["metadata"]["annotations"].as_object().filter(|m| !m.is_empty()).cloned();
    of(new) != of(old)
}

pub fn generation(v: &Value) -> i64 {
    v.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0)
}

pub fn bump_generation(new: &mut Value) -> Result<(), Status> {
    let g = generation(new) + 1;
    meta_mut(new)?.insert("generation".into(), json!(g));
    Ok(())
}

/// `prefix` and five letters or digits that look like nothing else.
pub fn generate_name(prefix: &str) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut out: String = prefix.chars().take(58).collect();
    for _ in 0..5 {
        let i = rand::random_range(0..ALPHABET.len());
        out.push(char::from(ALPHABET.get(i).copied().unwrap_or(b'x')));
    }
    out
}

pub fn finalizers(v: &Value) -> Vec<String> {
    v.pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|f| f.as_str().map(str::to_owned))
        .collect()
}

/// An object that waits for nothing but this write to be gone.
pub fn is_finished(v: &Value) -> bool {
    let m = &v["metadata"];
    m["deletionTimestamp"].is_string()
        && m["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && finalizers(v).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_counts_everything_but_metadata_and_status() {
        let a = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}, "status": {"y": 1}});
        let b = json!({"metadata": {}, "spec": {"x": 1}, "status": {"y": 2}});
        assert!(!spec_changed(&a, &b));
        assert!(spec_changed(&json!({"spec": {"x": 2}}), &b));
        assert!(spec_changed(&json!({}), &b));
    }

    #[test]
    fn status_takes_the_metadata_that_its_kind_takes() {
        let kind = |group, plural| &**api::catalog::builtin().by_plural(group, plural).expect("kind");
        assert!(frozen(kind("networking.k8s.io", "ingresses"), "status").is_empty());
        assert_eq!(frozen(kind("apps", "deployments"), "status"), ["labels"]);
        assert_eq!(frozen(kind("networking.k8s.io", "servicecidrs"), "status").len(), 4);
    }

    #[test]
    fn kept_fields_come_from_the_old_object() {
        let old = json!({"metadata": {"name": "a", "uid": "u", "creationTimestamp": "t", "generation": 3}});
        let mut new = json!({"metadata": {"name": "a", "uid": "x", "generation": 9, "deletionGracePeriodSeconds": null}});
        kept(&mut new, &old).expect("kept");
        new["metadata"].as_object_mut().expect("metadata").retain(|_, v| !v.is_null());
        assert_eq!(new, old);
        // What validation refuses is still there to be refused.
        new["metadata"]["deletionTimestamp"] = json!("now");
        kept(&mut new, &old).expect("kept");
        assert_eq!(new["metadata"]["deletionTimestamp"], "now");
        let gone =
            json!({"metadata": {"name": "a", "deletionTimestamp": "then", "deletionGracePeriodSeconds": 30}});
        kept(&mut new, &gone).expect("kept");
        assert_eq!(new["metadata"]["deletionTimestamp"], "then");
        assert_eq!(new["metadata"]["deletionGracePeriodSeconds"], 30);
    }

    #[test]
    fn generated_names_fit() {
        let n = generate_name("web-");
        assert!(n.starts_with("web-") && n.len() == 9);
        assert_eq!(generate_name(&"a".repeat(100)).len(), 63);
    }

    #[test]
    fn finished_objects() {
        assert!(is_finished(&json!({"metadata": {"deletionTimestamp": "t"}})));
        assert!(!is_finished(
            &json!({"metadata": {"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}})
        ));
        assert!(!is_finished(&json!({"metadata": {"deletionTimestamp": "t", "finalizers": ["x"]}})));
        assert!(!is_finished(&json!({"metadata": {}})));
    }
}
