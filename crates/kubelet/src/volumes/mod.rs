//! A pod's volumes on disk: each idempotent to set up (again after a restart of the daemon, again when an object they
//! show has changed) and taken down from what lies on disk alone.

pub mod atomic;
pub mod host_path;
pub mod mounter;
pub mod mounts;
pub mod ownership;
pub mod payload;
pub mod setup;
pub mod subpath;
pub mod token;

use std::path::PathBuf;

use crate::node_ctx::Node;
use crate::pod::Pod;

/// A claim that is bound to a volume on this machine (`hostPath` or `local`).
pub async fn claim(node: &Node, pod: &Pod, name: &str) -> Result<PathBuf, String> {
    use api::resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
    let ns = &pod.metadata.namespace;
    let get = |e: api::Status| e.to_string();
    let pvc = node.client.get(&PERSISTENT_VOLUME_CLAIMS, ns, name).await.map_err(get)?;
    let pvc = pvc.value().map_err(|e| e.to_string())?;
    let volume = pvc["spec"]["volumeName"].as_str().unwrap_or_default();
    if volume.is_empty() || pvc["status"]["phase"] != "Bound" {
        return Err(format!("persistentvolumeclaim \"{name}\" is not bound"));
    }
    let pv = node.client.get(&PERSISTENT_VOLUMES, "", volume).await.map_err(get)?;
    let pv = pv.value().map_err(|e| e.to_string())?;
    for source in ["hostPath", "local"] {
        if let Some(path) = pv["spec"][source]["path"].as_str() {
            let kind = pv["spec"][source]["type"].as_str().map(str::to_owned);
            host_path::check(&crate::pod::HostPath { path: path.into(), kind })?;
            return Ok(PathBuf::from(path));
        }
    }
    Err(format!("persistentvolume \"{volume}\" has a source this node does not support"))
}
