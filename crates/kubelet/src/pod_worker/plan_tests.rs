//! Tables for the pod worker's decisions.

use super::*;
use serde_json::{Value, json};

const NOW: i64 = 1_000_000_000;

struct Case {
    pod: Pod,
    sandboxes: Vec<PodSandboxStatus>,
    containers: Vec<ContainerStatus>,
    health: HashMap<String, Health>,
    sizes: Sizes,
    busy: Busy,
    backoffs: Backoffs,
    holds: HashMap<Step, i64>,
    prepared: bool,
    torn_down: bool,
    stop: Option<Stop>,
}

impl Case {
    fn new(spec: Value) -> Self {
        let pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}),
        );
        let mut sb =
            PodSandboxStatus { id: "sb0".into(), state: PodSandboxState::Ready, ..Default::default() };
        sb.created_at = 1;
        Self {
            pod: pod.expect("pod"),
            sandboxes: vec![sb],
            containers: vec![],
            health: HashMap::new(),
            sizes: Sizes::default(),
            busy: Busy::default(),
            backoffs: Backoffs::default(),
            holds: HashMap::new(),
            prepared: true,
            torn_down: false,
            stop: None,
        }
    }
    fn with(mut self, name: &str, attempt: u32, state: ContainerState, code: i32) -> Self {
        let mut c =
            ContainerStatus { id: format!("{name}{attempt}"), state, exit_code: code, ..Default::default() };
        c.metadata.name = name.into();
        c.metadata.attempt = attempt;
        c.pod_sandbox_id = "sb0".into();
        c.finished_at = (NOW - 1000) * 1_000_000;
        self.containers.push(c);
        self
    }
    fn plan(&self) -> Vec<Action> {
        plan(&View {
            pod: &self.pod,
            sandboxes: &self.sandboxes,
            containers: &self.containers,
            health: &self.health,
            sizes: &self.sizes,
            busy: &self.busy,
            backoffs: &self.backoffs,
            holds: &self.holds,
            prepared: self.prepared,
            torn_down: self.torn_down,
            stop: self.stop.as_ref(),
            now: NOW,
        })
    }
    /// Actions as short words.
    fn words(&self) -> Vec<String> {
        self.plan()
            .into_iter()
            .map(|a| match a {
                Action::Start { name, attempt, .. } => format!("start {name} {attempt}"),
                Action::Kill { name, grace, .. } => format!("kill {name} {grace}"),
                Action::Waiting { name, reason, .. } => format!("waiting {name} {reason}"),
                Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
                Action::StopSandbox { id } => format!("stop {id}"),
                Action::RemoveSandbox { id } => format!("remove {id}"),
                Action::RemoveContainer { id } => format!("remove {id}"),
                Action::Fail { reason, .. } => format!("fail {reason}"),
                Action::Wake { at } => format!("wake {}", at - NOW),
                other => format!("{other:?}").to_lowercase(),
            })
            .collect()
    }
}

use ContainerState::{Exited, Running};

fn two() -> Value {
    json!({"containers": [{"name": "a"}, {"name": "b"}]})
}

fn inits() -> Value {
    json!({"initContainers": [{"name": "i1"}, {"name": "s", "restartPolicy": "Always", "startupProbe": {}}, {"name": "i2"}],
        "containers": [{"name": "a"}]})
}

#[test]
fn a_new_pod_prepares_and_gets_its_sandbox_at_once() {
    let mut c = Case::new(two());
    c.prepared = false;
    c.sandboxes.clear();
    assert_eq!(c.words(), ["prepare", "sandbox 0"]);
    c.busy.sandbox = true;
    c.busy.prepare = true;
    assert!(c.words().is_empty());
}

#[test]
fn containers_start_one_after_the_other() {
    assert_eq!(Case::new(two()).words(), ["start a 0"]);
    assert_eq!(Case::new(two()).with("a", 0, Running, 0).words(), ["start b 0"]);
    let done = Case::new(two()).with("a", 0, Running, 0).with("b", 0, Running, 0);
    assert!(done.words().is_empty());
    let mut busy = Case::new(two());
    busy.busy.start = Some("a".into());
    assert!(busy.words().is_empty());
}

#[test]
fn init_containers_in_order_sidecars_when_started() {
    assert_eq!(Case::new(inits()).words(), ["start i1 0"]);
    assert!(Case::new(inits()).with("i1", 0, Running, 0).words().is_empty());
    let c = Case::new(inits()).with("i1", 0, Exited, 0);
    assert_eq!(c.words(), ["start s 0"]);
    let mut c = c.with("s", 0, Running, 0);
    assert!(c.words().is_empty(), "its startup probe has not passed");
    c.health.insert("s0".into(), Health { started: true, ..Health::default() });
    assert_eq!(c.words(), ["start i2 0"]);
    let c = c.with("i2", 0, Exited, 0);
    assert_eq!(c.words(), ["start a 0"]);
}

#[test]
fn a_sidecar_restarts_while_the_app_runs() {
    let c = Case::new(inits()).with("i1", 0, Exited, 0).with("s", 0, Exited, 0).with("a", 0, Running, 0);
    assert_eq!(c.words(), ["start s 1"]);
}

#[test]
fn failed_init_restarts_or_ends_the_pod() {
    let c = Case::new(inits()).with("i1", 0, Exited, 1);
    assert_eq!(c.words(), ["start i1 1"]);
    let mut spec = inits();
    spec["restartPolicy"] = json!("Never");
    let c = Case::new(spec).with("i1", 0, Exited, 1);
    assert_eq!(c.words(), ["complete"]);
}

#[test]
fn restart_policies() {
    for (policy, code, want) in [
        ("Always", 0, "start a 1"),
        ("OnFailure", 1, "start a 1"),
        ("OnFailure", 0, "complete"),
        ("Never", 1, "complete"),
    ] {
        let c = Case::new(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}))
            .with("a", 0, Exited, code);
        assert_eq!(c.words(), [want], "{policy} {code}");
    }
}

#[test]
fn a_crash_loop_waits_and_says_so() {
    let mut c = Case::new(json!({"containers": [{"name": "a"}]})).with("a", 3, Exited, 1);
    let key = backoff_key(&c.pod.spec.containers[0]);
    c.backoffs.next(&key, NOW - 2000, NOW - 2000);
    assert_eq!(c.words(), ["waiting a CrashLoopBackOff", "wake 9000"]);
    let Some(Action::Waiting { message, .. }) = c.plan().into_iter().next() else {
        panic!("waiting expected")
    };
    assert_eq!(message, "back-off 10s restarting failed container=a pod=p_n(u)");
}

#[test]
fn a_dead_sandbox_is_replaced_and_counts_go_on() {
    let mut c = Case::new(two()).with("a", 2, Exited, 137).with("b", 0, Exited, 137);
    c.sandboxes[0].state = PodSandboxState::NotReady;
    assert_eq!(c.words(), ["sandbox 1"]);
    c.sandboxes.push(PodSandboxStatus { id: "sb1".into(), created_at: 2, ..c.sandboxes[0].clone() });
    c.sandboxes[1].state = PodSandboxState::Ready;
    c.sandboxes[1].metadata.attempt = 1;
    assert_eq!(c.words(), ["start a 3"]);
}

#[test]
fn counts_come_from_the_api_when_the_runtime_forgot() {
    let mut c = Case::new(two());
    c.pod.status.container_statuses.push(crate::podstatus::ContainerStatus {
        name: "a".into(),
        restart_count: 4,
        container_id: "x".into(),
        ..Default::default()
    });
    assert_eq!(c.words(), ["start a 5"]);
}

#[test]
fn failed_liveness_kills() {
    let mut c = Case::new(json!({"containers": [{"name": "a"}]})).with("a", 0, Running, 0);
    let failed =
        Failed { message: "Container a failed liveness probe, will be restarted".into(), grace: Some(5) };
    c.health.insert("a0".into(), Health { started: true, ready: true, failed: Some(failed) });
    assert_eq!(c.words(), ["kill a 5"]);
    c.busy.kills.insert("a0".into(), NOW);
    assert!(c.words().is_empty());
}

#[test]
fn only_the_newest_two_are_kept() {
    let c = Case::new(json!({"containers": [{"name": "a"}]}))
        .with("a", 0, Exited, 1)
        .with("a", 1, Exited, 1)
        .with("a", 2, Running, 0);
    assert_eq!(c.words(), ["remove a0"]);
}

#[test]
fn stopping_goes_apps_sidecars_sandbox_tear_down_finish() {
    let mut c = Case::new(inits()).with("a", 0, Running, 0).with("s", 0, Running, 0);
    c.stop = Some(Stop { deadline: NOW + 30_000, grace_seconds: 30, failed: None, completed: false });
    c.pod.metadata.deletion_timestamp = Some("x".into());
    assert_eq!(c.words(), ["kill a 30"]);
    c.busy.kills.insert("a0".into(), NOW + 30_000);
    assert!(c.words().is_empty());
    c.stop = Some(Stop { deadline: NOW + 1000, grace_seconds: 1, failed: None, completed: false });
    assert_eq!(c.words(), ["kill a 1"], "a shorter grace is passed on");
    c.busy.kills.clear();
    c.containers[0].state = Exited;
    assert_eq!(c.words(), ["kill s 2"]);
    c.containers[1].state = Exited;
    assert_eq!(c.words(), ["stop sb0"]);
    c.sandboxes[0].state = PodSandboxState::NotReady;
    assert_eq!(c.words(), ["teardown"]);
    c.torn_down = true;
    assert_eq!(c.words(), ["finish"]);
    c.pod.metadata.deletion_timestamp = None;
    assert!(c.words().is_empty(), "a finished pod stays until it is deleted");
}

#[test]
fn deadline() {
    let mut c = Case::new(json!({"activeDeadlineSeconds": 5, "containers": [{"name": "a"}]}))
        .with("a", 0, Running, 0);
    let at = |s: i64| jiff::Timestamp::from_millisecond(NOW + s * 1000).map(|t| t.to_string()).ok();
    c.pod.status.start_time = at(-2);
    assert_eq!(c.words(), ["wake 3000"]);
    c.pod.status.start_time = at(-5);
    assert_eq!(c.words(), ["fail DeadlineExceeded"]);
}

#[test]
fn rests_after_failures() {
    let mut c = Case::new(two());
    c.holds.insert(Step::Start("a".into()), NOW + 700);
    assert_eq!(c.words(), ["wake 700", "start b 0"]);
    c.prepared = false;
    c.sandboxes.clear();
    c.holds.insert(Step::Sandbox, NOW + 5);
    c.holds.insert(Step::Prepare, NOW + 6);
    assert_eq!(c.words(), ["wake 6", "wake 5"]);
}
