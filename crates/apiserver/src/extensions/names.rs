//! Which names a CustomResourceDefinition gets: those that no other definition of its group holds, and no built-in
//! resource. Pure; the conditions are upstream's NamesAccepted and Established.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::conditions::{Condition, is_true, set};

/// Names of one group: as plural, singular and short names (one space), and as kinds and list kinds (another).
#[derive(Debug, Default)]
pub struct Taken {
    resources: HashMap<String, String>,
    kinds: HashMap<String, String>,
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v[key].as_str().unwrap_or_default()
}

fn short_names(names: &Value) -> Vec<&str> {
    names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

impl Taken {
    /// What another definition (or a built-in resource, `owner` empty) was given.
    pub fn add(&mut self, owner: &str, names: &Value) {
        let mut put = |map: fn(&mut Self) -> &mut HashMap<String, String>, name: &str| {
            if !name.is_empty() {
                map(self).entry(name.to_owned()).or_insert_with(|| owner.to_owned());
            }
        };
        for k in ["plural", "singular"] {
            put(|t| &mut t.resources, text(names, k));
        }
        for k in ["kind", "listKind"] {
            put(|t| &mut t.kinds, text(names, k));
        }
        for s in short_names(names) {
            put(|t| &mut t.resources, s);
        }
    }

    fn resource(&self, name: &str) -> bool {
        self.resources.contains_key(name)
    }
    fn kind(&self, name: &str) -> bool {
        self.kinds.contains_key(name)
    }
}

/// The definition with its accepted names and conditions. `taken` holds no name of its own.
pub fn decide(crd: &Value, taken: &Taken, now: &str) -> Value {
    let wanted = &crd["spec"]["names"];
    let before = &crd["status"]["acceptedNames"];
    let mut accepted = json!({"plural": text(before, "plural"), "kind": text(before, "kind")});
    let mut refused: Option<(&'static str, String)> = None;
    let mut refuse = |reason: &'static str, name: &str| {
        refused.get_or_insert_with(|| (reason, format!("\"{name}\" is already in use")));
    };
    for (key, reason) in [("plural", "PluralConflict"), ("singular", "SingularConflict")] {
        let name = text(wanted, key);
        if taken.resource(name) {
            refuse(reason, name);
            accepted[key] = before[key].clone();
        } else if !name.is_empty() {
            accepted[key] = json!(name);
        }
    }
    let short = short_names(wanted);
    if let Some(s) = short.iter().find(|s| taken.resource(s)) {
        refuse("ShortNamesConflict", s);
        accepted["shortNames"] = before["shortNames"].clone();
    } else if !short.is_empty() {
        accepted["shortNames"] = json!(short);
    }
    for (key, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        let name = text(wanted, key);
        if taken.kind(name) {
            refuse(reason, name);
            accepted[key] = before[key].clone();
        } else if !name.is_empty() {
            accepted[key] = json!(name);
        }
    }
    if wanted["categories"].as_array().is_some_and(|c| !c.is_empty()) {
        accepted["categories"] = wanted["categories"].clone();
    }
    if let Some(o) = accepted.as_object_mut() {
        o.retain(|_, v| !v.is_null());
    }
    let mut new = crd.clone();
    new["status"]["acceptedNames"] = accepted;
    let (status, reason, message) = match &refused {
        None => (true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => (false, *reason, message.as_str()),
    };
    set(&mut new, Condition { kind: "NamesAccepted", status, reason, message }, now);
    // Once established it stays: its objects may be there.
    if !is_true(crd, "Established") {
        let (reason, message) = match status {
            true => ("InitialNamesAccepted", "the initial names have been accepted"),
            false => ("NotAccepted", "not all names are accepted"),
        };
        set(&mut new, Condition { kind: "Established", status, reason, message }, now);
    }
    approval(&mut new, now);
    new
}

/// Groups of the project itself say who approved their API.
fn approval(crd: &mut Value, now: &str) {
    let group = text(&crd["spec"], "group");
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|p| group.strip_suffix(p).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    if !protected {
        return;
    }
    let note = text(&crd["metadata"]["annotations"], "api-approved.kubernetes.io").to_owned();
    let (status, reason, message) = if note.starts_with("https://") {
        (true, "ApprovedAnnotation", format!("approved in {note}"))
    } else {
        (false, "UnapprovedAnnotation", format!("not approved: \"{note}\""))
    };
    let c = Condition { kind: "KubernetesAPIApprovalPolicyConformant", status, reason, message: &message };
    set(crd, c, now);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str, kind: &str) -> Value {
        json!({"spec": {"group": "example.com", "names": {"plural": plural, "singular": kind.to_lowercase(),
            "kind": kind, "listKind": format!("{kind}List"), "shortNames": ["x"]}}})
    }

    #[test]
    fn free_names_are_accepted() {
        let v = decide(&crd("widgets", "Widget"), &Taken::default(), "t");
        assert_eq!(v["status"]["acceptedNames"]["plural"], "widgets");
        assert!(is_true(&v, "Established") && is_true(&v, "NamesAccepted"));
        assert_eq!(decide(&v, &Taken::default(), "later"), v);
    }

    #[test]
    fn who_comes_second_is_told_and_not_served() {
        let mut taken = Taken::default();
        taken.add("other", &crd("widgets", "Widget")["spec"]["names"]);
        let v = decide(&crd("gadgets", "Gadget"), &taken, "t");
        assert!(!is_true(&v, "Established"));
        let c = &v["status"]["conditions"][0];
        assert_eq!(
            (c["reason"].as_str(), c["message"].as_str()),
            (Some("ShortNamesConflict"), Some("\"x\" is already in use"))
        );
        assert_eq!(v["status"]["acceptedNames"]["plural"], "gadgets");
        // An established one keeps what it has.
        let first = decide(&crd("widgets", "Widget"), &Taken::default(), "t");
        let mut renamed = first.clone();
        renamed["spec"]["names"]["kind"] = json!("Taken");
        let mut taken = Taken::default();
        taken.add("other", &json!({"kind": "Taken"}));
        let v = decide(&renamed, &taken, "t");
        assert!(is_true(&v, "Established") && !is_true(&v, "NamesAccepted"));
        assert_eq!(v["status"]["acceptedNames"]["kind"], "Widget");
    }
}
