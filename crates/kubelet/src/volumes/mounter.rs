//! The few mount calls volumes need, behind a trait so that tests run without privileges.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

pub trait Mounter: Send + Sync + 'static {
    /// A tmpfs at `path` unless one is there already. `size`: bytes, 0 for the kernel's default.
    fn tmpfs(&self, path: &Path, size: u64) -> Result<(), String>;
    fn bind(&self, from: &Path, to: &Path) -> Result<(), String>;
    /// Fine when nothing is mounted there.
    fn unmount(&self, path: &Path) -> Result<(), String>;
}

/// The machine's.
pub struct SystemMounter;

fn mount_points() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

fn is_mounted(path: &Path) -> bool {
    let escaped = path.to_string_lossy().replace(' ', "\\040");
    mount_points().lines().any(|l| l.split(' ').nth(4) == Some(escaped.as_str()))
}

impl Mounter for SystemMounter {
    fn tmpfs(&self, path: &Path, size: u64) -> Result<(), String> {
        if is_mounted(path) {
            return Ok(());
        }
        let data = if size > 0 { format!("size={size},mode=0777") } else { "mode=0777".to_owned() };
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(data.as_str()))
            .map_err(|e| format!("failed to mount a tmpfs at {}: {e}", path.display()))
    }

    fn bind(&self, from: &Path, to: &Path) -> Result<(), String> {
        if is_mounted(to) {
            return Ok(());
        }
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .map_err(|e| format!("failed to bind {} to {}: {e}", from.display(), to.display()))
    }

    fn unmount(&self, path: &Path) -> Result<(), String> {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
            Err(e) => Err(format!("failed to unmount {}: {e}", path.display())),
        }
    }
}

/// Mounts nothing; binds become symlinks.
pub struct NoMounter;

impl Mounter for NoMounter {
    fn tmpfs(&self, _: &Path, _: u64) -> Result<(), String> {
        Ok(())
    }
    fn bind(&self, from: &Path, to: &Path) -> Result<(), String> {
        let real = std::fs::canonicalize(from).map_err(|e| e.to_string())?;
        let _ = std::fs::remove_file(to);
        let _ = std::fs::remove_dir(to);
        std::os::unix::fs::symlink(real, to).map_err(|e| e.to_string())
    }
    fn unmount(&self, _: &Path) -> Result<(), String> {
        Ok(())
    }
}
