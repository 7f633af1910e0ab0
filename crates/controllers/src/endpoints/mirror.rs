//! The mirror loop: hand-made `v1 Endpoints` of a Service without a selector become endpoint slices, for those who read
//! slices only. One slice for each family and subset.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::resource::{ENDPOINT_SLICES, ENDPOINTS, SERVICES};
use api::{Object, Status};
use client::{Informer, ObjectRef};
use serde::Deserialize;
use serde_json::{Value, json};

use super::pack::{self, Have};
use super::plan::Group;
use super::slices::{Dress, Slices};
use super::{MANAGED_BY, SERVICE_NAME, Service, trigger};
use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of a subset at most.
const MAX: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    metadata: Metadata,
    subsets: Option<Vec<Subset>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subset {
    addresses: Vec<Address>,
    not_ready_addresses: Vec<Address>,
    ports: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Address {
    ip: String,
    hostname: Option<String>,
    node_name: Option<String>,
    target_ref: Option<Value>,
}

/// Groups by family, and how many addresses were left out: those that are none, and those beyond the limit.
#[derive(Debug, Default)]
struct Mirrored {
    families: BTreeMap<&'static str, Vec<Group>>,
    invalid: usize,
    surplus: usize,
}

fn mirrored(view: &View) -> Mirrored {
    let mut out = Mirrored::default();
    for subset in view.subsets.iter().flatten() {
        let ports: Vec<Value> = subset
            .ports
            .iter()
            .map(|p| {
                let mut v = json!({ "name": p["name"].as_str().unwrap_or_default(), "protocol": p["protocol"], "port": p["port"] });
                if let Some(app) = p.get("appProtocol").filter(|a| !a.is_null()) {
                    v["appProtocol"] = app.clone();
                }
                v
            })
            .collect();
        let ready = subset.addresses.iter().map(|a| (a, true));
        let mut added = 0;
        for (a, ready) in ready.chain(subset.not_ready_addresses.iter().map(|a| (a, false))) {
            let Ok(ip) = a.ip.parse::<IpAddr>() else {
                out.invalid += 1;
                continue;
            };
            if added == MAX {
                out.surplus += 1;
                continue;
            }
            added += 1;
            let groups = out.families.entry(if ip.is_ipv4() { "IPv4" } else { "IPv6" }).or_default();
            if !groups.iter().any(|g| g.ports == ports) {
                groups.push(Group { ports: ports.clone(), endpoints: Vec::new() });
            }
            if let Some(g) = groups.iter_mut().find(|g| g.ports == ports) {
                g.endpoints.push(endpoint(a, ready));
            }
        }
    }
    out
}

fn endpoint(a: &Address, ready: bool) -> Value {
    // As `pack` compares them.
    let mut e = json!({ "addresses": [a.ip], "conditions": { "ready": ready, "serving": ready, "terminating": false } });
    if let Some(target) = &a.target_ref {
        e["targetRef"] = target.clone();
    }
    if let Some(node) = &a.node_name {
        e["nodeName"] = json!(node);
    }
    if let Some(host) = a.hostname.as_ref().filter(|h| !h.is_empty()) {
        e["hostname"] = json!(host);
    }
    e
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let (services, endpoints) = (ctx.informers.get(&SERVICES), ctx.informers.get(&ENDPOINTS));
    let informer = ctx.informers.get(&ENDPOINT_SLICES);
    let slices = Arc::new(Slices::new(ctx.client.clone(), informer.clone(), MANAGER));
    skeleton::enqueue_self(&services, &queue);
    skeleton::enqueue_self(&endpoints, &queue);
    slices.watch(&queue);
    if !skeleton::synced(&ctx.token, &[&services, &endpoints, &informer]).await {
        return;
    }
    skeleton::work("endpointslicemirroring", &ctx.token, &queue, 2, |key| {
        reconcile(&ctx, &services, &endpoints, &slices, key)
    })
    .await;
}

/// The endpoints that are to be mirrored: hand-made ones of a service that selects nothing.
fn wanted(services: &Informer, endpoints: &Informer, key: &Key) -> Result<Option<(Object, View)>, Error> {
    let (Some(service), Some(object)) = (services.get(&key.0, &key.1), endpoints.get(&key.0, &key.1)) else {
        return Ok(None);
    };
    let selects = service.view::<Service>()?.spec.selector.is_some();
    let view: View = object.view()?;
    let skipped = object.meta().labels.get(SKIP).is_some_and(|v| v == "true")
        || view.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(LEADER));
    Ok((!selects && !skipped).then_some((object, view)))
}

async fn reconcile(
    ctx: &Context,
    services: &Informer,
    endpoints: &Informer,
    slices: &Slices,
    key: Key,
) -> Result<Next, Error> {
    let Some((object, view)) = wanted(services, endpoints, &key)? else {
        slices.clear(&ENDPOINT_SLICES, &key).await?;
        return Ok(Next::Wait);
    };
    let Some(existing) = slices.existing(&key) else {
        return Ok(Next::After(std::time::Duration::from_secs(1)));
    };
    let about = ObjectRef::of(&ENDPOINTS, &object);
    let mut all = mirrored(&view);
    if all.invalid > 0 {
        let text = format!("Skipped {} invalid IP addresses when mirroring to EndpointSlices", all.invalid);
        ctx.events.warning(about.clone(), "InvalidIPAddress", text);
    }
    if all.surplus > 0 {
        let skipped = all.surplus + all.invalid;
        let text = format!(
            "A max of {MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped"
        );
        ctx.events.warning(about, "TooManyAddressesToMirror", text);
    }
    let mut labels = object.meta().labels.to_map();
    labels.insert(SERVICE_NAME.into(), key.1.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let annotations = view.metadata.annotations.iter().flatten();
    let annotations: Vec<(&str, Option<String>)> = annotations
        .filter(|(k, _)| {
            !matches!(k.as_str(), "kubectl.kubernetes.io/last-applied-configuration" | trigger::ANNOTATION)
        })
        .map(|(k, v)| (k.as_str(), Some(v.clone())))
        .collect();
    for family in ["IPv4", "IPv6"] {
        let have =
            existing.iter().map(|o| Have::of(o, &labels, object.uid())).collect::<Result<Vec<_>, _>>()?;
        let have: Vec<Have> = have.into_iter().filter(|h| h.family == family).collect();
        let groups = all.families.remove(family).unwrap_or_default();
        let mut steps = pack::pack(have, groups, MAX);
        // Nothing stands for nothing here.
        steps.create.retain(|s| !s.endpoints.is_empty());
        let emptied: Vec<Object> =
            steps.update.iter().filter(|(_, s)| s.endpoints.is_empty()).map(|(o, _)| o.clone()).collect();
        steps.update.retain(|(_, s)| !s.endpoints.is_empty());
        steps.delete.extend(emptied);
        let dress = Dress {
            owner_resource: &ENDPOINTS,
            owner: &object,
            family,
            labels: &labels,
            annotations: annotations.clone(),
        };
        let result: Result<(), Status> = slices.apply(&ENDPOINT_SLICES, &key, steps, &dress).await;
        result?;
    }
    Ok(Next::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_become_groups_by_family() {
        let view: View = serde_json::from_value(json!({"subsets": [
            {"addresses": [{"ip": "10.0.0.1", "hostname": "a", "nodeName": "n"}, {"ip": "fd00::1"}, {"ip": "nonsense"}],
             "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "x", "port": 81, "protocol": "TCP"}]}]}))
        .expect("view");
        let m = mirrored(&view);
        assert_eq!((m.invalid, m.surplus), (1, 0));
        let four = &m.families["IPv4"];
        assert_eq!(four.iter().map(|g| g.endpoints.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(four[0].ports, [json!({"name": "", "protocol": "TCP", "port": 80})]);
        assert_eq!(four[0].endpoints[0]["hostname"], "a");
        assert_eq!(four[0].endpoints[1]["conditions"]["ready"], false);
        assert_eq!(m.families["IPv6"][0].endpoints.len(), 1);
    }

    #[test]
    fn too_many_are_cut() {
        let many: Vec<Value> =
            (0..1003).map(|i| json!({"ip": format!("10.1.{}.{}", i / 250, i % 250)})).collect();
        let view: View =
            serde_json::from_value(json!({"subsets": [{"addresses": many, "ports": []}]})).expect("view");
        let m = mirrored(&view);
        assert_eq!((m.surplus, m.families["IPv4"][0].endpoints.len()), (3, 1000));
    }
}
