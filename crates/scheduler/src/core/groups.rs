//! Which pods belong together: the selectors of services and of the controllers that own pods. Constraints that spread
//! pods by default count these.

use std::collections::{BTreeMap, HashMap};

use api::Object;
use api::object::DecodeError;
use serde::Deserialize;

use super::terms::{SelectorView, equals, selects};
use super::{PodInfo, Requirement};

/// Kind and name; the namespace is the pod's.
pub type Owner = (String, String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    selector: Vec<Requirement>,
}

#[derive(Deserialize)]
struct View<S> {
    #[serde(default = "none")]
    spec: Spec<S>,
}

#[derive(Deserialize)]
struct Spec<S> {
    #[serde(default = "Option::default")]
    selector: Option<S>,
}

fn none<S>() -> Spec<S> {
    Spec { selector: None }
}

impl Group {
    /// A Service or a ReplicationController: its selector is a plain map.
    pub fn by_map(kind: &'static str, o: &Object) -> Result<Self, DecodeError> {
        let v: View<BTreeMap<String, String>> = o.view()?;
        Ok(Self::new(kind, o, v.spec.selector.map(|m| equals(&m))))
    }

    /// A ReplicaSet or a StatefulSet.
    pub fn by_selector(kind: &'static str, o: &Object) -> Result<Self, DecodeError> {
        let v: View<SelectorView> = o.view()?;
        Ok(Self::new(kind, o, v.spec.selector.map(SelectorView::requirements)))
    }

    fn new(kind: &'static str, o: &Object, selector: Option<Vec<Requirement>>) -> Self {
        let selector = selector.unwrap_or_default();
        Self { kind, namespace: o.namespace().to_owned(), name: o.name().to_owned(), selector }
    }
}

#[derive(Debug, Default)]
pub struct Groups {
    /// Namespace to the groups in it.
    all: HashMap<String, HashMap<Owner, Group>>,
    version: u64,
}

impl Groups {
    /// Another one when a selector came, changed or went.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn set(&mut self, g: Group) {
        let key = (g.kind.to_owned(), g.name.clone());
        if self.all.get(&g.namespace).and_then(|of| of.get(&key)) == Some(&g) {
            return;
        }
        self.version += 1;
        self.all.entry(g.namespace.clone()).or_default().insert(key, g);
    }

    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) {
        let Some(of) = self.all.get_mut(namespace) else { return };
        self.version += u64::from(of.remove(&(kind.to_owned(), name.to_owned())).is_some());
        if of.is_empty() {
            self.all.remove(namespace);
        }
    }

    /// What selects the pods of the pod's services and of its owner; empty when there are none.
    pub fn selector(&self, pod: &PodInfo) -> Vec<Requirement> {
        let Some(of) = self.all.get(&pod.namespace) else { return Vec::new() };
        let services = of
            .values()
            .filter(|g| g.kind == "Service" && !g.selector.is_empty() && selects(&g.selector, &pod.labels));
        let owner = pod.owner.as_ref().and_then(|o| of.get(o)).filter(|g| g.kind != "Service");
        services.chain(owner).flat_map(|g| g.selector.iter().cloned()).collect()
    }
}
