//! The pods of this node on disk, so that they come back after a reboot also when the API is not there. One small file
//! per pod, replaced whole; what can't be read is as if it were not there.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
        if let Err(e) = self.write(&path, &body.to_string()) {
            tracing::warn!(path = %path.display(), error = %e, "failed to checkpoint a pod");
        }
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut tmp = path.as_os_str().to_owned();
        tmp.push(".tmp");
        fs::create_dir_all(&self.dir)?;
        fs::write(&tmp, text)?;
        fs::rename(tmp, path)
    }

    fn vars_path(&self, uid: &str) -> Option<PathBuf> {
        self.path(uid).map(|p| p.with_extension("services"))
    }

    /// The service variables that the pod's containers were last started with.
    pub fn save_service_vars(&self, uid: &str, vars: &BTreeMap<String, String>) {
        let Some(path) = self.vars_path(uid) else { return };
        let text = json!(vars).to_string();
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return;
        }
        if let Err(e) = self.write(&path, &text) {
            tracing::warn!(path = %path.display(), error = %e, "failed to keep a pod's service variables");
        }
    }

    pub fn service_vars(&self, uid: &str) -> Option<BTreeMap<String, String>> {
        serde_json::from_slice(&fs::read(self.vars_path(uid)?).ok()?).ok()
    }

    pub fn remove(&self, uid: &str) {
        for p in [self.path(uid), self.vars_path(uid)].into_iter().flatten() {
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
        let vars: BTreeMap<String, String> = [("A_SERVICE_HOST".to_owned(), "1.2.3.4".to_owned())].into();
        c.save_service_vars("u-1", &vars);
        assert_eq!(c.service_vars("u-1"), Some(vars));
        c.keep_only(&HashSet::new());
        assert_eq!(c.service_vars("u-1"), None);
        assert!(c.load().is_empty());
    }
}
