//! What a cluster has from its first moment: namespaces, default roles and bindings, priority classes, flow control.
//! Read and written through the `Reader`, side by side, so that the store joins the writes into few fsyncs. A later
//! start writes only what is missing or was taken away.

pub mod flow;
pub mod keys;
pub mod rbac;

use api::{Object, Status};
use futures::stream::{self, TryStreamExt};
use serde_json::{Value, json};

use crate::{FrontProxy, Reader};

const RBAC: &str = "rbac.authorization.k8s.io";
pub const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Writes under way at once.
const PARALLEL: usize = 128;

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    })
}

fn priority_classes() -> [Value; 2] {
    let class = |name: &str, value: i64, text: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name, "generation": 1},
            "value": value, "description": text, "preemptionPolicy": "PreemptLowerPriority",
        })
    };
    [
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their node.",
        ),
    ]
}

/// One object that must be there.
struct Want {
    group: &'static str,
    plural: &'static str,
    value: Value,
    /// Present for what is brought back to its default.
    rbac: Option<rbac::DefaultObject>,
}

/// Makes everything that is missing. Namespaces come first: others live in them.
pub async fn run(reader: &dyn Reader, front_proxy: Option<&FrontProxy>) -> Result<(), Status> {
    let first = NAMESPACES.map(|n| Want { group: "", plural: "namespaces", value: namespace(n), rbac: None });
    ensure(reader, first.into()).await?;
    let mut rest: Vec<Want> = Vec::new();
    for d in rbac::defaults() {
        rest.push(Want { group: RBAC, plural: d.plural(), value: d.value(), rbac: Some(d) });
    }
    for value in priority_classes() {
        rest.push(Want { group: "scheduling.k8s.io", plural: "priorityclasses", value, rbac: None });
    }
    let now = client::clock::rfc3339(client::clock::now());
    for (plural, value) in flow::defaults(&now) {
        rest.push(Want { group: "flowcontrol.apiserver.k8s.io", plural, value, rbac: None });
    }
    // Since when uses of tokens in secrets are noted: the cleaner of those tokens goes by it.
    let since = now.get(..10).unwrap_or_default();
    let tracking = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"since": since},
        "metadata": {"namespace": "kube-system", "name": TOKEN_TRACKING}});
    rest.push(Want { group: "", plural: "configmaps", value: tracking, rbac: None });
    ensure(reader, rest).await?;
    match front_proxy {
        Some(f) => publish(reader, f).await,
        None => Ok(()),
    }
}

const TOKEN_TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";
const AUTHENTICATION: &str = "extension-apiserver-authentication";

/// Tells extension API servers whom they may believe. What another server of the cluster said stays.
async fn publish(reader: &dyn Reader, f: &FrontProxy) -> Result<(), Status> {
    let want = json!({
        "client-ca-file": f.client_ca,
        "requestheader-allowed-names": json!([pki::dir::FRONT_PROXY_CLIENT]).to_string(),
        "requestheader-client-ca-file": f.ca,
        "requestheader-extra-headers-prefix": json!(["X-Remote-Extra-"]).to_string(),
        "requestheader-group-headers": json!(["X-Remote-Group"]).to_string(),
        "requestheader-uid-headers": json!(["X-Remote-Uid"]).to_string(),
        "requestheader-username-headers": json!(["X-Remote-User"]).to_string(),
    });
    let meta = json!({"name": AUTHENTICATION, "namespace": "kube-system"});
    let new = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": want});
    match reader.create("", "configmaps", new).await {
        Err(e) if e.is_already_exists() => {}
        other => return other.map(drop),
    }
    let both = |have: &Value, want: &Value| {
        let (have, want) = (have.as_str().unwrap_or_default(), want.as_str().unwrap_or_default());
        if have.contains(want.trim()) { have.to_owned() } else { format!("{have}{want}") }
    };
    let set = &mut |mut v: Value| {
        let before = v["data"].clone();
        let mut data = want.clone();
        for k in ["client-ca-file", "requestheader-client-ca-file"] {
            data[k] = json!(both(&before[k], &want[k]));
        }
        if before == data {
            return Ok(None);
        }
        v["data"] = data;
        Ok(Some(v))
    };
    reader.update("", "configmaps", "kube-system", AUTHENTICATION, set).await.map(drop)
}

async fn ensure(reader: &dyn Reader, wants: Vec<Want>) -> Result<(), Status> {
    stream::iter(wants.into_iter().map(Ok)).try_for_each_concurrent(PARALLEL, |w| ensure_one(reader, w)).await
}

async fn ensure_one(reader: &dyn Reader, w: Want) -> Result<(), Status> {
    let meta = &w.value["metadata"];
    let namespace = meta["namespace"].as_str().unwrap_or_default().to_owned();
    let name = meta["name"].as_str().unwrap_or_default().to_owned();
    let have: Option<Object> = reader.get(w.group, w.plural, &namespace, &name).await?;
    let Some(have) = have else {
        return match reader.create(w.group, w.plural, w.value).await {
            Ok(_) => Ok(()),
            // Another server of the same cluster was faster.
            Err(e) if e.is_already_exists() => Ok(()),
            Err(e) => Err(e),
        };
    };
    let Some(d) = w.rbac else { return Ok(()) };
    if d.reconcile(&have.value().map_err(Status::internal)?).is_none() {
        return Ok(());
    }
    let update = reader.update(w.group, w.plural, &namespace, &name, &mut |v| Ok(d.reconcile(&v))).await;
    match update {
        Ok(_) => Ok(()),
        Err(e) if e.is_not_found() => Ok(()),
        Err(e) => Err(e),
    }
}
