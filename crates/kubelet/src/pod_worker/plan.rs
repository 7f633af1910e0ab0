//! The decision core of a pod worker: the pod, what the runtime has and the time in; actions out. Pure, tested by
//! tables. It is asked again after every event, so each answer only has to be right for now.

use std::collections::{BTreeSet, HashMap};

use cri::{ContainerState, ContainerStatus, PodSandboxState, PodSandboxStatus};

use crate::containers::config::HASH;
use crate::pod::{Container, Kind, Pod, RestartPolicy};
use crate::pod_worker::backoff::Backoffs;
use crate::pod_worker::resize::{Next, Sizes};

/// What probes know of one running container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// The startup probe passed, or there is none.
    pub started: bool,
    pub ready: bool,
    /// Set once liveness or startup failed: the container has to go.
    pub failed: Option<Failed>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    pub message: String,
    pub grace: Option<i64>,
}

/// Work that may fail and is then tried again later.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Prepare,
    Sandbox,
    StopSandbox,
    Resize,
    Start(String),
    TearDown,
    Finish,
}

/// Work that is under way.
#[derive(Debug, Clone, Default)]
pub struct Busy {
    pub prepare: bool,
    pub sandbox: bool,
    pub stop_sandbox: bool,
    pub resize: bool,
    pub start: Option<String>,
    /// Container id to the deadline its kill was given.
    pub kills: HashMap<String, i64>,
    pub tear_down: bool,
    pub finish: bool,
}

/// The pod has to end.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// When SIGKILL comes, in ms.
    pub deadline: i64,
    pub grace_seconds: i64,
    /// Set when the kubelet itself fails the pod (`Evicted`, `DeadlineExceeded`).
    pub failed: Option<(String, String)>,
    /// All containers ended by themselves; only what is left is cleaned.
    pub completed: bool,
}

pub struct View<'a> {
    pub pod: &'a Pod,
    pub sandboxes: &'a [PodSandboxStatus],
    pub containers: &'a [ContainerStatus],
    /// By container id.
    pub health: &'a HashMap<String, Health>,
    pub sizes: &'a Sizes,
    pub busy: &'a Busy,
    pub backoffs: &'a Backoffs,
    /// Until when a failed step rests.
    pub holds: &'a HashMap<Step, i64>,
    pub prepared: bool,
    pub torn_down: bool,
    pub stop: Option<&'a Stop>,
    /// ms since the epoch.
    pub now: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Prepare,
    CreateSandbox {
        attempt: u32,
    },
    StopSandbox {
        id: String,
    },
    RemoveSandbox {
        id: String,
    },
    RemoveContainer {
        id: String,
    },
    Start {
        kind: Kind,
        name: String,
        attempt: u32,
        backoff_key: String,
    },
    Kill {
        id: String,
        name: String,
        grace: i64,
        message: String,
        /// It is to run again whatever the restart policy says.
        renew: bool,
    },
    Resize(Next),
    /// Why a container that should run does not.
    Waiting {
        name: String,
        reason: &'static str,
        message: String,
    },
    /// Every container ended and none is to run again.
    Complete,
    /// The kubelet fails the pod.
    Fail {
        reason: &'static str,
        message: &'static str,
    },
    TearDown,
    Finish,
    Wake {
        at: i64,
    },
}

fn ms(nanos: i64) -> i64 {
    nanos / 1_000_000
}

impl<'a> View<'a> {
    /// The newest sandbox, if it is ready.
    pub fn sandbox(&self) -> Option<&'a PodSandboxStatus> {
        self.newest_sandbox().filter(|s| s.state == PodSandboxState::Ready)
    }
    fn newest_sandbox(&self) -> Option<&'a PodSandboxStatus> {
        self.sandboxes.iter().max_by_key(|s| (s.metadata.attempt, s.created_at))
    }
    /// The newest container of that name.
    pub fn newest(&self, name: &str) -> Option<&'a ContainerStatus> {
        newest(self.containers, name)
    }
    fn started(&self, c: &Container, st: &ContainerStatus) -> bool {
        match self.health.get(&st.id) {
            Some(h) => h.started,
            None => c.startup_probe.is_none(),
        }
    }
    fn next_attempt(&self, name: &str) -> u32 {
        match self.newest(name) {
            Some(c) => c.metadata.attempt.saturating_add(1),
            None => match self.pod.status.of(name) {
                // The runtime forgot it; the API remembers the count.
                Some(s) if !s.container_id.is_empty() => u32::try_from(s.restart_count + 1).unwrap_or(0),
                _ => 0,
            },
        }
    }
    fn runs_again(&self, kind: Kind, c: &Container, st: &ContainerStatus) -> bool {
        self.sizes.renew.contains(&c.name) || restarts(self.pod, kind, c, st.exit_code)
    }
    fn rests(&self, step: &Step, out: &mut Vec<Action>) -> bool {
        match self.holds.get(step) {
            Some(at) if *at > self.now => {
                out.push(Action::Wake { at: *at });
                true
            }
            _ => false,
        }
    }
}

pub fn newest<'a>(containers: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    containers.iter().filter(|c| c.metadata.name == name).max_by_key(|c| (c.metadata.attempt, c.created_at))
}

pub fn over(st: &ContainerStatus) -> bool {
    matches!(st.state, ContainerState::Exited | ContainerState::Unknown)
}

/// Whether a container that ended like this runs again.
pub fn restarts(pod: &Pod, kind: Kind, c: &Container, exit_code: i32) -> bool {
    let policy = match (kind, c.restart_policy.as_deref()) {
        (Kind::Ephemeral, _) => return false,
        (Kind::Sidecar, _) => return true,
        (_, Some("Never")) => RestartPolicy::Never,
        (_, Some("OnFailure")) => RestartPolicy::OnFailure,
        (_, Some("Always")) => RestartPolicy::Always,
        _ => pod.spec.policy(),
    };
    match (kind, policy) {
        (_, RestartPolicy::Never) => false,
        (Kind::Init, _) | (_, RestartPolicy::OnFailure) => exit_code != 0,
        _ => true,
    }
}

/// Every app container ended for good, or an init container did so with an error.
pub fn completed(v: &View<'_>) -> bool {
    let init_failed = v.pod.spec.init_containers.iter().any(|c| {
        let kind = c.init_kind();
        kind == Kind::Init
            && v.newest(&c.name)
                .is_some_and(|s| over(s) && s.exit_code != 0 && !restarts(v.pod, kind, c, s.exit_code))
    });
    init_failed
        || v.pod
            .spec
            .containers
            .iter()
            .all(|c| v.newest(&c.name).is_some_and(|s| over(s) && !v.runs_again(Kind::App, c, s)))
}

pub fn plan(v: &View<'_>) -> Vec<Action> {
    match v.stop {
        Some(stop) => plan_stop(v, stop),
        None => plan_run(v),
    }
}

fn plan_run(v: &View<'_>) -> Vec<Action> {
    let mut out = Vec::new();
    let pod = v.pod;
    if let (Some(limit), Some(start)) = (pod.spec.active_deadline_seconds, start_ms(pod)) {
        let at = start + limit * 1000;
        if v.now >= at {
            let message = "Pod was active on the node longer than the specified deadline";
            return vec![Action::Fail { reason: "DeadlineExceeded", message }];
        }
        out.push(Action::Wake { at });
    }
    if v.busy.start.is_none() && completed(v) {
        return vec![Action::Complete];
    }
    if !v.prepared && !v.busy.prepare && !v.rests(&Step::Prepare, &mut out) {
        out.push(Action::Prepare);
    }
    let Some(sandbox) = v.sandbox() else {
        want_sandbox(v, &mut out);
        return out;
    };
    old_sandboxes(v, sandbox, &mut out);
    kill_unhealthy(v, sandbox, &mut out);
    remove_old(v, &mut out);
    if !v.prepared || v.busy.start.is_some() || v.busy.resize {
        return out;
    }
    // Before anything starts that may need the room.
    if let Some(next) = v.sizes.next(pod, v.containers)
        && !v.rests(&Step::Resize, &mut out)
    {
        out.push(Action::Resize(next));
        return out;
    }
    for c in &pod.spec.ephemeral_containers {
        if v.newest(&c.name).is_none() && try_start(v, Kind::Ephemeral, c, None, &mut out) {
            return out;
        }
    }
    let here = |name: &str| v.newest(name).filter(|s| s.pod_sandbox_id == sandbox.id);
    let apps_begun = pod.spec.containers.iter().any(|c| here(&c.name).is_some());
    for c in &pod.spec.init_containers {
        let kind = c.init_kind();
        let st = here(&c.name);
        let waits = match st {
            _ if kind == Kind::Init && apps_begun => continue,
            None => {
                if try_start(v, kind, c, v.newest(&c.name), &mut out) {
                    return out;
                }
                true
            }
            Some(s) if over(s) && kind == Kind::Init && s.exit_code == 0 => false,
            Some(s) if over(s) => {
                if try_start(v, kind, c, Some(s), &mut out) {
                    return out;
                }
                true
            }
            Some(s) if kind == Kind::Sidecar => !v.started(c, s),
            Some(_) => true,
        };
        if waits && !apps_begun {
            return out;
        }
    }
    for c in &pod.spec.containers {
        let st = v.newest(&c.name);
        let start = match st {
            None => true,
            Some(s) => over(s) && v.runs_again(Kind::App, c, s),
        };
        if start && try_start(v, Kind::App, c, st, &mut out) {
            return out;
        }
    }
    out
}

fn start_ms(pod: &Pod) -> Option<i64> {
    let t = pod.status.start_time.as_deref()?;
    client::clock::parse(t).map(|t| t.as_millisecond())
}

/// There is no living sandbox: what ran in the dead one is put away, then a new one is made.
fn want_sandbox(v: &View<'_>, out: &mut Vec<Action>) {
    if v.busy.sandbox || v.busy.stop_sandbox {
        return;
    }
    let mut ids = BTreeSet::new();
    ids.extend(
        v.containers.iter().filter(|c| c.state == ContainerState::Running).map(|c| c.pod_sandbox_id.clone()),
    );
    if !ids.is_empty() {
        if !v.rests(&Step::StopSandbox, out) {
            out.extend(ids.into_iter().take(1).map(|id| Action::StopSandbox { id }));
        }
        return;
    }
    if !v.rests(&Step::Sandbox, out) {
        let attempt = v.newest_sandbox().map_or(0, |s| s.metadata.attempt.saturating_add(1));
        out.push(Action::CreateSandbox { attempt });
    }
}

fn old_sandboxes(v: &View<'_>, current: &PodSandboxStatus, out: &mut Vec<Action>) {
    if v.busy.stop_sandbox {
        return;
    }
    let mut old: Vec<_> = v.sandboxes.iter().filter(|s| s.id != current.id).collect();
    if let Some(s) = old.iter().find(|s| s.state == PodSandboxState::Ready) {
        out.push(Action::StopSandbox { id: s.id.clone() });
        return;
    }
    // The last dead one keeps the logs and states of what ran in it.
    old.sort_by_key(|s| s.created_at);
    old.pop();
    out.extend(old.into_iter().take(1).map(|s| Action::RemoveSandbox { id: s.id.clone() }));
}

fn kill_unhealthy(v: &View<'_>, sandbox: &PodSandboxStatus, out: &mut Vec<Action>) {
    for (kind, c) in v.pod.all() {
        let Some(st) = v.newest(&c.name).filter(|s| s.state == ContainerState::Running) else { continue };
        if v.busy.kills.contains_key(&st.id) || v.busy.start.as_deref() == Some(&c.name) {
            continue;
        }
        let changed = kind != Kind::Ephemeral
            && kind != Kind::Init
            && st.annotations.get(HASH).is_some_and(|h| !h.is_empty() && *h != c.hash());
        let failed = v.health.get(&st.id).and_then(|h| h.failed.as_ref());
        let default = v.pod.spec.termination_grace_period_seconds.unwrap_or(30);
        let resized = kind != Kind::Ephemeral && v.sizes.wants_restart(c, st);
        let (message, grace) = match failed {
            Some(f) => (f.message.clone(), f.grace.unwrap_or(default)),
            None if changed => {
                (format!("Container {} definition changed, will be restarted", c.name), default)
            }
            None if resized => (format!("Container {} resize requires restart", c.name), default),
            None if st.pod_sandbox_id != sandbox.id => {
                (format!("Container {} belongs to a sandbox that is gone", c.name), 0)
            }
            None => continue,
        };
        let renew = failed.is_none() && (changed || resized);
        out.push(Action::Kill { id: st.id.clone(), name: c.name.clone(), grace, message, renew });
    }
}

/// Of each container the newest and the one before it stay, for `logs --previous` and `lastState`.
fn remove_old(v: &View<'_>, out: &mut Vec<Action>) {
    let mut by_name: HashMap<&str, Vec<&ContainerStatus>> = HashMap::new();
    for c in v.containers {
        by_name.entry(&c.metadata.name).or_default().push(c);
    }
    for list in by_name.values_mut() {
        list.sort_by_key(|c| (c.metadata.attempt, c.created_at));
        let n = list.len().saturating_sub(2);
        out.extend(
            list.iter().take(n).filter(|c| over(c)).map(|c| Action::RemoveContainer { id: c.id.clone() }),
        );
    }
}

pub fn backoff_key(c: &Container) -> String {
    format!("{}:{}", c.name, c.hash())
}

fn try_start(
    v: &View<'_>,
    kind: Kind,
    c: &Container,
    previous: Option<&ContainerStatus>,
    out: &mut Vec<Action>,
) -> bool {
    if v.rests(&Step::Start(c.name.clone()), out) {
        return false;
    }
    let key = backoff_key(c);
    if let Some(p) = previous.filter(|p| over(p)) {
        let finished = ms(if p.finished_at > 0 { p.finished_at } else { p.created_at });
        if let Some((at, delay)) = v.backoffs.until(&key, finished, v.now) {
            out.push(Action::Waiting {
                name: c.name.clone(),
                reason: "CrashLoopBackOff",
                message: format!(
                    "back-off {} restarting failed container={} pod={}_{}({})",
                    go_duration(delay / 1000),
                    c.name,
                    v.pod.metadata.name,
                    v.pod.metadata.namespace,
                    v.pod.metadata.uid
                ),
            });
            out.push(Action::Wake { at });
            return false;
        }
    }
    out.push(Action::Start {
        kind,
        name: c.name.clone(),
        attempt: v.next_attempt(&c.name),
        backoff_key: key,
    });
    true
}

/// Seconds as Go prints a duration: `10s`, `2m40s`.
pub fn go_duration(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

/// Apps first and together, then sidecars from the last to the first, then the sandbox, then the rest.
fn plan_stop(v: &View<'_>, stop: &Stop) -> Vec<Action> {
    let mut out = Vec::new();
    if v.busy.start.is_some() || v.busy.sandbox || v.busy.prepare || v.busy.resize {
        return out;
    }
    let running: Vec<(Kind, &ContainerStatus)> = v
        .containers
        .iter()
        .filter(|c| c.state == ContainerState::Running)
        .map(|c| (v.pod.container(&c.metadata.name).map_or(Kind::App, |(k, _)| k), c))
        .collect();
    let left = |min: i64| ((stop.deadline - v.now + 999) / 1000).max(min);
    let mut kill = |st: &ContainerStatus, grace: i64| {
        let again = v.busy.kills.get(&st.id).is_none_or(|d| *d > stop.deadline.max(v.now));
        if again {
            out.push(Action::Kill {
                id: st.id.clone(),
                name: st.metadata.name.clone(),
                grace,
                message: format!("Stopping container {}", st.metadata.name),
                renew: false,
            });
        }
    };
    let apps: Vec<_> = running.iter().filter(|(k, _)| *k != Kind::Sidecar).collect();
    if !apps.is_empty() {
        apps.iter().for_each(|(_, st)| kill(st, left(0)));
        return out;
    }
    let order =
        |st: &ContainerStatus| v.pod.spec.init_containers.iter().position(|c| c.name == st.metadata.name);
    if let Some((_, st)) = running.iter().max_by_key(|(_, st)| order(st)) {
        if !v.busy.kills.contains_key(&st.id) || stop.grace_seconds == 0 {
            kill(st, if stop.grace_seconds == 0 { 0 } else { left(2) });
        }
        return out;
    }
    if !v.busy.kills.is_empty() || v.busy.stop_sandbox || v.busy.tear_down || v.busy.finish {
        return out;
    }
    if let Some(s) = v.sandboxes.iter().find(|s| s.state == PodSandboxState::Ready) {
        if !v.rests(&Step::StopSandbox, &mut out) {
            out.push(Action::StopSandbox { id: s.id.clone() });
        }
        return out;
    }
    if !v.torn_down {
        if !v.rests(&Step::TearDown, &mut out) {
            out.push(Action::TearDown);
        }
        return out;
    }
    if v.pod.deleting() && !v.rests(&Step::Finish, &mut out) {
        out.push(Action::Finish);
    }
    out
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
