//! PodCertificateRequests: a status is written by who may sign for the signer, and a certificate that is issued begins now.

use api::Status;
use api::validation::{ErrorList, Path};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Context, Extra, Strategy};
use crate::adapt;

pub struct Requests;

/// How far a certificate's beginning and the server's clock may be apart.
const APART: SignedDuration = SignedDuration::from_mins(5);

/// Whether the certificate that is issued by this change begins about now.
fn begins_now(new: &Value, now: Timestamp, e: &mut ErrorList) {
    let from = &new["status"]["notBefore"];
    let Some(at) = from.as_str().and_then(client::clock::parse) else { return };
    if now.duration_since(at).abs() >= APART {
        let place = Path::new("status");
        e.invalid(
            &place.child("notBefore"),
            from.clone(),
            "must be set to within 5 minutes of kube-apiserver's current time",
        );
    }
}

#[async_trait]
impl Strategy for Requests {
    async fn allocate(
        &self,
        c: &Context<'_>,
        new: &mut Value,
        old: Option<&Value>,
        _extra: &mut Extra,
    ) -> Result<(), Status> {
        let Some(old) = old else { return Ok(()) };
        if api::validation::same(&old["status"], &new["status"]) {
            return Ok(());
        }
        let mut late = ErrorList::new();
        begins_now(new, client::clock::now(), &mut late);
        adapt::invalid(&c.target.kind, new, late)?;
        let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
        if c.server.authorizer.permits_signer(c.user, "sign", signer).await {
            return Ok(());
        }
        let mut e = ErrorList::new();
        let spec = Path::new("spec");
        let why = format!("User {:?} is not permitted to \"sign\" for signer {signer:?}", c.user.name);
        e.forbidden(&spec.child("signerName"), &why);
        adapt::invalid(&c.target.kind, new, e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_certificate_begins_about_now() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().expect("time");
        for (at, good) in [
            (json!("2026-01-01T00:10:00Z"), true),
            (json!("2026-01-01T00:05:01Z"), true),
            (json!("2026-01-01T00:05:00Z"), false),
            (json!("2026-01-01T00:15:00Z"), false),
            // Denied: there is none.
            (Value::Null, true),
        ] {
            let mut e = ErrorList::new();
            begins_now(&json!({"status": {"notBefore": at}}), now, &mut e);
            assert_eq!(e.is_empty(), good, "{at}");
        }
    }
}
