//! A runtime in a temporary directory with a busybox image made here, for tests with real containers (root only).
#![allow(dead_code)]

use cri::*;
use runtime::{EmbeddedRuntime, LoopbackOnly, RuntimeConfig, ShimCommand};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const IMAGE: &str = "docker.io/library/busybox:test";

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Machine {
    pub dir: PathBuf,
    pub cfg: RuntimeConfig,
}

impl Machine {
    pub fn new() -> Self {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ksrt{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        let mut cfg = RuntimeConfig::new(dir.join("root"), &name, Arc::new(LoopbackOnly));
        cfg.shim = ShimCommand {
            program: env!("CARGO_BIN_EXE_runtime-test-shim").into(),
            args: vec!["shim".into()],
        };
        std::fs::create_dir_all(&dir).unwrap();
        Machine { dir, cfg }
    }

    pub async fn open(&self) -> EmbeddedRuntime {
        EmbeddedRuntime::open(self.cfg.clone()).await.unwrap()
    }

    pub async fn with_busybox(&self) -> EmbeddedRuntime {
        let rt = self.open().await;
        let tar = self.dir.join("busybox.tar");
        busybox_archive(&tar, IMAGE);
        rt.import_image(&tar, None).await.unwrap();
        rt
    }

    /// Removes everything and checks that nothing is left on the machine.
    pub async fn finish(self, rt: EmbeddedRuntime) {
        let cgroup = self.cfg.cgroup_root.clone();
        let run = self.cfg.run.clone();
        rt.destroy_all().await.unwrap();
        assert!(!self.cfg.root.exists() && !run.exists());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let name = self.dir.file_name().unwrap().to_string_lossy().into_owned();
        let left: Vec<_> = mounts.lines().filter(|l| l.contains(&name)).collect();
        assert!(left.is_empty(), "{left:?}");
        let groups = shim::cgroup::Hierarchies::detect().unwrap();
        assert_eq!(groups.dirs(&cgroup), Vec::<PathBuf>::new());
        let shims = processes_with(&name);
        assert!(shims.is_empty(), "{shims:?}");
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

fn processes_with(text: &str) -> Vec<String> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().into_string().ok());
    pids.filter(|p| p.bytes().all(|b| b.is_ascii_digit()) && *p != std::process::id().to_string())
        .filter_map(|p| std::fs::read_to_string(format!("/proc/{p}/cmdline")).ok())
        .filter(|c| c.contains(text))
        .collect()
}

pub fn digest(bytes: &[u8]) -> String {
    let h = Sha256::digest(bytes);
    format!("sha256:{}", h.iter().map(|b| format!("{b:02x}")).collect::<String>())
}

pub fn tar_of(files: &[(&str, &[u8], u32)], links: &[(&str, &str)]) -> Vec<u8> {
    let mut b = tar::Builder::new(Vec::new());
    for (path, body, mode) in files {
        let mut h = tar::Header::new_gnu();
        if path.ends_with('/') {
            h.set_entry_type(tar::EntryType::Directory);
        }
        h.set_mode(*mode);
        h.set_size(body.len() as u64);
        h.set_uid(0);
        h.set_gid(0);
        b.append_data(&mut h, path, *body).unwrap();
    }
    for (path, target) in links {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(tar::EntryType::Symlink);
        h.set_mode(0o777);
        h.set_size(0);
        b.append_link(&mut h, path, target).unwrap();
    }
    b.into_inner().unwrap()
}

pub fn busybox_layer() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let applets =
        ["sh", "echo", "cat", "sleep", "ls", "id", "env", "true", "false", "dd", "head", "kill", "hostname"];
    let more = [
        "stty", "tty", "ps", "nc", "httpd", "wget", "mount", "touch", "tail", "printf", "pwd", "mkdir",
        "grep",
    ];
    let links: Vec<(String, String)> =
        applets.iter().chain(&more).map(|a| (format!("bin/{a}"), "busybox".to_string())).collect();
    let links: Vec<(&str, &str)> = links.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    tar_of(
        &[
            ("bin/", b"", 0o755),
            ("etc/", b"", 0o755),
            ("tmp/", b"", 0o1777),
            ("proc/", b"", 0o755),
            ("sys/", b"", 0o755),
            ("dev/", b"", 0o755),
            ("bin/busybox", &busybox, 0o755),
            ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/var/www:/bin/sh\n", 0o644),
            ("etc/group", b"root:x:0:\nwww:x:44:\nlogs:x:50:web\n", 0o644),
        ],
        &links,
    )
}

/// An oci-archive with one image.
pub fn oci_archive(path: &Path, name: &str, layers: &[Vec<u8>], config: serde_json::Value) {
    let mut blobs: Vec<(String, Vec<u8>)> = layers.iter().map(|l| (digest(l), l.clone())).collect();
    let diff_ids: Vec<&String> = blobs.iter().map(|(d, _)| d).collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = serde_json::to_vec(&config).unwrap();
    let desc = |t: &str, b: &[u8]| serde_json::json!({"mediaType": format!("application/vnd.oci.image.{t}"), "digest": digest(b), "size": b.len()});
    let layer_descs: Vec<_> = blobs.iter().map(|(_, b)| desc("layer.v1.tar", b)).collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": desc("config.v1+json", &config), "layers": layer_descs});
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut top = desc("manifest.v1+json", &manifest);
    top["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
    let index = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [top]})).unwrap();
    blobs.push((digest(&config), config));
    blobs.push((digest(&manifest), manifest));
    let mut files: Vec<(String, Vec<u8>)> =
        blobs.into_iter().map(|(d, b)| (format!("blobs/{}", d.replace(':', "/")), b)).collect();
    files.push(("index.json".into(), index));
    files.push(("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    let refs: Vec<(&str, &[u8], u32)> =
        files.iter().map(|(p, b)| (p.as_str(), b.as_slice(), 0o644)).collect();
    std::fs::write(path, tar_of(&refs, &[])).unwrap();
}

pub fn busybox_archive(path: &Path, name: &str) {
    oci_archive(path, name, &[busybox_layer()], serde_json::json!({"Cmd": ["sh"], "Env": ["FROM=image"]}));
}

pub struct Pod {
    pub rt: EmbeddedRuntime,
    pub id: String,
    pub config: PodSandboxConfig,
}

impl Pod {
    pub async fn new(rt: &EmbeddedRuntime, logs: &Path, f: impl FnOnce(&mut PodSandboxConfig)) -> Self {
        let mut config = PodSandboxConfig {
            metadata: PodSandboxMetadata {
                name: "p".into(),
                uid: "u".into(),
                namespace: "ns".into(),
                attempt: 0,
            },
            hostname: "pod-host".into(),
            log_directory: logs.display().to_string(),
            ..Default::default()
        };
        config.linux.security_context.namespace_options.pid = NamespaceMode::Container;
        f(&mut config);
        let id = rt.run_pod_sandbox(&config, "").await.unwrap();
        Pod { rt: rt.clone(), id, config }
    }

    pub async fn create(
        &self,
        name: &str,
        cmd: &[&str],
        f: impl FnOnce(&mut ContainerConfig),
    ) -> Result<String> {
        let mut c = ContainerConfig {
            metadata: ContainerMetadata { name: name.into(), attempt: 0 },
            image: ImageSpec::new(IMAGE),
            command: cmd.iter().map(|s| s.to_string()).collect(),
            log_path: format!("{name}.log"),
            ..Default::default()
        };
        c.linux.security_context.namespace_options =
            self.config.linux.security_context.namespace_options.clone();
        f(&mut c);
        self.rt.create_container(&self.id, &c, &self.config).await
    }

    pub async fn run(&self, name: &str, cmd: &[&str], f: impl FnOnce(&mut ContainerConfig)) -> String {
        let id = self.create(name, cmd, f).await.unwrap();
        self.rt.start_container(&id).await.unwrap();
        id
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(Path::new(&self.config.log_directory).join(format!("{name}.log")))
            .unwrap_or_default()
    }
}

/// Waits for a condition; the time is a limit, not an expectation.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut f: impl FnMut() -> F) -> T {
    for _ in 0..3000 {
        if let Some(t) = f().await {
            return t;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}");
}

pub async fn exited(rt: &EmbeddedRuntime, id: &str) -> ContainerStatus {
    wait_for("the container's end", || async {
        let s = rt.container_status(id).await.unwrap();
        (s.state == ContainerState::Exited).then_some(s)
    })
    .await
}

/// The texts of a log file's lines, with stream and tag.
pub fn lines(log: &str) -> Vec<(String, String, String)> {
    log.lines()
        .map(|l| {
            let mut f = l.splitn(4, ' ').skip(1).map(str::to_string);
            (f.next().unwrap(), f.next().unwrap(), f.next().unwrap())
        })
        .collect()
}
