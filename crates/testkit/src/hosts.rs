//! Several machines on one: network namespaces behind a router, some of them on another subnet, with addresses of both
//! families where the kernel has them. They share everything but the network. What is made goes with the value, also when the test failed.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A machine's network.
#[derive(Debug, Clone)]
pub struct Host {
    netns: String,
    pub address: Ipv4Addr,
}

/// Which way nothing passes a host's link to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    In,
    Out,
    Both,
}

impl Host {
    /// Drops what comes in, what goes out, or both, until `mend`.
    pub fn cut(&self, way: Cut) {
        let mut rules = "add table inet cut\n".to_owned();
        for (hook, direction, of) in [("ingress", "iif", Cut::In), ("egress", "oif", Cut::Out)] {
            if way == of || way == Cut::Both {
                // Forwarded packets are those of pods.
                let (own, forwarded) =
                    if hook == "ingress" { ("input", "forward") } else { ("output", "forward") };
                for chain in [own, forwarded] {
                    rules += &format!(
                        "add chain inet cut {hook}-{chain} {{ type filter hook {chain} priority -300; }}\n"
                    );
                    rules += &format!("add rule inet cut {hook}-{chain} {direction}name eth0 drop\n");
                }
            }
        }
        self.nft(&rules);
    }

    /// Everything passes again.
    pub fn mend(&self) {
        self.nft("add table inet cut\ndelete table inet cut\n");
    }

    fn nft(&self, rules: &str) {
        let out = crate::run(self.command("nft").args(["-f", "-"]), Some(rules));
        assert!(out.ok, "nft failed: {out:?}\n{rules}");
    }

    /// The names of its links.
    pub fn links(&self) -> Vec<String> {
        let out = crate::run(self.command("ip").args(["-o", "link"]), None);
        let name = |l: &str| l.split(": ").nth(1).map(|n| n.split('@').next().unwrap_or(n).to_owned());
        out.stdout.lines().filter_map(name).collect()
    }

    /// A program started there.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut c = Command::new("nsenter");
        c.arg(format!("--net=/run/netns/{}", self.netns)).arg("--").arg(program);
        c
    }
}

/// The router and what is connected to it.
pub struct Hosts {
    prefix: String,
    network: [u8; 3],
    hosts: Vec<Host>,
    /// Of the test's own link to the first subnet.
    link: String,
}

fn ip(args: &[&str]) -> Result<(), String> {
    let out = Command::new("ip").args(args).output().map_err(|e| format!("failed to start ip: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("ip {} failed: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim()))
}

fn must(args: &str) {
    if let Err(e) = ip(&args.split_whitespace().collect::<Vec<_>>()) {
        panic!("{e}");
    }
}

const FORWARD: &str = "echo 1 >/proc/sys/net/ipv4/ip_forward
    f=/proc/sys/net/ipv6/conf/all/forwarding; [ ! -e $f ] || echo 1 >$f";

/// Whether the kernel has IPv6.
fn six() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6/conf/all/forwarding").exists()
}

/// Network namespaces of test processes that are gone.
fn sweep() {
    for e in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = e.file_name().to_string_lossy().into_owned();
        let owner =
            name.strip_prefix("kt").and_then(|r| r.split('-').next()).and_then(|p| p.parse::<u32>().ok());
        if owner.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()) {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

impl Hosts {
    /// Beside the IPv4 address that ends so.
    fn six(&self, last: u8) -> Ipv6Addr {
        let subnet = if last < 128 { 1 } else { 2 };
        Ipv6Addr::new(0xfd98, self.network[2].into(), subnet, 0, 0, 0, 0, last.into())
    }

    /// Gives a link of a machine both addresses, and sets it up.
    fn link_up(&self, netns: &str, link: &str, last: u8) {
        must(&format!("-n {netns} addr add {}/25 dev {link}", self.at(last)));
        if six() {
            must(&format!("-n {netns} addr add {}/64 dev {link} nodad", self.six(last)));
        }
        must(&format!("-n {netns} link set {link} up"));
    }

    /// `near` machines on the first subnet, `far` ones on the other.
    pub fn new(near: u8, far: u8) -> Self {
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let prefix = format!("kt{pid}-{number}");
        // The range that is set aside for benchmarks.
        let third = u8::try_from((pid + number * 101) % 250).unwrap_or(1);
        let hosts =
            Self { network: [198, 18, third], hosts: Vec::new(), link: format!("kt{pid}x{number}"), prefix };
        hosts.make(near, far)
    }

    fn at(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, last)
    }

    fn make(mut self, near: u8, far: u8) -> Self {
        let router = format!("{}-r", self.prefix);
        must(&format!("netns add {router}"));
        for (bridge, gateway) in [("near", 126), ("far", 254)] {
            must(&format!("-n {router} link add {bridge} type bridge"));
            self.link_up(&router, bridge, gateway);
        }
        must(&format!("-n {router} link set lo up"));
        let forward = Command::new("nsenter")
            .args([&format!("--net=/run/netns/{router}"), "--", "sh", "-c", FORWARD])
            .status();
        assert!(forward.is_ok_and(|s| s.success()), "failed to make the router forward");
        let link = self.link.clone();
        must(&format!("link add {link} type veth peer name test netns {router}"));
        must(&format!("-n {router} link set test master near up"));
        must(&format!("addr add {}/25 dev {link}", self.own()));
        must(&format!("link set {link} up"));
        must(&format!("route add {}/25 via {}", self.at(128), self.at(126)));
        let all = (1..=near).map(|n| ("near", n, 126)).chain((1..=far).map(|n| ("far", 128 + n, 254)));
        for (bridge, last, gateway) in all {
            let (netns, address) = (format!("{}-{last}", self.prefix), self.at(last));
            must(&format!("netns add {netns}"));
            must(&format!("-n {netns} link add eth0 type veth peer name h{last} netns {router}"));
            must(&format!("-n {router} link set h{last} master {bridge} up"));
            must(&format!("-n {netns} link set lo up"));
            self.link_up(&netns, "eth0", last);
            must(&format!("-n {netns} route add default via {}", self.at(gateway)));
            if six() {
                must(&format!("-n {netns} -6 route add default via {}", self.six(gateway)));
            }
            self.hosts.push(Host { netns, address });
        }
        self
    }

    /// The test's own address on the first subnet.
    pub fn own(&self) -> Ipv4Addr {
        self.at(100)
    }

    pub fn host(&self, n: usize) -> &Host {
        &self.hosts[n]
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.link]);
        let all = self.hosts.iter().map(|h| h.netns.clone()).chain([format!("{}-r", self.prefix)]);
        for netns in all {
            if let Err(e) = ip(&["netns", "del", &netns]) {
                eprintln!("{e}");
            }
        }
    }
}
