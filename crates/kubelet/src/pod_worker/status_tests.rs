//! Tables for the pod status.

use super::*;
use serde_json::{Value, json};

struct Case {
    pod: Pod,
    old: PodStatus,
    containers: Vec<CriStatus>,
    health: HashMap<String, Health>,
    sizes: Sizes,
    waiting: HashMap<String, Waiting>,
    starting: Option<&'static str>,
    stop: Option<Stop>,
    terminal: bool,
}

impl Case {
    fn new(spec: Value) -> Self {
        let pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}),
        );
        Self {
            pod: pod.expect("pod"),
            old: PodStatus::default(),
            containers: vec![],
            health: HashMap::new(),
            sizes: Sizes::default(),
            waiting: HashMap::new(),
            starting: None,
            stop: None,
            terminal: false,
        }
    }
    fn with(mut self, name: &str, attempt: u32, state: ContainerState, code: i32) -> Self {
        let mut c =
            CriStatus { id: format!("{name}{attempt}"), state, exit_code: code, ..Default::default() };
        c.metadata.name = name.into();
        c.metadata.attempt = attempt;
        c.started_at = 1_700_000_000_000_000_000;
        c.finished_at = c.started_at;
        self.containers.push(c);
        self
    }
    fn status(&self) -> PodStatus {
        compute(&Input {
            pod: &self.pod,
            old: &self.old,
            pod_ips: &["10.0.0.5".to_owned()],
            host_ips: &["192.168.0.1".to_owned()],
            sandbox_ready: true,
            containers: &self.containers,
            health: &self.health,
            sizes: &self.sizes,
            waiting: &self.waiting,
            starting: self.starting,
            messages: &HashMap::new(),
            stop: self.stop.as_ref(),
            terminal: self.terminal,
            runtime: "fake",
            now: "2026-01-01T00:00:00Z",
        })
    }
}

use ContainerState::{Exited, Running as Up};

#[test]
fn a_start_under_way_shows_what_was_before() {
    let waiting = |s: &PodStatus| s.container_statuses[0].state.waiting.clone().map(|w| w.reason);
    let hook =
        json!({"containers": [{"name": "c", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}]});
    let mut c = Case::new(hook).with("c", 0, Up, 0);
    assert!(c.status().container_statuses[0].ready);
    c.starting = Some("c");
    let s = c.status();
    assert_eq!((waiting(&s).as_deref(), s.phase.as_str()), (Some("ContainerCreating"), "Pending"));
    // The hook failed: not running, until it is gone.
    c.starting = None;
    c.waiting.insert("c".into(), Waiting { reason: POST_START_ERROR.into(), message: String::new() });
    assert_eq!(waiting(&c.status()).as_deref(), Some("ContainerCreating"));
    c.containers[0].state = Exited;
    assert_eq!(waiting(&c.status()).as_deref(), Some(POST_START_ERROR));
    // A restart keeps the last state, and its count, until the new container runs.
    let restart = Case::new(json!({"containers": [{"name": "c"}]})).with("c", 0, Exited, 1).with(
        "c",
        1,
        ContainerState::Created,
        0,
    );
    let s = &restart.status().container_statuses[0];
    assert_eq!((s.restart_count, s.state.terminated.as_ref().map(|t| t.exit_code)), (0, Some(1)));
}

#[test]
fn phases() {
    let one = |policy: &str| Case::new(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
    for (case, want) in [
        (one("Always"), "Pending"),
        (one("Always").with("a", 0, Up, 0), "Running"),
        (one("Always").with("a", 0, Exited, 1), "Running"),
        (one("OnFailure").with("a", 0, Exited, 1), "Running"),
        (one("OnFailure").with("a", 0, Exited, 0), "Succeeded"),
        (one("Never").with("a", 0, Exited, 3), "Failed"),
    ] {
        assert_eq!(case.status().phase, want);
    }
    let mut ended = one("Always").with("a", 0, Exited, 143);
    ended.terminal = true;
    assert_eq!(ended.status().phase, "Failed");
    let init = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let s = Case::new(init).with("i", 0, Up, 0).status();
    assert_eq!(s.phase, "Pending");
    assert_eq!(
        s.container_statuses[0].state.waiting.as_ref().map(|w| w.reason.as_str()),
        Some("PodInitializing")
    );
    let c = s.condition("Initialized").expect("condition");
    assert_eq!((c.status.as_str(), c.message.as_str()), ("False", "containers with incomplete status: [i]"));
}

#[test]
fn readiness_follows_probes_and_gates() {
    let spec = json!({"containers": [{"name": "a", "readinessProbe": {}}], "readinessGates": [{"conditionType": "x/y"}]});
    let mut c = Case::new(spec).with("a", 0, Up, 0);
    let s = c.status();
    assert!(!s.is_true("ContainersReady"));
    assert_eq!(s.condition("Ready").map(|c| c.message.as_str()), Some("containers with unready status: [a]"));
    c.health.insert("a0".into(), Health { started: true, ready: true, failed: None });
    let s = c.status();
    assert!(s.is_true("ContainersReady") && !s.is_true("Ready"));
    c.pod.status.conditions.push(Condition {
        kind: "x/y".into(),
        status: "True".into(),
        ..Default::default()
    });
    assert!(c.status().is_true("Ready"));
}

#[test]
fn a_crash_loop_shows_waiting_and_last_state() {
    let mut c = Case::new(json!({"containers": [{"name": "a"}]})).with("a", 1, Exited, 7);
    c.waiting.insert("a".into(), Waiting { reason: "CrashLoopBackOff".into(), message: "m".into() });
    let s = c.status();
    let a = &s.container_statuses[0];
    assert_eq!(a.state.waiting.as_ref().map(|w| w.reason.as_str()), Some("CrashLoopBackOff"));
    assert_eq!(a.last_state.terminated.as_ref().map(|t| t.exit_code), Some(7));
    assert_eq!((a.restart_count, s.phase.as_str()), (1, "Running"));
}

#[test]
fn transition_times_change_with_the_status_only() {
    let mut c = Case::new(json!({"containers": [{"name": "a"}]})).with("a", 0, Up, 0);
    c.old = c.status();
    c.old.conditions.iter_mut().for_each(|c| c.last_transition_time = Some("2025-01-01T00:00:00Z".into()));
    assert_eq!(c.status(), c.old);
}

#[test]
fn eviction_fails_the_pod() {
    let mut c = Case::new(json!({"containers": [{"name": "a"}]})).with("a", 0, Exited, 137);
    c.terminal = true;
    let failed = Some(("Evicted".to_owned(), "The node was low on resource: memory.".to_owned()));
    c.stop = Some(Stop { deadline: 0, grace_seconds: 0, failed, completed: false });
    let s = c.status();
    assert_eq!((s.phase.as_str(), s.reason.as_str()), ("Failed", "Evicted"));
    assert!(s.is_true("DisruptionTarget"));
}
