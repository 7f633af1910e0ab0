//! Writes a pod's status: one patch at a time, only when something changed, and a little late when what changed is not
//! what people wait for (so that a pod that starts fast costs one write, not three).

use api::resource::PODS;
use client::{Patch, clock};
use cri::{ContainerState, PodSandboxState};
use serde_json::{Value, json};

use crate::pod::Pod;
use crate::pod_worker::ops::Done;
use crate::pod_worker::{Worker, status};
use crate::podstatus::PodStatus;

/// How long a status that only says "in preparation" may wait for better news.
const DEBOUNCE: i64 = 150;
/// How long the report of a container that is being replaced may wait for its successor.
const RENEWAL: i64 = 1_000;

pub struct Report {
    /// What the API has from us.
    sent: Option<PodStatus>,
    wanted: Option<PodStatus>,
    since: i64,
    sending: bool,
    retry_at: i64,
    failures: u32,
}

impl Report {
    pub fn new(pod: &Pod) -> Self {
        let sent = (!pod.status.conditions.is_empty() && pod.status.start_time.is_some())
            .then(|| ours(pod.status.clone()));
        Self { sent, wanted: None, since: 0, sending: false, retry_at: 0, failures: 0 }
    }
    /// The next report is written whole.
    pub fn forget(&mut self) {
        self.sent = None;
    }
    /// Somebody took the node for dead and marked a pod that we had said is ready: it is said again.
    pub fn heed(&mut self, seen: &PodStatus) {
        let not_ready = seen.conditions.iter().any(|c| c.kind == "Ready" && c.status == "False");
        if not_ready && self.settled() && self.sent.as_ref().is_some_and(|s| s.is_true("Ready")) {
            self.sent = None;
        }
    }
    /// Everything known is written.
    pub fn settled(&self) -> bool {
        self.wanted.is_none() && !self.sending
    }
}

/// Only the conditions a kubelet writes.
fn ours(mut s: PodStatus) -> PodStatus {
    let kinds = [
        "PodResizePending",
        "PodResizeInProgress",
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
    ];
    s.conditions.retain(|c| {
        kinds.contains(&c.kind.as_str()) || c.kind == "DisruptionTarget" && c.reason == "TerminationByKubelet"
    });
    s.conditions.sort_by_key(|c| kinds.iter().position(|k| *k == c.kind));
    s
}

/// Whether people (and controllers) wait for this change.
fn urgent(old: Option<&PodStatus>, new: &PodStatus) -> bool {
    let Some(old) = old else { return new.phase != "Pending" };
    // From the first phase to Pending nothing happens that anybody waits for.
    new.phase != "Pending"
        || !matches!(old.phase.as_str(), "" | "Pending")
        || old.is_true("Ready") != new.is_true("Ready")
}

/// A strategic merge patch: conditions of others stay, lists that shrink are replaced whole.
pub fn patch(pod: &Pod, old: Option<&PodStatus>, new: &PodStatus) -> Value {
    let mut s = serde_json::to_value(new).unwrap_or_default();
    for (field, gone) in [
        ("message", new.message.is_empty() && old.is_some_and(|o| !o.message.is_empty())),
        ("reason", new.reason.is_empty() && old.is_some_and(|o| !o.reason.is_empty())),
        ("podIP", new.pod_ip.is_empty() && old.is_some_and(|o| !o.pod_ip.is_empty())),
    ] {
        if gone {
            s[field] = Value::Null;
        }
    }
    // podIPs and hostIPs are merged by address: what went has to be named.
    for (field, was, is) in [
        ("podIPs", old.map(|o| &o.pod_ips), &new.pod_ips),
        ("hostIPs", old.map(|o| &o.host_ips), &new.host_ips),
    ] {
        let gone: Vec<Value> = was
            .into_iter()
            .flatten()
            .filter(|ip| !is.contains(ip))
            .map(|ip| json!({"$patch": "delete", "ip": ip.ip}))
            .collect();
        if !gone.is_empty() {
            let mut list = serde_json::to_value(is).unwrap_or_default();
            if let Value::Array(a) = &mut list {
                a.extend(gone);
            }
            s[field] = list;
        }
    }
    // Conditions are merged by type: what went has to be named, and so has a reason that went.
    let before = old.map(|o| o.conditions.as_slice()).unwrap_or_default();
    if let Some(list) = s["conditions"].as_array_mut() {
        for c in list.iter_mut() {
            let Some(old) = before.iter().find(|o| c["type"] == o.kind.as_str()) else { continue };
            for (field, was) in [("reason", &old.reason), ("message", &old.message)] {
                if !was.is_empty() && c.get(field).is_none() {
                    c[field] = Value::Null;
                }
            }
        }
        for o in before.iter().filter(|o| new.condition(&o.kind).is_none()) {
            list.push(json!({"$patch": "delete", "type": o.kind}));
        }
    }
    if pod.is_static() {
        // Written to the mirror, which has a uid of its own.
        return json!({ "status": s });
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": s})
}

impl Worker {
    /// Computes the status and sees to it that it gets written. Gives the time to look again.
    pub(crate) fn report_status(&mut self) -> Option<i64> {
        let running = self.containers.iter().any(|c| c.state == ContainerState::Running);
        let terminal = self.stop.as_ref().is_some_and(|_| {
            !running
                && self.busy.start.is_none()
                && !self.sandboxes.iter().any(|s| s.state == PodSandboxState::Ready)
        }) || self.stop.as_ref().is_some_and(|s| s.completed && !running);
        let now = clock::now();
        let text = clock::rfc3339(now);
        let (ips, host_ips) = (self.pod_ips(), self.node.host_ips());
        let runtime = self.node.runtime_name.read().clone();
        let new = status::compute(&status::Input {
            pod: &self.pod,
            old: &self.status,
            pod_ips: &ips,
            host_ips: &host_ips,
            sandbox_ready: self.sandboxes.iter().any(|s| s.state == PodSandboxState::Ready),
            containers: &self.containers,
            health: &self.health,
            sizes: &self.sizes,
            waiting: &self.waiting,
            starting: self.busy.start.as_deref(),
            messages: &self.messages,
            stop: self.stop.as_ref(),
            terminal,
            runtime: &runtime,
            now: &text,
        });
        if new != self.status {
            self.status = new.clone();
        }
        {
            let mut shot = self.snapshot.write();
            shot.status.clone_from(&self.status);
            shot.containers.clone_from(&self.containers);
            let ready = self.sandboxes.iter().filter(|s| s.state == PodSandboxState::Ready);
            shot.sandbox_id =
                ready.max_by_key(|s| s.metadata.attempt).map(|s| s.id.clone()).unwrap_or_default();
        }
        let now = now.as_millisecond();
        if self.gone || self.report.sent.as_ref() == Some(&new) {
            self.report.wanted = None;
            return None;
        }
        if self.report.wanted.is_none() {
            self.report.since = now;
        }
        let urgent = urgent(self.report.sent.as_ref(), &new);
        self.report.wanted = Some(new);
        if self.report.sending {
            return None;
        }
        let at = if self.stop.is_none() && !self.sizes.renew.is_empty() {
            (self.report.since + RENEWAL).max(self.report.retry_at)
        } else if urgent {
            self.report.retry_at
        } else {
            (self.report.since + DEBOUNCE).max(self.report.retry_at)
        };
        if at > now {
            return Some(at);
        }
        self.send_status();
        None
    }

    fn send_status(&mut self) {
        let Some(new) = self.report.wanted.clone() else { return };
        self.report.sending = true;
        let (client, pod) = (self.node.client.clone(), self.pod.clone());
        let body = patch(&pod, self.report.sent.as_ref(), &new);
        self.ops.spawn(async move {
            let m = &pod.metadata;
            let result = client
                .patch(&PODS, &m.namespace, &m.name, "status", &Patch::Strategic(body))
                .await
                .map(|_| ());
            Done::Reported { status: Box::new(new), result }
        });
    }

    pub(crate) fn reported(&mut self, status: PodStatus, result: Result<(), api::Status>) {
        self.report.sending = false;
        match result {
            Ok(()) => {
                self.report.failures = 0;
                self.report.retry_at = 0;
                if self.report.wanted.as_ref() == Some(&status) {
                    self.report.wanted = None;
                }
                self.report.sent = Some(status);
            }
            Err(e) if e.is_not_found() || e.is_conflict() => {
                // Gone, or another pod has its name; the watch says which. A mirror pod may only not be there yet.
                self.report.retry_at = self.node.now_ms() + 2_000;
                if self.pod.deleting() {
                    self.report.wanted = None;
                    self.report.sent = Some(status);
                }
            }
            Err(e) => {
                self.report.failures = (self.report.failures + 1).min(6);
                self.report.retry_at = self.node.now_ms() + (200 << self.report.failures);
                tracing::warn!(pod = %self.pod.key(), error = %e, "failed to write a pod's status");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::podstatus::Ip;

    #[test]
    fn patches_name_what_went() {
        let pod = Pod::default();
        let ip = |s: &str| Ip { ip: s.into() };
        let old = PodStatus {
            pod_ip: "1".into(),
            pod_ips: vec![ip("1")],
            reason: "x".into(),
            ..Default::default()
        };
        let new = PodStatus { pod_ip: "2".into(), pod_ips: vec![ip("2")], ..Default::default() };
        let p = patch(&pod, Some(&old), &new);
        assert_eq!(p["status"]["podIPs"], json!([{"ip": "2"}, {"$patch": "delete", "ip": "1"}]));
        assert_eq!(p["status"]["reason"], Value::Null);
        assert!(
            p["status"].as_object().is_some_and(|s| s.contains_key("reason") && !s.contains_key("message"))
        );
    }

    #[test]
    fn patches_name_conditions_and_reasons_that_went() {
        let condition = |kind: &str, reason: &str| crate::podstatus::Condition {
            kind: kind.into(),
            reason: reason.into(),
            ..Default::default()
        };
        let old = PodStatus {
            conditions: vec![
                condition("PodResizePending", "Deferred"),
                condition("Ready", "ContainersNotReady"),
            ],
            ..Default::default()
        };
        let new = PodStatus { conditions: vec![condition("Ready", "")], ..Default::default() };
        let p = patch(&Pod::default(), Some(&old), &new);
        let list = p["status"]["conditions"].as_array().expect("conditions");
        assert_eq!((&list[0]["type"], list[0].get("reason")), (&json!("Ready"), Some(&Value::Null)));
        assert_eq!(list[1], json!({"$patch": "delete", "type": "PodResizePending"}));
    }

    #[test]
    fn preparation_waits_and_running_does_not() {
        let s = |phase: &str| PodStatus { phase: phase.into(), ..Default::default() };
        assert!(!urgent(None, &s("Pending")));
        assert!(urgent(None, &s("Running")));
        assert!(!urgent(Some(&s("Pending")), &s("Pending")));
        assert!(urgent(Some(&s("Pending")), &s("Running")));
    }
}
