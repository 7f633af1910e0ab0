//! The endpoints loop: the older `v1 Endpoints` object of each service with a selector, at most 1,000 addresses.

use std::collections::BTreeMap;
use std::time::Duration;

use api::Object;
use api::resource::{ENDPOINTS, PODS, SERVICES};
use client::{DeleteOptions, Informer, ObjectRef, clock};
use serde_json::{Value, json};

use super::trigger::{self, Triggers};
use super::{HEADLESS, Service, enqueue_by_pods, is_headless, plan, precise, selected, selects};
use crate::Context;
use crate::pods::Pod;
use crate::skeleton::{self, Error, Key, Next, Queue};

const MANAGED: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MAX: usize = 1000;

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (services, pods, endpoints) =
        (ctx.informers.get(&SERVICES), ctx.informers.get(&PODS), ctx.informers.get(&ENDPOINTS));
    skeleton::enqueue_self(&services, &queue);
    enqueue_by_pods(&services, &pods, &queue);
    let (q, s) = (queue.clone(), services.clone());
    endpoints.on_change(move |c| {
        if let Some(o) = c.object().filter(|o| s.get(o.namespace(), o.name()).is_some() || is_ours(o)) {
            q.add(skeleton::key_of(o));
        }
    });
    if !skeleton::synced(&ctx.token, &[&services, &pods, &endpoints]).await {
        return;
    }
    let triggers = Triggers::default();
    skeleton::work("endpoints", &ctx.token, &queue, 5, |key| {
        let (ctx, services, pods, endpoints, triggers) = (&ctx, &services, &pods, &endpoints, &triggers);
        reconcile(ctx, services, pods, endpoints, triggers, key)
    })
    .await;
}

fn is_ours(o: &Object) -> bool {
    o.meta().labels.get(MANAGED).is_some_and(|m| m == MANAGER)
}

async fn reconcile(
    ctx: &Context,
    services: &Informer,
    pods: &Informer,
    all: &Informer,
    triggers: &Triggers,
    key: Key,
) -> Result<Next, Error> {
    let existing = all.get(&key.0, &key.1);
    let Some(service) = services.get(&key.0, &key.1).filter(|s| !s.meta().is_deleting()) else {
        triggers.forget(&key);
        if let Some(o) = existing.filter(is_ours) {
            ctx.client.delete_if_there(&ENDPOINTS, &key.0, &key.1, &DeleteOptions::uid(o.uid())).await?;
        }
        return Ok(Next::Wait);
    };
    let s: Service = service.view()?;
    if selects(&s).is_none() {
        return Ok(Next::Wait);
    }
    let pods = selected(&s, &key.0, pods)?;
    let created = service.meta().creation_timestamp().and_then(clock::parse);
    let trigger = precise(triggers.look(&key, created, &pods));
    let (subsets, truncated) = truncate(subsets(service.name(), &s, &pods));
    let labels = labels(&service, &s);
    let Some(old) = existing else {
        let mut annotations = json!({});
        if let Some(t) = &trigger {
            annotations[trigger::ANNOTATION] = json!(t);
        }
        if truncated {
            annotations[OVER_CAPACITY] = json!("truncated");
        }
        let body = json!({ "apiVersion": "v1", "kind": "Endpoints",
            "metadata": { "name": key.1, "labels": labels, "annotations": annotations }, "subsets": subsets });
        return match ctx.client.create(&ENDPOINTS, &key.0, &body).await {
            Err(s) if s.causes.iter().any(|c| c.reason == "NamespaceTerminating") => Ok(Next::Wait),
            Err(s) if s.code == 403 => {
                let text = format!("Failed to create endpoint for service {}/{}: {s}", key.0, key.1);
                ctx.events.warning(ObjectRef::of(&ENDPOINTS, &service), "FailedToCreateEndpoint", text);
                Err(s.into())
            }
            other => Ok(other.map(|_| Next::Wait)?),
        };
    };
    let mut value = old.value()?;
    let have = if value["subsets"].is_null() { json!([]) } else { value["subsets"].take() };
    let marked = value["metadata"]["annotations"][OVER_CAPACITY] == "truncated";
    if have == json!(subsets) && old.meta().labels == labels && marked == truncated {
        return Ok(Next::Wait);
    }
    value["subsets"] = json!(subsets);
    value["metadata"]["labels"] = json!(labels);
    let notes = [(trigger::ANNOTATION, trigger), (OVER_CAPACITY, truncated.then(|| "truncated".to_owned()))];
    for (name, note) in notes {
        match note {
            Some(v) => value["metadata"]["annotations"][name] = json!(v),
            None => {
                value["metadata"]["annotations"].as_object_mut().map(|m| m.remove(name));
            }
        }
    }
    match ctx.client.update(&ENDPOINTS, &key.0, &key.1, "", &value).await {
        // Somebody has written it meanwhile, or our own write is not seen yet.
        Err(s) if s.is_conflict() => Ok(Next::After(Duration::from_millis(20))),
        other => Ok(other.map(|_| Next::Wait)?),
    }
}

fn labels(service: &Object, s: &Service) -> BTreeMap<String, String> {
    let mut l = service.meta().labels.to_map();
    l.insert(MANAGED.into(), MANAGER.into());
    if is_headless(s) {
        l.insert(HEADLESS.into(), String::new());
    } else {
        l.remove(HEADLESS);
    }
    l
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Addresses {
    ready: BTreeMap<String, String>,
    not_ready: BTreeMap<String, String>,
}

/// Ports that the same addresses serve stand together; addresses and ports in a stable order.
fn subsets(name: &str, s: &Service, pods: &[Pod]) -> Vec<(Vec<Value>, Vec<Value>, Vec<Value>)> {
    let family = plan::families(s).first().copied().unwrap_or("IPv4");
    let mut by_port: BTreeMap<String, (Value, Addresses)> = BTreeMap::new();
    let open = s.spec.publish_not_ready_addresses;
    for pod in pods.iter().filter(|p| plan::included(p) && (open || !p.object.meta().is_deleting())) {
        let Some(ip) = plan::addresses(pod, family).first().copied() else { continue };
        let address = address(name, pod, ip).to_string();
        let mut serve = |port: Value| {
            let (_, all) = by_port.entry(port.to_string()).or_insert_with(|| (port, Addresses::default()));
            let side = if open || pod.is_ready() { &mut all.ready } else { &mut all.not_ready };
            side.insert(ip.to_owned(), address.clone());
        };
        if s.spec.ports.is_empty() {
            serve(Value::Null);
        }
        for p in &s.spec.ports {
            let Some(target) = plan::target(p, pod) else { continue };
            let mut v = json!({ "port": target, "protocol": p.protocol });
            if !p.name.is_empty() {
                v["name"] = json!(p.name);
            }
            if let Some(app) = &p.app_protocol {
                v["appProtocol"] = json!(app);
            }
            serve(v);
        }
    }
    let mut by_addresses: BTreeMap<Addresses, Vec<Value>> = BTreeMap::new();
    for (port, addresses) in by_port.into_values() {
        by_addresses.entry(addresses).or_default().extend(Some(port).filter(|p| !p.is_null()));
    }
    let list =
        |m: BTreeMap<String, String>| m.into_values().filter_map(|a| serde_json::from_str(&a).ok()).collect();
    by_addresses.into_iter().map(|(a, ports)| (list(a.ready), list(a.not_ready), ports)).collect()
}

fn address(service: &str, pod: &Pod, ip: &str) -> Value {
    let mut a = json!({ "ip": ip, "targetRef": { "kind": "Pod", "namespace": pod.object.namespace(),
        "name": pod.object.name(), "uid": pod.object.uid() } });
    if !pod.view.spec.node_name.is_empty() {
        a["nodeName"] = json!(pod.view.spec.node_name);
    }
    if let Some(hostname) = plan::hostname(pod, service) {
        a["hostname"] = json!(hostname);
    }
    a
}

/// At most 1,000 addresses, those that are ready before others, as they stand; and whether some had to go.
fn truncate(subsets: Vec<(Vec<Value>, Vec<Value>, Vec<Value>)>) -> (Vec<Value>, bool) {
    let ready: usize = subsets.iter().map(|s| s.0.len()).sum();
    let total = ready + subsets.iter().map(|s| s.1.len()).sum::<usize>();
    let (mut left, mut left_not) = (MAX, MAX.saturating_sub(ready));
    let mut out = Vec::with_capacity(subsets.len());
    for (mut ready, mut not, ports) in subsets {
        ready.truncate(left);
        left -= ready.len();
        not.truncate(left_not);
        left_not -= not.len();
        if ready.is_empty() && not.is_empty() {
            continue;
        }
        let mut v = json!({});
        for (name, list) in [("addresses", ready), ("notReadyAddresses", not), ("ports", ports)] {
            if !list.is_empty() {
                v[name] = json!(list);
            }
        }
        out.push(v);
    }
    (out, total > MAX)
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{pod, service};
    use super::*;

    #[test]
    fn ports_of_the_same_addresses_stand_together() {
        let s = service(json!({"ports": [{"name": "a", "protocol": "TCP", "port": 1, "targetPort": 1},
            {"name": "b", "protocol": "TCP", "port": 2, "targetPort": "web"}]}));
        let mut other = pod("c", "10.0.0.3", true, false);
        other.object =
            Object::from_value(json!({"metadata": {"name": "c", "namespace": "d", "uid": "c"}}), 1)
                .expect("object");
        let pods = [
            pod("a", "10.0.0.1", true, false),
            pod("b", "10.0.0.2", false, false),
            pod("x", "10.0.0.9", true, true),
        ];
        let (out, truncated) = truncate(subsets("web", &s, &pods));
        assert_eq!((out.len(), truncated), (1, false));
        assert_eq!(out[0]["ports"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            (&out[0]["addresses"][0]["hostname"], &out[0]["notReadyAddresses"][0]["ip"]),
            (&json!("a"), &json!("10.0.0.2"))
        );
        // A pod without the named port serves the other one only.
        let (out, _) = truncate(subsets("web", &s, &[pods[0].clone(), other]));
        let shape: Vec<(usize, usize)> = out
            .iter()
            .map(|s| {
                (s["addresses"].as_array().map_or(0, Vec::len), s["ports"].as_array().map_or(0, Vec::len))
            })
            .collect();
        assert_eq!(shape, [(1, 1), (2, 1)]);
    }

    #[test]
    fn ready_addresses_come_first_when_there_are_too_many() {
        let list = |n: usize| (0..n).map(|i| json!({"ip": i})).collect::<Vec<_>>();
        let (out, truncated) = truncate(vec![(list(10), list(900), vec![]), (list(800), list(10), vec![])]);
        let len = |i: usize, k: &str| out[i][k].as_array().map_or(0, Vec::len);
        assert_eq!(
            (
                len(0, "addresses"),
                len(0, "notReadyAddresses"),
                len(1, "addresses"),
                len(1, "notReadyAddresses")
            ),
            (10, 190, 800, 0)
        );
        assert!(truncated);
    }
}
