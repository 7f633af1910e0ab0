//! storagemigration.k8s.io: StorageVersionMigration.

use super::at::At;
use super::common;
use super::errors::ErrorList;
use super::names;
use serde_json::Value;

pub fn migration(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let of = spec.get("resource");
    let (group, resource) = (of.get("group"), of.get("resource"));
    if resource.str().is_empty() {
        e.required(&resource, "resource is required to be set");
    } else {
        joined(&resource, names::dns1035_label(resource.str()), e);
    }
    // The group of the core API is empty.
    if !group.str().is_empty() {
        joined(&group, names::dns1123_subdomain(group.str()), e);
    }
}

pub fn migration_update(n: &Value, o: &Value, e: &mut ErrorList) {
    migration(n, e);
    e.immutable(&At::root(n).get("spec"), At::root(o).raw("spec"));
}

pub fn migration_status(n: &Value, o: &Value, e: &mut ErrorList) {
    let (root, before) = (At::root(n), At::root(o));
    let (status, was) = (root.get("status"), before.get("status"));
    let version = status.get("resourceVersion");
    let text = version.str();
    if !text.is_empty() && (text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit())) {
        e.bad(&version, &format!("resource version is not well formed: {text}"));
    }
    common::conditions(&status.get("conditions"), e);
    if !was.s("resourceVersion").is_empty() && was.s("resourceVersion") != text {
        e.bad(&version, super::IMMUTABLE);
    }
    let holds = |s: &At, kind: &str| {
        s.get("conditions").iter().any(|c| c.s("type") == kind && c.s("status") == "True")
    };
    let conditions = status.get("conditions");
    if holds(&status, "Succeeded") && holds(&status, "Failed") {
        e.bad(&conditions, "Both success and failed conditions cannot be true at the same time");
    }
    for (kind, name) in [("Succeeded", "Success"), ("Failed", "Failed")] {
        if holds(&was, kind) && !holds(&status, kind) {
            e.bad(&conditions, &format!("{name} condition cannot be set to false once it is true"));
        }
    }
}

fn joined(a: &At, wrong: Vec<String>, e: &mut ErrorList) {
    if !wrong.is_empty() {
        e.bad(a, &wrong.join(","));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(check: impl Fn(&mut ErrorList)) -> Vec<String> {
        let mut e = ErrorList::new();
        check(&mut e);
        e.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_core_group_is_a_group() {
        let of = |group: &str, resource: &str| json!({"spec": {"resource": {"group": group, "resource": resource}}});
        assert!(told(|e| migration(&of("", "secrets"), e)).is_empty());
        assert!(told(|e| migration(&of("apps", "deployments"), e)).is_empty());
        assert_eq!(
            told(|e| migration(&of("", ""), e)),
            ["spec.resource.resource: Required value: resource is required to be set"]
        );
        assert_eq!(told(|e| migration(&of("A_b", "X"), e)).len(), 2);
        assert_eq!(told(|e| migration_update(&of("", "pods"), &of("", "secrets"), e)).len(), 1);
    }

    #[test]
    fn what_ended_stays_ended() {
        let at = |version: &str, done: &str| {
            let c = json!({"type": "Succeeded", "status": done, "reason": "r", "lastTransitionTime": "2026-01-01T00:00:00Z"});
            json!({"status": {"resourceVersion": version, "conditions": [c]}})
        };
        assert!(told(|e| migration_status(&at("7", "True"), &at("7", "False"), e)).is_empty());
        assert_eq!(told(|e| migration_status(&at("7", "False"), &at("7", "True"), e)).len(), 1);
        assert_eq!(told(|e| migration_status(&at("8", "True"), &at("7", "True"), e)).len(), 1);
        assert_eq!(told(|e| migration_status(&at("07", "True"), &at("", "True"), e)).len(), 1);
    }
}
