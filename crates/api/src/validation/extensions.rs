//! What extends the API by a server of its own: APIService. Definitions of custom resources: `crd`.

use super::at::At;
use super::common::{format, required};
use super::errors::ErrorList;
use super::names;
use serde_json::Value;

/// APIService.
pub fn api_service(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let spec = root.get("spec");
    let (group, version) = (spec.get("group"), spec.get("version"));
    let meta = root.get("metadata");
    let name = meta.get("name");
    let want = format!("{}.{}", version.str(), group.str());
    if name.str() != want {
        e.bad(&name, &format!("must be `spec.version+\".\"+spec.group`: {want:?}"));
    }
    if !group.str().is_empty() {
        format(&group, names::dns1123_subdomain, e);
    }
    e.each(&version, version.str(), names::dns1035_label(version.str()));
    let number = |f: &str, max: i64, e: &mut ErrorList| {
        let v = spec.get(f);
        let n = v.int().unwrap_or(0);
        if n <= 0 || n > max {
            e.invalid(&v, n, &format!("must be positive and less than {max}"));
        }
    };
    number("groupPriorityMinimum", 20_000, e);
    number("versionPriority", 1000, e);
    let service = spec.get("service");
    let ca = !spec.s("caBundle").is_empty();
    if service.is_null() {
        if ca {
            e.invalid(
                &spec.at("caBundle"),
                format!("{} bytes", spec.s("caBundle").len() / 4 * 3),
                "local APIServices may not have a caBundle",
            );
        }
        if spec.b("insecureSkipTLSVerify") {
            e.invalid(
                &spec.at("insecureSkipTLSVerify"),
                true,
                "local APIServices may not have insecureSkipTLSVerify",
            );
        }
        return;
    }
    required(&service.get("namespace"), e);
    required(&service.get("name"), e);
    let port = service.get("port");
    if let Some(n) = port.int() {
        for m in names::port_number(n) {
            e.bad(&port, &format!("port is not valid: {m}"));
        }
    }
    if spec.b("insecureSkipTLSVerify") && ca {
        e.invalid(&spec.at("insecureSkipTLSVerify"), true, "may not be true if caBundle is present");
    }
}
