//! Whether a remote API service can be used: its Service, its endpoints, and an answer to discovery, in this order. One
//! task per service; it looks again when something changed, soon after a failure, and every half minute.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::{GROUP, PLURAL, Remote, documents};
use crate::conditions::{Condition, set};
use crate::server::ApiServer;
use crate::streaming::endpoint_slices;

const EVERY: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// Discovery is asked this often before it counts as failed: one bad endpoint of several is no outage.
const ATTEMPTS: usize = 5;

pub async fn run(server: ApiServer, remote: Arc<Remote>) {
    let gone = remote.gone.clone();
    tokio::select! { () = gone.cancelled() => {} () = watch(&server, &remote) => {} }
}

async fn watch(server: &ApiServer, remote: &Remote) {
    let mut retry = FIRST_RETRY;
    loop {
        let result = check(server, remote).await;
        let ok = result.is_ok();
        if let Err((reason, why)) = &result {
            tracing::debug!(apiservice = remote.name, reason, why, "an API service is not available");
        }
        write(server, remote, result).await;
        let wait = if ok { EVERY } else { retry };
        retry = if ok { FIRST_RETRY } else { (retry * 2).min(EVERY) };
        tokio::select! {
            () = remote.look.notified() => retry = FIRST_RETRY,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

type Checked = Result<(), (&'static str, String)>;

async fn check(server: &ApiServer, remote: &Remote) -> Checked {
    let b = &remote.backend;
    let reader = server.reader();
    let place = format!("service/{} in {:?}", b.name, b.namespace);
    let unreadable = |e: String| ("ServiceAccessError", format!("{place} cannot be checked due to: {e}"));
    let service =
        reader.get("", "services", &b.namespace, &b.name).await.map_err(|e| unreadable(e.message))?;
    let Some(service) = service else {
        return Err(("ServiceNotFound", format!("{place} is not present")));
    };
    let service = service.value().map_err(|e| unreadable(e.to_string()))?;
    let spec = &service["spec"];
    if spec["type"] == "ClusterIP" {
        let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(port) = ports.iter().find(|p| p["port"].as_u64() == Some(u64::from(b.port))) else {
            return Err(("ServicePortError", format!("{place} is not listening on port {}", b.port)));
        };
        let slices = endpoint_slices(reader.as_ref(), &b.namespace, &b.name).await.map_err(|e| {
            ("EndpointsAccessError", format!("{place} cannot be checked due to: {}", e.message))
        })?;
        if slices.is_empty() {
            return Err(("EndpointsNotFound", format!("cannot find endpointslices for {place}")));
        }
        let name = port["name"].as_str().unwrap_or_default();
        if !slices.iter().any(|s| has_endpoint(s, name)) {
            let why = format!("endpointslices for {place} have no addresses with port name {name:?}");
            return Err(("MissingEndpoints", why));
        }
    }
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match documents::fetch(server, remote).await {
            Ok(new) => {
                let changed = *remote.documents.read() != new;
                if changed {
                    *remote.documents.write() = new;
                    server.openapi.forget();
                }
                return Ok(());
            }
            Err(e) => last = e,
        }
    }
    Err(("FailedDiscoveryCheck", last))
}

/// Whether a slice has a ready endpoint on this port.
fn has_endpoint(slice: &Value, port: &str) -> bool {
    let items = |k: &str| slice[k].as_array().map(Vec::as_slice).unwrap_or_default();
    items("endpoints").iter().any(|e| e["conditions"]["ready"] != false)
        && items("ports").iter().any(|p| p["name"].as_str().unwrap_or_default() == port && p["port"].is_u64())
}

async fn write(server: &ApiServer, remote: &Remote, result: Checked) {
    // Who sees the condition may send a request at once.
    remote.available.store(result.is_ok(), Ordering::Release);
    let now = client::clock::rfc3339(client::clock::now());
    let status = result.is_ok();
    let (reason, message) = result.err().unwrap_or_else(|| ("Passed", "all checks passed".into()));
    let decide = &mut |mut v: Value| {
        // Another object by the same name, or what it leads to has changed: its own check will tell.
        if v["spec"] != remote.spec {
            return Ok(None);
        }
        set(&mut v, Condition { kind: "Available", status, reason, message: &message }, &now);
        Ok(Some(v))
    };
    if let Err(e) = server.reader().update(GROUP, PLURAL, "", &remote.name, decide).await
        && !e.is_not_found()
    {
        tracing::warn!(apiservice = remote.name, error = %e, "failed to write the status of an API service");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_of_a_port() {
        let s = json!({"endpoints": [{"conditions": {"ready": false}}, {}], "ports": [{"name": "tls", "port": 1}]});
        assert!(has_endpoint(&s, "tls") && !has_endpoint(&s, "other"));
        assert!(!has_endpoint(
            &json!({"endpoints": [{"conditions": {"ready": false}}], "ports": [{"port": 1}]}),
            ""
        ));
    }
}
