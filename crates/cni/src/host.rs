//! What on the host would break pod traffic, put right or said: forwarding switched off, a firewall that drops what is
//! forwarded (Docker, ufw).

use std::process::Stdio;

use netlink::sysctl;
use tokio::process::Command;
use tracing::{info, warn};

use crate::{Config, Error};

pub fn prepare(config: &Config) -> Result<(), Error> {
    let uses = |v4: bool| config.pod_cidrs.iter().any(|c| c.addr.is_ipv4() == v4);
    if uses(true) {
        sysctl::set("net/ipv4/ip_forward", "1")?;
    }
    if uses(false) {
        sysctl::set("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

async fn iptables(args: &[&str]) -> Option<String> {
    let out =
        Command::new("iptables").args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().await.ok()?;
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

async fn change(action: &str, rule: &[String]) -> bool {
    let mut args = vec![action];
    args.extend(rule.iter().map(String::as_str));
    iptables(&args).await.is_some()
}

/// Where the forward policy is DROP, accepts what comes from or goes to pods.
pub async fn open_forwarding(prefix: &str) {
    let Some(listing) = iptables(&["-S", "FORWARD"]).await else { return };
    if !listing.contains("-P FORWARD DROP") {
        return;
    }
    let mut fine = true;
    for rule in rules(prefix) {
        fine &= change("-C", &rule).await || change("-I", &rule).await;
    }
    if fine {
        info!(
            "the host drops forwarded packets by policy (Docker or ufw): added rules that accept pod traffic"
        );
    } else {
        warn!(
            "the host drops forwarded packets by policy and the rules that accept pod traffic could not be added; run: iptables -I FORWARD -i {prefix}+ -j ACCEPT; iptables -I FORWARD -o {prefix}+ -j ACCEPT"
        );
    }
}

pub async fn close_forwarding(prefix: &str) {
    for rule in rules(prefix) {
        while change("-D", &rule).await {}
    }
}
