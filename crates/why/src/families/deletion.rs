//! What does not go away: finalizers, dependents that hold an owner, pods whose node is silent.

use serde_json::Value;

use super::{claims, namespaces, nodes};
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Thing, items, names, str_of};

/// Seconds that a deletion may take before it is spoken of.
const PATIENCE: i64 = 15;

pub fn causes(f: &Facts, t: &Thing) -> Vec<Cause> {
    if t.kind == "namespace" {
        return namespaces::causes(f, t);
    }
    // When a grace period is set, the time of deletion is its end.
    let over = f.since(t.text("/metadata/deletionTimestamp")).unwrap_or(0);
    let finalizers: Vec<String> =
        t.list("/metadata/finalizers").iter().map(|x| str_of(x).to_owned()).collect();
    if !finalizers.is_empty() && (over >= 0 || t.kind != "pod") {
        return finalizers.iter().map(|x| finalizer(f, t, x, over)).collect();
    }
    if t.kind != "pod" || over < PATIENCE {
        return vec![Cause::new("terminating", Weight::Note, "it is being deleted").seen(
            t,
            "metadata.deletionTimestamp",
            t.text("/metadata/deletionTimestamp"),
        )];
    }
    let node = t.text("/spec/nodeName");
    let force = t.kubectl(&format!("delete {} --force --grace-period=0", t.id()));
    let late = format!("{} ago", api::columns::duration::human(over));
    let c = match f.find("node", "", node) {
        Some(n) if !nodes::is_ready(n) => Cause::root(
            "node-silent",
            format!("it was to be gone {late}, but its node {node} is not ready, and only that node can say that it has ended"),
        )
        .seen(n, "status.conditions[Ready].status", n.condition("Ready").map_or("not there", |c| str_of(&c["status"])))
        .run("bring the node back", format!("kelson why node {node}")),
        None if f.look("node", "", node).is_missing() => {
            Cause::root("node-missing", format!("it was to be gone {late}, but its node {node} does not exist any more"))
        }
        _ => Cause::root("not-stopping", format!("it was to be gone {late}, and its node {node} has not ended it"))
            .event(f.event(t, &["FailedKillPod", "FailedPreStopHook", "ExceededGracePeriod"]))
            .run("look at the node", format!("kelson why node {node}")),
    };
    vec![
        c.seen(t, "metadata.deletionTimestamp", t.text("/metadata/deletionTimestamp"))
            .run("if it surely does not run any more, remove it by force", force),
    ]
}

/// Who wrote a finalizer, by the object's managed fields.
fn writer(t: &Thing, finalizer: &str) -> Option<String> {
    let key = format!("v:\"{finalizer}\"");
    let has = |m: &&Value| m["fieldsV1"]["f:metadata"]["f:finalizers"].get(&key).is_some();
    t.list("/metadata/managedFields").iter().find(has).map(|m| str_of(&m["manager"]).to_owned())
}

fn finalizer(f: &Facts, t: &Thing, name: &str, over: i64) -> Cause {
    let since = api::columns::duration::human(over.max(0));
    let seen = |c: Cause| {
        c.seen(t, "metadata.finalizers", name).seen(
            t,
            "metadata.deletionTimestamp",
            format!("{} ({since} ago)", t.text("/metadata/deletionTimestamp")),
        )
    };
    match name {
        "kubernetes.io/pvc-protection" => {
            let users: Vec<String> = f
                .within("pod", t.ns())
                .filter(|p| !super::pods::is_finished(p) && claims::of(p).iter().any(|(n, _)| n == t.name()))
                .map(|p| p.name().to_owned())
                .collect();
            if let Some(first) = users.first() {
                return seen(Cause::root(
                    "claim-in-use",
                    format!("it is kept until no pod uses it: {} still does", names(&users, 3)),
                ))
                .run("end what uses it", t.kubectl(&format!("delete pod {first}")));
            }
        }
        "kubernetes.io/pv-protection" => {
            let claim = t.at("/spec/claimRef");
            return seen(Cause::root(
                "volume-in-use",
                format!(
                    "it is kept as long as the claim {}/{} has it",
                    str_of(&claim["namespace"]),
                    str_of(&claim["name"])
                ),
            ));
        }
        "foregroundDeletion" => {
            let below: Vec<String> = ["replicaset", "pod", "job"]
                .iter()
                .flat_map(|k| f.all(k))
                .filter(|x| items(x.at("/metadata/ownerReferences")).iter().any(|o| o["uid"] == t.uid()))
                .map(Thing::id)
                .collect();
            if !below.is_empty() {
                return seen(Cause::state(
                    "dependents",
                    format!("it goes once what it owns is gone: {} still there", names(&below, 3)),
                ));
            }
        }
        _ => {}
    }
    let by = writer(t, name).map(|m| format!(", which {m} has set")).unwrap_or_default();
    let at = t.list("/metadata/finalizers").iter().position(|x| str_of(x) == name).unwrap_or(0);
    let patch = format!(r#"--type=json -p '[{{"op":"remove","path":"/metadata/finalizers/{at}"}}]'"#);
    seen(Cause::root(
        "finalizer",
        format!("its deletion waits for the finalizer {name}{by}: whoever answers for it has not taken it away in {since}"),
    ))
    .help("see that the controller which answers for it runs")
    .run("or, if that is gone and nothing has to be cleaned up, take it away", t.kubectl(&format!("patch {} {patch}", t.id())))
}
