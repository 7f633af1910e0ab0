//! What the machine says of itself, from /proc and /etc.

use std::fs;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Bytes of memory.
pub fn memory() -> i64 {
    parse_meminfo(&read("/proc/meminfo"), "MemTotal")
}

pub fn parse_meminfo(text: &str, key: &str) -> i64 {
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|l| l.split_whitespace().next()?.parse::<i64>().ok()).map_or(0, |kb| kb * 1024)
}

/// Thousandths of a CPU.
pub fn cpu_milli() -> i64 {
    let n = fs::read_to_string("/proc/cpuinfo")
        .map_or(0, |t| t.lines().filter(|l| l.starts_with("processor")).count());
    let n = if n > 0 { n } else { std::thread::available_parallelism().map_or(1, usize::from) };
    i64::try_from(n).unwrap_or(1) * 1000
}

pub fn os_image() -> String {
    let text = read("/etc/os-release");
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".into(), |n| n.trim_matches('"').to_owned())
}

pub fn machine_id() -> String {
    let id = read("/etc/machine-id");
    if id.is_empty() { read("/var/lib/dbus/machine-id") } else { id }
}

pub fn system_uuid() -> String {
    let id = read("/sys/class/dmi/id/product_uuid").to_lowercase();
    if id.is_empty() { machine_id() } else { id }
}

pub fn boot_id() -> String {
    read("/proc/sys/kernel/random/boot_id")
}

pub fn kernel() -> String {
    read("/proc/sys/kernel/osrelease")
}

pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Size and free bytes, inodes and free inodes of a path's file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FsUse {
    pub size: u64,
    pub free: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

pub fn fs_use(path: &std::path::Path) -> FsUse {
    let mut p = path;
    // The directory may not be there yet; its parent is on the same file system then.
    loop {
        if let Ok(s) = nix::sys::statvfs::statvfs(p) {
            let block = s.fragment_size();
            return FsUse {
                size: s.blocks() * block,
                free: s.blocks_available() * block,
                inodes: s.files(),
                inodes_free: s.files_available(),
            };
        }
        match p.parent() {
            Some(up) => p = up,
            None => return FsUse::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn meminfo() {
        assert_eq!(super::parse_meminfo("MemTotal:  16 kB\nMemAvailable: 3 kB\n", "MemAvailable"), 3072);
        assert_eq!(super::parse_meminfo("x", "MemTotal"), 0);
    }
}
