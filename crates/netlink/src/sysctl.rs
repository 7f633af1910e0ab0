//! Kernel switches under /proc/sys, read and written with errors that name them.

use std::path::PathBuf;

use crate::Error;

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name)
}

/// `None` when the kernel has no such switch.
pub fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(path(name)).ok().map(|s| s.trim().to_owned())
}

/// Writes only when the value differs. `name` is the path below /proc/sys (`net/ipv4/ip_forward`).
pub fn set(name: &str, value: &str) -> Result<(), Error> {
    if read(name).as_deref() == Some(value) {
        return Ok(());
    }
    std::fs::write(path(name), value).map_err(Error::io(format!("set the kernel switch {name} to {value}")))
}
