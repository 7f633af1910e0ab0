//! What a pod says about other pods: terms of affinity, constraints of spreading, and the label selectors in both.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::{Requirement, Shape};

/// `None` selects nothing, an empty list everything.
pub type Selector = Option<Vec<Requirement>>;

/// Labels of each namespace.
pub type Namespaces = HashMap<String, BTreeMap<String, String>>;

pub fn selects(requirements: &[Requirement], labels: &BTreeMap<String, String>) -> bool {
    requirements.iter().all(|r| r.matches(labels.get(&r.key).map(String::as_str)))
}

fn equal(key: &str, value: &str) -> Requirement {
    Requirement { key: key.into(), operator: "In".into(), values: vec![value.into()] }
}

/// One requirement for each label.
pub fn equals(labels: &BTreeMap<String, String>) -> Vec<Requirement> {
    labels.iter().map(|(k, v)| equal(k, v)).collect()
}

/// A term of pod affinity or anti-affinity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PodTerm {
    pub topology_key: String,
    pub namespaces: Vec<String>,
    /// Further namespaces, by their labels.
    pub namespace_selector: Selector,
    pub selector: Selector,
    pub weight: i64,
}

impl PodTerm {
    pub fn matches(&self, pod: &Shape, namespaces: &Namespaces) -> bool {
        let of_namespace = || {
            self.namespace_selector.as_ref().is_some_and(|s| {
                s.is_empty() || namespaces.get(&pod.namespace).is_some_and(|labels| selects(s, labels))
            })
        };
        self.selector.as_ref().is_some_and(|s| selects(s, &pod.labels))
            && (self.namespaces.contains(&pod.namespace) || of_namespace())
    }
}

/// `topologySpreadConstraints[]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spread {
    pub max_skew: i64,
    pub topology_key: String,
    pub selector: Selector,
    /// `DoNotSchedule`, not `ScheduleAnyway`.
    pub hard: bool,
    pub min_domains: usize,
    /// Nodes that the pod's node selector or affinity leaves out do not count.
    pub honor_affinity: bool,
    /// Nodes with taints that the pod does not bear do not count.
    pub honor_taints: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SelectorView {
    match_labels: BTreeMap<String, String>,
    match_expressions: Vec<Requirement>,
}

impl SelectorView {
    pub(super) fn requirements(self) -> Vec<Requirement> {
        let mut all = self.match_expressions;
        all.extend(equals(&self.match_labels));
        all
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TermView {
    topology_key: String,
    namespaces: Vec<String>,
    namespace_selector: Option<SelectorView>,
    label_selector: Option<SelectorView>,
    match_label_keys: Vec<String>,
    mismatch_label_keys: Vec<String>,
}

impl TermView {
    pub(super) fn into_term(
        self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        weight: i64,
    ) -> PodTerm {
        let mut namespaces = self.namespaces;
        if namespaces.is_empty() && self.namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        let selector = self.label_selector.map(|s| {
            let mut all = s.requirements();
            all.extend(own(&self.match_label_keys, labels));
            all.extend(
                own(&self.mismatch_label_keys, labels).map(|r| Requirement { operator: "NotIn".into(), ..r }),
            );
            all
        });
        PodTerm {
            topology_key: self.topology_key,
            namespaces,
            namespace_selector: self.namespace_selector.map(SelectorView::requirements),
            selector,
            weight,
        }
    }
}

/// The pod's own values of these labels.
fn own<'a>(
    keys: &'a [String],
    labels: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = Requirement> + 'a {
    keys.iter().filter_map(|k| labels.get(k).map(|v| equal(k, v)))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SpreadView {
    max_skew: i64,
    topology_key: String,
    when_unsatisfiable: String,
    label_selector: Option<SelectorView>,
    match_label_keys: Vec<String>,
    min_domains: Option<usize>,
    node_affinity_policy: Option<String>,
    node_taints_policy: Option<String>,
}

impl SpreadView {
    pub(crate) fn into_spread(self, labels: &BTreeMap<String, String>) -> Spread {
        let selector = self.label_selector.map(|s| {
            let mut all = s.requirements();
            all.extend(own(&self.match_label_keys, labels));
            all
        });
        Spread {
            max_skew: self.max_skew,
            topology_key: self.topology_key,
            selector,
            hard: self.when_unsatisfiable != "ScheduleAnyway",
            min_domains: self.min_domains.unwrap_or(1),
            honor_affinity: self.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: self.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}
