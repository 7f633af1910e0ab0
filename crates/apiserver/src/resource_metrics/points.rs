//! From two scrapes to what something uses now: the rules of the metrics-server. Pure.

use std::collections::{BTreeMap, HashMap};

use super::parse::{PodKey, Point, Scrape};

/// A container younger than this has no rate yet unless it was seen twice.
const FRESH_MIN_MS: i64 = 10_000;

/// What is used, over which time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    pub at_ms: i64,
    pub window_ms: i64,
    /// Billionths of a core.
    pub nano_cores: u64,
    pub memory: u64,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    before: Option<Point>,
    last: Point,
}

#[derive(Default)]
struct Node {
    node: Option<Pair>,
    pods: BTreeMap<PodKey, BTreeMap<String, Pair>>,
}

/// The last two points of everything.
pub struct Points {
    resolution_ms: i64,
    nodes: BTreeMap<String, Node>,
    /// Which node told of a pod last.
    place: HashMap<PodKey, String>,
}

impl Points {
    pub fn new(resolution_ms: i64) -> Self {
        Self { resolution_ms, nodes: BTreeMap::new(), place: HashMap::new() }
    }

    pub fn clear(&mut self) {
        self.nodes.clear();
        self.place.clear();
    }

    /// Keeps what belongs to these nodes.
    pub fn retain(&mut self, there: impl Fn(&str) -> bool) {
        self.nodes.retain(|n, _| there(n));
        let nodes = &self.nodes;
        self.place.retain(|_, n| nodes.contains_key(n));
    }

    /// A node's newest scrape; what it does not tell of is gone.
    pub fn put(&mut self, node: &str, scrape: Scrape) {
        let old = self.nodes.remove(node).unwrap_or_default();
        let resolution = self.resolution_ms;
        let new = Node {
            node: scrape.node.map(|p| advance(old.node, p, resolution)),
            pods: scrape
                .pods
                .into_iter()
                .map(|(key, containers)| {
                    let before = old.pods.get(&key);
                    let one = |(name, p): (String, Point)| {
                        let pair = before.and_then(|c| c.get(&name)).copied();
                        (name, advance(pair, p, resolution))
                    };
                    let containers = containers.into_iter().map(one).collect();
                    (key, containers)
                })
                .collect(),
        };
        for key in old.pods.keys().filter(|k| !new.pods.contains_key(*k)) {
            if self.place.get(key).is_some_and(|n| n == node) {
                self.place.remove(key);
            }
        }
        for key in new.pods.keys() {
            self.place.insert(key.clone(), node.to_owned());
        }
        self.nodes.insert(node.to_owned(), new);
    }

    pub fn node(&self, name: &str) -> Option<Usage> {
        self.nodes.get(name)?.node.and_then(usage)
    }

    /// Containers by name; `None` while one of them was seen only once.
    pub fn pod(&self, key: &PodKey) -> Option<Vec<(String, Usage)>> {
        let containers = self.nodes.get(self.place.get(key)?)?.pods.get(key)?;
        if containers.values().any(|p| p.before.is_none()) {
            return None;
        }
        let all: Vec<_> = containers.iter().filter_map(|(n, p)| Some((n.clone(), usage(*p)?))).collect();
        (!all.is_empty()).then_some(all)
    }
}

fn advance(old: Option<Pair>, new: Point, resolution_ms: i64) -> Pair {
    let same_life = |p: &Point| new.start_ms.is_none_or(|s| s <= p.at_ms);
    let before = match old {
        // Measured once and told of twice.
        Some(old) if old.last.at_ms == new.at_ms => old.before,
        Some(old) if same_life(&old.last) && old.last.at_ms < new.at_ms => Some(old.last),
        _ => new.start_ms.and_then(|start| {
            let age = new.at_ms.saturating_sub(start);
            let fresh = (FRESH_MIN_MS..resolution_ms).contains(&age);
            fresh.then_some(Point { at_ms: start, start_ms: Some(start), cpu_nanos: 0, memory: 0 })
        }),
    };
    Pair { before, last: new }
}

fn usage(p: Pair) -> Option<Usage> {
    let before = p.before?;
    let window_ms = p.last.at_ms.saturating_sub(before.at_ms);
    let used = p.last.cpu_nanos.checked_sub(before.cpu_nanos)?;
    let per_second = u128::from(used) * 1000 / u128::try_from(window_ms).ok().filter(|w| *w > 0)?;
    Some(Usage {
        at_ms: p.last.at_ms,
        window_ms,
        nano_cores: u64::try_from(per_second).ok()?,
        memory: p.last.memory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_s: i64, start_s: i64, cpu_ms: u64) -> Point {
        Point { at_ms: at_s * 1000, start_ms: Some(start_s * 1000), cpu_nanos: cpu_ms * 1_000_000, memory: 5 }
    }

    /// Scrapes of one container, each as the time, its start and its CPU time; at the end window and millicores.
    fn after(scrapes: &[(i64, i64, u64)]) -> Option<(i64, u64)> {
        let key = ("n".to_owned(), "p".to_owned());
        let mut points = Points::new(15_000);
        for (at, start, cpu) in scrapes {
            let containers = BTreeMap::from([("c".to_owned(), point(*at, *start, *cpu))]);
            points.put("node", Scrape { node: None, pods: BTreeMap::from([(key.clone(), containers)]) });
        }
        let all = points.pod(&key)?;
        all.first().map(|(_, u)| (u.window_ms / 1000, u.nano_cores / 1_000_000))
    }

    #[test]
    fn rates_of_a_container() {
        for (scrapes, want) in [
            // Once seen, it has no rate; unless it is fresh, and then from its start.
            (&[(100, 10, 5)][..], None),
            (&[(100, 95, 5)], None),
            (&[(100, 88, 6000)], Some((12, 500))),
            (&[(100, 10, 1000), (115, 10, 4000)], Some((15, 200))),
            // The same measurement again.
            (&[(100, 10, 1000), (115, 10, 4000), (115, 10, 4000)], Some((15, 200))),
            (&[(100, 10, 1000), (100, 10, 1000)], None),
            // Started anew in between, a moment or longer ago.
            (&[(100, 10, 9000), (115, 110, 100)], None),
            (&[(100, 10, 9000), (115, 101, 1400)], Some((14, 100))),
            (&[(100, 10, 9000), (115, 110, 100), (130, 110, 3100)], Some((15, 200))),
            // A counter that went back without a new start.
            (&[(100, 10, 9000), (115, 10, 100)], None),
            (&[(115, 10, 9000), (100, 10, 100)], None),
        ] {
            assert_eq!(after(scrapes), want, "{scrapes:?}");
        }
    }

    #[test]
    fn a_pod_is_told_of_whole_or_not_at_all() {
        let key = ("n".to_owned(), "p".to_owned());
        let mut points = Points::new(15_000);
        let scrape = |names: &[&str], at| {
            let containers = names.iter().map(|n| ((*n).to_owned(), point(at, 10, 1000))).collect();
            Scrape { node: Some(point(at, 0, 10)), pods: BTreeMap::from([(key.clone(), containers)]) }
        };
        points.put("node", scrape(&["a"], 100));
        points.put("node", scrape(&["a", "b"], 115));
        assert!(points.pod(&key).is_none() && points.node("node").is_some());
        points.put("node", scrape(&["a", "b"], 130));
        assert_eq!(points.pod(&key).map(|c| c.len()), Some(2));
        // It came to another node, whose word counts from now on.
        points.put("other", scrape(&["a"], 131));
        assert!(points.pod(&key).is_none());
        points.put("other", Scrape::default());
        points.put("node", scrape(&["a", "b"], 140));
        assert_eq!(points.pod(&key).map(|c| c.len()), Some(2));
        points.put("node", Scrape::default());
        assert!(points.pod(&key).is_none() && points.node("node").is_none());
        points.put("node", scrape(&["a"], 145));
        points.retain(|n| n != "node");
        assert!(points.node("node").is_none());
    }
}
