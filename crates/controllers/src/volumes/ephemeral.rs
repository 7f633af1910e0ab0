//! Generic ephemeral volumes: each gets a claim, named and owned by its pod, from the template in the pod.

use api::resource::{PERSISTENT_VOLUME_CLAIMS, PODS};
use api::volumes::ephemeral_claim;
use api::{Object, Status};
use client::{Informer, ObjectRef};
use serde_json::{Value, json};

use crate::skeleton::{self, Error, Key, Next, Queue, key_of};
use crate::{Context, owners};

/// Names of claims with their templates.
fn wanted(pod: &Value) -> Vec<(String, Value)> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes
        .filter(|v| v["ephemeral"]["volumeClaimTemplate"].is_object())
        .map(|v| {
            (
                ephemeral_claim(name, v["name"].as_str().unwrap_or_default()),
                v["ephemeral"]["volumeClaimTemplate"].clone(),
            )
        })
        .collect()
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (pods, claims) = (ctx.informers.get(&PODS), ctx.informers.get(&PERSISTENT_VOLUME_CLAIMS));
    let q = queue.clone();
    pods.on_change(move |c| {
        // A pod's volumes never change.
        if let (None, Some(o)) = (c.old, c.new)
            && o.value().is_ok_and(|v| !wanted(&v).is_empty())
        {
            q.add(key_of(o));
        }
    });
    let q = queue.clone();
    claims.on_change(move |c| {
        if let (Some(old), None) = (c.old, c.new)
            && let Some(owner) = old.meta().controller().filter(|r| r.kind == "Pod")
        {
            q.add((old.namespace().to_owned(), owner.name.clone()));
        }
    });
    if !skeleton::synced(&ctx.token, &[&pods, &claims]).await {
        return;
    }
    let (ctx, pods, claims) = (&ctx, &pods, &claims);
    skeleton::work("ephemeral-volume", &ctx.token, &queue, 2, |key| reconcile(ctx, pods, claims, key)).await;
}

async fn reconcile(ctx: &Context, pods: &Informer, claims: &Informer, key: Key) -> Result<Next, Error> {
    let Some(pod) = pods.get(&key.0, &key.1).filter(|p| !p.meta().is_deleting()) else {
        return Ok(Next::Wait);
    };
    for (name, template) in wanted(&pod.value()?) {
        if let Some(there) = claims.get(&key.0, &name) {
            if !is_owned(&there, &pod) {
                let why = format!(
                    "PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                    key.0, key.0, key.1
                );
                return Err(Status::bad_request(why).into());
            }
            continue;
        }
        let body = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": { "name": name, "namespace": key.0, "labels": template["metadata"]["labels"],
                "annotations": template["metadata"]["annotations"],
                "ownerReferences": [owners::controller_ref(&PODS, &pod)] },
            "spec": template["spec"] });
        if let Err(s) = ctx.client.create(&PERSISTENT_VOLUME_CLAIMS, &key.0, &body).await {
            let message = format!("ephemeral volume controller failed to create claim {name}: {s}");
            ctx.events.warning(ObjectRef::of(&PODS, &pod), "FailedCreate", message);
            return Err(s.into());
        }
    }
    Ok(Next::Wait)
}

fn is_owned(claim: &Object, pod: &Object) -> bool {
    claim.meta().controller().is_some_and(|c| c.uid == pod.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_named_after_pod_and_volume() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"volumes": [{"name": "x", "emptyDir": {}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {"a": 1}}}}]}});
        assert_eq!(wanted(&pod), [("p-e".to_owned(), json!({"spec": {"a": 1}}))]);
    }
}
