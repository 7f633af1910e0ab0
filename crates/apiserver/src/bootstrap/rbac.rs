//! The default roles and bindings, read from `data/rbac.txt` and reconciled at every start: what was taken away from
//! them comes back, what was added stays, and what carries `autoupdate: "false"` is left alone.
//!
//! The form of the file, a line at a time: `<Kind> <namespace or -> <name> [<role kind> <role name>]` opens an object;
//! indented lines belong to it: `label k=v`, `aggregate k=v`, `rule verbs groups resources [names]`, `url verbs urls`,
//! `subject kind name` (service accounts as `namespace/name`). Lists are comma-separated, `core` is the empty group.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::authz::Rule;

const DATA: &str = include_str!("../../data/rbac.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// One default object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefaultObject {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub aggregate: Vec<(String, String)>,
    pub rules: Vec<Rule>,
    /// Kind and name of the role; empty for roles.
    pub role: (String, String),
    /// Kind, namespace, name.
    pub subjects: Vec<(String, String, String)>,
}

fn list(s: &str) -> Vec<String> {
    s.split(',').map(str::to_owned).collect()
}

/// The file as it stands.
fn parse() -> Vec<DefaultObject> {
    let mut out: Vec<DefaultObject> = Vec::new();
    for line in DATA.lines() {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with(' ') {
            if let [kind, ns, name, role @ ..] = words.as_slice() {
                let role = match role {
                    [k, n] => ((*k).to_owned(), (*n).to_owned()),
                    _ => Default::default(),
                };
                out.push(DefaultObject {
                    kind: (*kind).into(),
                    namespace: if *ns == "-" { String::new() } else { (*ns).into() },
                    name: (*name).into(),
                    role,
                    ..DefaultObject::default()
                });
            }
            continue;
        }
        let Some(last) = out.last_mut() else { continue };
        match words.as_slice() {
            ["label", kv] => {
                last.labels.extend(kv.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
            }
            ["aggregate", kv] => {
                last.aggregate.extend(kv.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
            }
            ["rule", verbs, groups, resources, names @ ..] => last.rules.push(Rule {
                verbs: list(verbs),
                api_groups: list(groups)
                    .into_iter()
                    .map(|g| if g == "core" { String::new() } else { g })
                    .collect(),
                resources: list(resources),
                resource_names: names.first().map(|n| list(n)).unwrap_or_default(),
                non_resource_urls: Vec::new(),
            }),
            ["url", verbs, urls] => {
                last.rules.push(Rule { verbs: list(verbs), non_resource_urls: list(urls), ..Rule::default() })
            }
            ["subject", "ServiceAccount", who] => {
                if let Some((ns, n)) = who.split_once('/') {
                    last.subjects.push(("ServiceAccount".into(), ns.into(), n.into()));
                }
            }
            ["subject", kind, who] => last.subjects.push(((*kind).into(), String::new(), (*who).into())),
            _ => {}
        }
    }
    out
}

/// Our loops write patches where upstream's write whole objects: who may update may patch, which allows no more.
fn patch_where_update(rules: &mut [Rule]) {
    for rule in rules {
        let has = |v: &str| rule.verbs.iter().any(|x| x == v);
        if has("update") && !has("patch") && !has("*") {
            rule.verbs.push("patch".into());
        }
    }
}

/// All defaults, in the order of the file.
pub fn defaults() -> Vec<DefaultObject> {
    let mut out = parse();
    for r in out.iter_mut().filter(|r| r.name.starts_with("system:controller:")) {
        patch_where_update(&mut r.rules);
    }
    // A gathering role starts with what it gathers, so that it reads right before any controller has run. Those that
    // gather are gathered themselves: view, edit, admin, one round each.
    for _ in 0..3 {
        let parts: Vec<DefaultObject> = out.iter().filter(|r| !r.labels.is_empty()).cloned().collect();
        for r in out.iter_mut().filter(|r| !r.aggregate.is_empty()) {
            let mut rules: Vec<Rule> = Vec::new();
            for other in parts.iter().filter(|o| r.aggregate.iter().any(|(k, v)| o.labels.get(k) == Some(v)))
            {
                for rule in &other.rules {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
            r.rules = rules;
        }
    }
    out
}

/// The rules of `system:node`, which the node authorizer applies to every kubelet.
pub fn node_rules() -> Vec<Rule> {
    parse()
        .into_iter()
        .find(|d| d.kind == "ClusterRole" && d.name == "system:node")
        .map(|d| d.rules)
        .unwrap_or_default()
}

impl DefaultObject {
    pub fn plural(&self) -> &'static str {
        match self.kind.as_str() {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            "ClusterRoleBinding" => "clusterrolebindings",
            _ => "rolebindings",
        }
    }

    fn subjects_value(&self) -> Vec<Value> {
        self.subjects
            .iter()
            .map(|(kind, ns, name)| match kind.as_str() {
                "ServiceAccount" => json!({"kind": kind, "name": name, "namespace": ns}),
                _ => json!({"apiGroup": GROUP, "kind": kind, "name": name}),
            })
            .collect()
    }

    /// The object as it is created.
    pub fn value(&self) -> Value {
        let mut labels = self.labels.clone();
        labels.insert("kubernetes.io/bootstrapping".into(), "rbac-defaults".into());
        let mut v = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": self.kind,
            "metadata": {"name": self.name, "labels": labels, "annotations": {AUTOUPDATE: "true"}},
        });
        if !self.namespace.is_empty() {
            v["metadata"]["namespace"] = json!(self.namespace);
        }
        if self.role.0.is_empty() {
            v["rules"] = if self.rules.is_empty() { Value::Null } else { json!(self.rules) };
            if !self.aggregate.is_empty() {
                let sel: Vec<Value> =
                    self.aggregate.iter().map(|(k, val)| json!({"matchLabels": {k: val}})).collect();
                v["aggregationRule"] = json!({"clusterRoleSelectors": sel});
            }
        } else {
            v["roleRef"] = json!({"apiGroup": GROUP, "kind": self.role.0, "name": self.role.1});
            if !self.subjects.is_empty() {
                v["subjects"] = json!(self.subjects_value());
            }
        }
        v
    }

    /// What an existing object should become; `None`: it is fine, or says it is to be left alone.
    pub fn reconcile(&self, have: &Value) -> Option<Value> {
        if have["metadata"]["annotations"][AUTOUPDATE] == "false" {
            return None;
        }
        let want = self.value();
        let mut new = have.clone();
        for field in ["labels", "annotations"] {
            for (k, v) in want["metadata"][field].as_object().into_iter().flatten() {
                if new["metadata"][field].get(k).is_none() {
                    new["metadata"][field][k] = v.clone();
                }
            }
        }
        if self.role.0.is_empty() {
            // The same text needs no comparing by meaning, which costs at every start.
            if have["rules"] != want["rules"] {
                let rules: Vec<Rule> = serde_json::from_value(have["rules"].clone()).unwrap_or_default();
                let lacking = crate::authz::rules::missing(&rules, &self.rules);
                if !lacking.is_empty() {
                    let mut all = rules;
                    all.extend(lacking);
                    new["rules"] = json!(all);
                }
            }
            if new["aggregationRule"].is_null() && !want["aggregationRule"].is_null() {
                new["aggregationRule"] = want["aggregationRule"].clone();
            }
        } else {
            let mut subjects: Vec<Value> = have["subjects"].as_array().cloned().unwrap_or_default();
            for s in self.subjects_value() {
                if !subjects.contains(&s) {
                    subjects.push(s);
                }
            }
            if !subjects.is_empty() {
                new["subjects"] = Value::Array(subjects);
            }
        }
        (new != *have).then_some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_whole() {
        let all = defaults();
        let lines = DATA.lines().filter(|l| !l.starts_with([' ', '#']) && !l.is_empty()).count();
        assert_eq!(all.len(), lines);
        let details = DATA.lines().filter(|l| l.starts_with("  rule") || l.starts_with("  url")).count();
        assert_eq!(
            all.iter().filter(|d| d.aggregate.is_empty()).map(|d| d.rules.len()).sum::<usize>(),
            details
        );
        assert!(!node_rules().is_empty());
        let role =
            |n: &str| all.iter().find(|d| d.kind == "ClusterRole" && d.name == n).expect("role").rules.len();
        assert!(role("view") > 5 && role("edit") > role("view") && role("admin") > role("edit"));
        for d in all.iter().filter(|d| !d.role.0.is_empty()) {
            assert!(all.iter().any(|r| r.kind == d.role.0 && r.name == d.role.1), "{} names a role", d.name);
        }
    }

    #[test]
    fn reconciling_gives_back_and_keeps() {
        let all = defaults();
        let d = all.iter().find(|d| d.name == "system:basic-user" && d.kind == "ClusterRole").expect("role");
        assert_eq!(d.reconcile(&d.value()), None);
        let mut less = d.value();
        less["rules"] = json!([{"apiGroups": ["x"], "resources": ["y"], "verbs": ["z"]}]);
        let fixed = d.reconcile(&less).expect("changed");
        assert!(fixed["rules"].as_array().is_some_and(|r| r.len() > 1 && r[0]["apiGroups"][0] == "x"));
        assert_eq!(d.reconcile(&fixed), None);
        less["metadata"]["annotations"][AUTOUPDATE] = json!("false");
        assert_eq!(d.reconcile(&less), None);
    }
}
