//! serviceaccounts/token.

use api::Status;
use http::StatusCode;

use crate::admission::Operation;
use crate::body::Reply;
use crate::call::Call;
use crate::handlers::write::Write;
use crate::handlers::{Target, decode, output};
use crate::server::ApiServer;

pub async fn create(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let w = Write::new(s, call, target, "token")?;
    let mut body = decode::loose(call)?;
    if body.is_null() {
        body =
            serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    }
    // Node restriction judges here what a kubelet may ask for.
    let body = w.admit(Operation::Create, body, None).await?;
    let body = w.validated(Operation::Create, body, None).await?;
    let answer = s.issuer.create(s.reader().as_ref(), call.namespace(), call.name(), body, w.dry_run).await?;
    output::value(call, StatusCode::CREATED, &answer)
}
