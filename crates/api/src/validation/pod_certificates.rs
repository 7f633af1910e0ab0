//! certificates.k8s.io: PodCertificateRequest. What a kubelet asks for, signed with the key it asks for; and what a signer
//! may answer, once. That an issued certificate begins now is for whoever has a clock.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::at::At;
use super::certificates::{is_kubernetes_signer, signer_name};
use super::common::{conditions, format};
use super::errors::{ErrorList, same};
use super::{meta, names, pem};
use crate::time;

const LONGEST_UID: usize = 128;
const LONGEST_KEY: usize = 10 * 1024;
const LONGEST_CHAIN: usize = 100 * 1024;
/// How long a certificate may be asked for: an hour at least; at most a day from the cluster's own signers, else 91 days.
pub const SHORTEST_LIFE: i64 = 3600;
/// Between the first and the last ten minutes of a certificate, another one is asked for.
const MARGIN: i64 = 600;
const DECISIONS: [&str; 3] = ["Issued", "Denied", "Failed"];

/// The longest life that may be asked of a signer, in seconds.
pub fn longest_life(signer: &str) -> i64 {
    if is_kubernetes_signer(signer) { 86_400 } else { 91 * 86_400 }
}

/// What pod authors tell a signer: keys like those of annotations, and with a domain.
pub fn user_annotations(a: &At, e: &mut ErrorList) {
    let mut total = 0;
    for (k, v) in a.entries() {
        total += k.len() + v.str().len();
        let key = k.to_lowercase();
        let wrong = names::qualified_name(&key);
        if key.is_empty() {
            e.required(a, "");
        } else if wrong.is_empty() && !key.contains('/') {
            e.invalid(a, &key, "must be a domain-prefixed key (such as \"acme.io/foo\")");
        } else {
            e.each(a, &key, wrong);
        }
    }
    if total > meta::MAX_ANNOTATIONS {
        e.too_long(a, meta::MAX_ANNOTATIONS);
    }
}

pub fn create(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let signer = spec.get("signerName");
    signer_name(&signer, e);
    user_annotations(&spec.get("unverifiedUserAnnotations"), e);
    for who in ["pod", "serviceAccount", "node"] {
        let (name, uid) = (format!("{who}Name"), format!("{who}UID"));
        format(&spec.get(&name), names::dns1123_subdomain, e);
        let uid = spec.get(&uid);
        if uid.str().is_empty() {
            e.invalid(&uid, "", "must not be empty");
        }
        if uid.str().len() > LONGEST_UID {
            e.too_long(&uid, LONGEST_UID);
        }
    }
    let seconds = spec.get("maxExpirationSeconds");
    let Some(asked) = seconds.int() else {
        e.required(&seconds, "must be set");
        return;
    };
    let longest = longest_life(signer.str());
    if !(SHORTEST_LIFE..=longest).contains(&asked) {
        e.bad(&seconds, &format!("must be in the range [{SHORTEST_LIFE}, {longest}]"));
    }
    let given = ["stubPKCS10Request", "pkixPublicKey", "proofOfPossession"].map(|f| !spec.s(f).is_empty());
    match given {
        [true, false, false] => request(&spec.get("stubPKCS10Request"), e),
        [false, true, true] => public_key(&spec, e),
        _ => e.wrong(
            &spec,
            "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set",
        ),
    }
}

pub fn update(n: &Value, o: &Value, e: &mut ErrorList) {
    let (root, was) = (At::root(n), At::root(o));
    let spec = root.get("spec");
    if !same(spec.v, was.raw("spec")) {
        e.bad_as("PodCertificateRequestSpec", &spec, super::IMMUTABLE);
    }
}

/// A certificate request that is signed with the key it names; what else it says is the signer's affair.
fn request(a: &At, e: &mut ErrorList) {
    let der = bytes(a);
    if der.len() > LONGEST_KEY {
        e.too_long(a, LONGEST_KEY);
        return;
    }
    let Some(csr) = parsed_request(&der) else {
        e.wrong(a, "must be a valid PKCS#10 CSR");
        return;
    };
    match kind(&csr.certification_request_info.subject_pki) {
        None => e.wrong(a, "must be a valid PKCS#10 CSR"),
        Some(k) if !allowed(k, a, "P256, P384, or P521", e) => {}
        // Nothing here reckons on that curve.
        Some(Key::Curve("P-521")) => e.wrong(a, "signatures with ECDSAP521 keys can't be verified here"),
        Some(_) => {
            if csr.verify_signature().is_err() {
                e.wrong(a, "invalid signature");
            }
        }
    }
}

/// The older way: the key alone, and the pod's uid signed with it.
fn public_key(spec: &At, e: &mut ErrorList) {
    use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
    let (given, proof) = (spec.get("pkixPublicKey"), spec.get("proofOfPossession"));
    let (der, signed) = (bytes(&given), bytes(&proof));
    for (a, b) in [(&given, &der), (&proof, &signed)] {
        if b.len() > LONGEST_KEY {
            e.too_long(a, LONGEST_KEY);
            return;
        }
    }
    let known = parsed_key(&der).and_then(|k| Some((kind(&k)?, k)));
    let Some((kind, key)) = known else {
        e.bad(&given, "must be a valid PKIX-serialized public key");
        return;
    };
    if !allowed(kind, &given, "P256 or P384", e) {
        return;
    }
    let how: &dyn VerificationAlgorithm = match kind {
        Key::Ed25519 => &signature::ED25519,
        Key::Rsa(_) => &signature::RSA_PSS_2048_8192_SHA256,
        Key::Curve("P-256") => &signature::ECDSA_P256_SHA256_ASN1,
        Key::Curve("P-384") => &signature::ECDSA_P384_SHA256_ASN1,
        _ => {
            e.wrong(&proof, "signatures with ECDSAP521 keys can't be verified here");
            return;
        }
    };
    let key = UnparsedPublicKey::new(how, &key.subject_public_key.data);
    if key.verify(spec.s("podUID").as_bytes(), &signed).is_err() {
        e.wrong(&proof, "could not verify proof-of-possession signature");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Ed25519,
    Curve(&'static str),
    /// Bits of the modulus.
    Rsa(usize),
    Other,
}

/// `None`: of a family that is known, and yet not readable.
fn kind(key: &SubjectPublicKeyInfo) -> Option<Key> {
    Some(match key.algorithm.algorithm.to_id_string().as_str() {
        "1.3.101.112" => Key::Ed25519,
        "1.2.840.10045.2.1" => {
            let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
            Key::Curve(match curve.as_str() {
                "1.3.132.0.33" => "P-224",
                "1.2.840.10045.3.1.7" => "P-256",
                "1.3.132.0.34" => "P-384",
                "1.3.132.0.35" => "P-521",
                _ => return None,
            })
        }
        "1.2.840.113549.1.1.1" => match key.parsed() {
            Ok(x509_parser::public_key::PublicKey::RSA(rsa)) => {
                Key::Rsa(8 * rsa.modulus.iter().skip_while(|b| **b == 0).count())
            }
            _ => return None,
        },
        _ => Key::Other,
    })
}

fn allowed(key: Key, at: &At, curves: &str, e: &mut ErrorList) -> bool {
    match key {
        Key::Ed25519 | Key::Curve("P-256" | "P-384" | "P-521") | Key::Rsa(3072 | 4096) => return true,
        Key::Curve(c) => {
            e.invalid(at, format!("curve {c}"), &format!("elliptic public keys must use curve {curves}"))
        }
        Key::Rsa(bits) => {
            e.invalid(at, format!("{bits}-bit modulus"), "RSA keys must have modulus size 3072 or 4096")
        }
        Key::Other => {
            e.wrong(at, "unknown public key type; supported types are Ed25519, ECDSA, and RSA");
        }
    }
    false
}

fn bytes(a: &At) -> Vec<u8> {
    STANDARD.decode(a.str()).unwrap_or_default()
}

fn parsed_request(der: &[u8]) -> Option<X509CertificationRequest<'_>> {
    X509CertificationRequest::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, csr)| csr)
}

fn parsed_key(der: &[u8]) -> Option<SubjectPublicKeyInfo<'_>> {
    SubjectPublicKeyInfo::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, key)| key)
}

fn is(status: &At, kind: &str) -> bool {
    status.get("conditions").list().iter().any(|c| c["type"] == kind && c["status"] == "True")
}

/// A signer decides once: it issues, denies or fails.
pub fn status(n: &Value, o: &Value, e: &mut ErrorList) {
    let before = e.len();
    let (root, was) = (At::root(n), At::root(o));
    let (status, old) = (root.get("status"), was.get("status"));
    let list = status.get("conditions");
    let mut known = 0;
    for (i, c) in list.list().iter().enumerate() {
        // The place as upstream writes it.
        let index = format!("[{i}]");
        let c = At::new(c, list.at(&index));
        let (kind, state) = (c.get("type"), c.get("status"));
        if !DECISIONS.contains(&kind.str()) {
            e.not_supported(&kind, kind.str(), &DECISIONS);
            continue;
        }
        known += 1;
        if known > 1 {
            e.bad(
                &kind,
                "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"",
            );
        }
        if state.str() != "True" {
            e.not_supported(&state, state.str(), &["True"]);
        }
    }
    conditions(&list, e);
    if e.len() > before {
        return;
    }
    let (now, then) = (status.v, old.v);
    if DECISIONS.iter().any(|d| is(&old, d)) {
        if !same(now, then) {
            e.wrong(&status, "immutable after PodCertificateRequest is issued, denied, or failed");
        }
    } else if is(&status, "Denied") || is(&status, "Failed") {
        if !same(now, &json!({"conditions": list.v})) {
            let why =
                "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            e.wrong(&status, why);
        }
    } else if is(&status, "Issued") {
        issued(&was.get("spec"), &status, e);
    } else if !same(now, then) {
        e.wrong(&status, "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"");
    }
}

/// The chain, and the times that are told beside it. The first fault is told.
fn issued(spec: &At, status: &At, e: &mut ErrorList) {
    let chain = status.get("certificateChain");
    if chain.str().len() > LONGEST_CHAIN {
        e.too_long(&chain, LONGEST_CHAIN);
        return;
    }
    let blocks = pem::blocks(chain.str());
    let Some(first) = blocks.first() else {
        e.invalid(&chain, chain.str(), "issued certificate chain must contain at least one certificate");
        return;
    };
    if first.label != "CERTIFICATE" {
        e.bad(&chain, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks");
        return;
    }
    let Some(leaf) = pem::certificate(&first.bytes) else {
        e.bad(&chain, "leaf certificate does not parse as valid X.509");
        return;
    };
    named(&leaf, &chain, e);
    let before = e.len();
    key_is_the_one_asked_for(spec, &leaf, &chain, e);
    if e.len() > before || !times(spec, status, &leaf, e) {
        return;
    }
    for b in &blocks[1..] {
        if b.label != "CERTIFICATE" {
            e.bad(&chain, "issued certificate chain must consist entirely of CERTFICATE PEM blocks");
            return;
        }
        if pem::certificate(&b.bytes).is_none() {
            e.bad(&chain, "intermediate certificate does not parse as valid X.509");
            return;
        }
    }
}

/// The names that a leaf bears.
fn named(leaf: &X509Certificate<'_>, chain: &At, e: &mut ErrorList) {
    let names = leaf.extensions().iter().filter_map(|x| match x.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(n) => Some(&n.general_names),
        _ => None,
    });
    for n in names.flatten() {
        match n {
            GeneralName::DNSName(d) => {
                let faults = [
                    (d.is_empty(), "leaf certificate should not contain empty DNSName"),
                    (d.contains(".."), "leaf certificate's DNSName should not contain '..'"),
                    (
                        d.starts_with('.') || d.ends_with('.'),
                        "leaf certificate's DNSName should not start or end with '.'",
                    ),
                ];
                for (_, why) in faults.into_iter().filter(|(wrong, _)| *wrong) {
                    e.invalid(chain, *d, why);
                }
            }
            GeneralName::RFC822Name(m) => {
                let parts = m.rsplit_once('@');
                let plain = |p: &str| !p.is_empty() && !p.contains(char::is_whitespace);
                if !parts.is_some_and(|(user, host)| plain(user) && plain(host)) {
                    e.invalid(chain, *m, "leaf certificate should not contain invalid EmailAddress");
                }
            }
            _ => {}
        }
    }
}

fn key_is_the_one_asked_for(spec: &At, leaf: &X509Certificate<'_>, chain: &At, e: &mut ErrorList) {
    let asked = spec.get("stubPKCS10Request");
    let (der, given) = (bytes(&asked), spec.get("pkixPublicKey"));
    let key = bytes(&given);
    let wanted = if der.is_empty() {
        parsed_key(&key)
    } else {
        parsed_request(&der).map(|r| r.certification_request_info.subject_pki)
    };
    let Some(wanted) = wanted else {
        if der.is_empty() {
            e.wrong(&given, "must be a valid PKIX-serialized public key");
        } else {
            e.wrong(&asked, "must be a valid PKCS#10 CSR");
        }
        return;
    };
    let has = leaf.public_key();
    if has.subject_public_key.data != wanted.subject_public_key.data || kind(has) != kind(&wanted) {
        e.bad(chain, "leaf certificate was not issued to the requested public key");
    }
}

/// Whether the times are all there, agree with the leaf, and leave room.
fn times(spec: &At, status: &At, leaf: &X509Certificate<'_>, e: &mut ErrorList) -> bool {
    let consistent = "must be present and consistent with the issued certificate";
    let refresh_range = "must be present and in the range [notbefore+10min, notafter-10min]";
    let fields = [("notBefore", consistent), ("notAfter", consistent), ("beginRefreshAt", refresh_range)];
    let read = fields.map(|(f, why)| {
        let at = time::parse(status.s(f)).ok().map(Timestamp::as_second);
        if at.is_none() {
            e.required(&status.at(f), why);
        }
        at
    });
    let [Some(from), Some(to), Some(refresh)] = read else { return false };
    let validity = leaf.validity();
    let (begins, ends) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let life = ends - begins;
    let nanos = life.saturating_mul(1_000_000_000);
    let most = spec.i("maxExpirationSeconds").unwrap_or(0);
    let chain = status.at("certificateChain");
    if from != begins {
        e.bad(&status.get("notBefore"), "must be set to the NotBefore time encoded in the leaf certificate");
    } else if to != ends {
        e.bad(&status.get("notAfter"), "must be set to the NotAfter time encoded in the leaf certificate");
    } else if life < SHORTEST_LIFE {
        e.invalid(&chain, nanos, "leaf certificate lifetime must be >= 1 hour");
    } else if life > most {
        let why = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})");
        e.invalid(&chain, nanos, &why);
    } else if refresh < from.saturating_add(MARGIN) {
        e.bad(&status.get("beginRefreshAt"), "must be at least 10 minutes after status.notBefore");
    } else if refresh > to.saturating_sub(MARGIN) {
        e.bad(&status.get("beginRefreshAt"), "must be at least 10 minutes before status.notAfter");
    } else {
        return true;
    }
    false
}
