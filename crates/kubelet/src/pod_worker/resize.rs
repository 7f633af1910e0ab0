//! Resizing in place: what the containers that run were last given, how that differs from what the pod was granted, and
//! the one step that closes the gap. Growth reaches the pod's cgroup before its containers, shrinking after them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cri::{ContainerState, ContainerStatus, LinuxContainerResources};
use serde_json::json;

use crate::containers::config::RESOURCES;
use crate::containers::resources::{self, PodLimits, ceiling, cgroup_steps, pod_cgroup, pod_limits};
use crate::hooks::cgroup;
use crate::node_ctx::Node;
use crate::pod::{Container, Kind, Pod, Resources};
use crate::pod_worker::Worker;
use crate::pod_worker::ops::{Done, STEP_RETRY};
use crate::pod_worker::plan::{Step, newest};
use crate::podstatus::ResourcesStatus;
use crate::quantity;

#[derive(Debug, Clone, Default)]
pub struct Sizes {
    /// What each container has, by its id.
    pub actual: HashMap<String, Resources>,
    /// What the pod's cgroup was set to.
    pub applied: Option<PodLimits>,
    /// Of the pod when it was last granted other resources.
    pub generation: i64,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// Containers that were killed to start anew, whatever the restart policy says.
    pub renew: BTreeSet<String>,
    /// A resize has been told of that is not yet told complete.
    told: bool,
}

fn differs(a: &Resources, b: &Resources, name: &str) -> bool {
    let value = |q: &crate::pod::Quantities| q.get(name).and_then(|q| quantity::parse(&q.0));
    value(&a.requests) != value(&b.requests) || value(&a.limits) != value(&b.limits)
}

/// Whether two containers' CPU and memory are the same amounts.
pub fn same(a: &Resources, b: &Resources) -> bool {
    !differs(a, b, "cpu") && !differs(a, b, "memory")
}

impl Sizes {
    /// Learns of new containers from what they were made with, forgets those that are gone.
    pub fn note(&mut self, pod: &Pod, containers: &[ContainerStatus]) {
        self.actual.retain(|id, _| containers.iter().any(|c| c.id == *id));
        for st in containers {
            if self.actual.contains_key(&st.id) {
                continue;
            }
            let made = st.annotations.get(RESOURCES).and_then(|t| serde_json::from_str(t).ok());
            let now = || pod.container(&st.metadata.name).map(|(_, c)| c.resources.clone());
            if let Some(r) = made.or_else(now) {
                self.actual.insert(st.id.clone(), r);
            }
        }
    }

    /// The running container does not have what it was granted.
    pub fn outdated(&self, c: &Container, st: &ContainerStatus) -> bool {
        st.state == ContainerState::Running && self.actual.get(&st.id).is_some_and(|a| !same(a, &c.resources))
    }

    /// It is to have it by being started anew.
    pub fn wants_restart(&self, c: &Container, st: &ContainerStatus) -> bool {
        let by_restart = |name: &str| {
            let policy = c.resize_policy.iter().find(|p| p.resource_name == name);
            policy.is_some_and(|p| p.restart_policy == "RestartContainer")
        };
        let actual = self.actual.get(&st.id);
        self.outdated(c, st)
            && ["cpu", "memory"]
                .iter()
                .any(|n| by_restart(n) && actual.is_some_and(|a| differs(a, &c.resources, n)))
    }

    /// Whether anything that runs still differs from what the pod was granted.
    pub fn in_progress(&self, pod: &Pod, containers: &[ContainerStatus]) -> bool {
        resizable(pod, containers).any(|(c, st)| self.outdated(c, st))
            || self.applied.is_some_and(|a| a != pod_limits(pod))
    }

    /// What the next step has to do; `None` when there is nothing, or nothing before a container has ended.
    pub fn next(&self, pod: &Pod, containers: &[ContainerStatus]) -> Option<Next> {
        let live =
            resizable(pod, containers).any(|(c, st)| self.outdated(c, st) && !self.wants_restart(c, st));
        let restarts = resizable(pod, containers).any(|(c, st)| self.wants_restart(c, st));
        let applied = self.applied?;
        let target = pod_limits(pod);
        let limits = if restarts { ceiling(applied, target) } else { target };
        (live || limits != applied).then_some(Next { applied, limits })
    }
}

/// From which limits of the pod to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub applied: PodLimits,
    pub limits: PodLimits,
}

/// Ephemeral containers have no resources.
fn resizable<'a>(
    pod: &'a Pod,
    containers: &'a [ContainerStatus],
) -> impl Iterator<Item = (&'a Container, &'a ContainerStatus)> {
    pod.all()
        .filter(|(k, _)| *k != Kind::Ephemeral)
        .filter_map(|(_, c)| newest(containers, &c.name).map(|st| (c, st)))
}

/// The sentence of an event, with what the pod asks for.
pub fn message(prefix: &str, pod: &Pod, generation: i64, error: &str) -> String {
    let list = |all: &[Container]| -> Vec<serde_json::Value> {
        let of = |c: &Container| ResourcesStatus {
            limits: c.resources.limits.clone(),
            requests: c.resources.requests.clone(),
        };
        all.iter().map(|c| json!({"name": c.name, "resources": of(c)})).collect()
    };
    let mut summary = serde_json::Map::new();
    for (key, all) in [("initContainers", &pod.spec.init_containers), ("containers", &pod.spec.containers)] {
        if !all.is_empty() {
            summary.insert(key.into(), list(all).into());
        }
    }
    summary.insert("generation".into(), generation.into());
    if !error.is_empty() {
        summary.insert("error".into(), error.into());
    }
    format!("{prefix}: {}", serde_json::Value::Object(summary))
}

/// One container's part of a resize.
struct Change {
    id: String,
    name: String,
    from: Resources,
    to: Resources,
    cri: LinuxContainerResources,
}

impl Change {
    fn memory(r: &Resources) -> i64 {
        r.limits.get("memory").map_or(0, |q| quantity::whole(&q.0))
    }
    fn shrinks(&self) -> bool {
        let (from, to) = (Self::memory(&self.from), Self::memory(&self.to));
        to > 0 && (from == 0 || to < from)
    }
}

pub struct Resized {
    pub done: Vec<(String, Resources)>,
    pub applied: PodLimits,
    pub error: Option<String>,
}

impl Worker {
    pub(crate) fn resize(&mut self, next: Next) {
        self.busy.resize = true;
        let changes: Vec<Change> = resizable(&self.pod, &self.containers)
            .filter(|(c, st)| self.sizes.outdated(c, st) && !self.sizes.wants_restart(c, st))
            .map(|(c, st)| Change {
                id: st.id.clone(),
                name: c.name.clone(),
                from: self.sizes.actual.get(&st.id).cloned().unwrap_or_default(),
                to: c.resources.clone(),
                cri: resources::container(&self.pod, c, self.node.memory_capacity),
            })
            .collect();
        let sandbox = self.ready_sandbox().map(|s| s.id.clone()).unwrap_or_default();
        let (node, pod) = (self.node.clone(), self.pod.clone());
        self.ops.spawn(async move { Done::Resized(apply(&node, &pod, &sandbox, changes, next).await) });
    }

    pub(crate) fn resized(&mut self, r: Resized) {
        self.busy.resize = false;
        self.sizes.actual.extend(r.done);
        self.sizes.applied = Some(r.applied);
        match r.error {
            None => {
                self.holds.remove(&Step::Resize);
                self.sizes.error = None;
            }
            Some(e) => {
                self.hold(Step::Resize, STEP_RETRY);
                if self.sizes.error.as_ref() != Some(&e) {
                    let text = message("Pod resize error", &self.pod, self.sizes.generation, &e);
                    self.node.recorder.warning(self.node.about_pod(&self.pod), "ResizeError", text);
                }
                self.sizes.error = Some(e);
            }
        }
    }

    /// Tells once when a resize is through.
    pub(crate) fn tend_resize(&mut self) {
        self.sizes.note(&self.pod, &self.containers);
        if self.sizes.in_progress(&self.pod, &self.containers) {
            self.sizes.told = true;
        } else if std::mem::take(&mut self.sizes.told) && self.stop.is_none() {
            self.sizes.error = None;
            let text = message("Pod resize completed", &self.pod, self.sizes.generation, "");
            self.node.recorder.normal(self.node.about_pod(&self.pod), "ResizeCompleted", text);
        }
    }
}

async fn apply(node: &Arc<Node>, pod: &Pod, sandbox: &str, mut changes: Vec<Change>, next: Next) -> Resized {
    let mut out = Resized { done: Vec::new(), applied: next.applied, error: None };
    if let Err(e) = viable(node, sandbox, &changes, next).await {
        out.error = Some(e);
        return out;
    }
    let set = |limits: PodLimits| {
        if !node.cfg.manage_cgroups {
            return Ok(());
        }
        let path = pod_cgroup(&node.cfg.cgroup_root, pod);
        cgroup::apply(&cgroup_steps(&node.layout, &path, limits, 0))
    };
    let most = ceiling(next.applied, next.limits);
    if let Err(e) = set(most) {
        out.error = Some(e);
        return out;
    }
    out.applied = most;
    changes.sort_by_key(|c| !c.shrinks());
    for c in changes {
        if let Err(e) = node.runtime.update_container_resources(&c.id, &c.cri).await {
            out.error = Some(format!("failed to update container {}: {e}", c.name));
            return out;
        }
        out.done.push((c.id, c.to));
    }
    match set(next.limits) {
        Ok(()) => out.applied = next.limits,
        Err(e) => out.error = Some(e),
    }
    out
}

/// A limit below what is in use is refused before anything is changed.
async fn viable(node: &Node, sandbox: &str, changes: &[Change], next: Next) -> Result<(), String> {
    let mut faults = Vec::new();
    let mut look = |what: String, missing: String, limit: i64, used: Option<u64>| match used {
        None => faults.push(format!("missing {missing} memory usage")),
        Some(n) if n >= u64::try_from(limit).unwrap_or(0) => {
            faults.push(format!("attempting to set {what} memory limit ({limit}) below current usage ({n})"));
        }
        Some(_) => {}
    };
    let (from, to) = (next.applied.memory, next.limits.memory);
    if to > 0 && (from == 0 || to < from) && !sandbox.is_empty() {
        let used = node.runtime.pod_sandbox_stats(sandbox).await.ok().and_then(|s| s.memory.usage_bytes);
        look("pod".into(), "pod".into(), to, used);
    }
    for c in changes.iter().filter(|c| c.shrinks()) {
        let used = node.runtime.container_stats(&c.id).await.ok().and_then(|s| s.memory.usage_bytes);
        let name = format!("container {:?}", c.name);
        look(name.clone(), name, Change::memory(&c.to), used);
    }
    match faults.as_slice() {
        [] => Ok(()),
        [one] => Err(format!("cannot decrease memory limits: {one}")),
        many => Err(format!("cannot decrease memory limits: [{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(cpu: &str, memory: &str) -> Resources {
        serde_json::from_value(json!({"requests": {"cpu": cpu}, "limits": {"memory": memory}}))
            .expect("resources")
    }

    #[test]
    fn what_a_resize_needs() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [
            {"name": "a", "resources": resources("200m", "20Mi"),
             "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}]}}))
        .expect("pod");
        let c = &pod.spec.containers[0];
        let mut st = ContainerStatus { id: "1".into(), state: ContainerState::Running, ..Default::default() };
        st.metadata.name = "a".into();
        let all = [st.clone()];
        let mut sizes = Sizes { applied: Some(pod_limits(&pod)), ..Sizes::default() };
        sizes.note(&pod, &all);
        assert!(!sizes.in_progress(&pod, &all) && sizes.next(&pod, &all).is_none());
        // The same amount in other words, more CPU in place, more memory by a restart.
        for (had, outdated, restart) in [
            (resources("0.2", "20480Ki"), false, false),
            (resources("100m", "20Mi"), true, false),
            (resources("200m", "10Mi"), true, true),
        ] {
            sizes.actual.insert("1".into(), had.clone());
            assert_eq!((sizes.outdated(c, &st), sizes.wants_restart(c, &st)), (outdated, restart), "{had:?}");
        }
        // Until the old container has ended the pod has room for both.
        let small = PodLimits { shares: 2, quota: 0, memory: 10 << 20 };
        sizes.applied = Some(small);
        let next = sizes.next(&pod, &all).expect("the pod's cgroup grows first");
        assert_eq!(next.limits, ceiling(small, pod_limits(&pod)));
    }

    #[test]
    fn events_name_what_is_asked_for() {
        let pod: Pod = serde_json::from_value(
            json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]}}),
        )
        .expect("pod");
        assert_eq!(
            message("Pod resize started", &pod, 2, ""),
            r#"Pod resize started: {"containers":[{"name":"a","resources":{"requests":{"cpu":"1"}}}],"generation":2}"#
        );
    }
}
