//! The arithmetic of a rollout, pure: how many pods each ReplicaSet should have next.

use api::int_or_string;
use serde_json::Value;

use super::sets::{DESIRED, MAX_REPLICAS, Rs, Sets};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    Recreate,
    Rolling { surge: i64, unavailable: i64 },
}

impl Strategy {
    pub fn parse(v: &Value, desired: i64) -> Self {
        if v["type"] == "Recreate" {
            return Strategy::Recreate;
        }
        let r = &v["rollingUpdate"];
        // The API has validated both; what can't be read counts as the default.
        let (surge, unavailable) =
            int_or_string::resolve_fenceposts(&r["maxSurge"], &r["maxUnavailable"], desired)
                .unwrap_or((1, 0));
        Strategy::Rolling { surge, unavailable: unavailable.min(desired) }
    }
    pub fn surge(&self) -> i64 {
        match self {
            Strategy::Recreate => 0,
            Strategy::Rolling { surge, .. } => *surge,
        }
    }
    pub fn unavailable(&self) -> i64 {
        match self {
            Strategy::Recreate => 0,
            Strategy::Rolling { unavailable, .. } => *unavailable,
        }
    }
}

/// The deployment's size changed since its ReplicaSets were last sized.
pub fn is_scaling(sets: &Sets, desired: i64) -> bool {
    sets.iter().any(|r| r.replicas > 0 && r.annotation_number(DESIRED).is_some_and(|d| d != desired))
}

/// The size of the new ReplicaSet: up to the desired one as far as the surge leaves room.
pub fn new_replicas(sets: &Sets, desired: i64, strategy: &Strategy) -> i64 {
    let now = sets.new.as_ref().map_or(0, |r| r.replicas);
    match strategy {
        Strategy::Recreate => desired,
        Strategy::Rolling { surge, .. } => {
            let room = desired + surge - sets.total();
            if room <= 0 { now.min(desired) } else { (now + room.min(desired - now)).max(0) }
        }
    }
}

/// One step of a rolling update: grow the new set, or shrink the old ones as far as availability allows.
pub fn step(sets: &Sets, desired: i64, strategy: &Strategy) -> Vec<(String, i64)> {
    let Some(new) = &sets.new else { return Vec::new() };
    let grown = new_replicas(sets, desired, strategy);
    let target = if new.replicas > desired { desired } else { grown };
    if target != new.replicas {
        return vec![(new.object.name().to_owned(), target)];
    }
    let old_total: i64 = sets.old.iter().map(|r| r.replicas).sum();
    if old_total == 0 {
        return Vec::new();
    }
    let min_available = desired - strategy.unavailable();
    let new_unavailable = new.replicas - new.available;
    let mut budget = sets.total() - min_available - new_unavailable;
    if budget <= 0 {
        return Vec::new();
    }
    let mut out: Vec<(String, i64)> = Vec::new();
    let mut sizes: Vec<i64> = sets.old.iter().map(|r| r.replicas).collect();
    // First those that serve nobody.
    for (rs, size) in sets.old.iter().zip(sizes.iter_mut()) {
        let unhealthy = (*size - rs.available).max(0).min(budget);
        *size -= unhealthy;
        budget -= unhealthy;
    }
    // Then healthy ones, as long as enough stay available.
    let mut spare = sets.available() - min_available;
    for size in &mut sizes {
        let n = spare.min(*size).max(0);
        *size -= n;
        spare -= n;
    }
    for (rs, size) in sets.old.iter().zip(sizes) {
        if size != rs.replicas {
            out.push((rs.object.name().to_owned(), size));
        }
    }
    out
}

/// The new set carries the whole deployment.
fn is_saturated(sets: &Sets, desired: i64) -> bool {
    sets.new.as_ref().is_some_and(|n| {
        n.replicas == desired
            && n.available == desired
            && n.annotation_number(DESIRED).is_none_or(|d| d == desired)
    })
}

/// Sizes after the deployment was scaled: a lone active set takes it all; in the middle of a rollout each set gets its
/// share of the change, the largest ones first, and what rounding leaves goes to the largest.
pub fn proportional(sets: &Sets, desired: i64, strategy: &Strategy) -> Vec<(String, i64)> {
    let mut active: Vec<&Rs> = sets.iter().filter(|r| r.replicas > 0).collect();
    let sole = match active.as_slice() {
        [] => sets.new.as_ref().or(sets.old.last()),
        [one] => Some(*one),
        _ => None,
    };
    if let Some(one) = sole {
        return vec![(one.name().to_owned(), desired)];
    }
    if is_saturated(sets, desired) {
        return sets.old.iter().filter(|r| r.replicas > 0).map(|r| (r.name().to_owned(), 0)).collect();
    }
    let Strategy::Rolling { surge, .. } = strategy else { return Vec::new() };
    let allowed = if desired > 0 { desired + surge } else { 0 };
    let change = allowed - active.iter().map(|r| r.replicas).sum::<i64>();
    // Among equals growth goes to the newer ones, and the older ones shrink.
    active.sort_by(|a, b| {
        let age = Rs::older(a, b);
        b.replicas.cmp(&a.replicas).then(if change > 0 { age.reverse() } else { age })
    });
    let before = sets.status_total();
    let mut left = change;
    let mut out: Vec<(String, i64)> = Vec::with_capacity(active.len());
    for rs in &active {
        let n = if left == 0 { 0 } else { share(rs, desired, desired + surge, before) };
        let n = if change > 0 { n.min(left) } else { n.max(left) };
        left -= n;
        out.push((rs.name().to_owned(), rs.replicas + n));
    }
    if let Some(first) = out.first_mut() {
        first.1 = (first.1 + left).max(0);
    }
    out
}

/// How much a set grows or shrinks when what all may have together changes to `allowed`, rounded to the nearest.
fn share(rs: &Rs, desired: i64, allowed: i64, before: i64) -> i64 {
    if desired == 0 {
        return -rs.replicas;
    }
    let base = rs.annotation_number(MAX_REPLICAS).filter(|m| *m > 0).unwrap_or(before);
    if base <= 0 {
        return 0;
    }
    (2 * rs.replicas * allowed + base).div_euclid(2 * base) - rs.replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::sets::tests::rs;
    use serde_json::json;

    #[test]
    fn a_rolling_update_never_breaks_its_bounds_and_ends() {
        for (desired, surge, unavailable) in [(1, 1, 0), (4, 1, 1), (10, 3, 2), (3, 0, 1), (5, 5, 5)] {
            let strategy = Strategy::Rolling { surge, unavailable };
            let mut sets = Sets { new: Some(rs("new", 0, 0)), old: vec![rs("a", desired, desired)] };
            for _ in 0..200 {
                for (name, n) in step(&sets, desired, &strategy) {
                    if let Some(r) = sets.iter_mut().find(|r| r.object.name() == name) {
                        r.replicas = n;
                        r.available = r.available.min(n);
                    }
                }
                assert!(sets.total() <= desired + surge, "too many for {desired} {surge} {unavailable}");
                assert!(
                    sets.available() >= desired - unavailable,
                    "too few for {desired} {surge} {unavailable}"
                );
                // One pod becomes available at a time.
                if let Some(r) = sets.iter_mut().find(|r| r.available < r.replicas) {
                    r.available += 1;
                }
            }
            assert_eq!(sets.new.as_ref().map(|r| (r.replicas, r.available)), Some((desired, desired)));
            assert_eq!(sets.old.iter().map(|r| r.replicas).sum::<i64>(), 0);
        }
    }

    #[test]
    fn a_stuck_new_set_keeps_the_old_one_serving() {
        let strategy = Strategy::Rolling { surge: 1, unavailable: 0 };
        let sets = Sets { new: Some(rs("new", 1, 0)), old: vec![rs("a", 3, 3)] };
        assert!(step(&sets, 3, &strategy).is_empty());
    }

    #[test]
    fn scaling_in_the_middle_keeps_proportions_and_the_sum() {
        let strategy = Strategy::Rolling { surge: 3, unavailable: 2 };
        let sets = Sets { new: Some(rs("new", 5, 0)), old: vec![rs("a", 8, 8)] };
        let out = proportional(&sets, 15, &strategy);
        assert_eq!(out.iter().map(|(_, n)| n).sum::<i64>(), 18);
        let down = proportional(&sets, 5, &strategy);
        assert_eq!(down.iter().map(|(_, n)| n).sum::<i64>(), 8);
    }

    #[test]
    fn shares_follow_what_was_allowed_before() {
        let sized = |name: &str, replicas: i64, max: i64| {
            let mut r = rs(name, replicas, replicas);
            r.annotations.insert(MAX_REPLICAS.into(), json!(max.to_string()));
            r
        };
        let go = |new: Rs, old: Vec<Rs>, desired: i64, surge: i64| {
            let mut out = proportional(
                &Sets { new: Some(new), old },
                desired,
                &Strategy::Rolling { surge, unavailable: 0 },
            );
            out.sort();
            out
        };
        let sizes =
            |pairs: &[(&str, i64)]| pairs.iter().map(|(n, s)| ((*n).to_owned(), *s)).collect::<Vec<_>>();
        // Twice as many: everybody doubles.
        assert_eq!(go(sized("new", 2, 12), vec![sized("a", 10, 12)], 20, 4), sizes(&[("a", 20), ("new", 4)]));
        // To nothing, everybody goes.
        assert_eq!(go(sized("new", 2, 12), vec![sized("a", 10, 12)], 0, 0), sizes(&[("a", 0), ("new", 0)]));
        // One more among equals goes to the newer by name, the same age given.
        assert_eq!(go(sized("new", 5, 10), vec![sized("a", 5, 10)], 11, 0), sizes(&[("a", 5), ("new", 6)]));
        // A saturated new set ends the old ones.
        assert_eq!(go(rs("new", 3, 3), vec![rs("a", 1, 1)], 3, 1), sizes(&[("a", 0)]));
    }
}
