//! The JSON of images (OCI and Docker manifests, indexes, configs) and what we keep of it. Pure.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    pub platform: Option<Platform>,
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    pub variant: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    /// Present in an index.
    pub manifests: Option<Vec<Descriptor>>,
}

/// `manifest.json` of a `docker save` archive.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DockerEntry {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConfigFile {
    pub architecture: String,
    pub os: String,
    pub config: Option<RawRunConfig>,
    pub rootfs: RootFs,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RootFs {
    pub diff_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RawRunConfig {
    pub user: Option<String>,
    pub env: Option<Vec<String>>,
    pub entrypoint: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    pub working_dir: Option<String>,
    pub stop_signal: Option<String>,
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
}

/// How the image wants to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    pub user: String,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    pub stop_signal: String,
    pub volumes: Vec<String>,
}

impl From<RawRunConfig> for RunConfig {
    fn from(r: RawRunConfig) -> Self {
        RunConfig {
            user: r.user.unwrap_or_default(),
            env: r.env.unwrap_or_default(),
            entrypoint: r.entrypoint.unwrap_or_default(),
            cmd: r.cmd.unwrap_or_default(),
            working_dir: r.working_dir.unwrap_or_default(),
            stop_signal: r.stop_signal.unwrap_or_default(),
            volumes: r.volumes.unwrap_or_default().into_keys().collect(),
        }
    }
}

/// One image in the store's index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRecord {
    /// Digest of the config.
    pub id: String,
    /// Digests of all that was asked for under a name: manifests and indexes.
    pub manifests: BTreeSet<String>,
    /// Uncompressed digests, lowest first.
    pub diff_ids: Vec<String>,
    /// Bytes as transferred.
    pub size: u64,
    pub tags: BTreeSet<String>,
    /// `name@sha256:…`.
    pub digests: BTreeSet<String>,
    pub run: RunConfig,
    /// Seconds since the epoch.
    pub added_at: i64,
}

impl ImageRecord {
    pub fn to_cri(&self) -> cri::Image {
        let user = self.run.user.split(':').next().unwrap_or_default();
        let uid = user.parse::<i64>().ok();
        cri::Image {
            id: self.id.clone(),
            repo_tags: self.tags.iter().cloned().collect(),
            repo_digests: self.digests.iter().cloned().collect(),
            size: self.size,
            uid,
            username: if uid.is_none() { user.to_string() } else { String::new() },
            spec: cri::ImageSpec::new(self.tags.first().or(self.digests.first()).unwrap_or(&self.id).clone()),
            pinned: false,
        }
    }

    /// What pods show as `imageID`.
    pub fn reference(&self) -> String {
        self.digests.first().unwrap_or(&self.id).clone()
    }
}

pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The manifest for this machine among an index's.
pub fn choose(manifests: &[Descriptor]) -> Option<&Descriptor> {
    let fits = |d: &&Descriptor| {
        d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == host_architecture())
    };
    // Without platforms (umoci, skopeo) there is usually just one.
    manifests.iter().find(fits).or_else(|| manifests.iter().find(|d| d.platform.is_none()))
}

pub fn is_index(media_type: &str, m: &Manifest) -> bool {
    media_type.ends_with("manifest.list.v2+json")
        || media_type.ends_with("image.index.v1+json")
        || m.manifests.is_some()
}
