//! metrics.k8s.io, from kubelets that are made up here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::resource::{NODES, PODS};
use apiserver::NodeTransport;
use apiserver::streaming::AsyncReadWrite;
use client::LocalBody;
use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::setup::{Server, admin, pod};

/// Kubelets whose pods use half a core; each scrape is a second after the one before.
#[derive(Default)]
struct Kubelets {
    scrapes: AtomicUsize,
}

#[async_trait::async_trait]
impl NodeTransport for Kubelets {
    async fn connect(&self, node: &str) -> io::Result<Box<dyn AsyncReadWrite>> {
        if node == "silent" {
            return Err(io::Error::other("it is off"));
        }
        let n = self.scrapes.fetch_add(1, Ordering::SeqCst) + 1;
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(theirs.read_u8().await.expect("a request"));
            }
            assert!(request.starts_with(b"GET /metrics/resource HTTP/1.1\r\n"), "{request:?}");
            let (cpu, at) = (n as f64 / 2.0, n * 1000);
            let text = format!(
                "node_cpu_usage_seconds_total {n} {at}\nnode_memory_working_set_bytes 2.097152e+06 {at}\n\
                 container_cpu_usage_seconds_total{{container=\"c\",namespace=\"default\",pod=\"one\"}} {cpu} {at}\n\
                 container_memory_working_set_bytes{{container=\"c\",namespace=\"default\",pod=\"one\"}} 1000 {at}\n\
                 container_cpu_usage_seconds_total{{container=\"d\",namespace=\"default\",pod=\"one\"}} {cpu} {at}\n\
                 container_memory_working_set_bytes{{container=\"d\",namespace=\"default\",pod=\"one\"}} 4096 {at}\n"
            );
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
                text.len()
            );
            theirs.write_all((head + &text).as_bytes()).await.expect("an answer");
        });
        Ok(Box::new(ours))
    }
}

const NODE_METRICS: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
const POD_METRICS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_and_pods_use() {
    let kubelets = Arc::new(Kubelets::default());
    let s = Server::with_nodes(kubelets.clone()).await;
    for name in ["n1", "silent"] {
        let node = json!({"metadata": {"name": name, "labels": {"zone": name}}});
        s.client.create(&NODES, "", &node).await.expect("node");
    }
    for name in ["one", "two"] {
        let mut v = pod(name);
        v["metadata"]["labels"] = json!({"app": name});
        s.client.create(&PODS, "default", &v).await.expect("pod");
    }
    let (_, found) = s.get("/apis/metrics.k8s.io/v1beta1").await;
    assert_eq!(found["resources"][0]["kind"], "NodeMetrics");
    assert_eq!(found["resources"][1]["verbs"], json!(["get", "list"]));
    let (_, group) = s.get("/apis/metrics.k8s.io").await;
    assert_eq!(group["preferredVersion"]["version"], "v1beta1");
    // The name stays free for a server of somebody's own.
    assert_eq!(s.get("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io").await.0, 404);
    // Nobody has asked, so nobody was asked.
    assert_eq!(kubelets.scrapes.load(Ordering::SeqCst), 0);

    let (code, all) = s.get(NODE_METRICS).await;
    assert_eq!((code, kubelets.scrapes.load(Ordering::SeqCst)), (200, 2));
    let items = all["items"].as_array().expect("items");
    assert_eq!(items.len(), 1, "a node that does not answer is left out: {all}");
    let n1 = &items[0];
    assert_eq!((&n1["kind"], &n1["metadata"]["labels"]["zone"]), (&json!("NodeMetrics"), &json!("n1")));
    assert_eq!(n1["usage"], json!({"cpu": "1", "memory": "2Mi"}));
    assert_eq!((&n1["window"], &n1["timestamp"]), (&json!("1s"), &json!("1970-01-01T00:00:02Z")));

    let (_, one) = s.get(&format!("{POD_METRICS}/one")).await;
    let containers = json!([{"name": "c", "usage": {"cpu": "500m", "memory": "1000"}},
        {"name": "d", "usage": {"cpu": "500m", "memory": "4Ki"}}]);
    assert_eq!(one["containers"], containers);
    let (code, none) = s.get(&format!("{POD_METRICS}/two")).await;
    assert_eq!(
        (code, &none["message"]),
        (404, &json!("podmetrics.metrics.k8s.io \"default/two\" not found"))
    );
    let (code, none) = s.get(&format!("{NODE_METRICS}/silent")).await;
    assert_eq!((code, &none["message"]), (404, &json!("nodemetrics.metrics.k8s.io \"silent\" not found")));

    for (query, found) in [
        ("labelSelector=app%3Done", 1),
        ("labelSelector=app%3Dtwo", 0),
        ("fieldSelector=metadata.name%3Done", 1),
        ("fieldSelector=metadata.name!%3Done", 0),
        ("fieldSelector=metadata.namespace%3Ddefault", 1),
    ] {
        let (_, all) = s.get(&format!("{POD_METRICS}?{query}")).await;
        assert_eq!(all["items"].as_array().map(Vec::len), Some(found), "{query}");
    }
    assert_eq!(s.get("/apis/metrics.k8s.io/v1beta1/pods").await.1["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(s.get(&format!("{POD_METRICS}?watch=1")).await.0, 405);
    assert_eq!(s.get(&format!("{POD_METRICS}?fieldSelector=spec.nodeName%3Dx")).await.0, 400);
    assert_eq!(s.post(POD_METRICS, &json!({})).await.0, 405);
    // All that came within moments of the first question.
    assert_eq!(kubelets.scrapes.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_view_may_see_what_is_used() {
    let s = Server::with_nodes(Arc::new(Kubelets::default())).await;
    let jane = s.as_user("jane");
    let metrics = api::Resource::new("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", true);
    let refused = jane.list(&metrics, "default", &Default::default()).await.expect_err("no right");
    assert_eq!(refused.code, 403);
    let binding = json!({"metadata": {"name": "jane"}, "subjects": [{"kind": "User", "name": "jane"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    s.client.create(&api::resource::ROLE_BINDINGS, "default", &binding).await.expect("binding");
    let mut allowed = false;
    for _ in 0..200 {
        allowed = jane.list(&metrics, "default", &Default::default()).await.is_ok();
        if allowed {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(allowed, "view does not hold the metrics");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_metrics() {
    let s = Server::with_nodes(Arc::new(Kubelets::default())).await;
    s.client.create(&NODES, "", &json!({"metadata": {"name": "n1"}})).await.expect("node");
    s.client.create(&PODS, "default", &pod("one")).await.expect("pod");
    let mut r = Request::get(POD_METRICS)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(bytes::Bytes::new())
        .expect("request");
    r.extensions_mut().insert(admin());
    let (_, body) = client::LocalServer::serve(&s.api, r).await.into_parts();
    // In process nothing but objects is asked for; what a table shows is told by the API's columns.
    let LocalBody::List(list) = body else { panic!("no list") };
    let table = api::columns::table(
        "metrics.k8s.io",
        "PodMetrics",
        &list.items,
        0,
        api::columns::IncludeObject::None,
        &Default::default(),
    );
    let table: Value = serde_json::from_slice(&table).expect("table");
    assert_eq!(table["rows"][0]["cells"], json!(["one", "1", "5096", "1s"]));
    let formats: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .expect("columns")
        .iter()
        .filter_map(|c| c["format"].as_str())
        .collect();
    assert_eq!(formats, ["name", "quantity", "quantity", "duration"]);
}
