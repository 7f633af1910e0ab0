//! PersistentVolume.

use super::super::at::At;
use super::super::common::{exactly_one, format, optional_one_of, required};
use super::super::errors::{ErrorList, same};
use super::super::path::Path;
use super::super::pod::scheduling::node_selector;
use super::super::{amount, internal, names};
use super::{access_modes, class_name, csi_driver_name, not_negative};
use serde_json::Value;

/// PersistentVolume.
pub fn volume(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    access_modes(&spec.get("accessModes"), "", e);
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        e.required(&capacity, "");
    }
    if !capacity.has("storage") || capacity.len() > 1 {
        let none = Value::Object(serde_json::Map::new());
        let shown = if capacity.is_null() { &none } else { capacity.v };
        e.not_supported(&capacity, shown, &["storage"]);
    }
    for (_, q) in capacity.entries() {
        not_negative(&q, e);
        if let Some(n) = amount::quantity(q.v).filter(|n| n.sign() <= 0) {
            e.invalid(&q, n.to_string(), "must be greater than zero");
        }
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
    let kinds = spec.keys().filter(|k| !OTHER_FIELDS.contains(k));
    exactly_one(spec, kinds, "volume type", e, |kind, s, e| match kind {
        "hostPath" => {
            super::super::pod::host_path(s, e);
            if spec.s("persistentVolumeReclaimPolicy") == "Recycle"
                && s.s("path").trim_end_matches('/').is_empty()
            {
                let why = "may not be 'recycle' for a hostPath mount of '/'";
                e.forbidden(&spec.at("persistentVolumeReclaimPolicy"), why);
            }
        }
        "nfs" => super::super::pod::nfs(s, e),
        "iscsi" => super::super::pod::iscsi(s, name, e),
        "fc" => super::super::pod::fc(s, e),
        "local" => {
            let path = s.get("path");
            if required(&path, e) {
                super::super::common::no_backsteps(&path, path.str(), e);
            }
            if no_affinity {
                e.required(&spec.at("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        "csi" => {
            csi_driver_name(&s.get("driver"), e);
            required(&s.get("volumeHandle"), e);
            for f in ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef"] {
                let r = s.get(f);
                if !r.is_null() {
                    required(&r.get("name"), e);
                    required(&r.get("namespace"), e);
                }
            }
        }
        other => super::super::pod::legacy_source(other, s, e),
    });
}

pub fn volume_update(new: &Value, old: &Value, e: &mut ErrorList) {
    volume(new, e);
    let (root, before) = (At::root(new), At::root(old));
    let (spec, was) = (root.get("spec"), before.get("spec"));
    let source =
        |s: &At| -> Option<String> { s.keys().find(|k| !OTHER_FIELDS.contains(k)).map(str::to_owned) };
    let kind = source(&spec).unwrap_or_default();
    if source(&was).unwrap_or_default() != kind || !same(spec.raw(&kind), was.raw(&kind)) {
        let diff = internal::changes("PersistentVolumeSource", was.v, spec.v);
        let why = format!("spec.persistentvolumesource is immutable after creation\n{diff}");
        e.forbidden(&spec.at("persistentvolumesource"), &why);
    }
    e.immutable(&At::new(spec.raw("volumeMode"), Path::new("volumeMode")), was.raw("volumeMode"));
    let affinity = At::new(spec.raw("nodeAffinity"), Path::new("nodeAffinity"));
    if was.has("nodeAffinity") && !same(affinity.v, was.raw("nodeAffinity")) {
        e.bad_as(
            "*VolumeNodeAffinity",
            &affinity,
            "field is immutable, except for updating from beta label to GA",
        );
    }
}
