//! The endpoint slice loop and the endpoints loop: from a Service's selector and its pods to addresses. `plan` is pure;
//! this file reads, compares and writes. Slices hold at most 100 endpoints; those that are right are left alone.

mod legacy;
mod plan;

use std::collections::HashSet;

use api::resource::{ENDPOINT_SLICES, NODES, PODS, SERVICES};
use client::{DeleteOptions, Informer, Object, clock};
use serde::Deserialize;
use serde_json::{Value, json};

pub use legacy::run as endpoints;

use crate::Context;
use crate::pods::{self, Pod};
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    pub spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    pub r#type: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    pub selector: Option<std::collections::BTreeMap<String, String>>,
    pub ports: Vec<ServicePort>,
    pub publish_not_ready_addresses: bool,
    pub ip_families: Vec<String>,
    pub traffic_distribution: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    pub name: String,
    pub protocol: String,
    pub port: i64,
    pub target_port: Value,
    pub app_protocol: Option<String>,
}

/// The selector as a non-empty map; a Service without one has hand-made endpoints.
pub fn selects(s: &Service) -> Option<&std::collections::BTreeMap<String, String>> {
    s.spec.selector.as_ref().filter(|m| !m.is_empty() && s.spec.r#type != "ExternalName")
}

/// Queues the services that select a pod, before and after each change of it.
pub fn enqueue_by_pods(services: &Informer, pods: &Informer, queue: &Queue) {
    let (q, all) = (queue.clone(), services.clone());
    pods.on_change(move |c| {
        let mut seen = HashSet::new();
        for o in [c.old, c.new].into_iter().flatten() {
            for s in all.list(Some(o.namespace())) {
                if seen.contains(s.name()) {
                    continue;
                }
                let selected = s.view::<Service>().is_ok_and(|v| {
                    selects(&v).is_some_and(|m| m.iter().all(|(k, v)| o.meta().labels.get(k) == Some(v)))
                });
                if selected {
                    seen.insert(s.name().to_owned());
                    q.add(key_of(&s));
                }
            }
        }
    });
}

/// The pods that the service selects.
pub fn selected(service: &Service, namespace: &str, pods: &Informer) -> Result<Vec<Pod>, Error> {
    let Some(selector) = selects(service) else { return Ok(Vec::new()) };
    let mut objects = pods.list(Some(namespace));
    objects.retain(|o| selector.iter().all(|(k, v)| o.meta().labels.get(k) == Some(v)));
    Ok(pods::parse(objects)?)
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (services, pods) = (ctx.informers.get(&SERVICES), ctx.informers.get(&PODS));
    let (slices, nodes) = (ctx.informers.get(&ENDPOINT_SLICES), ctx.informers.get(&NODES));
    slices.add_index("service", |o| {
        let service = o.meta().labels.get(SERVICE_NAME);
        service.map(|s| format!("{}/{s}", o.namespace())).into_iter().collect()
    });
    skeleton::enqueue_self(&services, &queue);
    enqueue_by_pods(&services, &pods, &queue);
    let q = queue.clone();
    slices.on_change(move |c| {
        // Slices that somebody else changes or deletes are put right.
        if let Some(o) = c.object().filter(|o| o.meta().labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER))
            && let Some(s) = o.meta().labels.get(SERVICE_NAME)
        {
            q.add((o.namespace().to_owned(), s.clone()));
        }
    });
    if !skeleton::synced(&ctx.token, &[&services, &pods, &slices, &nodes]).await {
        return;
    }
    skeleton::work("endpointslice", &ctx.token, &queue, 5, |key| {
        let (ctx, services, pods, slices, nodes) = (&ctx, &services, &pods, &slices, &nodes);
        reconcile(ctx, services, pods, slices, nodes, key)
    })
    .await;
}

async fn reconcile(
    ctx: &Context,
    services: &Informer,
    pods: &Informer,
    slices: &Informer,
    nodes: &Informer,
    key: Key,
) -> Result<Next, Error> {
    let existing: Vec<Object> = slices
        .by_index("service", &format!("{}/{}", key.0, key.1))
        .into_iter()
        .filter(|o| o.meta().labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER))
        .collect();
    let service = services.get(&key.0, &key.1).filter(|s| !s.meta().is_deleting());
    let wanted = match &service {
        None => Vec::new(),
        Some(o) => {
            let s: Service = o.view()?;
            if selects(&s).is_none() {
                return Ok(Next::Wait);
            }
            let zone = |node: &str| {
                nodes.get("", node).and_then(|n| n.meta().labels.get("topology.kubernetes.io/zone").cloned())
            };
            plan::slices(&s, &selected(&s, &key.0, pods)?, zone)
        }
    };
    let steps = plan::difference(&existing, wanted)?;
    for slice in steps.create {
        let Some(o) = &service else { break };
        let mut labels: serde_json::Map<String, Value> = o
            .meta()
            .labels
            .iter()
            .filter(|(k, _)| k.as_str() != HEADLESS)
            .map(|(k, v)| (k.clone(), json!(v)))
            .collect();
        labels.insert(SERVICE_NAME.into(), json!(key.1));
        labels.insert(MANAGED_BY.into(), json!(MANAGER));
        let s: Service = o.view()?;
        if s.spec.cluster_ip == "None" {
            labels.insert(HEADLESS.into(), json!(""));
        }
        let body = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "generateName": format!("{}-", key.1), "labels": labels,
                "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": clock::rfc3339(clock::now()) },
                "ownerReferences": [crate::owners::controller_ref(&SERVICES, o)] },
            "addressType": slice.address_type, "endpoints": slice.endpoints, "ports": slice.ports });
        let made = ctx.client.create(&ENDPOINT_SLICES, &key.0, &body).await?;
        wait_for(slices, &made).await;
    }
    for (old, slice) in steps.update {
        let mut body = old.value()?;
        body["endpoints"] = json!(slice.endpoints);
        body["ports"] = json!(slice.ports);
        let made = ctx.client.update(&ENDPOINT_SLICES, &key.0, old.name(), "", &body).await?;
        wait_for(slices, &made).await;
    }
    for old in steps.delete {
        ctx.client
            .delete_if_there(&ENDPOINT_SLICES, &key.0, old.name(), &DeleteOptions::uid(old.uid()))
            .await?;
    }
    Ok(Next::Wait)
}

/// Until the informer shows the write, so that the next look does not create the same slice again; bounded, since the
/// slice may be gone by then.
async fn wait_for(slices: &Informer, made: &Object) {
    for _ in 0..200 {
        if slices.get(made.namespace(), made.name()).is_some_and(|o| o.revision() >= made.revision()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
