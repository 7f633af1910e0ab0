//! The built-in pod network as the runtime sees it.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use async_trait::async_trait;
use runtime::{NetRequest, PodNetwork};

use super::Settings;

struct Network(Arc<cni::Cni>);

fn host_ports(request: &NetRequest) -> Vec<cni::HostPort> {
    let port = |n: i32| u16::try_from(n).unwrap_or(0);
    request
        .port_mappings
        .iter()
        .filter(|p| p.host_port > 0)
        .map(|p| cni::HostPort {
            protocol: format!("{:?}", p.protocol).to_ascii_lowercase(),
            host_port: port(p.host_port),
            host_ip: p.host_ip.parse().ok(),
            container_port: port(p.container_port),
            pod: None,
        })
        .collect()
}

#[async_trait]
impl PodNetwork for Network {
    async fn setup(&self, request: &NetRequest) -> Result<Vec<IpAddr>, String> {
        self.0
            .setup(&request.sandbox_id, &request.netns, host_ports(request))
            .await
            .map_err(|e| e.to_string())
    }
    async fn teardown(&self, request: &NetRequest) -> Result<(), String> {
        self.0.teardown(&request.sandbox_id).await.map_err(|e| e.to_string())
    }
}

/// The network, and the node's own addresses in it.
pub async fn open(settings: &Settings) -> anyhow::Result<(Arc<dyn PodNetwork>, Vec<IpAddr>)> {
    let (instance, shared) = (&settings.instance, &settings.shared);
    if !shared.runs("cni") {
        return Ok((Arc::new(runtime::LoopbackOnly), settings.addresses.iter().take(1).copied().collect()));
    }
    let config = cni::Config {
        instance: instance.name.clone(),
        bridge: instance.bridge.clone(),
        pod_cidrs: settings.pod_cidrs.clone(),
        cluster_cidrs: shared.cluster_cidrs.clone(),
        service_cidrs: shared.service_cidrs.clone(),
        state_dir: instance.network_dir(),
    };
    let opened = cni::Cni::open(config).await.map_err(|e| anyhow!(e));
    let cni = Arc::new(opened.context("failed to prepare the pod network")?);
    let gateways = cni.gateways().to_vec();
    Ok((Arc::new(Network(cni)), gateways))
}
