//! `serviceaccounts/token`: mints a token bound to what the request names.

use std::sync::Arc;

use api::{Cause, Object, Status};
use pki::token::Private;
use pki::{BoundRef, Claims, Signer};
use serde_json::{Value, json};

use crate::Reader;
use crate::admission::json::put;

const GROUP: &str = "authentication.k8s.io";
const DEFAULT_SECONDS: i64 = 3600;
/// What the ServiceAccount admission plugin asks for. Such a token lives a year, and `warnafter` says when its bearer
/// should have come back for a new one: clients that never reload keep working.
pub const WARN_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 86_400;

/// Mints tokens of the cluster's issuer.
pub struct TokenIssuer {
    signer: Arc<Signer>,
    issuer: String,
    audiences: Vec<String>,
}

impl TokenIssuer {
    pub fn new(signer: Arc<Signer>, issuer: String, audiences: Vec<String>) -> Self {
        let audiences = if audiences.is_empty() { vec![issuer.clone()] } else { audiences };
        Self { signer, issuer, audiences }
    }

    /// Answers a TokenRequest for the service account `namespace/name`: the body with its status. With `dry_run` there
    /// is no usable token in it.
    pub async fn create(
        &self,
        reader: &dyn Reader,
        namespace: &str,
        name: &str,
        mut body: Value,
        dry_run: bool,
    ) -> Result<Value, Status> {
        let account = must_get(reader, "serviceaccounts", namespace, name).await?;
        let seconds = expiration(&body)?;
        let audiences: Vec<String> = match &body["spec"]["audiences"] {
            Value::Null => Vec::new(),
            v => serde_json::from_value(v.clone())
                .map_err(|e| Status::bad_request(format!("spec.audiences is no list of strings: {e}")))?,
        };
        let audiences = if audiences.is_empty() { self.audiences.clone() } else { audiences };
        let mut private = Private {
            namespace: namespace.to_owned(),
            serviceaccount: BoundRef { name: name.to_owned(), uid: account.uid().to_owned() },
            ..Private::default()
        };
        bind(reader, namespace, name, &body["spec"]["boundObjectRef"], &mut private).await?;
        let now = client::clock::now();
        let iat = now.as_second();
        let mut exp = iat + seconds;
        if seconds == WARN_SECONDS && private.pod.is_some() && audiences == self.audiences {
            private.warnafter = Some(exp);
            exp = iat + EXTENDED_SECONDS;
        }
        let claims = Claims {
            aud: audiences.clone(),
            exp,
            iat,
            nbf: iat,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!("system:serviceaccount:{namespace}:{name}"),
            kubernetes: private,
        };
        let token =
            if dry_run { String::new() } else { self.signer.mint(&claims).map_err(Status::internal)? };
        let end = jiff::Timestamp::from_second(iat + seconds).unwrap_or(now);
        put(&mut body, &["apiVersion"], json!("authentication.k8s.io/v1"));
        put(&mut body, &["kind"], json!("TokenRequest"));
        put(&mut body, &["metadata", "name"], json!(name));
        put(&mut body, &["metadata", "namespace"], json!(namespace));
        put(&mut body, &["metadata", "creationTimestamp"], json!(client::clock::rfc3339(now)));
        put(&mut body, &["spec", "audiences"], json!(audiences));
        put(&mut body, &["spec", "expirationSeconds"], json!(seconds));
        if body["spec"].get("boundObjectRef").is_none() {
            put(&mut body, &["spec", "boundObjectRef"], Value::Null);
        }
        let status = json!({"token": token, "expirationTimestamp": client::clock::rfc3339(end)});
        put(&mut body, &["status"], status);
        Ok(body)
    }
}

fn expiration(body: &Value) -> Result<i64, Status> {
    let seconds = match &body["spec"]["expirationSeconds"] {
        Value::Null => DEFAULT_SECONDS,
        v => v.as_i64().ok_or_else(|| Status::bad_request("spec.expirationSeconds is no integer"))?,
    };
    let problem = if seconds < 600 {
        "may not specify a duration less than 10 minutes"
    } else if seconds > 1 << 32 {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(seconds);
    };
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {seconds}: {problem}"),
        field: "spec.expirationSeconds".into(),
    };
    Err(Status::invalid(GROUP, "TokenRequest", "", vec![cause]))
}

async fn must_get(reader: &dyn Reader, plural: &str, namespace: &str, name: &str) -> Result<Object, Status> {
    reader.get("", plural, namespace, name).await?.ok_or_else(|| Status::not_found("", plural, name))
}

async fn bind(
    reader: &dyn Reader,
    namespace: &str,
    account: &str,
    reference: &Value,
    private: &mut Private,
) -> Result<(), Status> {
    if reference.is_null() {
        return Ok(());
    }
    let text = |f: &str| reference[f].as_str().unwrap_or_default();
    let (api_version, kind, name, uid) = (text("apiVersion"), text("kind"), text("name"), text("uid"));
    if api_version.contains('/') || !matches!(kind, "Pod" | "Secret" | "Node") {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        return Err(Status::bad_request(format!(
            "cannot bind token to object of type {group}/{version}, Kind={kind}"
        )));
    }
    let object = match kind {
        "Pod" => must_get(reader, "pods", namespace, name).await?,
        "Secret" => must_get(reader, "secrets", namespace, name).await?,
        _ => must_get(reader, "nodes", "", name).await?,
    };
    if !uid.is_empty() && uid != object.uid() {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        );
        return Err(Status::conflict("", kind, name, &why));
    }
    let bound = BoundRef { name: name.to_owned(), uid: object.uid().to_owned() };
    match kind {
        "Pod" => {
            let pod = object.value().map_err(Status::internal)?;
            let runs_as = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if runs_as != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            private.pod = Some(bound);
            if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                let uid =
                    reader.get("", "nodes", "", node).await?.map(|n| n.uid().to_owned()).unwrap_or_default();
                private.node = Some(BoundRef { name: node.to_owned(), uid });
            }
        }
        "Secret" => private.secret = Some(bound),
        _ => private.node = Some(bound),
    }
    Ok(())
}
