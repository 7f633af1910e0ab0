//! What to do about one claim or one volume, pure: binding is written on both sides, so that it can be taken up again
//! wherever it was broken off.

use std::collections::BTreeMap;

use api::volumes::{self, Claim, Class, NO_PROVISIONER, Volume};

/// An event: warning or not, reason, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Say {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Say {
    fn normal(reason: &'static str, message: impl Into<String>) -> Option<Self> {
        Some(Self { warning: false, reason, message: message.into() })
    }
    fn warning(reason: &'static str, message: impl Into<String>) -> Option<Self> {
        Some(Self { warning: true, reason, message: message.into() })
    }
}

pub struct World<'a> {
    pub volumes: &'a BTreeMap<String, Volume>,
    pub classes: &'a BTreeMap<String, Class>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimStep {
    /// Bind to this volume, or finish it.
    Bind(String),
    /// Give the claim the default class first.
    Class(String),
    Pending(Option<Say>),
    /// An outside program is to make a volume.
    Provision {
        provisioner: String,
        say: Option<Say>,
    },
    Lost(Option<Say>),
}

pub fn claim(c: &Claim, w: &World<'_>) -> ClaimStep {
    if c.bind_completed {
        return bound(c, w);
    }
    if !c.volume_name.is_empty() {
        return named(c, w);
    }
    let class = w.classes.get(c.class());
    // Once the scheduler has chosen a node a volume is to be made; it has looked for one that is there already.
    let waits = class.is_some_and(|k| k.waits) && c.selected_node.is_empty();
    if let Some(v) = volumes::best(c, w.volumes.values(), None, class.is_some_and(|k| k.waits), &|_| false) {
        return ClaimStep::Bind(v.name.clone());
    }
    if c.class.is_none()
        && let Some(default) = volumes::default_class(w.classes.values())
    {
        return ClaimStep::Class(default.name.clone());
    }
    if waits {
        return ClaimStep::Pending(Say::normal(
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        ));
    }
    if c.class().is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return ClaimStep::Pending(Say::normal("FailedBinding", message));
    }
    match class {
        None => {
            let message = format!("storageclass.storage.k8s.io \"{}\" not found", c.class());
            ClaimStep::Pending(Say::warning("ProvisioningFailed", message))
        }
        Some(k) if k.provisioner.starts_with("kubernetes.io/") => {
            let message = match k.provisioner.as_str() {
                NO_PROVISIONER => "no volume plugin matched name: kubernetes.io/no-provisioner".to_owned(),
                other => format!("no volume plugin matched name: {other}"),
            };
            ClaimStep::Pending(Say::warning("ProvisioningFailed", message))
        }
        Some(k) => {
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
                k.provisioner
            );
            ClaimStep::Provision {
                provisioner: k.provisioner.clone(),
                say: Say::normal("ExternalProvisioning", message),
            }
        }
    }
}

/// A claim that asks for a volume by name.
fn named(c: &Claim, w: &World<'_>) -> ClaimStep {
    let Some(v) = w.volumes.get(&c.volume_name) else { return ClaimStep::Pending(None) };
    match &v.claim {
        None => match volumes::mismatch(c, v) {
            None => ClaimStep::Bind(v.name.clone()),
            Some(why) => {
                let message = format!("Cannot bind to requested volume \"{}\": {why}", v.name);
                ClaimStep::Pending(Say::warning("VolumeMismatch", message))
            }
        },
        Some(r) if r.fits(c) => ClaimStep::Bind(v.name.clone()),
        Some(_) => {
            let message = format!("volume \"{}\" already bound to a different claim.", v.name);
            ClaimStep::Pending(Say::warning("FailedBinding", message))
        }
    }
}

fn bound(c: &Claim, w: &World<'_>) -> ClaimStep {
    let lost = |message: &str, reason| if c.phase == "Lost" { None } else { Say::warning(reason, message) };
    if c.volume_name.is_empty() {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return ClaimStep::Lost(lost(message, "ClaimLost"));
    }
    match w.volumes.get(&c.volume_name) {
        None => {
            let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            ClaimStep::Lost(lost(message, "ClaimLost"))
        }
        Some(v) => match &v.claim {
            None => ClaimStep::Bind(v.name.clone()),
            Some(r) if r.fits(c) => ClaimStep::Bind(v.name.clone()),
            Some(_) => {
                let message = "Two claims are bound to the same volume, this one is bound incorrectly";
                ClaimStep::Lost(lost(message, "ClaimMisbound"))
            }
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeStep {
    Available,
    Bound,
    /// The claim will do it.
    Claim,
    /// The claim is gone: on to what the policy says.
    Released,
    /// The claim went to another volume; the reservation was ours.
    Unbind,
    /// The claim went to another volume; the reservation was a person's.
    Unreserve,
    Nothing,
}

/// `claim` is the one that `claimRef` names, when it is there.
pub fn volume(v: &Volume, claim: Option<&Claim>) -> VolumeStep {
    let Some(r) = &v.claim else { return VolumeStep::Available };
    if r.uid.is_empty() {
        // Reserved: free for others it is not, but the phase says so, as upstream has it.
        return VolumeStep::Available;
    }
    let Some(c) = claim.filter(|c| c.uid == r.uid) else {
        return if v.phase == "Failed" { VolumeStep::Nothing } else { VolumeStep::Released };
    };
    if c.volume_name.is_empty() {
        return VolumeStep::Claim;
    }
    if c.volume_name == v.name {
        return VolumeStep::Bound;
    }
    let made_for_it = !v.provisioned_by.is_empty() && v.policy == "Delete";
    match (made_for_it, v.bound_by_controller) {
        (true, _) => VolumeStep::Released,
        (false, true) => VolumeStep::Unbind,
        (false, false) => VolumeStep::Unreserve,
    }
}

/// What becomes of a released volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reclaim {
    Keep,
    /// Delete this directory, then the volume.
    Directory(String),
    /// Whoever made it deletes it.
    Theirs,
    Fail {
        reason: &'static str,
        message: String,
    },
}

/// `host_path` is the path of a `hostPath` volume.
pub fn reclaim(v: &Volume, host_path: Option<&str>) -> Reclaim {
    match v.policy.as_str() {
        "Delete" => match host_path {
            // The one place where nothing of a person's can lie, as upstream has it.
            Some(p) if is_scratch(p) => Reclaim::Directory(p.to_owned()),
            Some(p) => {
                let message = format!("host_path deleter only supports /tmp/.+ but received provided {p}");
                Reclaim::Fail { reason: "VolumeFailedDelete", message }
            }
            None if !v.provisioned_by.is_empty() && !v.provisioned_by.starts_with("kubernetes.io/") => {
                Reclaim::Theirs
            }
            None => {
                let message = format!(
                    "error getting deleter volume plugin for volume \"{}\": no deletable volume plugin matched",
                    v.name
                );
                Reclaim::Fail { reason: "VolumeFailedDelete", message }
            }
        },
        "Recycle" => {
            let message = "No recycler plugin found for the volume!".to_owned();
            Reclaim::Fail { reason: "VolumeFailedRecycle", message }
        }
        _ => Reclaim::Keep,
    }
}

fn is_scratch(path: &str) -> bool {
    path.strip_prefix("/tmp/").is_some_and(|rest| {
        let mut parts = rest.split('/').filter(|p| !p.is_empty() && *p != ".").peekable();
        parts.peek().is_some() && parts.all(|p| p != "..")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Object;
    use serde_json::{Value, json};

    fn volume_of(spec: Value, phase: &str) -> Volume {
        let mut v = json!({"metadata": {"name": "v", "annotations": {}}, "spec": {"storageClassName": "s",
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}, "status": {"phase": phase}});
        for (k, x) in spec.as_object().into_iter().flatten() {
            if k == "annotations" {
                v["metadata"]["annotations"] = x.clone()
            } else {
                v["spec"][k] = x.clone()
            }
        }
        Volume::of(&Object::from_value(v, 1).expect("object")).expect("volume")
    }

    fn claim_of(spec: Value) -> Claim {
        let mut v = json!({"metadata": {"name": "c", "namespace": "d", "uid": "u", "annotations": {}}, "spec": {
            "storageClassName": "s", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        for (k, x) in spec.as_object().into_iter().flatten() {
            if k == "annotations" {
                v["metadata"]["annotations"] = x.clone()
            } else {
                v["spec"][k] = x.clone()
            }
        }
        Claim::of(&Object::from_value(v, 1).expect("object")).expect("claim")
    }

    fn classes() -> BTreeMap<String, Class> {
        let class = |name: &str, provisioner: &str, waits| {
            (
                name.to_owned(),
                Class { name: name.into(), provisioner: provisioner.into(), waits, ..Class::default() },
            )
        };
        BTreeMap::from([
            class("hand", NO_PROVISIONER, false),
            class("wait", NO_PROVISIONER, true),
            class("csi", "x.csi", false),
        ])
    }

    fn step(c: &Claim, volumes: Vec<Volume>) -> String {
        let volumes = volumes.into_iter().map(|v| (v.name.clone(), v)).collect();
        let classes = classes();
        match claim(c, &World { volumes: &volumes, classes: &classes }) {
            ClaimStep::Bind(v) => format!("bind {v}"),
            ClaimStep::Class(k) => format!("class {k}"),
            ClaimStep::Pending(s) => format!("pending {}", s.map_or("", |s| s.reason)),
            ClaimStep::Provision { provisioner, .. } => format!("provision {provisioner}"),
            ClaimStep::Lost(s) => format!("lost {}", s.map_or("", |s| s.reason)),
        }
    }

    #[test]
    fn claims() {
        let free = || volume_of(json!({}), "Available");
        let mine = |uid: &str| json!({"claimRef": {"namespace": "d", "name": "c", "uid": uid}});
        let done = json!({"annotations": {volumes::BIND_COMPLETED: "yes"}, "volumeName": "v"});
        for (c, v, want) in [
            (json!({}), vec![free()], "bind v"),
            (json!({}), vec![], "pending ProvisioningFailed"),
            (json!({"storageClassName": ""}), vec![free()], "pending FailedBinding"),
            (json!({"storageClassName": "hand"}), vec![], "pending ProvisioningFailed"),
            (json!({"storageClassName": "csi"}), vec![], "provision x.csi"),
            (
                json!({"storageClassName": "wait"}),
                vec![volume_of(json!({"storageClassName": "wait"}), "Available")],
                "pending WaitForFirstConsumer",
            ),
            (json!({"storageClassName": "wait"}), vec![volume_of(mine("u"), "Available")], "bind v"),
            (json!({"volumeName": "v"}), vec![free()], "bind v"),
            (json!({"volumeName": "v", "storageClassName": "t"}), vec![free()], "pending VolumeMismatch"),
            (json!({"volumeName": "v"}), vec![], "pending "),
            (json!({"volumeName": "v"}), vec![volume_of(mine("other"), "Bound")], "pending FailedBinding"),
            (json!({"volumeName": "v"}), vec![volume_of(mine(""), "Available")], "bind v"),
            (done.clone(), vec![volume_of(mine("u"), "Bound")], "bind v"),
            (done.clone(), vec![], "lost ClaimLost"),
            (done, vec![volume_of(mine("other"), "Bound")], "lost ClaimMisbound"),
        ] {
            assert_eq!(step(&claim_of(c.clone()), v), want, "{c}");
        }
    }

    #[test]
    fn volumes_follow_their_claims() {
        let mine = |uid: &str| json!({"claimRef": {"namespace": "d", "name": "c", "uid": uid}});
        let with = |mut v: Value, notes: Value| {
            v["annotations"] = notes;
            v
        };
        let here = claim_of(json!({"volumeName": "v"}));
        let elsewhere = claim_of(json!({"volumeName": "w"}));
        for (v, phase, c, want) in [
            (json!({}), "Pending", None, VolumeStep::Available),
            (mine(""), "Available", None, VolumeStep::Available),
            (mine("u"), "Available", Some(claim_of(json!({}))), VolumeStep::Claim),
            (mine("u"), "Available", Some(here.clone()), VolumeStep::Bound),
            (mine("u"), "Bound", None, VolumeStep::Released),
            (mine("old"), "Bound", Some(here), VolumeStep::Released),
            (mine("u"), "Failed", None, VolumeStep::Nothing),
            (mine("u"), "Bound", Some(elsewhere.clone()), VolumeStep::Unreserve),
            (
                with(mine("u"), json!({volumes::BOUND_BY_CONTROLLER: "yes"})),
                "Bound",
                Some(elsewhere),
                VolumeStep::Unbind,
            ),
        ] {
            assert_eq!(volume(&volume_of(v.clone(), phase), c.as_ref()), want, "{v} {phase}");
        }
    }

    #[test]
    fn released_volumes() {
        let v = |policy: &str| volume_of(json!({"persistentVolumeReclaimPolicy": policy}), "Released");
        assert_eq!(reclaim(&v("Retain"), Some("/tmp/x")), Reclaim::Keep);
        assert_eq!(reclaim(&v("Delete"), Some("/tmp/x")), Reclaim::Directory("/tmp/x".into()));
        for path in ["/data", "/tmp/", "/tmp/../etc", "/tmp/a/../../etc", "/tmpx/a", "/tmp/./"] {
            assert!(matches!(reclaim(&v("Delete"), Some(path)), Reclaim::Fail { .. }), "{path}");
        }
        assert!(matches!(reclaim(&v("Delete"), None), Reclaim::Fail { .. }));
        let csi = volume_of(
            json!({"persistentVolumeReclaimPolicy": "Delete", "annotations": {volumes::PROVISIONED_BY: "x.csi"}}),
            "Released",
        );
        assert_eq!(reclaim(&csi, None), Reclaim::Theirs);
    }
}
