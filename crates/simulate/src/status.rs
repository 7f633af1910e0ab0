//! What a kubelet would write of a pod at each stage: its status, and the events. Pure.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::pod::{Container, Pod, container_id, uid_text};
use crate::stage::Stage;

/// Where and when something is written.
pub struct Place<'a> {
    pub host: IpAddr,
    pub address: Option<IpAddr>,
    /// RFC 3339.
    pub now: &'a str,
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(client::clock::rfc3339).unwrap_or_default()
}

type Condition = (&'static str, bool, &'static str, String);

fn conditions(p: &Pod, stage: Stage) -> Vec<Condition> {
    let names = |all: &[Container]| all.iter().map(|c| c.name.as_ref()).collect::<Vec<_>>().join(" ");
    let waits =
        !p.template.init.is_empty() && matches!(stage, Stage::Creating | Stage::NoImage | Stage::BackingOff);
    let sandbox =
        !matches!(stage, Stage::Bound | Stage::Creating | Stage::Done | Stage::Failed | Stage::Stopped);
    let not = || format!("containers with unready status: [{}]", names(&p.template.containers));
    let (ready, reason, message) = match stage {
        Stage::Ready | Stage::Stopping => (true, "", String::new()),
        Stage::Done | Stage::Stopped => (false, "PodCompleted", String::new()),
        Stage::Failed => (false, "PodFailed", String::new()),
        _ => (false, "ContainersNotReady", not()),
    };
    let gated = ready && !p.template.gates.is_empty();
    let initialized = if waits {
        (
            false,
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{}]", names(&p.template.init)),
        )
    } else if matches!(stage, Stage::Done | Stage::Stopped) {
        (true, "PodCompleted", String::new())
    } else {
        (true, "", String::new())
    };
    vec![
        ("PodReadyToStartContainers", sandbox, "", String::new()),
        ("Initialized", initialized.0, initialized.1, initialized.2),
        ("ContainersReady", ready, reason, message.clone()),
        if gated {
            (
                "Ready",
                false,
                "ReadinessGatesNotReady",
                "the status of pod readiness gates is not \"True\"".into(),
            )
        } else {
            ("Ready", ready, reason, message)
        },
    ]
}

/// Conditions are merged by type: one whose status stays keeps the time of its last change.
fn written(p: &Pod, to: Stage, now: &str) -> Vec<Value> {
    let before = conditions(p, p.stage);
    let first = p.stage == Stage::Bound;
    let value = |(kind, status, reason, message): Condition| {
        let mut v = json!({"type": kind, "status": if status { "True" } else { "False" }, "lastProbeTime": null,
            "reason": if reason.is_empty() { Value::Null } else { json!(reason) },
            "message": if message.is_empty() { Value::Null } else { json!(message) }});
        if first || before.iter().any(|b| b.0 == kind && b.1 != status) {
            v["lastTransitionTime"] = json!(now);
        }
        v
    };
    conditions(p, to).into_iter().map(value).collect()
}

fn ended(p: &Pod, c: &Container, code: i64, at: i64) -> Value {
    json!({"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "startedAt": time(p.started),
        "finishedAt": time(at), "containerID": container_id(p.uid, &c.name, p.restarts)})
}

fn container(p: &Pod, c: &Container, to: Stage) -> Value {
    let mut v = json!({"name": c.name, "image": c.image, "restartCount": p.restarts, "ready": false, "started": false,
        "imageID": "", "state": {}, "lastState": {}});
    let waiting = |reason: &str, message: &str| match message {
        "" => json!({"waiting": {"reason": reason}}),
        m => json!({"waiting": {"reason": reason, "message": m}}),
    };
    let id = |v: &mut Value| {
        v["containerID"] = json!(container_id(p.uid, &c.name, p.restarts));
        v["imageID"] = json!(c.image);
    };
    if p.restarts > 0 {
        let before = p.restarts - 1;
        let mut last = ended(p, c, 1, p.ended);
        last["containerID"] = json!(container_id(p.uid, &c.name, before));
        v["lastState"] = json!({ "terminated": last });
    }
    match to {
        Stage::Bound | Stage::Creating if p.template.init.is_empty() => {
            v["state"] = waiting("ContainerCreating", "")
        }
        Stage::Bound | Stage::Creating => v["state"] = waiting("PodInitializing", ""),
        Stage::NoImage => v["state"] = waiting("ErrImagePull", &no_image(c)),
        Stage::BackingOff => {
            v["state"] = waiting(
                "ImagePullBackOff",
                &format!("Back-off pulling image \"{}\": ErrImagePull: {}", c.image, no_image(c)),
            );
        }
        Stage::Started | Stage::Ready | Stage::Stopping => {
            v["state"] = json!({"running": {"startedAt": time(p.started)}});
            v["started"] = json!(true);
            v["ready"] = json!(to != Stage::Started);
            id(&mut v);
        }
        Stage::Crashed => {
            v["state"] = waiting(
                "CrashLoopBackOff",
                &format!("back-off restarting failed container {} in pod {}", c.name, p.name),
            );
            v["lastState"] = json!({"terminated": ended(p, c, 1, p.ended)});
            id(&mut v);
        }
        Stage::Done | Stage::Failed | Stage::Stopped => {
            v["state"] = json!({"terminated": ended(p, c, i64::from(to == Stage::Failed), p.ended)});
            id(&mut v);
        }
    }
    v
}

fn no_image(c: &Container) -> String {
    format!("failed to pull image \"{}\": the registry does not answer (simulated)", c.image)
}

/// An init container, which has done its part once the others start.
fn init(p: &Pod, c: &Container, to: Stage) -> Value {
    if c.sidecar {
        return container(p, c, to);
    }
    let mut v = json!({"name": c.name, "image": c.image, "restartCount": 0, "ready": false, "started": false, "imageID": "",
        "lastState": {}, "state": {"waiting": {"reason": "PodInitializing"}}});
    if !matches!(to, Stage::Bound | Stage::Creating | Stage::NoImage | Stage::BackingOff) {
        v["state"] = json!({"terminated": ended(p, c, 0, p.started)});
        v["ready"] = json!(true);
        v["imageID"] = json!(c.image);
        v["containerID"] = json!(container_id(p.uid, &c.name, 0));
    }
    v
}

/// The patch of the status with which a pod comes to a stage.
pub fn patch(p: &Pod, to: Stage, at: &Place<'_>) -> Value {
    let phase = match to {
        Stage::Bound | Stage::Creating | Stage::NoImage | Stage::BackingOff => "Pending",
        Stage::Started | Stage::Ready | Stage::Crashed | Stage::Stopping => "Running",
        Stage::Done | Stage::Stopped => "Succeeded",
        Stage::Failed => "Failed",
    };
    let t = &p.template;
    let mut status = json!({"phase": phase, "hostIP": at.host, "hostIPs": [{"ip": at.host}], "startTime": time(p.came),
        "conditions": written(p, to, at.now),
        "containerStatuses": t.containers.iter().map(|c| container(p, c, to)).collect::<Vec<_>>()});
    if !t.init.is_empty() {
        status["initContainerStatuses"] = t.init.iter().map(|c| init(p, c, to)).collect();
    }
    if let Some(ip) = at.address {
        status["podIP"] = json!(ip);
        status["podIPs"] = json!([{ "ip": ip }]);
    }
    // Never to another pod of the same name.
    json!({"metadata": {"uid": uid_text(p.uid)}, "status": status})
}

/// Kind, reason and message of what is told of a stage.
pub fn events(p: &Pod, to: Stage) -> Vec<(&'static str, &'static str, String)> {
    let first = p.template.containers.first();
    let image = first.map_or("", |c| &c.image);
    match to {
        Stage::NoImage => vec![
            (
                "Warning",
                "Failed",
                format!("Failed to pull image \"{image}\": the registry does not answer (simulated)"),
            ),
            ("Warning", "Failed", "Error: ErrImagePull".into()),
        ],
        Stage::BackingOff => vec![("Normal", "BackOff", format!("Back-off pulling image \"{image}\""))],
        Stage::Started => vec![
            (
                "Normal",
                "Pulled",
                format!(
                    "Container image \"{image}\" already present on machine and can be accessed by the pod"
                ),
            ),
            ("Normal", "Created", "Container created".into()),
            ("Normal", "Started", "Container started".into()),
        ],
        Stage::Crashed => {
            let name = first.map_or("", |c| &c.name);
            vec![(
                "Warning",
                "BackOff",
                format!("Back-off restarting failed container {name} in pod {}", p.name),
            )]
        }
        Stage::Stopping => {
            let name = first.map_or("", |c| &c.name);
            vec![("Normal", "Killing", format!("Stopping container {name}"))]
        }
        _ => Vec::new(),
    }
}
