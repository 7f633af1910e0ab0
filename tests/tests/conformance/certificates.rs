//! The certificates API (test/e2e/auth/certificates.go).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::operations::{Subject, add_condition, has_condition};
use crate::world::{Tests, World, assert_holds};

pub const TESTS: Tests = &[(
    "[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations [Conformance]",
    signing_requests,
)];

fn signing_requests(w: &World) {
    let names = vec!["e2e.example.com".to_owned()];
    let signed = rcgen::generate_simple_self_signed(names.clone()).expect("a certificate");
    let params = rcgen::CertificateParams::new(names).expect("names");
    let request = params.serialize_request(&signed.signing_key).and_then(|r| r.pem()).expect("a request");
    let signer = format!("example.com/{}", w.namespace);
    let subject = Subject {
        api: "certificates.k8s.io/v1",
        resource: "certificatesigningrequests",
        kind: "CertificateSigningRequest",
        subresources: &["approval", "status"],
        selected: &format!("fieldSelector=spec.signerName%3D{}", signer.replace('/', "%2F")),
        object: json!({
            "metadata": {"generateName": format!("{}-", w.namespace)},
            "spec": {
                "request": STANDARD.encode(request),
                "signerName": signer,
                "expirationSeconds": 3600,
                "usages": ["digital signature", "key encipherment", "server auth"],
            },
        }),
        patch: json!({}),
        update: json!({}),
    };
    subject.lives(w, |one, created| {
        assert_eq!(w.get(one)["spec"]["expirationSeconds"], 3600);

        subject.reads(w, one, "/approval", created);
        let annotated = json!({"metadata": {"annotations": {"patchedapproval": "true"}}});
        let mut patch = annotated.clone();
        add_condition(&mut patch, "ApprovalPatch", "True");
        let patched = w.patch(&format!("{one}/approval"), "merge-patch+json", &patch);
        assert_holds(&patched, &annotated);
        assert_eq!(patched["status"]["conditions"].as_array().map(Vec::len), Some(1));
        assert!(has_condition(&patched, "ApprovalPatch"), "{patched}");
        let updated = w.update(one, "/approval", |o| add_condition(o, "Approved", "True"));
        assert_eq!(updated["status"]["conditions"].as_array().map(Vec::len), Some(2));
        assert_eq!(updated["status"]["conditions"][1]["type"], "Approved");

        subject.reads(w, one, "/status", created);
        let patch = json!({
            "metadata": {"annotations": {"patchedstatus": "true"}},
            "status": {"certificate": STANDARD.encode(signed.cert.pem())},
        });
        assert_holds(&w.patch(&format!("{one}/status"), "merge-patch+json", &patch), &patch);
        let updated = w.update(one, "/status", |o| add_condition(o, "StatusUpdate", "True"));
        let conditions = updated["status"]["conditions"].as_array().expect("conditions");
        assert_eq!(conditions.len(), 3);
        assert_eq!(conditions[2]["type"], "StatusUpdate");
    });
}
