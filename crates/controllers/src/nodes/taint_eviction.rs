//! The taint eviction loop: a pod whose node has a `NoExecute` taint that it does not tolerate is deleted, at once or when
//! the time that it tolerates is over. Owns the list of deletions to come; spawns its workers.

use std::collections::HashMap;
use std::time::Duration;

use api::resource::{NODES, PODS};
use client::{DeleteOptions, Informer, ObjectRef, clock};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use super::view::{NodeView, Taint, Toleration};
use super::{BY_NODE, disruption_target, index_by_node, patch_pod};
use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue};

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct View {
    spec: Spec,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    tolerations: Vec<Toleration>,
}

/// What a pod's tolerations make of the taints of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Stay,
    /// Goes when it has borne them so long.
    After(SignedDuration),
}

fn judge(taints: &[Taint], tolerations: &[Toleration]) -> Verdict {
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let mut matching = tolerations.iter().filter(|t| t.tolerates(taint)).peekable();
        if matching.peek().is_none() {
            return Verdict::After(SignedDuration::ZERO);
        }
        // The first that matches is the one that counts.
        if let Some(seconds) = matching.next().and_then(|t| t.toleration_seconds) {
            shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)).max(0));
        }
    }
    shortest.map_or(Verdict::Stay, |s| Verdict::After(SignedDuration::from_secs(s)))
}

struct Planned {
    uid: String,
    fires: Timestamp,
}

struct Loop {
    ctx: Context,
    nodes: Informer,
    pods: Informer,
    planned: Mutex<HashMap<Key, Planned>>,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (nodes, pods) = (ctx.informers.get(&NODES), ctx.informers.get(&PODS));
    index_by_node(&pods);
    let q = queue.clone();
    pods.on_change(move |c| {
        let Some(o) = c.object() else { return };
        let changed = match (c.old, c.new) {
            (Some(old), Some(new)) => old.view::<View>().ok() != new.view::<View>().ok(),
            _ => true,
        };
        if changed {
            q.add(skeleton::key_of(o));
        }
    });
    let (q, all) = (queue.clone(), pods.clone());
    nodes.on_change(move |c| {
        let taints = |o: Option<&api::Object>| {
            o.and_then(|o| o.view::<NodeView>().ok()).map(|v| v.no_execute()).unwrap_or_default()
        };
        if let Some(o) = c.object().filter(|_| taints(c.old) != taints(c.new)) {
            for pod in all.by_index(BY_NODE, o.name()) {
                q.add(skeleton::key_of(&pod));
            }
        }
    });
    if !skeleton::synced(&ctx.token, &[&nodes, &pods]).await {
        return;
    }
    // Taints that came before their pods were in.
    for pod in pods.list(None) {
        queue.add(skeleton::key_of(&pod));
    }
    let l = Loop { ctx: ctx.clone(), nodes, pods, planned: Mutex::default() };
    skeleton::work("taint-eviction", &ctx.token, &queue, 8, |key| l.reconcile(key)).await;
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(pod) = self.pods.get(&key.0, &key.1).filter(|p| !p.meta().is_deleting()) else {
            self.planned.lock().remove(&key);
            return Ok(Next::Wait);
        };
        let view: View = pod.view()?;
        let taints = match self.nodes.get("", &view.spec.node_name).map(|n| n.view::<NodeView>()) {
            Some(node) => node?.no_execute(),
            None => Vec::new(),
        };
        let about = ObjectRef { resource_version: String::new(), ..ObjectRef::of(&PODS, &pod) };
        let now = clock::now();
        let fires = match judge(&taints, &view.spec.tolerations) {
            Verdict::Stay => {
                if self.planned.lock().remove(&key).is_some_and(|p| p.uid == pod.uid() && p.fires > now) {
                    let text = format!("Cancelling deletion of Pod {}/{}", key.0, key.1);
                    self.ctx.events.normal(about, "TaintManagerEviction", text);
                }
                return Ok(Next::Wait);
            }
            Verdict::After(d) => {
                let fires = now.checked_add(d).unwrap_or(Timestamp::MAX);
                let mut planned = self.planned.lock();
                // The clock runs from the first taint that was not tolerated for good; it is never set back.
                let p =
                    planned.entry(key.clone()).or_insert_with(|| Planned { uid: pod.uid().into(), fires });
                if p.uid != pod.uid() {
                    *p = Planned { uid: pod.uid().into(), fires };
                }
                p.fires = p.fires.min(fires);
                p.fires
            }
        };
        if fires > now {
            return Ok(Next::After(clock::between(now, fires) + Duration::from_millis(1)));
        }
        let condition =
            disruption_target("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
        if patch_pod(&self.ctx.client, &pod, json!({ "conditions": [condition] })).await? {
            let text = format!("Marking for deletion Pod {}/{}", key.0, key.1);
            self.ctx.events.normal(about, "TaintManagerEviction", text);
            self.ctx.client.delete_if_there(&PODS, &key.0, &key.1, &DeleteOptions::uid(pod.uid())).await?;
        }
        self.planned.lock().remove(&key);
        Ok(Next::Wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_patience_decides() {
        let taint = |key: &str| Taint { key: key.into(), effect: "NoExecute".into(), ..Taint::default() };
        let bear = |key: &str, seconds: Option<i64>| Toleration {
            key: key.into(),
            operator: "Exists".into(),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let after = |s| Verdict::After(SignedDuration::from_secs(s));
        let (a, b) = (taint("a"), taint("b"));
        assert_eq!(judge(&[], &[]), Verdict::Stay);
        assert_eq!(judge(std::slice::from_ref(&a), &[]), after(0));
        assert_eq!(judge(std::slice::from_ref(&a), &[bear("a", None)]), Verdict::Stay);
        assert_eq!(judge(&[a.clone(), b.clone()], &[bear("a", None)]), after(0));
        assert_eq!(judge(&[a.clone(), b.clone()], &[bear("a", Some(300)), bear("b", Some(20))]), after(20));
        assert_eq!(judge(&[a.clone(), b], &[bear("a", None), bear("b", Some(20))]), after(20));
        assert_eq!(judge(&[a], &[bear("a", Some(-5))]), after(0));
    }
}
