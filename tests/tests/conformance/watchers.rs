//! Watchers (test/e2e/apimachinery/watch.go): what is told, in which order, and from where on.

use serde_json::{Value, json};
use testkit::http::Lines;

use crate::world::{Tests, World, version};

pub const TESTS: Tests = &[
    (
        "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps [Conformance]",
        add_update_and_delete,
    ),
    (
        "[sig-api-machinery] Watchers should be able to start watching from a specific resource version [Conformance]",
        from_a_version,
    ),
    (
        "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the previous watch [Conformance]",
        from_the_last_one_seen,
    ),
    (
        "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector [Conformance]",
        out_of_the_selection,
    ),
    (
        "[sig-api-machinery] Watchers should receive events on concurrent watches in same order [Conformance]",
        same_order_for_all,
    ),
];

fn maps(w: &World) -> String {
    w.path("api/v1", "configmaps")
}

fn map(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"watch": label}}})
}

fn watch(w: &World, from: &str, selector: &str) -> Lines {
    w.watch(&maps(w), from, &format!("labelSelector={selector}"))
}

/// The next event as its type, the object's name and `mutation`.
fn next(lines: &mut Lines) -> (String, String, String) {
    let event = lines.event().expect("an event");
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let object = &event["object"];
    (text(&event["type"]), text(&object["metadata"]["name"]), text(&object["data"]["mutation"]))
}

fn told(kind: &str, name: &str, mutation: &str) -> (String, String, String) {
    (kind.to_owned(), name.to_owned(), mutation.to_owned())
}

fn mutate(w: &World, name: &str, to: &str) -> Value {
    w.patch(&format!("{}/{name}", maps(w)), "merge-patch+json", &json!({"data": {"mutation": to}}))
}

fn label(w: &World, name: &str, to: &str) -> Value {
    let labels = json!({"metadata": {"labels": {"watch": to}}});
    w.patch(&format!("{}/{name}", maps(w)), "merge-patch+json", &labels)
}

fn add_update_and_delete(w: &World) {
    let from = version(&w.get(&maps(w))).to_owned();
    let selected = |selector: &str| watch(w, &from, selector);
    let (mut a, mut b, mut both) = (selected("watch%3Da"), selected("watch%3Db"), selected("watch+in+(a,b)"));
    let mut own = Vec::new();
    for name in ["a", "b"] {
        w.create(&maps(w), &map(name, name));
        own.push(told("ADDED", name, ""));
        if name == "a" {
            for to in ["1", "2"] {
                mutate(w, name, to);
                own.push(told("MODIFIED", name, to));
            }
        }
        w.delete(&format!("{}/{name}", maps(w)));
        own.push(told("DELETED", name, if name == "a" { "2" } else { "" }));
    }
    for event in &own {
        assert_eq!(&next(&mut both), event);
        assert_eq!(&next(if event.1 == "a" { &mut a } else { &mut b }), event);
    }
}

fn from_a_version(w: &World) {
    w.create(&maps(w), &map("a", "from"));
    let first = mutate(w, "a", "1");
    mutate(w, "a", "2");
    w.delete(&format!("{}/a", maps(w)));
    let mut lines = watch(w, version(&first), "watch%3Dfrom");
    assert_eq!(next(&mut lines), told("MODIFIED", "a", "2"));
    assert_eq!(next(&mut lines), told("DELETED", "a", "2"));
}

fn from_the_last_one_seen(w: &World) {
    let from = version(&w.get(&maps(w))).to_owned();
    let mut lines = watch(w, &from, "");
    w.create(&maps(w), &map("a", "again"));
    // The first watch ends here; what happens next is for the second.
    let wanted = |event: &Value| event["object"]["metadata"]["name"] == "a";
    let seen = std::iter::from_fn(|| lines.event()).find(wanted).expect("the object that was added");
    drop(lines);
    mutate(w, "a", "1");
    w.delete(&format!("{}/a", maps(w)));
    let mut lines = watch(w, version(&seen["object"]), "watch%3Dagain");
    assert_eq!(next(&mut lines), told("MODIFIED", "a", "1"));
    assert_eq!(next(&mut lines), told("DELETED", "a", "1"));
}

fn out_of_the_selection(w: &World) {
    let from = version(&w.get(&maps(w))).to_owned();
    let mut lines = watch(w, &from, "watch%3Din");
    w.create(&maps(w), &map("a", "in"));
    mutate(w, "a", "1");
    label(w, "a", "out");
    // Not selected: not told.
    mutate(w, "a", "2");
    label(w, "a", "in");
    mutate(w, "a", "3");
    w.delete(&format!("{}/a", maps(w)));
    for (kind, mutation) in [
        ("ADDED", ""),
        ("MODIFIED", "1"),
        ("DELETED", "1"),
        ("ADDED", "2"),
        ("MODIFIED", "3"),
        ("DELETED", "3"),
    ] {
        assert_eq!(next(&mut lines), told(kind, "a", mutation));
    }
}

fn same_order_for_all(w: &World) {
    const CHANGES: usize = 100;
    let from = version(&w.get(&maps(w))).to_owned();
    let versions = |lines: &mut Lines| -> Vec<String> {
        let one = |_| version(&lines.event().expect("an event")["object"]).to_owned();
        (0..CHANGES).map(one).collect()
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 0..CHANGES {
                let name = format!("a{}", i % 7);
                let path = format!("{}/{name}", maps(w));
                match w.http.get(&path).code {
                    404 => drop(w.create(&maps(w), &map(&name, "order"))),
                    _ if i % 3 == 0 => drop(w.delete(&path)),
                    _ => drop(mutate(w, &name, &i.to_string())),
                }
            }
        });
        // One that is there from the start, and others that begin at each tenth version while writes go on.
        let filter = "watch%3Dorder";
        let all = versions(&mut watch(w, &from, filter));
        for (i, start) in all.iter().enumerate().step_by(10) {
            let mut lines = watch(w, start, filter);
            let rest: Vec<String> = all[i + 1..]
                .iter()
                .map(|_| version(&lines.event().expect("an event")["object"]).to_owned())
                .collect();
            assert_eq!(rest, all[i + 1..], "from {start}");
        }
        writer.join().expect("the writer");
    });
}
