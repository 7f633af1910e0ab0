//! Impersonation: a user who may, acts as another one for a request (`kubectl --as`).

use std::collections::BTreeMap;

use api::{Reason, Status};
use http::HeaderMap;

use crate::authz::Attributes;
use crate::request_info::RequestInfo;
use crate::server::ApiServer;
use crate::user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};

const ANY: &str = "impersonate-";
const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// Whether any header is about impersonation.
fn is_named(h: &HeaderMap) -> bool {
    h.keys().any(|n| n.as_str().starts_with(ANY))
}

/// What the headers ask for. Pure.
fn wanted(h: &HeaderMap) -> Result<Option<User>, Status> {
    if !is_named(h) {
        return Ok(None);
    }
    let all = |name: &str| -> Vec<String> {
        h.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
    };
    let one = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, v) in h {
        if let (Some(key), Ok(v)) = (name.as_str().strip_prefix(EXTRA), v.to_str()) {
            let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
            extra.entry(key).or_default().push(v.to_owned());
        }
    }
    let u = User { name: one(USER), uid: one(UID), groups: all(GROUP), extra };
    if u.name.is_empty() {
        if u.groups.is_empty() && u.uid.is_empty() && u.extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::new(
            Reason::InternalError,
            "Internal error occurred: requested groups, uid or extra without impersonating a user",
        ));
    }
    Ok(Some(u))
}

fn ask(group: &str, resource: &str, sub: &str, namespace: &str, name: &str) -> RequestInfo {
    RequestInfo {
        verb: "impersonate".into(),
        is_resource: true,
        api_group: group.into(),
        api_version: if group.is_empty() { "v1".into() } else { "*".into() },
        resource: resource.into(),
        subresource: sub.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..RequestInfo::default()
    }
}

/// The user to go on as, if the headers ask for one and `user` may. Each part is a permission of its own.
pub async fn apply(s: &ApiServer, user: &User, headers: &HeaderMap) -> Result<Option<User>, Status> {
    let Some(mut other) = wanted(headers)? else { return Ok(None) };
    let mut asks = Vec::new();
    match other.service_account() {
        Some((ns, name)) => {
            asks.push(ask("", "serviceaccounts", "", ns, name));
            if other.groups.is_empty() {
                other.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{ns}")];
            }
        }
        None => asks.push(ask("", "users", "", "", &other.name)),
    }
    let asked_groups: Vec<&str> = headers.get_all(GROUP).iter().filter_map(|v| v.to_str().ok()).collect();
    asks.extend(asked_groups.iter().map(|g| ask("", "groups", "", "", g)));
    if !other.uid.is_empty() {
        asks.push(ask("authentication.k8s.io", "uids", "", "", &other.uid));
    }
    for (k, values) in &other.extra {
        asks.extend(values.iter().map(|v| ask("authentication.k8s.io", "userextras", k, "", v)));
    }
    for info in &asks {
        s.authorizer.check(&Attributes::new(user, info)).await?;
    }
    let default = if other.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !other.in_group(AUTHENTICATED) && !other.in_group(UNAUTHENTICATED) {
        other.groups.push(default.into());
    }
    Ok(Some(other))
}

/// Takes the headers out, so that a proxied server does not see them.
pub fn strip(h: &mut HeaderMap) {
    if !is_named(h) {
        return;
    }
    let names: Vec<_> = h.keys().filter(|n| n.as_str().starts_with(ANY)).cloned().collect();
    for n in names {
        h.remove(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_to_user() {
        let mut h = HeaderMap::new();
        assert_eq!(wanted(&h), Ok(None));
        h.insert("impersonate-group", "g".parse().expect("value"));
        assert!(wanted(&h).is_err());
        h.insert("impersonate-user", "jane".parse().expect("value"));
        h.insert("impersonate-extra-a%2fb", "x".parse().expect("value"));
        let u = wanted(&h).expect("ok").expect("some");
        assert_eq!((u.name.as_str(), u.groups.as_slice()), ("jane", &["g".to_owned()][..]));
        assert_eq!(u.extra["a/b"], ["x"]);
        strip(&mut h);
        assert!(h.is_empty());
    }
}
