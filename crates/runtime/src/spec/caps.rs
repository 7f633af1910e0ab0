//! Capabilities: the default set, adding and dropping. Pure.

/// What a container has without being asked: the set Docker and containerd give.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// In the kernel's order: the index is the bit.
pub const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

fn full(name: &str) -> String {
    let up = name.to_ascii_uppercase();
    if up.starts_with("CAP_") || up == "ALL" { up } else { format!("CAP_{up}") }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    pub bounding: Vec<String>,
    pub ambient: Vec<String>,
}

/// `own`: what this program may give at all (its bounding set); more would fail at the start.
pub fn resolve(wanted: Option<&cri::Capability>, privileged: bool, own: &[String]) -> Result<Sets, String> {
    let empty = cri::Capability::default();
    let w = wanted.unwrap_or(&empty);
    let names = |list: &[String]| list.iter().map(|n| full(n)).collect::<Vec<_>>();
    let (add, drop, ambient) =
        (names(&w.add_capabilities), names(&w.drop_capabilities), names(&w.add_ambient_capabilities));
    if let Some(bad) =
        add.iter().chain(&drop).chain(&ambient).find(|n| *n != "ALL" && !ALL.contains(&n.as_str()))
    {
        return Err(format!("unknown capability to add: {bad:?}"));
    }
    let has = |list: &[String], n: &str| list.iter().any(|x| x == n);
    let set: Vec<String> = ALL
        .iter()
        .filter(|c| {
            let base = privileged || has(&add, "ALL") || (DEFAULT.contains(c) && !has(&drop, "ALL"));
            (base || has(&add, c)) && !has(&drop, c) || (privileged && !has(&drop, c))
        })
        .filter(|c| has(own, c))
        .map(|c| c.to_string())
        .collect();
    let ambient = set.iter().filter(|c| has(&ambient, c)).cloned().collect();
    Ok(Sets { bounding: set, ambient })
}

/// This process's bounding set, from /proc/self/status.
pub fn own() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let bits = mask("CapBnd:").unwrap_or(0) & mask("CapPrm:").unwrap_or(0);
    ALL.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, n)| n.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str], privileged: bool) -> Vec<String> {
        let v = |l: &[&str]| l.iter().map(|s| s.to_string()).collect();
        let c =
            cri::Capability { add_capabilities: v(add), drop_capabilities: v(drop), ..Default::default() };
        resolve(Some(&c), privileged, &ALL.map(String::from)).unwrap().bounding
    }

    #[test]
    fn adding_and_dropping() {
        assert_eq!(set(&[], &[], false).len(), DEFAULT.len());
        assert_eq!(set(&["NET_ADMIN"], &["ALL"], false), ["CAP_NET_ADMIN"]);
        assert_eq!(set(&["ALL"], &["CAP_SYS_ADMIN"], false).len(), ALL.len() - 1);
        assert!(!set(&[], &["chown"], false).contains(&"CAP_CHOWN".to_string()));
        assert_eq!(set(&[], &[], true).len(), ALL.len());
        let few = ["CAP_KILL".to_string()];
        assert_eq!(resolve(None, true, &few).unwrap().bounding, ["CAP_KILL"]);
        let bad = cri::Capability { add_capabilities: vec!["NO_SUCH".into()], ..Default::default() };
        assert!(resolve(Some(&bad), false, &few).is_err());
    }
}
