//! StorageObjectInUseProtection: claims and volumes carry a finalizer, so that they go only when nobody uses them. The
//! loops that take the finalizer away have to run, or nothing of it could ever be deleted: see `Options`.

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::{array, object};
use super::{Context, Operation, Plugin, Request};

pub struct StorageObjectInUseProtection;

fn finalizer(r: &Request<'_>) -> Option<&'static str> {
    match (r.group, r.resource) {
        ("", "persistentvolumeclaims") => Some("kubernetes.io/pvc-protection"),
        ("", "persistentvolumes") => Some("kubernetes.io/pv-protection"),
        ("storage.k8s.io", "volumeattributesclasses") => Some("kubernetes.io/vac-protection"),
        _ => None,
    }
}

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }
    fn handles(&self, r: &Request<'_>) -> bool {
        r.operation == Operation::Create && r.subresource.is_empty() && finalizer(r).is_some()
    }
    async fn admit(&self, _cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        let Some(f) = finalizer(r) else { return Ok(()) };
        let meta = object(object(&mut r.object).entry("metadata").or_insert(Value::Null));
        let list = array(meta, "finalizers");
        if !list.iter().any(|x| x == f) {
            list.push(json!(f));
        }
        Ok(())
    }
}
