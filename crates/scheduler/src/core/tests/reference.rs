//! The scheduler once more, slow and plain: it looks at every pod on every node for every decision, by names. What the core
//! keeps from one pod to the next must come to the same.

use std::collections::HashMap;

use api::placement::tolerated;

use super::*;

type Counts = HashMap<(String, String), i64>;

/// What the reference says of one pod: the nodes that do with their scores, or none.
pub fn judge(cache: &Cache, pod: &PodInfo) -> Vec<(String, i64)> {
    let company = Company::new(cache, pod);
    let feasible: Vec<&NodeInfo> = cache
        .nodes()
        .iter()
        .filter(|n| alone(pod, n) && company.fits(pod, n) && spreads(cache, pod, n))
        .collect();
    let mut totals = vec![0i64; feasible.len()];
    let mut add = |raw: Vec<i64>, weight: i64| totals.iter_mut().zip(raw).for_each(|(t, r)| *t += r * weight);
    if feasible.len() > 1 {
        let each = |f: &dyn Fn(&NodeInfo) -> i64| feasible.iter().map(|n| f(n)).collect::<Vec<i64>>();
        add(scaled(each(&|n| soft_taints(pod, n)), true), 3);
        add(scaled(each(&|n| preferences(pod, n)), false), 2);
        add(each(&|n| least(pod, n)), 1);
        add(each(&|n| balance(pod, n)), 1);
        add(scaled(each(&|n| Company::sum(&company.preferred, n)), false), 2);
        add(even(cache, pod, &feasible), 2);
    }
    feasible.iter().map(|n| n.name.clone()).zip(totals).collect()
}

fn scaled(raw: Vec<i64>, reversed: bool) -> Vec<i64> {
    let max = raw.iter().copied().max().unwrap_or(0);
    let min = raw.iter().copied().min().unwrap_or(0).min(0);
    let of = |r: i64| if max == min { 0 } else { (r - min) * 100 / (max - min) };
    raw.into_iter().map(|r| if reversed { 100 - of(r) } else { of(r) }).collect()
}

fn bears(pod: &PodInfo, n: &NodeInfo) -> bool {
    n.taints.iter().all(|t| t.effect == "PreferNoSchedule" || tolerated(t, &pod.tolerations))
}

fn allows(pod: &PodInfo, n: &NodeInfo) -> bool {
    let required = |terms: &Vec<NodeTerm>| terms.iter().any(|t| t.matches(&n.name, &n.labels));
    pod.node_selector.iter().all(|(k, v)| n.labels.get(k) == Some(v))
        && pod.node_required.as_ref().is_none_or(required)
}

fn used(n: &NodeInfo) -> (i64, i64, i64) {
    n.pods.iter().fold((0, 0, 0), |(c, m, p), o| {
        (c + o.requests.cpu_milli, m + o.requests.memory, p + o.requests.pods)
    })
}

fn alone(pod: &PodInfo, n: &NodeInfo) -> bool {
    let (cpu, memory, pods) = used(n);
    !n.unschedulable
        && bears(pod, n)
        && allows(pod, n)
        && pods + pod.requests.pods <= n.allocatable.pods
        // A pod that asks for nothing fits on a node that is over-full.
        && (pod.requests.cpu_milli == 0 || cpu + pod.requests.cpu_milli <= n.allocatable.cpu_milli)
        && (pod.requests.memory == 0 || memory + pod.requests.memory <= n.allocatable.memory)
        && !pod.host_ports.iter().any(|w| n.pods.iter().flat_map(|p| &p.host_ports).any(|h| h.collides(w)))
}

fn soft_taints(pod: &PodInfo, n: &NodeInfo) -> i64 {
    let soft = |t: &&Taint| t.effect == "PreferNoSchedule" && !tolerated(t, &pod.tolerations);
    i64::try_from(n.taints.iter().filter(soft).count()).expect("few")
}

fn preferences(pod: &PodInfo, n: &NodeInfo) -> i64 {
    pod.node_preferred.iter().filter(|(_, t)| t.matches(&n.name, &n.labels)).map(|(w, _)| w).sum()
}

fn least(pod: &PodInfo, n: &NodeInfo) -> i64 {
    let wanted = |p: &PodInfo| {
        let or = |v: i64, d: i64| if v > 0 { v } else { d };
        (or(p.requests.cpu_milli, 100), or(p.requests.memory, 200 << 20))
    };
    let all = n.pods.iter().map(|p| wanted(p)).chain([wanted(pod)]);
    let (cpu, memory) = all.fold((0, 0), |(c, m), (x, y)| (c + x, m + y));
    let left = |used: i64, have: i64| if used > have { 0 } else { (have - used) * 100 / have };
    (left(cpu, n.allocatable.cpu_milli) + left(memory, n.allocatable.memory)) / 2
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn balance(pod: &PodInfo, n: &NodeInfo) -> i64 {
    if pod.requests.cpu_milli == 0 && pod.requests.memory == 0 {
        return 0;
    }
    let (cpu, memory, _) = used(n);
    let score = |cpu: i64, memory: i64| {
        let share = |used: i64, have: i64| (used as f64 / have as f64).min(1.0);
        let (c, m) = (share(cpu, n.allocatable.cpu_milli), share(memory, n.allocatable.memory));
        ((1.0 - ((c - m) / 2.0).abs()) * 100.0) as i64
    };
    let with = score(cpu + pod.requests.cpu_milli, memory + pod.requests.memory);
    50 + (50 + with - score(cpu, memory)) / 2
}

/// Pod affinity and anti-affinity, counted by key and value.
#[derive(Default)]
struct Company {
    affinity: Counts,
    by_own: Counts,
    by_others: Counts,
    preferred: Counts,
    first: bool,
}

impl Company {
    fn add(counts: &mut Counts, n: &NodeInfo, t: &PodTerm, by: i64) {
        if let Some(v) = n.labels.get(&t.topology_key) {
            *counts.entry((t.topology_key.clone(), v.clone())).or_default() += by;
        }
    }

    fn new(cache: &Cache, pod: &PodInfo) -> Self {
        let ns = cache.namespaces();
        let mut s = Self::default();
        for n in cache.nodes() {
            for other in &n.pods {
                if !pod.affinity.is_empty() && pod.affinity.iter().all(|t| t.matches(other, ns)) {
                    pod.affinity.iter().for_each(|t| Self::add(&mut s.affinity, n, t, 1));
                }
                for t in pod.anti_affinity.iter().filter(|t| t.matches(other, ns)) {
                    Self::add(&mut s.by_own, n, t, 1);
                }
                for t in other.anti_affinity.iter().filter(|t| t.matches(pod, ns)) {
                    Self::add(&mut s.by_others, n, t, 1);
                }
                for t in pod.preferred.iter().filter(|t| t.matches(other, ns)) {
                    Self::add(&mut s.preferred, n, t, t.weight);
                }
                for t in other.preferred.iter().filter(|t| t.matches(pod, ns)) {
                    Self::add(&mut s.preferred, n, t, t.weight);
                }
                for t in other.affinity.iter().filter(|t| t.matches(pod, ns)) {
                    Self::add(&mut s.preferred, n, t, 1);
                }
            }
        }
        s.first = s.affinity.is_empty() && pod.affinity.iter().all(|t| t.matches(pod, ns));
        s
    }

    fn sum(counts: &Counts, n: &NodeInfo) -> i64 {
        counts.iter().filter(|((k, v), _)| n.labels.get(k) == Some(v)).map(|(_, c)| c).sum()
    }

    fn fits(&self, pod: &PodInfo, n: &NodeInfo) -> bool {
        let meets = |t: &PodTerm| {
            n.labels.get(&t.topology_key).is_some_and(|v| {
                self.first || self.affinity.contains_key(&(t.topology_key.clone(), v.clone()))
            })
        };
        pod.affinity.iter().all(meets)
            && Self::sum(&self.by_own, n) == 0
            && Self::sum(&self.by_others, n) == 0
    }
}

fn matching(c: &Spread, pod: &PodInfo, n: &NodeInfo) -> i64 {
    let counted = |o: &&Arc<PodInfo>| {
        !o.deleting
            && o.namespace == pod.namespace
            && c.selector.as_ref().is_some_and(|s| !s.is_empty() && selects(s, &o.labels))
    };
    i64::try_from(n.pods.iter().filter(counted).count()).expect("few")
}

fn counts_here(c: &Spread, pod: &PodInfo, n: &NodeInfo) -> bool {
    (!c.honor_affinity || allows(pod, n)) && (!c.honor_taints || bears(pod, n))
}

fn spreads(cache: &Cache, pod: &PodInfo, n: &NodeInfo) -> bool {
    let hard: Vec<&Spread> = pod.spread.iter().filter(|c| c.hard).collect();
    let has_all = |n: &NodeInfo| hard.iter().all(|c| n.labels.contains_key(&c.topology_key));
    hard.iter().all(|c| {
        let mut counts: HashMap<&str, i64> = HashMap::new();
        for n in cache.nodes().iter().filter(|n| has_all(n) && counts_here(c, pod, n)) {
            *counts.entry(&n.labels[&c.topology_key]).or_default() += matching(c, pod, n);
        }
        let least =
            if counts.len() < c.min_domains { 0 } else { *counts.values().min().unwrap_or(&i64::MAX) };
        let Some(v) = n.labels.get(&c.topology_key) else { return false };
        let own = i64::from(c.selector.as_ref().is_some_and(|s| selects(s, &pod.labels)));
        (counts.get(v.as_str()).unwrap_or(&0) + own).saturating_sub(least) <= c.max_skew
    })
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn even(cache: &Cache, pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let own = !pod.spread.is_empty();
    let soft: Vec<Spread> = match own {
        true => pod.spread.iter().filter(|c| !c.hard).cloned().collect(),
        false => crate::plugins::pod_topology_spread::defaults(cache, &Profile::default(), pod),
    };
    if soft.is_empty() {
        return vec![0; nodes.len()];
    }
    let eligible = |n: &NodeInfo| !own || soft.iter().all(|c| n.labels.contains_key(&c.topology_key));
    let value = |c: &Spread, n: &NodeInfo| n.labels.get(&c.topology_key).cloned().unwrap_or_default();
    let raw: Vec<Option<i64>> = nodes
        .iter()
        .map(|n| {
            eligible(n).then(|| {
                let parts = soft.iter().filter(|c| n.labels.contains_key(&c.topology_key)).map(|c| {
                    let domains: std::collections::BTreeSet<String> =
                        nodes.iter().filter(|n| eligible(n)).map(|n| value(c, n)).collect();
                    let there = cache.nodes().iter().filter(|o| eligible(o) && counts_here(c, pod, o));
                    let here: i64 =
                        there.filter(|o| value(c, o) == value(c, n)).map(|o| matching(c, pod, o)).sum();
                    here as f64 * (domains.len() as f64 + 2.0).ln() + (c.max_skew - 1) as f64
                });
                parts.sum::<f64>().round() as i64
            })
        })
        .collect();
    let max = raw.iter().flatten().copied().max().unwrap_or(0);
    let min = raw.iter().flatten().copied().min().unwrap_or(0);
    let of = |r: &Option<i64>| match r {
        None => 0,
        Some(_) if max == 0 => 100,
        Some(r) => 100 * (max + min - r) / max,
    };
    raw.iter().map(of).collect()
}
