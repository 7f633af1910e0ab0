//! The service proxy: from Services and EndpointSlices to one nftables table per family. `model` decides what leads
//! where, `render` words it (both pure), this file watches and applies. Spawns one task, and through `netlink::loopback`
//! those of the node ports on the loopback addresses. A burst of changes becomes one transaction, since the next one
//! starts when the last has ended.
#![forbid(unsafe_code)]

mod datagrams;
mod model;
mod render;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::resource::{ENDPOINT_SLICES, SERVICES};
use client::{Informer, Informers};
use netlink::Cidr;
use netlink::loopback::{Loopback, Transport, Wanted};
use netlink::nft::{self, Applied, Family};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use datagrams::Datagrams;
use model::{Key, Model};
use render::Networks;

const BY_SERVICE: &str = "proxy-service";
/// From the first failed change to the longest pause between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

#[derive(Debug, Clone)]
pub struct Config {
    /// Tells the tables of clusters on one machine apart.
    pub instance: String,
    pub node_name: String,
    /// The pods' networks: what comes from elsewhere to a service address is masqueraded.
    pub cluster_cidrs: Vec<Cidr>,
    pub service_cidrs: Vec<Cidr>,
    /// The node's own addresses on which its node ports answer, one per family: the loopback ports lead there.
    pub node_addresses: Vec<IpAddr>,
}

/// Name of the nftables tables of an instance.
pub fn table_name(instance: &str) -> String {
    format!("kelson-{instance}-services")
}

/// The revision up to which every EndpointSlice is in force; `None` until the first rules are. For those who must not go
/// on before the node's traffic does what the API says.
pub type InForce = watch::Receiver<Option<u64>>;

/// Services whose rules have to be looked at again, and the newest slice among what made them so: taken together, so
/// that no revision is called in force before the rules of its service were looked at.
#[derive(Default)]
struct Changes {
    keys: BTreeSet<Key>,
    revision: u64,
}

#[derive(Default)]
struct Dirty {
    changes: Mutex<Changes>,
    wake: Notify,
}

impl Dirty {
    fn add(&self, key: Option<Key>, revision: u64) {
        let mut changes = self.changes.lock();
        changes.keys.extend(key);
        changes.revision = changes.revision.max(revision);
        drop(changes);
        self.wake.notify_one();
    }

    fn take(&self) -> Changes {
        let mut changes = self.changes.lock();
        Changes { keys: std::mem::take(&mut changes.keys), revision: changes.revision }
    }
}

fn service_of(slice: &Object) -> Option<Key> {
    let name = slice.meta().labels.get("kubernetes.io/service-name")?;
    Some((slice.namespace().to_owned(), name.to_owned()))
}

/// Runs until the token is cancelled. The tables stay, so that services go on while the daemon restarts.
pub async fn run(
    config: Config,
    informers: Informers,
    in_force: watch::Sender<Option<u64>>,
    token: CancellationToken,
) {
    let (services, slices) = (informers.get(&SERVICES), informers.get(&ENDPOINT_SLICES));
    slices.add_index(BY_SERVICE, |o| {
        service_of(o).map(|(ns, name)| format!("{ns}/{name}")).into_iter().collect()
    });
    let dirty = Arc::new(Dirty::default());
    let d = dirty.clone();
    services
        .on_change(move |c| d.add(c.object().map(|o| (o.namespace().to_owned(), o.name().to_owned())), 0));
    let d = dirty.clone();
    slices.on_change(move |c| {
        let revision = c.new.map_or(0, Object::revision);
        [c.old, c.new].into_iter().flatten().for_each(|o| d.add(service_of(o), revision));
    });
    tokio::select! {
        () = token.cancelled() => return,
        _ = async { services.synced().await && slices.synced().await } => {}
    }
    let mut proxy = Proxy::new(config);
    let mut pause = RETRY.0;
    info!("service proxy started");
    loop {
        let Changes { keys, revision } = dirty.take();
        proxy.read(keys, &services, &slices);
        if let Err(e) = proxy.apply().await {
            warn!(error = %e, "failed to apply the service rules, trying again");
            tokio::select! { () = token.cancelled() => return, () = tokio::time::sleep(pause) => {} }
            pause = (pause * 2).min(RETRY.1);
            continue;
        }
        pause = RETRY.0;
        in_force.send_replace(Some(revision));
        tokio::select! { () = token.cancelled() => return, () = dirty.wake.notified() => {} }
    }
}

struct Proxy {
    config: Config,
    networks: Networks,
    model: Model,
    /// Differs from what is applied.
    changed: bool,
    applied: BTreeMap<Family, Applied>,
    loopback: Loopback,
    /// Where datagrams were led at the last change.
    datagrams: Datagrams,
}

impl Proxy {
    fn new(config: Config) -> Self {
        Self {
            networks: Networks {
                cluster: config.cluster_cidrs.clone(),
                services: config.service_cidrs.clone(),
            },
            model: Model::new(&config.node_name),
            changed: true,
            applied: BTreeMap::new(),
            loopback: Loopback::default(),
            datagrams: Datagrams::default(),
            config,
        }
    }

    fn read(&mut self, keys: BTreeSet<Key>, services: &Informer, slices: &Informer) {
        for key in keys {
            let mine = slices.by_index(BY_SERVICE, &format!("{}/{}", key.0, key.1));
            let service = services.get(&key.0, &key.1);
            self.changed |= self.model.set(key, service.as_ref(), &mine);
        }
    }

    async fn apply(&mut self) -> Result<(), netlink::Error> {
        if !self.changed {
            return Ok(());
        }
        let name = table_name(&self.config.instance);
        let tables = render::tables(&name, &self.networks, self.model.rules());
        let gone: Vec<Family> =
            self.applied.keys().copied().filter(|f| tables.iter().all(|t| t.family != *f)).collect();
        for family in gone {
            nft::apply(&nft::Table::new(family, name.as_str()).removal()).await?;
            self.applied.remove(&family);
        }
        for table in tables {
            self.applied.entry(table.family).or_default().set(table).await?;
        }
        self.loopback.set(loopback_ports(self.model.rules(), &self.config.node_addresses)).await;
        self.forget_datagrams().await;
        self.changed = false;
        Ok(())
    }

    /// A client that goes on sending from the same port would be led for ever to where it was led first.
    async fn forget_datagrams(&mut self) {
        let now = Datagrams::new(self.model.rules());
        let before = std::mem::replace(&mut self.datagrams, now.clone());
        if before == now {
            return;
        }
        let forget = move || netlink::conntrack::forget(|f| now.stale(&before, f));
        match tokio::task::spawn_blocking(forget).await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(n)) => debug!(n, "forgot datagram connections to endpoints that are gone"),
            Ok(Err(e)) => {
                warn!(error = %e, "failed to forget datagram connections; clients may be led to endpoints that are gone")
            }
        }
    }
}

/// Node ports with endpoints; one without has no listener, so that the kernel refuses at once.
fn loopback_ports<'a>(rules: impl Iterator<Item = &'a model::PortRule>, node: &[IpAddr]) -> Wanted {
    let mut out = Wanted::new();
    for r in rules {
        let transport = match r.protocol.as_str() {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => continue,
        };
        let Some(port) = r.node_port else { continue };
        let answers =
            |ip: &&IpAddr| r.everywhere.iter().chain(&r.external).any(|e| e.ip.is_ipv4() == ip.is_ipv4());
        let targets: Vec<SocketAddr> =
            node.iter().filter(answers).map(|ip| SocketAddr::new(*ip, port)).collect();
        if !targets.is_empty() {
            out.insert((transport, port), targets);
        }
    }
    out
}

/// Takes the tables of an instance away.
pub async fn destroy(instance: &str) -> Result<(), netlink::Error> {
    let mut last = Ok(());
    for family in [Family::Ip, Family::Ip6] {
        let table = nft::Table::new(family, table_name(instance));
        last = nft::apply(&table.removal()).await.and(last);
    }
    last
}
