//! The small files every pod has: resolv.conf, hosts, hostname. Pure but for [`write`].

use cri::{DnsConfig, PodSandboxConfig};
use std::io;
use std::path::Path;

pub fn resolv_conf(dns: &DnsConfig) -> String {
    let mut out = String::new();
    if !dns.searches.is_empty() {
        out.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    dns.servers.iter().for_each(|s| out.push_str(&format!("nameserver {s}\n")));
    if !dns.options.is_empty() {
        out.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    out
}

pub fn hosts(hostname: &str, ips: &[String]) -> String {
    let mut out = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    ips.iter().for_each(|ip| out.push_str(&format!("{ip}\t{hostname}\n")));
    out
}

/// Writes them into the sandbox's directory. `host_network`: the host's own hosts file and names apply.
pub fn write(
    dir: &Path,
    config: &PodSandboxConfig,
    hostname: &str,
    ips: &[String],
    host: bool,
) -> io::Result<()> {
    let copy = |from: &str| std::fs::read_to_string(from).unwrap_or_default();
    let resolv = match &config.dns_config {
        Some(d) if !(d.servers.is_empty() && d.searches.is_empty() && d.options.is_empty()) => resolv_conf(d),
        _ => copy("/etc/resolv.conf"),
    };
    std::fs::write(dir.join("resolv.conf"), resolv)?;
    std::fs::write(dir.join("hosts"), if host { copy("/etc/hosts") } else { hosts(hostname, ips) })?;
    std::fs::write(dir.join("hostname"), format!("{hostname}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let d = DnsConfig {
            servers: vec!["10.96.0.10".into()],
            searches: vec!["a.svc".into(), "svc".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(resolv_conf(&d), "search a.svc svc\nnameserver 10.96.0.10\noptions ndots:5\n");
        assert!(hosts("web", &["10.0.0.2".into()]).ends_with("10.0.0.2\tweb\n"));
    }
}
