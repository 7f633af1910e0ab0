//! `PodStatus` from the pod, what the runtime has and what probes know. Pure.

use std::collections::HashMap;

use cri::{ContainerState, ContainerStatus as CriStatus};

use crate::hooks::container::POST_START_ERROR;
use crate::pod::{Container, Kind, Pod, Quantities, RestartPolicy};
use crate::pod_worker::plan::{Health, Stop, over};
use crate::pod_worker::resize::Sizes;
use crate::podstatus::{
    Condition, ContainerStatus, Ip, MountStatus, PodStatus, ResourcesStatus, Running, State, Terminated,
    Waiting,
};

pub struct Input<'a> {
    pub pod: &'a Pod,
    /// The status of before, for transition times and what the runtime forgot.
    pub old: &'a PodStatus,
    pub pod_ips: &'a [String],
    pub host_ips: &'a [String],
    pub sandbox_ready: bool,
    pub containers: &'a [CriStatus],
    pub health: &'a HashMap<String, Health>,
    pub sizes: &'a Sizes,
    pub waiting: &'a HashMap<String, Waiting>,
    /// The container whose start is under way.
    pub starting: Option<&'a str>,
    /// Termination messages by container id.
    pub messages: &'a HashMap<String, String>,
    pub stop: Option<&'a Stop>,
    /// Nothing runs any more and nothing will.
    pub terminal: bool,
    /// The name of the runtime, the scheme of container ids.
    pub runtime: &'a str,
    /// RFC 3339.
    pub now: &'a str,
}

fn time(nanos: i64) -> Option<String> {
    if nanos <= 0 {
        return None;
    }
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).ok().map(client::clock::rfc3339)
}

fn terminated(st: &CriStatus, i: &Input<'_>) -> Terminated {
    let reason = match (st.reason.as_str(), st.exit_code) {
        ("", 0) => "Completed".to_owned(),
        ("", _) => "Error".to_owned(),
        (r, _) => r.to_owned(),
    };
    Terminated {
        exit_code: st.exit_code,
        signal: 0,
        reason,
        message: i
            .messages
            .get(&st.id)
            .cloned()
            .filter(|m| !m.is_empty())
            .unwrap_or_else(|| st.message.clone()),
        started_at: time(st.started_at).or_else(|| Some("1970-01-01T00:00:00Z".into())),
        finished_at: time(st.finished_at).or_else(|| time(st.created_at)),
        container_id: format!("{}://{}", i.runtime, st.id),
    }
}

/// Made but not yet running, or running while its postStart hook has not succeeded.
fn being_started(i: &Input<'_>, c: &Container, st: &CriStatus) -> bool {
    match st.state {
        ContainerState::Created => true,
        ContainerState::Running => {
            c.lifecycle.post_start.is_some()
                && (i.starting == Some(c.name.as_str())
                    || i.waiting.get(&c.name).is_some_and(|w| w.reason == POST_START_ERROR))
        }
        _ => false,
    }
}

/// Of a running container what it has, else what it will have.
fn resources(i: &Input<'_>, c: &Container, newest: Option<&CriStatus>) -> ResourcesStatus {
    let running = newest.filter(|s| s.state == ContainerState::Running);
    let has = running.and_then(|s| i.sizes.actual.get(&s.id));
    let of = |granted: &Quantities, actual: Option<&Quantities>| {
        let mut out = granted.clone();
        for name in ["cpu", "memory"] {
            if let Some(a) = actual {
                match a.get(name) {
                    Some(q) => out.insert(name.into(), q.clone()),
                    None => out.remove(name),
                };
            }
        }
        out
    };
    ResourcesStatus {
        limits: of(&c.resources.limits, has.map(|r| &r.limits)),
        requests: of(&c.resources.requests, has.map(|r| &r.requests)),
    }
}

fn container(i: &Input<'_>, kind: Kind, c: &Container, init_done: bool) -> ContainerStatus {
    let mut all: Vec<&CriStatus> = i.containers.iter().filter(|s| s.metadata.name == c.name).collect();
    all.sort_by_key(|s| (s.metadata.attempt, s.created_at));
    let waiting = i.waiting.get(&c.name);
    let mut newest = all.pop();
    // Until a container is wholly started, the one before it is what there is.
    if newest.is_some_and(|n| being_started(i, c, n)) && all.last().is_some_and(|p| over(p)) {
        newest = all.pop();
    }
    let previous = all.pop().filter(|p| over(p));
    let old = i.old.of(&c.name);
    let mut out =
        ContainerStatus { name: c.name.clone(), image: c.image.clone(), ..ContainerStatus::default() };
    match newest {
        Some(st) => {
            out.restart_count = i64::from(st.metadata.attempt);
            out.container_id = format!("{}://{}", i.runtime, st.id);
            if !st.image.user_specified_image.is_empty() {
                out.image.clone_from(&st.image.user_specified_image);
            }
            out.image_id.clone_from(if st.image_ref.is_empty() { &st.image_id } else { &st.image_ref });
            match st.state {
                _ if being_started(i, c, st) => {
                    out.state = State::waiting("ContainerCreating", "");
                    out.started = Some(false);
                }
                ContainerState::Running => {
                    out.state.running = Some(Running { started_at: time(st.started_at) });
                    let h = i.health.get(&st.id);
                    let started = h.map_or(c.startup_probe.is_none(), |h| h.started);
                    out.started = Some(started);
                    out.ready = started
                        && h.map_or(c.readiness_probe.is_none(), |h| h.ready)
                        && kind != Kind::Ephemeral
                        && kind != Kind::Init;
                }
                _ => {
                    out.started = Some(false);
                    let t = terminated(st, i);
                    match waiting {
                        Some(w) if !i.terminal => {
                            out.state.waiting = Some(w.clone());
                            out.last_state.terminated = Some(t);
                        }
                        _ => {
                            out.ready = kind == Kind::Init && st.exit_code == 0;
                            out.state.terminated = Some(t);
                        }
                    }
                }
            }
            if out.last_state.terminated.is_none() {
                out.last_state.terminated = previous.map(|p| terminated(p, i));
            }
            if out.last_state.terminated.is_none()
                && let Some(o) = old.filter(|o| o.container_id == out.container_id)
            {
                out.last_state = o.last_state.clone();
            }
            if let Some(u) = &st.user {
                out.user = Some(serde_json::json!({"linux": {"uid": u.uid, "gid": u.gid,
                    "supplementalGroups": u.supplemental_groups}}));
            }
        }
        None => {
            out.started = Some(false);
            match old.filter(|o| i.terminal && o.state.terminated.is_some()) {
                // The runtime forgot it (a reboot after the end): what was known stays.
                Some(o) => return o.clone(),
                None if i.terminal && old.is_some_and(|o| o.state.running.is_some()) => {
                    out = old.cloned().unwrap_or_default();
                    out.ready = false;
                    out.started = Some(false);
                    out.state = State::default();
                    out.state.terminated = Some(Terminated {
                        exit_code: 137,
                        reason: "ContainerStatusUnknown".into(),
                        message: "The container could not be located when the pod was terminated".into(),
                        started_at: Some("1970-01-01T00:00:00Z".into()),
                        finished_at: Some(i.now.to_owned()),
                        container_id: out.container_id.clone(),
                        ..Terminated::default()
                    });
                }
                None => {
                    if let Some(o) = old.filter(|o| !o.container_id.is_empty()) {
                        out.restart_count = o.restart_count;
                        out.last_state = if o.state.terminated.is_some() {
                            State { terminated: o.state.terminated.clone(), ..State::default() }
                        } else {
                            o.last_state.clone()
                        };
                    }
                    let reason =
                        if init_done || kind != Kind::App && kind != Kind::Sidecar && kind != Kind::Init {
                            "ContainerCreating"
                        } else {
                            "PodInitializing"
                        };
                    out.state.waiting = Some(
                        waiting.cloned().unwrap_or(Waiting { reason: reason.into(), message: String::new() }),
                    );
                }
            }
        }
    }
    if kind != Kind::Ephemeral {
        out.allocated_resources = c.resources.requests.clone();
    }
    out.resources = Some(resources(i, c, newest));
    out.volume_mounts = c
        .volume_mounts
        .iter()
        .map(|m| MountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: m.read_only,
            recursive_read_only: m
                .read_only
                .then(|| m.recursive_read_only.clone().unwrap_or_else(|| "Disabled".into())),
        })
        .collect();
    out
}

/// Whether every init container has done its part, with the names of those that have not.
fn incomplete(pod: &Pod, st: &[ContainerStatus]) -> Vec<String> {
    let done = |c: &Container, s: &ContainerStatus| match c.init_kind() {
        Kind::Sidecar => {
            s.started == Some(true) || s.last_state.terminated.is_some() || s.state.terminated.is_some()
        }
        _ => s.state.terminated.as_ref().is_some_and(|t| t.exit_code == 0),
    };
    let pairs = pod.spec.init_containers.iter().zip(st);
    pairs.filter(|(c, s)| !done(c, s)).map(|(c, _)| c.name.clone()).collect()
}

/// Upstream's phase from container states.
fn phase(i: &Input<'_>, init: &[ContainerStatus], apps: &[ContainerStatus]) -> &'static str {
    let (pod, terminal) = (i.pod, i.terminal);
    let policy = pod.spec.policy();
    let mut pending_init = false;
    for (c, s) in pod.spec.init_containers.iter().zip(init) {
        if c.init_kind() == Kind::Sidecar {
            let ok =
                s.started == Some(true) || s.state.terminated.is_some() || s.last_state.terminated.is_some();
            pending_init |= !ok;
            continue;
        }
        match &s.state.terminated {
            Some(t) if t.exit_code == 0 => {}
            Some(_) if policy == RestartPolicy::Never || terminal => return "Failed",
            _ => pending_init = true,
        }
    }
    let (mut running, mut waiting, mut stopped, mut ok) = (0, 0, 0, 0);
    for s in apps {
        if s.state.running.is_some() || !terminal && i.sizes.renew.contains(&s.name) {
            running += 1;
        } else if let Some(t) = &s.state.terminated {
            stopped += 1;
            ok += i32::from(t.exit_code == 0);
        } else if s.last_state.terminated.is_some() {
            stopped += 1;
        } else {
            waiting += 1;
        }
    }
    if terminal && running == 0 {
        return if stopped > 0 && waiting == 0 && stopped == ok { "Succeeded" } else { "Failed" };
    }
    let apps_begun = running + stopped > 0;
    if pending_init && !apps_begun {
        return "Pending";
    }
    match (waiting, running, stopped) {
        (w, _, _) if w > 0 => "Pending",
        (_, r, _) if r > 0 => "Running",
        (_, _, s) if s > 0 => match policy {
            RestartPolicy::Always => "Running",
            _ if stopped == ok => "Succeeded",
            RestartPolicy::Never => "Failed",
            RestartPolicy::OnFailure => "Running",
        },
        _ => "Pending",
    }
}

pub fn compute(i: &Input<'_>) -> PodStatus {
    let pod = i.pod;
    let mut out = PodStatus { observed_generation: pod.metadata.generation, ..PodStatus::default() };
    out.qos_class = pod.qos().as_str().into();
    out.init_container_statuses =
        pod.spec.init_containers.iter().map(|c| container(i, c.init_kind(), c, false)).collect();
    let todo = incomplete(pod, &out.init_container_statuses);
    let init_done = todo.is_empty();
    out.container_statuses =
        pod.spec.containers.iter().map(|c| container(i, Kind::App, c, init_done)).collect();
    let eph = pod.spec.ephemeral_containers.iter();
    out.ephemeral_container_statuses = eph.map(|c| container(i, Kind::Ephemeral, c, true)).collect();
    out.phase = phase(i, &out.init_container_statuses, &out.container_statuses).into();
    if matches!(i.old.phase.as_str(), "Failed" | "Succeeded") {
        out.phase.clone_from(&i.old.phase);
        out.reason.clone_from(&i.old.reason);
        out.message.clone_from(&i.old.message);
    }
    if let Some((reason, message)) = i.stop.and_then(|s| s.failed.as_ref()) {
        out.phase = "Failed".into();
        out.reason.clone_from(reason);
        out.message.clone_from(message);
    }
    // Nobody may take a pod for ended while something of it still runs (a sidecar, a slow stop).
    let alive = i.containers.iter().any(|c| c.state == ContainerState::Running);
    if alive
        && matches!(out.phase.as_str(), "Failed" | "Succeeded")
        && !matches!(i.old.phase.as_str(), "Failed" | "Succeeded")
    {
        out.phase = "Running".into();
    }
    out.start_time = i.old.start_time.clone().or_else(|| Some(i.now.to_owned()));
    out.host_ip = i.host_ips.first().cloned().unwrap_or_default();
    out.host_ips = i.host_ips.iter().map(|ip| Ip { ip: ip.clone() }).collect();
    let ips: Vec<String> = if pod.spec.host_network {
        i.host_ips.to_vec()
    } else if i.pod_ips.is_empty() {
        i.old.pod_ips.iter().map(|p| p.ip.clone()).filter(|_| i.terminal).collect()
    } else {
        i.pod_ips.to_vec()
    };
    out.pod_ip = ips.first().cloned().unwrap_or_default();
    out.pod_ips = ips.into_iter().map(|ip| Ip { ip }).collect();
    conditions(i, &mut out, &todo);
    out
}

fn conditions(i: &Input<'_>, out: &mut PodStatus, todo: &[String]) {
    let pod = i.pod;
    let phase = out.phase.clone();
    let unready: Vec<&str> = {
        let sidecars = pod.spec.init_containers.iter().zip(&out.init_container_statuses);
        let sidecars = sidecars.filter(|(c, _)| c.init_kind() == Kind::Sidecar).map(|(_, s)| s);
        out.container_statuses.iter().chain(sidecars).filter(|s| !s.ready).map(|s| s.name.as_str()).collect()
    };
    let join = |names: &[&str]| names.join(" ");
    let ready: (bool, &str, String) = match phase.as_str() {
        "Succeeded" => (false, "PodCompleted", String::new()),
        "Failed" => (false, "PodFailed", String::new()),
        _ if unready.is_empty() => (true, "", String::new()),
        _ => (false, "ContainersNotReady", format!("containers with unready status: [{}]", join(&unready))),
    };
    let names: Vec<&str> = todo.iter().map(String::as_str).collect();
    let initialized = match phase.as_str() {
        "Succeeded" => (true, "PodCompleted", String::new()),
        _ if todo.is_empty() => (true, "", String::new()),
        _ => (
            false,
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{}]", join(&names)),
        ),
    };
    let gates: Vec<&str> = pod
        .spec
        .readiness_gates
        .iter()
        .map(|g| g.condition_type.as_str())
        .filter(|g| !pod.status.is_true(g))
        .collect();
    let pod_ready = if ready.0 && !gates.is_empty() {
        let list: Vec<String> = gates
            .iter()
            .map(|g| match pod.status.condition(g) {
                Some(_) => format!("the status of pod readiness gate \"{g}\" is not \"True\", but False"),
                None => format!("corresponding condition of pod readiness gate \"{g}\" does not exist."),
            })
            .collect();
        (false, "ReadinessGatesNotReady", list.join(", "))
    } else {
        ready.clone()
    };
    let sandbox = (i.sandbox_ready && !out.pod_ips.is_empty(), "", String::new());
    let mut add = |kind: &str, (yes, reason, message): (bool, &str, String), generation: i64| {
        let status = if yes { "True" } else { "False" };
        let old = i.old.condition(kind).filter(|c| c.status == status);
        out.conditions.push(Condition {
            kind: kind.into(),
            observed_generation: generation,
            status: status.into(),
            last_probe_time: None,
            last_transition_time: old
                .and_then(|c| c.last_transition_time.clone())
                .or_else(|| Some(i.now.to_owned())),
            reason: reason.into(),
            message,
        });
    };
    if let Some(p) = pod.pending.as_ref().filter(|_| !i.terminal) {
        add("PodResizePending", (true, &p.reason, p.message.clone()), p.generation);
    }
    if !i.terminal && i.sizes.in_progress(pod, i.containers) {
        let (reason, message) = i.sizes.error.as_ref().map_or(("", ""), |e| ("Error", e));
        add("PodResizeInProgress", (true, reason, message.to_owned()), i.sizes.generation);
    }
    let generation = pod.metadata.generation;
    let mut add = |kind: &str, what: (bool, &str, String)| add(kind, what, generation);
    add("PodReadyToStartContainers", sandbox);
    add("Initialized", initialized);
    add("Ready", pod_ready);
    add("ContainersReady", ready);
    if let Some((reason, message)) = i.stop.and_then(|s| s.failed.as_ref())
        && reason == "Evicted"
    {
        add("DisruptionTarget", (true, "TerminationByKubelet", message.clone()));
    }
    if pod.is_static() {
        add("PodScheduled", (true, "", String::new()));
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
