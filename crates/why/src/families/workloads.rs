//! Deployments, sets of replicas, stateful and daemon sets: their own state, what keeps them from making pods, and what
//! their pods lack.

use std::collections::BTreeMap;

use super::{creation, pods};
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Thing, count, str_of};

/// The causes of the pods below, each once, with the names of the pods.
pub fn of_pods<'a>(f: &Facts, all: impl Iterator<Item = &'a Thing>) -> Vec<Cause> {
    let mut out: Vec<Cause> = Vec::new();
    // Pods of one owner that wait for a node with the same words wait for the same.
    let mut waiting: BTreeMap<(&str, &str), Vec<Cause>> = BTreeMap::new();
    for p in all {
        let told = p.condition("PodScheduled").map_or("", |c| str_of(&c["message"]));
        let waits =
            p.text("/spec/nodeName").is_empty() && !told.is_empty() && super::claims::of(p).is_empty();
        let key = (p.controller().map_or(p.uid(), |o| str_of(&o["uid"])), told);
        let found = match waiting.get(&key).filter(|_| waits) {
            Some(known) => known.clone(),
            None => crate::explain::causes(f, p),
        };
        if waits {
            waiting.entry(key).or_insert_with(|| found.clone());
        }
        for mut c in found {
            match out.iter_mut().find(|o| o.code == c.code && same(&o.says, &c.says)) {
                Some(o) => o.affects.push(p.id()),
                None => {
                    c.affects.push(p.id());
                    out.push(c);
                }
            }
        }
    }
    out
}

/// The same sentence but for the numbers in it.
fn same(a: &str, b: &str) -> bool {
    let bare = |t: &str| t.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    a == b || bare(a) == bare(b)
}

fn replicas_wanted(t: &Thing) -> i64 {
    t.at("/spec/replicas").as_i64().unwrap_or(1)
}

fn none_wanted(t: &Thing) -> Option<Cause> {
    (replicas_wanted(t) == 0).then(|| {
        Cause::new("no-replicas", Weight::Note, "it asks for no pods (replicas: 0)")
            .seen(t, "spec.replicas", "0")
            .run("ask for one", t.kubectl(&format!("scale {} --replicas=1", t.id())))
    })
}

/// Ready pods of it are fewer than it asks for.
fn lacks(t: &Thing, field: &str) -> bool {
    t.int(&format!("/status/{field}")) < replicas_wanted(t)
}

fn fallback(t: &Thing, ready: i64, want: i64) -> Cause {
    Cause::new(
        "not-ready-yet",
        Weight::Symptom,
        format!("{ready} of its {} are ready", count(usize::try_from(want).unwrap_or(0), "pod")),
    )
    .seen(t, "status.readyReplicas", ready.to_string())
}

pub fn deployment(f: &Facts, d: &Thing) -> Vec<Cause> {
    let want = replicas_wanted(d);
    let mut out = Vec::new();
    let updated = d.int("/status/updatedReplicas");
    let behind = updated < want || lacks(d, "availableReplicas");
    if d.at("/spec/paused") == &serde_json::Value::Bool(true) {
        let weight = if updated < want { Weight::Root } else { Weight::Note };
        out.push(
            Cause::new(
                "paused",
                weight,
                "it is paused: changes of its template make no pods until it is resumed",
            )
            .seen(d, "spec.paused", "true")
            .seen(d, "status.updatedReplicas", format!("{updated} of {want}"))
            .run("resume it", d.kubectl(&format!("rollout resume {}", d.id()))),
        );
    }
    out.extend(none_wanted(d));
    let sets: Vec<&Thing> = f.owned("replicaset", d).collect();
    // Old sets that go away on purpose lack nothing.
    for s in sets.iter().filter(|s| replicas_wanted(s) > 0) {
        out.extend(creation::causes(f, s));
    }
    if sets.is_empty()
        && let Some(c) = d.condition("ReplicaFailure").filter(|c| c["status"] == "True")
    {
        let message = str_of(&c["message"]);
        out.push(Cause::root("create-refused", format!("its pods can't be made: {message}")).seen(
            d,
            "status.conditions[ReplicaFailure].message",
            message,
        ));
    }
    let below = sets.iter().filter(|s| replicas_wanted(s) > 0).flat_map(|s| f.owned("pod", s));
    out.extend(of_pods(f, below));
    if behind && out.is_empty() {
        out.extend(creation::fewer(f, d, want));
    }
    if let Some(c) = d.condition("Progressing").filter(|c| c["reason"] == "ProgressDeadlineExceeded") {
        out.push(
            Cause::new(
                "rollout-stuck",
                Weight::Symptom,
                "its rollout has made no progress for longer than progressDeadlineSeconds",
            )
            .seen(d, "status.conditions[Progressing].message", str_of(&c["message"]))
            .run("go back to the version before", d.kubectl(&format!("rollout undo {}", d.id()))),
        );
    }
    if behind && out.iter().all(|c| c.weight == Weight::Note) {
        out.push(fallback(d, d.int("/status/readyReplicas"), want));
    }
    out
}

/// ReplicaSets and ReplicationControllers.
pub fn replicas(f: &Facts, s: &Thing) -> Vec<Cause> {
    let want = replicas_wanted(s);
    let mut out: Vec<Cause> = none_wanted(s).into_iter().collect();
    out.extend(creation::causes(f, s));
    out.extend(of_pods(f, f.owned("pod", s)));
    if lacks(s, "readyReplicas") && out.is_empty() {
        out.extend(creation::fewer(f, s, want));
        if out.is_empty() {
            out.push(fallback(s, s.int("/status/readyReplicas"), want));
        }
    }
    out
}

pub fn stateful(f: &Facts, s: &Thing) -> Vec<Cause> {
    let want = replicas_wanted(s);
    let mut out: Vec<Cause> = none_wanted(s).into_iter().collect();
    out.extend(creation::causes(f, s));
    let mine: Vec<&Thing> = f.owned("pod", s).collect();
    out.extend(of_pods(f, mine.iter().copied()));
    let service = s.text("/spec/serviceName");
    if !service.is_empty() && f.look("service", s.ns(), service).is_missing() {
        out.push(
            Cause::new(
                "governing-service-missing",
                Weight::Note,
                format!(
                    "its service {service} does not exist, so its pods have no names of their own in DNS"
                ),
            )
            .seen(s, "spec.serviceName", service)
            .run("make it", s.kubectl(&format!("create service clusterip {service} --clusterip=None"))),
        );
    }
    let ordered = s.text("/spec/podManagementPolicy") != "Parallel";
    let have = i64::try_from(mine.len()).unwrap_or(0);
    if ordered && have < want && out.iter().any(|c| c.weight < Weight::Symptom) {
        let blocking = mine.iter().find(|p| !pods::is_ready(p)).map(|p| p.name()).unwrap_or_default();
        if !blocking.is_empty() {
            out.push(
                Cause::new(
                    "ordered",
                    Weight::Symptom,
                    format!(
                        "its other {} wait for {blocking} to be ready, since they start one after the other",
                        count(usize::try_from(want - have).unwrap_or(0), "pod")
                    ),
                )
                .seen(s, "spec.podManagementPolicy", "OrderedReady"),
            );
        }
    }
    if lacks(s, "readyReplicas") && out.iter().all(|c| c.weight == Weight::Note) {
        out.extend(creation::fewer(f, s, want));
        out.push(fallback(s, s.int("/status/readyReplicas"), want));
    }
    out
}

pub fn daemons(f: &Facts, d: &Thing) -> Vec<Cause> {
    let mut out = creation::causes(f, d);
    out.extend(of_pods(f, f.owned("pod", d)));
    let want = d.int("/status/desiredNumberScheduled");
    let seen = d.int("/status/observedGeneration") >= d.int("/metadata/generation");
    if want == 0 && seen && out.is_empty() {
        let mut wish: Vec<String> = d
            .at("/spec/template/spec/nodeSelector")
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, v)| format!("{k}={}", str_of(v)))
            .collect();
        if d.at("/spec/template/spec/affinity/nodeAffinity").is_object() {
            wish.push("its node affinity".into());
        }
        let says = match (f.all("node").len(), wish.is_empty()) {
            (0, _) if f.knows("node", "") => "the cluster has no node".to_owned(),
            (_, false) => format!("no node is one that it is for: none has {}", wish.join(" and ")),
            (_, true) => {
                "no node is one that it is for: all have taints that it does not tolerate".to_owned()
            }
        };
        out.push(
            Cause::root("no-node-matches", says)
                .seen(d, "status.desiredNumberScheduled", "0")
                .seen(d, "spec.template.spec.nodeSelector", wish.join(", "))
                .run("change what it asks of nodes", f.edit(d))
                .run(
                    "or give nodes the label",
                    format!("kubectl label node NODE {}", wish.first().cloned().unwrap_or_default()),
                ),
        );
    }
    let ready = d.int("/status/numberReady");
    if ready < want && out.is_empty() {
        out.push(fallback(d, ready, want));
    }
    out
}
