//! Claims and volumes as the binding loop and the scheduler see them, and which volume suits a claim. Pure.

use serde_json::Value;

use crate::object::DecodeError;
use crate::placement::NodeTerm;
use crate::quantity::Quantity;
use crate::selector::{LabelSelector, Labels};
use crate::{LabelSet, Object, quota};

/// On a claim and a volume: the binding is complete.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim and a volume: the binding was made by the loop, not asked for by a person.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a claim that waits for its first consumer: the node that the scheduler chose.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// The provisioner of classes whose volumes are made by hand.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The claim that stands for an ephemeral volume of a pod.
pub fn ephemeral_claim(pod: &str, volume: &str) -> String {
    format!("{pod}-{volume}")
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_owned()
}

fn texts(v: &Value) -> Vec<String> {
    v.as_array().into_iter().flatten().map(text).collect()
}

fn storage(list: &Value) -> Quantity {
    quota::list(list).get("storage").copied().unwrap_or_default()
}

#[derive(Debug, Clone, Default)]
pub struct Claim {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// `None`: neither a class nor the wish for none.
    pub class: Option<String>,
    pub modes: Vec<String>,
    pub size: Quantity,
    pub block: bool,
    /// `None` takes every volume.
    pub selector: Option<LabelSelector>,
    pub attributes_class: String,
    pub volume_name: String,
    pub phase: String,
    pub deleting: bool,
    pub bind_completed: bool,
    pub bound_by_controller: bool,
    pub selected_node: String,
    /// The uid of the managing owner.
    pub owner: String,
}

impl Claim {
    pub fn of(o: &Object) -> Result<Self, DecodeError> {
        let v = o.value()?;
        let (spec, notes) = (&v["spec"], &v["metadata"]["annotations"]);
        let selector = &spec["selector"];
        Ok(Self {
            namespace: o.namespace().to_owned(),
            name: o.name().to_owned(),
            uid: o.uid().to_owned(),
            class: notes[CLASS_ANNOTATION]
                .as_str()
                .or_else(|| spec["storageClassName"].as_str())
                .map(str::to_owned),
            modes: texts(&spec["accessModes"]),
            size: storage(&spec["resources"]["requests"]),
            block: spec["volumeMode"] == "Block",
            selector: selector
                .is_object()
                .then(|| LabelSelector::from_value(selector).unwrap_or_else(|_| LabelSelector::nothing())),
            attributes_class: text(&spec["volumeAttributesClassName"]),
            volume_name: text(&spec["volumeName"]),
            phase: text(&v["status"]["phase"]),
            deleting: o.meta().is_deleting(),
            bind_completed: !notes[BIND_COMPLETED].is_null(),
            bound_by_controller: !notes[BOUND_BY_CONTROLLER].is_null(),
            selected_node: text(&notes[SELECTED_NODE]),
            owner: o.meta().controller().map(|c| c.uid.clone()).unwrap_or_default(),
        })
    }

    pub fn class(&self) -> &str {
        self.class.as_deref().unwrap_or_default()
    }

    pub fn is_bound(&self) -> bool {
        self.bind_completed && !self.volume_name.is_empty()
    }
}

/// `spec.claimRef` of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimRef {
    pub namespace: String,
    pub name: String,
    /// Empty as long as a person's wish has not come true.
    pub uid: String,
}

impl ClaimRef {
    pub fn to(c: &Claim) -> Self {
        Self { namespace: c.namespace.clone(), name: c.name.clone(), uid: c.uid.clone() }
    }
    pub fn fits(&self, c: &Claim) -> bool {
        self.namespace == c.namespace && self.name == c.name && (self.uid.is_empty() || self.uid == c.uid)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Volume {
    pub name: String,
    pub revision: u64,
    pub labels: LabelSet,
    pub class: String,
    pub modes: Vec<String>,
    pub size: Quantity,
    pub block: bool,
    pub attributes_class: String,
    /// Any term must match the node; `None` is reachable from everywhere.
    pub nodes: Option<Vec<NodeTerm>>,
    pub claim: Option<ClaimRef>,
    pub policy: String,
    pub phase: String,
    pub deleting: bool,
    pub bound_by_controller: bool,
    pub provisioned_by: String,
    /// Driver and handle of a volume that a CSI driver serves.
    pub csi: Option<(String, String)>,
}

impl Volume {
    pub fn of(o: &Object) -> Result<Self, DecodeError> {
        let v = o.value()?;
        let (spec, notes) = (&v["spec"], &v["metadata"]["annotations"]);
        let claim = &spec["claimRef"];
        let terms = &spec["nodeAffinity"]["required"]["nodeSelectorTerms"];
        let class = notes[CLASS_ANNOTATION].as_str().or_else(|| spec["storageClassName"].as_str());
        Ok(Self {
            name: o.name().to_owned(),
            revision: o.revision(),
            labels: o.meta().labels.clone(),
            class: class.unwrap_or_default().to_owned(),
            modes: texts(&spec["accessModes"]),
            size: storage(&spec["capacity"]),
            block: spec["volumeMode"] == "Block",
            attributes_class: text(&spec["volumeAttributesClassName"]),
            nodes: terms.is_array().then(|| serde_json::from_value(terms.clone()).unwrap_or_default()),
            csi: spec["csi"]["driver"].as_str().map(|d| (d.to_owned(), text(&spec["csi"]["volumeHandle"]))),
            claim: claim.is_object().then(|| ClaimRef {
                namespace: text(&claim["namespace"]),
                name: text(&claim["name"]),
                uid: text(&claim["uid"]),
            }),
            policy: text(&spec["persistentVolumeReclaimPolicy"]),
            phase: text(&v["status"]["phase"]),
            deleting: o.meta().is_deleting(),
            bound_by_controller: !notes[BOUND_BY_CONTROLLER].is_null(),
            provisioned_by: text(&notes[PROVISIONED_BY]),
        })
    }

    pub fn reaches(&self, node: &str, labels: &dyn Labels) -> bool {
        self.nodes.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(node, labels)))
    }

    fn has_modes(&self, c: &Claim) -> bool {
        c.modes.iter().all(|m| self.modes.contains(m))
    }
}

#[derive(Debug, Clone, Default)]
pub struct Class {
    pub name: String,
    pub provisioner: String,
    /// Binding waits for the first pod.
    pub waits: bool,
    pub is_default: bool,
    pub created: String,
    /// `allowedTopologies`: one must match the node; empty allows all.
    pub topologies: Vec<NodeTerm>,
}

impl Class {
    pub fn of(o: &Object) -> Result<Self, DecodeError> {
        let v = o.value()?;
        let notes = &v["metadata"]["annotations"];
        let is_default = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ]
        .iter()
        .any(|k| notes[*k] == "true");
        let topologies = v["allowedTopologies"].as_array().into_iter().flatten().map(|t| NodeTerm {
            match_expressions: t["matchLabelExpressions"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|e| crate::placement::Requirement {
                    key: text(&e["key"]),
                    operator: "In".into(),
                    values: texts(&e["values"]),
                })
                .collect(),
            match_fields: Vec::new(),
        });
        Ok(Self {
            name: o.name().to_owned(),
            provisioner: text(&v["provisioner"]),
            waits: v["volumeBindingMode"] == "WaitForFirstConsumer",
            is_default,
            created: o.meta().creation_timestamp().unwrap_or_default().to_owned(),
            topologies: topologies.collect(),
        })
    }

    pub fn allows(&self, node: &str, labels: &dyn Labels) -> bool {
        self.topologies.is_empty() || self.topologies.iter().any(|t| t.matches(node, labels))
    }
}

/// Why a volume that the claim asks for by name can't be had, in upstream's words.
pub fn mismatch(c: &Claim, v: &Volume) -> Option<&'static str> {
    if v.size < c.size {
        return Some("requested PV is too small");
    }
    if v.class != c.class() {
        return Some("storageClassName does not match");
    }
    if v.block != c.block {
        return Some("incompatible volumeMode");
    }
    if !v.has_modes(c) {
        return Some("incompatible accessMode");
    }
    if v.attributes_class != c.attributes_class {
        return Some("volumeAttributesClassName does not match");
    }
    None
}

/// A node that the volume must be reachable from.
pub type Place<'a> = (&'a str, &'a dyn Labels);

/// The volume for a claim that names none: the one reserved for it, else the smallest that suits. Without a place and with
/// `waits` only a reserved one: the scheduler chooses then.
pub fn best<'v>(
    c: &Claim,
    volumes: impl IntoIterator<Item = &'v Volume>,
    place: Option<Place<'_>>,
    waits: bool,
    taken: &dyn Fn(&str) -> bool,
) -> Option<&'v Volume> {
    let mut best: Option<&Volume> = None;
    for v in volumes {
        if taken(&v.name)
            || v.claim.as_ref().is_some_and(|r| !r.fits(c))
            || v.size < c.size
            || v.block != c.block
            || v.attributes_class != c.attributes_class
            || v.deleting
            || !v.has_modes(c)
        {
            continue;
        }
        let reachable = place.is_none_or(|(node, labels)| v.reaches(node, labels));
        if v.claim.is_some() {
            return reachable.then_some(v);
        }
        if (place.is_none() && waits)
            || !reachable
            || v.phase != "Available"
            || v.class != c.class()
            || !c.selector.as_ref().is_none_or(|s| s.matches(&v.labels))
        {
            continue;
        }
        let rank = |v: &Volume| (v.modes.len(), v.size);
        if best.is_none_or(|b| rank(v).partial_cmp(&rank(b)).is_some_and(std::cmp::Ordering::is_lt)) {
            best = Some(v);
        }
    }
    best
}

/// The class that claims without one get: of several defaults the newest, then the first by name.
pub fn default_class<'c>(classes: impl IntoIterator<Item = &'c Class>) -> Option<&'c Class> {
    classes
        .into_iter()
        .filter(|c| c.is_default)
        .max_by(|a, b| a.created.cmp(&b.created).then_with(|| b.name.cmp(&a.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(spec: Value) -> Claim {
        let mut v = json!({"metadata": {"name": "c", "namespace": "d", "uid": "u"}, "spec": {"storageClassName": "s",
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        for (k, x) in spec.as_object().into_iter().flatten() {
            v["spec"][k] = x.clone();
        }
        Claim::of(&Object::from_value(v, 1).expect("object")).expect("claim")
    }

    fn volume(name: &str, size: &str, spec: Value) -> Volume {
        let mut v = json!({"metadata": {"name": name, "labels": {"tier": name}}, "spec": {"storageClassName": "s",
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}}, "status": {"phase": "Available"}});
        for (k, x) in spec.as_object().into_iter().flatten() {
            v["spec"][k] = x.clone();
        }
        Volume::of(&Object::from_value(v, 1).expect("object")).expect("volume")
    }

    #[test]
    fn the_smallest_that_suits() {
        let on = |n: &str| {
            json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "h", "operator": "In", "values": [n]}]}]}}})
        };
        let for_claim = |name: &str| json!({"claimRef": {"namespace": "d", "name": name}});
        let volumes = [
            volume("tiny", "500Mi", json!({})),
            volume("big", "10Gi", json!({})),
            volume("fit", "2Gi", json!({})),
            volume("other-class", "1Gi", json!({"storageClassName": "t"})),
            volume("block", "1Gi", json!({"volumeMode": "Block"})),
            volume("many", "1Gi", json!({"accessModes": ["ReadWriteMany"]})),
            volume("taken", "1Gi", for_claim("x")),
        ];
        let pick = |c: &Claim, v: &[Volume]| best(c, v, None, false, &|_| false).map(|v| v.name.clone());
        for (spec, want) in [
            (json!({}), Some("fit")),
            (json!({"storageClassName": "t"}), Some("other-class")),
            (json!({"storageClassName": ""}), None),
            (json!({"volumeMode": "Block"}), Some("block")),
            (json!({"accessModes": ["ReadWriteMany"]}), Some("many")),
            (json!({"accessModes": ["ReadWriteMany", "ReadWriteOnce"]}), None),
            (json!({"selector": {"matchLabels": {"tier": "big"}}}), Some("big")),
            (json!({"resources": {"requests": {"storage": "20Gi"}}}), None),
        ] {
            assert_eq!(pick(&claim(spec.clone()), &volumes).as_deref(), want, "{spec}");
        }
        // One reserved for the claim wins, whatever its class, size allowing.
        let mut reserved = volumes.to_vec();
        reserved.push(volume(
            "mine",
            "9Gi",
            json!({"claimRef": {"namespace": "d", "name": "c"}, "storageClassName": "z"}),
        ));
        assert_eq!(pick(&claim(json!({})), &reserved).as_deref(), Some("mine"));

        let placed = [volume("a", "1Gi", on("n1")), volume("b", "1Gi", on("n2"))];
        let labels = LabelSet::from([("h", "n2")]);
        let c = claim(json!({}));
        let at = best(&c, &placed, Some(("n2", &labels)), true, &|_| false);
        assert_eq!(at.map(|v| v.name.as_str()), Some("b"));
        assert!(best(&c, &placed, None, true, &|_| false).is_none());
        assert!(best(&c, &placed, Some(("n2", &labels)), true, &|n| n == "b").is_none());
    }

    #[test]
    fn what_is_wrong_with_a_named_volume() {
        let c = claim(json!({}));
        for (size, spec, want) in [
            ("1Gi", json!({}), None),
            ("1Mi", json!({}), Some("requested PV is too small")),
            ("1Gi", json!({"storageClassName": "t"}), Some("storageClassName does not match")),
            ("1Gi", json!({"volumeMode": "Block"}), Some("incompatible volumeMode")),
            ("1Gi", json!({"accessModes": ["ReadOnlyMany"]}), Some("incompatible accessMode")),
        ] {
            assert_eq!(mismatch(&c, &volume("v", size, spec.clone())), want, "{size} {spec}");
        }
    }
}
