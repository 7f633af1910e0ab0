//! `fsGroup`: a volume's files handed to a group.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Gives everything below (and) `path` to the group: readable, writable unless `read_only`, directories set-gid.
pub fn give_to_group(path: &Path, gid: u32, read_only: bool) -> io::Result<()> {
    let mut todo = vec![path.to_owned()];
    while let Some(p) = todo.pop() {
        let meta = fs::symlink_metadata(&p)?;
        if meta.file_type().is_symlink() {
            nix::unistd::fchownat(
                nix::fcntl::AT_FDCWD,
                &p,
                None,
                Some(gid.into()),
                nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
            )?;
            continue;
        }
        nix::unistd::chown(&p, None, Some(gid.into()))?;
        let rw = if read_only { 0o440 } else { 0o660 };
        let add = if meta.is_dir() { rw | 0o110 | 0o2000 } else { rw };
        fs::set_permissions(&p, fs::Permissions::from_mode((meta.mode() & 0o7777) | add))?;
        if meta.is_dir() {
            for e in fs::read_dir(&p)? {
                todo.push(e?.path());
            }
        }
    }
    Ok(())
}

/// Whether the root of a volume already is as `give_to_group` leaves it (`OnRootMismatch`).
pub fn matches(path: &Path, gid: u32) -> bool {
    fs::metadata(path).is_ok_and(|m| m.gid() == gid && m.mode() & 0o2060 == 0o2060)
}
