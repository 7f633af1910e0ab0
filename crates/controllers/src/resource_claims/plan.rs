//! What claims a pod needs made, and whether a claim's users are still there. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
pub const FOR_POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// What a name may have before its random part.
const BASE: usize = 57;
/// Users of one claim.
const MOST_USERS: usize = 256;

fn list<'a>(v: &'a Value, field: &str) -> &'a [Value] {
    v[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(v: &'a Value, field: &str) -> &'a str {
    v[field].as_str().unwrap_or_default()
}

/// Neither runs nor will.
pub fn is_done(pod: &Value) -> bool {
    matches!(text(&pod["status"], "phase"), "Succeeded" | "Failed")
        || !pod["metadata"]["deletionTimestamp"].is_null() && text(&pod["spec"], "nodeName").is_empty()
}

/// One entry of a pod's `resourceClaims`.
#[derive(Debug, Clone, PartialEq)]
pub struct PodClaim {
    pub name: String,
    pub template: Option<String>,
    /// What it is called: said by the user, or noted in the status. `None`: not made yet.
    pub claim: Option<String>,
}

/// Entries that need a claim; what was found not to need one is left out.
pub fn pod_claims(pod: &Value) -> Vec<PodClaim> {
    let statuses = list(&pod["status"], "resourceClaimStatuses");
    let one = |c: &Value| {
        let name = text(c, "name").to_owned();
        if let Some(direct) = c["resourceClaimName"].as_str() {
            return Some(PodClaim { name, template: None, claim: Some(direct.to_owned()) });
        }
        let template = c["resourceClaimTemplateName"].as_str().map(str::to_owned);
        let noted = statuses.iter().find(|s| text(s, "name") == name);
        match noted {
            Some(s) if s["resourceClaimName"].is_null() => None,
            s => {
                let claim = s.and_then(|s| s["resourceClaimName"].as_str()).map(str::to_owned);
                Some(PodClaim { name, template, claim })
            }
        }
    };
    list(&pod["spec"], "resourceClaims").iter().filter_map(one).collect()
}

/// The pod that a claim was made for: its name and uid.
pub fn owner(claim: &Value) -> Option<(&str, &str)> {
    let owners = list(&claim["metadata"], "ownerReferences");
    let pod =
        owners.iter().find(|o| o["controller"] == true && o["kind"] == "Pod" && o["apiVersion"] == "v1")?;
    Some((text(pod, "name"), text(pod, "uid")))
}

/// A claim as a template has it, for one entry of a pod.
pub fn from_template(pod: &Value, entry: &str, template: &Value) -> Value {
    let pod_name = text(&pod["metadata"], "name");
    let full = format!("{pod_name}-{entry}-");
    let generate = match full.len() > BASE {
        // Both names lose a part of themselves, so that both can still be told.
        true => {
            let cut = |s: &str| s.chars().take(s.len() * BASE / full.len()).collect::<String>();
            format!("{}-{}", cut(pod_name), cut(entry))
        }
        false => full,
    };
    let mut meta = json!({
        "generateName": generate,
        "annotations": template["spec"]["metadata"]["annotations"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod_name, "uid": pod["metadata"]["uid"], "controller": true}],
    });
    if !meta["annotations"].is_object() {
        meta["annotations"] = json!({});
    }
    meta["annotations"][FOR_POD_CLAIM] = json!(entry);
    if template["spec"]["metadata"]["labels"].is_object() {
        meta["labels"] = template["spec"]["metadata"]["labels"].clone();
    }
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, "spec": template["spec"]["spec"]})
}

/// Names of claims by entry as they should stand in the pod's status.
pub fn statuses(pod: &Value, new: &BTreeMap<String, String>) -> Value {
    let mut all: BTreeMap<String, String> = list(&pod["status"], "resourceClaimStatuses")
        .iter()
        .filter_map(|s| Some((text(s, "name").to_owned(), s["resourceClaimName"].as_str()?.to_owned())))
        .collect();
    all.extend(new.clone());
    all.iter().map(|(name, claim)| json!({"name": name, "resourceClaimName": claim})).collect()
}

/// Whether a pod that somebody else placed must be put among an allocated claim's users.
pub fn must_reserve(claim: &Value, pod: &Value) -> bool {
    let users = list(&claim["status"], "reservedFor");
    !claim["status"]["allocation"].is_null()
        && users.len() < MOST_USERS
        && !users.iter().any(|u| u["uid"] == pod["metadata"]["uid"])
}

/// What a claim becomes.
#[derive(Debug, Default, PartialEq)]
pub struct Fate {
    /// Its users from now on, when some are gone.
    pub users: Option<Vec<Value>>,
    pub deallocate: bool,
    pub unprotect: bool,
    /// Nobody holds it, so that its pod's end is its own.
    pub unused: bool,
}

/// `there`: whether a user that is a pod still is.
pub fn fate(claim: &Value, there: impl Fn(&Value) -> bool) -> Fate {
    let users = list(&claim["status"], "reservedFor");
    let is_pod = |u: &Value| text(u, "apiGroup").is_empty() && u["resource"] == "pods";
    // What other consumers are about is theirs to say.
    let left: Vec<Value> = users.iter().filter(|u| !is_pod(u) || there(u)).cloned().collect();
    let protected = list(&claim["metadata"], "finalizers").iter().any(|f| f == FINALIZER);
    let deleting = !claim["metadata"]["deletionTimestamp"].is_null();
    let allocated = !claim["status"]["allocation"].is_null();
    let unused = left.is_empty();
    // A driver may allocate before anybody uses it: only the last user's end gives it back, or its own deletion.
    let ends = unused && protected && (left.len() < users.len() || deleting);
    Fate {
        deallocate: ends && allocated,
        unprotect: ends,
        unused,
        users: (left.len() < users.len()).then_some(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_pod() {
        let pod = json!({"spec": {"resourceClaims": [
                {"name": "a", "resourceClaimName": "mine"}, {"name": "b", "resourceClaimTemplateName": "t"},
                {"name": "c", "resourceClaimTemplateName": "t"}, {"name": "d", "resourceClaimTemplateName": "t"}]},
            "status": {"resourceClaimStatuses": [{"name": "c", "resourceClaimName": "p-c-x"}, {"name": "d"}]}});
        let of = |name: &str, template: Option<&str>, claim: Option<&str>| PodClaim {
            name: name.into(),
            template: template.map(str::to_owned),
            claim: claim.map(str::to_owned),
        };
        assert_eq!(
            pod_claims(&pod),
            [of("a", None, Some("mine")), of("b", Some("t"), None), of("c", Some("t"), Some("p-c-x"))]
        );
        let new = BTreeMap::from([("b".to_owned(), "p-b-y".to_owned())]);
        assert_eq!(
            statuses(&pod, &new),
            json!([{"name": "b", "resourceClaimName": "p-b-y"}, {"name": "c", "resourceClaimName": "p-c-x"}])
        );
    }

    #[test]
    fn a_claim_from_a_template() {
        let pod = json!({"metadata": {"name": "p", "uid": "u"}});
        let template = json!({"spec": {"metadata": {"labels": {"l": "1"}, "annotations": {"a": "2"}}, "spec": {"devices": {}}}});
        let c = from_template(&pod, "gpu", &template);
        assert_eq!((&c["metadata"]["generateName"], owner(&c)), (&json!("p-gpu-"), Some(("p", "u"))));
        assert_eq!(c["metadata"]["annotations"], json!({"a": "2", FOR_POD_CLAIM: "gpu"}));
        assert_eq!((&c["metadata"]["labels"]["l"], &c["spec"]), (&json!("1"), &json!({"devices": {}})));
        let long = json!({"metadata": {"name": "p".repeat(100)}});
        let c = from_template(&long, &"c".repeat(40), &template);
        assert!(c["metadata"]["generateName"].as_str().is_some_and(|n| n.len() <= BASE && n.contains("p-c")));
    }

    #[test]
    fn what_becomes_of_a_claim() {
        let user = |uid: &str| json!({"resource": "pods", "name": uid, "uid": uid});
        let claim = |users: Vec<Value>, finalizer: bool, deleting: bool, allocated: bool| {
            json!({"metadata": {"finalizers": if finalizer { json!([FINALIZER]) } else { json!([]) }, "deletionTimestamp": deleting.then_some("x")},
                "status": {"reservedFor": users, "allocation": allocated.then(|| json!({}))}})
        };
        let there = |u: &Value| u["uid"] == "here";
        let other = json!({"apiGroup": "x.example.com", "resource": "things", "uid": "t"});
        let f = |c: &Value| fate(c, there);
        assert_eq!(f(&claim(vec![user("here")], true, false, true)), Fate::default());
        let one_left = f(&claim(vec![user("here"), user("gone")], true, false, true));
        assert_eq!(one_left, Fate { users: Some(vec![user("here")]), ..Fate::default() });
        let last = f(&claim(vec![user("gone")], true, false, true));
        assert_eq!(last, Fate { users: Some(vec![]), deallocate: true, unprotect: true, unused: true });
        // Nobody has used it yet.
        assert_eq!(f(&claim(vec![], true, false, true)), Fate { unused: true, ..Fate::default() });
        let deleted = f(&claim(vec![], true, true, true));
        assert_eq!(deleted, Fate { users: None, deallocate: true, unprotect: true, unused: true });
        assert_eq!(f(&claim(vec![other.clone()], true, true, true)), Fate::default());
        assert!(!f(&claim(vec![user("gone")], false, false, true)).deallocate);
    }

    #[test]
    fn pods_that_others_placed_are_put_among_the_users() {
        let pod = json!({"metadata": {"uid": "u"}});
        let claim = |allocated: bool, users: Value| json!({"status": {"allocation": allocated.then(|| json!({})), "reservedFor": users}});
        assert!(must_reserve(&claim(true, json!([])), &pod));
        assert!(!must_reserve(&claim(true, json!([{"uid": "u"}])), &pod));
        assert!(!must_reserve(&claim(false, json!([])), &pod));
        assert!(!must_reserve(&claim(true, (0..256).map(|i| json!({"uid": i.to_string()})).collect()), &pod));
    }

    #[test]
    fn pods_that_are_done() {
        for (phase, deleting, node, want) in [
            ("Running", true, "n", false),
            ("Pending", true, "", true),
            ("Pending", false, "", false),
            ("Failed", false, "n", true),
        ] {
            let pod = json!({"metadata": {"deletionTimestamp": deleting.then_some("x")}, "spec": {"nodeName": node}, "status": {"phase": phase}});
            assert_eq!(is_done(&pod), want, "{pod}");
        }
    }
}
