//! The persistentvolume-expander loop: nothing in here can make a volume larger, so it says whom a claim waits for that asks
//! for more than it has. Owns nothing, spawns its worker.
//! https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims

use api::quantity::Quantity;
use api::resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use client::{EventType, ObjectRef};
use serde_json::Value;

use crate::Context;
use crate::skeleton::{self, Key, Next, Queue, key_of};

const WAITING: &str = "waiting for an external controller to expand this PVC";

fn size(v: &Value) -> Option<Quantity> {
    Quantity::parse(v["storage"].as_str()?).ok()
}

/// Whether a claim is bound and asks for more than it has.
fn wants_more(claim: &Value) -> bool {
    let (asked, has) = (size(&claim["spec"]["resources"]["requests"]), size(&claim["status"]["capacity"]));
    claim["status"]["phase"] == "Bound" && asked.is_some_and(|a| has.is_none_or(|h| a > h))
}

/// The event about a claim that is bound to this volume, if it is.
fn event(claim: &Value, volume: &Value) -> Option<EventType> {
    let bound = &volume["spec"]["claimRef"];
    if bound["uid"] != claim["metadata"]["uid"] || bound["namespace"] != claim["metadata"]["namespace"] {
        return None;
    }
    // A driver can have a resizer; other volumes have nobody.
    let outside = ["csi", "flexVolume"].iter().any(|k| !volume["spec"][*k].is_null());
    Some(if outside { EventType::Normal } else { EventType::Warning })
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (claims, volumes) =
        (ctx.informers.get(&PERSISTENT_VOLUME_CLAIMS), ctx.informers.get(&PERSISTENT_VOLUMES));
    let q = queue.clone();
    claims.on_change(move |c| {
        let Some(new) = c.new else { return };
        let more = |o: &api::Object| o.value().is_ok_and(|v| wants_more(&v));
        // Told once, when it begins.
        if more(new) && !c.old.is_some_and(more) {
            q.add(key_of(new));
        }
    });
    if !skeleton::synced(&ctx.token, &[&claims, &volumes]).await {
        return;
    }
    skeleton::work("persistentvolume-expander", &ctx.token, &queue, 1, |key: Key| {
        let (ctx, claims, volumes) = (&ctx, &claims, &volumes);
        async move {
            let Some(claim) = claims.get(&key.0, &key.1) else { return Ok(Next::Wait) };
            let v = claim.value()?;
            let volume = v["spec"]["volumeName"].as_str().and_then(|name| volumes.get("", name));
            if let Some(volume) = volume
                && wants_more(&v)
                && let Some(kind) = event(&v, &volume.value()?)
            {
                let about = ObjectRef::of(&PERSISTENT_VOLUME_CLAIMS, &claim);
                ctx.events.event(about, kind, "ExternalExpanding", WAITING);
            }
            Ok(Next::Wait)
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_waits_for_whom() {
        let claim = |phase: &str, asked: &str, has: &str| {
            json!({"metadata": {"uid": "u", "namespace": "n"}, "spec": {"resources": {"requests": {"storage": asked}}},
                "status": {"phase": phase, "capacity": {"storage": has}}})
        };
        for (phase, asked, has, want) in [
            ("Bound", "2Gi", "1Gi", true),
            ("Bound", "1Gi", "1Gi", false),
            ("Bound", "1024Mi", "1Gi", false),
            ("Bound", "1Gi", "2Gi", false),
            ("Pending", "2Gi", "1Gi", false),
        ] {
            assert_eq!(wants_more(&claim(phase, asked, has)), want, "{phase} {asked} {has}");
        }
        let c = claim("Bound", "2Gi", "1Gi");
        let volume = |source: &str, uid: &str| json!({"spec": {source: {}, "claimRef": {"namespace": "n", "uid": uid}}});
        assert_eq!(event(&c, &volume("csi", "u")), Some(EventType::Normal));
        assert_eq!(event(&c, &volume("hostPath", "u")), Some(EventType::Warning));
        assert_eq!(event(&c, &volume("csi", "other")), None);
    }
}
