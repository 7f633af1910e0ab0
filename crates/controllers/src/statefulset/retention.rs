//! `persistentVolumeClaimRetentionPolicy` by owner references: a claim that is to go with its set is owned by the set,
//! one that is to go after a scale-down by the pod that is going. Pure.

use api::resource::{PODS, STATEFUL_SETS};
use api::{Object, OwnerReference, Resource};
use serde_json::{Value, json};

use super::identity::Retention;
use crate::owners::controller_ref;

fn refers(r: &OwnerReference, o: &Object) -> bool {
    r.uid == o.uid()
}

/// A former owner of the same kind and name that is no longer there.
fn is_stale(r: &OwnerReference, resource: &Resource, name: &str, uid: &str) -> bool {
    r.kind == resource.kind && r.api_version == resource.api_version() && r.name == name && r.uid != uid
}

/// Whether the claim still goes down with a former pod of this name: a new one must wait for a new claim.
pub fn belongs_to_former_pod(policy: Option<&Retention>, claim: &Object, pod: &str) -> bool {
    policy.is_some_and(|p| p.when_scaled == "Delete")
        && claim.meta().owner_references().iter().any(|r| is_stale(r, &PODS, pod, ""))
}

/// The owner references that the claim should have; `None` when it has them, or is somebody else's business.
pub fn owners(
    policy: Option<&Retention>,
    claim: &Object,
    set: &Object,
    pod: &Object,
    condemned: bool,
) -> Option<Value> {
    let all = claim.meta().owner_references();
    let former = |r: &OwnerReference| {
        is_stale(r, &STATEFUL_SETS, set.name(), set.uid()) || is_stale(r, &PODS, pod.name(), pod.uid())
    };
    if all.iter().any(former) {
        return None;
    }
    let deletes = |v: fn(&Retention) -> &str| policy.is_some_and(|p| v(p) == "Delete");
    let (scaled, deleted) = (deletes(|p| &p.when_scaled), deletes(|p| &p.when_deleted));
    let mut want_pod = scaled && condemned;
    let mut want_set = deleted && !want_pod;
    let foreign = |r: &&OwnerReference| !refers(r, set) && !refers(r, pod);
    if all.iter().filter(foreign).any(|r| r.controller == Some(true)) {
        // Another controller decides over it.
        (want_pod, want_set) = (false, false);
    }
    let good = |o: &Object, want: bool| match all.iter().find(|r| refers(r, o)) {
        Some(r) => want && r.controller == Some(true),
        None => !want,
    };
    if good(set, want_set) && good(pod, want_pod) {
        return None;
    }
    let mut out: Vec<Value> = all.iter().filter(foreign).map(|r| json!(r)).collect();
    if want_set {
        out.push(controller_ref(&STATEFUL_SETS, set));
    }
    if want_pod {
        out.push(controller_ref(&PODS, pod));
    }
    Some(json!(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str, uid: &str, owners: Value) -> Object {
        let v = json!({"kind": kind, "metadata": {"name": name, "namespace": "d", "uid": uid, "ownerReferences": owners}});
        Object::from_value(v, 1).expect("object")
    }

    #[test]
    fn who_owns_a_claim() {
        let set = object("StatefulSet", "web", "s", json!([]));
        let pod = object("Pod", "web-1", "p", json!([]));
        let (of_set, of_pod) = (controller_ref(&STATEFUL_SETS, &set), controller_ref(&PODS, &pod));
        let other = json!({"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "x", "controller": true, "blockOwnerDeletion": true});
        let former =
            json!({"apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": "old", "controller": true});
        let (none, keep) = (json!([]), None);
        // whenDeleted, whenScaled, condemned, present owners, wanted owners when they differ
        let table = [
            ("Retain", "Retain", false, none.clone(), keep.clone()),
            ("Retain", "Retain", true, json!([of_set]), Some(none.clone())),
            ("Delete", "Retain", false, none.clone(), Some(json!([of_set]))),
            ("Delete", "Retain", true, json!([of_set]), keep.clone()),
            ("Retain", "Delete", false, none.clone(), keep.clone()),
            ("Retain", "Delete", true, none.clone(), Some(json!([of_pod]))),
            ("Delete", "Delete", false, json!([of_pod]), Some(json!([of_set]))),
            ("Delete", "Delete", true, json!([of_set]), Some(json!([of_pod]))),
            ("Delete", "Delete", false, json!([other]), keep.clone()),
            ("Delete", "Delete", false, json!([other, of_set]), Some(json!([other]))),
            ("Delete", "Delete", false, json!([former]), keep.clone()),
        ];
        for (deleted, scaled, condemned, have, want) in table {
            let policy = Retention { when_deleted: deleted.into(), when_scaled: scaled.into() };
            let claim = object("PersistentVolumeClaim", "data-web-1", "c", have.clone());
            assert_eq!(
                owners(Some(&policy), &claim, &set, &pod, condemned),
                want,
                "{deleted} {scaled} {condemned} {have}"
            );
        }
        let policy = Retention { when_deleted: "Retain".into(), when_scaled: "Delete".into() };
        let claim = |owners: Value| object("PersistentVolumeClaim", "data-web-1", "c", owners);
        assert!(belongs_to_former_pod(Some(&policy), &claim(json!([former])), "web-1"));
        assert!(!belongs_to_former_pod(Some(&policy), &claim(json!([])), "web-1"));
        assert!(!belongs_to_former_pod(None, &claim(json!([former])), "web-1"));
    }
}
