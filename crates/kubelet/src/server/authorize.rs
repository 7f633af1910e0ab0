//! What a caller on the kubelet's port may do: the API is asked, in terms of the node's subresources, as upstream's kubelet
//! does. Owns the last answers of each connection, for a short while; spawns nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::resource::SUBJECT_ACCESS_REVIEWS;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::json;

use super::Refused;
use crate::node_ctx::Node;

/// A right that was taken away counts no longer than this.
const KEPT: Duration = Duration::from_secs(10);

/// Who calls, by a certificate that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    user: String,
    groups: Vec<String>,
    uid: String,
}

impl Caller {
    pub fn of(c: pki::CertIdentity) -> Self {
        let mut groups = c.groups;
        groups.push("system:authenticated".into());
        Self { user: c.user, groups, uid: c.uid }
    }
}

/// The subresources of a node any of which lets a request through.
fn subresources(method: &Method, path: &str) -> &'static [&'static str] {
    let first = path.split('/').find(|p| !p.is_empty()).unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        _ if method != Method::GET => &["proxy"],
        "healthz" | "livez" | "readyz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        _ => &["proxy"],
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// A verb and a subresource.
type Question = (&'static str, &'static str);

/// The rights of one connection's caller.
#[derive(Clone)]
pub struct Rights {
    caller: Caller,
    answers: Arc<Mutex<HashMap<Question, (bool, Instant)>>>,
}

impl Rights {
    pub fn new(caller: Caller) -> Self {
        Self { caller, answers: Arc::default() }
    }

    pub async fn check(&self, node: &Node, method: &Method, path: &str) -> Result<(), Refused> {
        let verb = verb(method);
        let all = subresources(method, path);
        for sub in all.iter().copied() {
            if self.may(node, verb, sub).await? {
                return Ok(());
            }
        }
        let asked = all.last().copied().unwrap_or_default();
        let message = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{asked}])",
            self.caller.user
        );
        Err(Refused::new(StatusCode::FORBIDDEN, message))
    }

    async fn may(&self, node: &Node, verb: &'static str, sub: &'static str) -> Result<bool, Refused> {
        let question = (verb, sub);
        if let Some((allowed, at)) = self.answers.lock().get(&question)
            && at.elapsed() < KEPT
        {
            return Ok(*allowed);
        }
        let c = &self.caller;
        let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": { "user": c.user, "groups": c.groups, "uid": c.uid, "resourceAttributes": {
                "verb": verb, "version": "v1", "resource": "nodes", "subresource": sub, "name": node.cfg.node_name } } });
        let failed = |e: String| {
            let message = format!(
                "Authorization error (user={}, verb={verb}, resource=nodes, subresource={sub}): {e}",
                c.user
            );
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, message)
        };
        let answer = node.client.create(&SUBJECT_ACCESS_REVIEWS, "", &review).await;
        let answer = answer.map_err(|e| failed(e.to_string()))?.value().map_err(|e| failed(e.to_string()))?;
        let allowed = answer["status"]["allowed"] == true;
        self.answers.lock().insert(question, (allowed, Instant::now()));
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_subresources_of_the_node() {
        for (method, path, want) in [
            (Method::GET, "/containerLogs/ns/p/c", &["proxy"][..]),
            (Method::POST, "/exec/ns/p/c", &["proxy"]),
            (Method::GET, "/metrics/resource", &["metrics"]),
            (Method::GET, "/stats/summary", &["stats"]),
            (Method::GET, "/pods/", &["pods", "proxy"]),
            (Method::POST, "/pods", &["proxy"]),
            (Method::GET, "//healthz", &["healthz", "proxy"]),
            (Method::GET, "", &["proxy"]),
        ] {
            assert_eq!(subresources(&method, path), want, "{method} {path}");
        }
        assert_eq!(
            [Method::POST, Method::GET, Method::DELETE, Method::HEAD].map(|m| verb(&m)),
            ["create", "get", "delete", "get"]
        );
    }
}
