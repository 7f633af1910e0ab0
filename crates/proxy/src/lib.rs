//! The service proxy: from Services and EndpointSlices to one nftables table per family. `model` decides what leads
//! where, `render` words it (both pure), this file watches and applies. Spawns one task; a burst of changes becomes one
//! transaction, since the next one starts when the last has ended.
#![forbid(unsafe_code)]

mod model;
mod render;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::resource::{ENDPOINT_SLICES, SERVICES};
use client::{Informer, Informers};
use netlink::Cidr;
use netlink::nft::{self, Applied, Family};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use model::{Endpoint, PortRule, Rules};

#[derive(Debug, Clone)]
pub struct Config {
    /// Tells the tables of clusters on one machine apart.
    pub instance: String,
    pub node_name: String,
    /// The pods' networks: what comes from elsewhere to a service address is masqueraded.
    pub cluster_cidrs: Vec<Cidr>,
}

/// Name of the nftables tables of an instance.
pub fn table_name(instance: &str) -> String {
    format!("kelson-{instance}-services")
}

/// What the proxy has applied so far: a count that grows, for those who wait for "in force now".
pub type Progress = watch::Receiver<u64>;

/// Runs until the token is cancelled. The tables stay, so that services go on while the daemon restarts.
pub async fn run(
    config: Config,
    informers: Informers,
    progress: watch::Sender<u64>,
    token: CancellationToken,
) {
    let (services, slices) = (informers.get(&SERVICES), informers.get(&ENDPOINT_SLICES));
    let wake = Arc::new(Notify::new());
    for informer in [&services, &slices] {
        let wake = wake.clone();
        informer.on_change(move |_| wake.notify_one());
    }
    tokio::select! {
        () = token.cancelled() => return,
        _ = async { services.synced().await && slices.synced().await } => {}
    }
    let mut applied: BTreeMap<Family, Applied> = BTreeMap::new();
    let mut last: Option<Rules> = None;
    let mut pause = Duration::from_millis(100);
    info!("service proxy started");
    loop {
        let rules = read(&config, &services, &slices);
        if last.as_ref() != Some(&rules) {
            match apply(&config, &rules, &mut applied).await {
                Ok(()) => {
                    last = Some(rules);
                    pause = Duration::from_millis(100);
                }
                Err(e) => {
                    warn!(error = %e, "failed to apply the service rules, trying again");
                    tokio::select! { () = token.cancelled() => return, () = tokio::time::sleep(pause) => {} }
                    pause = (pause * 2).min(Duration::from_secs(30));
                    continue;
                }
            }
        }
        progress.send_modify(|n| *n += 1);
        tokio::select! { () = token.cancelled() => return, () = wake.notified() => {} }
    }
}

fn read(config: &Config, services: &Informer, slices: &Informer) -> Rules {
    model::rules(&config.node_name, &services.list(None), &slices.list(None))
}

async fn apply(
    config: &Config,
    rules: &Rules,
    applied: &mut BTreeMap<Family, Applied>,
) -> Result<(), netlink::Error> {
    for table in render::tables(&table_name(&config.instance), &config.cluster_cidrs, rules) {
        applied.entry(table.family).or_default().set(table).await?;
    }
    Ok(())
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
