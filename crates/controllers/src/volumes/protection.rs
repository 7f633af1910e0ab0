//! Finalizers that keep claims, volumes and attribute classes as long as they are used: one small loop each over the same
//! step, which puts the finalizer on what lives and takes it off what is being deleted and unused.

use std::future::Future;

use api::resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS};
use api::volumes::{Claim, Volume, ephemeral_claim};
use api::{Object, Resource};
use client::{Client, ListParams, Patch};
use serde::Deserialize;
use serde_json::json;

use crate::Context;
use crate::skeleton::{self, Error, Next, Queue};

const CLASSES: Resource =
    Resource::new("storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", false);

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodView {
    spec: PodSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    volumes: Vec<PodVolume>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodVolume {
    name: String,
    persistent_volume_claim: Option<ClaimVolume>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: String,
}

/// Claims that a pod on a node uses. A pod that is nowhere yet will not start on a claim that is going.
pub(super) fn used(pod: &Object) -> Vec<String> {
    let view: PodView = pod.view().unwrap_or_default();
    if view.spec.node_name.is_empty() {
        return Vec::new();
    }
    let name = |v: PodVolume| match (v.persistent_volume_claim, v.ephemeral) {
        (Some(c), _) => Some(c.claim_name),
        (None, Some(_)) => Some(ephemeral_claim(pod.name(), &v.name)),
        (None, None) => None,
    };
    view.spec.volumes.into_iter().filter_map(name).collect()
}

/// What should become of the finalizers; `None` when nothing.
fn finalizers(o: &Object, mine: &str, used: bool) -> Option<Vec<String>> {
    let all = o.meta().finalizers();
    let has = all.iter().any(|f| f == mine);
    match (o.meta().is_deleting(), has) {
        (true, true) if !used => Some(all.iter().filter(|f| *f != mine).cloned().collect()),
        (false, false) => Some(all.iter().cloned().chain([mine.to_owned()]).collect()),
        _ => None,
    }
}

async fn settle<F>(
    client: &Client,
    resource: &Resource,
    o: &Object,
    mine: &str,
    used: F,
) -> Result<Next, Error>
where
    F: Future<Output = Result<bool, Error>>,
{
    // Asking for users may cost a request: only where it matters.
    let used = o.meta().is_deleting() && o.meta().finalizers().iter().any(|f| f == mine) && used.await?;
    if let Some(list) = finalizers(o, mine, used) {
        let patch = Patch::Merge(
            json!({ "metadata": { "uid": o.uid(), "resourceVersion": o.revision().to_string(), "finalizers": list } }),
        );
        client.patch(resource, o.namespace(), o.name(), "", &patch).await?;
    }
    Ok(Next::Wait)
}

pub async fn claims(ctx: Context) {
    let queue = Queue::default();
    let (claims, pods) = (ctx.informers.get(&PERSISTENT_VOLUME_CLAIMS), ctx.informers.get(&PODS));
    skeleton::enqueue_self(&claims, &queue);
    let q = queue.clone();
    pods.on_change(move |c| {
        if let (Some(old), None) = (c.old, c.new) {
            used(old).into_iter().for_each(|claim| q.add((old.namespace().to_owned(), claim)));
        }
    });
    if !skeleton::synced(&ctx.token, &[&claims, &pods]).await {
        return;
    }
    let (client, claims) = (&ctx.client, &claims);
    skeleton::work("pvc-protection", &ctx.token, &queue, 1, |key| async move {
        let Some(o) = claims.get(&key.0, &key.1) else { return Ok(Next::Wait) };
        let in_use = async {
            // The informer may not know yet of a pod that was placed just now.
            let all = client.list(&PODS, &key.0, &ListParams::default()).await?;
            Ok(all.items.iter().any(|p| used(p).contains(&key.1)))
        };
        settle(client, &PERSISTENT_VOLUME_CLAIMS, &o, "kubernetes.io/pvc-protection", in_use).await
    })
    .await;
}

pub async fn volumes(ctx: Context) {
    let queue = Queue::default();
    let volumes = ctx.informers.get(&PERSISTENT_VOLUMES);
    skeleton::enqueue_self(&volumes, &queue);
    if !skeleton::synced(&ctx.token, &[&volumes]).await {
        return;
    }
    let (client, volumes) = (&ctx.client, &volumes);
    skeleton::work("pv-protection", &ctx.token, &queue, 1, |key| async move {
        let Some(o) = volumes.get("", &key.1) else { return Ok(Next::Wait) };
        let bound = async { Ok(Volume::of(&o)?.phase == "Bound") };
        settle(client, &PERSISTENT_VOLUMES, &o, "kubernetes.io/pv-protection", bound).await
    })
    .await;
}

pub async fn attribute_classes(ctx: Context) {
    let queue = Queue::default();
    let classes = ctx.informers.get(&CLASSES);
    let (claims, volumes) =
        (ctx.informers.get(&PERSISTENT_VOLUME_CLAIMS), ctx.informers.get(&PERSISTENT_VOLUMES));
    skeleton::enqueue_self(&classes, &queue);
    for users in [&claims, &volumes] {
        let (q, all) = (queue.clone(), classes.clone());
        users.on_change(move |_| {
            let going = all.list(None).into_iter().filter(|o| o.meta().is_deleting());
            going.for_each(|o| q.add(skeleton::key_of(&o)));
        });
    }
    if !skeleton::synced(&ctx.token, &[&classes, &claims, &volumes]).await {
        return;
    }
    let (client, classes, claims, volumes) = (&ctx.client, &classes, &claims, &volumes);
    skeleton::work("volumeattributesclass-protection", &ctx.token, &queue, 1, |key| async move {
        let Some(o) = classes.get("", &key.1) else { return Ok(Next::Wait) };
        let named = async {
            let of_claim = |c: &Object| Claim::of(c).is_ok_and(|c| c.attributes_class == key.1);
            let of_volume = |v: &Object| Volume::of(v).is_ok_and(|v| v.attributes_class == key.1);
            Ok(claims.list(None).iter().any(of_claim) || volumes.list(None).iter().any(of_volume))
        };
        settle(client, &CLASSES, &o, "kubernetes.io/vac-protection", named).await
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn finalizers_come_and_go() {
        let o = |deleting: bool, list: Value| {
            let mut v = json!({"metadata": {"name": "x", "finalizers": list}});
            if deleting {
                v["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:00Z");
            }
            Object::from_value(v, 1).expect("object")
        };
        for (deleting, list, used, want) in [
            (false, json!(["a"]), false, Some(vec!["a", "m"])),
            (false, json!(["m"]), false, None),
            (true, json!(["a", "m"]), true, None),
            (true, json!(["a", "m"]), false, Some(vec!["a"])),
            (true, json!(["a"]), false, None),
        ] {
            let want = want.map(|l| l.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(finalizers(&o(deleting, list.clone()), "m", used), want, "{deleting} {list} {used}");
        }
    }

    #[test]
    fn only_placed_pods_hold_claims() {
        let pod = |node: &str| {
            let v = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": node, "volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "e", "ephemeral": {}}, {"name": "x", "emptyDir": {}}]}});
            Object::from_value(v, 1).expect("object")
        };
        assert_eq!(used(&pod("n")), ["c", "p-e"]);
        assert!(used(&pod("")).is_empty());
    }
}
