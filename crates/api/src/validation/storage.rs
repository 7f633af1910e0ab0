//! Volumes of the cluster: PersistentVolume, PersistentVolumeClaim, and the kinds of storage.k8s.io.

use super::at::At;
use super::common::{format, label_selector, non_negative, one_of, optional_one_of, required};
use super::errors::{ErrorList, same};
use super::pod::scheduling::node_selector;
use super::{IMMUTABLE, amount, names};
use serde_json::Value;
use std::collections::HashSet;

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Names of CSI drivers: up to 63 bytes, a subdomain whose case does not matter.
pub fn csi_driver_name(a: &At, e: &mut ErrorList) {
    if !required(a, e) {
        return;
    }
    if a.str().len() > 63 {
        e.too_long(a, 63);
    }
    e.each(a, a.str(), names::dns1123_subdomain(&a.str().to_lowercase()));
}

fn access_modes(list: &At, e: &mut ErrorList) {
    if list.is_empty() {
        e.required(list, "at least 1 access mode is required");
    }
    for m in list.iter() {
        if !ACCESS_MODES.contains(&m.str()) {
            e.not_supported(list, m.str(), &ACCESS_MODES);
        }
    }
    if list.len() > 1 && list.list().iter().any(|m| m == "ReadWriteOncePod") {
        e.forbidden(list, "may not use ReadWriteOncePod with other access modes");
    }
}

/// A storage size must be there and positive.
fn size(list: &At, e: &mut ErrorList) {
    let s = list.get("storage");
    let at = list.p.key("storage");
    match amount::quantity(s.v) {
        None => e.required(&at, ""),
        Some(q) if q.sign() <= 0 => e.invalid(&at, q.to_string(), "must be greater than zero"),
        Some(_) => {}
    }
}

/// The template of an ephemeral volume or of a StatefulSet.
pub fn claim_template(t: &At, e: &mut ErrorList) {
    let meta = t.get("metadata");
    super::meta::labels(&meta.get("labels"), e);
    super::meta::annotations(&meta.get("annotations"), e);
    claim_spec(&t.get("spec"), e);
}

/// PersistentVolumeClaim.
pub fn claim(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    claim_spec(&root.get("spec"), e);
}

fn claim_spec(spec: &At, e: &mut ErrorList) {
    access_modes(&spec.get("accessModes"), e);
    label_selector(&spec.get("selector"), e);
    let resources = spec.get("resources");
    size(&resources.get("requests"), e);
    class_name(&spec.get("storageClassName"), e);
    optional_one_of(&spec.get("volumeMode"), &["Block", "Filesystem"], e);
    for f in ["dataSource", "dataSourceRef"] {
        let d = spec.get(f);
        if d.is_null() {
            continue;
        }
        required(&d.get("name"), e);
        required(&d.get("kind"), e);
        if d.s("apiGroup").is_empty() && d.s("kind") != "PersistentVolumeClaim" {
            e.invalid(
                &d,
                d.s("kind"),
                "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            );
        }
    }
    if spec.has("dataSource")
        && spec.has("dataSourceRef")
        && !same(spec.raw("dataSource"), spec.raw("dataSourceRef"))
    {
        e.invalid(spec, spec.get("dataSource"), "must match dataSourceRef");
    }
    let class = spec.get("volumeAttributesClassName");
    if !class.str().is_empty() {
        format(&class, names::dns1123_subdomain, e);
    }
}

fn class_name(a: &At, e: &mut ErrorList) {
    if !a.str().is_empty() {
        format(a, names::dns1123_subdomain, e);
    }
}

/// A claim's spec stays, but for growing, binding, and its attributes class.
pub fn claim_update(new: &Value, old: &Value, e: &mut ErrorList) {
    let (root, before) = (At::root(new), At::root(old));
    claim(new, e);
    let (spec, was) = (root.get("spec"), before.get("spec"));
    let bound = was.s("volumeName").is_empty() && !spec.s("volumeName").is_empty();
    let legacy = "volume.beta.kubernetes.io/storage-class";
    let annotation = |r: &At| r.get("metadata").get("annotations").s(legacy).to_owned();
    if annotation(&root) != annotation(&before) && before.get("metadata").get("annotations").has(legacy) {
        let meta = root.get("metadata");
        let notes = meta.get("annotations");
        e.invalid(&notes.at(legacy), notes.s(legacy), IMMUTABLE);
    }
    let ours = ["resources", "volumeAttributesClassName", "storageClassName", "volumeName"];
    let mut changed = !super::common::same_except(spec.v, was.v, &ours);
    changed |= !bound && spec.raw("volumeName") != was.raw("volumeName");
    // A class may be given later, or moved from the annotation, never changed.
    let (class, had) = (spec.raw("storageClassName"), was.raw("storageClassName"));
    changed |= class != had && !had.is_null();
    let (r, q) = (spec.get("resources"), was.get("resources"));
    let (now, then) = (r.get("requests"), q.get("requests"));
    let (n, o) = (amount::quantity(now.raw("storage")), amount::quantity(then.raw("storage")));
    changed |= !super::common::same_except(r.v, q.v, &["requests"])
        || !super::common::same_except(now.v, then.v, &["storage"]);
    let status = root.get("status");
    if n != o && status.s("phase") != "Bound" && before.get("status").s("phase") != "Bound" {
        changed = true;
    }
    if changed {
        e.forbidden(
            &spec,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    if let (Some(n), Some(o)) = (n, o)
        && n < o
    {
        let actual = before.get("status");
        let actual = actual.get("capacity");
        let floor = amount::quantity(actual.raw("storage"));
        if floor.is_none_or(|f| n <= f) {
            e.forbidden(&now.p, "field can not be less than status.capacity");
        }
    }
    e.immutable(&spec.get("volumeMode"), was.raw("volumeMode"));
}

/// A claim's status.
pub fn claim_status(new: &Value, e: &mut ErrorList) {
    let root = At::root(new);
    let status = root.get("status");
    for f in ["capacity", "allocatedResources"] {
        let list = status.get(f);
        for (k, q) in list.entries() {
            amount::resource_value(k, &q, e);
        }
    }
}

/// PersistentVolume.
pub fn volume(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    access_modes(&spec.get("accessModes"), e);
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        e.required(&capacity, "");
    } else if !capacity.has("storage") || capacity.len() > 1 {
        let keys: Vec<&str> = capacity.keys().collect();
        e.not_supported(&capacity, keys.join(","), &["storage"]);
    } else {
        size(&capacity, e);
    }
    optional_one_of(&spec.get("persistentVolumeReclaimPolicy"), &["Delete", "Recycle", "Retain"], e);
    let affinity = spec.get("nodeAffinity");
    if !affinity.is_null() {
        let r = affinity.get("required");
        if r.is_null() {
            e.required(&r, "must specify required node constraints");
        } else {
            node_selector(&r, e);
        }
    }
    sources(&spec, affinity.is_null(), root.get("metadata").s("name"), e);
    class_name(&spec.get("storageClassName"), e);
    optional_one_of(&spec.get("volumeMode"), &["Block", "Filesystem"], e);
    let attributes = spec.get("volumeAttributesClassName");
    if !attributes.is_null() {
        if attributes.str().is_empty() {
            e.required(&attributes, "an empty string is disallowed");
        } else {
            format(&attributes, names::dns1123_subdomain, e);
        }
        if !spec.has("csi") {
            e.required(&spec.at("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

const OTHER_FIELDS: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn sources(spec: &At, no_affinity: bool, name: &str, e: &mut ErrorList) {
    let mut count = 0;
    for kind in spec.keys().filter(|k| !OTHER_FIELDS.contains(k)) {
        let s = spec.get(kind);
        if s.is_null() {
            continue;
        }
        count += 1;
        if count > 1 {
            e.forbidden(&s, "may not specify more than 1 volume type");
            continue;
        }
        match kind {
            "hostPath" => {
                super::pod::host_path(&s, e);
                if spec.s("persistentVolumeReclaimPolicy") == "Recycle"
                    && s.s("path").trim_end_matches('/').is_empty()
                {
                    let why = "may not be 'recycle' for a hostPath mount of '/'";
                    e.forbidden(&spec.at("persistentVolumeReclaimPolicy"), why);
                }
            }
            "nfs" => super::pod::nfs(&s, e),
            "iscsi" => super::pod::iscsi(&s, name, e),
            "fc" => super::pod::fc(&s, e),
            "local" => {
                let path = s.get("path");
                if required(&path, e) {
                    super::common::no_backsteps(&path, path.str(), e);
                }
                if no_affinity {
                    e.required(&spec.at("nodeAffinity"), "Local volume requires node affinity");
                }
            }
            "csi" => {
                csi_driver_name(&s.get("driver"), e);
                required(&s.get("volumeHandle"), e);
                for f in [
                    "controllerPublishSecretRef",
                    "controllerExpandSecretRef",
                    "nodePublishSecretRef",
                    "nodeStageSecretRef",
                    "nodeExpandSecretRef",
                ] {
                    let r = s.get(f);
                    if !r.is_null() {
                        required(&r.get("name"), e);
                        required(&r.get("namespace"), e);
                    }
                }
            }
            _ => {}
        }
    }
    if count == 0 {
        e.required(spec, "must specify a volume type");
    }
}

pub fn volume_update(new: &Value, old: &Value, e: &mut ErrorList) {
    volume(new, e);
    let (root, before) = (At::root(new), At::root(old));
    let (spec, was) = (root.get("spec"), before.get("spec"));
    let source =
        |s: &At| -> Option<String> { s.keys().find(|k| !OTHER_FIELDS.contains(k)).map(str::to_owned) };
    let kind = source(&spec).unwrap_or_default();
    if source(&was).unwrap_or_default() != kind || !same(spec.raw(&kind), was.raw(&kind)) {
        e.forbidden(
            &spec.at("persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation",
        );
    }
    e.immutable(&spec.get("volumeMode"), was.raw("volumeMode"));
    let affinity = spec.get("nodeAffinity");
    if was.has("nodeAffinity") && !same(affinity.v, was.raw("nodeAffinity")) {
        e.bad(&affinity, "field is immutable, except for updating from beta label to GA");
    }
}

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
    one_of(&root.get("volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"], e);
    for t in root.get("allowedTopologies").iter() {
        let mut keys = HashSet::new();
        for r in t.get("matchLabelExpressions").iter() {
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
            super::meta::label_name(r.s("key"), &r.at("key"), e);
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
    for (f, why) in [
        ("parameters", "updates to parameters are forbidden."),
        ("provisioner", "updates to provisioner are forbidden."),
        ("reclaimPolicy", "updates to reclaimPolicy are forbidden."),
    ] {
        if !same(root.raw(f), was.raw(f)) {
            e.forbidden(&root.at(f), why);
        }
    }
    e.immutable(&root.get("volumeBindingMode"), was.raw("volumeBindingMode"));
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
    let meta = root.get("metadata");
    csi_driver_name(&meta.get("name"), e);
    let spec = root.get("spec");
    for f in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if !spec.has(f) {
            e.required(&spec.at(f), "");
        }
    }
    optional_one_of(&spec.get("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"], e);
    for m in spec.get("volumeLifecycleModes").iter() {
        one_of(&m, &["Ephemeral", "Persistent"], e);
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
    for f in ["attachRequired", "volumeLifecycleModes"] {
        e.immutable(&spec.get(f), before.raw(f));
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
