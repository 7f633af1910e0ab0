//! Whom a TLS client believes: servers that an authority of a PEM bundle stands behind, and servers whose own certificate
//! stands in the bundle. The second is what a bundle of one self-signed certificate means, which is often marked as an
//! authority's (OpenSSL's default); webpki alone takes no such certificate for a server's.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Error, provider};

#[derive(Debug)]
struct Authorities {
    chains: Arc<WebPkiServerVerifier>,
    bundle: Vec<CertificateDer<'static>>,
}

/// What in `bundle` can't be read is left out; at least one certificate has to be readable.
pub fn verifier(bundle: Vec<CertificateDer<'static>>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(bundle.iter().cloned());
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|e| Error::Certificate(e.to_string()))?;
    Ok(Arc::new(Authorities { chains, bundle }))
}

/// A certificate that is trusted as it stands: its dates, its purpose and its names still count.
fn itself(der: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < cert.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > cert.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    let purpose = cert.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    if purpose.is_some_and(|p| !(p.value.any || p.value.server_auth)) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    verify_server_name(&ParsedCertificate::try_from(der)?, name)
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.bundle.iter().any(|c| c.as_ref() == end_entity.as_ref()) {
            itself(end_entity, server_name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

    const NOW: u64 = 1_800_000_000;

    /// A self-signed certificate for `a.test`.
    fn made(authority: bool, purpose: Option<ExtendedKeyUsagePurpose>) -> CertificateDer<'static> {
        let mut p = CertificateParams::new(vec!["a.test".to_owned()]).expect("name");
        p.is_ca = if authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        p.extended_key_usages = purpose.into_iter().collect();
        p.self_signed(&KeyPair::generate().expect("key")).expect("certificate").der().clone()
    }

    fn judged(
        bundle: &CertificateDer<'static>,
        shown: &CertificateDer<'_>,
        name: &str,
        now: u64,
    ) -> Result<(), String> {
        let v = verifier(vec![bundle.clone()]).expect("verifier");
        let name = ServerName::try_from(name).expect("name");
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        v.verify_server_cert(shown, &[], &name, &[], now).map(drop).map_err(|e| format!("{e:?}"))
    }

    #[test]
    fn a_certificate_of_the_bundle_stands_for_itself() {
        for authority in [true, false] {
            let own = made(authority, None);
            assert_eq!(judged(&own, &own, "a.test", NOW), Ok(()), "authority: {authority}");
            assert!(judged(&own, &own, "b.test", NOW).is_err_and(|e| e.contains("NotValidForName")));
            assert!(judged(&own, &own, "a.test", 100).is_err_and(|e| e.contains("NotValidYet")));
            assert!(judged(&own, &own, "a.test", 100_000_000_000).is_err_and(|e| e.contains("Expired")));
            assert!(judged(&own, &made(authority, None), "a.test", NOW).is_err(), "a stranger");
        }
        let client = made(true, Some(ExtendedKeyUsagePurpose::ClientAuth));
        assert!(judged(&client, &client, "a.test", NOW).is_err());
    }

    #[test]
    fn an_authority_stands_behind_what_it_signed() {
        let key = KeyPair::generate().expect("key");
        let mut p = CertificateParams::default();
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = p.self_signed(&key).expect("authority");
        let leaf = CertificateParams::new(vec!["a.test".to_owned()]).expect("name");
        let leaf =
            leaf.signed_by(&KeyPair::generate().expect("key"), &Issuer::from_params(&p, &key)).expect("leaf");
        assert_eq!(judged(ca.der(), leaf.der(), "a.test", NOW), Ok(()));
        assert!(judged(ca.der(), leaf.der(), "b.test", NOW).is_err());
    }
}
