//! One layer's tar into a directory, in the form overlayfs wants it (whiteouts become character devices 0:0 and opaque
//! attributes). Every path is resolved by the kernel inside the target (openat2, RESOLVE_IN_ROOT), so neither `..`, an
//! absolute link nor a symlink planted by an earlier entry leads out of it.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use std::ffi::{CString, OsStr};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("read the layer: {0}")]
    Read(#[from] io::Error),
    #[error("entry {path:?}: {why}")]
    Entry { path: PathBuf, why: String },
}

/// The bytes that files take.
pub fn unpack(reader: impl Read, dest: &Path) -> Result<u64, UnpackError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(dest, flags, Mode::empty()).map_err(io::Error::from)?;
    let mut u = Unpacker { root, size: 0, dirs: Vec::new(), parent: None };
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        u.entry(&mut entry, &path).map_err(|why| UnpackError::Entry { path, why })?;
    }
    u.finish();
    Ok(u.size)
}

struct Unpacker {
    root: OwnedFd,
    size: u64,
    /// Modification times of directories, set last: their entries change them.
    dirs: Vec<(PathBuf, i64)>,
    /// The last parent directory; most entries follow siblings.
    parent: Option<(PathBuf, OwnedFd)>,
}

fn in_root(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

/// Without leading `/` and `./`; `None` for the root itself.
fn clean(path: &Path) -> Result<Option<PathBuf>, String> {
    let mut out = PathBuf::new();
    for c in path.components() {
        match c {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(n) => out.push(n),
            _ => return Err("path leads out of the layer".into()),
        }
    }
    Ok((!out.as_os_str().is_empty()).then_some(out))
}

fn said(what: &'static str) -> impl Fn(Errno) -> String {
    move |e| format!("{what}: {}", e.desc())
}

impl Unpacker {
    fn open_dir(&mut self, path: &Path) -> Result<OwnedFd, String> {
        if let Some((p, fd)) = &self.parent
            && p == path
        {
            return fd.try_clone().map_err(|e| e.to_string());
        }
        let dir_flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let fd = match openat2(&self.root, name, in_root(dir_flags)) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR) => self.make_dirs(path)?,
            Err(e) => return Err(said("open the parent directory")(e)),
        };
        let copy = fd.try_clone().map_err(|e| e.to_string())?;
        self.parent = Some((path.to_path_buf(), copy));
        Ok(fd)
    }

    /// Parents that the layer doesn't name.
    fn make_dirs(&self, path: &Path) -> Result<OwnedFd, String> {
        let dir_flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let mut fd = self.root.try_clone().map_err(|e| e.to_string())?;
        let mut so_far = PathBuf::new();
        for c in path.components() {
            so_far.push(c);
            match openat2(&self.root, &so_far, in_root(dir_flags)) {
                Ok(f) => fd = f,
                Err(Errno::ENOENT | Errno::ENOTDIR) => {
                    let name = Path::new(c.as_os_str());
                    match mkdirat(&fd, name, Mode::from_bits_truncate(0o755)) {
                        Ok(()) => {}
                        // A file or a dangling link in the way of a directory: the later entry wins.
                        Err(Errno::EEXIST) => {
                            remove_at(&fd, name).map_err(said("replace a file by a directory"))?;
                            mkdirat(&fd, name, Mode::from_bits_truncate(0o755))
                                .map_err(said("make a directory"))?;
                        }
                        Err(e) => return Err(said("make a parent directory")(e)),
                    }
                    fd =
                        openat2(&self.root, &so_far, in_root(dir_flags)).map_err(said("open a directory"))?;
                }
                Err(e) => return Err(said("open a parent directory")(e)),
            }
        }
        Ok(fd)
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> Result<(), String> {
        use tar::EntryType as T;
        let h = entry.header();
        let kind = h.entry_type();
        if matches!(kind, T::XGlobalHeader | T::XHeader | T::GNULongName | T::GNULongLink) {
            return Ok(());
        }
        let mode = h.mode().unwrap_or(0o644) & 0o7777;
        let (uid, gid) = (id(h.uid().unwrap_or(0))?, id(h.gid().unwrap_or(0))?);
        let mtime = i64::try_from(h.mtime().unwrap_or(0)).unwrap_or(0);
        let Some(path) = clean(path)? else {
            // The layer's root: its attributes are the target's own.
            if kind == T::Directory {
                let fd = openat(
                    &self.root,
                    ".",
                    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )
                .map_err(said("open the root"))?;
                fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .map_err(said("set the owner"))?;
                fchmod(&fd, Mode::from_bits_truncate(mode)).map_err(said("set the mode"))?;
            }
            return Ok(());
        };
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return Ok(()) };
        let dir = self.open_dir(parent)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return whiteout(&dir, hidden);
        }
        let name = Path::new(name);
        if kind != T::Directory {
            remove_at(&dir, name).map_err(said("replace what was there"))?;
            if self.parent.as_ref().is_some_and(|(p, _)| p.starts_with(&path)) {
                self.parent = None;
            }
        }
        let at = AtFlags::AT_SYMLINK_NOFOLLOW;
        match kind {
            T::Directory => {
                match mkdirat(&dir, name, Mode::from_bits_truncate(0o700)) {
                    Ok(()) => {}
                    Err(Errno::EEXIST) => {
                        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                        if openat(&dir, name, flags, Mode::empty()).is_err() {
                            remove_at(&dir, name).map_err(said("replace a file by a directory"))?;
                            mkdirat(&dir, name, Mode::from_bits_truncate(0o700))
                                .map_err(said("make the directory"))?;
                            self.parent = None;
                        }
                    }
                    Err(e) => return Err(said("make the directory")(e)),
                }
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let fd = openat(&dir, name, flags, Mode::empty()).map_err(said("open the directory"))?;
                fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .map_err(said("set the owner"))?;
                fchmod(&fd, Mode::from_bits_truncate(mode)).map_err(said("set the mode"))?;
                self.dirs.push((path.clone(), mtime));
            }
            T::Regular | T::Continuous | T::GNUSparse => {
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let fd = openat(&dir, name, flags, Mode::from_bits_truncate(0o600))
                    .map_err(said("make the file"))?;
                let mut f = std::fs::File::from(fd);
                self.size += io::copy(entry, &mut f).map_err(|e| format!("write the file: {e}"))?;
                fchown(&f, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                    .map_err(said("set the owner"))?;
                // After the owner: changing that clears the set-id bits.
                fchmod(&f, Mode::from_bits_truncate(mode)).map_err(said("set the mode"))?;
            }
            T::Symlink => {
                let target = entry.link_name_bytes().ok_or("a symbolic link without a target")?;
                symlinkat(OsStr::from_bytes(&target), &dir, name).map_err(said("make the symbolic link"))?;
                fchownat(&dir, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), at)
                    .map_err(said("set the owner"))?;
            }
            T::Link => {
                let target = entry.link_name_bytes().ok_or("a hard link without a target")?;
                let target =
                    clean(Path::new(OsStr::from_bytes(&target)))?.ok_or("a hard link to the root")?;
                let fd = openat2(&self.root, &target, in_root(OFlag::O_PATH | OFlag::O_NOFOLLOW))
                    .map_err(|e| format!("link to {}: {}", target.display(), e.desc()))?;
                linkat(&fd, "", &dir, name, LinkatFlags::from_bits_retain(libc::AT_EMPTY_PATH))
                    .map_err(|e| format!("link to {}: {}", target.display(), e.desc()))?;
                return Ok(());
            }
            T::Char | T::Block | T::Fifo => {
                let major = u64::from(h.device_major().ok().flatten().unwrap_or(0));
                let minor = u64::from(h.device_minor().ok().flatten().unwrap_or(0));
                let (flag, dev) = match kind {
                    // That would be a whiteout, which has its own spelling.
                    T::Char if (major, minor) == (0, 0) => return Ok(()),
                    T::Char => (SFlag::S_IFCHR, nix::sys::stat::makedev(major, minor)),
                    T::Block => (SFlag::S_IFBLK, nix::sys::stat::makedev(major, minor)),
                    _ => (SFlag::S_IFIFO, 0),
                };
                mknodat(&dir, name, flag, Mode::from_bits_truncate(mode), dev)
                    .map_err(said("make the node"))?;
                fchownat(&dir, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), at)
                    .map_err(said("set the owner"))?;
                nix::sys::stat::fchmodat(
                    &dir,
                    name,
                    Mode::from_bits_truncate(mode),
                    nix::sys::stat::FchmodatFlags::FollowSymlink,
                )
                .map_err(said("set the mode"))?;
            }
            _ => return Ok(()),
        }
        self.attributes(entry, &dir, name)?;
        if kind != T::Directory {
            let t = TimeSpec::new(mtime, 0);
            let _ = utimensat(&dir, name, &t, &t, UtimensatFlags::NoFollowSymlink);
        }
        Ok(())
    }

    fn attributes<R: Read>(
        &self,
        e: &mut tar::Entry<'_, R>,
        dir: &OwnedFd,
        name: &Path,
    ) -> Result<(), String> {
        let Ok(Some(ext)) = e.pax_extensions() else { return Ok(()) };
        for x in ext.flatten() {
            let Some(key) = x.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
            // `trusted` steers overlayfs itself; it is ours.
            if key.starts_with(b"trusted.") || key.starts_with(b"user.overlay.") {
                continue;
            }
            set_attribute(dir, name, key, x.value_bytes())?;
        }
        Ok(())
    }

    fn finish(&mut self) {
        for (path, mtime) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            if let Ok(fd) = openat2(&self.root, &path, in_root(flags)) {
                let t = TimeSpec::new(mtime, 0);
                let _ = nix::sys::stat::futimens(&fd, &t, &t);
            }
        }
    }
}

fn id(n: u64) -> Result<u32, String> {
    u32::try_from(n).map_err(|_| format!("owner {n} is out of range"))
}

fn set_attribute(dir: &OwnedFd, name: &Path, key: &[u8], value: &[u8]) -> Result<(), String> {
    // The parent is an open descriptor and the last step isn't followed, so no link can redirect this.
    let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    let c = |b: &[u8]| CString::new(b).map_err(|_| "a NUL byte in an attribute".to_string());
    let (path, key) = (c(path.as_os_str().as_bytes())?, c(key)?);
    // SAFETY: both strings and the value live through the call.
    let r = unsafe { libc::lsetxattr(path.as_ptr(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    match r {
        0 => Ok(()),
        _ if Errno::last() == Errno::EOPNOTSUPP => Ok(()),
        _ => Err(format!("set attribute {}: {}", key.to_string_lossy(), Errno::last().desc())),
    }
}

fn whiteout(dir: &OwnedFd, hidden: &[u8]) -> Result<(), String> {
    if hidden == b".wh..opq" {
        return set_attribute(dir, Path::new("."), b"trusted.overlay.opaque", b"y");
    }
    // Other names of that form are bookkeeping of AUFS.
    if hidden.starts_with(b".wh.") || hidden.is_empty() {
        return Ok(());
    }
    if hidden == b"." || hidden == b".." {
        return Err("a whiteout of the directory itself".into());
    }
    let name = Path::new(OsStr::from_bytes(hidden));
    remove_at(dir, name).map_err(said("replace by a whiteout"))?;
    mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0).map_err(said("make a whiteout"))
}

/// Removes whatever has that name, never following a link. Absence is a success.
pub fn remove_at(dir: impl AsFd, name: &Path) -> nix::Result<()> {
    match unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let d = openat(&dir, name, flags, Mode::empty())?;
    let list = std::fs::read_dir(format!("/proc/self/fd/{}", d.as_raw_fd()));
    for e in list.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?.flatten() {
        remove_at(&d, Path::new(&e.file_name()))?;
    }
    unlinkat(&dir, name, UnlinkatFlags::RemoveDir)
}

/// Reads a file inside a container's root; links are resolved there too. `None` when there is none.
pub fn read_in_root(root: &Path, path: &str, limit: u64) -> io::Result<Option<String>> {
    let dir = nix::fcntl::openat(
        AT_FDCWD,
        root,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    // Not blocking: an image may have a pipe there.
    match openat2(&dir, path, in_root(OFlag::O_RDONLY | OFlag::O_NONBLOCK)) {
        Ok(fd) => {
            let mut bytes = Vec::new();
            std::fs::File::from(fd).take(limit).read_to_end(&mut bytes)?;
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// No link on the way, so that the plain path is safe to mount.
pub fn is_dir_in_root(root: &Path, path: &str) -> io::Result<bool> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = nix::fcntl::open(root, flags, Mode::empty())?;
    let how =
        OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(&dir, if path.is_empty() { "." } else { path }, how) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Makes a directory (and its parents) inside a container's root.
pub fn make_dir_in_root(root: &Path, path: &Path, uid: u32, gid: u32) -> Result<(), String> {
    let Some(path) = clean(path)? else { return Ok(()) };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(root, flags, Mode::empty()).map_err(said("open the root"))?;
    if openat2(&root, &path, in_root(OFlag::O_PATH)).is_ok() {
        return Ok(());
    }
    let u = Unpacker { root, size: 0, dirs: Vec::new(), parent: None };
    u.make_dirs(&path)?;
    let fd =
        openat2(&u.root, &path, in_root(OFlag::O_RDONLY | OFlag::O_DIRECTORY)).map_err(said("open it"))?;
    fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(said("set the owner"))
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
