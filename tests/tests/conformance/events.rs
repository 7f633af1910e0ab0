//! Events in both of their groups (test/e2e/instrumentation/events.go, core_events.go).

use serde_json::{Value, json};

use crate::world::{Tests, World, newer};

pub const TESTS: Tests = &[
    (
        "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed [Conformance]",
        one_of_the_new_group,
    ),
    (
        "[sig-instrumentation] Events API should delete a collection of events [Conformance]",
        collection_of_the_new_group,
    ),
    ("[sig-instrumentation] Events should manage the lifecycle of an event [Conformance]", one),
    ("[sig-instrumentation] Events should delete a collection of events [Conformance]", collection),
];

const NEW: &str = "apis/events.k8s.io/v1";
const OLD: &str = "api/v1";

fn event(w: &World, group: &str, name: &str) -> Value {
    let metadata = json!({"name": name, "labels": {"of": w.namespace}});
    let regarding = json!({"namespace": w.namespace});
    if group == OLD {
        return json!({
            "metadata": metadata, "message": "This is a test event", "reason": "Test", "type": "Normal", "count": 1,
            "involvedObject": regarding,
        });
    }
    json!({
        "metadata": metadata, "note": format!("This is {name}"), "action": "Do", "reason": "Test", "type": "Normal",
        "regarding": regarding, "eventTime": "2017-09-19T13:49:16.000000Z",
        "reportingController": "test-controller", "reportingInstance": "test-node",
    })
}

/// The names of the test's events below a path.
fn listed(w: &World, path: &str) -> Vec<Value> {
    let items = w.items(&format!("{path}?labelSelector=of%3D{}", w.namespace));
    items.into_iter().map(|e| e["metadata"]["name"].clone()).collect()
}

/// An event without what each write changes.
fn constant(mut event: Value) -> Value {
    let metadata = event["metadata"].as_object_mut().expect("metadata");
    metadata.remove("resourceVersion");
    metadata.remove("managedFields");
    event
}

fn one_of_the_new_group(w: &World) {
    let (here, all) = (w.path(NEW, "events"), format!("/{NEW}/events"));
    let path = format!("{here}/event-test");
    let created = w.create(&here, &event(w, NEW, "event-test"));
    for list in [&all, &here] {
        assert_eq!(listed(w, list), ["event-test"]);
    }
    for (list, field) in [(w.path(OLD, "events"), "source"), (here.clone(), "reportingController")] {
        let found = w.items(&format!("{list}?fieldSelector={field}%3Dtest-controller"));
        assert_eq!(found.len(), 1, "{field}");
        assert_eq!(found[0]["metadata"]["name"], "event-test");
    }

    let mut wanted = constant(w.get(&path));
    let series = |count: u32, at: &str| json!({"count": count, "lastObservedTime": at});
    wanted["series"] = series(2, "2017-09-19T13:49:11.000000Z");
    w.patch(&path, "strategic-merge-patch+json", &json!({"series": wanted["series"]}));
    let patched = w.get(&path);
    assert!(newer(&patched, &created));
    assert_eq!(constant(patched), wanted);

    wanted["series"] = series(100, "2017-09-19T13:49:16.000000Z");
    w.ask("PUT", &path, &wanted, 200);
    assert_eq!(constant(w.get(&path)), wanted);

    w.delete(&path);
    for list in [&all, &here] {
        assert!(listed(w, list).is_empty());
    }
}

fn one(w: &World) {
    let (here, all) = (w.path(OLD, "events"), format!("/{OLD}/events"));
    let path = format!("{here}/event-test");
    w.create(&here, &event(w, OLD, "event-test"));
    assert_eq!(listed(w, &all), ["event-test"]);

    let message = "This is a test event - patched";
    w.patch(&path, "strategic-merge-patch+json", &json!({"message": message}));
    let mut wanted = constant(w.get(&path));
    assert_eq!(wanted["message"], message);

    wanted["series"] = json!({"count": 100, "lastObservedTime": "2017-09-19T13:49:16.000000Z"});
    w.ask("PUT", &path, &wanted, 200);
    assert_eq!(constant(w.get(&path)), wanted);

    w.delete(&path);
    assert!(listed(w, &all).is_empty());
}

fn deleted_together(w: &World, group: &str) {
    let path = w.path(group, "events");
    let names = ["test-event-1", "test-event-2", "test-event-3"];
    for name in names {
        w.create(&path, &event(w, group, name));
    }
    // One that is not meant.
    let mut other = event(w, group, "other");
    other["metadata"]["labels"] = json!({});
    w.create(&path, &other);
    assert_eq!(listed(w, &path), names);
    w.delete(&format!("{path}?labelSelector=of%3D{}", w.namespace));
    assert!(listed(w, &path).is_empty());
    assert!(!w.gone(&format!("{path}/other")));
}

fn collection_of_the_new_group(w: &World) {
    deleted_together(w, NEW);
}

fn collection(w: &World) {
    deleted_together(w, OLD);
}
