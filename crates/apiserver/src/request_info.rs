//! What a request is about, read from its method, path and query alone (upstream's RequestInfo): the input of
//! authorization, flow control, audit and dispatch. Pure.

use http::Method;

/// A request's verb and object. Strings are empty where they do not apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// get, list, watch, create, update, patch, delete, deletecollection, proxy; the lower-case method for non-resources.
    pub verb: String,
    pub path: String,
    /// False for `/healthz`, `/api`, `/apis/group`, `/version` and the like.
    pub is_resource: bool,
    /// `api` or `apis`.
    pub api_prefix: String,
    pub api_group: String,
    pub api_version: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// What follows the subresource (`/proxy/…`), without a leading slash.
    pub tail: String,
    pub label_selector: String,
    pub field_selector: String,
}

/// Path segments after which a request is not about a namespace's child.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// The name comes from a field selector: the request is still about the collection.
    pub fn name_is_only_selected(&self) -> bool {
        !self.name.is_empty() && self.is_collection()
    }

    /// A list, a watch or a deletecollection.
    pub fn is_collection(&self) -> bool {
        matches!(self.verb.as_str(), "list" | "watch" | "deletecollection")
    }

    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// `group` qualified resource, with the subresource after a slash: for messages.
    pub fn resource_and_subresource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    pub fn parse(method: &Method, path: &str, query: &str) -> Self {
        let mut info =
            Self { verb: method.as_str().to_ascii_lowercase(), path: path.to_owned(), ..Self::default() };
        let parts: Vec<String> = segments(path);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let rest: &[&str] = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.api_prefix = "api".into();
                info.api_version = (*version).into();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.api_prefix = "apis".into();
                info.api_group = (*group).into();
                info.api_version = (*version).into();
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        info.verb = match method.as_str() {
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        }
        .into();
        // The deprecated /watch/ and /proxy/ prefixes name the verb in the path.
        let rest = match rest {
            ["watch", more @ ..] if !more.is_empty() => {
                info.verb = "watch".into();
                more
            }
            ["proxy", more @ ..] if !more.is_empty() => {
                info.verb = "proxy".into();
                more
            }
            other => other,
        };
        let rest = match rest {
            ["namespaces", ns, child, more @ ..] if !NAMESPACE_SUBRESOURCES.contains(child) => {
                info.namespace = (*ns).into();
                let _ = more;
                rest.get(2..).unwrap_or_default()
            }
            ["namespaces", ns, ..] => {
                info.namespace = (*ns).into();
                rest
            }
            _ => rest,
        };
        if let Some(r) = rest.first() {
            info.resource = (*r).into();
        }
        if let Some(n) = rest.get(1) {
            info.name = (*n).into();
        }
        if let Some(s) = rest.get(2) {
            info.subresource = (*s).into();
        }
        if rest.len() > 3 {
            // Kept as it was sent, escapes included: it becomes another server's path.
            let skip = parts.len() - (rest.len() - 3);
            info.tail = raw_tail(path, skip);
        }
        let params = Query::parse(query);
        if info.name.is_empty() {
            match info.verb.as_str() {
                "get" => {
                    info.verb = if params.get("watch").is_some_and(truthy) { "watch" } else { "list" }.into();
                }
                "delete" => info.verb = "deletecollection".into(),
                _ => {}
            }
        }
        if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            info.label_selector = params.get("labelSelector").unwrap_or_default().to_owned();
            info.field_selector = params.get("fieldSelector").unwrap_or_default().to_owned();
            if info.name.is_empty()
                && let Some(n) = name_in_field_selector(&info.field_selector)
            {
                info.name = n;
            }
        }
        info
    }
}

/// `metadata.name=x` alone or among others names one object, which authorization by name relies on.
fn name_in_field_selector(selector: &str) -> Option<String> {
    selector.split(',').find_map(|term| {
        if term.contains("!=") {
            return None;
        }
        let (k, v) = term.split_once("==").or_else(|| term.split_once('='))?;
        let ok = !v.is_empty() && v != "." && v != ".." && !v.contains('/') && !v.contains('%');
        (k.trim() == "metadata.name" && ok).then(|| v.trim().to_owned())
    })
}

fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|s| !s.is_empty()).map(decode).collect()
}

fn raw_tail(path: &str, skip: usize) -> String {
    let mut rest = path.trim_start_matches('/');
    for _ in 0..skip {
        match rest.find('/') {
            Some(i) => rest = rest.get(i..).unwrap_or_default().trim_start_matches('/'),
            None => return String::new(),
        }
    }
    rest.to_owned()
}

fn decode(s: &str) -> String {
    percent_encoding::percent_decode_str(s).decode_utf8_lossy().into_owned()
}

/// Upstream's reading of a boolean query parameter: present and neither `0` nor `false`.
pub fn truthy(v: &str) -> bool {
    !(v == "0" || v.eq_ignore_ascii_case("false"))
}

/// A whole number in a query, its fault worded as Go does.
pub fn int(s: &str) -> Result<i64, api::Status> {
    let numeric = s.strip_prefix(['-', '+']).unwrap_or(s);
    s.parse().map_err(|_| {
        let sound = !numeric.is_empty() && numeric.bytes().all(|b| b.is_ascii_digit());
        let why = if sound { "value out of range" } else { "invalid syntax" };
        api::Status::bad_request(format!("strconv.ParseInt: parsing {s:?}: {why}"))
    })
}

/// A decoded query string; order kept, keys may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: &str) -> Self {
        let dec = |s: &str| decode(&s.replace('+', " "));
        Self(
            query
                .split('&')
                .filter(|p| !p.is_empty())
                .map(|p| match p.split_once('=') {
                    Some((k, v)) => (dec(k), dec(v)),
                    None => (dec(p), String::new()),
                })
                .collect(),
        )
    }
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(truthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(method: &str, uri: &str) -> RequestInfo {
        let (path, q) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::parse(&method.parse().expect("method"), path, q)
    }

    #[test]
    fn table() {
        // method, uri, verb, group, version, ns, resource, sub, name
        let t = [
            ("GET", "/api/v1/namespaces", "list", "", "v1", "", "namespaces", "", ""),
            ("GET", "/api/v1/namespaces/a", "get", "", "v1", "a", "namespaces", "", "a"),
            ("PUT", "/api/v1/namespaces/a/finalize", "update", "", "v1", "a", "namespaces", "finalize", "a"),
            ("GET", "/api/v1/namespaces/a/pods", "list", "", "v1", "a", "pods", "", ""),
            ("GET", "/api/v1/namespaces/a/pods?watch=1", "watch", "", "v1", "a", "pods", "", ""),
            ("GET", "/api/v1/namespaces/a/pods?watch=0", "list", "", "v1", "a", "pods", "", ""),
            ("GET", "/api/v1/watch/pods", "watch", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/namespaces/a/pods/b/log", "get", "", "v1", "a", "pods", "log", "b"),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection",
                "apps",
                "v1",
                "a",
                "deployments",
                "",
                "",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/x/scale",
                "patch",
                "apps",
                "v1",
                "a",
                "deployments",
                "scale",
                "x",
            ),
            (
                "GET",
                "/api/v1/pods?fieldSelector=metadata.name%3Dfoo",
                "list",
                "",
                "v1",
                "",
                "pods",
                "",
                "foo",
            ),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name!%3Dfoo", "list", "", "v1", "", "pods", "", ""),
        ];
        for (m, uri, verb, g, v, ns, r, sub, name) in t {
            let i = p(m, uri);
            assert!(i.is_resource, "{uri}");
            assert_eq!(
                (
                    &*i.verb,
                    &*i.api_group,
                    &*i.api_version,
                    &*i.namespace,
                    &*i.resource,
                    &*i.subresource,
                    &*i.name
                ),
                (verb, g, v, ns, r, sub, name),
                "{uri}"
            );
        }
    }

    #[test]
    fn non_resources() {
        for uri in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/openapi/v2"]
        {
            let i = p("GET", uri);
            assert!(!i.is_resource, "{uri}");
            assert_eq!(i.verb, "get");
        }
    }

    #[test]
    fn proxy_tail_keeps_escapes() {
        let i = p("GET", "/api/v1/namespaces/a/services/http:x:80/proxy/one%2Ftwo/three");
        assert_eq!((&*i.name, &*i.subresource, &*i.tail), ("http:x:80", "proxy", "one%2Ftwo/three"));
    }
}
