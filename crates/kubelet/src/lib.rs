//! The kubelet: makes what the API says of this node's pods true on this machine, through a CRI runtime, and reports
//! back. `Kubelet::new` puts the parts together, `run` spawns them: the pod manager (with one worker per pod), the
//! node's status and lease, housekeeping. `serve` answers the API server on any stream.
#![deny(unsafe_code)]

mod admission;
mod allocation;
mod checkpoint;
pub mod config;
pub mod containers;
mod eviction;
mod gc;
mod hooks;
mod logs;
mod manager;
mod node;
mod node_ctx;
pub mod pod;
mod pod_worker;
pub mod podstatus;
mod probes;
mod quantity;
mod refs;
mod server;
mod static_pods;
#[cfg(test)]
mod testing;
mod thresholds;
mod volumes;

use std::sync::Arc;

use api::resource::SERVICES;
use client::{Client, EventRecorder, Informers};
use cri::Cri;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

pub use config::{Config, ImageGc};
use containers::resources::{PodLimits, cgroup_steps, layout, qos_cgroup, shares};
pub use hooks::drain::{InForce, Slices};
use manager::{Manager, Workers};
use node_ctx::Node;
use pod::Qos;
pub use server::authorize::Caller;
// The parsers of what comes from outside, for the fuzz targets.
pub use server::logs::decode as decode_log_line;
pub use server::remote::Input;
pub use server::spdy;
pub use server::ws::listen as listen_on_websocket;
pub use static_pods::parse as parse_static_pod;
pub use thresholds::Eviction;
use volumes::mounter::{Mounter, NoMounter, SystemMounter};

/// One kubelet; cheap to clone.
#[derive(Clone)]
pub struct Kubelet {
    node: Arc<Node>,
    workers: Arc<Workers>,
}

impl Kubelet {
    /// `client` is the node's identity (`system:node:<name>`), `informers` go with it. `slices`: EndpointSlices as
    /// another component of this process watches them (a node may not read them itself), with what of them is in force;
    /// without them, stopping pods are not drained. Must be called inside a tokio runtime.
    pub fn new(
        cfg: Config,
        client: Client,
        informers: Informers,
        runtime: Arc<dyn Cri>,
        slices: Option<Slices>,
    ) -> Self {
        let recorder = EventRecorder::new(client.clone(), "kubelet", &cfg.node_name);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounter: Arc<dyn Mounter> =
            if cfg.mount_tmpfs { Arc::new(SystemMounter) } else { Arc::new(NoMounter) };
        let node = Node {
            refs: refs::Refs::new(client.clone()),
            tokens: volumes::token::Tokens::new(client.clone()),
            certificates: volumes::certificate::Issuer::new(
                client.clone(),
                informers.clone(),
                &cfg.node_name,
            ),
            itself: informers.scoped(
                &api::resource::NODES,
                client::Scope {
                    field_selector: format!("metadata.name={}", cfg.node_name),
                    ..client::Scope::default()
                },
            ),
            services: informers.get(&SERVICES),
            slices,
            mounter,
            layout: layout(&mounts),
            memory_capacity: node::facts::memory(),
            cpu_capacity: node::facts::cpu_milli(),
            runtime_name: RwLock::new("kelson".into()),
            pressure: RwLock::default(),
            http: probes::http::HttpClient::default(),
            cfg,
            client,
            informers,
            runtime,
            recorder,
        };
        Self { node: Arc::new(node), workers: Arc::default() }
    }

    /// Runs until the token is cancelled. Containers keep running: the next kubelet takes them over.
    pub async fn run(&self, token: CancellationToken) {
        for dir in [self.node.cfg.root_dir.join("pods"), self.node.cfg.pods_log_dir.clone()] {
            if let Err(e) = std::fs::create_dir_all(&dir) {
                tracing::error!(dir = %dir.display(), error = %e, "failed to create a directory of the kubelet");
            }
        }
        self.root_cgroups();
        if let Ok(v) = self.node.runtime.version().await {
            *self.node.runtime_name.write() = v.runtime_name;
        }
        let manager = Manager::new(self.node.clone(), self.workers.clone());
        tokio::join!(
            manager.run(token.clone()),
            node::run(self.node.clone(), token.clone()),
            node::lease::run(self.node.clone(), token.clone()),
            gc::run(self.node.clone(), self.workers.clone(), token.clone()),
            eviction::run(self.node.clone(), self.workers.clone(), token.clone()),
        );
    }

    /// The cgroups above the pods', by QoS class.
    fn root_cgroups(&self) {
        if !self.node.cfg.manage_cgroups {
            return;
        }
        let root = &self.node.cfg.cgroup_root;
        let cpu = shares(self.node.cpu_capacity - self.node.cfg.system_reserved_cpu_milli);
        for (qos, shares) in [(Qos::Guaranteed, cpu), (Qos::Burstable, cpu), (Qos::BestEffort, 2)] {
            let limits = PodLimits { shares, quota: 0, memory: 0 };
            if let Err(e) =
                hooks::cgroup::apply(&cgroup_steps(&self.node.layout, &qos_cgroup(root, qos), limits, 0))
            {
                tracing::error!(error = %e, "failed to make the cgroups of pods");
            }
        }
    }

    /// Answers HTTP/1.1 on a stream from the API server of the same process, who has asked what may be done.
    pub async fn serve<S>(&self, stream: S)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        server::serve(self.node.clone(), self.workers.clone(), stream, None).await;
    }

    /// The same for whoever has shown a certificate of this cluster: what each request needs is asked for.
    pub async fn serve_for<S>(&self, stream: S, caller: Caller)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let rights = server::authorize::Rights::new(caller);
        server::serve(self.node.clone(), self.workers.clone(), stream, Some(rights)).await;
    }
}
