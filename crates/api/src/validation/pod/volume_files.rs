//! Volumes that are files made from API objects: secrets, config maps, the downward API, projections.

use super::super::at::At;
use super::super::certificates::signer_name;
use super::super::common::{label_selector, local_non_reserved_path, required};
use super::super::errors::ErrorList;
use super::super::names;
use super::super::pod_certificates::{SHORTEST_LIFE, longest_life, user_annotations};
use super::env;
use std::collections::HashSet;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const KEY_TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
/// Fields that a file may hold, sorted.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn mode(a: &At, e: &mut ErrorList) {
    if a.int().is_some_and(|m| !(0..=0o777).contains(&m)) {
        e.bad(a, MODE);
    }
}

fn items(list: &At, e: &mut ErrorList) {
    for k in list.iter() {
        required(&k.get("key"), e);
        let path = k.get("path");
        if required(&path, e) {
            local_non_reserved_path(&path, path.str(), e);
        }
        mode(&k.get("mode"), e);
    }
}

pub fn secret(s: &At, e: &mut ErrorList) {
    required(&s.get("secretName"), e);
    mode(&s.get("defaultMode"), e);
    items(&s.get("items"), e);
}

pub fn config_map(s: &At, e: &mut ErrorList) {
    required(&s.get("name"), e);
    mode(&s.get("defaultMode"), e);
    items(&s.get("items"), e);
}

pub fn downward(s: &At, e: &mut ErrorList) {
    mode(&s.get("defaultMode"), e);
    for f in s.get("items").iter() {
        downward_file(&f, s, e);
    }
}

/// What is wrong with its source is told at the volume.
fn downward_file(f: &At, volume: &At, e: &mut ErrorList) {
    let path = f.get("path");
    if required(&path, e) {
        local_non_reserved_path(&path, path.str(), e);
    }
    let field = At::new(f.raw("fieldRef"), volume.at("fieldRef"));
    let resource = At::new(f.raw("resourceFieldRef"), volume.at("resourceFieldRef"));
    if !field.is_null() {
        env::field_ref(&field, &FILE_FIELDS, e);
        if !resource.is_null() {
            e.invalid(
                volume,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            );
        }
    } else if !resource.is_null() {
        env::resource_field_ref(&resource, true, e);
    } else {
        e.required(volume, "one of fieldRef and resourceFieldRef is required");
    }
    mode(&f.get("mode"), e);
}

pub fn projected(s: &At, e: &mut ErrorList) {
    mode(&s.get("defaultMode"), e);
    let mut paths: HashSet<&str> = HashSet::new();
    for src in s.get("sources").iter() {
        let kinds: Vec<&str> = src.keys().filter(|k| src.has(k)).collect();
        for kind in &kinds {
            projection(kind, &src.get(kind), s, &mut paths, e);
        }
        if kinds.len() > 1 {
            e.forbidden(&src, "may not specify more than 1 volume type per source");
        }
    }
}

fn projection<'v>(kind: &str, p: &At<'v, '_>, volume: &At, paths: &mut HashSet<&'v str>, e: &mut ErrorList) {
    match kind {
        "secret" | "configMap" => {
            required(&p.get("name"), e);
            let list = p.get("items");
            items(&list, e);
            for k in list.iter() {
                claim(k.s("path"), p.s("name"), volume, paths, e);
            }
        }
        "downwardAPI" => {
            for f in p.get("items").iter() {
                downward_file(&f, p, e);
                claim(f.s("path"), f.s("path"), volume, paths, e);
            }
        }
        "serviceAccountToken" => {
            let seconds = p.i("expirationSeconds").unwrap_or(3600);
            if seconds < 600 {
                e.invalid(
                    &p.at("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
            if seconds > 1 << 32 {
                e.invalid(
                    &p.at("expirationSeconds"),
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                );
            }
            single(p, "path", volume, paths, e);
        }
        "clusterTrustBundle" => {
            match (p.s("name").is_empty(), p.s("signerName").is_empty()) {
                (false, false) => e.bad(p, "only one of name and signerName may be used"),
                (true, true) => e.required(p, "either name or signerName must be specified"),
                (false, true) => {
                    let name = p.get("name");
                    for why in bundle_name(name.str()) {
                        e.bad(&name, &format!("not a valid clustertrustbundlename: {why}"));
                    }
                    let selector = p.get("labelSelector");
                    if !selector.is_null() {
                        e.bad(&selector, "labelSelector must be unset if name is specified");
                    }
                }
                _ => {
                    signer_name(&p.get("signerName"), e);
                    label_selector(&p.get("labelSelector"), e);
                }
            }
            single(p, "path", volume, paths, e);
        }
        "podCertificate" => {
            let signer = p.get("signerName");
            signer_name(&signer, e);
            user_annotations(&p.get("userAnnotations"), e);
            let key = p.get("keyType");
            if !KEY_TYPES.contains(&key.str()) {
                e.not_supported(&key, key.str(), &KEY_TYPES);
            }
            lifetime(&p.get("maxExpirationSeconds"), signer.str(), e);
            let fields = ["credentialBundlePath", "keyPath", "certificateChainPath"];
            if fields.iter().all(|f| p.s(f).is_empty()) {
                e.required(
                    p,
                    "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
                );
            }
            for f in fields {
                if !p.s(f).is_empty() {
                    single(p, f, volume, paths, e);
                }
            }
        }
        _ => {}
    }
}

/// How long a certificate may hold.
fn lifetime(seconds: &At, signer: &str, e: &mut ErrorList) {
    let longest = longest_life(signer);
    match seconds.int() {
        Some(s) if s < SHORTEST_LIFE => {
            e.invalid(seconds, s, &format!("if provided, maxExpirationSeconds must be >= {SHORTEST_LIFE}"));
        }
        Some(s) if s > longest => {
            e.invalid(seconds, s, &format!("if provided, maxExpirationSeconds must be <= {longest}"));
        }
        _ => {}
    }
}

/// What is wrong with the name of a trust bundle: that of a signer's has the signer before its last colon.
fn bundle_name(name: &str) -> Vec<String> {
    names::dns1123_subdomain(name.rsplit_once(':').map_or(name, |(_, own)| own))
}

/// A source that makes one file.
fn single<'v>(p: &At<'v, '_>, field: &str, volume: &At, paths: &mut HashSet<&'v str>, e: &mut ErrorList) {
    let path = At::new(p.raw(field), volume.at(field));
    if required(&path, e) {
        local_non_reserved_path(&path, path.str(), e);
        claim(path.str(), path.str(), volume, paths, e);
    }
}

fn claim<'v>(path: &'v str, shown: &str, volume: &At, paths: &mut HashSet<&'v str>, e: &mut ErrorList) {
    if !path.is_empty() && !paths.insert(path) {
        e.invalid(volume, shown, "conflicting duplicate paths");
    }
}
