//! The bare start of a container: sandbox and container by the embedded runtime, without API and kubelet, default seccomp
//! filter and all. `bench-containers KELSON DIR ARCHIVE COUNT` prints milliseconds, one per start, as a JSON list.
//! `bench/pods` puts them beside pods.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use cri::{
    ContainerConfig, ContainerMetadata, ImageSpec, NamespaceMode, PodSandboxConfig, PodSandboxMetadata,
    ProfileType, RuntimeService, SecurityProfile,
};
use runtime::{EmbeddedRuntime, LoopbackOnly, RuntimeConfig, ShimCommand};

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kelson, dir, archive, count] = args.as_slice() else {
        return Err(anyhow!("usage: bench-containers KELSON DIR ARCHIVE COUNT"));
    };
    let (dir, count) = (PathBuf::from(dir), count.parse::<u32>().context("COUNT")?);
    let name = format!("bench{}", std::process::id());
    let mut cfg = RuntimeConfig::new(dir.join("root"), &name, Arc::new(LoopbackOnly));
    cfg.shim = ShimCommand { program: kelson.into(), args: vec!["shim".into()] };
    let rt = EmbeddedRuntime::open(cfg).await.map_err(|e| anyhow!(e))?;
    let run = starts(&rt, &dir, archive, count).await;
    rt.destroy_all().await.map_err(|e| anyhow!(e))?;
    println!("{}", serde_json::to_string(&run?)?);
    Ok(())
}

async fn starts(rt: &EmbeddedRuntime, dir: &std::path::Path, archive: &str, count: u32) -> Result<Vec<f64>> {
    let images = rt.import_image(archive.as_ref(), None).await.map_err(|e| anyhow!(e))?;
    let image = images.first().and_then(|i| i.repo_tags.first()).context("the archive names no image")?;
    let mut times = Vec::new();
    for n in 0..count {
        let mut pod = PodSandboxConfig {
            metadata: PodSandboxMetadata {
                name: format!("p{n}"),
                uid: format!("u{n}"),
                namespace: "b".into(),
                attempt: 0,
            },
            hostname: "bench".into(),
            log_directory: dir.join("logs").display().to_string(),
            ..Default::default()
        };
        pod.linux.security_context.namespace_options.pid = NamespaceMode::Container;
        let mut c = ContainerConfig {
            metadata: ContainerMetadata { name: "c".into(), attempt: 0 },
            image: ImageSpec::new(image),
            command: ["sh", "-c", "sleep 100000"].map(str::to_owned).to_vec(),
            log_path: format!("{n}.log"),
            ..Default::default()
        };
        c.linux.security_context.namespace_options = pod.linux.security_context.namespace_options.clone();
        c.linux.security_context.seccomp =
            Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault, ..Default::default() });
        let begun = Instant::now();
        let sandbox = rt.run_pod_sandbox(&pod, "").await.map_err(|e| anyhow!(e))?;
        let id = rt.create_container(&sandbox, &c, &pod).await.map_err(|e| anyhow!(e))?;
        rt.start_container(&id).await.map_err(|e| anyhow!(e))?;
        // The first one compiles the filter and warms the rest.
        if n > 0 {
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(times)
}
