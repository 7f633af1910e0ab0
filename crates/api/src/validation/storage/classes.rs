//! The kinds of storage.k8s.io: StorageClass, VolumeAttachment, CSIDriver, CSINode, CSIStorageCapacity,
//! VolumeAttributesClass.

use super::super::at::At;
use super::super::common::{format, label_selector, non_negative, optional_one_of, required};
use super::super::errors::{ErrorList, same};
use super::super::{IMMUTABLE, amount, names};
use super::csi_driver_name;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// StorageClass.
pub fn storage_class(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let provisioner = root.get("provisioner");
    if required(&provisioner, e) {
        e.each(&provisioner, provisioner.str(), names::qualified_name(&provisioner.str().to_lowercase()));
    }
    let parameters = root.get("parameters");
    if parameters.len() > 512 {
        e.too_long(&parameters, 512);
    }
    let mut total = 0;
    for (k, v) in parameters.entries() {
        if k.is_empty() {
            e.invalid(&parameters, k, "field can not be empty.");
        }
        total += k.len() + v.str().len();
    }
    if total > 256 * 1024 {
        e.too_long(&parameters, 256 * 1024);
    }
    optional_one_of(&root.get("reclaimPolicy"), &["Delete", "Retain"], e);
    let mode = root.get("volumeBindingMode");
    if mode.is_null() {
        e.required(&mode, "");
    } else {
        optional_one_of(&mode, &["Immediate", "WaitForFirstConsumer"], e);
    }
    let topologies = root.get("allowedTopologies");
    for (i, t) in topologies.iter().enumerate() {
        let mut keys = HashSet::new();
        let expressions = t.get("matchLabelExpressions");
        // A term without any is as good as another one.
        if expressions.is_empty() || topologies.list()[..i].iter().any(|o| same_terms(o, t.v)) {
            e.duplicate(&expressions, "");
        }
        for r in expressions.iter() {
            let values = r.get("values");
            if values.is_empty() {
                e.required(&values, "");
            }
            let mut seen = HashSet::new();
            for v in values.iter() {
                if !seen.insert(v.str()) {
                    e.duplicate(&v, v.str());
                }
            }
            super::super::meta::label_name(r.s("key"), &r.at("key"), e);
            if !keys.insert(r.s("key")) {
                e.duplicate(&r.at("key"), r.s("key"));
            }
        }
    }
}

pub fn storage_class_update(new: &Value, old: &Value, e: &mut ErrorList) {
    storage_class(new, e);
    let root = At::root(new);
    let was = At::root(old);
    for f in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if !same(root.raw(f), was.raw(f)) {
            e.invalid(&root.at(f), Value::Null, IMMUTABLE);
        }
    }
}

/// Both ask for the same values of the same keys, in any order.
fn same_terms(a: &Value, b: &Value) -> bool {
    let terms = |v: &Value| -> BTreeMap<String, BTreeSet<String>> {
        let list = v["matchLabelExpressions"].as_array().into_iter().flatten();
        list.map(|r| {
            let values = r["values"].as_array().into_iter().flatten();
            let values = values.filter_map(|v| v.as_str()).map(str::to_owned).collect();
            (r["key"].as_str().unwrap_or_default().to_owned(), values)
        })
        .collect()
    };
    terms(a) == terms(b)
}

/// VolumeAttachment.
pub fn attachment(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    csi_driver_name(&spec.get("attacher"), e);
    let source = spec.get("source");
    match (source.has("inlineVolumeSpec"), source.s("persistentVolumeName")) {
        (false, "") => {
            e.required(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName")
        }
        (true, n) if !n.is_empty() => {
            e.forbidden(&source, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
        }
        (false, _) => format(&source.get("persistentVolumeName"), names::dns1123_subdomain, e),
        _ => {}
    }
    let node = spec.get("nodeName");
    e.each(&node, node.str(), names::dns1123_subdomain(node.str()));
}
pub fn attachment_update(new: &Value, old: &Value, e: &mut ErrorList) {
    attachment(new, e);
    e.immutable(&At::root(new).get("spec"), At::root(old).raw("spec"));
}

/// CSIDriver.
pub fn csi_driver(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    for f in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if !spec.has(f) {
            e.required(&spec.at(f), "");
        }
    }
    optional_one_of(&spec.get("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"], e);
    let modes = spec.get("volumeLifecycleModes");
    for m in modes.list() {
        let m = m.as_str().unwrap_or_default();
        if !matches!(m, "Persistent" | "Ephemeral") {
            e.not_supported(&modes, m, &["Persistent", "Ephemeral"]);
        }
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.int().is_some_and(|p| p < 10) {
        e.bad(&period, "must be greater than or equal to 10 seconds");
    }
    let in_secret = spec.get("serviceAccountTokenInSecrets");
    if !in_secret.is_null() && spec.get("tokenRequests").is_empty() {
        e.bad(&in_secret, "serviceAccountTokenInSecrets is set but no tokenRequests are specified");
    }
    let mut audiences = HashSet::new();
    for t in spec.get("tokenRequests").iter() {
        if !audiences.insert(t.s("audience")) {
            e.duplicate(&t.at("audience"), t.s("audience"));
        }
        let seconds = t.get("expirationSeconds");
        match seconds.int() {
            Some(s) if s < 600 => e.bad(&seconds, "may not specify a duration less than 10 minutes"),
            Some(s) if s > 1 << 32 => e.bad(&seconds, "may not specify a duration larger than 2^32 seconds"),
            _ => {}
        }
    }
}
pub fn csi_driver_update(new: &Value, old: &Value, e: &mut ErrorList) {
    csi_driver(new, e);
    let (root, was) = (At::root(new), At::root(old));
    let (spec, before) = (root.get("spec"), was.get("spec"));
    for (f, shown) in
        [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
    {
        e.immutable(&At::new(spec.raw(f), spec.at(shown)), before.raw(f));
    }
}

/// CSINode.
pub fn csi_node(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let mut seen = HashSet::new();
    for d in spec.get("drivers").iter() {
        let name = d.get("name");
        csi_driver_name(&name, e);
        if !seen.insert(name.str()) {
            e.duplicate(&name, name.str());
        }
        let node = d.get("nodeID");
        if required(&node, e) && node.str().len() > 256 {
            e.bad(&node, "must be 256 characters or less");
        }
        non_negative(&d.get("allocatable").get("count"), e);
        let mut keys = HashSet::new();
        for k in d.get("topologyKeys").iter() {
            format(&k, names::qualified_name, e);
            if !keys.insert(k.str()) {
                e.duplicate(&k, k.str());
            }
        }
    }
}

/// CSIStorageCapacity.
pub fn capacity(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let class = root.get("storageClassName");
    if class.str().is_empty() {
        e.required(&class, "");
    } else {
        format(&class, names::dns1123_subdomain, e);
    }
    label_selector(&root.get("nodeTopology"), e);
    for f in ["capacity", "maximumVolumeSize"] {
        let q = root.get(f);
        if amount::quantity(q.v).is_some_and(|q| q.sign() < 0) {
            e.bad(&q, names::NON_NEGATIVE);
        }
    }
}
pub fn capacity_update(new: &Value, old: &Value, e: &mut ErrorList) {
    capacity(new, e);
    let root = At::root(new);
    for f in ["nodeTopology", "storageClassName"] {
        e.immutable(&root.get(f), At::root(old).raw(f));
    }
}

/// VolumeAttributesClass.
pub fn attributes_class(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    csi_driver_name(&root.get("driverName"), e);
    if root.get("parameters").is_empty() {
        e.required(&root.at("parameters"), "must contain at least one key/value pair");
    }
}
pub fn attributes_class_update(new: &Value, old: &Value, e: &mut ErrorList) {
    attributes_class(new, e);
    let (root, was) = (At::root(new), At::root(old));
    for (f, why) in [
        ("driverName", "updates to driverName are forbidden."),
        ("parameters", "updates to parameters are forbidden."),
    ] {
        if !same(root.raw(f), was.raw(f)) {
            e.forbidden(&root.at(f), why);
        }
    }
}
