//! Files that change all at once: they lie in a fresh directory, `..data` points at it, and a rename of that link is
//! the change. Readers see either the old set or the new one. The layout is upstream's, since programs watch for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// One file to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    pub owner: Option<u32>,
}

/// Relative path to file.
pub type Payload = BTreeMap<String, File>;

const DATA: &str = "..data";

/// Whether a relative path stays inside: no `..`, not absolute, and not one of our own names.
pub fn valid_path(p: &str) -> bool {
    let path = Path::new(p);
    !p.is_empty() && !p.starts_with("..") && path.components().all(|c| matches!(c, Component::Normal(_)))
}

/// Makes `dir` show exactly `payload`. Gives whether anything changed.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> io::Result<bool> {
    if let Some(bad) = payload.keys().find(|p| !valid_path(p)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path {bad:?} in a volume")));
    }
    fs::create_dir_all(dir)?;
    let link = dir.join(DATA);
    let old = fs::read_link(&link).ok().map(|l| dir.join(l));
    if let Some(old) = &old
        && same(old, payload)?
    {
        links(dir, payload)?;
        return Ok(false);
    }
    let fresh = fresh_dir(dir)?;
    for (path, file) in payload {
        let full = fresh.join(path);
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&full, &file.data)?;
        fs::set_permissions(&full, fs::Permissions::from_mode(file.mode))?;
        if let Some(uid) = file.owner {
            nix::unistd::chown(&full, Some(uid.into()), None)?;
        }
    }
    if let Some(gid) = group {
        super::ownership::give_to_group(&fresh, gid, true)?;
    }
    let tmp = dir.join("..data_tmp");
    let _ = fs::remove_file(&tmp);
    let name = fresh.file_name().map(PathBuf::from).unwrap_or_default();
    symlink(&name, &tmp)?;
    fs::rename(&tmp, &link)?;
    links(dir, payload)?;
    if let Some(old) = old.filter(|o| *o != fresh) {
        let _ = fs::remove_dir_all(old);
    }
    // What a crash in the middle left behind.
    for e in fs::read_dir(dir)?.flatten() {
        let n = e.file_name();
        let stale = n.to_string_lossy().starts_with("..2") && n != *name.as_os_str();
        if stale {
            let _ = fs::remove_dir_all(e.path());
        }
    }
    Ok(true)
}

fn fresh_dir(dir: &Path) -> io::Result<PathBuf> {
    let now = client::clock::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    loop {
        let p = dir.join(format!("{now}.{}", rand::random::<u32>()));
        match fs::create_dir(&p) {
            Ok(()) => {
                fs::set_permissions(&p, fs::Permissions::from_mode(0o755))?;
                return Ok(p);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

fn same(old: &Path, payload: &Payload) -> io::Result<bool> {
    let mut found = BTreeSet::new();
    let mut todo = vec![old.to_owned()];
    while let Some(d) = todo.pop() {
        let Ok(entries) = fs::read_dir(&d) else { return Ok(false) };
        for e in entries {
            let e = e?;
            if e.file_type()?.is_dir() {
                todo.push(e.path());
                continue;
            }
            let Ok(rel) = e.path().strip_prefix(old).map(|p| p.to_string_lossy().into_owned()) else {
                return Ok(false);
            };
            match payload.get(&rel) {
                Some(f) if fs::read(e.path())? == f.data => {}
                _ => return Ok(false),
            }
            found.insert(rel);
        }
    }
    Ok(found.len() == payload.len())
}

/// The links users see: one per first path component; those of no file go.
fn links(dir: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|p| p.split('/').next()).collect();
    for name in &wanted {
        let at = dir.join(name);
        let to = Path::new(DATA).join(name);
        match fs::read_link(&at) {
            Ok(l) if l == to => continue,
            Ok(_) => fs::remove_file(&at)?,
            Err(_) => {}
        }
        symlink(&to, &at)?;
    }
    for e in fs::read_dir(dir)?.flatten() {
        let n = e.file_name().to_string_lossy().into_owned();
        if !n.starts_with("..") && !wanted.contains(n.as_str()) && e.file_type().is_ok_and(|t| t.is_symlink())
        {
            fs::remove_file(e.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let one = |d: &str| File { data: d.as_bytes().to_vec(), mode: 0o644, owner: None };
        files.iter().map(|(p, d)| ((*p).to_owned(), one(d))).collect()
    }

    #[test]
    fn swaps_all_at_once_and_removes_what_is_gone() {
        let t = tempfile::tempdir().expect("dir");
        let d = t.path();
        assert!(write(d, &payload(&[("a", "1"), ("sub/b", "2")]), None).expect("write"));
        let first = fs::read_link(d.join(DATA)).expect("link");
        assert_eq!(fs::read_to_string(d.join("sub/b")).expect("read"), "2");
        assert!(!write(d, &payload(&[("a", "1"), ("sub/b", "2")]), None).expect("write"));
        assert_eq!(fs::read_link(d.join(DATA)).expect("link"), first, "nothing changed, nothing moved");
        assert!(write(d, &payload(&[("a", "3")]), None).expect("write"));
        assert_eq!(fs::read_to_string(d.join("a")).expect("read"), "3");
        assert!(!d.join("sub").exists() && fs::symlink_metadata(d.join("sub")).is_err());
        assert!(!d.join(first).exists());
    }

    #[test]
    fn paths_stay_inside() {
        for (p, ok) in
            [("a", true), ("a/b", true), ("..x", false), ("a/../b", false), ("/a", false), ("", false)]
        {
            assert_eq!(valid_path(p), ok, "{p}");
        }
    }
}
