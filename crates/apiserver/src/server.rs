//! The server as one value: everything that a request can reach. Built once by whoever runs it; cheap to clone.
//!
//! Spawned by `start`: the authorizer's watchers and what keeps the endpoints of `kubernetes`. `serve` spawns the connections.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::Status;
use api::catalog::Catalog;
use parking_lot::RwLock;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::admission::{self, Chain};
use crate::authn::{Authn, TokenIssuer};
use crate::authz::Authorizer;
use crate::flow::Flow;
use crate::metrics::Metrics;
use crate::reader::Reader;
use crate::registry::core::kubernetes_endpoints;
use crate::registry::core::services::Allocators;
use crate::storage::Storage;
use crate::store_reader::StoreReader;
use crate::streaming::NodeTransport;
use crate::{FrontProxy, aggregation, bootstrap, extensions, openapi, registry, resource_metrics};

/// Facts of the cluster that the API needs to know.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// One per family, the primary first.
    pub service_cidrs: Vec<String>,
    pub cluster_cidrs: Vec<String>,
    /// Where the `kubernetes` Service leads.
    pub advertise_address: IpAddr,
    pub advertise_port: u16,
    pub node_ports: std::ops::RangeInclusive<u16>,
    pub feature_gates: BTreeMap<String, bool>,
    /// Other servers may work on the same store.
    pub shared: bool,
}

/// What authenticates and signs; made by the caller, who knows the keys.
pub struct Security {
    /// Built over `StoreReader`, see `ApiServer::reader_for`.
    pub authn: Authn,
    pub issuer: TokenIssuer,
}

pub struct Config {
    pub store: Arc<dyn Store>,
    /// After `--runtime-config`.
    pub catalog: Catalog,
    pub cluster: Cluster,
    /// Which admission plugins run.
    pub admission: admission::Options,
    /// The identity towards aggregated API servers; without it they meet an unknown client.
    pub front_proxy: Option<FrontProxy>,
    /// The way to kubelets; without one, streams answer that the node can't be reached.
    pub nodes: Option<Arc<dyn NodeTransport>>,
    /// Made from the reader, which exists only inside.
    pub security: Box<dyn FnOnce(Arc<dyn Reader>) -> Security + Send>,
    /// Ends watches and keeps new requests out.
    pub stop: CancellationToken,
}

/// The catalog as it is now; replaced whole when a custom resource comes or goes.
pub(crate) type SharedCatalog = Arc<RwLock<Arc<Catalog>>>;

pub struct Inner {
    pub storage: Storage,
    catalog: SharedCatalog,
    pub cluster: Cluster,
    pub authn: Authn,
    pub issuer: TokenIssuer,
    pub authorizer: Arc<Authorizer>,
    pub admission: Chain,
    pub flow: Flow,
    pub metrics: Metrics,
    pub nodes: Option<Arc<dyn NodeTransport>>,
    pub aggregation: aggregation::Services,
    pub connections: aggregation::Connections,
    pub allocators: Allocators,
    pub endpoints: kubernetes_endpoints::Keeper,
    pub openapi: openapi::Documents,
    pub resource_metrics: resource_metrics::Collector,
    pub stop: CancellationToken,
    reader: Arc<dyn Reader>,
    ready: AtomicBool,
}

#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

impl Deref for ApiServer {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl ApiServer {
    pub fn new(c: Config) -> Result<Self, Status> {
        let storage = Storage::new(c.store);
        let catalog: SharedCatalog = Arc::new(RwLock::new(Arc::new(c.catalog)));
        let reader: Arc<dyn Reader> = Arc::new(StoreReader::new(storage.clone(), catalog.clone()));
        let authorizer = Authorizer::new(reader.clone());
        let options = admission::Options { catalog: Some(catalog.clone()), ..c.admission };
        let admission = Chain::with(reader.clone(), authorizer.clone(), &options);
        let security = (c.security)(reader.clone());
        let allocators = Allocators::new(&c.cluster).map_err(Status::internal)?;
        Ok(Self(Arc::new(Inner {
            storage,
            catalog,
            cluster: c.cluster,
            authn: security.authn,
            issuer: security.issuer,
            authorizer,
            admission,
            flow: Flow::default(),
            metrics: Metrics::default(),
            nodes: c.nodes,
            aggregation: aggregation::Services::default(),
            connections: aggregation::Connections::new(c.front_proxy),
            allocators,
            endpoints: kubernetes_endpoints::Keeper::default(),
            openapi: openapi::Documents::default(),
            resource_metrics: resource_metrics::Collector::default(),
            stop: c.stop,
            reader,
            ready: AtomicBool::new(false),
        })))
    }

    /// Makes what a cluster has from its first moment, repairs allocations, fills the authorizer. Requests may be served
    /// afterwards.
    pub async fn start(&self) -> Result<(), Status> {
        bootstrap::run(self.reader.as_ref(), self.connections.identity()).await?;
        self.authorizer.start(&self.stop).await?;
        registry::core::services::start(self).await?;
        aggregation::start(self).await?;
        extensions::start(self).await?;
        admission::policy::typecheck::start(self);
        resource_metrics::start(self);
        self.flow.learn(self.reader.as_ref()).await?;
        self.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Before the end: clients shall go to the other servers, while this one still answers.
    pub async fn leave(&self) {
        kubernetes_endpoints::leave(self).await;
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().clone()
    }

    pub(crate) fn set_catalog(&self, catalog: Catalog) {
        *self.catalog.write() = Arc::new(catalog);
        self.openapi.forget();
    }

    pub fn reader(&self) -> &Arc<dyn Reader> {
        &self.reader
    }

    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether a feature gate is on; unknown ones take the default.
    pub fn feature(&self, name: &str, default: bool) -> bool {
        self.cluster.feature_gates.get(name).copied().unwrap_or(default)
    }
}
