//! Follows the nodes of the cluster and has the pod network lead to the pods of each. Runs as one task; while the API is
//! away, what was known last stays.

use std::sync::Arc;
use std::time::Duration;

use api::Object;
use api::resource::NODES;
use client::{Informer, Informers};
use cni::peers::{Here, Peer, Peers, plan};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::Settings;
use super::object::{internal_addresses, pod_cidrs};

/// What others changed in the kernel's routes is put right after this.
const LOOK: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);

fn peer(node: &Object) -> Option<Peer> {
    let v: Value = node.view().ok()?;
    Some(Peer {
        name: node.name().to_owned(),
        addresses: internal_addresses(&v).collect(),
        blocks: pod_cidrs(&v).filter_map(|b| b.parse().ok()).collect(),
    })
}

/// Says once what only a person can mend.
fn compare(settings: &Settings, nodes: &[Peer], said: &mut bool) {
    let own = nodes.iter().find(|p| p.name == settings.machine.node_name);
    let wrong = own.is_some_and(|p| !p.blocks.is_empty() && p.blocks != settings.pod_cidrs);
    if wrong && !*said {
        error!(
            uses = ?settings.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "the cluster has given this node other pod networks than its pods use, and nobody else reaches those: \
             drain the node, run kelson clean, and join again"
        );
    }
    *said = wrong;
}

pub async fn run(settings: Settings, reader: Informers, token: CancellationToken) {
    let nodes = reader.get(&NODES);
    let changed = Arc::new(Notify::new());
    let c = changed.clone();
    nodes.on_change(move |change| {
        // A heartbeat is no change.
        if change.old.and_then(peer) != change.new.and_then(peer) {
            c.notify_one();
        }
    });
    let work = async {
        if !nodes.synced().await {
            return;
        }
        let opened = Peers::open(&settings.instance.name, &settings.shared.cluster_cidrs);
        let mut peers = match opened {
            Ok(peers) => peers,
            Err(e) => {
                error!(error = %e, "the pods of other nodes can't be reached");
                return;
            }
        };
        let mut said = false;
        loop {
            let wait = match look(&settings, &nodes, &mut peers, &mut said).await {
                Ok(()) => LOOK,
                Err(e) => {
                    warn!(error = %e, "failed to lead to the pods of other nodes, trying again");
                    RETRY
                }
            };
            let _ = tokio::time::timeout(wait, changed.notified()).await;
        }
    };
    tokio::select! { () = token.cancelled() => {}, () = work => {} }
}

async fn look(
    settings: &Settings,
    nodes: &Informer,
    peers: &mut Peers,
    said: &mut bool,
) -> Result<(), cni::Error> {
    let all: Vec<Peer> = nodes.list(None).iter().filter_map(peer).collect();
    compare(settings, &all, said);
    let here = Here {
        name: settings.machine.node_name.clone(),
        addresses: settings.addresses.clone(),
        blocks: settings.pod_cidrs.clone(),
        subnets: peers.subnets().await?,
    };
    let plan = plan(&here, &all, &settings.shared.cluster_cidrs);
    peers.apply(&here, plan).await
}
