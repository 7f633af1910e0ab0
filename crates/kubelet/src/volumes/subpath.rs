//! `subPath` without a way out of the volume: each component is opened beneath the volume's root by the kernel
//! (`openat2`), and what was opened is bound to a place of its own, so a link swapped in later changes nothing.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

use crate::volumes::mounter::Mounter;

fn open_beneath(root: &impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_BENEATH);
    openat2(root.as_fd(), path, how)
}

/// Binds `volume/sub` to `target` (made as needed); a sub path that is missing becomes a directory.
pub fn bind(mounter: &dyn Mounter, volume: &Path, sub: &str, target: &Path) -> Result<PathBuf, String> {
    let rel = Path::new(sub);
    if rel.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("subPath {sub:?} must be relative and without '..'"));
    }
    let root =
        fs::File::open(volume).map_err(|e| format!("failed to open volume {}: {e}", volume.display()))?;
    let fail = |e: Errno| format!("failed to prepare subPath {sub:?} of volume {}: {e}", volume.display());
    let fd = match open_beneath(&root, rel) {
        Err(Errno::ENOENT) => {
            let mut at: OwnedFd = root.as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
            for part in rel.components().filter(|c| matches!(c, Component::Normal(_))) {
                let part = Path::new(part.as_os_str());
                match mkdirat(&at, part, Mode::from_bits_truncate(0o750)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(e) => return Err(fail(e)),
                }
                at = open_beneath(&at, part).map_err(fail)?;
            }
            at
        }
        other => other.map_err(fail)?,
    };
    let from = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let is_dir = fs::metadata(&from).map_err(|e| e.to_string())?.is_dir();
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(|e| e.to_string())?;
    }
    if is_dir {
        fs::create_dir_all(target).map_err(|e| e.to_string())?;
    } else if !target.exists() {
        fs::File::create(target).map_err(|e| e.to_string())?;
    }
    mounter.bind(&from, target)?;
    Ok(target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::mounter::NoMounter;

    #[test]
    fn stays_inside() {
        let t = tempfile::tempdir().expect("dir");
        let vol = t.path().join("vol");
        fs::create_dir_all(vol.join("..data")).expect("dir");
        fs::write(vol.join("..data/key"), "v").expect("file");
        std::os::unix::fs::symlink("..data/key", vol.join("key")).expect("link");
        std::os::unix::fs::symlink("/etc", vol.join("evil")).expect("link");
        let to = t.path().join("mnt/0");
        let p = bind(&NoMounter, &vol, "key", &to).expect("inside");
        assert_eq!(fs::read_to_string(p).expect("read"), "v");
        assert!(bind(&NoMounter, &vol, "evil/passwd", &t.path().join("mnt/1")).is_err());
        assert!(bind(&NoMounter, &vol, "../x", &t.path().join("mnt/2")).is_err());
        bind(&NoMounter, &vol, "new/dir", &t.path().join("mnt/3")).expect("made");
        assert!(vol.join("new/dir").is_dir());
    }
}
