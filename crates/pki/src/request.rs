//! A fresh key and a certificate request signed with it: one that says nothing but that its sender has the key, for pods,
//! and the ones of a node, for its client and its serving certificate.

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use crate::Error;
use crate::trust::pem_block;

/// The names of key types, as volumes of pods bear them, that keys can be made of here.
pub const KEY_TYPES: [&str; 3] = ["ECDSAP256", "ECDSAP384", "ED25519"];

/// A key (PKCS#8, PEM) and an empty PKCS#10 request (DER) signed with it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRequest {
    pub key: String,
    pub request: Vec<u8>,
}

impl std::fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyRequest(…)")
    }
}

pub fn key_and_request(key_type: &str) -> Result<KeyRequest, Error> {
    let algorithm = match key_type {
        "ECDSAP256" => &rcgen::PKCS_ECDSA_P256_SHA256,
        "ECDSAP384" => &rcgen::PKCS_ECDSA_P384_SHA384,
        "ED25519" => &rcgen::PKCS_ED25519,
        other => {
            return Err(Error::KeyType { wanted: other.to_owned(), known: KEY_TYPES.join(", ") });
        }
    };
    let fail = |source| Error::Issue { name: "a pod".into(), source };
    let key = KeyPair::generate_for(algorithm).map_err(fail)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(fail)?.der().to_vec();
    Ok(KeyRequest { key: pem_block("PRIVATE KEY", &plain(key_type, key.serialized_der())), request })
}

/// A key and the request of a node for a certificate: for its client certificate without names and addresses, for its serving
/// certificate with them.
pub fn node_request(node: &str, names: &[&str], addresses: &[IpAddr]) -> Result<KeyRequest, Error> {
    let user = format!("system:node:{node}");
    let fail = |source| Error::Issue { name: user.clone(), source };
    let key = KeyPair::generate().map_err(fail)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, user.as_str());
    for name in names {
        params.subject_alt_names.push(SanType::DnsName((*name).try_into().map_err(fail)?));
    }
    params.subject_alt_names.extend(addresses.iter().map(|a| SanType::IpAddress(*a)));
    let request = params.serialize_request(&key).map_err(fail)?.der().to_vec();
    Ok(KeyRequest { key: key.serialize_pem(), request })
}

/// ring writes Ed25519 keys with the public half behind them, which older readers do not know.
fn plain(key_type: &str, der: &[u8]) -> Vec<u8> {
    const HEAD: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
    match (key_type, der.get(HEAD.len()..HEAD.len() + 32)) {
        ("ED25519", Some(seed)) => [&HEAD[..], seed].concat(),
        _ => der.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    #[test]
    fn requests_say_nothing_but_the_key() {
        for kind in KEY_TYPES {
            let made = key_and_request(kind).expect(kind);
            let again = KeyPair::from_pem(&made.key).expect("a key that is read again");
            let (rest, csr) = X509CertificationRequest::from_der(&made.request).expect("request");
            assert!(rest.is_empty());
            let info = &csr.certification_request_info;
            assert_eq!(info.subject.iter().count() + info.iter_attributes().count(), 0, "{kind}");
            assert_eq!(&*info.subject_pki.subject_public_key.data, again.public_key_raw(), "{kind}");
            assert_ne!(made.key, key_and_request(kind).expect(kind).key);
        }
        let refused = key_and_request("RSA3072").expect_err("no such keys").to_string();
        assert!(refused.contains("RSA3072") && refused.contains("ECDSAP256"), "{refused}");
    }
}
