//! A node as an object (test/e2e/node/node_lifecycle.go).

use serde_json::json;
use testkit::wait_for;

use crate::common::{name, selecting};
use crate::world::{Tests, World, newer};

pub const TESTS: Tests =
    &[("[sig-node] Node Lifecycle should run through the lifecycle of a node [Conformance]", lifecycle)];

fn lifecycle(w: &World) {
    let node = format!("fake-{}", w.namespace);
    let ready = json!({"type": "Ready", "status": "True", "reason": "E2E", "message": "Set from a test"});
    let size = json!({"cpu": "10", "memory": "100Mi", "pods": "1"});
    let status = json!({"phase": "Running", "conditions": [ready], "capacity": size, "allocatable": size});
    let body = json!({"metadata": {"name": node}, "spec": {"unschedulable": true}, "status": status});
    let created = w.create("/api/v1/nodes", &body);
    let path = format!("/api/v1/nodes/{node}");
    w.remove_at_end(&path);
    assert_eq!(name(&created), node);
    assert_eq!(name(&w.get(&path)), node);
    let label = json!({"metadata": {"labels": {&node: "patched"}}});
    let patched = w.patch(&path, "strategic-merge-patch+json", &label);
    assert_eq!(patched["metadata"]["labels"][&node], "patched");
    assert!(newer(&patched, &created));
    let selected = selecting(&format!("{node}=patched"));
    assert_eq!(w.items(&format!("/api/v1/nodes?{selected}")).len(), 1);
    let updated = w.update(&path, "", |n| n["metadata"]["labels"][&node] = json!("updated"));
    assert_eq!(updated["metadata"]["labels"][&node], "updated");
    w.delete(&path);
    wait_for("the node to go", || w.gone(&path));
}
