//! Which networks a cluster takes when none are asked for: the well-known ones for the first cluster of a machine; another
//! one takes a pair that no other cluster and no route of this machine uses. Owns `<run-dir>/networks`, by which clusters
//! starting at the same time see each other.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use netlink::Cidr;

use crate::config::{Instance, fnv};
use crate::mark::Networks;

/// Second bytes of pod networks; service networks lie as far above.
const FIRST: u32 = 100;
const COUNT: u32 = 60;
const ABOVE: u32 = 64;

fn pair(n: u32) -> Networks {
    Networks { pods: format!("10.{n}.0.0/16"), services: format!("10.{}.0.0/16", n + ABOVE) }
}

/// The pair that follows from the instance, or the first behind it that is free.
pub fn choose(instance: &Instance, taken: &[Cidr]) -> Networks {
    if instance.is_default() {
        return Networks { pods: "10.244.0.0/16".into(), services: "10.96.0.0/16".into() };
    }
    let start = fnv(&instance.name) % COUNT;
    let free = |text: &str| text.parse().is_ok_and(|c| !taken.iter().any(|t| t.overlaps(&c)));
    let mut all = (0..COUNT).map(|i| pair(FIRST + (start + i) % COUNT));
    all.find(|p| free(&p.pods) && free(&p.services)).unwrap_or_else(|| pair(FIRST + start))
}

/// The networks in `/proc/net/route`, but for the default route, the cluster's own bridge, and what leads through other
/// machines to parts of `pods`: these are blocks of other nodes.
pub fn routes(text: &str, own: &str, pods: &[Cidr]) -> Vec<Cidr> {
    let hex = |s: &str| u32::from_str_radix(s, 16).ok().map(|v| Ipv4Addr::from(v.swap_bytes()));
    let line = |l: &str| {
        let f: Vec<&str> = l.split_whitespace().collect();
        let (device, to, mask) = (*f.first()?, hex(f.get(1)?)?, hex(f.get(7)?)?);
        let len = u8::try_from(u32::from(mask).leading_ones()).ok()?;
        let to = Cidr { addr: IpAddr::V4(to), len };
        let part = |p: &Cidr| p.len < len && p.contains(to.addr);
        let of_a_node = !hex(f.get(2)?)?.is_unspecified() && pods.iter().any(part);
        (device != own && len > 0 && !of_a_node).then_some(to)
    };
    text.lines().skip(1).filter_map(line).collect()
}

fn of_others(instance: &Instance, parent: &Path) -> Vec<Cidr> {
    let mut all = Vec::new();
    for e in fs::read_dir(parent).into_iter().flatten().flatten() {
        if e.path() != instance.run_dir {
            let text = fs::read_to_string(e.path().join("networks")).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|c| c.parse::<Cidr>().ok()));
        }
    }
    all
}

/// Chooses and registers; `kept` is what an earlier start chose. Needs root.
pub fn take(instance: &Instance, kept: Option<Networks>) -> std::io::Result<Networks> {
    let parent = instance.run_dir.parent().unwrap_or(&instance.run_dir);
    fs::create_dir_all(&instance.run_dir)?;
    let lock = fs::File::open(parent)?;
    lock.lock()?;
    let networks = kept.unwrap_or_else(|| {
        let mut taken =
            routes(&fs::read_to_string("/proc/net/route").unwrap_or_default(), &instance.bridge, &[]);
        taken.extend(of_others(instance, parent));
        choose(instance, &taken)
    });
    fs::write(instance.run_dir.join("networks"), format!("{} {}\n", networks.pods, networks.services))?;
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_pair_is_passed_over() {
        let instance = Instance::of(Path::new("/tmp/kelson-networks-test"));
        let first = choose(&instance, &[]);
        let taken = |s: &str| vec![s.parse::<Cidr>().expect("cidr")];
        assert_eq!(choose(&instance, &taken("192.168.0.0/16")), first);
        let second = choose(&instance, &taken(&first.services));
        assert_ne!(second, first);
        assert_ne!(choose(&instance, &taken(&first.pods)), first);
        assert_eq!(
            choose(&instance, &taken("10.0.0.0/8")),
            first,
            "none is free: the usual one, and a warning"
        );
        let default = Instance::of(Path::new(crate::config::DEFAULT_DATA_DIR));
        assert_eq!(choose(&default, &taken("10.96.0.0/16")).services, "10.96.0.0/16");
    }

    #[test]
    fn routes_are_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
            eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\n\
            kel-1\t0000600A\t00000000\t0001\t0\t0\t0\t0000FFFF\n\
            tun0\t0000650A\t00000000\t0001\t0\t0\t0\t0000FFFF\n\
            eth0\t0002660A\t0200000A\t0003\t0\t0\t0\t00FFFFFF\n";
        let found =
            |pods: &[Cidr]| routes(text, "kel-1", pods).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found(&[]), ["10.101.0.0/16", "10.102.2.0/24"]);
        assert_eq!(found(&["10.102.0.0/16".parse().expect("cidr")]), ["10.101.0.0/16"]);
        assert_eq!(found(&["10.102.2.0/24".parse().expect("cidr")]).len(), 2);
    }
}
