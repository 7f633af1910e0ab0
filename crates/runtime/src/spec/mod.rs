//! From CRI messages to an OCI runtime spec. A pure function: what it needs of the machine comes in with
//! [`SpecInput`]; golden tests hold the result.

pub mod caps;
pub mod seccomp;
pub mod users;

use crate::images::RunConfig;
use cri::{ContainerConfig, MountPropagation, PodSandboxConfig};
use serde_json::{Value, json};

pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PidNamespace {
    Private,
    Host,
    Path(String),
}

/// A device node of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// `c` or `b`.
    pub kind: char,
    pub path: String,
    pub major: u64,
    pub minor: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub access: String,
}

pub struct SpecInput<'a> {
    pub config: &'a ContainerConfig,
    pub sandbox: &'a PodSandboxConfig,
    pub image: &'a RunConfig,
    pub user: &'a users::User,
    pub rootfs: &'a str,
    pub cgroup: &'a str,
    pub hostname: &'a str,
    pub pid: PidNamespace,
    /// Files and /dev/shm the sandbox gives; the container's own mounts on the same paths win.
    pub pod_mounts: &'a [cri::Mount],
    pub devices: &'a [DeviceNode],
    /// cgroup v2 only.
    pub unified: bool,
    /// v1: (controller, host directory) of the container's own groups, shown read-only.
    pub own_cgroups: &'a [(String, String)],
    pub own_caps: &'a [String],
    /// The filter for `Localhost`, read already.
    pub local_seccomp: Option<Value>,
}

/// Entrypoint and arguments by Kubernetes' rules over Docker's.
pub fn process_args(config: &ContainerConfig, image: &RunConfig) -> Result<Vec<String>, String> {
    let mut out = if config.command.is_empty() { image.entrypoint.clone() } else { config.command.clone() };
    match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => out.extend(image.cmd.iter().cloned()),
        _ => out.extend(config.args.iter().cloned()),
    }
    match out.is_empty() {
        true => Err("no command specified".into()),
        false => Ok(out),
    }
}

pub fn environment(config: &ContainerConfig, image: &RunConfig, hostname: &str) -> Vec<String> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut set = |k: &str, v: &str| match out.iter_mut().find(|(n, _)| n == k) {
        Some((_, old)) => *old = v.to_string(),
        None => out.push((k.to_string(), v.to_string())),
    };
    set("PATH", DEFAULT_PATH);
    if !hostname.is_empty() {
        set("HOSTNAME", hostname);
    }
    if config.tty {
        set("TERM", "xterm");
    }
    for e in &image.env {
        let (k, v) = e.split_once('=').unwrap_or((e, ""));
        set(k, v);
    }
    config.envs.iter().for_each(|e| set(&e.key, &e.value));
    out.into_iter().map(|(k, v)| format!("{k}={v}")).collect()
}

fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    format!("/{}", parts.join("/"))
}

fn bind(m: &cri::Mount) -> Value {
    let propagation = match m.propagation {
        MountPropagation::Private => "rprivate",
        MountPropagation::HostToContainer => "rslave",
        MountPropagation::Bidirectional => "rshared",
    };
    let mut options = vec!["rbind", propagation];
    options.push(match (m.readonly, m.recursive_read_only) {
        (true, true) => "rro",
        (true, false) => "ro",
        _ => "rw",
    });
    json!({"destination": normal(&m.container_path), "type": "bind", "source": m.host_path, "options": options})
}

fn mounts(i: &SpecInput<'_>) -> Vec<Value> {
    let privileged = i.config.linux.security_context.privileged;
    let taken = |p: &str| i.config.mounts.iter().any(|m| normal(&m.container_path) == p);
    let mut out = Vec::new();
    let mut add = |dest: &str, kind: &str, source: &str, options: &[&str]| {
        if !taken(dest) {
            out.push(json!({"destination": dest, "type": kind, "source": source, "options": options}));
        }
    };
    add("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]);
    add("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]);
    add(
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    );
    add("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    let sys = if privileged { "rw" } else { "ro" };
    add("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys]);
    if i.unified {
        add("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", sys]);
    } else if privileged {
        add("/sys/fs/cgroup", "bind", "/sys/fs/cgroup", &["rbind", "rprivate", "rw"]);
    } else if !i.own_cgroups.is_empty() {
        // libcontainer's own v1 mounts are writable; these can't be.
        add("/sys/fs/cgroup", "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev", "mode=755"]);
        for (name, dir) in i.own_cgroups {
            add(
                &format!("/sys/fs/cgroup/{name}"),
                "bind",
                dir,
                &["bind", "rprivate", "nosuid", "noexec", "nodev", "ro"],
            );
        }
    }
    out.extend(i.pod_mounts.iter().filter(|m| !taken(&normal(&m.container_path))).map(bind));
    // Parents before children, whatever order they were given in.
    let mut given: Vec<&cri::Mount> = i.config.mounts.iter().collect();
    given.sort_by_key(|m| normal(&m.container_path).matches('/').count());
    out.extend(given.into_iter().map(bind));
    out
}

fn device_rules(i: &SpecInput<'_>) -> Vec<Value> {
    if i.config.linux.security_context.privileged {
        return vec![json!({"allow": true, "access": "rwm"})];
    }
    let mut out = vec![
        json!({"allow": false, "access": "rwm"}),
        json!({"allow": true, "type": "c", "access": "m"}),
        json!({"allow": true, "type": "b", "access": "m"}),
    ];
    // null, zero, full, tty, urandom, random, console, ptmx, and all of devpts.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (5, 0), (1, 9), (1, 8), (5, 1), (5, 2)] {
        out.push(json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"}));
    }
    out.push(json!({"allow": true, "type": "c", "major": 136, "access": "rwm"}));
    for d in i.devices {
        let kind = d.kind.to_string();
        out.push(
            json!({"allow": true, "type": kind, "major": d.major, "minor": d.minor, "access": d.access}),
        );
    }
    out
}

/// Zero means "leave it".
pub fn resources(r: &cri::LinuxContainerResources, unified: bool) -> Value {
    let mut cpu = serde_json::Map::new();
    let mut memory = serde_json::Map::new();
    let put = |m: &mut serde_json::Map<String, Value>, k: &str, n: i64| {
        if n != 0 {
            m.insert(k.into(), json!(n));
        }
    };
    put(&mut cpu, "shares", r.cpu_shares.max(0));
    put(&mut cpu, "quota", r.cpu_quota);
    put(&mut cpu, "period", r.cpu_period.max(0));
    if !r.cpuset_cpus.is_empty() {
        cpu.insert("cpus".into(), json!(r.cpuset_cpus));
    }
    if !r.cpuset_mems.is_empty() {
        cpu.insert("mems".into(), json!(r.cpuset_mems));
    }
    put(&mut memory, "limit", r.memory_limit_in_bytes);
    put(&mut memory, "swap", r.memory_swap_limit_in_bytes);
    let mut out = serde_json::Map::new();
    if !cpu.is_empty() {
        out.insert("cpu".into(), cpu.into());
    }
    if !memory.is_empty() {
        out.insert("memory".into(), memory.into());
    }
    if r.pids_limit > 0 {
        out.insert("pids".into(), json!({"limit": r.pids_limit}));
    }
    if !r.hugepage_limits.is_empty() {
        let h: Vec<Value> =
            r.hugepage_limits.iter().map(|h| json!({"pageSize": h.page_size, "limit": h.limit})).collect();
        out.insert("hugepageLimits".into(), h.into());
    }
    if unified && !r.unified.is_empty() {
        out.insert("unified".into(), json!(r.unified));
    }
    out.into()
}

pub fn build(i: &SpecInput<'_>) -> Result<Value, String> {
    let sc = &i.config.linux.security_context;
    let caps = caps::resolve(sc.capabilities.as_ref(), sc.privileged, i.own_caps)?;
    let cwd = match (i.config.working_dir.as_str(), i.image.working_dir.as_str()) {
        ("", "") => "/",
        ("", d) | (d, _) => d,
    };
    if !cwd.starts_with('/') {
        return Err(format!("working directory {cwd:?} is not absolute"));
    }
    let mut process = json!({
        "terminal": i.config.tty,
        "user": {"uid": i.user.uid, "gid": i.user.gid, "additionalGids": i.user.groups},
        "args": process_args(i.config, i.image)?,
        "env": environment(i.config, i.image, i.hostname),
        "cwd": cwd,
        "capabilities": {
            "bounding": caps.bounding,
            "effective": caps.bounding,
            "permitted": caps.bounding,
            "inheritable": caps.ambient,
            "ambient": caps.ambient,
        },
    });
    // Absent and false differ for libcontainer: it then loads the filter while it still may.
    if sc.no_new_privs {
        process["noNewPrivileges"] = json!(true);
    }
    let mut namespaces = vec![json!({"type": "mount"})];
    match &i.pid {
        PidNamespace::Private => namespaces.push(json!({"type": "pid"})),
        PidNamespace::Path(p) => namespaces.push(json!({"type": "pid", "path": p})),
        PidNamespace::Host => {}
    }
    if i.unified && !sc.privileged {
        namespaces.push(json!({"type": "cgroup"}));
    }
    let mut limits = resources(&i.config.linux.resources, i.unified);
    limits["devices"] = device_rules(i).into();
    let mut linux = json!({
        "namespaces": namespaces,
        "cgroupsPath": i.cgroup,
        "resources": limits,
        "maskedPaths": sc.masked_paths,
        "readonlyPaths": sc.readonly_paths,
    });
    if !i.devices.is_empty() {
        let nodes: Vec<Value> = i
            .devices
            .iter()
            .map(|d| {
                json!({"path": d.path, "type": d.kind.to_string(), "major": d.major, "minor": d.minor,
                    "fileMode": d.mode, "uid": d.uid, "gid": d.gid})
            })
            .collect();
        linux["devices"] = nodes.into();
    }
    let widest = i.config.mounts.iter().map(|m| m.propagation);
    if widest.clone().any(|p| p == MountPropagation::Bidirectional) {
        linux["rootfsPropagation"] = json!("rshared");
    } else if widest.clone().any(|p| p == MountPropagation::HostToContainer) {
        linux["rootfsPropagation"] = json!("rslave");
    }
    let filter = match (&sc.seccomp, sc.privileged) {
        (_, true) | (None, _) => None,
        (Some(p), _) => match p.profile_type {
            cri::ProfileType::Unconfined => None,
            cri::ProfileType::RuntimeDefault => Some(seccomp::runtime_default(&caps.bounding)),
            cri::ProfileType::Localhost => i.local_seccomp.clone(),
        },
    };
    if let Some(f) = filter {
        linux["seccomp"] = f;
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": i.rootfs, "readonly": sc.readonly_rootfs},
        "mounts": mounts(i),
        "annotations": {
            "io.kubernetes.cri.container-name": i.config.metadata.name,
            "io.kubernetes.cri.sandbox-name": i.sandbox.metadata.name,
            "io.kubernetes.cri.sandbox-namespace": i.sandbox.metadata.namespace,
        },
        "linux": linux,
    }))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
