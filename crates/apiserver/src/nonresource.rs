//! Paths beside the resources: discovery, version, health, metrics, configuration, OpenAPI.

use api::{Reason, Status};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

use crate::body::{self, Reply};
use crate::call::Call;
use crate::chain::no_such_path;
use crate::negotiate::wants_aggregated;
use crate::server::ApiServer;
use crate::{aggregation, discovery, openapi};

/// The level that Kelson stands at.
pub const GIT_VERSION: &str = "v1.37.0+kelson";

pub async fn dispatch(s: &ApiServer, call: Call) -> Result<Reply, Status> {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return Err(Status::new(
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        ));
    }
    let path = call.uri.path().to_owned();
    let trimmed = path.trim_end_matches('/');
    let parts: Vec<&str> = trimmed.split('/').skip(1).collect();
    match parts.as_slice() {
        [] => Ok(body::json_value(StatusCode::OK, &paths(s))),
        ["api" | "apis"] if wants_aggregated(&call.headers) => Ok(aggregated(s, &call, parts == ["api"])),
        ["api"] => Ok(body::json_value(StatusCode::OK, &discovery::api_versions(s))),
        ["apis"] => {
            Ok(body::json_value(StatusCode::OK, &discovery::group_list(&s.catalog(), &s.aggregation.all())))
        }
        ["api", version] => resources(s, "", version),
        ["apis", group] => match discovery::group(&s.catalog(), &s.aggregation.all(), group) {
            Some(v) => Ok(body::json_value(StatusCode::OK, &v)),
            None => Ok(no_such_path()),
        },
        ["apis", group, version] => resources(s, group, version),
        ["kelson", "v1", "tunnel"] => crate::streaming::accept_tunnel(s, call),
        ["version"] => Ok(body::json_value(StatusCode::OK, &version())),
        ["healthz" | "livez" | "readyz", rest @ ..] => health(s, &call, &parts, rest).await,
        ["metrics"] => metrics(s).await,
        ["configz"] => Ok(body::json_value(StatusCode::OK, &configz(s))),
        [".well-known", "openid-configuration"] => {
            let issuer = s.authn.tokens().verifier().issuer().to_owned();
            let jwks = format!("{}/openid/v1/jwks", advertised(s));
            Ok(body::json_value(StatusCode::OK, &pki::oidc::configuration(&issuer, &jwks)))
        }
        ["openid", "v1", "jwks"] => {
            let keys = pki::oidc::jwks(s.authn.tokens().verifier()).to_string();
            Ok(body::bytes(StatusCode::OK, "application/jwk-set+json", keys))
        }
        ["openapi", "v2"] => openapi::v2(s, &call),
        ["openapi", "v3", rest @ ..] => {
            let rest = rest.join("/");
            match s.aggregation.find(&format!("/{rest}")) {
                Some(remote) => aggregation::proxy::handle(s, call, remote).await,
                None => openapi::v3(s, &call, &rest),
            }
        }
        _ => Ok(no_such_path()),
    }
}

/// Where the outside finds this server.
fn advertised(s: &ApiServer) -> String {
    format!("https://{}", std::net::SocketAddr::new(s.cluster.advertise_address, s.cluster.advertise_port))
}

fn paths(s: &ApiServer) -> serde_json::Value {
    let mut all: Vec<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/configz",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .iter()
    .map(|p| (*p).to_owned())
    .collect();
    let c = s.catalog();
    for g in c.groups() {
        for v in c.group_versions(g) {
            if g.is_empty() {
                all.push(format!("/api/{v}"));
            } else {
                all.push(format!("/apis/{g}"));
                all.push(format!("/apis/{g}/{v}"));
            }
        }
    }
    for r in s.aggregation.all() {
        all.push(format!("/apis/{}", r.group));
        all.push(format!("/apis/{}/{}", r.group, r.version));
    }
    all.sort();
    all.dedup();
    json!({"paths": all})
}

fn aggregated(s: &ApiServer, call: &Call, core: bool) -> Reply {
    let (text, etag) = discovery::aggregated(&s.catalog(), &s.aggregation.all(), core);
    let quoted = format!("\"{etag}\"");
    if call.header("if-none-match") == quoted {
        let mut r = body::bytes(StatusCode::NOT_MODIFIED, "", "");
        if let Ok(v) = HeaderValue::from_str(&quoted) {
            r.headers_mut().insert(header::ETAG, v);
        }
        return r;
    }
    let mut r = body::bytes(
        StatusCode::OK,
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        text,
    );
    r.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(v) = HeaderValue::from_str(&quoted) {
        r.headers_mut().insert(header::ETAG, v);
    }
    r
}

fn resources(s: &ApiServer, group: &str, version: &str) -> Result<Reply, Status> {
    Ok(match discovery::resource_list(&s.catalog(), group, version) {
        Some(v) => body::json_value(StatusCode::OK, &v),
        None => no_such_path(),
    })
}

pub fn version() -> serde_json::Value {
    json!({
        "major": "1", "minor": "37", "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": GIT_VERSION, "gitCommit": option_env!("KELSON_COMMIT").unwrap_or(""), "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none (rust)", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, arch()),
    })
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The checks of a health path: name and what is wrong, if anything.
async fn checks(s: &ApiServer, which: &str) -> Vec<(&'static str, Option<String>)> {
    let mut all = vec![("ping", None)];
    let store = s.storage.store().check().await.err().map(|e| e.to_string());
    all.push(("etcd", store));
    if which != "livez" {
        let start =
            if s.is_ready() { None } else { Some("the server has not finished its start".to_owned()) };
        all.push(("poststarthook/start-kelson", start));
    }
    if which == "readyz" {
        let stop = s.is_stopping().then(|| "the server is shutting down".to_owned());
        all.push(("shutdown", stop));
    }
    all
}

async fn health(s: &ApiServer, call: &Call, parts: &[&str], rest: &[&str]) -> Result<Reply, Status> {
    let which = parts.first().copied().unwrap_or_default();
    let all = checks(s, which).await;
    if !rest.is_empty() {
        let name = rest.join("/");
        return Ok(match all.iter().find(|(n, _)| *n == name) {
            Some((_, None)) => body::text(StatusCode::OK, "ok"),
            Some((n, Some(why))) => {
                body::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {n}: {why}\n"))
            }
            None => no_such_path(),
        });
    }
    let excluded: Vec<&str> = call.query.all("exclude").collect();
    let mut out = String::new();
    let mut failed = false;
    for (name, why) in all {
        match why {
            _ if excluded.contains(&name) => out.push_str(&format!("[+]{name} excluded: ok\n")),
            None => out.push_str(&format!("[+]{name} ok\n")),
            Some(why) => {
                failed = true;
                tracing::info!(check = name, why, "health check failed");
                out.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    if failed {
        out.push_str(&format!("{which} check failed\n"));
        return Ok(body::text(StatusCode::INTERNAL_SERVER_ERROR, out));
    }
    if call.query.get("verbose").is_some() {
        out.push_str(&format!("{which} check passed\n"));
        return Ok(body::text(StatusCode::OK, out));
    }
    Ok(body::text(StatusCode::OK, "ok"))
}

async fn metrics(s: &ApiServer) -> Result<Reply, Status> {
    let mut objects = Vec::new();
    for d in s.catalog().iter().filter(|d| d.stored && d.is_served()) {
        objects.push((d.group_resource(), s.storage.count(&d.key("", "")).await?));
    }
    let text = s.metrics.render(s.storage.store().stats(), &objects);
    Ok(body::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
}

fn configz(s: &ApiServer) -> serde_json::Value {
    json!({"kelson-apiserver": {
        "serviceClusterIPRanges": s.cluster.service_cidrs,
        "clusterCIDRs": s.cluster.cluster_cidrs,
        "advertiseAddress": s.cluster.advertise_address.to_string(),
        "serviceNodePortRange": format!("{}-{}", s.cluster.node_ports.start(), s.cluster.node_ports.end()),
        "featureGates": s.cluster.feature_gates,
        "admissionPlugins": s.admission.names(),
    }})
}
