//! What this process tells glibc's allocator, which keeps what it once had: few arenas, and back to the machine what a
//! burst has left behind. Elsewhere these calls do nothing. See docs/adr/0003.

/// At most that many arenas, however many threads there are. To be called before the first thread is started.
pub fn limit_arenas(n: usize) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if let Ok(n) = libc::c_int::try_from(n) {
        // SAFETY: sets a number inside the allocator.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, n) };
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = n;
}

/// Gives free pages back.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the allocator takes its own locks; no pointer of ours is involved.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes of this process in memory.
pub fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    pages
        * u64::try_from(
            nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096),
        )
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_has_memory() {
        super::give_back();
        assert!(super::resident() > 100_000);
    }
}
