//! Revisions of a Deployment, pure: the annotations that its ReplicaSets carry, names of new ones, which ones the history
//! limit removes, and the deprecated rollback annotation.

use serde_json::{Map, Value, json};

use super::rollout::Strategy;
use super::sets::{Annotated, DESIRED, MAX_REPLICAS, REVISION, REVISION_HISTORY, ROLLBACK, Rs, Sets};

/// Longest revision history, in bytes; the oldest entries make room.
const HISTORY_BYTES: usize = 2000;
/// Longest name of a ReplicaSet.
const NAME: usize = 253;

pub fn name(deployment: &str, hash: &str) -> String {
    let room = NAME.saturating_sub(hash.len() + 1);
    let base: String = deployment.chars().take(room).collect();
    format!("{}-{hash}", base.trim_end_matches(['-', '.']))
}

/// The revision that the present template has or gets: above all others.
pub fn newest(old: &[Rs], new: Option<&Rs>) -> i64 {
    let next = old.iter().map(Rs::revision).max().unwrap_or(0) + 1;
    next.max(new.map_or(0, Rs::revision))
}

/// The deployment's annotations that its ReplicaSets carry too.
pub fn inherited(m: &Annotated) -> Map<String, Value> {
    let own = |k: &str| {
        matches!(
            k,
            REVISION
                | REVISION_HISTORY
                | DESIRED
                | MAX_REPLICAS
                | ROLLBACK
                | "kubectl.kubernetes.io/last-applied-configuration"
        )
    };
    m.annotations.iter().flatten().filter(|(k, _)| !own(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// How many pods the sets may have, as the sets remember it to know a later change of scale.
pub fn sizes(desired: i64, strategy: &Strategy) -> [(&'static str, Value); 2] {
    [(DESIRED, json!(desired.to_string())), (MAX_REPLICAS, json!((desired + strategy.surge()).to_string()))]
}

/// The annotations that an existing set of the present template lacks or has otherwise.
pub fn changes(m: &Annotated, rs: &Rs, revision: i64) -> Map<String, Value> {
    let mut want = inherited(m);
    if rs.revision() < revision {
        want.insert(REVISION.into(), json!(revision.to_string()));
        if rs.revision() > 0 {
            let past = rs.annotations.get(REVISION_HISTORY).and_then(Value::as_str).unwrap_or_default();
            want.insert(REVISION_HISTORY.into(), json!(history(past, rs.revision())));
        }
    }
    want.retain(|k, v| rs.annotations.get(k) != Some(v));
    want
}

fn history(past: &str, revision: i64) -> String {
    let mut all: Vec<String> = past.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect();
    all.push(revision.to_string());
    while all.len() > 1 && all.iter().map(|s| s.len() + 1).sum::<usize>() > HISTORY_BYTES + 1 {
        all.remove(0);
    }
    all.join(",")
}

/// The old sets that go: the oldest revisions beyond the limit, of these only such as are scaled down and settled.
pub fn surplus(old: &[Rs], limit: usize) -> Vec<&Rs> {
    let mut all: Vec<&Rs> = old.iter().filter(|r| !r.object.meta().is_deleting()).collect();
    all.sort_by(|a, b| a.revision().cmp(&b.revision()).then_with(|| Rs::older(a, b)));
    let surplus = all.len().saturating_sub(limit);
    all.truncate(surplus);
    all.retain(|r| r.replicas == 0 && r.status_replicas == 0 && r.observed);
    all
}

/// What the rollback annotation leads to.
#[derive(Debug, PartialEq)]
pub enum Rollback {
    /// The template to go back to, the revision it comes from, and annotations to bring back.
    To {
        revision: i64,
        template: Value,
        annotations: Map<String, Value>,
    },
    Unchanged(i64),
    NotFound(&'static str),
}

/// `to`: a revision, 0 for the last one before the present.
pub fn rollback(sets: &Sets, present: &Value, to: i64) -> Rollback {
    let revision = if to == 0 {
        let mut all: Vec<i64> = sets.iter().map(Rs::revision).collect();
        all.sort_unstable();
        match all.iter().rev().nth(1) {
            Some(r) if *r > 0 => *r,
            _ => return Rollback::NotFound("Unable to find last revision."),
        }
    } else {
        to
    };
    let Some(rs) = sets.iter().find(|r| r.revision() == revision) else {
        return Rollback::NotFound("Unable to find the revision to rollback to.");
    };
    if super::sets::same_template(&rs.template, present) {
        return Rollback::Unchanged(revision);
    }
    let mut template = rs.template.clone();
    if let Some(l) = template["metadata"].get_mut("labels").and_then(Value::as_object_mut) {
        l.remove(super::sets::HASH_LABEL);
    }
    let annotations = inherited(&Annotated { annotations: Some(rs.annotations.clone()) });
    Rollback::To { revision, template, annotations }
}

#[cfg(test)]
mod tests {
    use super::super::sets::tests::rs;
    use super::*;

    fn at(name: &str, revision: i64, replicas: i64) -> Rs {
        let mut r = rs(name, replicas, replicas);
        r.annotations.insert(REVISION.into(), json!(revision.to_string()));
        r.template = json!({"metadata": {"labels": {"pod-template-hash": name}}, "spec": {"n": name}});
        r
    }

    #[test]
    fn names_fit() {
        assert_eq!(name("web", "abc"), "web-abc");
        let long = name(&"a".repeat(253), "0123456789");
        assert_eq!((long.len(), long.ends_with("a-0123456789")), (253, true));
    }

    #[test]
    fn a_revived_set_gets_the_next_revision_and_remembers_its_own() {
        let m = Annotated { annotations: json!({"note": "x", REVISION: "9"}).as_object().cloned() };
        let back = at("a", 1, 0);
        let revision = newest(&[at("b", 2, 1)], Some(&back));
        assert_eq!(revision, 3);
        assert_eq!(
            Value::Object(changes(&m, &back, revision)),
            json!({"note": "x", REVISION: "3", REVISION_HISTORY: "1"})
        );
        // Nothing to do for one that has it all, also when older sets are gone.
        let mut top = at("c", 5, 1);
        top.annotations.insert("note".into(), json!("x"));
        assert!(changes(&m, &top, newest(&[at("b", 2, 0)], Some(&top))).is_empty());
        let long = (100..800).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let kept = history(&long, 801);
        assert!(kept.len() <= HISTORY_BYTES && kept.ends_with(",801"));
    }

    #[test]
    fn history_keeps_the_newest_and_whatever_still_runs() {
        let all = [at("c", 3, 0), at("a", 1, 2), at("b", 2, 0), at("d", 4, 0)];
        let gone = |limit| surplus(&all, limit).iter().map(|r| r.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(gone(2), ["b"]);
        assert_eq!(gone(0), ["b", "c", "d"]);
        assert!(gone(10).is_empty());
    }

    #[test]
    fn rollbacks() {
        let sets = Sets { new: Some(at("c", 3, 1)), old: vec![at("a", 1, 0), at("b", 2, 0)] };
        let present = sets.new.as_ref().map(|r| r.template.clone()).unwrap_or_default();
        let Rollback::To { revision, template, .. } = rollback(&sets, &present, 0) else {
            panic!("no rollback")
        };
        assert_eq!((revision, template), (2, json!({"metadata": {"labels": {}}, "spec": {"n": "b"}})));
        assert_eq!(rollback(&sets, &present, 3), Rollback::Unchanged(3));
        assert_eq!(
            rollback(&sets, &present, 7),
            Rollback::NotFound("Unable to find the revision to rollback to.")
        );
        let one = Sets { new: Some(at("c", 1, 1)), old: Vec::new() };
        assert_eq!(rollback(&one, &present, 0), Rollback::NotFound("Unable to find last revision."));
    }
}
