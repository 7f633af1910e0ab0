//! Services: addresses and ports.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::setup::*;

fn service(name: &str, spec: Value) -> Value {
    let mut v =
        json!({"metadata": {"name": name}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}});
    for (k, x) in spec.as_object().expect("spec") {
        v["spec"][k] = x.clone();
    }
    v
}

const IPS: &str = "/apis/networking.k8s.io/v1/ipaddresses";

#[tokio::test]
async fn addresses_are_given_and_given_back() {
    let s = Server::start().await;
    let (code, v) = s.post(SERVICES, &service("a", json!({}))).await;
    assert_eq!(code, 201, "{v}");
    let ip = v["spec"]["clusterIP"].as_str().expect("ip").to_owned();
    assert_eq!(v["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(
        (v["spec"]["ipFamilies"].clone(), v["spec"]["ipFamilyPolicy"].as_str()),
        (json!(["IPv4"]), Some("SingleStack"))
    );
    let (_, a) = s.get(&format!("{IPS}/{ip}")).await;
    assert_eq!(a["spec"]["parentRef"]["name"], "a");
    let (code, e) = s.post(SERVICES, &service("b", json!({"clusterIP": ip}))).await;
    assert_eq!(code, 422);
    assert!(e["message"].as_str().is_some_and(|m| m.contains("provided IP is already allocated")), "{e}");
    assert_eq!(s.post(SERVICES, &service("b", json!({"clusterIP": "1.2.3.4"}))).await.0, 422);
    // An update that names no address keeps it.
    let (code, kept) = s.put(&format!("{SERVICES}/a"), &service("a", json!({}))).await;
    assert_eq!((code, kept["spec"]["clusterIP"].as_str()), (200, Some(ip.as_str())), "{kept}");
    s.delete(&format!("{SERVICES}/a"), &json!(null)).await;
    assert_eq!(s.get(&format!("{IPS}/{ip}")).await.0, 404);
    assert_eq!(s.post(SERVICES, &service("b", json!({"clusterIP": ip}))).await.0, 201);
}

#[tokio::test]
async fn the_kubernetes_service_stands_at_the_first_address() {
    let s = Server::start().await;
    let (_, v) = s.get(&format!("{SERVICES}/kubernetes")).await;
    assert_eq!(v["spec"]["clusterIP"], "10.96.0.1");
    let (_, v) = s.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await;
    assert_eq!(v["endpoints"][0]["addresses"], json!(["192.0.2.1"]));
    assert_eq!(s.get(&format!("{IPS}/10.96.0.1")).await.0, 200);
    assert_eq!(
        s.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").await.1["spec"]["cidrs"],
        json!(["10.96.0.0/16"])
    );
}

#[tokio::test]
async fn two_services_never_share_an_address_or_a_port() {
    let s = Server::with("10.96.0.0/27").await;
    let all = (0..10).map(|i| {
        let s = &s;
        async move { s.post(SERVICES, &service(&format!("s{i}"), json!({"type": "NodePort"}))).await }
    });
    let made = futures::future::join_all(all).await;
    let (mut ips, mut ports) = (HashSet::new(), HashSet::new());
    for (code, v) in made {
        assert_eq!(code, 201, "{v}");
        assert!(ips.insert(v["spec"]["clusterIP"].clone()));
        assert!(ports.insert(v["spec"]["ports"][0]["nodePort"].clone()));
    }
    // 30 addresses less the kubernetes Service's; 11 ports.
    assert_eq!(s.post(SERVICES, &service("p", json!({"type": "NodePort"}))).await.0, 201);
    let (code, e) = s.post(SERVICES, &service("q", json!({"type": "NodePort"}))).await;
    assert_eq!(code, 500, "{e}");
    for i in 11..29 {
        let (code, v) = s.post(SERVICES, &service(&format!("s{i}"), json!({}))).await;
        assert_eq!(code, 201, "{i} {v}");
        assert!(ips.insert(v["spec"]["clusterIP"].clone()));
    }
    assert_eq!(s.post(SERVICES, &service("full", json!({}))).await.0, 500);
    s.delete(&format!("{SERVICES}/s0"), &json!(null)).await;
    assert_eq!(s.post(SERVICES, &service("full", json!({"type": "NodePort"}))).await.0, 201);
}

#[tokio::test]
async fn types_change() {
    let s = Server::start().await;
    let uri = format!("{SERVICES}/a");
    s.post(SERVICES, &service("a", json!({"type": "NodePort"}))).await;
    let (_, v) = s.merge(&uri, &json!({"spec": {"type": "ClusterIP"}})).await;
    assert!(v["spec"]["ports"][0].get("nodePort").is_none(), "{v}");
    let (code, v) = s.merge(&uri, &json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30005}]}})).await;
    assert_eq!((code, v["spec"]["ports"][0]["nodePort"].as_i64()), (200, Some(30005)), "{v}");
    let (code, e) = s
        .post(
            SERVICES,
            &service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30005}]})),
        )
        .await;
    assert_eq!(code, 422);
    assert!(e["message"].as_str().is_some_and(|m| m.contains("provided port is already allocated")), "{e}");
    assert_eq!(
        s.post(SERVICES, &service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]})))
            .await
            .0,
        422
    );
    let (code, v) = s.merge(&uri, &json!({"spec": {"type": "ExternalName", "externalName": "x.example.com", "clusterIP": null, "clusterIPs": null}})).await;
    assert_eq!((code, v["spec"].get("clusterIP")), (200, None), "{v}");
    let (code, v) = s.post(SERVICES, &service("h", json!({"clusterIP": "None"}))).await;
    assert_eq!((code, v["spec"]["clusterIPs"].clone()), (201, json!(["None"])), "{v}");
}

#[tokio::test]
async fn a_restart_repairs_allocations() {
    let s = Server::start().await;
    let (_, v) = s.post(SERVICES, &service("a", json!({}))).await;
    let ip = v["spec"]["clusterIP"].as_str().expect("ip").to_owned();
    let key = format!("/registry/ipaddresses/{ip}");
    let txn = store::Txn { then: vec![store::Op::Delete { key: key.clone() }], ..Default::default() };
    store::Store::txn(s.store.as_ref(), txn).await.expect("deleted");
    let s = s.restart("10.96.0.0/16").await;
    assert_eq!(s.get(&format!("{IPS}/{ip}")).await.1["spec"]["parentRef"]["name"], "a");
}
