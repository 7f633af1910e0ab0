//! Which addresses this node's pods get: its blocks of the pod networks, given by the cluster and kept in the state
//! directory, so that a node starts its pods before its API is there. Owns `<network dir>/blocks`; spawns nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use api::Status;
use api::resource::NODES;
use client::Client;
use netlink::Cidr;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::object::pod_cidrs;
use crate::config::Instance;
use crate::shared::joined;

const FILE: &str = "blocks";
/// Between two looks whether the cluster has given some.
const LOOK: Duration = Duration::from_millis(200);
const PATIENCE: u32 = 50;

/// What a node was given before; `None` before that.
pub fn kept(instance: &Instance) -> anyhow::Result<Option<Vec<Cidr>>> {
    let path = instance.network_dir().join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("failed to read {}", path.display())),
    };
    let all: Result<Vec<Cidr>, _> = text.split_whitespace().map(str::parse).collect();
    let all =
        all.with_context(|| format!("{} is damaged; drain the node and remove the file", path.display()))?;
    Ok((!all.is_empty()).then_some(all))
}

pub fn keep(instance: &Instance, blocks: &[Cidr]) -> anyhow::Result<()> {
    let dir = instance.network_dir();
    std::fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
    let text: String = blocks.iter().map(|c| format!("{c}\n")).collect();
    pki::write_durable(&dir.join(FILE), text.as_bytes())?;
    Ok(())
}

/// What the node says of itself, so that it is given the same again.
pub fn wish(blocks: &[Cidr]) -> BTreeMap<String, String> {
    let wished = (!blocks.is_empty()).then(|| (controllers::POD_CIDRS_WISH.to_owned(), joined(blocks)));
    wished.into_iter().collect()
}

fn given(node: &Value) -> anyhow::Result<Option<Vec<Cidr>>> {
    let all: Result<Vec<Cidr>, _> = pod_cidrs(node).map(str::parse).collect();
    let all = all.context("the node's spec.podCIDRs can't be read")?;
    Ok((!all.is_empty()).then_some(all))
}

/// The node's object, made if it is not there; its kubelet fills it in later.
async fn node(client: &Client, name: &str) -> Result<Value, Status> {
    if let Some(o) = client.find(&NODES, "", name).await? {
        return o.value().map_err(Status::internal);
    }
    let body = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": {
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" } } });
    client.create(&NODES, "", &body).await?.value().map_err(Status::internal)
}

/// Asks the cluster, and waits until it has given some.
pub async fn ask(instance: &Instance, client: &Client, name: &str) -> anyhow::Result<Vec<Cidr>> {
    let mut said = String::new();
    for attempt in 0u32.. {
        match node(client, name).await {
            Ok(n) => {
                if let Some(blocks) = given(&n)? {
                    keep(instance, &blocks)?;
                    return Ok(blocks);
                }
                if attempt == PATIENCE {
                    info!("waiting for the cluster to give this node its pod networks (loop node-ipam)");
                }
            }
            Err(e) if e.code == 403 => bail!("this node may not register itself: {e}"),
            Err(e) => {
                let why = e.to_string();
                if why != said {
                    warn!(error = %why, "failed to register the node, trying again");
                    said = why;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("gave up waiting for the pod networks of this node")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_kept_and_wished_for() {
        let dir = tempfile::tempdir().expect("directory");
        let instance = Instance::of(dir.path());
        assert_eq!(kept(&instance).expect("none"), None);
        let blocks: Vec<Cidr> =
            vec!["10.1.2.0/24".parse().expect("cidr"), "fd00::/64".parse().expect("cidr")];
        keep(&instance, &blocks).expect("keep");
        assert_eq!(kept(&instance).expect("kept"), Some(blocks.clone()));
        assert_eq!(wish(&blocks)["kelson.dev/pod-cidrs"], "10.1.2.0/24,fd00::/64");
        std::fs::write(instance.network_dir().join(FILE), "x").expect("file");
        assert!(format!("{:#}", kept(&instance).expect_err("damaged")).contains("is damaged"));
        let node = json!({"spec": {"podCIDRs": ["10.1.2.0/24", "fd00::/64"]}});
        assert_eq!(given(&node).expect("given"), Some(blocks));
        assert_eq!(given(&json!({})).expect("nothing"), None);
        assert!(given(&json!({"spec": {"podCIDRs": ["x"]}})).is_err());
    }
}
