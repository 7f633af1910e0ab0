//! The pods of this node on disk, so that they come back after a reboot also when the API is not there. One small file
//! per pod, replaced whole; what can't be read is as if it were not there.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::pod::Pod;

/// Newer files are left alone and not read.
const VERSION: u64 = 1;

pub struct Checkpoint {
    dir: PathBuf,
}

impl Checkpoint {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn path(&self, uid: &str) -> Option<PathBuf> {
        let plain = !uid.is_empty() && uid.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        plain.then(|| self.dir.join(format!("{uid}.json")))
    }

    pub fn save(&self, pod: &Pod) {
        let Some(path) = self.path(&pod.metadata.uid) else { return };
        let body = json!({"version": VERSION, "pod": pod});
        let tmp = path.with_extension("tmp");
        let done = fs::create_dir_all(&self.dir)
            .and_then(|()| fs::write(&tmp, body.to_string()))
            .and_then(|()| fs::rename(&tmp, &path));
        if let Err(e) = done {
            tracing::warn!(path = %path.display(), error = %e, "failed to checkpoint a pod");
        }
    }

    pub fn remove(&self, uid: &str) {
        if let Some(p) = self.path(uid) {
            let _ = fs::remove_file(p);
        }
    }

    pub fn load(&self) -> Vec<Pod> {
        let mut out = Vec::new();
        for e in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if e.path().extension().is_none_or(|x| x != "json") {
                continue;
            }
            let Ok(raw) = fs::read(e.path()) else { continue };
            let Ok(mut v) = serde_json::from_slice::<Value>(&raw) else { continue };
            if v["version"] == json!(VERSION)
                && let Ok(p) = serde_json::from_value::<Pod>(v["pod"].take())
            {
                out.push(p);
            }
        }
        out
    }

    /// Drops what the API no longer knows.
    pub fn keep_only(&self, uids: &HashSet<String>) {
        for p in self.load() {
            if !uids.contains(&p.metadata.uid) {
                self.remove(&p.metadata.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let t = tempfile::tempdir().expect("dir");
        let c = Checkpoint::new(t.path().join("c"));
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "n", "uid": "u-1"},
            "spec": {"hostPID": true, "volumes": [{"name": "v", "emptyDir": {}}],
                "containers": [{"name": "c", "image": "i", "ports": [{"hostIP": "1.2.3.4"}]}]}}))
            .expect("pod");
        c.save(&pod);
        assert_eq!(c.load(), [pod]);
        c.keep_only(&HashSet::new());
        assert!(c.load().is_empty());
    }
}
