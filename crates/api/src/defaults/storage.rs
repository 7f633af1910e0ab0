//! Defaults of storage.k8s.io.

use serde_json::json;

use super::{Fields, ensure, plain, pointer};

pub(super) fn apply(kind: &str, o: &mut Fields) {
    match kind {
        "StorageClass" => {
            pointer(o, "reclaimPolicy", "Delete");
            pointer(o, "volumeBindingMode", "Immediate");
        }
        "CSIDriver" => {
            let Some(s) = ensure(o, "spec") else { return };
            pointer(s, "attachRequired", true);
            for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
                pointer(s, key, false);
            }
            pointer(s, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            plain(s, "volumeLifecycleModes", json!(["Persistent"]));
        }
        _ => {}
    }
}
