//! The mounts of one container: its volumes, the hosts file, the termination log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cri::{ImageSpec, Mount};

use crate::containers::config::propagation;
use crate::containers::expand::expand;
use crate::containers::netfiles;
use crate::node_ctx::Node;
use crate::pod::{Container, Pod};
use crate::volumes::subpath;

pub struct Mounts {
    pub list: Vec<Mount>,
    /// Host file of the termination message.
    pub message_file: PathBuf,
}

/// What there is to mount, by the volume's name.
pub struct Sources<'a> {
    pub paths: &'a BTreeMap<String, PathBuf>,
    pub images: &'a BTreeMap<String, ImageSpec>,
}

pub fn build(
    node: &Node,
    pod: &Pod,
    c: &Container,
    volumes: &Sources<'_>,
    env: &BTreeMap<String, String>,
    pod_ips: &[String],
) -> Result<Mounts, String> {
    let dir = node.cfg.pod_dir(&pod.metadata.uid);
    let mut list = Vec::new();
    for (i, m) in c.volume_mounts.iter().enumerate() {
        let sub = match m.sub_path_expr.as_str() {
            "" => m.sub_path.clone(),
            e => expand(e, &|n| env.get(n).cloned()),
        };
        let mount = Mount {
            container_path: absolute(&m.mount_path),
            propagation: propagation(m.mount_propagation.as_deref()),
            recursive_read_only: matches!(m.recursive_read_only.as_deref(), Some("Enabled")),
            ..Mount::default()
        };
        if let Some(image) = volumes.images.get(&m.name) {
            let image = Some(image.clone());
            list.push(Mount { image, image_sub_path: sub, readonly: true, ..mount });
            continue;
        }
        let volume = volumes
            .paths
            .get(&m.name)
            .ok_or_else(|| format!("volume \"{}\" of container {} is not there", m.name, c.name))?;
        let host = if sub.is_empty() {
            let is_host_path = pod.spec.volumes.iter().any(|v| v.name == m.name && v.host_path.is_some());
            if is_host_path && !volume.exists() {
                fs::create_dir_all(volume)
                    .map_err(|e| format!("failed to create {}: {e}", volume.display()))?;
            }
            volume.clone()
        } else {
            let target = dir.join("volume-subpaths").join(&m.name).join(&c.name).join(i.to_string());
            // A new container must see the sub path of now, not that of a container before it.
            node.mounter.unmount(&target)?;
            subpath::bind(node.mounter.as_ref(), volume, &sub, &target)?
        };
        list.push(Mount {
            host_path: host.to_string_lossy().into_owned(),
            readonly: m.read_only || source_is_read_only(pod, &m.name),
            ..mount
        });
    }
    let own = |path: &str| list.iter().any(|m: &Mount| m.container_path == path);
    if !own("/etc/hosts") {
        let at = hosts_file(node, pod, &dir, pod_ips)?;
        list.push(plain("/etc/hosts", &at, c.security_context.read_only_root_filesystem == Some(true)));
    }
    let cdir = dir.join("containers").join(&c.name);
    fs::create_dir_all(&cdir).map_err(|e| format!("failed to create {}: {e}", cdir.display()))?;
    let message_file = cdir.join(format!("{:08x}", rand::random::<u32>()));
    fs::write(&message_file, "").map_err(|e| format!("failed to create {}: {e}", message_file.display()))?;
    let _ = fs::set_permissions(&message_file, std::os::unix::fs::PermissionsExt::from_mode(0o666));
    list.push(plain(c.message_path(), &message_file, false));
    Ok(Mounts { list, message_file })
}

fn plain(container_path: &str, host: &Path, readonly: bool) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: host.to_string_lossy().into_owned(),
        readonly,
        ..Mount::default()
    }
}

fn absolute(p: &str) -> String {
    if p.starts_with('/') { p.to_owned() } else { format!("/{p}") }
}

/// Secrets, config maps and the like can't be written to, whatever the mount says, nor claims that are read-only.
fn source_is_read_only(pod: &Pod, name: &str) -> bool {
    pod.spec.volumes.iter().filter(|v| v.name == name).any(|v| {
        v.secret.is_some()
            || v.config_map.is_some()
            || v.projected.is_some()
            || v.downward_api.is_some()
            || v.persistent_volume_claim.as_ref().is_some_and(|c| c.read_only)
    })
}

fn hosts_file(node: &Node, pod: &Pod, dir: &Path, ips: &[String]) -> Result<PathBuf, String> {
    let at = dir.join("etc-hosts");
    let text = if pod.spec.host_network {
        netfiles::hosts_of_node(&fs::read_to_string("/etc/hosts").unwrap_or_default(), &pod.spec.host_aliases)
    } else {
        let fqdn = pod.fqdn(&node.cfg.cluster_domain);
        netfiles::hosts(ips, &pod.hostname(), fqdn.as_deref(), &pod.spec.host_aliases)
    };
    // Written in place: running containers have this very file bound.
    if fs::read_to_string(&at).ok().as_deref() != Some(text.as_str()) {
        fs::write(&at, text).map_err(|e| format!("failed to write {}: {e}", at.display()))?;
    }
    Ok(at)
}
