//! What each pod of this node was granted of the resources it asks for. A pod gets what it was taken with; a resize is
//! granted as soon as it fits beside what the others have, and waits until then. Grants outlive a restart in the
//! checkpoint, which holds pods with what they were granted. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::admission::{NodeView, fits};
use crate::containers::resources::request;
use crate::pod::{Container, Pending, Pod, Qos, Resources};
use crate::pod_worker::resize::same;

struct Grant {
    desired: Arc<Pod>,
    /// With the resources that were granted.
    given: Arc<Pod>,
}

#[derive(Default)]
pub struct Allocations {
    grants: HashMap<String, Grant>,
}

/// What people are told about a resize.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    Granted(Arc<Pod>),
    Waits(Arc<Pod>, Pending),
}

fn sizes(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.init_containers.iter().chain(&pod.spec.containers)
}

fn same_sizes(a: &Pod, b: &Pod) -> bool {
    let of = |p: &Pod, name: &str| sizes(p).find(|c| c.name == name).map(|c| c.resources.clone());
    same(&a.spec.resources, &b.spec.resources)
        && sizes(a).all(|c| of(b, &c.name).is_none_or(|r| same(&c.resources, &r)))
}

/// CPU and memory of what was granted, all else as asked for.
fn merge(desired: &Resources, granted: &Resources) -> Resources {
    let mut out = desired.clone();
    for name in ["cpu", "memory"] {
        for (to, from) in [(&mut out.requests, &granted.requests), (&mut out.limits, &granted.limits)] {
            match from.get(name) {
                Some(q) => to.insert(name.into(), q.clone()),
                None => to.remove(name),
            };
        }
    }
    out
}

fn with_sizes(desired: &Pod, granted: &Pod) -> Pod {
    let mut out = desired.clone();
    out.spec.resources = merge(&desired.spec.resources, &granted.spec.resources);
    for c in out.spec.init_containers.iter_mut().chain(&mut out.spec.containers) {
        if let Some(g) = sizes(granted).find(|g| g.name == c.name) {
            c.resources = merge(&c.resources, &g.resources);
        }
    }
    out
}

fn grows(g: &Grant) -> bool {
    ["cpu", "memory"].iter().any(|n| request(&g.desired, n) > request(&g.given, n))
}

impl Allocations {
    /// What the pod had before a restart.
    pub fn keep(&mut self, pod: Pod) {
        let pod = Arc::new(pod);
        self.grants.insert(pod.metadata.uid.clone(), Grant { desired: pod.clone(), given: pod });
    }

    pub fn forget(&mut self, uid: &str) {
        self.grants.remove(uid);
    }

    /// The pods as they are to run. `ended`: those that need nothing any more.
    pub fn decide(
        &mut self,
        wanted: &BTreeMap<String, Arc<Pod>>,
        node: &NodeView<'_>,
        ended: &dyn Fn(&Pod) -> bool,
        now: &str,
    ) -> (BTreeMap<String, Arc<Pod>>, Vec<News>) {
        for (uid, pod) in wanted {
            match self.grants.get_mut(uid) {
                Some(g) if Arc::ptr_eq(&g.desired, pod) => {}
                Some(g) => {
                    let mut given = with_sizes(pod, &g.given);
                    given.pending.clone_from(&g.given.pending);
                    let settled = same_sizes(pod, &given);
                    g.desired = pod.clone();
                    g.given = if settled { pod.clone() } else { Arc::new(given) };
                }
                None => {
                    self.grants.insert(uid.clone(), Grant { desired: pod.clone(), given: pod.clone() });
                }
            }
        }
        let mut waiting: Vec<String> = self
            .grants
            .iter()
            .filter(|(uid, g)| {
                wanted.contains_key(*uid) && !same_sizes(&g.desired, &g.given) && !ended(&g.desired)
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        // Who needs no more first, then by priority and class, then who waits longest.
        waiting.sort_by_cached_key(|uid| {
            self.grants.get(uid).map(|g| {
                let since = g.given.pending.as_ref().map(|p| p.since.clone());
                let priority = std::cmp::Reverse(g.desired.spec.priority.unwrap_or(0));
                let (grows, class) = (grows(g), g.desired.qos() != Qos::Guaranteed);
                (grows, priority, class, since.is_none(), since, uid.clone())
            })
        });
        let mut news = Vec::new();
        for uid in waiting {
            let others: Vec<Arc<Pod>> = wanted
                .iter()
                .filter(|(other, pod)| **other != uid && !ended(pod))
                .filter_map(|(other, _)| self.grants.get(other).map(|g| g.given.clone()))
                .collect();
            let Some(g) = self.grants.get_mut(&uid) else { continue };
            match fits(&g.desired, &NodeView { pods: &others, ..*node }) {
                Ok(()) => {
                    g.given = g.desired.clone();
                    news.push(News::Granted(g.given.clone()));
                }
                Err((_, message)) => {
                    let generation = g.desired.metadata.generation;
                    let old = g.given.pending.as_ref();
                    let since = old.map_or(now, |p| p.since.as_str()).to_owned();
                    let fresh = old.is_none_or(|p| p.generation != generation);
                    let pending = Pending { reason: "Deferred".into(), message, generation, since };
                    if old != Some(&pending) {
                        let mut given = (*g.given).clone();
                        given.pending = Some(pending.clone());
                        g.given = Arc::new(given);
                    }
                    if fresh {
                        news.push(News::Waits(g.desired.clone(), pending));
                    }
                }
            }
        }
        let given = |uid: &String| self.grants.get(uid).map(|g| (uid.clone(), g.given.clone()));
        (wanted.keys().filter_map(given).collect(), news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_ctx::Pressure;
    use crate::pod::Qty;
    use serde_json::json;

    fn pod(uid: &str, generation: i64, cpu: &str) -> (String, Arc<Pod>) {
        let v = json!({"metadata": {"uid": uid, "name": uid, "generation": generation}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        (uid.to_owned(), Arc::new(serde_json::from_value(v).expect("pod")))
    }

    #[test]
    fn a_resize_waits_for_room() {
        let allocatable: BTreeMap<String, Qty> = [("cpu", "1"), ("memory", "1Gi"), ("pods", "9")]
            .map(|(k, v)| (k.to_owned(), Qty(v.to_owned())))
            .into();
        let view =
            NodeView { allocatable: &allocatable, labels: None, pressure: Pressure::default(), pods: &[] };
        let mut all = Allocations::default();
        let mut step = |pods: Vec<(String, Arc<Pod>)>, ended: &str| {
            let (given, news) =
                all.decide(&pods.into_iter().collect(), &view, &|p| p.metadata.uid == ended, "t");
            let cpu = |p: &Arc<Pod>| p.spec.containers[0].resources.requests["cpu"].0.clone();
            let waits = |p: &Arc<Pod>| p.pending.as_ref().map(|p| p.generation);
            (given.values().map(|p| (cpu(p), waits(p))).collect::<Vec<_>>(), news.len())
        };
        let is = |cpu: &str, waits: Option<i64>| (cpu.to_owned(), waits);
        let (a, b) = (pod("a", 1, "400m"), pod("b", 1, "500m"));
        assert_eq!(step(vec![a.clone(), b.clone()], ""), (vec![is("400m", None), is("500m", None)], 0));
        // Too much beside b: what it had stays, once it is told.
        let more = pod("a", 2, "600m");
        let waiting = vec![is("400m", Some(2)), is("500m", None)];
        assert_eq!(step(vec![more.clone(), b.clone()], ""), (waiting.clone(), 1));
        assert_eq!(step(vec![more.clone(), b.clone()], ""), (waiting, 0));
        // Less for b makes room at once, whichever comes first.
        let less = pod("b", 2, "300m");
        assert_eq!(step(vec![more.clone(), less.clone()], ""), (vec![is("600m", None), is("300m", None)], 2));
        // What is taken back needs nothing.
        let huge = pod("a", 3, "2");
        assert_eq!(step(vec![huge, less.clone()], "").0[0], is("600m", Some(3)));
        let back = pod("a", 4, "0.6");
        assert_eq!(step(vec![back, less.clone()], ""), (vec![is("0.6", None), is("300m", None)], 0));
        // A pod that has ended holds nothing.
        let all_of_it = pod("a", 5, "1");
        assert_eq!(step(vec![all_of_it, less], "b").0[0], is("1", None));
    }
}
