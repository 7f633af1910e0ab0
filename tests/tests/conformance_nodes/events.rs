//! What the scheduler and kubelets tell of a pod (test/e2e/node/events.go).

use serde_json::json;
use testkit::wait_for;

use crate::common::{is_running, pod, pod_path, pods, pods_path, sleeping, uid, wait_until};
use crate::world::{Tests, World};

pub const TESTS: Tests = &[(
    "[sig-node] Events should be sent by kubelets and the scheduler about pods scheduling and running",
    sent,
)];

fn sent(w: &World) {
    w.create(&pods_path(w), &pod("told", &json!({"time": w.namespace}), sleeping()));
    let pod = wait_until(w, &pod_path(w, "told"), "to run", is_running);
    assert_eq!(pods(w, &format!("time={}", w.namespace)).len(), 1);
    for source in ["default-scheduler", "kubelet"] {
        let fields = [
            ("involvedObject.kind", "Pod"),
            ("involvedObject.uid", uid(&pod)),
            ("involvedObject.namespace", &w.namespace),
            ("source", source),
        ];
        let selector = fields.map(|(field, value)| format!("{field}%3D{value}")).join("%2C");
        let path = format!("{}?fieldSelector={selector}", w.path("api/v1", "events"));
        wait_for(&format!("an event of {source}"), || !w.items(&path).is_empty());
    }
}
