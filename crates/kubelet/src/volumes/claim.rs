//! Claims: the volume behind one, when it lies on this machine (`hostPath` or `local`). What the API says is checked by a
//! pure function; then the path is made ready.

use std::fs;
use std::path::{Path, PathBuf};

use api::Object;
use api::resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use api::volumes::{Claim, ClaimRef, Volume};
use serde_json::Value;

use crate::node_ctx::Node;
use crate::pod::{HostPath, Pod};
use crate::volumes::{host_path, ownership, setup};

/// Where a volume's files are.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    HostPath(String, Option<String>),
    Local(String),
}

/// The path of the claim's volume. `own`: the claim was made for this pod alone.
pub async fn set_up(node: &Node, pod: &Pod, name: &str, own: bool) -> Result<PathBuf, String> {
    let ns = &pod.metadata.namespace;
    let claim = node.client.get(&PERSISTENT_VOLUME_CLAIMS, ns, name).await.map_err(|e| e.to_string())?;
    let c = bound(&claim, own.then_some(pod.metadata.uid.as_str()))?;
    let volume = node.client.get(&PERSISTENT_VOLUMES, "", &c.volume_name).await.map_err(|e| e.to_string())?;
    match source(&volume, &c)? {
        Source::HostPath(path, kind) => {
            host_path::check(&HostPath { path: path.clone(), kind: kind.clone() })?;
            let path = PathBuf::from(path);
            if kind.is_none_or(|k| k.is_empty()) && !path.exists() {
                fs::create_dir_all(&path).map_err(|e| format!("failed to create {}: {e}", path.display()))?;
            }
            Ok(path)
        }
        Source::Local(path) => {
            if !Path::new(&path).exists() {
                return Err(format!("path \"{path}\" does not exist"));
            }
            let path = PathBuf::from(path);
            if let Some(gid) = setup::group(pod)
                && !ownership::matches(&path, gid)
            {
                ownership::give_to_group(&path, gid, false).map_err(|e| e.to_string())?;
            }
            Ok(path)
        }
    }
}

/// The claim, when a pod may use it.
fn bound(o: &Object, pod_uid: Option<&str>) -> Result<Claim, String> {
    let c = Claim::of(o).map_err(|e| e.to_string())?;
    if pod_uid.is_some_and(|uid| uid != c.owner) {
        return Err(format!("PVC {}/{} was not created for this pod", c.namespace, c.name));
    }
    if c.phase != "Bound" || c.volume_name.is_empty() {
        return Err(format!("PVC is not bound: persistentvolumeclaim \"{}\" has no volume yet", c.name));
    }
    Ok(c)
}

/// The volume, when it is bound to that very claim and this node can show it.
fn source(o: &Object, c: &Claim) -> Result<Source, String> {
    let v = Volume::of(o).map_err(|e| e.to_string())?;
    if v.claim.as_ref() != Some(&ClaimRef::to(c)) {
        return Err(format!(
            "persistentvolume \"{}\" is not bound to claim {}/{}",
            v.name, c.namespace, c.name
        ));
    }
    if v.block {
        return Err(format!(
            "persistentvolume \"{}\" is a block device, which this node does not show",
            v.name
        ));
    }
    let value = o.value().map_err(|e| e.to_string())?;
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let spec = &value["spec"];
    if let Some(path) = text(&spec["hostPath"]["path"]) {
        return Ok(Source::HostPath(path, text(&spec["hostPath"]["type"])));
    }
    match text(&spec["local"]["path"]) {
        Some(path) => Ok(Source::Local(path)),
        None => Err(format!("persistentvolume \"{}\" has a source this node does not support", v.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(v: Value) -> Object {
        Object::from_value(v, 1).expect("object")
    }

    #[test]
    fn what_a_pod_may_use() {
        let claim = |phase: &str| {
            object(json!({"metadata": {"name": "c", "namespace": "d", "uid": "u",
                "ownerReferences": [{"kind": "Pod", "name": "p", "uid": "pod", "controller": true}]},
                "spec": {"volumeName": "v"}, "status": {"phase": phase}}))
        };
        assert!(bound(&claim("Pending"), None).is_err());
        assert!(bound(&claim("Bound"), Some("other")).is_err());
        let c = bound(&claim("Bound"), Some("pod")).expect("claim");
        let volume = |uid: &str, spec: Value| {
            let mut v = json!({"metadata": {"name": "v"}, "spec": spec});
            v["spec"]["claimRef"] = json!({"namespace": "d", "name": "c", "uid": uid});
            object(v)
        };
        let host = json!({"hostPath": {"path": "/x", "type": "Directory"}});
        assert_eq!(
            source(&volume("u", host.clone()), &c),
            Ok(Source::HostPath("/x".into(), Some("Directory".into())))
        );
        assert_eq!(
            source(&volume("u", json!({"local": {"path": "/y"}})), &c),
            Ok(Source::Local("/y".into()))
        );
        assert!(source(&volume("other", host), &c).is_err_and(|e| e.contains("not bound to claim d/c")));
        assert!(source(&volume("u", json!({"local": {"path": "/y"}, "volumeMode": "Block"})), &c).is_err());
        assert!(source(&volume("u", json!({"csi": {}})), &c).is_err_and(|e| e.contains("does not support")));
    }
}
