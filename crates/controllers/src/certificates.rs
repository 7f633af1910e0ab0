//! Signs approved certificate signing requests of upstream's own signers, and fails those the signer's rules forbid. The
//! key stays behind `Config::sign`; what a request asks for is read here.

use std::net::IpAddr;
use std::sync::Arc;

use api::resource::CERTIFICATE_REQUESTS as REQUESTS;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use crate::Context;
use crate::skeleton::{self, Key, Next, Queue};

/// How long a certificate holds at most: `--cluster-signing-duration` of upstream.
const LONGEST: i64 = 365 * 86_400;
const SHORTEST: i64 = 600;

/// Signs a request (PEM) for a server or a client, good for some seconds.
#[derive(Clone)]
pub struct Sign(pub Arc<dyn Fn(&str, bool, i64) -> Result<String, String> + Send + Sync>);

impl std::fmt::Debug for Sign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sign(…)")
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct View {
    pub spec: Spec,
    pub status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub request: String,
    pub signer_name: String,
    pub usages: Vec<String>,
    pub expiration_seconds: Option<i64>,
    pub username: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Status {
    pub certificate: String,
    pub conditions: Vec<Value>,
}

impl View {
    pub fn is(&self, condition: &str) -> bool {
        self.status.conditions.iter().any(|c| c["type"] == condition)
    }
    pub fn wish(&self) -> Result<Wish, String> {
        wish(&pem(self))
    }
}

/// What a request asks to be named.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// E-mail addresses, URIs, and what can't be read.
    pub others: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    Sign { server: bool, seconds: i64 },
    Refuse(String),
}

fn wish(pem: &str) -> Result<Wish, String> {
    let block = Pem::iter_from_buffer(pem.as_bytes()).next().and_then(Result::ok).ok_or("no PEM block")?;
    let (_, csr) = X509CertificationRequest::from_der(&block.contents).map_err(|e| e.to_string())?;
    let subject = &csr.certification_request_info.subject;
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().unwrap_or_default().to_owned();
    let mut out = Wish {
        common_name: subject.iter_common_name().next().map(text).unwrap_or_default(),
        organizations: subject.iter_organization().map(text).collect(),
        ..Wish::default()
    };
    for e in csr.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = e else { continue };
        for n in &names.general_names {
            match n {
                GeneralName::DNSName(name) => out.names.push((*name).to_owned()),
                GeneralName::IPAddress(raw) => match pki::trust::address(raw) {
                    Some(ip) => out.addresses.push(ip),
                    None => out.others += 1,
                },
                _ => out.others += 1,
            }
        }
    }
    Ok(out)
}

/// Whether the signer may sign that, in the words of upstream's rules.
pub(crate) fn allowed(signer: &str, usages: &[String], w: &Wish) -> Result<(), String> {
    let only = |known: &[&str], needed: &str| {
        let fits = usages.iter().all(|u| known.contains(&u.as_str())) && usages.iter().any(|u| u == needed);
        if fits { Ok(()) } else { Err(format!("usages did not match {known:?} with {needed:?}")) }
    };
    let node = || {
        if w.organizations != ["system:nodes"] {
            return Err("subject organization is not system:nodes".to_owned());
        }
        if !w.common_name.starts_with("system:node:") {
            return Err("subject common name does not begin with system:node:".to_owned());
        }
        Ok(())
    };
    match signer {
        "kubernetes.io/kube-apiserver-client" => {
            only(&["client auth", "digital signature", "key encipherment"], "client auth")
        }
        "kubernetes.io/kube-apiserver-client-kubelet" => {
            node()?;
            if w.names.len() + w.addresses.len() + w.others > 0 {
                return Err("subject alternative names are not allowed".into());
            }
            only(&["client auth", "digital signature", "key encipherment"], "client auth")
        }
        "kubernetes.io/kubelet-serving" => {
            node()?;
            if w.names.is_empty() && w.addresses.is_empty() {
                return Err("DNS or IP subjectAltName is required".into());
            }
            if w.others > 0 {
                return Err("email and URI subjectAltNames are not allowed".into());
            }
            only(&["server auth", "digital signature", "key encipherment"], "server auth")
        }
        _ => Ok(()),
    }
}

fn plan(v: &View) -> Plan {
    let is = |kind: &str| v.is(kind);
    let ours = matches!(
        v.spec.signer_name.as_str(),
        "kubernetes.io/kube-apiserver-client"
            | "kubernetes.io/kube-apiserver-client-kubelet"
            | "kubernetes.io/kubelet-serving"
            | "kubernetes.io/legacy-unknown"
    );
    if !ours || !v.status.certificate.is_empty() || !is("Approved") || is("Denied") || is("Failed") {
        return Plan::Nothing;
    }
    match v.wish().and_then(|w| allowed(&v.spec.signer_name, &v.spec.usages, &w)) {
        Err(why) => Plan::Refuse(why),
        Ok(()) => Plan::Sign {
            server: v.spec.usages.iter().any(|u| u == "server auth"),
            seconds: v.spec.expiration_seconds.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST),
        },
    }
}

fn pem(v: &View) -> String {
    String::from_utf8_lossy(&STANDARD.decode(&v.spec.request).unwrap_or_default()).into_owned()
}

fn failed(v: &View, message: &str) -> Value {
    let now = client::clock::rfc3339(client::clock::now());
    let mut conditions = v.status.conditions.clone();
    conditions.push(json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure",
        "message": message, "lastUpdateTime": now, "lastTransitionTime": now}));
    json!({ "conditions": conditions })
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let requests = ctx.informers.get(&REQUESTS);
    skeleton::enqueue_self(&requests, &queue);
    if !skeleton::synced(&ctx.token, &[&requests]).await {
        return;
    }
    skeleton::work("csrsigning", &ctx.token, &queue, 1, |key: Key| {
        let (ctx, requests) = (&ctx, &requests);
        async move {
            let (Some(o), Some(sign)) = (requests.get("", &key.1), &ctx.config.sign) else {
                return Ok(Next::Wait);
            };
            let v: View = o.view()?;
            let status = match plan(&v) {
                Plan::Nothing => return Ok(Next::Wait),
                Plan::Refuse(why) => failed(&v, &why),
                Plan::Sign { server, seconds } => match (sign.0)(&pem(&v), server, seconds) {
                    Ok(certificate) => json!({ "certificate": STANDARD.encode(certificate) }),
                    Err(why) => failed(&v, &why),
                },
            };
            ctx.client.patch_status(&REQUESTS, "", &key.1, status).await?;
            Ok(Next::Wait)
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usages(list: &[&str]) -> Vec<String> {
        list.iter().map(|u| (*u).to_owned()).collect()
    }

    #[test]
    fn each_signer_has_its_rules() {
        let client = usages(&["client auth"]);
        let server = usages(&["server auth", "digital signature"]);
        let node = |hosts| Wish {
            common_name: "system:node:n".into(),
            organizations: vec!["system:nodes".into()],
            names: vec!["n".to_owned(); hosts],
            ..Wish::default()
        };
        let table: &[(&str, &[String], Wish, bool)] = &[
            ("kube-apiserver-client", &client, Wish::default(), true),
            ("kube-apiserver-client", &server, Wish::default(), false),
            ("kube-apiserver-client", &[], Wish::default(), false),
            ("kube-apiserver-client-kubelet", &client, node(0), true),
            ("kube-apiserver-client-kubelet", &client, node(1), false),
            ("kube-apiserver-client-kubelet", &client, Wish::default(), false),
            ("kubelet-serving", &server, node(1), true),
            ("kubelet-serving", &server, node(0), false),
            ("kubelet-serving", &server, Wish { others: 1, ..node(1) }, false),
            ("kubelet-serving", &client, node(1), false),
            ("legacy-unknown", &[], Wish::default(), true),
        ];
        for (signer, usages, wish, good) in table {
            let got = allowed(&format!("kubernetes.io/{signer}"), usages, wish);
            assert_eq!(got.is_ok(), *good, "{signer} {usages:?} {wish:?}: {got:?}");
        }
    }

    #[test]
    fn only_approved_requests_of_our_signers_are_looked_at() {
        let view = |signer: &str, conditions: &[&str], certificate: &str| View {
            spec: Spec { signer_name: signer.into(), ..Spec::default() },
            status: Status {
                certificate: certificate.into(),
                conditions: conditions.iter().map(|c| json!({"type": c})).collect(),
            },
        };
        let ours = "kubernetes.io/legacy-unknown";
        for v in [
            view(ours, &[], ""),
            view(ours, &["Approved"], "done"),
            view(ours, &["Approved", "Failed"], ""),
            view(ours, &["Denied"], ""),
            view("example.com/own", &["Approved"], ""),
        ] {
            assert_eq!(plan(&v), Plan::Nothing);
        }
        assert_eq!(plan(&view(ours, &["Approved"], "")), Plan::Refuse("no PEM block".into()));
    }
}
