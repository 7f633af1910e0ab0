//! A container's root file system: overlayfs of its image's layers and a directory of its own. The upper directory
//! dies with the container, so the kernel is told not to sync it.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::io;
use std::path::{Path, PathBuf};

/// Mounts `dir/rootfs`. `layers`: lowest first.
pub fn mount_root(dir: &Path, layers: &[PathBuf]) -> io::Result<PathBuf> {
    let (root, upper, work) = (dir.join("rootfs"), dir.join("upper"), dir.join("work"));
    for d in [&root, &upper, &work] {
        match std::fs::create_dir(d) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    // An image may have no layers; overlayfs wants one.
    let empty = dir.join("empty");
    let lower: Vec<String> = match layers.is_empty() {
        true => {
            std::fs::create_dir_all(&empty)?;
            vec![empty.display().to_string()]
        }
        false => layers.iter().rev().map(|l| l.display().to_string()).collect(),
    };
    let options = format!(
        "lowerdir={},upperdir={},workdir={},volatile",
        lower.join(":"),
        upper.display(),
        work.display()
    );
    if options.len() > 4000 {
        return Err(io::Error::other(format!("{} layers are more than one mount can name", layers.len())));
    }
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(root)
}

/// Mounts layers read-only (an image as a volume). `layers`: lowest first.
pub fn mount_layers(target: &Path, layers: &[PathBuf]) -> io::Result<()> {
    std::fs::create_dir_all(target)?;
    let top: Vec<String> = layers.iter().rev().map(|l| l.display().to_string()).collect();
    match top.as_slice() {
        [] => Ok(()),
        [one] => {
            mount(Some(one.as_str()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            Ok(mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?)
        }
        _ => {
            let options = format!("lowerdir={}", top.join(":"));
            Ok(mount(Some("overlay"), target, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()))?)
        }
    }
}

/// Absence is a success.
pub fn unmount(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// All mount points at or below a directory, deepest first.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|l| l.split(' ').nth(4)).map(unescape).map(PathBuf::from);
    let mut out: Vec<PathBuf> = points.filter(|p| p.starts_with(dir)).collect();
    out.sort_by_key(|p| std::cmp::Reverse(p.as_os_str().len()));
    out
}

fn unescape(s: &str) -> String {
    s.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
