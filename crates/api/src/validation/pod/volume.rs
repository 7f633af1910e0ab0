//! Volumes: one source each, with what that source needs.

use super::super::at::At;
use super::super::common::{exactly_one, format, local_path, no_backsteps, one_of, required};
use super::super::errors::ErrorList;
use super::super::{amount, names, storage};
use super::{Ctx, volume_files as files};
use serde_json::Value;
use std::collections::HashSet;

/// Sources that need no more than some fields to be set.
const SIMPLE: [(&str, &[&str]); 13] = [
    ("awsElasticBlockStore", &["volumeID"]),
    ("glusterfs", &["endpoints", "path"]),
    ("cephfs", &["monitors"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];

/// `spec.volumes`; fills in the volumes that containers may mount.
pub fn volumes<'v>(list: &At<'v, '_>, claims: &'v [Value], ctx: &mut Ctx<'v>, e: &mut ErrorList) {
    let named = |c: &'v Value| c.get("metadata")?.get("name")?.as_str();
    // A claim's template takes the place of a volume of its name.
    ctx.volumes.extend(claims.iter().filter_map(|c| Some((named(c)?, c))));

    let created: HashSet<String> = list
        .list()
        .iter()
        .filter(|v| !ctx.pod_name.is_empty() && v.get("ephemeral").is_some())
        .map(|v| format!("{}-{}", ctx.pod_name, v.get("name").and_then(|n| n.as_str()).unwrap_or_default()))
        .collect();
    for v in list.iter().filter(|v| claims.iter().all(|c| named(c) != Some(v.s("name")))) {
        let before = e.len();
        source(&v, ctx, e);
        let name = v.get("name");
        if required(&name, e) {
            format(&name, names::dns1123_label, e);
        }
        if ctx.volumes.contains_key(name.str()) {
            e.duplicate(&name, name.str());
        }
        if e.len() == before {
            ctx.volumes.insert(name.str(), v.v);
        }
        let claim = v.get("persistentVolumeClaim");
        if created.contains(claim.s("claimName")) {
            e.invalid(
                &claim.at("claimName"),
                claim.s("claimName"),
                "must not reference a PVC that gets created for an ephemeral volume",
            );
        }
    }
}

fn source(v: &At, ctx: &Ctx, e: &mut ErrorList) {
    let kinds = v.keys().filter(|k| *k != "name");
    exactly_one(v, kinds, "volume type", e, |kind, s, e| one(kind, s, v, ctx, e));
}

fn one(kind: &str, s: &At, v: &At, ctx: &Ctx, e: &mut ErrorList) {
    match kind {
        "emptyDir" => {
            if amount::quantity(s.raw("sizeLimit")).is_some_and(|q| q.sign() < 0) {
                e.forbidden(&s.at("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => host_path(s, e),
        "gitRepo" => {
            required(&s.get("repository"), e);
            local_path(&s.at("directory"), s.s("directory"), e);
        }
        "secret" => files::secret(s, e),
        "configMap" => files::config_map(s, e),
        "downwardAPI" => files::downward(s, e),
        "projected" => files::projected(s, e),
        "nfs" => nfs(s, e),
        "iscsi" => iscsi(s, v.s("name"), e),
        "fc" => fc(s, e),
        "persistentVolumeClaim" => {
            required(&s.get("claimName"), e);
        }
        "csi" => {
            storage::csi_driver_name(&s.get("driver"), e);
            let secret = s.get("nodePublishSecretRef");
            if !secret.is_null() {
                required(&secret.get("name"), e);
            }
        }
        "ephemeral" => {
            let template = s.get("volumeClaimTemplate");
            if template.is_null() {
                e.required(&template, "");
            } else {
                storage::claim_template(&template, e);
            }
            if !ctx.pod_name.is_empty() && !v.s("name").is_empty() {
                let claim = format!("{}-{}", ctx.pod_name, v.s("name"));
                for m in names::dns1123_subdomain(&claim) {
                    e.invalid(&v.at("name"), v.s("name"), &format!("PVC name {claim:?}: {m}"));
                }
            }
        }
        "image" => {
            if ctx.is_pod {
                required(&s.get("reference"), e);
            }
            one_of(&s.get("pullPolicy"), &["Always", "IfNotPresent", "Never"], e);
        }
        other => legacy_source(other, s, e),
    }
}

/// Sources of former in-tree drivers; also a PersistentVolume's.
pub fn legacy_source(kind: &str, s: &At, e: &mut ErrorList) {
    let s = if kind == "gcePersistentDisk" { At::new(s.v, s.p.sibling("persistentDisk")) } else { *s };
    match kind {
        "gcePersistentDisk" => {
            required(&s.get("pdName"), e);
        }
        "quobyte" => {
            if s.s("registry").is_empty() {
                e.required(
                    &s.at("registry"),
                    "must be a host:port pair or multiple pairs separated by commas",
                );
            }
            required(&s.get("volume"), e);
        }
        _ => {
            let fields = SIMPLE.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, f)| f);
            for f in fields {
                let f = s.get(f);
                if f.str().is_empty() && f.is_empty() {
                    e.required(&f, "");
                }
            }
        }
    }
    let partition = s.get("partition");
    if partition.int().is_some_and(|p| !(0..=255).contains(&p)) {
        e.bad(&partition, &names::between(1, 255));
    }
    if kind == "azureDisk" {
        azure_disk(&s, e);
    }
}

fn azure_disk(s: &At, e: &mut ErrorList) {
    let (managed, uri) = (s.s("kind") == "Managed", s.get("diskURI"));
    let (start, form) = if managed {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    if !uri.str().starts_with(start) {
        e.not_supported(&uri, uri.str(), &[form]);
    }
}

/// Also a PersistentVolume's.
pub fn host_path(s: &At, e: &mut ErrorList) {
    let path = s.get("path");
    if !required(&path, e) {
        return;
    }
    no_backsteps(&path, path.str(), e);
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let kind = s.get("type");
    if !kind.is_null() && !TYPES.contains(&kind.str()) {
        e.not_supported(&kind, kind.str(), &TYPES);
    }
}

pub fn nfs(s: &At, e: &mut ErrorList) {
    required(&s.get("server"), e);
    let path = s.get("path");
    required(&path, e);
    if !path.str().starts_with('/') {
        e.invalid(&path, path.str(), "must be an absolute path");
    }
}

pub fn iscsi(s: &At, volume: &str, e: &mut ErrorList) {
    required(&s.get("targetPortal"), e);
    let iqn = s.get("iqn");
    if required(&iqn, e) && !["iqn", "eui", "naa"].iter().any(|p| iqn.str().starts_with(p)) {
        e.bad(&iqn, "must be valid format");
    }
    let lun = s.get("lun");
    if lun.int().is_some_and(|n| !(0..=255).contains(&n)) {
        e.bad(&lun, &names::between(0, 255));
    }
    let chap = s.b("chapAuthDiscovery") || s.b("chapAuthSession");
    if chap && !s.has("secretRef") {
        e.required(&s.at("secretRef"), "");
    }
    if s.has("initiatorName") && volume.len() + 1 + s.s("targetPortal").len() > 64 {
        e.invalid(
            &s.at("initiatorName"),
            s.s("initiatorName"),
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.",
        );
    }
}

pub fn fc(s: &At, e: &mut ErrorList) {
    let (names_, ids) = (s.get("targetWWNs"), s.get("wwids"));
    match (names_.is_empty(), ids.is_empty()) {
        (true, true) => e.required(&names_, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => e.bad(&names_, "targetWWNs and wwids can not be specified simultaneously"),
        (false, true) => match s.i("lun") {
            None => e.required(&s.at("lun"), "lun is required if targetWWNs is specified"),
            Some(n) if !(0..=255).contains(&n) => e.invalid(&s.at("lun"), n, &names::between(0, 255)),
            _ => {}
        },
        _ => {}
    }
}
