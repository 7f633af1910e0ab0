//! Claims, volumes and classes in the cache, and which volumes a pod would use on a node.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use api::volumes::{Claim, ClaimRef, Class, NO_PROVISIONER, Place, Volume, best};

use super::{NodeInfo, PodInfo};

#[derive(Debug, Default)]
pub struct Volumes {
    claims: HashMap<(String, String), Claim>,
    volumes: BTreeMap<String, Volume>,
    classes: HashMap<String, Class>,
    /// How many volumes of a driver a node takes (CSINode).
    limits: HashMap<String, BTreeMap<String, usize>>,
    /// VolumeAttachments by name: the node, the driver and the volume.
    attachments: HashMap<String, (String, String, String)>,
}

/// What a claim that waited for its first pod gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This volume, at this version, which is to be reserved for the claim.
    Bind { claim: ClaimRef, volume: String, revision: u64 },
    /// One that its provisioner makes for the node.
    Provision { claim: ClaimRef },
}

const NOT_THERE: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const NO_MATCH: &str = "node(s) didn't find available persistent volumes to bind";
const ELSEWHERE: &str = "node(s) didn't match PersistentVolume's node affinity";

impl Volumes {
    pub fn set_claim(&mut self, c: Claim) {
        self.claims.insert((c.namespace.clone(), c.name.clone()), c);
    }
    pub fn remove_claim(&mut self, namespace: &str, name: &str) {
        self.claims.remove(&(namespace.to_owned(), name.to_owned()));
    }
    pub fn set_volume(&mut self, v: Volume) {
        self.volumes.insert(v.name.clone(), v);
    }
    pub fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
    }
    pub fn set_class(&mut self, c: Class) {
        self.classes.insert(c.name.clone(), c);
    }
    pub fn remove_class(&mut self, name: &str) {
        self.classes.remove(name);
    }

    pub fn set_limits(&mut self, node: &str, limits: BTreeMap<String, usize>) {
        self.limits.insert(node.to_owned(), limits);
    }
    pub fn remove_limits(&mut self, node: &str) {
        self.limits.remove(node);
    }
    pub fn set_attachment(&mut self, name: &str, node: String, driver: String, volume: String) {
        self.attachments.insert(name.to_owned(), (node, driver, volume));
    }
    pub fn remove_attachment(&mut self, name: &str) {
        self.attachments.remove(name);
    }

    /// Drivers with the volumes of theirs that the pod uses or will use, by names that are the same for the same volume.
    fn of_drivers(&self, pod: &PodInfo) -> BTreeSet<(String, String)> {
        let one = |c: &Claim| match self.volumes.get(&c.volume_name) {
            Some(v) => v.csi.clone(),
            // To be made by its class's driver.
            None => self
                .classes
                .get(c.class())
                .map(|k| (k.provisioner.clone(), format!("{}/{}", c.namespace, c.name))),
        };
        pod.claims.iter().filter_map(|u| self.claim(pod, &u.name)).filter_map(one).collect()
    }

    /// Whether the node's drivers take the pod's volumes beside those that are there.
    pub fn within_limits(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        let Some(limits) = self.limits.get(&node.name).filter(|l| !l.is_empty()) else { return true };
        let mut new = self.of_drivers(pod);
        new.retain(|(driver, _)| limits.contains_key(driver));
        if new.is_empty() {
            return true;
        }
        let mut there: BTreeSet<(String, String)> =
            node.pods.iter().filter(|p| !p.claims.is_empty()).flat_map(|p| self.of_drivers(p)).collect();
        for (_, driver, volume) in self.attachments.values().filter(|(at, ..)| *at == node.name) {
            let handle = self.volumes.get(volume).and_then(|v| v.csi.clone());
            there.insert(handle.unwrap_or_else(|| (driver.clone(), volume.clone())));
        }
        new.retain(|v| !there.contains(v));
        let count =
            |of: &BTreeSet<(String, String)>, driver: &str| of.iter().filter(|v| v.0 == driver).count();
        new.iter().all(|(driver, _)| {
            limits.get(driver).is_none_or(|most| count(&there, driver) + count(&new, driver) <= *most)
        })
    }

    /// Counts a volume as the claim's until the API says the same.
    pub fn reserve(&mut self, choice: &Choice) {
        if let Choice::Bind { claim, volume, .. } = choice
            && let Some(v) = self.volumes.get_mut(volume)
        {
            v.claim = Some(claim.clone());
        }
    }

    fn claim(&self, pod: &PodInfo, name: &str) -> Option<&Claim> {
        self.claims.get(&(pod.namespace.clone(), name.to_owned()))
    }

    /// The pod's claims that are there, and the volumes of those that are bound.
    pub fn bound<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = (&'a Claim, Option<&'a Volume>)> {
        let claims = pod.claims.iter().filter_map(|u| self.claim(pod, &u.name)).filter(|c| c.is_bound());
        claims.map(|c| (c, self.volumes.get(&c.volume_name)))
    }

    /// Whether a claim of the pod may be used by one pod only.
    pub fn exclusive<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = &'a str> {
        pod.claims
            .iter()
            .filter_map(|u| self.claim(pod, &u.name))
            .filter(|c| c.modes.iter().any(|m| m == "ReadWriteOncePod"))
            .map(|c| c.name.as_str())
    }

    fn waits(&self, c: &Claim) -> bool {
        self.classes.get(c.class()).is_some_and(|k| k.waits)
    }

    /// What no node can help with.
    pub fn check(&self, pod: &PodInfo) -> Result<(), String> {
        let mut unbound = false;
        for u in &pod.claims {
            let name = &u.name;
            let Some(c) = self.claim(pod, name) else {
                return Err(match u.ephemeral {
                    true => format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                    ),
                    false => format!("persistentvolumeclaim \"{name}\" not found"),
                });
            };
            if u.ephemeral && c.owner != pod.uid {
                return Err(format!(
                    "PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                    c.namespace, pod.namespace, pod.name
                ));
            }
            if c.phase == "Lost" {
                let volume = &c.volume_name;
                return Err(format!(
                    "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
                ));
            }
            if c.deleting {
                return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            unbound |= !c.is_bound() && (!c.volume_name.is_empty() || !self.waits(c));
        }
        if unbound { Err("pod has unbound immediate PersistentVolumeClaims".into()) } else { Ok(()) }
    }

    /// The choices for the pod's waiting claims on a node, or why the node does not do.
    pub fn choose(&self, pod: &PodInfo, node: &NodeInfo) -> Result<Vec<Choice>, Vec<String>> {
        if pod.claims.is_empty() {
            return Ok(Vec::new());
        }
        let mut reasons = Vec::new();
        for (_, volume) in self.bound(pod) {
            let reason = match volume {
                None => NOT_THERE,
                Some(v) if !v.reaches(&node.name, &node.labels) => ELSEWHERE,
                Some(_) => continue,
            };
            if !reasons.iter().any(|r| r == reason) {
                reasons.push(reason.to_owned());
            }
        }
        let mut waiting: Vec<&Claim> =
            pod.claims.iter().filter_map(|u| self.claim(pod, &u.name)).filter(|c| !c.is_bound()).collect();
        // The smallest first, so that it does not take the large volume that another one needs.
        waiting.sort_by_key(|c| c.size);
        let mut choices: Vec<Choice> = Vec::new();
        for c in waiting {
            match self.choose_one(c, node, &choices) {
                Some(choice) => choices.push(choice),
                None => {
                    reasons.push(NO_MATCH.to_owned());
                    break;
                }
            }
        }
        if reasons.is_empty() { Ok(choices) } else { Err(reasons) }
    }

    fn choose_one(&self, c: &Claim, node: &NodeInfo, so_far: &[Choice]) -> Option<Choice> {
        let claim = ClaimRef::to(c);
        let taken =
            |name: &str| so_far.iter().any(|x| matches!(x, Choice::Bind { volume, .. } if volume == name));
        if !c.selected_node.is_empty() {
            // A volume is being made for that node.
            return (c.selected_node == node.name).then_some(Choice::Provision { claim });
        }
        let place: Option<Place<'_>> = Some((node.name.as_str(), &node.labels));
        if let Some(v) = best(c, self.volumes.values(), place, true, &taken) {
            return Some(Choice::Bind { claim, volume: v.name.clone(), revision: v.revision });
        }
        let class = self.classes.get(c.class())?;
        let can = class.provisioner != NO_PROVISIONER && class.allows(&node.name, &node.labels);
        can.then_some(Choice::Provision { claim })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Cache, Outcome, schedule};
    use api::Object;
    use serde_json::{Value, json};

    fn object(v: Value) -> Object {
        Object::from_value(v, 3).expect("object")
    }
    fn claim(name: &str, class: &str, extra: Value) -> Claim {
        let mut v = json!({"metadata": {"name": name, "namespace": "d", "uid": format!("uid-{name}"), "annotations": {}},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        match extra.as_str() {
            Some(volume) => {
                v["spec"]["volumeName"] = json!(volume);
                v["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
            }
            None => {
                if let Some(n) = extra["node"].as_str() {
                    v["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": n});
                }
            }
        }
        Claim::of(&object(v)).expect("claim")
    }
    fn volume(name: &str, class: &str, node: &str) -> Volume {
        let terms = json!([{"matchExpressions": [{"key": "host", "operator": "In", "values": [node]}]}]);
        Volume::of(&object(json!({"metadata": {"name": name}, "spec": {"storageClassName": class, "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"], "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}, "status": {"phase": "Available"}})))
        .expect("volume")
    }
    fn cache(volumes: Volumes) -> Cache {
        let mut cache = Cache::default();
        for n in ["a", "b"] {
            let v = json!({"metadata": {"name": n, "labels": {"host": n}}, "status": {"allocatable": {"pods": "10"}}});
            cache.set_node(NodeInfo::from_object(&object(v)).expect("node"));
        }
        cache.volumes = volumes;
        cache
    }
    fn pod(claims: &[&str]) -> PodInfo {
        let volumes: Vec<Value> =
            claims.iter().map(|c| json!({"name": c, "persistentVolumeClaim": {"claimName": c}})).collect();
        let v =
            json!({"metadata": {"name": "p", "namespace": "d", "uid": "p"}, "spec": {"volumes": volumes}});
        PodInfo::from_object(&object(v)).expect("pod")
    }
    fn said(cache: &mut Cache, pod: &PodInfo) -> String {
        match schedule(cache, pod) {
            Outcome::Node(n) => n,
            Outcome::Unschedulable { message, .. } => message,
        }
    }

    fn storage() -> Volumes {
        let mut v = Volumes::default();
        for (name, provisioner) in [("wait", NO_PROVISIONER), ("make", "x.csi")] {
            v.set_class(Class {
                name: name.into(),
                provisioner: provisioner.into(),
                waits: true,
                ..Class::default()
            });
        }
        v.set_claim(claim("now", "other", Value::Null));
        v.set_claim(claim("bound", "other", json!("on-b")));
        v.set_claim(claim("dangling", "other", json!("nowhere")));
        v.set_claim(claim("late", "wait", Value::Null));
        v.set_claim(claim("late2", "wait", Value::Null));
        v.set_claim(claim("made", "make", Value::Null));
        v.set_claim(claim("chosen", "make", json!({"node": "b"})));
        v.set_volume(volume("on-b", "other", "b"));
        v.set_volume(volume("free-a", "wait", "a"));
        v
    }

    #[test]
    fn claims_say_where_a_pod_may_go() {
        let mut c = cache(storage());
        for (claims, want) in [
            (&["missing"][..], "0/2 nodes are available: persistentvolumeclaim \"missing\" not found."),
            (&["now"], "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
            (&["bound"], "b"),
            (&["late"], "a"),
            (&["chosen"], "b"),
            (
                &["dangling"],
                "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
            ),
            (
                &["late", "late2"],
                "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
            ),
            (
                &["bound", "late"],
                "0/2 nodes are available: 1 node(s) didn't find available persistent volumes to bind, 1 node(s) didn't match PersistentVolume's node affinity.",
            ),
        ] {
            assert_eq!(said(&mut c, &pod(claims)), want, "{claims:?}");
        }
    }

    #[test]
    fn a_driver_takes_so_many_volumes_on_a_node() {
        let mut v = Volumes::default();
        v.set_class(Class {
            name: "make".into(),
            provisioner: "x.csi".into(),
            waits: true,
            ..Class::default()
        });
        for (claim_name, handle) in [("one", "h1"), ("same", "h1"), ("two", "h2")] {
            v.set_claim(claim(claim_name, "other", json!(claim_name)));
            let volume =
                Volume { csi: Some(("x.csi".into(), handle.into())), ..volume(claim_name, "other", "a") };
            v.set_volume(Volume { nodes: None, ..volume });
        }
        v.set_claim(claim("new", "make", Value::Null));
        let mut c = cache(v);
        for n in ["a", "b"] {
            c.volumes.set_limits(n, [("x.csi".to_owned(), 1)].into());
        }
        c.assume(&PodInfo { uid: "there".into(), ..pod(&["one"]) }, "a");
        // The same volume twice counts once.
        let fits = |c: &Cache, claims: &[&str], n: &str| {
            c.volumes.within_limits(&pod(claims), c.node(n).expect("node"))
        };
        assert!(fits(&c, &["same"], "a") && !fits(&c, &["two"], "a") && !fits(&c, &["new"], "a"));
        assert!(fits(&c, &["two"], "b") && !fits(&c, &["two", "one"], "b"));
        // What is still attached counts, though nobody uses it.
        c.volumes.set_attachment("x", "b".into(), "x.csi".into(), "one".into());
        assert!(!fits(&c, &["two"], "b") && fits(&c, &["one"], "b"));
        assert_eq!(
            said(&mut c, &pod(&["new"])),
            "0/2 nodes are available: 2 node(s) exceed max volume count."
        );
    }

    #[test]
    fn a_reserved_volume_is_no_longer_free() {
        let mut c = cache(storage());
        let p = pod(&["late"]);
        let node = c.nodes().iter().find(|n| n.name == "a").expect("node").clone();
        let choices = c.volumes.choose(&p, &node).expect("choices");
        let claim = ClaimRef { namespace: "d".into(), name: "late".into(), uid: "uid-late".into() };
        assert_eq!(choices, [Choice::Bind { claim, volume: "free-a".into(), revision: 3 }]);
        choices.iter().for_each(|x| c.volumes.reserve(x));
        assert!(said(&mut c, &pod(&["late2"])).contains("didn't find available"));
        assert_eq!(said(&mut c, &p), "a");
        assert!(matches!(
            c.volumes.choose(&pod(&["made"]), &node).as_deref(),
            Ok([Choice::Provision { .. }])
        ));
    }
}
