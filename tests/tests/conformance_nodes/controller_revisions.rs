//! The revisions of a daemon set (test/e2e/apps/controller_revision.go).

use serde_json::{Value, json};
use testkit::wait_for;

use crate::common::{apps, name, selecting, uid};
use crate::daemon_sets::{create, wait_on_all};
use crate::world::{Tests, World, newer};

pub const TESTS: Tests = &[(
    "[sig-apps] ControllerRevision [Serial] should manage the lifecycle of a ControllerRevision [Conformance]",
    lifecycle,
)];

fn lifecycle(w: &World) {
    let set = format!("ds-{}", w.namespace);
    let selected = selecting(&format!("app={set}"));
    let path = create(w, &set, |_| {});
    wait_on_all(w, &path);
    assert_eq!(w.items(&format!("/apis/apps/v1/daemonsets?{selected}")).len(), 1);

    let own = apps(w, "controllerrevisions");
    let listed = |n: usize| {
        wait_for(&format!("{n} revisions"), || w.items(&format!("{own}?{selected}")).len() == n);
    };
    let all = w.items(&format!("/apis/apps/v1/controllerrevisions?{selected}"));
    let [first] = all.as_slice() else { panic!("{all:?}") };
    let ds = w.get(&path);
    let owner = &first["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("DaemonSet"), &json!(uid(&ds))));
    let first_path = format!("{own}/{}", name(first));
    let initial = w.get(&first_path);
    let label = |value: &str| json!({"metadata": {"labels": {name(first): value}}});
    let patched = w.patch(&first_path, "strategic-merge-patch+json", &label("patched"));
    assert_eq!(patched["metadata"]["labels"][name(first)], "patched");
    assert!(newer(&patched, &initial));

    // Another one, made by hand, stays while nothing changes.
    let mut labels = ds["spec"]["template"]["metadata"]["labels"].clone();
    labels["controller-revision-hash"] = json!("byhand");
    let reference = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "name": set, "uid": uid(&ds),
        "controller": true, "blockOwnerDeletion": true,
    });
    let metadata = json!({"name": format!("{set}-byhand"), "labels": labels, "ownerReferences": [reference]});
    let revision = initial["revision"].as_u64().expect("a revision") + 1;
    w.create(&own, &json!({"metadata": metadata, "data": initial["data"], "revision": revision}));
    listed(2);
    w.delete(&first_path);
    listed(1);

    let current = w.items(&own).remove(0);
    let current_path = format!("{own}/{}", name(&current));
    let updated = w.update(&current_path, "", |r| r["metadata"]["labels"][name(&current)] = json!("updated"));
    assert_eq!(updated["metadata"]["labels"][name(&current)], "updated");

    let grace = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 2}}}});
    w.patch(&path, "strategic-merge-patch+json", &grace);
    listed(2);
    let updated = format!("{own}?{}", selecting(&format!("{}=updated", name(&current))));
    w.ask("DELETE", &updated, &Value::Null, 200);
    listed(1);
    assert_eq!(w.items(&own)[0]["revision"], 3);
}
