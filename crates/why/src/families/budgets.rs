//! Budgets that block evictions, or guard nothing.

use api::selector::LabelSelector;

use super::services::nearest;
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Thing, str_of};

fn selector(b: &Thing) -> LabelSelector {
    LabelSelector::from_value(b.at("/spec/selector")).unwrap_or_else(|_| LabelSelector::nothing())
}

/// An absent selector guards nothing, an empty one everything in the namespace (policy/v1).
pub fn guards(b: &Thing, p: &Thing) -> bool {
    b.ns() == p.ns() && !b.at("/spec/selector").is_null() && selector(b).matches(p.labels())
}

/// What it asks for, and what would loosen it.
pub fn helped(f: &Facts, b: &Thing, c: Cause) -> Cause {
    let (healthy, desired) = (b.int("/status/currentHealthy"), b.int("/status/desiredHealthy"));
    let mut c = c
        .seen(b, "status.disruptionsAllowed", "0")
        .seen(b, "status.currentHealthy", healthy.to_string())
        .seen(b, "status.desiredHealthy", desired.to_string());
    for field in ["minAvailable", "maxUnavailable"] {
        let v = b.at(&format!("/spec/{field}"));
        if !v.is_null() {
            c = c.seen(b, &format!("spec.{field}"), v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        }
    }
    let of = f.within("pod", b.ns()).find(|p| guards(b, p)).map(|p| f.top(p));
    let never = desired >= b.int("/status/expectedPods");
    if healthy < desired {
        c = match of {
            Some(o) => c.run(
                "make its pods healthy first: see what they lack",
                format!("kelson why {} -n {}", o.id(), o.ns()),
            ),
            None => c.help("make its pods healthy first"),
        };
        if !never {
            return c;
        }
    }
    // With maxUnavailable or a share, more pods change nothing that can be counted on.
    let fixed = b.at("/spec/minAvailable").is_i64();
    if let Some(o) = of.filter(|o| fixed && !o.at("/spec/replicas").is_null()) {
        let more = o.int("/spec/replicas") + 1;
        c = c.run(
            "run one more pod than it asks for",
            o.kubectl(&format!("scale {} --replicas={more}", o.id())),
        );
    }
    c.run("or let it allow one to be away", b.kubectl(&format!("edit {}", b.id())))
}

pub fn causes(f: &Facts, b: &Thing) -> Vec<Cause> {
    let expected = b.int("/status/expectedPods");
    if let Some(failed) = b.condition("DisruptionAllowed").filter(|c| c["reason"] == "SyncFailed") {
        return vec![
            Cause::root("budget-sync", format!("it can't be worked out: {}", str_of(&failed["message"])))
                .seen(b, "status.conditions[DisruptionAllowed].reason", "SyncFailed")
                .run("correct it", b.kubectl(&format!("edit {}", b.id()))),
        ];
    }
    let sel = selector(b);
    if f.knows("pod", b.ns()) && !f.within("pod", b.ns()).any(|p| guards(b, p)) {
        return vec![nearest(
            f,
            b,
            &sel,
            Cause::root("selects-nothing", format!("it guards nothing: {}", said(&sel))),
        )];
    }
    if expected > 0 && b.int("/status/disruptionsAllowed") == 0 {
        let (healthy, desired) = (b.int("/status/currentHealthy"), b.int("/status/desiredHealthy"));
        let (weight, says) = if healthy < desired {
            (
                Weight::State,
                format!(
                    "no pod that it guards may be evicted: {healthy} of its {expected} pods are healthy and {desired} must be"
                ),
            )
        } else if expected > desired {
            (
                Weight::State,
                format!("no pod that it guards may be evicted now: {desired} of {expected} must be healthy"),
            )
        } else {
            (
                Weight::State,
                format!(
                    "it never lets a pod be evicted: all {expected} of its pods must be healthy, so drains wait for ever"
                ),
            )
        };
        return vec![helped(f, b, Cause::new("budget-blocks", weight, says))];
    }
    Vec::new()
}

fn said(s: &LabelSelector) -> String {
    format!("no pod has {}", super::services::words(s))
}
