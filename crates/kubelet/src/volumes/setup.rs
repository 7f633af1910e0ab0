//! Sets up every volume of a pod and takes them down. What is shown comes from `refs` and `token`; what is on disk is
//! compared before it is written, so running it again is cheap and changes nothing by itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::node_ctx::Node;
use crate::pod::{Pod, Projected, Volume};
use crate::refs::User;
use crate::volumes::atomic::{self, File, Payload};
use crate::volumes::certificate::Certificates;
use crate::volumes::{claim, host_path, ownership, payload, trust};

/// Where each volume lies, and when a token in one of them has to be renewed (ms).
#[derive(Debug, Clone, Default)]
pub struct Volumes {
    pub paths: BTreeMap<String, PathBuf>,
    pub refresh_at: Option<i64>,
}

fn dir(node: &Node, pod: &Pod, plugin: &str, name: &str) -> PathBuf {
    node.cfg.pod_dir(&pod.metadata.uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

pub fn group(pod: &Pod) -> Option<u32> {
    pod.spec.security_context.fs_group.and_then(|g| u32::try_from(g).ok())
}

/// The user all containers share, who then owns token files.
fn single_user(pod: &Pod) -> Option<u32> {
    let mut users =
        pod.all().map(|(_, c)| c.security_context.run_as_user.or(pod.spec.security_context.run_as_user));
    let first = users.next()??;
    users.all(|u| u == Some(first)).then(|| u32::try_from(first).ok())?
}

pub async fn set_up(node: &Node, pod: &Pod, user: &User, pod_ips: &[String]) -> Result<Volumes, String> {
    let certificates = node.certificates.of(node, pod, user).await;
    let mut out = Volumes { refresh_at: certificates.look_again, ..Volumes::default() };
    let cx = Cx { node, pod, user, ips: pod_ips, certificates };
    // An image is the runtime's to mount, once for each container.
    for v in pod.spec.volumes.iter().filter(|v| v.image.is_none()) {
        let path = one(&cx, v, &mut out.refresh_at)
            .await
            .map_err(|e| format!("MountVolume.SetUp failed for volume \"{}\" : {e}", v.name))?;
        out.paths.insert(v.name.clone(), path);
    }
    Ok(out)
}

/// What all volumes of a pod are made from.
struct Cx<'a> {
    node: &'a Node,
    pod: &'a Pod,
    user: &'a User,
    ips: &'a [String],
    certificates: Certificates,
}

async fn one(cx: &Cx<'_>, v: &Volume, refresh: &mut Option<i64>) -> Result<PathBuf, String> {
    let Cx { node, pod, user, ips, .. } = *cx;
    let ns = &pod.metadata.namespace;
    let default = |m: Option<i32>| m.unwrap_or(payload::DEFAULT_MODE);
    if let Some(h) = &v.host_path {
        host_path::check(h)?;
        return Ok(PathBuf::from(&h.path));
    }
    if let Some(e) = &v.empty_dir {
        let at = dir(node, pod, "empty-dir", &v.name);
        let new = !at.exists();
        make(&at, 0o777)?;
        if e.medium == "Memory" && node.cfg.mount_tmpfs {
            let size = e.size_limit.as_ref().map_or(0, |q| crate::quantity::whole(&q.0));
            node.mounter.tmpfs(&at, u64::try_from(size).unwrap_or(0))?;
            let _ = fs::set_permissions(&at, fs::Permissions::from_mode(0o777));
        }
        if let Some(gid) = group(pod)
            && (new || !ownership::matches(&at, gid))
        {
            ownership::give_to_group(&at, gid, false).map_err(|e| e.to_string())?;
        }
        return Ok(at);
    }
    if let Some(c) = &v.config_map {
        let optional = c.optional == Some(true);
        let data = match node.refs.config_map(ns, &c.name, user).await? {
            Some(d) => d,
            None if optional => BTreeMap::new(),
            None => return Err(format!("configmap \"{}\" not found", c.name)),
        };
        let files = payload::keyed(&data, &c.items, default(c.default_mode), optional, "configmap")?;
        return show(node, pod, &dir(node, pod, "configmap", &v.name), files, false);
    }
    if let Some(s) = &v.secret {
        let optional = s.optional == Some(true);
        let data = match node.refs.secret(ns, &s.secret_name, user).await? {
            Some(d) => d.data,
            None if optional => BTreeMap::new(),
            None => return Err(format!("secret \"{}\" not found", s.secret_name)),
        };
        let files = payload::keyed(&data, &s.items, default(s.default_mode), optional, "secret")?;
        return show(node, pod, &dir(node, pod, "secret", &v.name), files, true);
    }
    if let Some(d) = &v.downward_api {
        let facts = node.facts();
        let files = payload::downward(pod, &d.items, default(d.default_mode), ips, &facts)?;
        return show(node, pod, &dir(node, pod, "downward-api", &v.name), files, true);
    }
    if let Some(p) = &v.projected {
        let files = projected(cx, &v.name, p, refresh).await?;
        return show(node, pod, &dir(node, pod, "projected", &v.name), files, true);
    }
    if let Some(c) = &v.persistent_volume_claim {
        return claim::set_up(node, pod, &c.claim_name, false).await;
    }
    if v.other.contains_key("ephemeral") {
        let name = api::volumes::ephemeral_claim(&pod.metadata.name, &v.name);
        return claim::set_up(node, pod, &name, true).await;
    }
    let kind = v.other.keys().next().map_or("no source", String::as_str);
    if kind == "no source" {
        // A volume without a source is an emptyDir, by upstream's defaulting.
        let at = dir(node, pod, "empty-dir", &v.name);
        make(&at, 0o777)?;
        return Ok(at);
    }
    Err(format!("volume source {kind} is not supported by this node"))
}

async fn projected(
    cx: &Cx<'_>,
    volume: &str,
    p: &Projected,
    refresh: &mut Option<i64>,
) -> Result<Payload, String> {
    let Cx { node, pod, user, ips, .. } = *cx;
    let ns = &pod.metadata.namespace;
    let mode = p.default_mode.unwrap_or(payload::DEFAULT_MODE);
    let mut all = Payload::new();
    for (i, s) in p.sources.iter().enumerate() {
        if let Some(r) = &s.config_map {
            let optional = r.optional == Some(true);
            match node.refs.config_map(ns, &r.name, user).await? {
                Some(d) => all.extend(payload::keyed(&d, &r.items, mode, optional, "configmap")?),
                None if optional => {}
                None => return Err(format!("configmap \"{}\" not found", r.name)),
            }
        }
        if let Some(r) = &s.secret {
            let optional = r.optional == Some(true);
            match node.refs.secret(ns, &r.name, user).await? {
                Some(d) => all.extend(payload::keyed(&d.data, &r.items, mode, optional, "secret")?),
                None if optional => {}
                None => return Err(format!("secret \"{}\" not found", r.name)),
            }
        }
        if let Some(d) = &s.downward_api {
            all.extend(payload::downward(pod, &d.items, mode, ips, &node.facts())?);
        }
        if let Some(t) = &s.service_account_token {
            let (token, at) = node.tokens.get(pod, t).await?;
            *refresh = Some(refresh.map_or(at, |r: i64| r.min(at)));
            all.insert(t.path.clone(), credential(pod, token, mode));
        }
        if let Some(t) = &s.cluster_trust_bundle {
            let anchors = trust::anchors(&node.refs.trust_bundles(user).await?, t)?;
            all.insert(t.path.clone(), credential(pod, anchors, mode));
        }
        if let Some(c) = &s.pod_certificate {
            let bundle = cx.certificates.bundles.get(&(volume.to_owned(), i)).cloned();
            let b = bundle.ok_or("credential bundle is not issued yet")??;
            for (path, text) in [
                (&c.credential_bundle_path, format!("{}{}", b.key, b.chain)),
                (&c.key_path, b.key.clone()),
                (&c.certificate_chain_path, b.chain.clone()),
            ] {
                if !path.is_empty() {
                    all.insert(path.clone(), credential(pod, text, mode));
                }
            }
        }
        if let Some(kind) = s.other.keys().next() {
            return Err(format!("projected volume source {kind} is not supported by this node"));
        }
    }
    Ok(all)
}

/// A file for the pod's own user, where it has one.
fn credential(pod: &Pod, text: String, mode: i32) -> File {
    let owner = single_user(pod);
    let private = owner.is_some() || group(pod).is_some();
    let mode = if private { 0o600 } else { u32::try_from(mode).unwrap_or(0o644) };
    File { data: text.into_bytes(), mode, owner }
}

fn make(at: &Path, mode: u32) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("failed to create {}: {e}", at.display());
    if !at.is_dir() {
        fs::create_dir_all(at).map_err(fail)?;
        fs::set_permissions(at, fs::Permissions::from_mode(mode)).map_err(fail)?;
    }
    Ok(())
}

fn show(node: &Node, pod: &Pod, at: &Path, files: Payload, in_memory: bool) -> Result<PathBuf, String> {
    make(at, 0o777)?;
    if in_memory && node.cfg.mount_tmpfs {
        node.mounter.tmpfs(at, 0)?;
    }
    atomic::write(at, &files, group(pod)).map_err(|e| format!("failed to write {}: {e}", at.display()))?;
    Ok(at.to_owned())
}

/// Unmounts and removes everything below the pod's volume directories, from what is on disk.
pub fn tear_down(node: &Node, uid: &str) -> Result<(), String> {
    let root = node.cfg.pod_dir(uid);
    let inside = root.to_string_lossy().into_owned() + "/";
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<String> = mounts
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(|p| p.replace("\\040", " "))
        .filter(|p| p.starts_with(&inside))
        .collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.len()));
    for p in points {
        node.mounter.unmount(Path::new(&p))?;
    }
    for sub in ["volume-subpaths", "volumes"] {
        match fs::remove_dir_all(root.join(sub)) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(format!("failed to remove {}: {e}", root.join(sub).display())),
        }
    }
    Ok(())
}
