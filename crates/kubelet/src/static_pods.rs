//! Pods from manifests on this machine, and their mirrors in the API. The manager scans; nothing is spawned.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use api::resource::{NODES, PODS};
use client::{DeleteOptions, Informer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::node_ctx::Node;
use crate::pod::{HASH_ANNOTATION, MIRROR_ANNOTATION, Pod, SOURCE_ANNOTATION, strip_nulls};

struct Manifest {
    pod: Arc<Pod>,
    value: Value,
    hash: String,
}

pub struct StaticPods {
    node: Arc<Node>,
    /// By file name; the text decides whether it changed.
    files: BTreeMap<String, (String, Option<Manifest>)>,
}

/// What upstream makes of a manifest: name with the node's, uid from the content, placed on this node.
pub fn parse(text: &str, file: &str, node: &str) -> Result<(Pod, Value, String), String> {
    let mut v: Value = serde_norway::from_str(text).map_err(|e| format!("failed to parse {file}: {e}"))?;
    strip_nulls(&mut v);
    if v["kind"] != "Pod" {
        return Err(format!("{file} holds {} instead of a Pod", v["kind"]));
    }
    let hash: String = Sha256::digest(format!("{node}\0{file}\0{text}").as_bytes())
        .iter()
        .take(16)
        .map(|b| format!("{b:02x}"))
        .collect();
    let m = v["metadata"].as_object_mut().ok_or_else(|| format!("{file} has no metadata"))?;
    let name = m.get("name").and_then(Value::as_str).unwrap_or_default().to_lowercase();
    if name.is_empty() {
        return Err(format!("{file} names no pod"));
    }
    m.insert("name".into(), json!(format!("{name}-{node}")));
    m.entry("namespace").or_insert(json!("default"));
    m.insert("uid".into(), json!(hash));
    let notes = m.entry("annotations").or_insert(json!({}));
    let notes = notes.as_object_mut().ok_or_else(|| format!("{file} has annotations that are no map"))?;
    notes.insert(HASH_ANNOTATION.into(), json!(hash));
    notes.insert(SOURCE_ANNOTATION.into(), json!("file"));
    let spec = v.get_mut("spec").and_then(Value::as_object_mut);
    let spec = spec.ok_or_else(|| format!("{file} has no spec"))?;
    spec.insert("nodeName".into(), json!(node));
    let list = spec.entry("tolerations").or_insert(json!([]));
    if let Some(a) = list.as_array_mut() {
        a.push(json!({"operator": "Exists", "effect": "NoExecute"}));
    }
    let pod: Pod = serde_json::from_value(v.clone()).map_err(|e| format!("failed to read {file}: {e}"))?;
    if pod.spec.containers.is_empty() {
        return Err(format!("{file} has no containers"));
    }
    Ok((pod, v, hash))
}

impl StaticPods {
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, files: BTreeMap::new() }
    }

    /// Reads the manifests again; gives whether anything changed.
    pub fn scan(&mut self) -> bool {
        let Some(dir) = self.node.cfg.static_pod_dir.clone() else { return false };
        let mut seen = BTreeSet::new();
        let mut changed = false;
        for e in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = e.file_name().to_string_lossy().into_owned();
            let known =
                Path::new(&name).extension().is_some_and(|x| x == "yaml" || x == "yml" || x == "json");
            if name.starts_with('.') || !known || !e.path().is_file() {
                continue;
            }
            let Ok(text) = fs::read_to_string(e.path()) else { continue };
            seen.insert(name.clone());
            if self.files.get(&name).is_some_and(|(old, _)| *old == text) {
                continue;
            }
            changed = true;
            let manifest = match parse(&text, &name, &self.node.cfg.node_name) {
                Ok((pod, value, hash)) => Some(Manifest { pod: Arc::new(pod), value, hash }),
                Err(e) => {
                    tracing::error!(error = %e, "a static pod's manifest is left out");
                    None
                }
            };
            self.files.insert(name, (text, manifest));
        }
        let before = self.files.len();
        self.files.retain(|f, _| seen.contains(f));
        changed || before != self.files.len()
    }

    pub fn pods(&self) -> Vec<(String, Arc<Pod>)> {
        let all = self.files.values().filter_map(|(_, m)| m.as_ref());
        all.map(|m| (m.pod.metadata.uid.clone(), m.pod.clone())).collect()
    }

    /// Sees to it that each static pod has its mirror, and no mirror is without its pod.
    /// Gives the uids of the pods whose mirror was made.
    pub async fn mirrors(&self, pods: &Informer) -> Vec<String> {
        let mut made = Vec::new();
        if !pods.is_synced() {
            return made;
        }
        let client = &self.node.client;
        let mine: BTreeMap<String, &Manifest> =
            self.files.values().filter_map(|(_, m)| m.as_ref()).map(|m| (m.pod.key(), m)).collect();
        for o in pods.list(None) {
            let Ok(p) = o.view::<Pod>() else { continue };
            let Some(hash) = p.metadata.annotations.get(MIRROR_ANNOTATION) else { continue };
            let fits = mine.get(&p.key()).is_some_and(|m| m.hash == *hash) && !p.deleting();
            if !fits {
                let options =
                    DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::uid(&p.metadata.uid) };
                if let Err(e) =
                    client.delete_if_there(&PODS, &p.metadata.namespace, &p.metadata.name, &options).await
                {
                    tracing::warn!(pod = %p.key(), error = %e, "failed to delete a mirror pod");
                }
            }
        }
        for m in mine.values() {
            let meta = &m.pod.metadata;
            if pods.get(&meta.namespace, &meta.name).is_some() {
                continue;
            }
            let owner = client.get(&NODES, "", &self.node.cfg.node_name).await;
            let Ok(owner) = owner else { continue };
            let mut v = m.value.clone();
            if let Some(meta) = v["metadata"].as_object_mut() {
                meta.remove("uid");
            }
            v["metadata"]["annotations"][MIRROR_ANNOTATION] = json!(m.hash);
            v["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": owner.name(),
                "uid": owner.uid(), "controller": true}]);
            match client.create(&PODS, &meta.namespace, &v).await {
                Ok(_) => made.push(meta.uid.clone()),
                Err(e) if e.is_already_exists() => {}
                Err(e) => tracing::warn!(pod = %m.pod.key(), error = %e, "failed to create a mirror pod"),
            }
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_become_pods() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  labels: null\nspec:\n  containers:\n  - name: a\n    image: x\n";
        let (p, v, hash) = parse(text, "web.yaml", "n1").expect("pod");
        assert_eq!((p.metadata.name.as_str(), p.metadata.namespace.as_str()), ("web-n1", "default"));
        assert_eq!(p.metadata.uid, hash);
        assert!(p.is_static() && !p.is_mirror());
        assert_eq!(v["spec"]["nodeName"], "n1");
        assert!(parse("kind: Service", "x", "n").is_err());
        for (from, to) in
            [("labels: null", "annotations: 'no'"), ("containers:\n  - name: a\n    image: x", "1")]
        {
            assert!(parse(&text.replace(from, to), "x", "n").is_err_and(|e| e.starts_with("x has")), "{to}");
        }
        assert_ne!(parse(&text.replace("image: x", "image: y"), "web.yaml", "n1").expect("pod").2, hash);
    }
}
