//! The endpoint slice loop and the endpoints loop: from a Service's selector and its pods to addresses. `plan` is pure;
//! `pack` too: how they are spread over slices. This file reads and writes.

mod legacy;
mod mirror;
mod pack;
mod plan;
mod slices;
mod trigger;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::resource::{ENDPOINT_SLICES, NODES, PODS, SERVICES};
use client::{DeleteOptions, Informer, Object, clock};
use serde::Deserialize;
use serde_json::Value;

pub use legacy::run as endpoints;
pub use mirror::run as mirror;

use crate::Context;
use crate::pods::{self, Pod};
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};
use pack::Have;
use slices::{Dress, Slices};
use trigger::Triggers;

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
                let selected = s
                    .view::<Service>()
                    .is_ok_and(|v| selects(&v).is_some_and(|wanted| o.meta().labels.has_all(wanted)));
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
    objects.retain(|o| o.meta().labels.has_all(selector));
    Ok(pods::parse(objects)?)
}

struct Loop {
    services: Informer,
    pods: Informer,
    nodes: Informer,
    slices: Arc<Slices>,
    triggers: Triggers,
}

const ZONE: &str = "topology.kubernetes.io/zone";

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (services, pods) = (ctx.informers.get(&SERVICES), ctx.informers.get(&PODS));
    let (informer, nodes) = (ctx.informers.get(&ENDPOINT_SLICES), ctx.informers.get(&NODES));
    let slices = Arc::new(Slices::new(ctx.client.clone(), informer.clone(), MANAGER));
    skeleton::enqueue_self(&services, &queue);
    enqueue_by_pods(&services, &pods, &queue);
    slices.watch(&queue);
    let (q, all) = (queue.clone(), services.clone());
    nodes.on_change(move |c| {
        let zone = |o: Option<&Object>| o.and_then(|o| o.meta().labels.get(ZONE).map(str::to_owned));
        if c.old.is_some() && c.new.is_some() && zone(c.old) != zone(c.new) {
            all.list(None).iter().for_each(|s| q.add(key_of(s)));
        }
    });
    if !skeleton::synced(&ctx.token, &[&services, &pods, &informer, &nodes]).await {
        return;
    }
    let l = Loop { services, pods, nodes, slices, triggers: Triggers::default() };
    skeleton::work("endpointslice", &ctx.token, &queue, 5, |key| l.reconcile(key)).await;
}

/// The labels of a service's slices: the service's own, and those that tell whose they are.
fn labels(service: &Object, s: &Service) -> BTreeMap<String, String> {
    let mut l = service.meta().labels.to_map();
    if is_headless(s) {
        l.insert(HEADLESS.into(), String::new());
    } else {
        l.remove(HEADLESS);
    }
    l.insert(SERVICE_NAME.into(), service.name().to_owned());
    l.insert(MANAGED_BY.into(), MANAGER.into());
    l
}

pub fn is_headless(s: &Service) -> bool {
    matches!(s.spec.cluster_ip.as_str(), "" | "None")
}

/// As annotations carry it.
fn precise(t: Option<jiff::Timestamp>) -> Option<String> {
    t.map(|t| t.to_string())
}

impl Loop {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(service) = self.services.get(&key.0, &key.1).filter(|s| !s.meta().is_deleting()) else {
            self.triggers.forget(&key);
            self.slices.clear(&ENDPOINT_SLICES, &key).await?;
            return Ok(Next::Wait);
        };
        let s: Service = service.view()?;
        if selects(&s).is_none() {
            return Ok(Next::Wait);
        }
        let Some(existing) = self.slices.existing(&key) else {
            return Ok(Next::After(Duration::from_secs(1)));
        };
        let pods = selected(&s, &key.0, &self.pods)?;
        let created = service.meta().creation_timestamp().and_then(clock::parse);
        let trigger = self.triggers.look(&key, created, &pods);
        let labels = labels(&service, &s);
        let mut have =
            existing.iter().map(|o| Have::of(o, &labels, service.uid())).collect::<Result<Vec<_>, _>>()?;
        let families = plan::families(&s);
        let node = |name: &str| match self.nodes.get("", name) {
            Some(n) => plan::Node::In(n.meta().labels.get(ZONE).filter(|z| !z.is_empty()).map(str::to_owned)),
            None => plan::Node::Unknown,
        };
        let mut waits = false;
        for family in &families {
            let (groups, missing) = plan::desired(service.name(), &s, &pods, family, node);
            waits |= missing;
            let (mine, rest) = have.into_iter().partition(|h| h.family == *family);
            have = rest;
            let steps = pack::pack(mine, groups, pack::MAX);
            let annotations = vec![(trigger::ANNOTATION, precise(trigger))];
            let dress =
                Dress { owner_resource: &SERVICES, owner: &service, family, labels: &labels, annotations };
            self.slices.apply(&ENDPOINT_SLICES, &key, steps, &dress).await?;
        }
        // Of families that the service has no more.
        for h in have {
            let o = &h.object;
            self.slices
                .client
                .delete_if_there(&ENDPOINT_SLICES, &key.0, o.name(), &DeleteOptions::uid(o.uid()))
                .await?;
        }
        // The node may be about to show up, or the pod about to be collected.
        Ok(if waits { Next::After(Duration::from_secs(1)) } else { Next::Wait })
    }
}
