//! What a machine is told that runs a node: by a server's flags and file, or by an agent's flags. Spawns nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};

use crate::args::NodeArgs;
use crate::config::{DEFAULT_DATA_DIR, Instance, name};

/// What a machine is told, whether its server is in the same process or elsewhere.
#[derive(Debug, Clone)]
pub struct Machine {
    pub node_name: String,
    pub node_labels: BTreeMap<String, String>,
    pub kubelet_port: u16,
    pub log: String,
    pub log_json: bool,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
    pub static_pods: PathBuf,
    pub eviction: kubelet::Eviction,
    pub image_gc: kubelet::ImageGc,
}

/// The same in a configuration file.
#[derive(Default)]
pub struct MachineFile {
    pub data_dir: Option<PathBuf>,
    pub node_name: Option<String>,
    pub node_labels: BTreeMap<String, String>,
    pub kubelet_port: Option<u16>,
    pub log: Option<String>,
    pub log_json: bool,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
    pub static_pods: Option<PathBuf>,
    pub eviction_hard: BTreeMap<String, String>,
    pub image_gc_high_threshold: Option<u8>,
}

impl Machine {
    pub fn new(a: NodeArgs, f: MachineFile) -> anyhow::Result<(Instance, Self)> {
        let instance = Instance::of(&a.data_dir.or(f.data_dir).unwrap_or_else(|| DEFAULT_DATA_DIR.into()));
        let host = || {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase();
            if name.is_empty() { "localhost".to_owned() } else { name }
        };
        let node_name = name("node-name", a.node_name.or(f.node_name).unwrap_or_else(host))?;
        let eviction_hard = a.eviction_hard.or_else(|| {
            let pairs: Vec<String> = f.eviction_hard.iter().map(|(k, v)| format!("{k}<{v}")).collect();
            (!pairs.is_empty()).then(|| pairs.join(","))
        });
        let eviction = match eviction_hard {
            None => kubelet::Eviction::default(),
            Some(text) => kubelet::Eviction::parse(&text).map_err(|e| anyhow!("--eviction-hard: {e}"))?,
        };
        let image_gc = match a.image_gc_high_threshold.or(f.image_gc_high_threshold) {
            None => kubelet::ImageGc::default(),
            Some(p) if (1..=100).contains(&p) => kubelet::ImageGc::above(p),
            Some(p) => bail!("--image-gc-high-threshold: {p} is no percentage from 1 to 100"),
        };
        let mut insecure_registries = a.insecure_registries;
        insecure_registries.extend(f.insecure_registries);
        let registry_mirrors = mirrors(&a.registry_mirrors, f.registry_mirrors)?;
        let node_labels = labels(&a.node_labels, f.node_labels)?;
        let machine = Self {
            node_name,
            node_labels,
            kubelet_port: a.kubelet_port.or(f.kubelet_port).unwrap_or(if instance.is_default() {
                10250
            } else {
                0
            }),
            log: a
                .log
                .or(f.log)
                .or_else(|| std::env::var("KELSON_LOG").ok())
                .unwrap_or_else(|| "info".into()),
            log_json: a.log_json || f.log_json,
            insecure_registries,
            registry_mirrors,
            static_pods: a
                .static_pods
                .or(f.static_pods)
                .unwrap_or_else(|| instance.data_dir.join("manifests")),
            eviction,
            image_gc,
        };
        Ok((instance, machine))
    }
}

/// Flags win over the file's.
fn labels(flags: &[String], mut all: BTreeMap<String, String>) -> anyhow::Result<BTreeMap<String, String>> {
    for pair in flags {
        let (key, value) =
            pair.split_once('=').with_context(|| format!("--node-labels {pair:?}: KEY=VALUE"))?;
        all.insert(key.to_owned(), value.to_owned());
    }
    for (key, value) in &all {
        let names = api::validation::names::qualified_name(key);
        if let Some(why) = names.first().or(api::validation::names::label_value(value).first()) {
            bail!("--node-labels {key}={value}: {why}");
        }
        if !apiserver::admission::kubelet_may_set(key) {
            bail!(
                "--node-labels {key}: a node may not set this label on itself; set it with kubectl label node"
            );
        }
    }
    Ok(all)
}

/// Flags are asked before the file's.
fn mirrors(
    flags: &[String],
    file: BTreeMap<String, Vec<String>>,
) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in flags {
        let (host, url) = pair.split_once('=').with_context(|| {
            format!("--registry-mirrors {pair:?}: HOST=URL, such as docker.io=https://mirror.example")
        })?;
        out.entry(host.to_owned()).or_default().push(url.to_owned());
    }
    for (host, urls) in file {
        out.entry(host).or_default().extend(urls);
    }
    if let Some(url) =
        out.values().flatten().find(|u| !u.starts_with("http://") && !u.starts_with("https://"))
    {
        bail!("registry mirror {url:?}: a URL with http:// or https:// is needed");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_a_node() {
        let of = |flags: &[&str]| {
            let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
            labels(&flags, [("disk".to_owned(), "slow".to_owned())].into())
        };
        let zone = "topology.kubernetes.io/zone";
        let all = of(&["disk=fast", "topology.kubernetes.io/zone=a", "empty="]).expect("labels");
        assert_eq!((all["disk"].as_str(), all[zone].as_str(), all["empty"].as_str()), ("fast", "a", ""));
        for (flag, word) in [
            ("disk", "KEY=VALUE"),
            ("a b=c", "--node-labels a b=c"),
            ("a=b c", "--node-labels a=b c"),
            ("node-role.kubernetes.io/control-plane=", "may not set"),
        ] {
            let why = format!("{:#}", of(&[flag]).expect_err(flag));
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn mirrors_of_flags_come_first() {
        let of = |flags: &[&str]| {
            let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
            mirrors(&flags, [("a".to_owned(), vec!["https://file".to_owned()])].into())
        };
        assert_eq!(of(&["a=http://flag"]).expect("mirrors")["a"], ["http://flag", "https://file"]);
        assert!(format!("{:#}", of(&["a"]).expect_err("no URL")).contains("HOST=URL"));
        assert!(format!("{:#}", of(&["a=flag:5000"]).expect_err("no scheme")).contains("http://"));
    }
}
