//! Housekeeping: log files that grew too large, images nobody needs when the disk fills up. One task.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::clock;
use cri::{ContainerFilter, ContainerState, Image, ImageSpec};
use tokio_util::sync::CancellationToken;

use crate::manager::Workers;
use crate::node::facts;
use crate::node_ctx::Node;

pub async fn run(node: Arc<Node>, workers: Arc<Workers>, token: CancellationToken) {
    let mut logs = tokio::time::interval(Duration::from_secs(10));
    let mut images = tokio::time::interval(Duration::from_secs(300));
    let mut seen = HashMap::new();
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            _ = logs.tick() => rotate_logs(&node, &workers).await,
            _ = images.tick() => {
                let u = facts::fs_use(&node.cfg.root_dir);
                let used = if u.size == 0 { 0.0 } else { 100.0 * (1.0 - u.free as f64 / u.size as f64) };
                let unused = unused_images(&node, &workers, &mut seen).await;
                if used > node.cfg.image_gc.high_percent {
                    let target = ((used - node.cfg.image_gc.low_percent) / 100.0 * u.size as f64) as u64;
                    collect_images(&node, unused, target).await;
                }
            }
        }
    }
}

async fn rotate_logs(node: &Node, workers: &Workers) {
    let (bytes, files) = (node.cfg.log_max_bytes, node.cfg.log_max_files);
    for shot in workers.all() {
        for c in
            shot.containers.iter().filter(|c| c.state == ContainerState::Running && !c.log_path.is_empty())
        {
            let stamp = clock::now().strftime("%Y%m%d-%H%M%S").to_string();
            match crate::logs::rotate(Path::new(&c.log_path), bytes, files, &stamp) {
                Ok(true) => {
                    if let Err(e) = node.runtime.reopen_container_log(&c.id).await {
                        tracing::warn!(container = %c.id, error = %e, "failed to reopen a rotated log");
                    }
                }
                Ok(false) => {}
                Err(e) => tracing::warn!(log = %c.log_path, error = %e, "failed to rotate a log"),
            }
        }
    }
}

/// Images no container uses, oldest use first; `seen` remembers when each was first seen unused.
async fn unused_images(node: &Node, workers: &Workers, seen: &mut HashMap<String, i64>) -> Vec<Image> {
    let (Ok(images), Ok(containers)) = (
        node.runtime.list_images(None).await,
        node.runtime.list_containers(Some(&ContainerFilter::default())).await,
    ) else {
        return Vec::new();
    };
    let shots = workers.all();
    let mounts = shots.iter().flat_map(|s| &s.containers).flat_map(|c| &c.mounts);
    let mounted = mounts.filter_map(|m| m.image.as_ref()).map(|i| i.image.as_str());
    let used: HashSet<&str> = containers
        .iter()
        .flat_map(|c| [c.image_id.as_str(), c.image_ref.as_str(), c.image.image.as_str()])
        .chain(mounted)
        .collect();
    let now = clock::now().as_second();
    let mut out: Vec<Image> = images
        .into_iter()
        .filter(|i| {
            !i.pinned
                && !used.contains(i.id.as_str())
                && !i.repo_tags.iter().chain(&i.repo_digests).any(|t| used.contains(t.as_str()))
        })
        .collect();
    seen.retain(|id, _| out.iter().any(|i| i.id == *id));
    out.iter().for_each(|i| {
        seen.entry(i.id.clone()).or_insert(now);
    });
    out.retain(|i| seen.get(&i.id).is_some_and(|t| now - t >= node.cfg.image_gc.min_age_seconds));
    out.sort_by_key(|i| seen.get(&i.id).copied().unwrap_or(now));
    out
}

async fn collect_images(node: &Node, unused: Vec<Image>, bytes: u64) {
    let mut freed = 0;
    for i in unused {
        if freed >= bytes {
            break;
        }
        match node.runtime.remove_image(&ImageSpec::new(&i.id)).await {
            Ok(()) => freed += i.size,
            Err(e) => tracing::warn!(image = %i.id, error = %e, "failed to remove an unused image"),
        }
    }
    if freed < bytes {
        let text = format!(
            "Failed to garbage collect required amount of images. Attempted to free {bytes} bytes, but only found {freed} bytes eligible to free."
        );
        node.recorder.warning(node.about_node(), "FreeDiskSpaceFailed", text);
    }
}
