//! Where a container sees its volumes and block devices.

use super::super::at::At;
use super::super::common::{local_path, required};
use super::super::errors::ErrorList;
use super::Ctx;
use std::collections::{HashMap, HashSet};

fn map<'v>(c: &At<'v, '_>, list: &str, path: &str) -> HashMap<&'v str, &'v str> {
    let items = c.raw(list).as_array().map_or(&[][..], Vec::as_slice);
    let text = |v: &'v serde_json::Value, f: &str| v.get(f).and_then(|s| s.as_str()).unwrap_or_default();
    items.iter().map(|v| (text(v, "name"), text(v, path))).collect()
}

pub fn mounts(c: &At, ctx: &Ctx, e: &mut ErrorList) {
    let list = c.get("volumeMounts");
    if list.is_empty() {
        return;
    }
    let devices = map(c, "volumeDevices", "devicePath");
    let device_paths: HashSet<&str> = devices.values().copied().collect();
    let mut seen = HashSet::new();
    for m in list.iter() {
        let (name, path) = (m.get("name"), m.get("mountPath"));
        required(&name, e);
        let volume = ctx.volumes.get(name.str());
        if volume.is_none() {
            e.not_found(&name, name.str());
        }
        required(&path, e);
        if !seen.insert(path.str()) {
            e.bad(&path, "must be unique");
        }
        if devices.contains_key(name.str()) {
            e.bad(&name, "must not already exist in volumeDevices");
        }
        if device_paths.contains(path.str()) {
            e.bad(&path, "must not already exist as a path in volumeDevices");
        }
        let (sub, expr) = (m.get("subPath"), m.get("subPathExpr"));
        if volume.is_some_and(|v| v.get("image").is_some()) {
            for s in [&sub, &expr] {
                if s.str().contains('\0') {
                    e.bad(s, "must not contain NUL");
                }
            }
        }
        if !sub.str().is_empty() {
            local_path(&list.at("subPath"), sub.str(), e);
        }
        if !expr.str().is_empty() {
            if !sub.str().is_empty() {
                e.bad(&expr, "subPathExpr and subPath are mutually exclusive");
            }
            local_path(&list.at("subPathExpr"), expr.str(), e);
        }
        propagation(&m, c, &list, e);
    }
}

fn propagation(m: &At, c: &At, list: &At, e: &mut ErrorList) {
    let mode = m.get("mountPropagation");
    let at = list.at("mountPropagation");
    match mode.v.as_str() {
        None | Some("None" | "HostToContainer") => {}
        Some("Bidirectional") => {
            if !c.get("securityContext").b("privileged") {
                e.forbidden(
                    &at,
                    "Bidirectional mount propagation is available only to privileged containers",
                );
            }
        }
        Some(other) => e.not_supported(&at, other, &["Bidirectional", "HostToContainer", "None"]),
    }
    let at = list.at("recursiveReadOnly");
    match m.raw("recursiveReadOnly").as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !m.b("readOnly") {
                e.forbidden(&at, "may only be specified when readOnly is true");
            }
            if !matches!(mode.v.as_str(), None | Some("None")) {
                e.forbidden(&at, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => e.not_supported(&at, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

pub fn devices(c: &At, ctx: &Ctx, e: &mut ErrorList) {
    let list = c.get("volumeDevices");
    if list.is_empty() {
        return;
    }
    let mounts = map(c, "volumeMounts", "mountPath");
    let mount_paths: HashSet<&str> = mounts.values().copied().collect();
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for d in list.iter() {
        let (name, path) = (d.get("name"), d.get("devicePath"));
        required(&name, e);
        if names.contains(name.str()) {
            e.bad(&name, "must be unique");
        }
        match ctx.volumes.get(name.str()) {
            None => e.not_found(&name, name.str()),
            Some(v)
                if ["persistentVolumeClaim", "ephemeral", "metadata"].iter().all(|f| v.get(f).is_none()) =>
            {
                e.bad(
                    &name,
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                );
            }
            _ => {}
        }
        required(&path, e);
        if paths.contains(path.str()) {
            e.bad(&path, "must be unique");
        }
        if path.str().split('/').any(|p| p == "..") {
            e.bad(&path, "can not contain backsteps ('..')");
        } else {
            paths.insert(path.str());
        }
        if mounts.contains_key(name.str()) {
            e.bad(&name, "must not already exist in volumeMounts");
        }
        if mount_paths.contains(path.str()) {
            e.bad(&path, "must not already exist as a path in volumeMounts");
        }
        if !name.str().is_empty() {
            names.insert(name.str());
        }
    }
}
