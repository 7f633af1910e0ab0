//! Requests must fit into what the node has left; scores prefer, by the profile's strategy, empty or full nodes, and those
//! whose resources would be used evenly.

use super::{Cycle, Refusal};
use crate::core::{FitStrategy, NodeInfo, PodInfo, Profile};

/// Resources that another scheduler's extender looks after.
fn ignored(profile: &Profile, name: &str) -> bool {
    profile.ignored_resources.contains(name)
        || name.split_once('/').is_some_and(|(group, _)| profile.ignored_groups.contains(group))
}

/// Every resource that is short is named, so that a person sees all of them at once.
pub fn filter(cycle: &Cycle<'_>, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let (want, used, have) = (&pod.requests, &node.used, &node.allocatable);
    let mut short = Vec::new();
    // More than the whole node: nobody who leaves helps.
    let mut lasting = false;
    if used.pods.saturating_add(want.pods) > have.pods {
        short.push("Too many pods".into());
        lasting |= want.pods > have.pods;
    }
    let mut check = |name: &str, want: i64, used: i64, have: i64| {
        if want > 0 && want > have.saturating_sub(used) {
            short.push(format!("Insufficient {name}").into());
            lasting |= want > have;
        }
    };
    check("cpu", want.cpu_milli, used.cpu_milli, have.cpu_milli);
    check("memory", want.memory, used.memory, have.memory);
    check("ephemeral-storage", want.ephemeral_storage, used.ephemeral_storage, have.ephemeral_storage);
    for (name, amount) in want.other.iter().filter(|(name, _)| !ignored(cycle.profile, name)) {
        check(name, *amount, used.of(name), have.of(name));
    }
    if short.is_empty() { Ok(()) } else { Err(Refusal { reasons: short, lasting }) }
}

/// What the pod asks of a resource, what is in use and what there is; pods without requests count a little.
fn share(pod: &PodInfo, node: &NodeInfo, name: &str) -> Option<(i64, i64)> {
    let have = node.allocatable.of(name);
    let wanted = match name {
        "cpu" => node.busy.0.saturating_add(pod.requests.wanted().0),
        "memory" => node.busy.1.saturating_add(pod.requests.wanted().1),
        "ephemeral-storage" => node.used.of(name).saturating_add(pod.requests.of(name)),
        other if pod.requests.of(other) == 0 => return None,
        other => node.used.of(other).saturating_add(pod.requests.of(other)),
    };
    (have > 0).then_some((wanted, have))
}

/// From 0 to 100, by the profile's strategy.
pub fn fit(profile: &Profile, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let (mut sum, mut weights) = (0i64, 0i64);
    for (name, weight) in &profile.fit_resources {
        let Some((wanted, have)) = share(pod, node, name) else { continue };
        let score = match &profile.strategy {
            FitStrategy::LeastAllocated => have.saturating_sub(wanted).max(0).saturating_mul(100) / have,
            FitStrategy::MostAllocated => wanted.min(have).saturating_mul(100) / have,
            FitStrategy::RequestedToCapacityRatio(points) => {
                let utilisation = if wanted > have { 100 } else { wanted.saturating_mul(100) / have };
                let score = between(points, utilisation);
                // What scores nothing does not count at all, as upstream has it.
                if score <= 0 {
                    continue;
                }
                score
            }
        };
        sum = sum.saturating_add(score.saturating_mul(*weight));
        weights += weight;
    }
    match (weights, &profile.strategy) {
        (0, _) => 0,
        // Rounded there, cut elsewhere.
        (w, FitStrategy::RequestedToCapacityRatio(_)) => (sum + w / 2) / w,
        (w, _) => sum / w,
    }
}

/// A line through the points, flat before the first and after the last.
fn between(points: &[(i64, i64)], at: i64) -> i64 {
    let mut last: Option<(i64, i64)> = None;
    for (x, y) in points {
        if at <= *x {
            return match last {
                Some((x0, y0)) if *x > x0 => y0 + (y - y0) * (at - x0) / (x - x0),
                _ => *y,
            };
        }
        last = Some((*x, *y));
    }
    last.map_or(0, |(_, y)| y)
}

/// From 50 to 100: how evenly resources are used, as the square root of the mean square distance from the mean.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn evenness(shares: impl Iterator<Item = (i64, i64)> + Clone) -> i64 {
    let fractions = || shares.clone().map(|(used, have)| (used as f64 / have as f64).min(1.0));
    let n = fractions().count();
    let deviation = match n {
        0 | 1 => 0.0,
        2 => {
            let (low, high) = fractions().fold((f64::MAX, f64::MIN), |(l, h), f| (l.min(f), h.max(f)));
            (high - low) / 2.0
        }
        n => {
            let mean = fractions().sum::<f64>() / n as f64;
            (fractions().map(|f| (f - mean) * (f - mean)).sum::<f64>() / n as f64).sqrt()
        }
    };
    ((1.0 - deviation) * 100.0) as i64
}

/// How much more evenly the node would be used with the pod: 75 when nothing changes, more when it gets better. Pods that
/// ask for nothing are not weighed, so that they do not all go to one node.
pub fn balanced(profile: &Profile, pod: &PodInfo, node: &NodeInfo) -> i64 {
    let names = || profile.balanced_resources.iter();
    if names().all(|n| pod.requests.of(n) == 0) {
        return 0;
    }
    let counts = |name: &&String| {
        node.allocatable.of(name) > 0
            && (matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || pod.requests.of(name) > 0)
    };
    let shares = |with: bool| {
        names().filter(counts).map(move |n| {
            let own = if with { pod.requests.of(n) } else { 0 };
            (node.used.of(n).saturating_add(own), node.allocatable.of(n))
        })
    };
    50 + (50 + evenness(shares(true)) - evenness(shares(false))) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_follows_its_points() {
        let points = [(0, 0), (40, 100), (100, 20)];
        for (at, want) in [(0, 0), (20, 50), (40, 100), (70, 60), (100, 20)] {
            assert_eq!(between(&points, at), want, "{at}");
        }
        assert_eq!(between(&[], 5), 0);
    }

    #[test]
    fn what_is_used_evenly_deviates_by_nothing() {
        for (shares, want) in [(vec![], 100), (vec![(1, 2), (2, 4)], 100), (vec![(0, 2), (2, 2)], 50)] {
            assert_eq!(evenness(shares.iter().copied()), want, "{shares:?}");
        }
        assert_eq!(evenness([(0, 3), (3, 3), (3, 3)].into_iter()), 52);
    }
}
