//! What upstream asks of a resource of cluster scope that is there to be stored: that discovery names it, and what each
//! verb does to it.

use serde_json::{Value, json};

use crate::world::{World, assert_holds, event, newer, version};

pub struct Subject<'a> {
    /// Group and version.
    pub api: &'a str,
    pub resource: &'a str,
    pub kind: &'a str,
    pub subresources: &'a [&'a str],
    /// The query that selects the test's objects.
    pub selected: &'a str,
    /// What is created; it has a `generateName`.
    pub object: Value,
    /// A merge patch, and what an update sets afterwards, beside annotations.
    pub patch: Value,
    pub update: Value,
}

impl Subject<'_> {
    fn path(&self) -> String {
        format!("/apis/{}/{}", self.api, self.resource)
    }

    /// Discovery, then every verb; `inner` is given the path of one object, and the object, for its subresources.
    pub fn lives(&self, w: &World, inner: impl FnOnce(&str, &Value)) {
        is_discovered(w, self.api, self.resource, self.subresources);
        let path = self.path();
        let selected = format!("{path}?{}", self.selected);
        w.remove_at_end(&selected);
        let [_, _, created] = [(); 3].map(|()| w.create(&path, &self.object));
        let one = format!("{path}/{}", created["metadata"]["name"].as_str().expect("a name"));
        let got = w.get(&one);
        assert_eq!(got["metadata"]["uid"], created["metadata"]["uid"]);
        let list = w.get(&selected);
        assert_eq!(list["items"].as_array().map(Vec::len), Some(3));

        let mut lines = w.watch(&path, version(&list), self.selected);
        let annotated = |name: &str| json!({"metadata": {"annotations": {name: "true"}}});
        let patched = w.patch(&one, "merge-patch+json", &merged(annotated("patched"), &self.patch));
        assert_holds(&patched, &merged(annotated("patched"), &self.patch));
        assert!(newer(&patched, &got));
        let updated = w.update(&one, "", |o| {
            *o = merged(merged(o.take(), &annotated("updated")), &self.update);
        });
        assert_holds(&updated, &merged(annotated("updated"), &self.update));
        for name in ["patched", "updated"] {
            event(&mut lines, "MODIFIED", |o| o["metadata"]["annotations"][name] == "true");
        }

        inner(&one, &created);

        w.delete(&one);
        assert!(w.gone(&one));
        assert_eq!(w.items(&selected).len(), 2);
        w.delete(&selected);
        assert!(w.items(&selected).is_empty());
    }

    /// What a subresource reads is the object as a whole.
    pub fn reads(&self, w: &World, one: &str, subresource: &str, created: &Value) {
        let got = w.get(&format!("{one}{subresource}"));
        assert_eq!((&got["apiVersion"], &got["kind"]), (&self.api.into(), &self.kind.into()));
        assert_eq!(got["metadata"]["uid"], created["metadata"]["uid"]);
    }

    /// `/status` is read, patched and updated; its conditions are a list.
    pub fn status_has_conditions(&self, w: &World, one: &str, created: &Value) {
        self.reads(w, one, "/status", created);
        let patch = json!({"status": {"conditions": [condition("PatchStatusFailed", "False")]}});
        let patched = w.patch(&format!("{one}/status"), "merge-patch+json", &patch);
        assert!(has_condition(&patched, "PatchStatusFailed"), "{patched}");
        let updated = w.update(one, "/status", |o| add_condition(o, "StatusUpdateFailed", "False"));
        assert!(has_condition(&updated, "StatusUpdateFailed"), "{updated}");
    }
}

/// That discovery names a resource at each step of the way to it, and its subresources.
pub fn is_discovered(w: &World, api: &str, resource: &str, subresources: &[&str]) {
    let (group, _) = api.split_once('/').expect("group and version");
    let among = |list: &Value, field: &str, name: &str| {
        list.as_array().is_some_and(|l| l.iter().any(|e| e[field] == name))
    };
    let groups = w.get("/apis");
    let known = groups["groups"].as_array().and_then(|l| l.iter().find(|g| g["name"] == group));
    let known = known.unwrap_or_else(|| panic!("no group {group}"));
    assert!(among(&known["versions"], "groupVersion", api), "{known}");
    let one = w.get(&format!("/apis/{group}"));
    assert_eq!(one["name"], group);
    assert!(among(&one["versions"], "groupVersion", api), "{one}");
    let resources = w.get(&format!("/apis/{api}"));
    assert_eq!(resources["groupVersion"], api);
    assert!(among(&resources["resources"], "name", resource), "{resources}");
    for sub in subresources {
        assert!(among(&resources["resources"], "name", &format!("{resource}/{sub}")), "{resources}");
    }
}

pub fn has_condition(object: &Value, kind: &str) -> bool {
    object["status"]["conditions"].as_array().is_some_and(|l| l.iter().any(|c| c["type"] == kind))
}

fn condition(kind: &str, status: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": "E2E", "message": "Set from a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

pub fn add_condition(object: &mut Value, kind: &str, status: &str) {
    let condition = condition(kind, status);
    match object["status"]["conditions"].as_array_mut() {
        Some(list) => list.push(condition),
        None => object["status"]["conditions"] = json!([condition]),
    }
}

/// Objects one over the other.
fn merged(mut into: Value, from: &Value) -> Value {
    match (into.as_object_mut(), from) {
        (Some(fields), Value::Object(from)) => {
            for (name, value) in from {
                let before = fields.remove(name).unwrap_or_default();
                fields.insert(name.clone(), merged(before, value));
            }
            into
        }
        _ => from.clone(),
    }
}
