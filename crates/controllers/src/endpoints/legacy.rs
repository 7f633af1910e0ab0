//! The endpoints loop: the older `v1 Endpoints` object of each service with a selector, at most 1,000 addresses.

use std::collections::BTreeMap;

use api::Object;
use api::resource::{ENDPOINTS, PODS, SERVICES};
use client::{DeleteOptions, Informer};
use serde_json::{Map, Value, json};

use super::{HEADLESS, Service, enqueue_by_pods, plan, selected, selects};
use crate::Context;
use crate::pods::Pod;
use crate::skeleton::{self, Error, Key, Next, Queue};

const MANAGED: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const MAX: usize = 1000;

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (services, pods, endpoints) =
        (ctx.informers.get(&SERVICES), ctx.informers.get(&PODS), ctx.informers.get(&ENDPOINTS));
    skeleton::enqueue_self(&services, &queue);
    enqueue_by_pods(&services, &pods, &queue);
    let (q, s) = (queue.clone(), services.clone());
    endpoints.on_change(move |c| {
        if let Some(o) = c.object().filter(|o| s.get(o.namespace(), o.name()).is_some()) {
            q.add(skeleton::key_of(o));
        }
    });
    if !skeleton::synced(&ctx.token, &[&services, &pods, &endpoints]).await {
        return;
    }
    skeleton::work("endpoints", &ctx.token, &queue, 5, |key| {
        reconcile(&ctx, &services, &pods, &endpoints, key)
    })
    .await;
}

async fn reconcile(
    ctx: &Context,
    services: &Informer,
    pods: &Informer,
    all: &Informer,
    key: Key,
) -> Result<Next, Error> {
    let existing = all.get(&key.0, &key.1);
    let Some(service) = services.get(&key.0, &key.1).filter(|s| !s.meta().is_deleting()) else {
        let ours = existing.filter(|e| e.meta().labels.get(MANAGED).is_some_and(|m| m == MANAGER));
        if let Some(o) = ours {
            ctx.client.delete_if_there(&ENDPOINTS, &key.0, &key.1, &DeleteOptions::uid(o.uid())).await?;
        }
        return Ok(Next::Wait);
    };
    let s: Service = service.view()?;
    if selects(&s).is_none() {
        return Ok(Next::Wait);
    }
    let subsets = subsets(&s, &selected(&s, &key.0, pods)?);
    let labels = labels(&service, &s);
    match existing {
        None => {
            let body = json!({ "apiVersion": "v1", "kind": "Endpoints",
                "metadata": { "name": key.1, "labels": labels }, "subsets": subsets });
            ctx.client.create(&ENDPOINTS, &key.0, &body).await?;
        }
        Some(old) => {
            let mut value = old.value()?;
            let have = if value["subsets"].is_null() { json!([]) } else { value["subsets"].take() };
            let same_labels = json!(old.meta().labels) == Value::Object(labels.clone());
            if have != json!(subsets) || !same_labels {
                value["subsets"] = json!(subsets);
                value["metadata"]["labels"] = Value::Object(labels);
                ctx.client.update(&ENDPOINTS, &key.0, &key.1, "", &value).await?;
            }
        }
    }
    Ok(Next::Wait)
}

fn labels(service: &Object, s: &Service) -> Map<String, Value> {
    let mut l: Map<String, Value> =
        service.meta().labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    l.insert(MANAGED.into(), json!(MANAGER));
    if s.spec.cluster_ip == "None" {
        l.insert(HEADLESS.into(), json!(""));
    } else {
        l.remove(HEADLESS);
    }
    l
}

/// Addresses grouped by the ports they serve.
fn subsets(s: &Service, pods: &[Pod]) -> Vec<Value> {
    let family = s.spec.ip_families.first().map_or("IPv4", String::as_str);
    let mut groups: BTreeMap<String, (Vec<Value>, Vec<Value>, Vec<Value>)> = BTreeMap::new();
    let eligible = pods.iter().filter(|p| {
        plan::included(p) && (!p.object.meta().is_deleting() || s.spec.publish_not_ready_addresses)
    });
    for pod in eligible.take(MAX) {
        let ports: Vec<Value> = s
            .spec
            .ports
            .iter()
            .filter_map(|p| {
                let mut v = json!({ "port": plan::target(p, pod)?, "protocol": p.protocol });
                if !p.name.is_empty() {
                    v["name"] = json!(p.name);
                }
                if let Some(app) = &p.app_protocol {
                    v["appProtocol"] = json!(app);
                }
                Some(v)
            })
            .collect();
        let Some(ip) = plan::addresses(pod, family).first().copied() else { continue };
        let mut address = json!({ "ip": ip, "targetRef": { "kind": "Pod", "namespace": pod.object.namespace(),
            "name": pod.object.name(), "uid": pod.object.uid() } });
        if !pod.view.spec.node_name.is_empty() {
            address["nodeName"] = json!(pod.view.spec.node_name);
        }
        if !pod.view.spec.hostname.is_empty() && !pod.view.spec.subdomain.is_empty() {
            address["hostname"] = json!(pod.view.spec.hostname);
        }
        let group = groups.entry(json!(ports).to_string()).or_insert_with(|| (ports, Vec::new(), Vec::new()));
        if pod.is_ready() || s.spec.publish_not_ready_addresses {
            group.1.push(address)
        } else {
            group.2.push(address)
        }
    }
    let subset = |(ports, ready, not): (Vec<Value>, Vec<Value>, Vec<Value>)| {
        let mut v = json!({});
        for (name, list) in [("addresses", ready), ("notReadyAddresses", not), ("ports", ports)] {
            if !list.is_empty() {
                v[name] = json!(list);
            }
        }
        v
    };
    groups.into_values().map(subset).collect()
}
