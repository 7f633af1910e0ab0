//! Discovery and OpenAPI of remote group versions: fetched by the check, kept beside it, and shown among our own.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header;
use serde_json::{Map, Value, json};

use super::Remote as Service;
use super::connect::whole;
use crate::server::ApiServer;

/// Most of a document that is read.
const DISCOVERY_LIMIT: usize = 4 << 20;
const OPENAPI_LIMIT: usize = 32 << 20;

/// What a remote API server said about its group version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remote {
    /// `APIVersionDiscovery` without version and freshness.
    pub resources: Option<Arc<Value>>,
    /// Its paths and definitions of OpenAPI v2.
    pub v2: Option<Arc<Value>>,
    v2_tag: String,
    /// Where its OpenAPI v3 document lies, with the hash.
    pub v3: Option<String>,
}

/// Asks for the documents. Discovery must be answered; OpenAPI may be missing.
pub async fn fetch(s: &ApiServer, r: &Service) -> Result<Remote, String> {
    let path = format!("/apis/{}/{}", r.group, r.version);
    let url = format!("https://{}:{}{path}", r.backend.server_name(), r.backend.port);
    let work = async {
        let json = [(header::ACCEPT, "application/json")];
        let response = s.connections.get(s.reader().as_ref(), &r.backend, &path, &json).await;
        let response = response.map_err(|e| format!("failing or missing response from {url}: {e}"))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!(
                "failing or missing response from {url}: bad status from {url}: {}",
                status.as_u16()
            ));
        }
        let body = whole(response.into_body(), DISCOVERY_LIMIT).await;
        let body = body.map_err(|e| format!("failing or missing response from {url}: {e}"))?;
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    };
    let list: Value = match tokio::time::timeout(std::time::Duration::from_secs(5), work).await {
        Ok(r) => r?,
        Err(_) => return Err(format!("timed out waiting for {url}")),
    };
    let before = r.documents();
    let mut new = Remote { resources: Some(Arc::new(discovered(&r.group, &r.version, &list))), ..before };
    let openapi = tokio::time::timeout(std::time::Duration::from_secs(5), openapi(s, r, &mut new));
    if let Ok(Err(e)) = openapi.await {
        tracing::debug!(apiservice = r.name, error = e, "a remote API server has no OpenAPI documents");
    }
    Ok(new)
}

async fn openapi(s: &ApiServer, r: &Service, new: &mut Remote) -> Result<(), String> {
    let reader = s.reader().as_ref();
    let json = (header::ACCEPT, "application/json");
    let response = s.connections.get(reader, &r.backend, "/openapi/v3", std::slice::from_ref(&json)).await?;
    if response.status().is_success() {
        let body = whole(response.into_body(), DISCOVERY_LIMIT).await?;
        let v: Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        let place = &v["paths"][format!("apis/{}/{}", r.group, r.version)]["serverRelativeURL"];
        new.v3 = place.as_str().map(str::to_owned);
    }
    let tag = new.v2_tag.clone();
    let mut headers = vec![json];
    if !tag.is_empty() {
        headers.push((header::IF_NONE_MATCH, tag.as_str()));
    }
    let response = s.connections.get(reader, &r.backend, "/openapi/v2", &headers).await?;
    if !response.status().is_success() {
        return Ok(());
    }
    let tag =
        response.headers().get(header::ETAG).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let body = whole(response.into_body(), OPENAPI_LIMIT).await?;
    let v: Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
    new.v2 = Some(Arc::new(own_part(v, &r.group, &r.version)));
    new.v2_tag = tag;
    Ok(())
}

/// The paths of a group version and the definitions that they need.
pub fn own_part(mut v: Value, group: &str, version: &str) -> Value {
    let prefix = format!("/apis/{group}/{version}/");
    let mut part = |name: &str| v.get_mut(name).map(Value::take).unwrap_or_default();
    let mut paths = Map::new();
    if let Value::Object(all) = part("paths") {
        paths.extend(all.into_iter().filter(|(p, _)| p.starts_with(&prefix)));
    }
    let all = match part("definitions") {
        Value::Object(all) => all,
        _ => Map::new(),
    };
    let mut definitions = Map::new();
    let mut todo: Vec<String> = Vec::new();
    paths.values().for_each(|p| references(p, &mut todo));
    while let Some(name) = todo.pop() {
        if let Some(d) = all.get(&name).filter(|_| !definitions.contains_key(&name)) {
            references(d, &mut todo);
            definitions.insert(name, d.clone());
        }
    }
    json!({"paths": paths, "definitions": definitions})
}

/// Names of definitions that a part of a document refers to.
fn references(v: &Value, out: &mut Vec<String>) {
    match v {
        Value::Object(o) => {
            if let Some(name) =
                o.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/definitions/"))
            {
                out.push(name.to_owned());
            }
            o.values().for_each(|v| references(v, out));
        }
        Value::Array(a) => a.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

/// Puts remote parts into our own document of OpenAPI v2. Where both define a name, ours stays.
pub fn merge_v2(document: &mut Value, remotes: &[Arc<Service>]) {
    for r in remotes {
        let Some(part) = r.documents().v2 else { continue };
        for field in ["paths", "definitions"] {
            let (Some(to), Some(from)) = (document[field].as_object_mut(), part[field].as_object()) else {
                continue;
            };
            for (k, v) in from {
                to.entry(k.clone()).or_insert_with(|| v.clone());
            }
        }
    }
}

/// `APIResourceList` as the resources of an `APIVersionDiscovery`.
pub fn discovered(group: &str, version: &str, list: &Value) -> Value {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let or = |v: &Value, other: &str| v.as_str().filter(|s| !s.is_empty()).unwrap_or(other).to_owned();
    let kind = |r: &Value| json!({"group": or(&r["group"], group), "version": or(&r["version"], version), "kind": text(&r["kind"])});
    let mut out: Vec<Value> = Vec::new();
    let mut subs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for r in list["resources"].as_array().into_iter().flatten() {
        let name = text(&r["name"]);
        let verbs = if r["verbs"].is_array() { r["verbs"].clone() } else { json!([]) };
        if let Some((parent, sub)) = name.split_once('/') {
            let v = json!({"subresource": sub, "responseKind": kind(r), "verbs": verbs});
            subs.entry(parent.to_owned()).or_default().push(v);
            continue;
        }
        let mut v = json!({"resource": name, "responseKind": kind(r), "scope": if r["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": text(&r["singularName"]), "verbs": verbs});
        for k in ["shortNames", "categories"] {
            if r[k].is_array() {
                v[k] = r[k].clone();
            }
        }
        out.push(v);
    }
    for r in &mut out {
        if let Some(s) = r["resource"].as_str().and_then(|n| subs.remove(n)) {
            r["subresources"] = Value::Array(s);
        }
    }
    Value::Array(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_resources_as_discovery() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/scale", "namespaced": true, "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["get"]}]});
        assert_eq!(
            discovered("g", "v1", &list),
            json!([{"resource": "flunders", "responseKind": {"group": "g", "version": "v1", "kind": "Flunder"}, "scope": "Namespaced",
                "singularResource": "flunder", "verbs": ["get"], "shortNames": ["fl"],
                "subresources": [{"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["get"]}]}])
        );
        assert_eq!(discovered("g", "v1", &Value::Null), json!([]));
    }

    #[test]
    fn only_what_belongs_to_the_group_version_is_kept() {
        let r = |n: &str| json!({"$ref": format!("#/definitions/{n}")});
        let v = json!({"paths": {"/apis/g/v1/a": {"get": r("A")}, "/apis/g/v2/a": {"get": r("B")}},
            "definitions": {"A": {"properties": {"m": r("M")}}, "B": {}, "M": {"properties": {"m": r("M")}}}});
        assert_eq!(own_part(json!("text"), "g", "v1"), json!({"paths": {}, "definitions": {}}));
        let part = own_part(v, "g", "v1");
        assert_eq!(part["paths"].as_object().map(Map::len), Some(1));
        assert_eq!(
            part["definitions"].as_object().map(|d| d.keys().cloned().collect::<Vec<_>>()),
            Some(vec!["A".into(), "M".into()])
        );
    }
}
