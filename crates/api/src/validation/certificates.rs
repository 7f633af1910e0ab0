//! certificates.k8s.io: CertificateSigningRequest, ClusterTrustBundle.

use super::at::At;
use super::common::{format, one_of, required};
use super::errors::{ErrorList, quote, same};
use super::{names, pem};
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

/// Whether the signer is one of Kubernetes' own.
pub fn is_kubernetes_signer(name: &str) -> bool {
    name.split('/').next().is_some_and(|d| d == "kubernetes.io" || d.ends_with(".kubernetes.io"))
}

/// Signers: a domain and a path.
pub fn signer_name(a: &At, e: &mut ErrorList) {
    const LONGEST: usize = 253 + 1 + 63 + 1 + 253;
    let name = a.str();
    if !required(a, e) {
        return;
    }
    let (domain, path) = match name.split_once('/') {
        Some((d, p)) if !p.contains('/') => (d, p),
        _ => {
            e.bad(a, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
            return;
        }
    };
    // Only the first label that is wrong is told.
    let labels = |part: &str, rule: fn(&str) -> names::Messages, e: &mut ErrorList| {
        let wrong = part.split('.').map(|l| (l, rule(l))).find(|(_, m)| !m.is_empty());
        if let Some((l, messages)) = wrong {
            e.each(a, part, messages.into_iter().map(|m| format!("validating label {}: {m}", quote(l))));
        }
    };
    if domain.len() > 253 {
        e.too_long(a, 253);
    }
    labels(domain, names::dns1123_label, e);
    if !domain.contains('.') {
        e.invalid(a, domain, "should be a domain with at least two segments separated by dots");
    }
    labels(path, names::dns1123_subdomain, e);
    if name.len() > LONGEST {
        e.too_long(a, LONGEST);
    }
}

const LEGACY: &str = "kubernetes.io/legacy-unknown";
/// Conditions that are decisions: they are true or not there.
const DECISIONS: [&str; 3] = ["Approved", "Denied", "Failed"];

/// What a stored request does that a new one may not.
#[derive(Default, Clone, Copy)]
struct Tolerated {
    both: bool,
    legacy_signer: bool,
    repeated_conditions: bool,
    empty_condition: bool,
    any_certificate: bool,
    repeated_usages: bool,
    unknown_usages: bool,
}

impl Tolerated {
    fn by(old: &At, new: &At) -> Self {
        let (spec, status) = (old.get("spec"), old.get("status"));
        let usages: Vec<&str> = spec.get("usages").list().iter().filter_map(Value::as_str).collect();
        let conditions = status.get("conditions");
        let kinds: Vec<&str> =
            conditions.list().iter().map(|c| c["type"].as_str().unwrap_or_default()).collect();
        let repeated = |l: &[&str]| l.iter().collect::<HashSet<_>>().len() < l.len();
        let certificate = status.s("certificate");
        Self {
            both: kinds.contains(&"Approved") && kinds.contains(&"Denied"),
            legacy_signer: spec.s("signerName") == LEGACY,
            repeated_conditions: repeated(&kinds),
            empty_condition: kinds.contains(&""),
            any_certificate: new.get("status").s("certificate") == certificate
                || issued(certificate).is_err(),
            repeated_usages: repeated(&usages),
            unknown_usages: usages.iter().any(|u| !USAGES.contains(u)),
        }
    }
}

/// The certificate of a status: blocks of certificates and nothing else.
fn issued(base64: &str) -> Result<(), String> {
    if base64.is_empty() {
        return Ok(());
    }
    let blocks = pem::blocks(&pem::decoded(base64));
    for b in &blocks {
        if b.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {}", quote(&b.label)));
        }
        if b.headers {
            return Err("no PEM block headers are permitted".into());
        }
        pem::certificates(&b.bytes)?;
    }
    if blocks.is_empty() { Err("must contain at least one CERTIFICATE PEM block".into()) } else { Ok(()) }
}

/// CertificateSigningRequest.
pub fn csr(o: &Value, e: &mut ErrorList) {
    let tolerated = Tolerated::default();
    request(&At::root(o), tolerated, e);
    not_both(&At::root(o), tolerated, e);
}

fn request(root: &At, old: Tolerated, e: &mut ErrorList) {
    let spec = root.get("spec");
    let (asked, usages) = (spec.get("request"), spec.get("usages"));
    if let Err(why) = pem::signing_request(&pem::decoded(asked.str())) {
        e.bad(&asked, &why);
    }
    if usages.is_empty() {
        e.required(&usages, "");
    }
    for u in usages.iter().filter(|u| !old.unknown_usages && !USAGES.contains(&u.str())) {
        e.not_supported(&u, u.str(), &USAGES);
    }
    let mut seen = HashSet::new();
    for u in usages.iter() {
        if !seen.insert(u.str()) && !old.repeated_usages {
            e.duplicate(&u, u.str());
        }
    }
    let signer = spec.get("signerName");
    if signer.str() == LEGACY && !old.legacy_signer {
        e.bad(&signer, "the legacy signerName is not allowed via this API version");
    } else {
        signer_name(&signer, e);
    }
    let seconds = spec.get("expirationSeconds");
    if seconds.int().is_some_and(|s| s < 600) {
        e.bad(&seconds, "may not specify a duration less than 600 seconds (10 minutes)");
    }
    let status = root.get("status");
    conditions(&status.get("conditions"), old, e);
    if let Err(why) = issued(status.s("certificate"))
        && !old.any_certificate
    {
        e.invalid(&status.at("certificate"), "<certificate data>", &why);
    }
}

fn conditions(list: &At, old: Tolerated, e: &mut ErrorList) {
    let mut seen = HashSet::new();
    for c in list.iter() {
        let (kind, status) = (c.get("type"), c.get("status"));
        if !old.empty_condition {
            required(&kind, e);
        }
        let allowed: &[&str] =
            if DECISIONS.contains(&kind.str()) { &["True"] } else { &["False", "True", "Unknown"] };
        one_of(&status, allowed, e);
        if !seen.insert(kind.str()) && !old.repeated_conditions {
            e.duplicate(&kind, kind.str());
        }
    }
}

/// Of two decisions there is one.
fn not_both(root: &At, old: Tolerated, e: &mut ErrorList) {
    let status = root.get("status");
    let list = status.get("conditions");
    let has = |kind: &str| list.list().iter().any(|c| c["type"] == kind);
    if has("Approved") && has("Denied") && !old.both {
        let [a, b] = ["Approved", "Denied"].map(|k| format!("conditions[{{\"type\": \"{k}\"}}]"));
        e.invalid(&list, format!("{{{a}, {b}}}"), &format!("must specify at most one of: `{a}`, `{b}`"));
    }
}

/// `sub` is empty, `status` or `approval`.
pub fn csr_update(n: &Value, o: &Value, sub: &str, e: &mut ErrorList) {
    let (root, was) = (At::root(n), At::root(o));
    let tolerated = Tolerated::by(&was, &root);
    request(&root, tolerated, e);
    let (status, before) = (root.get("status"), was.get("status"));
    let list = status.get("conditions");
    let find = |s: &At, kind: &str| -> Vec<Value> {
        s.get("conditions").list().iter().filter(|c| c["type"] == kind).cloned().collect()
    };
    for kind in DECISIONS {
        if find(&status, kind).len() < find(&before, kind).len() {
            e.forbidden(&list, &format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    for kind in ["Approved", "Denied"].into_iter().filter(|_| sub != "approval") {
        let (now, then) = (find(&status, kind), find(&before, kind));
        if now.len() > then.len() {
            e.forbidden(&list, &format!("updates may not add a condition of type {kind:?}"));
        } else if now.len() == then.len() && !now.iter().zip(&then).all(|(a, b)| same(a, b)) {
            e.forbidden(&list, &format!("updates may not modify a condition of type {kind:?}"));
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
    not_both(&root, tolerated, e);
}

/// ClusterTrustBundle.
pub fn trust_bundle(o: &Value, e: &mut ErrorList) {
    bundle(&At::root(o), true, e);
}

fn bundle(root: &At, anchors: bool, e: &mut ErrorList) {
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
        let prefix = format!("{}:", signer.str().replace('/', ":"));
        if !name.str().starts_with(&prefix) {
            let why = format!(
                "ClusterTrustBundle for signerName {} must be named with prefix {prefix}",
                signer.str()
            );
            e.bad(&name, &why);
        }
        signer_name(&signer, e);
    }
    if anchors {
        trust_anchors(&spec.get("trustBundle"), e);
    }
}

/// Certificates of authorities, each once.
fn trust_anchors(a: &At, e: &mut ErrorList) {
    const LARGEST: usize = 1024 * 1024;
    const OMITTED: &str = "<value omitted>";
    if a.str().len() > LARGEST {
        e.too_long(a, LARGEST);
        return;
    }
    let blocks = pem::blocks(a.str());
    let before = e.len();
    for (i, b) in blocks.iter().enumerate() {
        let why = if b.label != "CERTIFICATE" {
            format!("entry {i} has bad block type: {}", b.label)
        } else if b.headers {
            format!("entry {i} has PEM block headers")
        } else {
            match pem::authority(&b.bytes) {
                None => format!("entry {i} does not parse as X.509"),
                Some(false) => format!("entry {i} does not have the CA bit set"),
                Some(true) => continue,
            }
        };
        e.invalid(a, OMITTED, &why);
    }
    if e.len() > before {
        return;
    }
    if blocks.is_empty() {
        e.invalid(a, OMITTED, "at least one trust anchor must be provided");
    }
    for (i, b) in blocks.iter().enumerate() {
        let alike: Vec<String> =
            (i..blocks.len()).filter(|j| blocks[*j] == *b).map(|j| j.to_string()).collect();
        if alike.len() > 1 && !blocks[..i].contains(b) {
            e.invalid(a, OMITTED, &format!("duplicate trust anchor (indices [{}])", alike.join(" ")));
        }
    }
}

pub fn trust_bundle_update(n: &Value, o: &Value, e: &mut ErrorList) {
    let (root, was) = (At::root(n), At::root(o));
    let (spec, before) = (root.get("spec"), was.get("spec"));
    bundle(&root, spec.s("trustBundle") != before.s("trustBundle"), e);
    e.immutable(&spec.get("signerName"), before.raw("signerName"));
}
