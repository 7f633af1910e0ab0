//! Compiled seccomp filters: one file per distinct profile in `<run>/seccomp`, made when the first container wants it.
//! [`divert`] takes the filter out of a spec and leaves what the shim does instead (`shim::seccomp`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cri::{CriError, Result};
use oci_spec::runtime::LinuxSeccomp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shim::seccomp::{self, FINISH};

/// What loading a filter takes without no_new_privs, and dropping it again afterwards.
const LOADER: [&str; 2] = ["CAP_SYS_ADMIN", "CAP_SETPCAP"];

pub(crate) struct Filters {
    dir: PathBuf,
    /// One compiler at a time: the others wait for its file.
    compiling: Mutex<()>,
}

impl Filters {
    pub fn new(run: &Path) -> Self {
        Self { dir: run.join("seccomp"), compiling: Mutex::default() }
    }

    /// Takes the filter out of the spec, compiled. A filter with a listener stays where it is. Blocking.
    pub fn divert(&self, spec: &mut Value) -> Result<()> {
        let Some(raw) = spec["linux"].get("seccomp") else { return Ok(()) };
        let profile: LinuxSeccomp = serde_json::from_value(raw.clone())
            .map_err(|e| CriError::InvalidArgument(format!("the seccomp profile can't be read: {e}")))?;
        if seccomp::needs_listener(&profile) {
            return Ok(());
        }
        let name = Sha256::digest(raw.to_string()).iter().fold(String::new(), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        });
        let path = self.dir.join(format!("{name}.bpf"));
        {
            let _one = self.compiling.lock();
            if !path.exists() {
                std::fs::create_dir_all(&self.dir)
                    .map_err(|e| CriError::Internal(format!("make {}: {e}", self.dir.display())))?;
                seccomp::compile(&profile, &path).map_err(CriError::Internal)?;
            }
        }
        divert(spec, &path.display().to_string(), seccomp::flags(&profile));
        Ok(())
    }
}

/// Pure: the spec without its filter, with the capabilities that loading it takes, and the finish as an annotation.
fn divert(spec: &mut Value, filter: &str, flags: u64) {
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("seccomp");
    }
    let own = spec["process"]["capabilities"].clone();
    let finish = json!({"filter": filter, "flags": flags, "capabilities": own});
    spec["annotations"][FINISH] = json!(finish.to_string());
    if spec["process"]["noNewPrivileges"] == true {
        return;
    }
    for set in ["bounding", "effective", "permitted"] {
        let Some(all) = spec["process"]["capabilities"][set].as_array_mut() else { continue };
        for c in LOADER {
            if !all.iter().any(|have| have == c) {
                all.push(json!(c));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(no_new_privs: bool) -> Value {
        let mut v = json!({"process": {"capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"],
            "permitted": ["CAP_KILL"], "inheritable": [], "ambient": []}}, "annotations": {"a": "b"},
            "linux": {"seccomp": crate::spec::seccomp::runtime_default(&[])}});
        if no_new_privs {
            v["process"]["noNewPrivileges"] = json!(true);
        }
        v
    }

    #[test]
    fn the_loader_gets_its_capabilities_and_gives_them_back() {
        let mut v = spec(false);
        divert(&mut v, "/f", 2);
        assert!(v["linux"].get("seccomp").is_none());
        for set in ["bounding", "effective", "permitted"] {
            assert_eq!(
                v["process"]["capabilities"][set],
                json!(["CAP_KILL", "CAP_SYS_ADMIN", "CAP_SETPCAP"])
            );
        }
        let finish: seccomp::Finish =
            serde_json::from_str(v["annotations"][FINISH].as_str().unwrap()).unwrap();
        assert_eq!((finish.filter.as_str(), finish.flags), ("/f", 2));
        let own = serde_json::to_value(finish.capabilities.unwrap()).unwrap();
        assert_eq!(own["permitted"], json!(["CAP_KILL"]));
        let mut v = spec(true);
        divert(&mut v, "/f", 0);
        assert_eq!(v["process"]["capabilities"]["permitted"], json!(["CAP_KILL"]));
    }

    #[test]
    fn one_file_per_profile() {
        let dir = std::env::temp_dir().join(format!("kelson-filters-{}", std::process::id()));
        let filters = Filters::new(&dir);
        for _ in 0..2 {
            filters.divert(&mut spec(false)).unwrap();
        }
        let mut other = spec(false);
        other["linux"]["seccomp"] = crate::spec::seccomp::runtime_default(&["CAP_SYS_ADMIN".into()]);
        filters.divert(&mut other).unwrap();
        let mut listener = json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}}});
        filters.divert(&mut listener).unwrap();
        assert!(listener["linux"].get("seccomp").is_some());
        let n = std::fs::read_dir(dir.join("seccomp")).unwrap().count();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(n, 2);
    }
}
