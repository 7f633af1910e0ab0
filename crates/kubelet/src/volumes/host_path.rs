//! `hostPath` types: what must be there, what is made. Touches the file system, nothing else.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use crate::pod::HostPath;

/// Checks (and for the `OrCreate` types makes) the path.
pub fn check(h: &HostPath) -> Result<(), String> {
    let kind = h.kind.as_deref().unwrap_or_default();
    let path = &h.path;
    let meta = fs::metadata(path);
    let not = |what: &str| Err(format!("hostPath type check failed: {path} is not {what}"));
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if meta.is_err() => {
            fs::create_dir_all(path).map_err(|e| format!("failed to create directory {path}: {e}"))?;
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
            Ok(())
        }
        "FileOrCreate" if meta.is_err() => {
            fs::File::create_new(path).map_err(|e| format!("failed to create file {path}: {e}"))?;
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o644));
            Ok(())
        }
        "Directory" | "DirectoryOrCreate" if !meta.as_ref().is_ok_and(fs::Metadata::is_dir) => {
            not("a directory")
        }
        "File" | "FileOrCreate" if !meta.as_ref().is_ok_and(fs::Metadata::is_file) => not("a file"),
        "Socket" if !meta.as_ref().is_ok_and(|m| m.file_type().is_socket()) => not("a socket file"),
        "CharDevice" if !meta.as_ref().is_ok_and(|m| m.file_type().is_char_device()) => {
            not("a character device")
        }
        "BlockDevice" if !meta.as_ref().is_ok_and(|m| m.file_type().is_block_device()) => {
            not("a block device")
        }
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice"
        | "BlockDevice" => Ok(()),
        other => Err(format!("unknown hostPath type {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let t = tempfile::tempdir().expect("dir");
        let p = |n: &str, k: &str| HostPath {
            path: t.path().join(n).to_string_lossy().into_owned(),
            kind: Some(k.to_owned()),
        };
        assert!(check(&p("x", "")).is_ok());
        assert!(check(&p("x", "Directory")).is_err_and(|e| e.ends_with("x is not a directory")));
        assert!(check(&p("x", "DirectoryOrCreate")).is_ok());
        assert!(check(&p("x", "Directory")).is_ok());
        assert!(check(&p("x", "File")).is_err());
        assert!(check(&p("y", "FileOrCreate")).is_ok());
        assert!(check(&p("y", "Socket")).is_err());
    }
}
