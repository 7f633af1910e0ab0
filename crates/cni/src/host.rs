//! What on the host would break pod traffic, put right or said: forwarding switched off, a firewall that drops what is
//! forwarded (Docker, ufw).

use std::process::Stdio;

use netlink::sysctl;
use tokio::process::Command;
use tracing::{info, warn};

use crate::{Config, Error};

/// Switches forwarding on, and says so where it was off: it is the whole machine's.
pub fn prepare(config: &Config) -> Result<(), Error> {
    let uses = |v4: bool| config.pod_cidrs.iter().any(|c| c.addr.is_ipv4() == v4);
    if uses(true) {
        switch("net/ipv4/ip_forward")?;
    }
    if uses(false) {
        if sysctl::read("net/ipv6/conf/all/forwarding").is_none() {
            return Err(netlink::Error::Other("the pod network has an IPv6 range, but IPv6 is switched off on this machine; leave it out of --cluster-cidr and --service-cidr, or switch IPv6 on".into()).into());
        }
        keep_router_advertisements()?;
        switch("net/ipv6/conf/all/forwarding")?;
    }
    Ok(())
}

fn switch(name: &str) -> Result<(), Error> {
    if sysctl::read(name).as_deref() != Some("1") {
        sysctl::set(name, "1")?;
        info!("switched {name} on: pods reach others by forwarding");
    }
    Ok(())
}

/// A machine that forwards ignores router advertisements and would lose the default route it has from them.
fn keep_router_advertisements() -> Result<(), Error> {
    let links = std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten();
    for link in links.filter_map(|l| l.file_name().into_string().ok()).filter(|l| l != "all" && l != "lo") {
        let name = format!("net/ipv6/conf/{link}/accept_ra");
        if sysctl::read(&name).as_deref() == Some("1") {
            sysctl::set(&name, "2")?;
        }
    }
    Ok(())
}

async fn run(program: &str, args: &[&str]) -> Option<String> {
    let out =
        Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().await.ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

fn rules(prefix: &str) -> [Vec<String>; 2] {
    let rule = |flag: &str| {
        ["FORWARD", flag, &format!("{prefix}+"), "-m", "comment", "--comment", "kelson", "-j", "ACCEPT"]
            .map(str::to_owned)
            .to_vec()
    };
    [rule("-i"), rule("-o")]
}

async fn change(program: &str, action: &str, rule: &[String]) -> bool {
    let mut args = vec![action];
    args.extend(rule.iter().map(String::as_str));
    run(program, &args).await.is_some()
}

const PROGRAMS: [&str; 2] = ["iptables", "ip6tables"];

/// Where the forward policy is DROP, accepts what comes from or goes to pods.
pub async fn open_forwarding(prefix: &str) {
    for program in PROGRAMS {
        let listing = run(program, &["-S", "FORWARD"]).await.unwrap_or_default();
        if !listing.contains("-P FORWARD DROP") {
            continue;
        }
        let mut fine = true;
        for rule in rules(prefix) {
            fine &= change(program, "-C", &rule).await || change(program, "-I", &rule).await;
        }
        if fine {
            info!(
                "the host drops forwarded packets by policy (Docker or ufw): added rules to {program} that accept pod traffic"
            );
        } else {
            warn!(
                "the host drops forwarded packets by policy and the rules that accept pod traffic could not be added; run: {program} -I FORWARD -i {prefix}+ -j ACCEPT; {program} -I FORWARD -o {prefix}+ -j ACCEPT"
            );
        }
    }
    for chain in dropping(&run("nft", &["list", "chains"]).await.unwrap_or_default()) {
        warn!(
            "the firewall chain {chain} drops forwarded packets by policy: pods will not be reached and reach nobody, until it accepts what comes from and goes to links named {prefix}*"
        );
    }
}

/// The forward chains with policy drop in `nft list chains`, but for those of iptables, which are seen to above.
fn dropping(listing: &str) -> Vec<String> {
    let (mut table, mut chain, mut out) = ("", "", Vec::new());
    for line in listing.lines().map(str::trim) {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["table", ..] => table = line.trim_start_matches("table ").trim_end_matches(" {"),
            ["chain", name, ..] => chain = name,
            words
                if words.contains(&"hook") && words.contains(&"forward") && line.contains("policy drop") =>
            {
                let of_iptables = matches!(table, "ip filter" | "ip6 filter") && chain == "FORWARD";
                if !of_iptables {
                    out.push(format!("{table} {chain}"));
                }
            }
            _ => {}
        }
    }
    out
}

pub async fn close_forwarding(prefix: &str) {
    for program in PROGRAMS {
        for rule in rules(prefix) {
            while change(program, "-D", &rule).await {}
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn firewalls_that_drop_are_found() {
        let listing = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n\
            table inet firewall {\n\tchain in {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\
            \tchain fwd {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n\
            \tchain more {\n\t\ttype filter hook forward priority filter; policy accept;\n\t}\n}\n";
        assert_eq!(super::dropping(listing), ["inet firewall fwd"]);
        assert!(super::dropping("").is_empty());
    }
}
