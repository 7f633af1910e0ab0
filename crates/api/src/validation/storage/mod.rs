//! PersistentVolumeClaim, and what it shares with volumes and the kinds of storage.k8s.io.

mod classes;
mod volume;

pub use classes::*;
pub use volume::{volume, volume_update};

use super::at::At;
use super::common::{Raw, format, label_selector, optional_one_of, required};
use super::errors::{ErrorList, same};
use super::path::Path;
use super::{IMMUTABLE, amount, internal, names};
use serde_json::Value;

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

fn access_modes(list: &At, why: &str, e: &mut ErrorList) {
    if list.is_empty() {
        e.required(list, why);
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

/// A storage size must be there and positive; told at this place.
fn size(list: &At, at: &Path, e: &mut ErrorList) {
    let s = list.get("storage");
    let at = at.key("storage");
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
    access_modes(&spec.get("accessModes"), "at least 1 access mode is required", e);
    label_selector(&spec.get("selector"), e);
    let resources = spec.get("resources");
    size(&resources.get("requests"), &resources.p, e);
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
        e.invalid(spec, Raw("{}"), "must match dataSourceRef");
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
    let in_use = root.get("status").s("phase") == "Bound";
    let mut changed = !super::common::same_except(spec.v, was.v, &ours);
    changed |= !bound && !same(spec.raw("volumeName"), was.raw("volumeName"));
    let attributes = "volumeAttributesClassName";
    changed |= !in_use && !same(spec.raw(attributes), was.raw(attributes));
    // A class may be given later, or moved from the annotation, never changed.
    let (class, had) = (spec.raw("storageClassName"), was.raw("storageClassName"));
    changed |= class != had && !had.is_null();
    let (r, q) = (spec.get("resources"), was.get("resources"));
    let (now, then) = (r.get("requests"), q.get("requests"));
    let (n, o) = (amount::quantity(now.raw("storage")), amount::quantity(then.raw("storage")));
    changed |= !super::common::same_except(r.v, q.v, &["requests"])
        || !super::common::same_except(now.v, then.v, &["storage"]);
    changed |= n != o && !in_use;
    if changed {
        let (mut from, mut to) = (was.v.clone(), spec.v.clone());
        if was.s("volumeName").is_empty() {
            from["volumeName"] = spec.raw("volumeName").clone();
        }
        if in_use {
            to["resources"]["requests"]["storage"] = then.raw("storage").clone();
            to[attributes] = was.raw(attributes).clone();
        }
        let diff = internal::changes("PersistentVolumeClaimSpec", &from, &to);
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        e.forbidden(&spec, &format!("{why}\n{diff}"));
    }
    // What is not there counts as nothing.
    let size = |q: Option<amount::Quantity>| q.map_or(0.0, |q| q.as_f64());
    let (n, o) = (size(n), size(o));
    let actual = before.get("status");
    let actual = actual.get("capacity");
    if n < o && n <= size(amount::quantity(actual.raw("storage"))) {
        e.forbidden(&now.at("storage"), "field can not be less than status.capacity");
    }
    e.immutable(&At::new(spec.raw("volumeMode"), Path::new("volumeMode")), was.raw("volumeMode"));
    let applied = before.get("status").has("currentVolumeAttributesClassName");
    if applied && !same(spec.raw(attributes), was.raw(attributes)) {
        let to = match spec.raw(attributes).as_str() {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let why =
            format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
        e.forbidden(&spec.at(attributes), &why);
    }
}

/// A claim's status.
pub fn claim_status(new: &Value, e: &mut ErrorList) {
    let root = At::root(new);
    let status = root.get("status");
    for (_, q) in status.get("capacity").entries() {
        not_negative(&q, e);
    }
    let sizes = status.get("allocatedResources");
    for (name, q) in sizes.entries() {
        match resizable(name) {
            true => not_negative(&q, e),
            false => e.not_supported(&sizes, name, &["storage"]),
        }
    }
    let states = status.get("allocatedResourceStatuses");
    for (name, s) in states.entries() {
        if !resizable(name) {
            e.not_supported(&states, name, &["storage"]);
        } else if !RESIZING.contains(&s.str()) {
            e.not_supported(&states, name, &RESIZING);
        }
    }
}

const RESIZING: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];
/// Storage itself, or what a driver names.
fn resizable(name: &str) -> bool {
    name == "storage" || name.contains('/')
}

/// A quantity that is not negative.
fn not_negative(q: &At, e: &mut ErrorList) {
    if let Some(n) = amount::quantity(q.v).filter(|n| n.sign() < 0) {
        e.invalid(q, Raw(&n.value().to_string()), "must be a valid resource quantity");
    }
}
