//! What every part of one kubelet shares: configuration, the ways to the API and the runtime, caches. No task of its
//! own.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Client, EventRecorder, Informer, Informers, ObjectRef};
use cri::Cri;
use parking_lot::RwLock;

use crate::config::Config;
use crate::containers::fields::NodeFacts;
use crate::containers::resources::Layout;
use crate::pod::{Pod, Qty};
use crate::refs::Refs;
use crate::volumes::certificate::Issuer;
use crate::volumes::mounter::Mounter;
use crate::volumes::token::Tokens;

pub struct Node {
    pub cfg: Config,
    pub client: Client,
    pub informers: Informers,
    pub runtime: Arc<dyn Cri>,
    pub recorder: EventRecorder,
    pub refs: Refs,
    pub tokens: Tokens,
    pub certificates: Issuer,
    pub services: Informer,
    /// The node's own object.
    pub itself: Informer,
    /// For the drain hook; absent where this identity may not read them.
    pub slices: Option<crate::hooks::drain::Slices>,
    pub mounter: Arc<dyn Mounter>,
    pub layout: Layout,
    pub memory_capacity: i64,
    pub cpu_capacity: i64,
    /// The scheme of container ids: the runtime's name.
    pub runtime_name: RwLock<String>,
    /// The kubelet refuses new pods while the node is short of something.
    pub pressure: RwLock<Pressure>,
    pub http: crate::probes::http::HttpClient,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
}

impl Node {
    pub fn facts(&self) -> NodeFacts {
        NodeFacts { host_ips: self.host_ips(), allocatable: self.allocatable() }
    }
    pub fn host_ips(&self) -> Vec<String> {
        self.cfg.node_ips.iter().map(ToString::to_string).collect()
    }
    pub fn allocatable(&self) -> BTreeMap<String, Qty> {
        let cpu = self.cpu_capacity - self.cfg.system_reserved_cpu_milli;
        let memory = (self.memory_capacity - self.cfg.system_reserved_memory) / 1024;
        let cpu = if cpu % 1000 == 0 { (cpu / 1000).to_string() } else { format!("{cpu}m") };
        [
            ("cpu".to_owned(), Qty(cpu)),
            ("memory".to_owned(), Qty(format!("{memory}Ki"))),
            ("pods".to_owned(), Qty(self.cfg.max_pods.to_string())),
        ]
        .into()
    }
    pub fn now_ms(&self) -> i64 {
        client::clock::now().as_millisecond()
    }
    pub fn about_pod(&self, pod: &Pod) -> ObjectRef {
        ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectRef::default()
        }
    }
    pub fn about_container(&self, pod: &Pod, name: &str) -> ObjectRef {
        let list = match pod.container(name).map(|(k, _)| k) {
            Some(crate::pod::Kind::Init | crate::pod::Kind::Sidecar) => "initContainers",
            Some(crate::pod::Kind::Ephemeral) => "ephemeralContainers",
            _ => "containers",
        };
        ObjectRef { field_path: format!("spec.{list}{{{name}}}"), ..self.about_pod(pod) }
    }
    pub fn about_node(&self) -> ObjectRef {
        ObjectRef {
            api_version: String::new(),
            kind: "Node".into(),
            name: self.cfg.node_name.clone(),
            uid: self.cfg.node_name.clone(),
            ..ObjectRef::default()
        }
    }
}
