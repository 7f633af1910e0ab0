//! TokenReview and SelfSubjectReview: questions about identity, answered and never stored.

use api::Status;
use serde_json::{Value, json};

use super::Authn;
use crate::User;
use crate::admission::json::put;

/// `UserInfo` as it stands in reviews.
pub fn user_info(u: &User) -> Value {
    let mut v = json!({"username": u.name});
    if !u.uid.is_empty() {
        v["uid"] = json!(u.uid);
    }
    if !u.groups.is_empty() {
        v["groups"] = json!(u.groups);
    }
    if !u.extra.is_empty() {
        v["extra"] = json!(u.extra);
    }
    v
}

/// Answers a TokenReview.
pub async fn token_review(authn: &Authn, mut body: Value) -> Result<Value, Status> {
    let token = body["spec"]["token"].as_str().unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> = match body["spec"].get("audiences") {
        None | Some(Value::Null) => Vec::new(),
        Some(v) => serde_json::from_value(v.clone())
            .map_err(|e| Status::bad_request(format!("spec.audiences is no list of strings: {e}")))?,
    };
    let status = match authn.token_for(&token, &audiences).await {
        Ok((user, matched)) => {
            let mut s = json!({"authenticated": true, "user": user_info(&user)});
            if !matched.is_empty() {
                s["audiences"] = json!(matched);
            }
            s
        }
        Err(why) => json!({"user": {}, "error": why}),
    };
    put(&mut body, &["status"], status);
    Ok(body)
}

/// Answers a SelfSubjectReview.
pub fn self_subject_review(user: &User, mut body: Value) -> Value {
    put(&mut body, &["status"], json!({"userInfo": user_info(user)}));
    body
}
