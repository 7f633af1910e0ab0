//! The cluster's DNS (the schema is kubernetes/dns `docs/specification.md` 1.1): services, headless services, pods, SRV
//! and reverse names straight from informers, everything else forwarded to the host's resolvers. `zone` answers (pure over
//! a `Source`), `forward` asks others and keeps their answers in `cache`, `server` listens. Spawns one task per socket and a bounded number for forwarded
//! questions and TCP connections.
#![forbid(unsafe_code)]

mod cache;
mod forward;
mod server;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use api::resource::{ENDPOINT_SLICES, NAMESPACES, SERVICES};
use client::{Informer, Informers, Object};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

pub use cache::Cache;
pub use server::Server;
pub use zone::{Answer, Source, Zone};

#[derive(Debug, Clone)]
pub struct Config {
    /// `cluster.local`.
    pub domain: String,
    /// Where to listen, UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Where the upstream resolvers stand, `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

/// What of a Service a name needs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ServiceView {
    pub spec: ServiceSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    pub r#type: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    pub external_name: String,
    pub ports: Vec<ServicePort>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ServicePort {
    pub name: String,
    pub protocol: String,
    pub port: u16,
}

/// What of an EndpointSlice a name needs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SliceView {
    pub endpoints: Option<Vec<EndpointView>>,
    pub ports: Option<Vec<SlicePort>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct EndpointView {
    pub addresses: Vec<String>,
    pub conditions: Conditions,
    pub hostname: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    pub ready: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SlicePort {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<u16>,
}

/// The informers as the zone's source.
struct Cluster {
    services: Informer,
    slices: Informer,
    namespaces: Informer,
}

fn slice_key(o: &Object) -> Option<String> {
    o.meta().labels.get("kubernetes.io/service-name").map(|s| format!("{}/{s}", o.namespace()))
}

impl Source for Cluster {
    fn namespace(&self, name: &str) -> bool {
        self.namespaces.get("", name).is_some()
    }
    fn service(&self, namespace: &str, name: &str) -> Option<ServiceView> {
        self.services.get(namespace, name)?.view().ok()
    }
    fn slices(&self, namespace: &str, service: &str) -> Vec<SliceView> {
        let found = self.slices.by_index("dns-service", &format!("{namespace}/{service}"));
        found.iter().filter_map(|o| o.view().ok()).collect()
    }
    fn services_by_ip(&self, ip: IpAddr) -> Vec<(String, String)> {
        let found = self.services.by_index("dns-ip", &ip.to_string());
        found.iter().map(|o| (o.namespace().to_owned(), o.name().to_owned())).collect()
    }
    fn endpoints_by_ip(&self, ip: IpAddr) -> Vec<(String, String)> {
        let found = self.slices.by_index("dns-ip", &ip.to_string());
        let service = |o: &Object| o.meta().labels.get("kubernetes.io/service-name").map(str::to_owned);
        found.iter().filter_map(|o| Some((o.namespace().to_owned(), service(o)?))).collect()
    }
}

/// Binds and serves until the token is cancelled. `ready` is called once when every socket is bound and the informers
/// are in step.
pub async fn run(
    config: Config,
    informers: Informers,
    ready: impl FnOnce() + Send,
    token: CancellationToken,
) -> Result<(), server::BindError> {
    let (services, slices) = (informers.get(&SERVICES), informers.get(&ENDPOINT_SLICES));
    let namespaces = informers.get(&NAMESPACES);
    slices.add_index("dns-service", |o| slice_key(o).into_iter().collect());
    slices.add_index("dns-ip", |o| {
        let v: SliceView = o.view().unwrap_or_default();
        v.endpoints.unwrap_or_default().into_iter().flat_map(|e| e.addresses).collect()
    });
    services.add_index("dns-ip", |o| {
        let v: ServiceView = o.view().unwrap_or_default();
        v.spec.cluster_ips.into_iter().filter(|ip| ip != "None").collect()
    });
    let bound = Server::bind(&config).await?;
    tokio::select! {
        () = token.cancelled() => return Ok(()),
        _ = async { services.synced().await && slices.synced().await && namespaces.synced().await } => {}
    }
    ready();
    let zone = Zone::new(&config.domain, Cluster { services, slices, namespaces });
    bound.serve(zone, forward::Forwarder::from_file(&config.resolv_conf, &config.listen), token).await;
    Ok(())
}
