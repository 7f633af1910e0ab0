//! Leases (test/e2e/common/node/lease.go).

use serde_json::{Value, json};

use crate::common::selecting;
use crate::world::{Tests, World, newer};

pub const TESTS: Tests = &[("[sig-node] Lease lease API should be available [Conformance]", available)];

fn spec(holder: &str, seconds: u32, acquired: &str, renewed: &str, transitions: u32) -> Value {
    json!({
        "holderIdentity": holder, "leaseDurationSeconds": seconds, "leaseTransitions": transitions,
        "acquireTime": format!("0001-01-01T00:{acquired}.000000Z"),
        "renewTime": format!("0001-01-01T00:{renewed}.000000Z"),
    })
}

fn available(w: &World) {
    let leases = w.path("apis/coordination.k8s.io/v1", "leases");
    let path = format!("{leases}/lease");
    let first = spec("holder", 30, "00:02", "00:05", 0);
    let created = w.create(&leases, &json!({"metadata": {"name": "lease"}, "spec": first}));
    assert_eq!(w.get(&path)["spec"], first);
    let second = spec("holder2", 30, "00:20", "00:50", 1);
    let mut whole = created.clone();
    whole["spec"] = second.clone();
    w.ask("PUT", &path, &whole, 200);
    assert_eq!(w.get(&path)["spec"], second);
    let third = spec("holder3", 60, "00:50", "01:10", 2);
    w.patch(&path, "strategic-merge-patch+json", &json!({"spec": third}));
    let read = w.get(&path);
    assert_eq!(read["spec"], third);
    assert!(newer(&read, &created));

    let metadata = json!({"name": "lease2", "labels": {"deletecollection": "true"}});
    w.create(&leases, &json!({"metadata": metadata, "spec": first}));
    assert_eq!(w.items(&leases).len(), 2);
    w.delete(&format!("{leases}?{}", selecting("deletecollection=true")));
    assert_eq!(w.items(&leases).len(), 1);
    w.delete(&path);
    assert!(w.gone(&path));
    w.items("/apis/coordination.k8s.io/v1/leases");
}
