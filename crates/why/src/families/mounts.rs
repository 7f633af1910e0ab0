//! What a pod's volumes and environment name: config maps, secrets, their keys, and mounts that fail.

use serde_json::Value;

use super::claims;
use super::containers::{Container, all};
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Lookup, Thing, items, names, str_of};

/// A config map or secret that something in the pod names.
pub struct Wanted<'a> {
    /// `configmap` or `secret`.
    pub kind: &'static str,
    pub name: &'a str,
    /// Empty: all of it.
    pub keys: Vec<&'a str>,
    /// Where it is named.
    pub field: String,
    optional: bool,
}

const KINDS: [(&str, &str, &str); 2] =
    [("configmap", "configMapRef", "configMapKeyRef"), ("secret", "secretRef", "secretKeyRef")];

fn of_container<'a>(spec: &'a Value) -> Vec<Wanted<'a>> {
    let mut out = Vec::new();
    let container = str_of(&spec["name"]);
    for (kind, whole, key) in KINDS {
        for from in items(&spec["envFrom"]) {
            let r = &from[whole];
            if r.is_object() {
                let field = format!("spec.containers[{container}].envFrom");
                out.push(Wanted {
                    kind,
                    name: str_of(&r["name"]),
                    keys: vec![],
                    field,
                    optional: r["optional"] == true,
                });
            }
        }
        for e in items(&spec["env"]) {
            let r = &e["valueFrom"][key];
            if r.is_object() {
                let field = format!("spec.containers[{container}].env[{}]", str_of(&e["name"]));
                let keys = vec![str_of(&r["key"])];
                out.push(Wanted {
                    kind,
                    name: str_of(&r["name"]),
                    keys,
                    field,
                    optional: r["optional"] == true,
                });
            }
        }
    }
    out
}

fn of_volumes(p: &Thing) -> Vec<Wanted<'_>> {
    let mut wanted = Vec::new();
    for v in p.list("/spec/volumes") {
        let field = format!("spec.volumes[{}]", str_of(&v["name"]));
        let mut sources: Vec<(&'static str, &Value, &str)> =
            vec![("configmap", &v["configMap"], "name"), ("secret", &v["secret"], "secretName")];
        for s in items(&v["projected"]["sources"]) {
            sources.push(("configmap", &s["configMap"], "name"));
            sources.push(("secret", &s["secret"], "name"));
        }
        for (kind, source, name) in sources.into_iter().filter(|(_, s, _)| s.is_object()) {
            let keys = items(&source["items"]).iter().map(|i| str_of(&i["key"])).collect();
            let optional = source["optional"] == true;
            wanted.push(Wanted { kind, name: str_of(&source[name]), keys, field: field.clone(), optional });
        }
    }
    wanted
}

/// All that a pod names, also what may be missing; for whoever reads.
pub fn wanted(p: &Thing) -> Vec<Wanted<'_>> {
    let mut out = of_volumes(p);
    for c in p.list("/spec/initContainers").iter().chain(p.list("/spec/containers")) {
        out.extend(of_container(c));
    }
    out
}

fn word(kind: &str) -> &'static str {
    if kind == "secret" { "secret" } else { "config map" }
}

fn missing(f: &Facts, p: &Thing, w: &Wanted<'_>, what_for: &str) -> Option<Cause> {
    if w.optional {
        return None;
    }
    let (kind, word) = (w.kind, word(w.kind));
    match f.look(kind, p.ns(), w.name) {
        Lookup::Unknown => None,
        Lookup::Missing => {
            let code = if kind == "secret" { "secret-missing" } else { "config-map-missing" };
            let make = if kind == "secret" { "create secret generic" } else { "create configmap" };
            let cause = Cause::root(
                code,
                format!("the {word} {} does not exist in {}, and {what_for} needs it", w.name, p.ns()),
            )
            .seen(p, &w.field, w.name);
            Some(
                cause
                    .run("make it", p.kubectl(&format!("{make} {} --from-literal=KEY=VALUE", w.name)))
                    .run("or name another one", f.edit(p)),
            )
        }
        Lookup::There(o) => {
            let has = |k: &str| ["data", "binaryData"].iter().any(|d| !o.v[*d][k].is_null());
            let lacks: Vec<&str> = w.keys.iter().copied().filter(|k| !has(k)).collect();
            let first = lacks.first()?;
            let keys: Vec<String> = ["data", "binaryData"]
                .iter()
                .flat_map(|d| o.v[*d].as_object().into_iter().flatten().map(|(k, _)| k.clone()))
                .collect();
            let there =
                if keys.is_empty() { "it is empty".into() } else { format!("it has {}", names(&keys, 5)) };
            Some(
                Cause::root(
                    "key-missing",
                    format!("the {word} {} has no key {first}, and {what_for} needs it ({there})", w.name),
                )
                .seen(p, &w.field, format!("{} of {}", lacks.join(", "), w.name))
                .seen(o, "data", names(&keys, 10))
                .run("add the key", o.kubectl(&format!("edit {kind} {}", o.name())))
                .run("or name another one", f.edit(p)),
            )
        }
    }
}

/// What the environment of a container names and is not there.
pub fn environment(f: &Facts, p: &Thing, c: &Container<'_>) -> Vec<Cause> {
    let what = format!("the environment of the container {}", c.name);
    of_container(c.spec).iter().filter_map(|w| missing(f, p, w, &what)).collect()
}

/// Not one container has begun.
fn is_being_made(p: &Thing) -> bool {
    let mut any = false;
    for c in all(p) {
        let reason = str_of(&c.status["state"]["waiting"]["reason"]);
        if c.status["restartCount"].as_i64().unwrap_or(0) > 0
            || !matches!(reason, "" | "ContainerCreating" | "PodInitializing")
        {
            return false;
        }
        if c.status["state"]["running"].is_object() || c.status["state"]["terminated"].is_object() {
            return false;
        }
        any = true;
    }
    any
}

/// Volumes that keep a pod from beginning.
pub fn causes(f: &Facts, p: &Thing) -> Vec<Cause> {
    if !is_being_made(p) {
        return Vec::new();
    }
    let event = f.event(p, &["FailedMount", "FailedAttachVolume", "FailedMapVolume"]);
    let mut out: Vec<Cause> = of_volumes(p)
        .iter()
        .filter_map(|w| missing(f, p, w, "a volume of it"))
        .map(|c| c.event(event))
        .collect();
    out.extend(claims::of_pod(f, p));
    if out.is_empty()
        && let Some(e) = event
    {
        let text = e.text("/message").trim();
        let volume = text.split('"').nth(1).unwrap_or_default();
        let cause = Cause::new(
            "mount-failed",
            Weight::Root,
            format!("a volume can't be mounted on {}: {text}", p.text("/spec/nodeName")),
        )
        .event(event);
        let source = p.list("/spec/volumes").iter().find(|v| v["name"] == volume);
        let cause = match source.and_then(|v| v["hostPath"]["path"].as_str()) {
            Some(path) => cause.seen(p, &format!("spec.volumes[{volume}].hostPath.path"), path),
            None => cause,
        };
        out.push(cause.run("correct the volume", f.edit(p)));
    }
    out
}
