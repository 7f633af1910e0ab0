//! What a PersistentVolumeClaim counts, for all storage and for its class.

use serde_json::Value;

use super::{List, Scope, list, one};

const CLASS: &str = ".storageclass.storage.k8s.io/";

pub(super) fn counts_against(name: &str) -> bool {
    let plain = |n: &str| matches!(n, "persistentvolumeclaims" | "requests.storage");
    plain(name) || name.split_once(CLASS).is_some_and(|(_, n)| plain(n))
}

/// The class that a claim names; the old annotation comes first.
pub fn class(claim: &Value) -> &str {
    claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"]
        .as_str()
        .or_else(|| claim["spec"]["storageClassName"].as_str())
        .unwrap_or_default()
}

pub(super) fn usage(claim: &Value, out: &mut List) {
    let class = class(claim);
    let mut put = |name: &str, q| {
        out.insert(name.to_owned(), q);
        if !class.is_empty() {
            out.insert(format!("{class}{CLASS}{name}"), q);
        }
    };
    put("persistentvolumeclaims", one());
    let asked = list(&claim["spec"]["resources"]["requests"]).get("storage").copied();
    let allocated = list(&claim["status"]["allocatedResources"]).get("storage").copied();
    if let Some(asked) = asked {
        put("requests.storage", allocated.map_or(asked, |a| a.max(asked)).round_up(0));
    }
}

pub(super) fn in_scope(scope: &Scope, claim: &Value) -> bool {
    if scope.name != "VolumeAttributesClass" {
        return false;
    }
    let names: Vec<&str> = [
        &claim["spec"]["volumeAttributesClassName"],
        &claim["status"]["currentVolumeAttributesClassName"],
        &claim["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ]
    .into_iter()
    .filter_map(Value::as_str)
    .filter(|n| !n.is_empty())
    .collect();
    if names.is_empty() { scope.chooses(None) } else { names.into_iter().any(|n| scope.chooses(Some(n))) }
}
