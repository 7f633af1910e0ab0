//! One simulated node: its object, its status, and the addresses of its pods. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::Object;
use serde_json::{Value, json};

/// What simulated nodes are found by.
pub const LABEL: &str = "kelson.dev/simulated";
/// An annotation with the value `true` makes a node fall silent; without it, it speaks again.
pub const SILENT: &str = "kelson.dev/simulated-silent";
/// Nodes get the addresses above it.
pub const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 0);

const ZONES: [&str; 3] = ["sim-a", "sim-b", "sim-c"];
/// Type, CPUs, GiB of memory.
const SIZES: [(&str, u32, u32); 3] = [("sim.small", 4, 16), ("sim.medium", 8, 32), ("sim.large", 16, 64)];
const GRACE: i64 = 40;

/// Addresses of a block that pods have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    base: IpAddr,
    /// One bit per address; the first and the last of 256 are nobody's.
    taken: [u64; 4],
}

impl Block {
    /// From `spec.podCIDR`.
    pub fn of(cidr: &str) -> Option<Self> {
        let (addr, len) = cidr.split_once('/')?;
        let (base, len): (IpAddr, u32) = (addr.parse().ok()?, len.parse().ok()?);
        let bits = if base.is_ipv4() { 32u32 } else { 128 };
        let size = 1u64 << bits.checked_sub(len)?.min(8);
        let mut b = Self { base, taken: [0; 4] };
        b.mark(0, true);
        for n in size.saturating_sub(1)..256 {
            b.mark(u8::try_from(n).unwrap_or(u8::MAX), true);
        }
        Some(b)
    }

    fn mark(&mut self, n: u8, taken: bool) {
        if let Some(word) = self.taken.get_mut(usize::from(n / 64)) {
            let bit = 1u64 << (n % 64);
            *word = if taken { *word | bit } else { *word & !bit };
        }
    }

    /// The lowest that is free.
    pub fn take(&mut self) -> Option<u8> {
        let n = (0..=u8::MAX)
            .find(|n| self.taken.get(usize::from(n / 64)).is_some_and(|w| w & (1 << (n % 64)) == 0))?;
        self.mark(n, true);
        Some(n)
    }

    pub fn give_back(&mut self, n: u8) {
        self.mark(n, false);
    }

    /// The pod had it before this process started.
    pub fn keep(&mut self, address: &str) -> Option<u8> {
        let address: IpAddr = address.parse().ok()?;
        let n = (1..u8::MAX).find(|n| self.address(*n) == address)?;
        self.mark(n, true);
        Some(n)
    }

    pub fn address(&self, n: u8) -> IpAddr {
        match self.base {
            IpAddr::V4(a) => Ipv4Addr::from(u32::from(a).wrapping_add(u32::from(n))).into(),
            IpAddr::V6(a) => Ipv6Addr::from(u128::from(a).wrapping_add(u128::from(n))).into(),
        }
    }
}

#[derive(Debug, Default)]
pub struct Node {
    pub uid: String,
    pub block: Option<Block>,
    /// Its object is in the API, with a lease.
    pub registered: bool,
    /// It has said that it is ready.
    pub ready: bool,
    /// Counts what was planned for its status: a plan of before is void.
    pub plan: u32,
    /// By its annotation.
    pub told_silent: bool,
    /// By the failures that were asked for.
    pub down: bool,
}

impl Node {
    pub fn is_silent(&self) -> bool {
        self.told_silent || self.down
    }
}

/// `sim-7`
pub fn name(number: usize) -> String {
    format!("sim-{number}")
}

pub fn number(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("sim-")?;
    let n: usize = digits.parse().ok()?;
    // `sim-07` is somebody else.
    (self::name(n) == name).then_some(n)
}

pub fn address(number: usize) -> Ipv4Addr {
    let n = u32::try_from(number).unwrap_or(0).wrapping_add(1);
    Ipv4Addr::from(u32::from(FIRST_ADDRESS).wrapping_add(n))
}

fn size(number: usize) -> (&'static str, u32, u32) {
    // Of each zone all sizes, the small ones most.
    let of = match number / ZONES.len() % 6 {
        0..=2 => 0,
        3 | 4 => 1,
        _ => 2,
    };
    SIZES.get(of).copied().unwrap_or(("sim.small", 4, 16))
}

pub fn object(number: usize, now: &str) -> Value {
    let (name, (kind, _, _)) = (name(number), size(number));
    let zone = ZONES.get(number % ZONES.len()).copied().unwrap_or_default();
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
            "node.kubernetes.io/instance-type": kind, "topology.kubernetes.io/region": "sim",
            "topology.kubernetes.io/zone": zone}},
        "status": status(number, false, now)})
}

fn conditions(ready: bool, now: &str) -> Value {
    let condition = |kind: &str, status: bool, reason: &str, message: &str| {
        json!({"type": kind, "status": if status { "True" } else { "False" }, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let not = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:the node has no block of pod addresses yet";
    json!([
        condition(
            "MemoryPressure",
            false,
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition(
            "Ready",
            ready,
            if ready { "KubeletReady" } else { "KubeletNotReady" },
            if ready { "kubelet is posting ready status" } else { not },
        ),
    ])
}

/// The whole status, as a kubelet reports it when it starts.
pub fn status(number: usize, ready: bool, now: &str) -> Value {
    let (_, cpu, memory) = size(number);
    let of = |cpu: String, memory: u64| {
        json!({"cpu": cpu, "memory": format!("{memory}Ki"), "pods": "110", "ephemeral-storage": "104857600Ki",
            "hugepages-1Gi": "0", "hugepages-2Mi": "0"})
    };
    let kib = u64::from(memory) << 20;
    let id = format!("{:032x}", number + 1);
    json!({
        "addresses": [{"type": "InternalIP", "address": address(number).to_string()}, {"type": "Hostname", "address": name(number)}],
        "capacity": of(cpu.to_string(), kib),
        "allocatable": of(format!("{}m", cpu * 1000 - 100), kib - (256 << 10)),
        "conditions": conditions(ready, now),
        "nodeInfo": {"architecture": "amd64", "bootID": id, "containerRuntimeVersion": "simulated://1", "kernelVersion": "6.12.0",
            "kubeProxyVersion": "", "kubeletVersion": "v1.37.0", "machineID": id, "operatingSystem": "linux",
            "osImage": "Simulated", "systemUUID": id},
    })
}

/// A sign of life in the status: conditions keep the time of their last change, since they are merged by their type.
pub fn heartbeat(ready: bool, now: &str, changed: bool) -> Value {
    let mut all = conditions(ready, now);
    if !changed {
        for c in all.as_array_mut().into_iter().flatten() {
            if let Some(c) = c.as_object_mut() {
                c.remove("lastTransitionTime");
            }
        }
    }
    json!({"status": {"conditions": all}})
}

pub fn lease(number: usize, uid: &str, renewed: &str) -> Value {
    let name = name(number);
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": GRACE, "renewTime": renewed}})
}

/// What is read of a node's object: uid, block, whether it is told to be silent, whether it is ready.
pub fn seen(o: &Object) -> (String, Option<Block>, bool, bool) {
    let v = o.value().unwrap_or_default();
    let block = v["spec"]["podCIDR"].as_str().and_then(Block::of);
    let silent = v["metadata"]["annotations"][SILENT] == "true";
    let mut conditions = v["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.any(|c| c["type"] == "Ready" && c["status"] == "True");
    (o.uid().to_owned(), block, silent, ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn blocks_give_each_address_once() {
        let mut b = Block::of("10.244.3.0/24").expect("block");
        let all: BTreeSet<IpAddr> = std::iter::from_fn(|| b.take().map(|n| b.address(n))).collect();
        assert_eq!(all.len(), 254);
        assert_eq!(all.first().map(ToString::to_string).as_deref(), Some("10.244.3.1"));
        assert_eq!(all.last().map(ToString::to_string).as_deref(), Some("10.244.3.254"));
        b.give_back(7);
        assert_eq!(b.take().map(|n| b.address(n).to_string()).as_deref(), Some("10.244.3.7"));
        assert_eq!(b.take(), None);
        let mut small = Block::of("10.0.0.8/30").expect("block");
        assert_eq!(small.keep("10.0.0.9"), Some(1));
        assert_eq!(small.take().map(|n| small.address(n).to_string()).as_deref(), Some("10.0.0.10"));
        assert_eq!((small.take(), small.keep("10.9.9.9")), (None, None));
        let mut six = Block::of("fd00:1::/64").expect("block");
        assert_eq!(six.take().map(|n| six.address(n).to_string()).as_deref(), Some("fd00:1::1"));
        for bad in ["", "10.0.0.0", "x/24", "10.0.0.0/33"] {
            assert_eq!(Block::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn nodes_have_names_zones_and_addresses_of_their_own() {
        assert_eq!(number("sim-12"), Some(12));
        assert_eq!((number("sim-012"), number("sim-x"), number("node-1")), (None, None, None));
        let addresses: BTreeSet<_> = (0..20_000).map(address).collect();
        assert_eq!(addresses.len(), 20_000);
        let zones: BTreeSet<String> = (0..6)
            .map(|n| object(n, "t")["metadata"]["labels"]["topology.kubernetes.io/zone"].to_string())
            .collect();
        assert_eq!(zones.len(), 3);
        assert_eq!(status(0, true, "t")["allocatable"]["cpu"], "3900m");
        assert_eq!(heartbeat(true, "t", false)["status"]["conditions"][3].get("lastTransitionTime"), None);
    }
}
