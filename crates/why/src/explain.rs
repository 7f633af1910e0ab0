//! From facts to a report: the causes of one thing, or of everything, the nearest to the root first. Pure.

use crate::cause::{Cause, Finding, Report};
use crate::facts::{Facts, Thing};
use crate::families::{self, deletion};

/// What stands at the top of an owner chain, and what nobody owns.
const WHOLE: [&str; 14] = [
    "node",
    "namespace",
    "deployment",
    "statefulset",
    "daemonset",
    "cronjob",
    "job",
    "replicationcontroller",
    "replicaset",
    "pod",
    "service",
    "persistentvolumeclaim",
    "poddisruptionbudget",
    "networkpolicy",
];

/// The causes of one thing, in order, each once.
pub fn causes(f: &Facts, t: &Thing) -> Vec<Cause> {
    let mut all = if t.is_deleting() { deletion::causes(f, t) } else { families::of(f, t) };
    if all.is_empty() && t.is_deleting() {
        all = families::of(f, t);
    }
    order(all)
}

fn order(all: Vec<Cause>) -> Vec<Cause> {
    let mut out: Vec<Cause> = Vec::new();
    for c in all {
        match out.iter_mut().find(|o| o.code == c.code && o.says == c.says) {
            None => out.push(c),
            Some(o) => {
                o.weight = o.weight.min(c.weight);
                o.evidence.extend(c.evidence.into_iter().filter(|e| !o.affects.contains(&e.object)));
                for a in c.affects {
                    if !o.affects.contains(&a) {
                        o.affects.push(a);
                    }
                }
            }
        }
    }
    out.sort_by_key(|c| c.weight);
    out
}

fn finding(f: &Facts, t: &Thing) -> Finding {
    Finding { kind: t.kind, namespace: t.ns().to_owned(), name: t.name().to_owned(), causes: causes(f, t) }
}

fn unread(f: &Facts) -> Vec<(String, String)> {
    f.unread.iter().map(|(what, why)| (what.clone(), why.clone())).collect()
}

/// About one thing.
pub fn explain(f: &Facts, t: &Thing) -> Report {
    Report { findings: vec![finding(f, t)], unread: unread(f) }
}

/// Whether another finding tells of it already.
fn told_elsewhere(f: &Facts, t: &Thing) -> bool {
    // What is being deleted hangs by itself, whoever owns it.
    if t.is_deleting() {
        return false;
    }
    match t.kind {
        // Its owner may be of a kind that nobody here knows: then the pod speaks for itself.
        "pod" | "replicaset" | "job" => f.owner(t).is_some(),
        _ => false,
    }
}

/// Everything in the facts that does not do what it should.
pub fn everything(f: &Facts) -> Report {
    let mut findings = Vec::new();
    for kind in WHOLE {
        for t in f.all(kind).iter().filter(|t| !told_elsewhere(f, t)) {
            let found = finding(f, t);
            if found.is_broken() {
                findings.push(found);
            }
        }
    }
    // Those with a cause near the root first; the kinds keep their order otherwise.
    findings.sort_by_key(|x| x.causes.first().map(|c| c.weight));
    Report { findings, unread: unread(f) }
}
