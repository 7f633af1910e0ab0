//! Accept and Content-Type: in which form an answer goes out and a body came in. Pure.

use api::{Reason, Status};
use http::{HeaderMap, header};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    #[default]
    Native,
    Table,
    /// Metadata only.
    Partial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    pub form: Form,
    pub yaml: bool,
    pub pretty: bool,
    /// Nothing but protobuf is understood on the other side.
    pub protobuf: bool,
}

const NOT_ACCEPTABLE: &str = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";

fn params(clause: &str) -> (&str, Vec<(&str, &str)>) {
    let mut it = clause.split(';').map(str::trim);
    let media = it.next().unwrap_or_default();
    (
        media,
        it.filter_map(|p| p.split_once('=').map(|(k, v)| (k.trim(), v.trim().trim_matches('"')))).collect(),
    )
}

/// Clauses of an Accept header by falling quality, order kept.
pub fn clauses(accept: &str) -> Vec<&str> {
    let mut all: Vec<(&str, f32)> = accept
        .split(',')
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .map(|c| {
            let q = params(c).1.iter().find(|(k, _)| *k == "q").and_then(|(_, v)| v.parse().ok());
            (c, q.unwrap_or(1.0))
        })
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.into_iter().map(|(c, _)| c).collect()
}

fn accept_of(headers: &HeaderMap) -> String {
    let all: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    all.join(",")
}

/// The best form that both sides know. `list_or_object` allows Table and metadata-only.
pub fn accept(headers: &HeaderMap) -> Result<Accepted, Status> {
    let accept = accept_of(headers);
    if accept.trim().is_empty() {
        return Ok(Accepted::default());
    }
    let mut protobuf = false;
    for clause in clauses(&accept) {
        let (media, params) = params(clause);
        let yaml = match media {
            // JSON is what is at hand: protobuf only for those who take nothing else.
            api::protobuf::CONTENT_TYPE if !params.iter().any(|(k, _)| *k == "as") => {
                protobuf = true;
                continue;
            }
            "application/json" | "*/*" | "application/*" => false,
            "application/yaml" => true,
            _ => continue,
        };
        let get = |key: &str| params.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let form = match (get("as"), get("g"), get("v")) {
            (None, ..) => Form::Native,
            (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Form::Table,
            (
                Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                Some("meta.k8s.io"),
                Some("v1"),
            ) => Form::Partial,
            _ => continue,
        };
        return Ok(Accepted { form, yaml, pretty: get("pretty") == Some("1"), protobuf: false });
    }
    if protobuf {
        return Ok(Accepted { protobuf, ..Accepted::default() });
    }
    Err(Status::new(Reason::NotAcceptable, NOT_ACCEPTABLE))
}

/// Form of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

fn media_type(headers: &HeaderMap) -> &str {
    let v = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    v.split(';').next().unwrap_or_default().trim()
}

/// Of a body of create, update and delete.
pub fn body_encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    match media_type(headers) {
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Encoding::Yaml),
        api::protobuf::CONTENT_TYPE => Ok(Encoding::Protobuf),
        _ => Err(Status::new(
            Reason::UnsupportedMediaType,
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

pub fn patch_type(headers: &HeaderMap) -> Result<PatchType, Status> {
    match media_type(headers) {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" => Ok(PatchType::Apply),
        _ => Err(Status::new(
            Reason::UnsupportedMediaType,
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
        )),
    }
}

pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|c| {
            c.split(';').next().unwrap_or_default().trim() == "gzip" && !c.replace(' ', "").ends_with("q=0")
        })
}

/// Which document of `/api` and `/apis` is wanted: the aggregated one of v2, or the old one.
pub fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accept = accept_of(headers);
    for clause in clauses(&accept) {
        let (media, params) = params(clause);
        if media != "application/json" && media != "*/*" {
            continue;
        }
        let get = |key: &str| params.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        match (get("as"), get("g"), get("v")) {
            (None, ..) => return false,
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h(name: header::HeaderName, v: &str) -> HeaderMap {
        let mut h = HeaderMap::new();
        h.insert(name, v.parse().expect("header"));
        h
    }

    fn a_protobuf(a: &str) -> bool {
        accept(&h(header::ACCEPT, a)).expect("accept").protobuf
    }

    #[test]
    fn kubectl_asks_for_tables() {
        let a = accept(&h(
            header::ACCEPT,
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        ));
        assert_eq!(a.expect("accept").form, Form::Table);
        let a = accept(&h(header::ACCEPT, "application/vnd.kubernetes.protobuf,application/json"));
        assert_eq!(a.expect("accept").form, Form::Native);
        assert!(!a_protobuf("application/vnd.kubernetes.protobuf,application/json"));
        assert!(a_protobuf("application/vnd.kubernetes.protobuf"));
        assert_eq!(accept(&h(header::ACCEPT, "text/html")).expect_err("406").code, 406);
        let a =
            accept(&h(header::ACCEPT, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"));
        assert_eq!(a.expect("accept").form, Form::Partial);
        assert!(accept(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn bodies_and_patches() {
        assert_eq!(
            body_encoding(&h(header::CONTENT_TYPE, "application/json; charset=utf-8")),
            Ok(Encoding::Json)
        );
        assert_eq!(body_encoding(&h(header::CONTENT_TYPE, "text/plain")).expect_err("415").code, 415);
        assert_eq!(
            patch_type(&h(header::CONTENT_TYPE, "application/apply-patch+yaml")),
            Ok(PatchType::Apply)
        );
        assert_eq!(patch_type(&h(header::CONTENT_TYPE, "application/json")).expect_err("415").code, 415);
    }

    #[test]
    fn aggregated_discovery() {
        let a = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert!(wants_aggregated(&h(header::ACCEPT, a)));
        assert!(!wants_aggregated(&h(header::ACCEPT, "application/json")));
        assert!(!wants_aggregated(&HeaderMap::new()));
    }
}
