//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign for a signer, and
//! that nobody gets a certificate of `system:masters`.

use api::Status;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer, Pem, X509CertificationRequest};

use super::json::text;
use super::{Context, Operation, Plugin, Request};

const GROUP: &str = "certificates.k8s.io";

pub struct CertificateApproval;
pub struct CertificateSigning;
pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }
    fn handles(&self, r: &Request<'_>) -> bool {
        r.is(GROUP, "certificatesigningrequests")
            && r.subresource == "approval"
            && r.operation == Operation::Update
    }
    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        // The stored signer counts: the one in the request may have been changed on the way.
        let signer = r.old.map(|o| text(&o["spec"], "signerName")).unwrap_or_default();
        if cx.authorizer.permits_signer(r.user, "approve", signer).await {
            return Ok(());
        }
        Err(r.forbidden(format!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }
    fn handles(&self, r: &Request<'_>) -> bool {
        r.is(GROUP, "certificatesigningrequests")
            && r.subresource == "status"
            && r.operation == Operation::Update
    }
    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        let Some(old) = r.old else { return Ok(()) };
        let same = |f: &str| old["status"][f] == r.object["status"][f];
        if same("certificate") && same("conditions") {
            return Ok(());
        }
        let signer = text(&old["spec"], "signerName");
        if cx.authorizer.permits_signer(r.user, "sign", signer).await {
            return Ok(());
        }
        Err(r.forbidden(format!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }
    fn handles(&self, r: &Request<'_>) -> bool {
        r.is(GROUP, "certificatesigningrequests")
            && r.subresource.is_empty()
            && r.operation == Operation::Create
    }
    async fn validate(&self, _cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        let spec = &r.object["spec"];
        if text(spec, "signerName") != "kubernetes.io/kube-apiserver-client" {
            return Ok(());
        }
        match in_masters(text(spec, "request")) {
            Err(why) => Err(r.forbidden(format!("failed to parse CSR: {why}"))),
            Ok(true) => Err(r.forbidden(
                "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
            )),
            Ok(false) => Ok(()),
        }
    }
}

fn in_masters(request: &str) -> Result<bool, String> {
    let pem = STANDARD.decode(request).map_err(|e| e.to_string())?;
    let (pem, _) = Pem::read(std::io::Cursor::new(pem)).map_err(|e| e.to_string())?;
    let (_, csr) = X509CertificationRequest::from_der(&pem.contents).map_err(|e| e.to_string())?;
    let subject = &csr.certification_request_info.subject;
    Ok(subject.iter_organization().any(|o| o.as_str() == Ok("system:masters")))
}
