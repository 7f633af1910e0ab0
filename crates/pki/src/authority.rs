//! A certificate authority: an ECDSA P-256 key and its self-signed certificate, and what it issues.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

use crate::Error;

const DAY: i64 = 86_400;
/// How long a new authority holds.
pub const CA_SECONDS: i64 = 3_650 * DAY;
/// How long a leaf certificate holds.
pub const LEAF_SECONDS: i64 = 365 * DAY;
/// Clocks of a cluster differ a little: certificates start in the past.
const BACKDATE: i64 = 3_600;

/// A certificate with its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct CertKey {
    pub cert: String,
    pub key: String,
}

impl std::fmt::Debug for CertKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertKey(…)")
    }
}

/// Whom a certificate names: user (CN) and group (O), as the API server reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organization: Option<String>,
}

impl Subject {
    pub fn new(common_name: impl Into<String>) -> Self {
        Self { common_name: common_name.into(), organization: None }
    }
    pub fn in_group(mut self, group: impl Into<String>) -> Self {
        self.organization = Some(group.into());
        self
    }
}

/// What a leaf certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    Client,
    /// A server that answers under these names; `both` may act as a client as well.
    Server {
        dns: Vec<String>,
        ips: Vec<IpAddr>,
        both: bool,
    },
}

/// Signs certificates.
pub struct Authority {
    cert_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(…)")
    }
}

fn at(unix: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(unix).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn random_serial() -> SerialNumber {
    let mut b: [u8; 16] = rand::random();
    // A positive number of constant length.
    b[0] = (b[0] & 0x7f) | 0x40;
    SerialNumber::from_slice(&b)
}

impl Authority {
    pub fn create(common_name: &str, now: i64) -> Result<Self, Error> {
        let fail = |source| Error::Issue { name: common_name.to_owned(), source };
        let key = KeyPair::generate().map_err(fail)?;
        let mut p = CertificateParams::default();
        p.not_before = at(now - BACKDATE);
        p.not_after = at(now + CA_SECONDS);
        p.serial_number = Some(random_serial());
        p.distinguished_name = DistinguishedName::new();
        p.distinguished_name.push(DnType::CommonName, common_name);
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        p.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let cert_pem = p.self_signed(&key).map_err(fail)?.pem();
        Ok(Self { cert_pem, key_pem: key.serialize_pem(), issuer: Issuer::new(p, key) })
    }

    /// From PEM. Both RSA and ECDSA keys in PKCS#8 will do, so an authority made elsewhere may be put in place.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::from_pem(key_pem)?;
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key)?;
        Ok(Self { cert_pem: cert_pem.to_owned(), key_pem: key_pem.to_owned(), issuer })
    }

    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A fresh key and a certificate for it.
    pub fn issue(&self, subject: &Subject, usage: &Usage, now: i64) -> Result<CertKey, Error> {
        let fail = |source| Error::Issue { name: subject.common_name.clone(), source };
        let key = KeyPair::generate().map_err(fail)?;
        let mut p = CertificateParams::default();
        p.not_before = at(now - BACKDATE);
        p.not_after = at(now + LEAF_SECONDS);
        p.serial_number = Some(random_serial());
        p.use_authority_key_identifier_extension = true;
        p.distinguished_name = DistinguishedName::new();
        if let Some(o) = &subject.organization {
            p.distinguished_name.push(DnType::OrganizationName, o.as_str());
        }
        p.distinguished_name.push(DnType::CommonName, subject.common_name.as_str());
        p.is_ca = IsCa::ExplicitNoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        match usage {
            Usage::Client => p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Server { dns, ips, both } => {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                if *both {
                    p.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
                }
                for d in dns {
                    p.subject_alt_names.push(SanType::DnsName(d.as_str().try_into().map_err(fail)?));
                }
                p.subject_alt_names.extend(ips.iter().map(|i| SanType::IpAddress(*i)));
            }
        }
        let cert = p.signed_by(&key, &self.issuer).map_err(fail)?;
        Ok(CertKey { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// Signs a PKCS#10 request as it stands, for client or server use, good for `seconds`.
    pub fn sign_request(&self, csr_pem: &str, server: bool, seconds: i64, now: i64) -> Result<String, Error> {
        let fail = |source| Error::Issue { name: "a certificate signing request".into(), source };
        let mut r = CertificateSigningRequestParams::from_pem(csr_pem).map_err(fail)?;
        r.params.not_before = at(now - 300);
        r.params.not_after = at(now + seconds);
        r.params.serial_number = Some(random_serial());
        r.params.is_ca = IsCa::ExplicitNoCa;
        r.params.use_authority_key_identifier_extension = true;
        r.params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        r.params.extended_key_usages = vec![if server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        Ok(r.signed_by(&self.issuer).map_err(fail)?.pem())
    }
}
