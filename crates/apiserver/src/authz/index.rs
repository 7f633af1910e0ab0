//! Roles and bindings in memory, by subject: a request costs a few hash look-ups and never a scan of the store. Pure;
//! `watch.rs` feeds it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::{LabelSet, Object};
use serde::Deserialize;

use super::Attributes;
use super::rules::{Rule, nullable};
use crate::User;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RoleRef {
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Subject {
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

/// A role's rules and, for one that gathers others, the labels it gathers by.
#[derive(Debug, Clone, Default)]
struct Role {
    rules: Arc<Vec<Rule>>,
    labels: LabelSet,
    gathers: Vec<BTreeMap<String, String>>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Binding {
    /// Empty for a ClusterRoleBinding.
    pub namespace: String,
    pub name: String,
    pub role: RoleRef,
    pub subjects: Vec<Subject>,
}

impl Binding {
    /// How upstream names the source of a permission.
    fn describe(&self, s: &Subject) -> String {
        let who = if s.kind == "ServiceAccount" {
            let ns = if s.namespace.is_empty() { &self.namespace } else { &s.namespace };
            format!("{} \"{}/{ns}\"", s.kind, s.name)
        } else {
            format!("{} {:?}", s.kind, s.name)
        };
        let (kind, name) = if self.namespace.is_empty() {
            ("ClusterRoleBinding", self.name.clone())
        } else {
            ("RoleBinding", format!("{}/{}", self.name, self.namespace))
        };
        format!("{kind} {name:?} of {} {:?} to {who}", self.role.kind, self.role.name)
    }
}

/// A binding with the position of the subject that a key of the map stands for.
type Bound = (Arc<Binding>, usize);

/// Bindings of one scope by whom they apply to. A service account stands among the users, by its full name.
#[derive(Debug, Default)]
struct Scope {
    users: HashMap<String, Vec<Bound>>,
    groups: HashMap<String, Vec<Bound>>,
}

impl Scope {
    fn slot(&mut self, namespace: &str, s: &Subject) -> Option<&mut Vec<Bound>> {
        match s.kind.as_str() {
            "User" => Some(self.users.entry(s.name.clone()).or_default()),
            "Group" => Some(self.groups.entry(s.name.clone()).or_default()),
            "ServiceAccount" => {
                let ns = if s.namespace.is_empty() { namespace } else { &s.namespace };
                if ns.is_empty() {
                    return None;
                }
                Some(self.users.entry(format!("system:serviceaccount:{ns}:{}", s.name)).or_default())
            }
            _ => None,
        }
    }
    fn add(&mut self, b: &Arc<Binding>) {
        for (i, s) in b.subjects.iter().enumerate() {
            if let Some(v) = self.slot(&b.namespace, s) {
                v.push((b.clone(), i));
            }
        }
    }
    fn remove(&mut self, b: &Binding) {
        for s in &b.subjects {
            if let Some(v) = self.slot(&b.namespace, s) {
                v.retain(|(o, _)| o.name != b.name);
            }
        }
        self.users.retain(|_, v| !v.is_empty());
        self.groups.retain(|_, v| !v.is_empty());
    }
    fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Bound> + 'a {
        let by_group = user.groups.iter().filter_map(|g| self.groups.get(g)).flatten();
        self.users.get(&user.name).into_iter().flatten().chain(by_group)
    }
}

/// What evaluation found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allowed(String),
    /// Errors that stood in the way, joined as upstream does; empty when there were none.
    NotAllowed(String),
}

#[derive(Debug, Default)]
pub struct RbacIndex {
    cluster_roles: HashMap<String, Role>,
    roles: HashMap<String, HashMap<String, Role>>,
    cluster_bindings: HashMap<String, Arc<Binding>>,
    bindings: HashMap<String, HashMap<String, Arc<Binding>>>,
    cluster_scope: Scope,
    scopes: HashMap<String, Scope>,
}

/// The four kinds it is made of.
pub const KINDS: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

#[derive(Deserialize)]
struct RoleView {
    #[serde(default, deserialize_with = "nullable")]
    rules: Vec<Rule>,
    #[serde(default, rename = "aggregationRule", deserialize_with = "nullable")]
    aggregation: Aggregation,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Aggregation {
    #[serde(deserialize_with = "nullable")]
    cluster_role_selectors: Vec<Selector>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    #[serde(deserialize_with = "nullable")]
    match_labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingView {
    role_ref: RoleRef,
    #[serde(default, deserialize_with = "nullable")]
    subjects: Vec<Subject>,
}

impl RbacIndex {
    /// Takes over one object's new state. What can't be read grants nothing.
    pub fn put(&mut self, plural: &str, o: &Object) {
        self.remove(plural, o.namespace(), o.name());
        match plural {
            "clusterroles" | "roles" => {
                let Ok(v) = o.view::<RoleView>() else { return };
                let role = Role {
                    rules: Arc::new(v.rules),
                    labels: o.meta().labels.clone(),
                    gathers: v
                        .aggregation
                        .cluster_role_selectors
                        .into_iter()
                        .map(|s| s.match_labels)
                        .collect(),
                };
                if plural == "roles" {
                    self.roles.entry(o.namespace().into()).or_default().insert(o.name().into(), role);
                } else {
                    self.cluster_roles.insert(o.name().into(), role);
                }
            }
            "clusterrolebindings" | "rolebindings" => {
                let Ok(v) = o.view::<BindingView>() else { return };
                let b = Arc::new(Binding {
                    namespace: o.namespace().into(),
                    name: o.name().into(),
                    role: v.role_ref,
                    subjects: v.subjects,
                });
                if plural == "rolebindings" {
                    self.scopes.entry(o.namespace().into()).or_default().add(&b);
                    self.bindings.entry(o.namespace().into()).or_default().insert(o.name().into(), b);
                } else {
                    self.cluster_scope.add(&b);
                    self.cluster_bindings.insert(o.name().into(), b);
                }
            }
            _ => {}
        }
    }

    pub fn remove(&mut self, plural: &str, namespace: &str, name: &str) {
        match plural {
            "clusterroles" => {
                self.cluster_roles.remove(name);
            }
            "roles" => {
                if let Some(m) = self.roles.get_mut(namespace) {
                    m.remove(name);
                    if m.is_empty() {
                        self.roles.remove(namespace);
                    }
                }
            }
            "clusterrolebindings" => {
                if let Some(b) = self.cluster_bindings.remove(name) {
                    self.cluster_scope.remove(&b);
                }
            }
            "rolebindings" => {
                let Some(m) = self.bindings.get_mut(namespace) else { return };
                let gone = m.remove(name);
                let last = m.is_empty();
                if let (Some(b), Some(s)) = (gone, self.scopes.get_mut(namespace)) {
                    s.remove(&b);
                }
                if last {
                    self.bindings.remove(namespace);
                    self.scopes.remove(namespace);
                }
            }
            _ => {}
        }
    }

    /// Forgets one kind, before it is listed anew.
    pub fn clear(&mut self, plural: &str) {
        match plural {
            "clusterroles" => self.cluster_roles.clear(),
            "roles" => self.roles.clear(),
            "clusterrolebindings" => {
                self.cluster_bindings.clear();
                self.cluster_scope = Scope::default();
            }
            "rolebindings" => {
                self.bindings.clear();
                self.scopes.clear();
            }
            _ => {}
        }
    }

    /// The rules a role reference stands for, or upstream's words for why there are none.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Result<Vec<Arc<Vec<Rule>>>, String> {
        let missing = |kind: &str| format!("{kind}.rbac.authorization.k8s.io {:?} not found", role.name);
        match role.kind.as_str() {
            "Role" => {
                let r = self
                    .roles
                    .get(namespace)
                    .and_then(|m| m.get(&role.name))
                    .ok_or_else(|| missing("role"))?;
                Ok(vec![r.rules.clone()])
            }
            "ClusterRole" => {
                let r = self.cluster_roles.get(&role.name).ok_or_else(|| missing("clusterrole"))?;
                let mut out = vec![r.rules.clone()];
                // A gathering role counts at once, before the controller has written its rules down.
                if !r.gathers.is_empty() {
                    self.gather(r, 0, &mut out);
                }
                Ok(out)
            }
            other => Err(format!("unsupported role reference kind: {other:?}")),
        }
    }

    fn gather(&self, role: &Role, depth: usize, out: &mut Vec<Arc<Vec<Rule>>>) {
        // edit gathers view's parts and admin gathers edit's: a few levels do, and a ring must end.
        if depth > 4 {
            return;
        }
        for other in self.cluster_roles.values() {
            let chosen = role.gathers.iter().any(|sel| !sel.is_empty() && other.labels.has_all(sel));
            if chosen && !out.iter().any(|r| Arc::ptr_eq(r, &other.rules)) {
                out.push(other.rules.clone());
                self.gather(other, depth + 1, out);
            }
        }
    }

    fn bound<'a>(&'a self, user: &'a User, namespace: &'a str) -> impl Iterator<Item = &'a Bound> + 'a {
        let local = (!namespace.is_empty()).then(|| self.scopes.get(namespace)).flatten();
        self.cluster_scope.of(user).chain(local.into_iter().flat_map(move |s| s.of(user)))
    }

    pub fn evaluate(&self, a: &Attributes<'_>) -> Verdict {
        let mut errors: Vec<String> = Vec::new();
        for (binding, subject) in self.bound(a.user, a.namespace) {
            match self.role_rules(&binding.role, &binding.namespace) {
                Ok(sets) => {
                    if sets.iter().any(|s| s.iter().any(|r| r.allows(a))) {
                        let by =
                            binding.subjects.get(*subject).map(|s| binding.describe(s)).unwrap_or_default();
                        return Verdict::Allowed(format!("RBAC: allowed by {by}"));
                    }
                }
                Err(e) if !errors.contains(&e) => errors.push(e),
                Err(_) => {}
            }
        }
        Verdict::NotAllowed(match errors.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// Every rule that applies to a user, and the errors met.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for (binding, _) in self.bound(user, namespace) {
            match self.role_rules(&binding.role, &binding.namespace) {
                Ok(sets) => rules.extend(sets.iter().flat_map(|s| s.iter().cloned())),
                Err(e) => errors.push(e),
            }
        }
        (rules, errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn put(i: &mut RbacIndex, plural: &str, v: Value) {
        i.put(plural, &Object::from_value(v, 1).expect("object"));
    }

    fn index() -> RbacIndex {
        let mut i = RbacIndex::default();
        put(
            &mut i,
            "clusterroles",
            json!({"metadata": {"name": "reader", "labels": {"to-all": "true"}},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]}),
        );
        put(
            &mut i,
            "clusterroles",
            json!({"metadata": {"name": "all"}, "rules": null,
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to-all": "true"}}]}}),
        );
        put(
            &mut i,
            "clusterrolebindings",
            json!({"metadata": {"name": "b"},
            "roleRef": {"kind": "ClusterRole", "name": "reader"}, "subjects": [{"kind": "Group", "name": "devs"}]}),
        );
        put(
            &mut i,
            "rolebindings",
            json!({"metadata": {"name": "rb", "namespace": "ns"},
            "roleRef": {"kind": "ClusterRole", "name": "all"}, "subjects": [{"kind": "ServiceAccount", "name": "sa"}]}),
        );
        put(
            &mut i,
            "rolebindings",
            json!({"metadata": {"name": "lost", "namespace": "ns"},
            "roleRef": {"kind": "Role", "name": "gone"}, "subjects": [{"kind": "User", "name": "eve"}]}),
        );
        i
    }

    fn ask(i: &RbacIndex, u: &User, ns: &str, verb: &str) -> Verdict {
        i.evaluate(&Attributes {
            verb,
            namespace: ns,
            resource: "pods",
            is_resource: true,
            ..Attributes::of(u)
        })
    }

    #[test]
    fn evaluation_and_reasons() {
        let mut i = index();
        let dev = User::new("ann", &["devs"]);
        assert_eq!(
            ask(&i, &dev, "", "list"),
            Verdict::Allowed(
                "RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"reader\" to Group \"devs\""
                    .into()
            )
        );
        assert_eq!(ask(&i, &dev, "", "delete"), Verdict::NotAllowed(String::new()));
        let sa = User::new("system:serviceaccount:ns:sa", &[]);
        assert_eq!(
            ask(&i, &sa, "ns", "get"),
            Verdict::Allowed(
                "RBAC: allowed by RoleBinding \"rb/ns\" of ClusterRole \"all\" to ServiceAccount \"sa/ns\""
                    .into()
            )
        );
        assert_eq!(ask(&i, &sa, "other", "get"), Verdict::NotAllowed(String::new()));
        assert_eq!(
            ask(&i, &User::new("eve", &[]), "ns", "get"),
            Verdict::NotAllowed("RBAC: role.rbac.authorization.k8s.io \"gone\" not found".into())
        );
        i.remove("clusterrolebindings", "", "b");
        assert_eq!(ask(&i, &dev, "", "list"), Verdict::NotAllowed(String::new()));
        i.clear("rolebindings");
        assert_eq!(ask(&i, &sa, "ns", "get"), Verdict::NotAllowed(String::new()));
    }
}
