//! Where one volume is to be attached, and what has to be done about where it is. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

use client::clock::between;

/// A volume is taken from a node that is not ready and still uses it after this time.
const PATIENCE: Duration = Duration::from_secs(360);

/// A volume of a driver.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    pub name: String,
    pub driver: String,
    pub handle: String,
    /// It may be attached to several nodes.
    pub shared: bool,
}

impl Volume {
    /// `None` when it is not a driver's.
    pub fn of(v: &Value) -> Option<Self> {
        let csi = &v["spec"]["csi"];
        let modes = v["spec"]["accessModes"].as_array().cloned().unwrap_or_default();
        // Where nothing is said, the driver may decide.
        let shared = modes.is_empty() || modes.iter().any(|m| m == "ReadWriteMany" || m == "ReadOnlyMany");
        Some(Self {
            name: v["metadata"]["name"].as_str()?.to_owned(),
            driver: csi["driver"].as_str()?.to_owned(),
            handle: csi["volumeHandle"].as_str()?.to_owned(),
            shared,
        })
    }

    /// As nodes name it in their status.
    pub fn unique(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }

    /// The name of the attachment to a node.
    pub fn attachment(&self, node: &str) -> String {
        let hash = Sha256::digest(format!("{}{}{node}", self.handle, self.driver).as_bytes());
        let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        format!("csi-{hex}")
    }
}

/// A VolumeAttachment of the volume.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attachment {
    pub name: String,
    pub node: String,
    pub deleting: bool,
}

/// What counts of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// It says that it uses the volume.
    pub in_use: bool,
    pub ready: bool,
    pub out_of_service: bool,
}

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Nodes to attach it to.
    pub attach: Vec<String>,
    /// Attachments to end.
    pub detach: Vec<Attachment>,
    /// Nodes that wait, since the volume is elsewhere.
    pub blocked: Vec<String>,
    /// Nodes that have it without need.
    pub idle: BTreeSet<String>,
    pub again: Option<Duration>,
}

/// `wanted`: nodes whose pods use it. `since`: when a node was first seen to have it without need.
pub fn plan(
    v: &Volume,
    wanted: &BTreeSet<String>,
    have: &[Attachment],
    nodes: &BTreeMap<String, Node>,
    since: &BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Plan {
    let mut out = Plan::default();
    for a in have.iter().filter(|a| !wanted.contains(&a.node)) {
        out.idle.insert(a.node.clone());
        if a.deleting {
            continue;
        }
        // A node that is gone uses nothing.
        let node = nodes.get(&a.node).cloned().unwrap_or_default();
        let waited = since.get(&a.node).map_or(Duration::ZERO, |s| between(*s, now));
        let forced = !node.ready && waited > PATIENCE;
        if node.in_use && !node.out_of_service && !forced {
            let left = PATIENCE.saturating_sub(waited) + Duration::from_secs(1);
            out.again = Some(out.again.map_or(left, |a| a.min(left)));
            continue;
        }
        out.detach.push(a.clone());
    }
    let mut taken: Vec<&str> = have.iter().map(|a| a.node.as_str()).collect();
    for node in wanted.iter().filter(|n| nodes.contains_key(*n)) {
        if have.iter().any(|a| a.node == *node) {
            continue;
        }
        if !v.shared && !taken.is_empty() {
            out.blocked.push(node.clone());
            continue;
        }
        taken.push(node);
        out.attach.push(node.clone());
    }
    out
}

/// Whether a pod is done with its volumes.
pub fn is_over(pod: &Value) -> bool {
    let idle = |field: &str| {
        pod["status"][field].as_array().into_iter().flatten().all(|s| s["state"]["running"].is_null())
    };
    matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
        || !pod["metadata"]["deletionTimestamp"].is_null()
            && ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"]
                .into_iter()
                .all(idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume(shared: bool) -> Volume {
        Volume { name: "pv".into(), driver: "d.example.com".into(), handle: "h".into(), shared }
    }

    #[test]
    fn volumes_of_drivers() {
        let v = |modes: Value| json!({"metadata": {"name": "pv"}, "spec": {"accessModes": modes, "csi": {"driver": "d", "volumeHandle": "h"}}});
        let of = |modes| Volume::of(&v(modes)).map(|v| v.shared);
        assert_eq!(of(json!(["ReadWriteOnce"])), Some(false));
        assert_eq!(of(json!(["ReadWriteOncePod"])), Some(false));
        assert_eq!((of(json!(["ReadWriteOnce", "ReadOnlyMany"])), of(json!([]))), (Some(true), Some(true)));
        assert_eq!(Volume::of(&json!({"metadata": {"name": "pv"}, "spec": {"hostPath": {}}})), None);
        assert_eq!(volume(true).unique(), "kubernetes.io/csi/d.example.com^h");
        let name = volume(true).attachment("n");
        assert!(name.len() == 68 && name.starts_with("csi-"), "{name}");
    }

    #[test]
    fn where_a_volume_goes() {
        let at = |s: i64| Timestamp::from_second(s).expect("time");
        let have = |node: &str| Attachment { name: format!("va-{node}"), node: node.into(), deleting: false };
        let using = Node { in_use: true, ready: true, out_of_service: false };
        let free = Node { in_use: false, ..using.clone() };
        let silent = Node { ready: false, ..using.clone() };
        let gone_for_good = Node { out_of_service: true, ..silent.clone() };
        // Volume shared; nodes wanted, attached, the state of node a; attached, detached, blocked.
        for (name, shared, wanted, attached, a, waited, attach, detach, blocked) in [
            ("new", false, "a", "", &free, 0, "a", "", ""),
            ("there already", false, "a", "a", &using, 0, "", "", ""),
            ("moving, still used", false, "b", "a", &using, 0, "", "", "b"),
            ("moving, unused", false, "b", "a", &free, 0, "", "a", "b"),
            ("moved", false, "b", "", &free, 0, "b", "", ""),
            ("shared", true, "ab", "a", &using, 0, "b", "", ""),
            ("two at once", false, "ab", "", &free, 0, "a", "", "b"),
            ("silent, for a while", false, "b", "a", &silent, 300, "", "", "b"),
            ("silent, for long", false, "b", "a", &silent, 400, "", "a", "b"),
            ("used and ready, for long", false, "b", "a", &using, 400, "", "", "b"),
            ("out of service", false, "b", "a", &gone_for_good, 0, "", "a", "b"),
        ] {
            let set = |s: &str| s.chars().map(String::from).collect::<Vec<_>>();
            let nodes = BTreeMap::from([("a".to_owned(), a.clone()), ("b".to_owned(), free.clone())]);
            let all: Vec<Attachment> = set(attached).iter().map(|n| have(n)).collect();
            let since = BTreeMap::from([("a".to_owned(), at(0))]);
            let wanted: BTreeSet<String> = set(wanted).into_iter().collect();
            let p = plan(&volume(shared), &wanted, &all, &nodes, &since, at(waited));
            let detached: Vec<String> = p.detach.iter().map(|a| a.node.clone()).collect();
            assert_eq!((p.attach, detached, p.blocked), (set(attach), set(detach), set(blocked)), "{name}");
        }
        // A node that is gone.
        let none = BTreeMap::new();
        let p = plan(&volume(false), &BTreeSet::new(), &[have("x")], &none, &BTreeMap::new(), at(0));
        assert_eq!(p.detach.len(), 1);
        let p = plan(&volume(false), &BTreeSet::from(["x".to_owned()]), &[], &none, &BTreeMap::new(), at(0));
        assert_eq!(p, Plan::default());
    }

    #[test]
    fn pods_that_are_over() {
        let pod = |phase: &str, deleting: bool, state: &str| {
            json!({"metadata": {"deletionTimestamp": deleting.then_some("x")},
                "status": {"phase": phase, "containerStatuses": [{"state": {state: {}}}]}})
        };
        for (phase, deleting, state, want) in [
            ("Running", false, "running", false),
            ("Running", true, "running", false),
            ("Running", true, "terminated", true),
            ("Pending", false, "waiting", false),
            ("Failed", false, "running", true),
        ] {
            assert_eq!(is_over(&pod(phase, deleting, state)), want, "{phase} {deleting} {state}");
        }
    }
}
