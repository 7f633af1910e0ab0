//! Containers: creation, start, stop, removal, status.

use super::open::remove_dir;
use super::*;
use crate::images::ImageRecord;
use crate::images::store::write_atomic;
use crate::images::unpack::{make_dir_in_root, read_in_root};
use crate::sandbox::{ContainerRecord, Live, VERSION};
use crate::spec::users::{self, User};
use crate::spec::{DeviceNode, PidNamespace, SpecInput};
use shim::protocol::{Reply, Request, RunRequest};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// False: it had ended before.
pub(super) fn apply_exit(c: &Container, rec: &shim::protocol::ContainerRecord) -> bool {
    let mut live = c.live.lock();
    if live.state == ContainerState::Exited {
        return false;
    }
    live.state = ContainerState::Exited;
    live.pid = 0;
    live.started_at = rec.started_at;
    live.finished_at = rec.finished_at;
    live.exit_code = rec.exit_code;
    live.message = rec.error.clone();
    live.reason = match (rec.error.is_empty(), rec.oom_killed, rec.exit_code) {
        (false, _, _) => "StartError",
        (_, true, _) => "OOMKilled",
        (_, _, 0) => "Completed",
        _ => "Error",
    }
    .into();
    true
}

pub(super) fn status(c: &Container) -> ContainerStatus {
    let (r, l) = (&c.rec, c.live.lock().clone());
    ContainerStatus {
        id: r.id.clone(),
        metadata: r.config.metadata.clone(),
        state: l.state,
        created_at: r.created_at,
        started_at: l.started_at,
        finished_at: l.finished_at,
        exit_code: l.exit_code,
        image: r.config.image.clone(),
        image_ref: r.image_ref.clone(),
        image_id: r.image_id.clone(),
        reason: l.reason,
        message: l.message,
        labels: r.config.labels.clone(),
        annotations: r.config.annotations.clone(),
        mounts: r.config.mounts.clone(),
        log_path: r.log_path.clone(),
        resources: Some(l.resources),
        user: Some(LinuxContainerUser {
            uid: r.user.uid.into(),
            gid: r.user.gid.into(),
            supplemental_groups: r.user.groups.iter().map(|g| i64::from(*g)).collect(),
        }),
        stop_signal: r.stop_signal.clone(),
        pid: l.pid,
        pod_sandbox_id: r.sandbox_id.clone(),
    }
}

pub(super) fn view(c: &Container) -> cri::Container {
    let r = &c.rec;
    cri::Container {
        id: r.id.clone(),
        pod_sandbox_id: r.sandbox_id.clone(),
        metadata: r.config.metadata.clone(),
        image: r.config.image.clone(),
        image_ref: r.image_ref.clone(),
        image_id: r.image_id.clone(),
        state: c.state(),
        created_at: r.created_at,
        labels: r.config.labels.clone(),
        annotations: r.config.annotations.clone(),
    }
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
pub(super) fn signal_number(name: &str) -> Option<i32> {
    let n = name.trim().to_ascii_uppercase();
    if let Ok(n) = n.parse::<i32>() {
        return (1..=64).contains(&n).then_some(n);
    }
    let n = n.strip_prefix("SIG").unwrap_or(&n);
    if let Some(rest) = n.strip_prefix("RTMIN") {
        let plus = rest.strip_prefix('+').unwrap_or("0").parse::<i32>().ok()?;
        return (0..=30).contains(&plus).then_some(34 + plus);
    }
    format!("SIG{n}").parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)
}

fn device(path: &str, as_path: &str, access: &str) -> Result<Option<DeviceNode>> {
    let bad = |e| CriError::InvalidArgument(format!("device {path}: {e}"));
    let m = std::fs::metadata(path).map_err(bad)?;
    let kind = match (m.file_type().is_char_device(), m.file_type().is_block_device()) {
        (true, _) => 'c',
        (_, true) => 'b',
        _ => return Ok(None),
    };
    Ok(Some(DeviceNode {
        kind,
        path: as_path.to_string(),
        major: nix::sys::stat::major(m.rdev()),
        minor: nix::sys::stat::minor(m.rdev()),
        mode: m.mode() & 0o7777,
        uid: m.uid(),
        gid: m.gid(),
        access: access.to_string(),
    }))
}

pub(super) fn devices(config: &ContainerConfig) -> Result<Vec<DeviceNode>> {
    let mut out = Vec::new();
    for d in &config.devices {
        let access = if d.permissions.is_empty() { "rwm" } else { &d.permissions };
        if Path::new(&d.host_path).is_dir() {
            let rd = std::fs::read_dir(&d.host_path).map_err(CriError::internal)?;
            for e in rd.flatten() {
                let name = e.file_name().to_string_lossy().into_owned();
                out.extend(device(
                    &format!("{}/{name}", d.host_path),
                    &format!("{}/{name}", d.container_path),
                    access,
                )?);
            }
            continue;
        }
        let one = device(&d.host_path, &d.container_path, access)?;
        out.push(one.ok_or_else(|| CriError::InvalidArgument(format!("{} is no device", d.host_path)))?);
    }
    if config.linux.security_context.privileged {
        host_devices(Path::new("/dev"), &mut out, 0);
    }
    Ok(out)
}

/// All of the host's, but for terminals and what a container has of its own.
fn host_devices(dir: &Path, out: &mut Vec<DeviceNode>, depth: u32) {
    let Ok(rd) = std::fs::read_dir(dir) else { return };
    for e in rd.flatten() {
        let (name, path) = (e.file_name(), e.path());
        let own =
            ["pts", "shm", "fd", "mqueue", ".lxc", ".udev", "console", "ptmx", "null", "zero", "full", "tty"];
        let own = own.iter().chain(&["random", "urandom"]);
        if depth == 0 && own.into_iter().any(|n| name == *n) {
            continue;
        }
        let Ok(kind) = e.file_type() else { continue };
        if kind.is_dir() && depth < 3 {
            host_devices(&path, out, depth + 1);
        } else if kind.is_char_device() || kind.is_block_device() {
            let p = path.display().to_string();
            if out.len() < 4096
                && !out.iter().any(|d| d.path == p)
                && let Ok(Some(d)) = device(&p, &p, "rwm")
            {
                out.push(d);
            }
        }
    }
}

impl Inner {
    pub async fn create_container(
        self: &Arc<Self>,
        sandbox: &str,
        config: &ContainerConfig,
    ) -> Result<String> {
        let sb = self.sandbox(sandbox)?;
        let shim = self.shim_of(sandbox)?;
        let image = self.images.find(&config.image.image);
        let image = image.ok_or_else(|| CriError::NotFound(format!("image {:?}", config.image.image)))?;
        let pid = self.pid_namespace(config, shim.pause_pid)?;
        let (inner, config, id) = (self.clone(), config.clone(), new_id());
        let made = id.clone();
        let c = blocking(move || {
            let dir = inner.cfg.root.join("containers").join(&made);
            let held = inner.images.hold(&image.diff_ids);
            let r = inner.make_container(&dir, &made, &sb, &config, &image, pid);
            drop(held);
            if r.is_err() {
                let _ = snapshots::unmount(&dir.join("rootfs"));
                let _ = remove_dir(&dir);
            }
            r
        })
        .await?;
        self.containers.lock().insert(id.clone(), Arc::new(c));
        self.announce(&id, sandbox, ContainerEventType::Created);
        Ok(id)
    }

    fn pid_namespace(&self, config: &ContainerConfig, pause_pid: i32) -> Result<PidNamespace> {
        let ns = &config.linux.security_context.namespace_options;
        Ok(match ns.pid {
            NamespaceMode::Container => PidNamespace::Private,
            NamespaceMode::Node => PidNamespace::Host,
            NamespaceMode::Pod if pause_pid > 0 => PidNamespace::Path(format!("/proc/{pause_pid}/ns/pid")),
            NamespaceMode::Pod => PidNamespace::Private,
            NamespaceMode::Target => {
                let target = self.container(&ns.target_id)?;
                match target.live.lock().clone() {
                    Live { state: ContainerState::Running, pid, .. } => {
                        PidNamespace::Path(format!("/proc/{pid}/ns/pid"))
                    }
                    _ => {
                        let t = &ns.target_id;
                        return Err(CriError::FailedPrecondition(format!(
                            "target container {t} is not running"
                        )));
                    }
                }
            }
        })
    }

    /// Blocking.
    fn make_container(
        &self,
        dir: &Path,
        id: &str,
        sb: &Sandbox,
        config: &ContainerConfig,
        image: &ImageRecord,
        pid: PidNamespace,
    ) -> Result<Container> {
        let io = |what: &'static str| move |e: std::io::Error| CriError::Internal(format!("{what}: {e}"));
        let invalid = |e: String| CriError::InvalidArgument(e);
        let (sandbox_config, hostname, parent, sandbox_id) = {
            let r = sb.rec.lock();
            (r.config.clone(), r.hostname.clone(), r.cgroup_parent.clone(), r.id.clone())
        };
        let cgroup = format!("{}/{id}", parent.trim_end_matches('/'));
        std::fs::create_dir_all(dir.join("bundle")).map_err(io("make the container's directory"))?;
        let layers: Vec<_> = image.diff_ids.iter().map(|d| self.images.layer_dir(d)).collect();
        let root = snapshots::mount_root(dir, &layers).map_err(io("mount the container's root"))?;
        let read = |p: &str| read_in_root(&root, p, 4 << 20).map_err(io("read the image's accounts"));
        let passwd = read("etc/passwd")?.unwrap_or_default();
        let group = read("etc/group")?.unwrap_or_default();
        let user: User = users::resolve(&config.linux.security_context, &image.run.user, &passwd, &group)
            .map_err(invalid)?;
        let cwd = if config.working_dir.is_empty() { &image.run.working_dir } else { &config.working_dir };
        if !cwd.is_empty() {
            make_dir_in_root(&root, Path::new(cwd), user.uid, user.gid)
                .map_err(|e| CriError::InvalidArgument(format!("working directory {cwd:?}: {e}")))?;
        }
        let mut diff_ids = image.diff_ids.clone();
        let mut config = config.clone();
        for (n, m) in config.mounts.iter_mut().enumerate() {
            if let Some(spec) = &m.image {
                let volume = self.images.find(&spec.image);
                let volume = volume.ok_or_else(|| CriError::NotFound(format!("image {:?}", spec.image)))?;
                let point = dir.join(format!("volume-{n}"));
                let layers: Vec<_> = volume.diff_ids.iter().map(|d| self.images.layer_dir(d)).collect();
                snapshots::mount_layers(&point, &layers).map_err(io("mount an image volume"))?;
                let sub = m.image_sub_path.trim_matches('/');
                let inside = crate::images::unpack::is_dir_in_root(&point, sub)
                    .map_err(io("look into the image volume"))?;
                if !inside {
                    let name = if spec.user_specified_image.is_empty() {
                        &spec.image
                    } else {
                        &spec.user_specified_image
                    };
                    let e = format!("ImageVolumeMountFailed: image {name:?} has no directory {sub:?}");
                    return Err(CriError::InvalidArgument(e));
                }
                m.host_path = point.join(sub).display().to_string();
                m.readonly = true;
                diff_ids.extend(volume.diff_ids);
            }
            if m.host_path.is_empty() {
                return Err(CriError::InvalidArgument(format!(
                    "the mount on {:?} has no source",
                    m.container_path
                )));
            }
            if !Path::new(&m.host_path).exists() {
                std::fs::create_dir_all(&m.host_path).map_err(|e| {
                    CriError::InvalidArgument(format!("make {:?} to mount it: {e}", m.host_path))
                })?;
            }
        }
        let config = &config;
        let pod_mounts = self.pod_mounts(sb, &sandbox_config, config);
        let nodes = self.devices_for(config)?;
        let unified = self.groups.unified();
        let own_cgroups: Vec<(String, String)> = match unified {
            true => Vec::new(),
            false => self.own_cgroups(&cgroup),
        };
        let mut spec = crate::spec::build(&SpecInput {
            config,
            sandbox: &sandbox_config,
            image: &image.run,
            user: &user,
            rootfs: &root.display().to_string(),
            cgroup: &cgroup,
            hostname: &hostname,
            pid: pid.clone(),
            pod_mounts: &pod_mounts,
            devices: &nodes,
            unified,
            own_cgroups: &own_cgroups,
            own_caps: &self.own_caps,
            local_seccomp: local_seccomp(config)?,
        })
        .map_err(invalid)?;
        self.filters.divert(&mut spec)?;
        let spec = serde_json::to_vec(&spec).map_err(CriError::internal)?;
        std::fs::write(dir.join("bundle/config.json"), spec).map_err(io("write the container's spec"))?;
        let log_path = match (config.log_path.as_str(), sandbox_config.log_directory.as_str()) {
            ("", _) | (_, "") => String::new(),
            (p, d) => Path::new(d).join(p).display().to_string(),
        };
        if let Some(d) = Path::new(&log_path).parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(d).map_err(io("make the log directory"))?;
        }
        let rec = ContainerRecord {
            version: VERSION,
            id: id.to_string(),
            sandbox_id,
            config: config.clone(),
            created_at: now_ns(),
            image_id: image.id.clone(),
            image_ref: image.reference(),
            diff_ids,
            log_path,
            cgroup,
            user,
            stop_signal: match (config.stop_signal.as_str(), image.run.stop_signal.as_str()) {
                ("", "") => "SIGTERM".into(),
                ("", s) | (s, _) => s.to_string(),
            },
            private_pid: pid == PidNamespace::Private,
            oom_score_adj: i32::try_from(config.linux.resources.oom_score_adj).ok(),
        };
        let bytes = serde_json::to_vec(&rec).map_err(CriError::internal)?;
        write_atomic(&dir.join("container.json"), &bytes, false)
            .map_err(io("write the container's record"))?;
        Ok(Container {
            dir: dir.to_path_buf(),
            live: Mutex::new(Live {
                state: ContainerState::Created,
                resources: config.linux.resources.clone(),
                ..Default::default()
            }),
            exited: tokio::sync::watch::Sender::new(false),
            op: Default::default(),
            rec,
        })
    }

    fn pod_mounts(&self, sb: &Sandbox, pod: &PodSandboxConfig, config: &ContainerConfig) -> Vec<Mount> {
        let readonly = config.linux.security_context.readonly_rootfs;
        let mut out: Vec<Mount> = ["resolv.conf", "hosts", "hostname"]
            .iter()
            .map(|f| Mount {
                container_path: format!("/etc/{f}"),
                host_path: sb.dir.join(f).display().to_string(),
                readonly,
                ..Default::default()
            })
            .collect();
        let host_ipc = pod.linux.security_context.namespace_options.ipc == NamespaceMode::Node;
        out.push(Mount {
            container_path: "/dev/shm".into(),
            host_path: if host_ipc { "/dev/shm".into() } else { sb.dir.join("shm").display().to_string() },
            ..Default::default()
        });
        out
    }

    fn own_cgroups(&self, cgroup: &str) -> Vec<(String, String)> {
        let wanted = ["cpu", "cpuacct", "cpuset", "memory", "pids"];
        let mut out = Vec::new();
        for (names, point) in &self.groups.v1 {
            if names.iter().any(|n| wanted.contains(&n.as_str())) {
                let dir = point.join(cgroup.trim_start_matches('/')).display().to_string();
                let name = point.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                out.push((name, dir));
            }
        }
        out
    }

    pub async fn start_container(&self, id: &str) -> Result<()> {
        let c = self.container(id)?;
        let _one = c.op.lock().await;
        if c.state() != ContainerState::Created {
            return Err(CriError::FailedPrecondition(format!("container {id} was started before")));
        }
        let shim = self.shim_of(&c.rec.sandbox_id)?;
        let req = RunRequest {
            id: id.to_string(),
            bundle: c.dir.join("bundle").display().to_string(),
            cgroup: c.rec.cgroup.clone(),
            log_path: c.rec.log_path.clone(),
            stdin: c.rec.config.stdin,
            stdin_once: c.rec.config.stdin_once,
            tty: c.rec.config.tty,
            oom_score_adj: c.rec.oom_score_adj,
            private_pid: c.rec.private_pid,
        };
        match shim.call(Request::Run(req)).await {
            Ok(Reply::Started { pid, started_at }) => {
                {
                    let mut live = c.live.lock();
                    // Its exit may have been told already.
                    if live.state == ContainerState::Created {
                        live.state = ContainerState::Running;
                        live.pid = pid;
                        live.started_at = started_at;
                    }
                }
                self.announce(id, &c.rec.sandbox_id, ContainerEventType::Started);
                Ok(())
            }
            Ok(_) => Err(CriError::Internal("the pod's shim answered something else than asked".into())),
            Err(e) => {
                let e = from_shim(e);
                let now = now_ns();
                self.container_exited(&shim::protocol::ContainerRecord {
                    id: id.to_string(),
                    phase: shim::protocol::Phase::Exited,
                    started_at: now,
                    finished_at: now,
                    exit_code: 128,
                    error: e.to_string(),
                    ..Default::default()
                });
                Err(e)
            }
        }
    }

    pub async fn stop_container(&self, id: &str, timeout: i64) -> Result<()> {
        let Ok(c) = self.container(id) else { return Ok(()) };
        if c.state() != ContainerState::Running {
            return Ok(());
        }
        let Ok(shim) = self.shim_of(&c.rec.sandbox_id) else { return Ok(()) };
        let send = |signal: i32, all: bool| {
            let (shim, id) = (shim.clone(), id.to_string());
            async move {
                match shim.call(Request::Signal { id, signal, all }).await.map_err(from_shim) {
                    Err(CriError::FailedPrecondition(_) | CriError::NotFound(_)) | Ok(_) => Ok(()),
                    Err(e) => Err(e),
                }
            }
        };
        if timeout > 0 {
            send(signal_number(&c.rec.stop_signal).unwrap_or(libc::SIGTERM), false).await?;
            let wait = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
            if tokio::time::timeout(wait, c.wait_exit()).await.is_ok() {
                return Ok(());
            }
        }
        send(libc::SIGKILL, true).await?;
        tokio::time::timeout(Duration::from_secs(120), c.wait_exit()).await.map_err(|_| {
            CriError::DeadlineExceeded(format!("container {id} has not ended two minutes after SIGKILL"))
        })
    }

    pub async fn remove_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(c) = self.container(id) else { return Ok(()) };
        self.stop_container(id, 0).await?;
        let _one = c.op.lock().await;
        if let Ok(shim) = self.shim_of(&c.rec.sandbox_id) {
            match shim.call(Request::Remove { id: id.to_string() }).await.map_err(from_shim) {
                Ok(_) | Err(CriError::NotFound(_) | CriError::Unavailable(_)) => {}
                Err(e) => return Err(e),
            }
        }
        let (inner, dir, cgroup) = (self.clone(), c.dir.clone(), c.rec.cgroup.clone());
        blocking(move || {
            inner.remove_cgroup(&cgroup);
            let said = |e: std::io::Error| CriError::Internal(format!("remove {}: {e}", dir.display()));
            snapshots::unmount(&dir.join("rootfs")).map_err(said)?;
            remove_dir(&dir).map_err(said)
        })
        .await?;
        self.announce(id, &c.rec.sandbox_id, ContainerEventType::Deleted);
        self.containers.lock().remove(id);
        self.cpu.lock().remove(id);
        self.sizes.lock().remove(id);
        Ok(())
    }
}

fn local_seccomp(config: &ContainerConfig) -> Result<Option<serde_json::Value>> {
    let Some(p) = &config.linux.security_context.seccomp else { return Ok(None) };
    if p.profile_type != ProfileType::Localhost {
        return Ok(None);
    }
    let path = &p.localhost_ref;
    let bad = |e: String| CriError::InvalidArgument(format!("failed to load seccomp profile {path}: {e}"));
    let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    let v: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    serde_json::from_value::<oci_spec::runtime::LinuxSeccomp>(v.clone()).map_err(|e| bad(e.to_string()))?;
    Ok(Some(v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (name, n) in
            [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGUSR1", 10), ("SIGRTMIN+3", 37), ("SIGQUIT", 3)]
        {
            assert_eq!(signal_number(name), Some(n), "{name}");
        }
        assert_eq!(signal_number("SIGNOPE"), None);
        assert_eq!(signal_number("0"), None);
    }
}
