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
    pub protobuf: bool,
}

/// What an answer can be sent as, in upstream's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The kind has a protobuf form.
    pub protobuf: bool,
    /// Tables and metadata alone can be had as well.
    pub transforms: bool,
}

impl Offer {
    fn refusal(self) -> Status {
        let protobuf = if self.protobuf { ", application/vnd.kubernetes.protobuf" } else { "" };
        let text = format!(
            "only the following media types are accepted: application/json, application/yaml{protobuf}"
        );
        Status::new(Reason::NotAcceptable, text)
    }
}

fn params(clause: &str) -> (&str, Vec<(&str, &str)>) {
    let mut it = clause.split(';').map(str::trim);
    let media = it.next().unwrap_or_default();
    (
        media,
        it.filter_map(|p| p.split_once('=').map(|(k, v)| (k.trim(), v.trim().trim_matches('"')))).collect(),
    )
}

/// Clauses of an Accept header by falling quality, then by how exact they are, order kept.
pub fn clauses(accept: &str) -> Vec<&str> {
    let mut all: Vec<(&str, f32, u8)> = accept
        .split(',')
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .map(|c| {
            let (media, params) = params(c);
            let q = params.iter().find(|(k, _)| *k == "q").and_then(|(_, v)| v.parse().ok());
            let vague = u8::from(media.starts_with('*')) + u8::from(media.ends_with('*'));
            (c, q.unwrap_or(1.0), vague)
        })
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.2.cmp(&b.2)));
    all.into_iter().map(|(c, ..)| c).collect()
}

fn accept_of(headers: &HeaderMap) -> String {
    let all: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    all.join(",")
}

/// The first form on the client's list that can be had.
pub fn accept(headers: &HeaderMap, offer: Offer) -> Result<Accepted, Status> {
    choose(&accept_of(headers), offer)
}

/// The same from the header's text. Pure.
pub fn choose(accept: &str, offer: Offer) -> Result<Accepted, Status> {
    if accept.trim().is_empty() {
        return Ok(Accepted::default());
    }
    for clause in clauses(accept) {
        let (media, params) = params(clause);
        let get =
            |key: &str| params.iter().find(|(k, _)| *k == key).map(|(_, v)| *v).filter(|v| !v.is_empty());
        let (yaml, protobuf) = match media {
            "application/json" | "*/*" | "application/*" => (false, false),
            "application/yaml" => (true, false),
            api::protobuf::CONTENT_TYPE => (false, true),
            _ => continue,
        };
        let form = match (get("as"), get("g"), get("v")) {
            (None, None, None) => Form::Native,
            (Some("Table"), Some("meta.k8s.io"), Some("v1")) if offer.transforms && !protobuf => Form::Table,
            (
                Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                Some("meta.k8s.io"),
                Some("v1"),
            ) if offer.transforms => Form::Partial,
            _ => continue,
        };
        let unknown = get("sv").is_some() || get("stream").is_some_and(|s| s != "watch");
        if unknown || (protobuf && form == Form::Native && !offer.protobuf) {
            continue;
        }
        return Ok(Accepted { form, yaml, protobuf, pretty: get("pretty") == Some("1") });
    }
    Err(offer.refusal())
}

/// For people: `?pretty=true`, or a program that people type into a terminal.
pub fn is_pretty(query: Option<&str>, agent: &str) -> bool {
    match query.filter(|q| !q.is_empty()) {
        Some(q) => matches!(q, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => ["curl", "Wget", "Mozilla/5.0"].iter().any(|p| agent.starts_with(p)),
    }
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

    const ALL: Offer = Offer { protobuf: true, transforms: true };

    #[test]
    fn the_first_that_can_be_had() {
        let json = Accepted::default();
        let protobuf = Accepted { protobuf: true, ..json };
        let custom = Offer { protobuf: false, ..ALL };
        let plain = Offer { transforms: false, ..ALL };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        for (accept, offer, want) in [
            ("", ALL, Some(json)),
            ("*/*", ALL, Some(json)),
            (table, ALL, Some(Accepted { form: Form::Table, ..json })),
            (table, plain, Some(json)),
            ("application/vnd.kubernetes.protobuf,application/json", ALL, Some(protobuf)),
            ("application/vnd.kubernetes.protobuf,application/json", custom, Some(json)),
            ("application/json,application/vnd.kubernetes.protobuf", ALL, Some(json)),
            ("application/json;q=0.5,application/vnd.kubernetes.protobuf", ALL, Some(protobuf)),
            ("*/*,application/yaml", ALL, Some(Accepted { yaml: true, ..json })),
            ("application/json;stream=watch", ALL, Some(json)),
            ("application/json;pretty=1", ALL, Some(Accepted { pretty: true, ..json })),
            (partial, custom, Some(Accepted { form: Form::Partial, ..protobuf })),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                ALL,
                Some(Accepted { form: Form::Partial, ..json }),
            ),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", ALL, None),
            ("application/json;as=Table;g=meta.k8s.io;v=v9", ALL, None),
            ("application/vnd.kubernetes.protobuf", custom, None),
            ("text/html", ALL, None),
        ] {
            assert_eq!(choose(accept, offer).ok(), want, "{accept}");
        }
        assert_eq!(choose("text/html", custom).expect_err("406").code, 406);
        assert!(is_pretty(Some("true"), "") && is_pretty(None, "curl/8") && !is_pretty(Some("0"), "curl/8"));
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
