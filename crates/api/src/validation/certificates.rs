//! certificates.k8s.io: CertificateSigningRequest, ClusterTrustBundle.

use super::at::At;
use super::common::{format, required};
use super::errors::{ErrorList, same};
use super::names;
use serde_json::Value;
use std::collections::HashSet;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// `example.com/name`, for controllers' names.
pub fn path_qualified(a: &At, e: &mut ErrorList) {
    match a.str().split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            e.each(a, domain, names::dns1123_subdomain(domain));
        }
        _ => e.bad(a, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

/// Signers: a domain and a path.
pub fn signer_name(a: &At, e: &mut ErrorList) {
    let name = a.str();
    if !required(a, e) {
        return;
    }
    let Some((domain, path)) = name.split_once('/') else {
        e.bad(a, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    };
    if path.is_empty() || path.contains('/') {
        e.bad(a, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    }
    e.each(
        a,
        name,
        names::dns1123_subdomain(domain).into_iter().map(|m| format!("validating label {domain:?}: {m}")),
    );
    if !domain.contains('.') {
        e.bad(a, "should be a domain with at least two segments separated by dots");
    }
    e.each(
        a,
        name,
        names::dns1123_subdomain(path).into_iter().map(|m| format!("validating label {path:?}: {m}")),
    );
    if name.len() > 571 {
        e.too_long(a, 571);
    }
}

/// CertificateSigningRequest.
pub fn csr(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let usages = spec.get("usages");
    if usages.is_empty() {
        e.required(&usages, "");
    }
    let mut seen = HashSet::new();
    for u in usages.iter() {
        if !USAGES.contains(&u.str()) {
            e.not_supported(&u, u.str(), &USAGES);
        }
        if !seen.insert(u.str()) {
            e.duplicate(&u, u.str());
        }
    }
    let request = spec.get("request");
    if request.str().is_empty() {
        e.bad(&request, "PEM block type must be CERTIFICATE REQUEST");
    } else {
        use base64::Engine;
        let pem = base64::engine::general_purpose::STANDARD.decode(request.str()).unwrap_or_default();
        let begins = String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE REQUEST-----");
        if !begins {
            e.bad(&request, "PEM block type must be CERTIFICATE REQUEST");
        }
    }
    signer_name(&spec.get("signerName"), e);
    let seconds = spec.get("expirationSeconds");
    if seconds.int().is_some_and(|s| s < 600) {
        e.bad(&seconds, "may not specify a duration less than 600 seconds (10 minutes)");
    }
    conditions(&root, e);
}

fn conditions(root: &At, e: &mut ErrorList) {
    let status = root.get("status");
    let list = status.get("conditions");
    let mut seen = HashSet::new();
    for c in list.iter() {
        let kind = c.get("type");
        required(&kind, e);
        if matches!(kind.str(), "Approved" | "Denied" | "Failed") && c.s("status") != "True" {
            let s = c.get("status");
            if s.str().is_empty() {
                e.required(&s, "");
            } else {
                e.not_supported(&s, s.str(), &["True"]);
            }
        }
        if !seen.insert(kind.str()) {
            e.duplicate(&kind, kind.str());
        }
    }
    if seen.contains("Approved") && seen.contains("Denied") {
        e.invalid(&list, "Denied", "Approved and Denied conditions are mutually exclusive");
    }
}

/// `sub` is empty, `status` or `approval`.
pub fn csr_update(n: &Value, o: &Value, sub: &str, e: &mut ErrorList) {
    let (root, was) = (At::root(n), At::root(o));
    let (status, before) = (root.get("status"), was.get("status"));
    let list = status.get("conditions");
    let find = |s: &At, kind: &str| -> Option<Value> {
        s.get("conditions").list().iter().find(|c| c["type"] == kind).cloned()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        let (now, then) = (find(&status, kind), find(&before, kind));
        let may_add = if kind == "Failed" { sub == "status" } else { sub == "approval" };
        match (now, then) {
            (None, Some(_)) => {
                e.forbidden(&list, &format!("updates may not remove a condition of type {kind:?}"))
            }
            (Some(_), None) if !may_add => {
                e.forbidden(&list, &format!("updates may not add a condition of type {kind:?}"));
            }
            (Some(a), Some(b)) if !same(&a, &b) && !may_add => {
                e.forbidden(&list, &format!("updates may not modify a condition of type {kind:?}"));
            }
            _ => {}
        }
    }
    let certificate = status.get("certificate");
    if certificate.str() != before.s("certificate") {
        if sub != "status" {
            e.forbidden(&certificate, "updates may not set certificate content");
        } else if !before.s("certificate").is_empty() {
            e.forbidden(&certificate, "updates may not modify existing certificate content");
        }
    }
    conditions(&root, e);
}

/// ClusterTrustBundle.
pub fn trust_bundle(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let meta = root.get("metadata");
    let (signer, name) = (spec.get("signerName"), meta.get("name"));
    if signer.str().is_empty() {
        if name.str().contains(':') {
            e.bad(&name, "ClusterTrustBundle without signer name must not have \":\" in its name");
        } else {
            format(&name, names::dns1123_subdomain, e);
        }
    } else {
        signer_name(&signer, e);
        let prefix = format!("{}:", signer.str().replace('/', ":"));
        if !name.str().starts_with(&prefix) {
            let why = format!(
                "ClusterTrustBundle for signerName {} must be named with prefix {prefix}",
                signer.str()
            );
            e.bad(&name, &why);
        }
    }
    if spec.s("trustBundle").is_empty() {
        e.bad(&spec.get("trustBundle"), "at least one trust anchor must be provided");
    }
}
pub fn trust_bundle_update(n: &Value, o: &Value, e: &mut ErrorList) {
    trust_bundle(n, e);
    let (root, was) = (At::root(n), At::root(o));
    e.immutable(&root.get("spec").get("signerName"), was.get("spec").raw("signerName"));
}
