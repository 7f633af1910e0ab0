//! Jobs lived through without a cluster: a world of one job and its pods, on which the plan is carried out step by step.

use std::collections::HashSet;
use std::time::Duration;

use api::Object;
use client::clock;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::backoff::Record;
use super::children::{INDEX, TRACKING};
use super::plan::{Action, Done, Facts, Sync};
use super::view::Job;
use crate::pods::Pod;

/// One job and its pods, as JSON.
struct World {
    job: Value,
    pods: Vec<Value>,
    record: Record,
    now: i64,
    made: usize,
    again: Option<Duration>,
    deleting: bool,
    seen_all: bool,
}

impl World {
    fn new(spec: Value) -> Self {
        let job = json!({"metadata": {"name": "j", "namespace": "n", "uid": "job"}, "spec": spec});
        Self {
            job,
            pods: vec![],
            record: Record::default(),
            now: 1_000_000,
            made: 0,
            again: None,
            deleting: false,
            seen_all: true,
        }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_second(self.now).expect("time")
    }

    /// One sync, carried out.
    fn step(&mut self) -> &mut Self {
        let object = Object::from_value(self.job.clone(), 1).expect("job");
        let job: Job = object.view().expect("view");
        let pods: Vec<Pod> = self
            .pods
            .iter()
            .map(|v| Pod::of(Object::from_value(v.clone(), 1).expect("pod")).expect("view"))
            .collect();
        let mut sync = Sync::start(Facts {
            job: &job,
            deleting: self.deleting,
            pods: &pods,
            released: HashSet::new(),
            seen_all: self.seen_all,
            record: self.record,
            now: self.at(),
        });
        let mut done = Done::default();
        match sync.action() {
            Action::None => {}
            Action::Create(new) => {
                for n in new {
                    self.made += 1;
                    let mut body = n.body(&job.spec.template, &object);
                    body["metadata"]["name"] = json!(format!("p{}", self.made));
                    body["metadata"]["namespace"] = json!("n");
                    body["metadata"]["uid"] = json!(format!("u{}", self.made));
                    body["metadata"]["creationTimestamp"] = json!(clock::rfc3339(self.at()));
                    body["status"] = json!({"phase": "Pending"});
                    self.pods.push(body);
                    done.created += 1;
                }
            }
            Action::Stop(uids) | Action::Remove(uids) => {
                let now = json!(clock::rfc3339(self.at()));
                for p in self.pods.iter_mut().filter(|p| uids.iter().any(|u| p["metadata"]["uid"] == *u)) {
                    p["metadata"]["deletionTimestamp"] = now.clone();
                }
                done.deleted = uids.len();
            }
        }
        sync.acted(done);
        let ended = sync.track();
        let first = sync.status.onto(&object).expect("status");
        self.accepted(&first, &self.job);
        let uids: Vec<&str> = ended.iter().map(|p| p.object.uid()).collect();
        for p in self.pods.iter_mut().filter(|p| uids.iter().any(|u| p["metadata"]["uid"] == *u)) {
            p["metadata"]["finalizers"] = json!([]);
        }
        self.record = sync.record;
        sync.settle(&uids);
        sync.finish();
        self.again = sync.again;
        let new = sync.status.onto(&object).expect("status");
        self.accepted(&new, &first);
        self.job = new;
        // What is deleted and held by nobody goes, as a kubelet would have it.
        self.pods.retain(|p| {
            p["metadata"]["deletionTimestamp"].is_null() || p["metadata"]["finalizers"] == json!([TRACKING])
        });
        self
    }

    /// The API would take this status.
    fn accepted(&self, new: &Value, old: &Value) {
        let errors = api::validation::update_status("batch", "Job", new, old);
        let told: Vec<String> =
            errors.iter().map(ToString::to_string).filter(|e| e.starts_with("status")).collect();
        assert!(told.is_empty(), "{told:?}\nold {old}\nnew {new}");
    }

    /// Steps until nothing changes any more.
    fn settle(&mut self) -> &mut Self {
        for _ in 0..50 {
            let before = (self.job.clone(), self.pods.clone());
            self.step();
            if before == (self.job.clone(), self.pods.clone()) {
                return self;
            }
        }
        panic!("the job never settles: {}", self.job);
    }

    fn active(&self) -> Vec<usize> {
        let open = |p: &Value| !matches!(p["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        (0..self.pods.len())
            .filter(|i| open(&self.pods[*i]) && self.pods[*i]["metadata"]["deletionTimestamp"].is_null())
            .collect()
    }

    fn end(&mut self, pod: usize, code: i64) -> &mut Self {
        let at = clock::rfc3339(self.at());
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        self.pods[pod]["status"] = json!({"phase": phase, "containerStatuses": [
            {"name": "c", "state": {"terminated": {"exitCode": code, "finishedAt": at}}}]});
        self
    }

    /// Ends the active pod of that index.
    fn end_index(&mut self, index: i64, code: i64) -> &mut Self {
        let pod = self
            .active()
            .into_iter()
            .find(|i| self.index_of(*i) == Some(index))
            .expect("an active pod of the index");
        self.end(pod, code)
    }

    fn index_of(&self, pod: usize) -> Option<i64> {
        self.pods[pod]["metadata"]["annotations"][INDEX].as_str()?.parse().ok()
    }

    fn active_indexes(&self) -> Vec<i64> {
        let mut out: Vec<i64> = self.active().into_iter().filter_map(|i| self.index_of(i)).collect();
        out.sort_unstable();
        out
    }

    fn pass(&mut self, seconds: i64) -> &mut Self {
        self.now += seconds;
        self
    }

    fn status(&self) -> &Value {
        &self.job["status"]
    }

    /// `type=reason` of the conditions that are true, in order.
    fn conditions(&self) -> String {
        let all = self.status()["conditions"].as_array().cloned().unwrap_or_default();
        let on = all.iter().filter(|c| c["status"] == "True");
        on.map(|c| format!("{}={}", c["type"].as_str().unwrap_or(""), c["reason"].as_str().unwrap_or("")))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn spec(more: Value) -> Value {
    let mut s = json!({"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}});
    for (k, v) in more.as_object().cloned().unwrap_or_default() {
        s[k] = v;
    }
    s
}

fn indexed(completions: i64, parallelism: i64, more: Value) -> Value {
    let mut s =
        spec(json!({"completionMode": "Indexed", "completions": completions, "parallelism": parallelism}));
    for (k, v) in more.as_object().cloned().unwrap_or_default() {
        s[k] = v;
    }
    s
}

const DONE: &str = "SuccessCriteriaMet=CompletionsReached Complete=CompletionsReached";

#[test]
fn one_pod_one_completion() {
    let mut w = World::new(spec(json!({})));
    w.settle();
    assert_eq!((w.active().len(), w.made), (1, 1));
    assert_eq!(w.status()["active"], 1);
    assert_eq!(w.status()["ready"], 0);
    assert_eq!(w.status()["uncountedTerminatedPods"], json!({}));
    assert!(w.status()["startTime"].is_string());
    w.end(0, 0).settle();
    assert_eq!(w.conditions(), DONE);
    assert_eq!(w.status()["succeeded"], 1);
    assert_eq!(w.status()["active"], Value::Null);
    assert_eq!(w.status()["completionTime"], w.status()["startTime"]);
    assert_eq!(w.pods[0]["metadata"]["finalizers"], json!([]));
}

#[test]
fn never_more_than_parallelism_nor_than_what_is_left() {
    let mut w = World::new(spec(json!({"completions": 5, "parallelism": 2})));
    let mut ended = 0;
    while w.conditions().is_empty() {
        w.settle();
        let active = w.active();
        assert!(active.len() <= 2 && active.len() <= 5 - ended, "{}", w.job);
        if let Some(first) = active.first() {
            w.end(*first, 0);
            ended += 1;
        }
    }
    assert_eq!((w.made, ended), (5, 5));
    assert_eq!(w.status()["succeeded"], 5);
}

#[test]
fn a_work_queue_ends_with_its_last_pod() {
    let mut w = World::new(spec(json!({"completions": null, "parallelism": 3})));
    w.settle().end(0, 0).settle();
    assert_eq!((w.active().len(), w.made), (2, 3));
    assert_eq!(w.conditions(), "");
    w.end(1, 1).settle();
    assert_eq!((w.active().len(), w.made), (1, 3));
    w.end(2, 0).settle();
    assert_eq!(w.conditions(), DONE);
    assert_eq!((&w.status()["succeeded"], &w.status()["failed"]), (&json!(2), &json!(1)));
}

#[test]
fn no_completions_wanted_is_complete_at_once() {
    let mut w = World::new(spec(json!({"completions": 0})));
    w.settle();
    assert_eq!((w.conditions().as_str(), w.made), (DONE, 0));
}

#[test]
fn failed_pods_are_replaced_after_a_growing_wait() {
    let mut w = World::new(spec(json!({"backoffLimit": 2})));
    w.settle();
    for (failure, wait) in [(0, 10), (1, 20)] {
        w.end(failure, 1).settle();
        assert_eq!(w.active().len(), 0, "waits before the replacement");
        assert_eq!(w.again, Some(Duration::from_secs(wait)));
        assert_eq!(w.status()["failed"], json!(failure + 1));
        w.pass(i64::try_from(wait).expect("small")).settle();
        assert_eq!(w.active().len(), 1);
    }
    w.end(2, 1).settle();
    assert_eq!(w.conditions(), "FailureTarget=BackoffLimitExceeded Failed=BackoffLimitExceeded");
    assert_eq!(w.status()["failed"], 3);
    assert_eq!(w.status()["completionTime"], Value::Null);
}

#[test]
fn restarts_in_place_count_too() {
    let template = json!({"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c"}]}});
    for (limit, restarts, fails) in [(2, 1, false), (2, 2, true), (0, 0, false), (0, 1, true)] {
        let mut w = World::new(spec(json!({"backoffLimit": limit, "template": template})));
        w.settle();
        w.pods[0]["status"] =
            json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": restarts}]});
        w.settle();
        assert_eq!(
            w.conditions().contains("Failed=BackoffLimitExceeded"),
            fails,
            "limit {limit}, {restarts} restarts"
        );
        assert_eq!(w.active().len(), usize::from(!fails));
    }
}

#[test]
fn the_deadline_ends_the_job_and_its_pods() {
    let mut w = World::new(spec(json!({"activeDeadlineSeconds": 30, "parallelism": 2, "completions": 2})));
    w.settle();
    assert_eq!(w.again, Some(Duration::from_secs(30)));
    w.pass(29).settle();
    assert_eq!((w.active().len(), w.again), (2, Some(Duration::from_secs(1))));
    w.pass(1).settle();
    assert_eq!(w.conditions(), "FailureTarget=DeadlineExceeded Failed=DeadlineExceeded");
    assert_eq!((w.pods.len(), &w.status()["failed"]), (0, &json!(2)));
}

#[test]
fn suspend_takes_the_pods_and_resume_makes_new_ones() {
    let mut w = World::new(spec(json!({"suspend": true, "activeDeadlineSeconds": 10})));
    w.settle();
    assert_eq!((w.made, w.conditions().as_str()), (0, "Suspended=JobSuspended"));
    assert!(w.status()["startTime"].is_null());
    w.job["spec"]["suspend"] = json!(false);
    w.pass(60).settle();
    assert_eq!((w.active().len(), w.conditions().as_str()), (1, ""));
    assert_eq!(w.status()["startTime"], clock::rfc3339(w.at()));
    assert_eq!(w.status()["conditions"][0]["reason"], "JobResumed");
    w.job["spec"]["suspend"] = json!(true);
    // The finalizer goes with a pod that suspension takes: it is no failure.
    w.pods[0]["metadata"]["finalizers"] = json!([]);
    w.pass(60).settle();
    assert_eq!((w.pods.len(), w.conditions().as_str()), (0, "Suspended=JobSuspended"));
    assert_eq!(w.status()["failed"], Value::Null);
    assert!(w.status()["startTime"].is_null());
}

#[test]
fn each_index_once() {
    let mut w = World::new(indexed(4, 2, json!({})));
    w.settle();
    assert_eq!(w.active_indexes(), [0, 1]);
    w.end_index(1, 0).settle();
    assert_eq!((w.active_indexes(), &w.status()["completedIndexes"]), (vec![0, 2], &json!("1")));
    w.end_index(0, 1).settle();
    w.pass(10).settle();
    assert_eq!(w.active_indexes(), [0, 2]);
    w.end_index(0, 0).end_index(2, 0).settle();
    w.end_index(3, 0).settle();
    assert_eq!(w.conditions(), DONE);
    assert_eq!((&w.status()["completedIndexes"], &w.status()["succeeded"]), (&json!("0-3"), &json!(4)));
    assert_eq!(w.status()["failed"], 1);
}

#[test]
fn an_elastic_job_shrinks() {
    let mut w = World::new(indexed(4, 4, json!({})));
    w.settle();
    w.end_index(3, 0).end_index(0, 0).settle();
    assert_eq!(w.status()["completedIndexes"], "0,3");
    w.job["spec"]["completions"] = json!(2);
    w.job["spec"]["parallelism"] = json!(2);
    // Pods beyond the end are let go by the loop before they are deleted.
    for p in w.pods.iter_mut().filter(|p| p["metadata"]["annotations"][INDEX] == "2") {
        p["metadata"]["finalizers"] = json!([]);
    }
    w.settle();
    assert_eq!((w.active_indexes(), &w.status()["completedIndexes"]), (vec![1], &json!("0")));
    w.end_index(1, 0).settle();
    assert_eq!((w.conditions().as_str(), &w.status()["succeeded"]), (DONE, &json!(2)));
}

#[test]
fn indexes_fail_on_their_own() {
    let more = json!({"backoffLimitPerIndex": 1, "backoffLimit": i32::MAX});
    let mut w = World::new(indexed(3, 3, more.clone()));
    w.settle();
    w.end_index(1, 1).settle();
    // It is kept until its replacement has taken over its count.
    assert_eq!(w.active_indexes(), [0, 2]);
    assert_eq!((w.again, &w.status()["failedIndexes"]), (Some(Duration::from_secs(10)), &json!("")));
    w.pass(10).settle();
    assert_eq!(w.active_indexes(), [0, 1, 2]);
    assert_eq!(
        w.pods.last().expect("pod")["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"],
        "1"
    );
    w.end_index(1, 1).settle();
    assert_eq!((w.active_indexes(), &w.status()["failedIndexes"]), (vec![0, 2], &json!("1")));
    w.end_index(0, 0).end_index(2, 0).settle();
    assert_eq!(w.conditions(), "FailureTarget=FailedIndexes Failed=FailedIndexes");
    assert_eq!((&w.status()["completedIndexes"], &w.status()["failed"]), (&json!("0,2"), &json!(2)));

    let mut more = more;
    more["backoffLimitPerIndex"] = json!(0);
    more["maxFailedIndexes"] = json!(1);
    let mut w = World::new(indexed(5, 3, more));
    w.settle();
    w.end_index(0, 1).settle();
    assert_eq!((w.conditions().as_str(), w.active_indexes()), ("", vec![1, 2, 3]));
    w.end_index(1, 1).settle();
    assert_eq!(w.conditions(), "FailureTarget=MaxFailedIndexesExceeded Failed=MaxFailedIndexesExceeded");
    assert_eq!(w.active_indexes(), Vec::<i64>::new());
}

#[test]
fn the_failure_policy_decides() {
    let rules = json!({"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [42]}}]});
    let more = json!({"podFailurePolicy": rules, "podReplacementPolicy": "Failed", "backoffLimit": 0, "parallelism": 2, "completions": 2});
    let mut w = World::new(spec(more.clone()));
    w.settle().end(0, 42).settle();
    // The other pod is on its way out; the job ends with it.
    assert_eq!(w.conditions(), "FailureTarget=PodFailurePolicy Failed=PodFailurePolicy");
    let message = w.status()["conditions"][0]["message"].as_str().unwrap_or_default();
    assert_eq!(message, "Container c for pod n/p1 failed with exit code 42 matching FailJob rule at index 0");

    let mut w = World::new(spec(more.clone()));
    w.settle().end(0, 137);
    w.pods[0]["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True"}]);
    w.settle();
    assert_eq!((w.conditions().as_str(), &w.status()["failed"]), ("", &Value::Null));
    w.pass(10).settle();
    assert_eq!(w.active().len(), 2);

    let mut w = World::new(spec(more));
    w.settle().end(0, 1).settle();
    assert_eq!(w.conditions(), "FailureTarget=BackoffLimitExceeded Failed=BackoffLimitExceeded");
}

#[test]
fn the_success_policy_ends_the_rest() {
    let policy = json!({"rules": [{"succeededIndexes": "0"}, {"succeededCount": 2}]});
    let mut w = World::new(indexed(4, 4, json!({"successPolicy": policy})));
    w.settle();
    w.end_index(0, 0).settle();
    assert_eq!(w.conditions(), "SuccessCriteriaMet=SuccessPolicy Complete=SuccessPolicy");
    assert_eq!(w.status()["conditions"][0]["message"], "Matched rules at index 0");
    assert_eq!((&w.status()["succeeded"], &w.status()["failed"]), (&json!(1), &Value::Null));
    assert_eq!((w.active().len(), w.pods.len()), (0, 1));
}

#[test]
fn replacement_policies() {
    for (policy, made) in [("TerminatingOrFailed", 2), ("Failed", 1)] {
        let mut w = World::new(spec(json!({"podReplacementPolicy": policy})));
        w.settle();
        w.pods[0]["status"]["phase"] = json!("Running");
        w.pods[0]["metadata"]["deletionTimestamp"] = json!(clock::rfc3339(w.at()));
        // A finalizer of somebody else keeps it from going.
        w.pods[0]["metadata"]["finalizers"] = json!([TRACKING]);
        w.step();
        let terminating = w.status()["terminating"].clone();
        w.pass(10).settle();
        assert_eq!((w.made, terminating), (made, json!(1)), "{policy}");
        assert_eq!(w.status()["failed"], if made == 2 { json!(1) } else { Value::Null }, "{policy}");
    }
}

#[test]
fn nothing_is_made_while_pods_are_unseen_or_the_job_goes() {
    let mut w = World::new(spec(json!({})));
    w.seen_all = false;
    w.settle();
    assert_eq!(w.made, 0);
    w.seen_all = true;
    w.settle();
    w.deleting = true;
    w.end(0, 1).settle();
    assert_eq!(w.made, 1);
    assert_eq!(w.pods[0]["metadata"]["finalizers"], json!([]));
}

#[test]
fn a_pod_is_counted_once_though_the_second_write_is_lost() {
    let mut w = World::new(spec(json!({"completions": 2})));
    w.settle();
    w.end(0, 0);
    // The uid was written and the finalizer is gone, but the counter was never written.
    w.job["status"]["uncountedTerminatedPods"] = json!({"succeeded": ["u1"]});
    w.pods[0]["metadata"]["finalizers"] = json!([]);
    w.settle();
    assert_eq!((&w.status()["succeeded"], w.made), (&json!(1), 2));
    // The uid was written, the finalizer is still there.
    w.end(1, 0);
    w.job["status"]["uncountedTerminatedPods"] = json!({"succeeded": ["u2"]});
    w.settle();
    assert_eq!((&w.status()["succeeded"], w.conditions().as_str()), (&json!(2), DONE));
}

#[test]
fn a_big_job_is_counted_in_parts() {
    let mut w = World::new(spec(json!({"completions": 700, "parallelism": 700})));
    w.step();
    assert_eq!(w.made, 500);
    w.settle();
    (0..700).for_each(|i| {
        w.end(i, 0);
    });
    w.step();
    assert_eq!(
        (&w.status()["succeeded"], w.conditions().as_str()),
        (&json!(500), "SuccessCriteriaMet=CompletionsReached")
    );
    w.settle();
    assert_eq!((&w.status()["succeeded"], w.conditions().as_str()), (&json!(700), DONE));
}
