//! Who a client certificate belongs to. The handshake asks for a certificate and proves that the peer holds its key,
//! but does not judge it: a stranger's certificate has to end in 401 with a Status, not in a broken handshake.
//! [`ClientTrust::identify`] judges it once per connection.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Error;

/// The attribute that carries a user's uid.
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

/// What a verified client certificate says about its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertIdentity {
    pub user: String,
    pub groups: Vec<String>,
    pub uid: String,
    /// Unix seconds; a connection may outlive its certificate.
    pub not_after: i64,
    /// Hex SHA-256 of the certificate, as `authentication.kubernetes.io/credential-id` names it.
    pub fingerprint: String,
}

/// The provider that every TLS end of Kelson uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// All certificates of a PEM text.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(v) if !v.is_empty() => Ok(v),
        Ok(_) => Err(Error::Certificate("no certificate in the PEM text".into())),
        Err(e) => Err(Error::Certificate(e.to_string())),
    }
}

/// Certificates as PEM text.
pub fn to_pem<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> String {
    certificates.into_iter().map(|der| pem_block("CERTIFICATE", der)).collect()
}

/// One PEM block.
pub fn pem_block(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let mut out = format!("-----BEGIN {label}-----\n");
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out + &format!("-----END {label}-----\n")
}

/// `sha256:…` of a certificate's public key, by which a machine that joins knows the cluster's authority (as kubeadm has it).
pub fn public_key_hash(der: &[u8]) -> Result<String, Error> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| Error::Certificate(e.to_string()))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, cert.public_key().raw);
    Ok(format!("sha256:{}", digest.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>()))
}

/// The authorities whose client certificates count.
#[derive(Debug, Clone)]
pub struct ClientTrust {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientTrust {
    pub fn new(ca_pem: &str) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for c in certificates(ca_pem)? {
            roots.add(c)?;
        }
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|e| Error::Certificate(e.to_string()))?;
        Ok(Self { inner })
    }

    /// The owner of the first certificate, when the chain leads to a trusted authority at `now`.
    pub fn identify(&self, chain: &[CertificateDer<'_>], now: i64) -> Result<CertIdentity, Error> {
        let (leaf, rest) = chain.split_first().ok_or_else(|| Error::Certificate("no certificate".into()))?;
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(now).unwrap_or(0)));
        self.inner.verify_client_cert(leaf, rest, at)?;
        parse_identity(leaf)
    }
}

/// Reads subject and end of a certificate without judging it.
pub fn parse_identity(der: &[u8]) -> Result<CertIdentity, Error> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| Error::Certificate(e.to_string()))?;
    let texts = |oid: &str| -> Vec<String> {
        cert.subject()
            .iter_attributes()
            .filter(|a| a.attr_type().to_id_string() == oid)
            .filter_map(|a| a.as_str().ok().map(str::to_owned))
            .collect()
    };
    let user = texts("2.5.4.3").into_iter().next().unwrap_or_default();
    if user.is_empty() {
        return Err(Error::Certificate("the subject has no common name".into()));
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    Ok(CertIdentity {
        user,
        groups: texts("2.5.4.10"),
        uid: texts(UID_OID).into_iter().next().unwrap_or_default(),
        not_after: cert.validity().not_after.timestamp(),
        fingerprint: digest.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
    })
}

/// From when until when a certificate holds, in Unix seconds.
pub fn validity(der: &[u8]) -> Result<(i64, i64), Error> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| Error::Certificate(e.to_string()))?;
    Ok((cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp()))
}

/// The addresses that a server's certificate names.
pub fn addresses(der: &[u8]) -> Result<Vec<IpAddr>, Error> {
    let bad = |e: &dyn std::fmt::Display| Error::Certificate(e.to_string());
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| bad(&e))?;
    let names = cert.subject_alternative_name().map_err(|e| bad(&e))?;
    let all = names.iter().flat_map(|n| &n.value.general_names);
    Ok(all
        .filter_map(|n| match n {
            GeneralName::IPAddress(raw) => address(raw),
            _ => None,
        })
        .collect())
}

/// An address as certificates hold them.
pub fn address(raw: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(raw).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(raw).map(IpAddr::from)).ok()
}

/// The verifier of the listener: offers client authentication, demands none, and accepts any certificate whose key
/// the peer holds.
#[derive(Debug)]
pub struct RequestClientCert {
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl RequestClientCert {
    /// `ca_pem`: the authorities to hint at, so that clients with several certificates choose well.
    pub fn new(ca_pem: &str) -> Result<Arc<Self>, Error> {
        let mut roots = RootCertStore::empty();
        for c in certificates(ca_pem)? {
            roots.add(c)?;
        }
        Ok(Arc::new(Self {
            hints: roots.subjects(),
            algorithms: provider().signature_verification_algorithms,
        }))
    }
}

impl ClientCertVerifier for RequestClientCert {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
