//! Which rules a kind has. Metadata is checked before these.

use super::errors::ErrorList;
use super::{pod, storage};
use serde_json::Value;

const CORE: &str = "";
const STORAGE: &str = "storage.k8s.io";

pub fn create(group: &str, kind: &str, o: &Value, e: &mut ErrorList) {
    match (group, kind) {
        (CORE, "Pod") => pod::create(o, e),
        (CORE, "PersistentVolume") => storage::volume(o, e),
        (CORE, "PersistentVolumeClaim") => storage::claim(o, e),
        (STORAGE, "StorageClass") => storage::storage_class(o, e),
        (STORAGE, "VolumeAttachment") => storage::attachment(o, e),
        (STORAGE, "CSIDriver") => storage::csi_driver(o, e),
        (STORAGE, "CSINode") => storage::csi_node(o, e),
        (STORAGE, "CSIStorageCapacity") => storage::capacity(o, e),
        (STORAGE, "VolumeAttributesClass") => storage::attributes_class(o, e),
        _ => {}
    }
}

pub fn update(group: &str, kind: &str, n: &Value, o: &Value, e: &mut ErrorList) {
    match (group, kind) {
        (CORE, "Pod") => pod::update(n, o, e),
        (CORE, "PersistentVolume") => storage::volume_update(n, o, e),
        (CORE, "PersistentVolumeClaim") => storage::claim_update(n, o, e),
        (STORAGE, "StorageClass") => storage::storage_class_update(n, o, e),
        (STORAGE, "VolumeAttachment") => storage::attachment_update(n, o, e),
        (STORAGE, "CSIDriver") => storage::csi_driver_update(n, o, e),
        (STORAGE, "CSIStorageCapacity") => storage::capacity_update(n, o, e),
        (STORAGE, "VolumeAttributesClass") => storage::attributes_class_update(n, o, e),
        _ => create(group, kind, n, e),
    }
}

pub fn update_subresource(group: &str, kind: &str, sub: &str, n: &Value, o: &Value, e: &mut ErrorList) {
    match (group, kind, sub) {
        (CORE, "Pod", "status") => pod::update_status(n, o, e),
        (CORE, "Pod", "ephemeralcontainers") => pod::ephemeral_containers(n, o, e),
        (CORE, "Pod", "resize") => pod::resize(n, o, e),
        (CORE, "PersistentVolumeClaim", "status") => storage::claim_status(n, e),
        _ => {}
    }
}
