//! Which kinds there are, by aggregated discovery: for the loops that work on all of them.

use api::{Resource, Status};
use bytes::Bytes;
use client::Client;
use serde_json::Value;

const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// Every kind, once, in its preferred version, that has all of these verbs.
pub async fn resources(client: &Client, verbs: &[&str]) -> Result<Vec<Resource>, Status> {
    let mut out: Vec<Resource> = Vec::new();
    for path in ["/api", "/apis"] {
        let request = http::Request::get(path)
            .header(http::header::ACCEPT, ACCEPT)
            .body(Bytes::new())
            .map_err(Status::internal)?;
        let body: Value =
            serde_json::from_slice(client.raw(request).await?.body()).map_err(Status::internal)?;
        read(&body, verbs, &mut out);
    }
    // Events stand in two groups over the same objects.
    out.retain(|r| !(r.group == "events.k8s.io" && r.plural == "events"));
    Ok(out)
}

fn read(body: &Value, verbs: &[&str], out: &mut Vec<Resource>) {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    for group in body["items"].as_array().into_iter().flatten() {
        // The preferred version stands first; the others hold the same objects.
        let mut seen = std::collections::HashSet::new();
        for version in group["versions"].as_array().into_iter().flatten() {
            for r in version["resources"].as_array().into_iter().flatten() {
                let has =
                    |verb: &&str| r["verbs"].as_array().is_some_and(|all| all.iter().any(|v| v == *verb));
                let plural = text(&r["resource"]);
                if verbs.iter().all(has) && seen.insert(plural.clone()) {
                    out.push(Resource {
                        group: text(&group["metadata"]["name"]).into(),
                        version: text(&version["version"]).into(),
                        plural: plural.into(),
                        kind: text(&r["responseKind"]["kind"]).into(),
                        namespaced: r["scope"] == "Namespaced",
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_is_taken_once_and_only_with_its_verbs() {
        let r = |name: &str, verbs: &[&str]| json!({"resource": name, "scope": "Namespaced", "verbs": verbs, "responseKind": {"kind": "K"}});
        let body = json!({"items": [{"metadata": {"name": "g"}, "versions": [
            {"version": "v2", "resources": [r("as", &["list", "delete"]), r("bs", &["list"])]},
            {"version": "v1", "resources": [r("as", &["list", "delete"])]}]}]});
        let mut out = Vec::new();
        read(&body, &["list", "delete"], &mut out);
        assert_eq!(out.iter().map(|r| format!("{}/{}", r.version, r.plural)).collect::<Vec<_>>(), ["v2/as"]);
    }
}
