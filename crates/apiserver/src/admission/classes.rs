//! DefaultStorageClass and DefaultIngressClass: who names no class gets the one that is marked as default.
//! PersistentVolumeClaimResize: a claim grows only where its class allows it.

use api::{Object, Status};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::{put, text};
use super::{Context, Operation, Plugin, Request};

pub struct DefaultStorageClass;
pub struct DefaultIngressClass;
pub struct PersistentVolumeClaimResize;

fn annotated(o: &Object, key: &str) -> bool {
    o.value().is_ok_and(|v| v["metadata"]["annotations"][key] == "true")
}

/// Of several that are marked the newest, then the first by name.
fn newest<'a>(marked: impl Iterator<Item = &'a Object>) -> Option<&'a Object> {
    marked.max_by(|a, b| {
        let born = |o: &'a Object| o.meta().creation_timestamp();
        born(a).cmp(&born(b)).then_with(|| b.name().cmp(a.name()))
    })
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }
    fn handles(&self, r: &Request<'_>) -> bool {
        r.is("", "persistentvolumeclaims") && r.subresource.is_empty() && r.operation == Operation::Create
    }
    async fn admit(&self, cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        let named = !r.object["spec"]["storageClassName"].is_null()
            || !r.object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].is_null();
        if named {
            return Ok(());
        }
        let all = cx.reader.list("storage.k8s.io", "storageclasses", "").await?;
        let marked = all.iter().filter(|o| {
            annotated(o, "storageclass.kubernetes.io/is-default-class")
                || annotated(o, "storageclass.beta.kubernetes.io/is-default-class")
        });
        let best = newest(marked);
        if let Some(c) = best {
            put(&mut r.object, &["spec", "storageClassName"], json!(c.name()));
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }
    fn handles(&self, r: &Request<'_>) -> bool {
        r.is("networking.k8s.io", "ingresses") && r.subresource.is_empty() && r.operation == Operation::Create
    }
    async fn admit(&self, cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        let named = !r.object["spec"]["ingressClassName"].is_null()
            || !r.object["metadata"]["annotations"]["kubernetes.io/ingress.class"].is_null();
        if named {
            return Ok(());
        }
        let all = cx.reader.list("networking.k8s.io", "ingressclasses", "").await?;
        let marked = all.iter().filter(|o| annotated(o, "ingressclass.kubernetes.io/is-default-class"));
        let best = newest(marked);
        if let Some(c) = best {
            put(&mut r.object, &["spec", "ingressClassName"], json!(c.name()));
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }
    fn handles(&self, r: &Request<'_>) -> bool {
        r.is("", "persistentvolumeclaims") && r.subresource.is_empty() && r.operation == Operation::Update
    }
    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        let size = |v: &Value| api::quota::list(&v["spec"]["resources"]["requests"]).get("storage").copied();
        let old = r.old.and_then(size);
        if size(&r.object) <= old {
            return Ok(());
        }
        if r.old.is_some_and(|o| text(&o["status"], "phase") != "Bound") {
            return Err(r.forbidden("Only bound persistent volume claims can be expanded"));
        }
        let class = r.old.map(api::quota::claim_class).unwrap_or_default();
        let allows = match class {
            "" => false,
            c => {
                let found = cx.reader.get("storage.k8s.io", "storageclasses", "", c).await?;
                found.and_then(|o| o.value().ok()).is_some_and(|v| v["allowVolumeExpansion"] == true)
            }
        };
        if allows {
            return Ok(());
        }
        Err(r.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ))
    }
}
