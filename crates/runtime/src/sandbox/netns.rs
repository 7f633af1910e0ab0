//! Network namespaces as files: made by a thread that enters a new one and binds it, so that no process has to hold
//! it. Spawns that one thread per call and joins it.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Blocking.
pub fn create(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::File::create(path)?;
    let to = path.to_path_buf();
    let made = std::thread::Builder::new().name("netns".into()).stack_size(128 * 1024).spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        loopback_up()?;
        mount(Some("/proc/thread-self/ns/net"), &to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        io::Result::Ok(())
    });
    let result = made.and_then(|t| t.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked"))));
    if result.is_err() {
        let _ = std::fs::remove_file(path);
    }
    result
}

/// Absence is a success.
pub fn remove(path: &Path) -> io::Result<()> {
    // Twice bound (a mount copied by somebody) means twice unbound.
    while umount2(path, MntFlags::MNT_DETACH).is_ok() {}
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn loopback_up() -> nix::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let s = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: a zeroed ifreq is valid; the name fits and ends with NUL; the kernel reads and writes only `req`.
    unsafe {
        let mut req: libc::ifreq = std::mem::zeroed();
        for (to, from) in req.ifr_name.iter_mut().zip(b"lo\0") {
            *to = from.cast_signed();
        }
        req.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
        nix::errno::Errno::result(libc::ioctl(s.as_raw_fd(), libc::SIOCSIFFLAGS, &req)).map(drop)
    }
}
