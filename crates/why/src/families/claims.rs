//! Claims without a volume, and volumes that can't serve their pod.

use api::Object;
use api::selector::LabelSelector;
use api::volumes::{self, Claim, Class, NO_PROVISIONER, Volume};

use crate::amounts::show;
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Lookup, Thing, names, str_of};

fn object(t: &Thing) -> Option<Object> {
    Object::from_value(t.v.clone(), 0).ok()
}

fn parse<T>(t: &Thing, of: impl Fn(&Object) -> Result<T, api::object::DecodeError>) -> Option<T> {
    object(t).and_then(|o| of(&o).ok())
}

/// Names of the claims that a pod mounts, with the volume's name.
pub fn of(p: &Thing) -> Vec<(String, &str)> {
    p.list("/spec/volumes")
        .iter()
        .filter_map(|v| {
            let volume = str_of(&v["name"]);
            match v["persistentVolumeClaim"]["claimName"].as_str() {
                Some(c) => Some((c.to_owned(), volume)),
                None if v["ephemeral"].is_object() => {
                    Some((volumes::ephemeral_claim(p.name(), volume), volume))
                }
                None => None,
            }
        })
        .collect()
}

/// What of a pod's claims keeps it from running.
pub fn of_pod(f: &Facts, p: &Thing) -> Vec<Cause> {
    let mut out = Vec::new();
    for (name, volume) in of(p) {
        let field = format!("spec.volumes[{volume}]");
        match f.look("persistentvolumeclaim", p.ns(), &name) {
            Lookup::Unknown => {}
            Lookup::Missing => out.push(
                Cause::root("claim-missing", format!("the claim {name} does not exist in {}", p.ns()))
                    .seen(p, &field, name.as_str())
                    .help("make the claim, or name another one"),
            ),
            Lookup::There(c) => {
                out.extend(claim(f, c).into_iter().filter(|x| x.code != "claim-waits").map(|mut x| {
                    x.affects.push(c.id());
                    x.seen(p, &field, name.as_str())
                }));
                out.extend(elsewhere(f, p, c));
            }
        }
    }
    out
}

/// A bound volume that is on no node which could run the pod.
fn elsewhere(f: &Facts, p: &Thing, c: &Thing) -> Option<Cause> {
    let volume = c.text("/spec/volumeName");
    let v = f.find("persistentvolume", "", volume)?;
    let parsed = parse(v, Volume::of)?;
    if !f.knows("node", "") || !p.text("/spec/nodeName").is_empty() {
        return None;
    }
    let on: Vec<String> = f
        .all("node")
        .iter()
        .filter(|n| parsed.reaches(n.name(), n.labels()))
        .map(|n| n.name().to_owned())
        .collect();
    on.is_empty().then(|| {
        Cause::root(
            "volume-elsewhere",
            format!("the volume {volume} of its claim {} is on no node that there is", c.name()),
        )
        .seen(v, "spec.nodeAffinity", v.at("/spec/nodeAffinity/required/nodeSelectorTerms").to_string())
        .help("bring that node back, or restore the data to another volume")
    })
}

pub fn claim(f: &Facts, c: &Thing) -> Vec<Cause> {
    match c.text("/status/phase") {
        "Bound" => return resizing(c),
        "Lost" => {
            let volume = c.text("/spec/volumeName");
            return vec![
                Cause::root("claim-lost", format!("the volume {volume} of the claim {} is gone", c.name()))
                    .seen(c, "status.phase", "Lost")
                    .seen(c, "spec.volumeName", volume)
                    .help("its data is lost unless there is a copy: make the claim anew"),
            ];
        }
        _ => {}
    }
    let Some(parsed) = parse(c, Claim::of) else { return Vec::new() };
    let event = f.event(
        c,
        &["ProvisioningFailed", "FailedBinding", "ExternalProvisioning", "VolumeMismatch", "ClaimMisbound"],
    );
    let done = |x: Cause| x.seen(c, "status.phase", "Pending").event(event);
    if !parsed.volume_name.is_empty() {
        return vec![done(named(f, c, &parsed))];
    }
    let class_name = parsed.class();
    let volumes: Vec<Volume> =
        f.all("persistentvolume").iter().filter_map(|v| parse(v, Volume::of)).collect();
    if class_name.is_empty() {
        let says = match parsed.class {
            None => format!("the claim {} names no storage class, and no class is the default", c.name()),
            Some(_) => {
                format!("the claim {} asks for a volume without a class, and no free one fits", c.name())
            }
        };
        let classes: Vec<String> = f.all("storageclass").iter().map(|k| k.name().to_owned()).collect();
        let mut x = Cause::root("claim-no-class", says).seen(c, "spec.storageClassName", "none");
        x = misfits(x, &parsed, &volumes);
        x = if classes.is_empty() {
            x.help("install a provisioner with a storage class, or make a PersistentVolume that fits")
        } else {
            x.help(format!("make the claim anew with a class: there are {}", names(&classes, 4)))
        };
        return vec![done(x)];
    }
    let class = match f.look("storageclass", "", class_name) {
        Lookup::There(k) => parse(k, Class::of),
        Lookup::Missing => {
            let classes: Vec<String> = f.all("storageclass").iter().map(|k| k.name().to_owned()).collect();
            let there = if classes.is_empty() {
                "there is none".into()
            } else {
                format!("there are {}", names(&classes, 4))
            };
            let x = Cause::root(
                "claim-class-missing",
                format!(
                    "the claim {} wants the storage class {class_name}, which does not exist ({there})",
                    c.name()
                ),
            )
            .seen(c, "spec.storageClassName", class_name);
            let x = misfits(x, &parsed, &volumes);
            return vec![done(x).help("make the class, or make the claim anew with one that is there")];
        }
        Lookup::Unknown => None,
    };
    let Some(class) = class else {
        let told = event.map_or("its class can't be read", |e| e.text("/message"));
        return vec![done(Cause::state(
            "claim-unbound",
            format!("the claim {} has no volume: {told}", c.name()),
        ))];
    };
    let users: Vec<String> = f
        .within("pod", c.ns())
        .filter(|p| of(p).iter().any(|(n, _)| n == c.name()) && !super::pods::is_finished(p))
        .map(|p| p.name().to_owned())
        .collect();
    if class.waits && users.is_empty() {
        return vec![
            Cause::new(
                "claim-waits",
                Weight::State,
                format!(
                    "the claim {} gets its volume once a pod uses it (WaitForFirstConsumer), and none does",
                    c.name()
                ),
            )
            .seen(c, "status.phase", "Pending")
            .seen(c, "spec.storageClassName", class_name)
            .help("make a pod that mounts it"),
        ];
    }
    if class.provisioner == NO_PROVISIONER {
        let x = Cause::root(
            "claim-no-volume",
            format!("no volume fits the claim {}: its class {class_name} makes none by itself", c.name()),
        )
        .seen(c, "spec.storageClassName", class_name)
        .seen(c, "spec.resources.requests.storage", show("storage", parsed.size));
        return vec![
            done(misfits(x, &parsed, &volumes))
                .help(format!("make a PersistentVolume of the class {class_name} that is large enough")),
        ];
    }
    vec![done(provisioner(f, c, &class, event))]
}

/// A provisioner has to make the volume.
fn provisioner(f: &Facts, c: &Thing, class: &Class, event: Option<&Thing>) -> Cause {
    let name = &class.provisioner;
    if let Some(e) = event.filter(|e| e.text("/reason") == "ProvisioningFailed") {
        return Cause::root(
            "provisioning-failed",
            format!(
                "the provisioner {name} can't make a volume for the claim {}: {}",
                c.name(),
                e.text("/message")
            ),
        )
        .help("read the provisioner's log");
    }
    let driver = f.find("csidriver", "", name).is_some();
    let heard = f.events(c).iter().any(|e| {
        [e.text("/source/component"), e.text("/reportingComponent")].iter().any(|x| x.contains(name.as_str()))
    });
    let says = if driver || heard {
        format!("the claim {} waits for the provisioner {name} to make its volume", c.name())
    } else {
        format!(
            "the claim {} waits for the provisioner {name}, and there is no sign that anybody runs it",
            c.name()
        )
    };
    let cause =
        Cause::new("provisioner-missing", if driver || heard { Weight::State } else { Weight::Root }, says)
            .seen(c, "spec.storageClassName", class.name.as_str());
    let cause = match f.find("storageclass", "", &class.name) {
        Some(k) => cause.seen(k, "provisioner", name.as_str()),
        None => cause,
    };
    cause.help(format!("install or start {name}, or use a class whose provisioner runs"))
}

/// It asks for one volume by name.
fn named(f: &Facts, c: &Thing, claim: &Claim) -> Cause {
    let name = &claim.volume_name;
    let said = |says: String| Cause::root("claim-volume", says).seen(c, "spec.volumeName", name.as_str());
    match f.look("persistentvolume", "", name) {
        Lookup::Unknown => said(format!("the claim {} waits for the volume {name}", c.name())),
        Lookup::Missing => {
            said(format!("the claim {} asks for the volume {name}, which does not exist", c.name()))
        }
        Lookup::There(v) => {
            let parsed = parse(v, Volume::of);
            if let Some(r) = parsed.as_ref().and_then(|v| v.claim.as_ref()).filter(|r| !r.fits(claim)) {
                return said(format!(
                    "the claim {} asks for the volume {name}, which the claim {}/{} has",
                    c.name(),
                    r.namespace,
                    r.name
                ))
                .seen(v, "spec.claimRef", format!("{}/{}", r.namespace, r.name));
            }
            match parsed.and_then(|v| volumes::mismatch(claim, &v)) {
                Some(why) => said(format!(
                    "the claim {} asks for the volume {name}, which does not fit: {why}",
                    c.name()
                )),
                None => said(format!(
                    "the claim {} asks for the volume {name}, which is {}",
                    c.name(),
                    v.text("/status/phase")
                )),
            }
        }
    }
}

/// Why each of the volumes does not do.
fn misfits(mut x: Cause, c: &Claim, all: &[Volume]) -> Cause {
    for v in all.iter().take(5) {
        let why = match (&v.claim, volumes::mismatch(c, v)) {
            (Some(r), _) if !r.fits(c) => format!("it belongs to {}/{}", r.namespace, r.name),
            (_, Some(why)) => why.to_owned(),
            (_, None) if v.deleting => "it is being deleted".into(),
            (_, None) if c.selector.as_ref().is_some_and(|s: &LabelSelector| !s.matches(&v.labels)) => {
                "the claim's selector does not fit it".into()
            }
            (_, None) => v.phase.clone(),
        };
        x.evidence.push(crate::cause::Evidence {
            object: format!("persistentvolume/{}", v.name),
            field: "does not do".into(),
            value: why,
        });
    }
    x
}

fn resizing(c: &Thing) -> Vec<Cause> {
    ["ControllerResizeError", "NodeResizeError", "ModifyVolumeError"]
        .iter()
        .filter_map(|n| {
            let x = c.condition(n).filter(|x| x["status"] == "True")?;
            let message = str_of(&x["message"]);
            Some(
                Cause::root("claim-resize", format!("the claim {} can't be changed: {message}", c.name()))
                    .seen(c, &format!("status.conditions[{n}].message"), message),
            )
        })
        .collect()
}

pub fn volume(f: &Facts, v: &Thing) -> Vec<Cause> {
    let seen = |c: Cause| c.seen(v, "status.phase", v.text("/status/phase"));
    match v.text("/status/phase") {
        "Released" => vec![
            seen(Cause::state(
                "volume-released",
                "its claim is gone, and its data is kept: no other claim gets it until somebody frees it",
            ))
            .seen(v, "spec.persistentVolumeReclaimPolicy", v.text("/spec/persistentVolumeReclaimPolicy"))
            .run(
                "free it, if the data may be seen by the next one",
                format!(
                    r#"kubectl patch {} --type=json -p '[{{"op":"remove","path":"/spec/claimRef"}}]'"#,
                    v.id()
                ),
            ),
        ],
        "Failed" => vec![seen(
            Cause::root("volume-failed", format!("it could not be reclaimed: {}", v.text("/status/message")))
                .seen(v, "status.message", v.text("/status/message"))
                .event(f.event(v, &["VolumeFailedDelete", "VolumeFailedRecycle"])),
        )],
        _ => Vec::new(),
    }
}
