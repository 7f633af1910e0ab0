//! Kinds of storage.k8s.io.

use super::row::{Row, list, or, shown, text};
use serde_json::Value;

pub fn kind(kind: &str) -> Option<super::Kind> {
    Some(match kind {
        "StorageClass" => {
            ("Name:n,Provisioner,ReclaimPolicy,VolumeBindingMode,AllowVolumeExpansion,Age", storage_class)
        }
        "CSIDriver" => (
            "Name:n,AttachRequired:b,PodInfoOnMount:b,StorageCapacity:b,TokenRequests,RequiresRepublish,Modes,Age",
            |r| {
                r.name();
                let attach = r.at("spec.attachRequired").as_bool().unwrap_or(true);
                r.flag(attach);
                r.flag_at("spec.podInfoOnMount");
                r.flag_at("spec.storageCapacity");
                let audiences: Vec<&str> =
                    list(r.at("spec.tokenRequests")).iter().map(|t| text(t, "audience")).collect();
                r.text(if audiences.is_empty() { "<unset>".to_owned() } else { audiences.join(",") });
                r.flag_at("spec.requiresRepublish");
                let modes: Vec<&str> =
                    list(r.at("spec.volumeLifecycleModes")).iter().filter_map(Value::as_str).collect();
                let modes = modes.join(",");
                r.text(or(&modes, "<none>"));
                r.age();
            },
        ),
        "CSINode" => ("Name:n,Drivers:i,Age", |r| {
            r.name();
            r.count_at("spec.drivers");
            r.age();
        }),
        "CSIStorageCapacity" => ("Name:n,StorageClassName,Capacity", |r| {
            r.name();
            r.text_at("storageClassName", "");
            let c = shown(r.at("capacity"));
            r.text(or(&c, "<unset>"));
        }),
        "VolumeAttachment" => ("Name:n,Attacher:n,PV,Node,Attached:b,Age", |r| {
            r.name();
            r.text_at("spec.attacher", "");
            r.text_at("spec.source.persistentVolumeName", "");
            r.text_at("spec.nodeName", "");
            r.flag_at("status.attached");
            r.age();
        }),
        "VolumeAttributesClass" => ("Name:n,DriverName,Age", |r| {
            r.name();
            r.text_at("driverName", "");
            r.age();
        }),
        _ => return None,
    })
}

fn storage_class(r: &mut Row) {
    let notes = r.at("metadata.annotations");
    let default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|k| text(notes, k) == "true");
    let name = r.meta("name");
    r.text(if default { format!("{name} (default)") } else { name.to_owned() });
    r.text_at("provisioner", "");
    r.text_at("reclaimPolicy", "Delete");
    r.text_at("volumeBindingMode", "<unset>");
    r.flag_at("allowVolumeExpansion");
    r.age();
}
