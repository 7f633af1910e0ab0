//! What must hold at every moment, judged from the events of watches. Pure: it is fed events and times, and tells what was
//! violated, with what came last before.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use serde_json::Value;

/// Events that a violation is told with.
const LAST: usize = 40;
/// A wish counts so long after another has taken its place: what follows from it may be under way.
const WISHES_LAST: Duration = Duration::from_secs(60);
/// What a rollout of the deployments here may add.
pub const SURGE: u64 = 1;

#[derive(Debug, Clone, Default)]
struct Pod {
    name: String,
    app: String,
    /// The UID of what owns it.
    owner: String,
    node: String,
    leaving: bool,
    ended: bool,
    succeeded: bool,
    was_ready: bool,
    ready: bool,
    milli: u64,
}

#[derive(Debug, Default)]
pub struct Judge {
    pods: HashMap<String, Pod>,
    /// What was wished for a deployment, and until when it counts.
    wishes: HashMap<String, Vec<(u64, Option<Duration>)>>,
    last: VecDeque<String>,
    pub events: usize,
    pub violations: Vec<String>,
    told: HashSet<String>,
    /// All pods that ever were.
    pub uids: HashSet<String>,
    /// How many pods of a job are to succeed.
    pub completions: HashMap<String, u64>,
    /// Those that did, also when they are gone.
    succeeded: HashMap<String, HashSet<String>>,
    /// Millis of CPU of each node.
    pub room: BTreeMap<String, u64>,
}

fn text<'a>(v: &'a Value, path: &str) -> &'a str {
    v.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// `700m`, `2`.
pub fn milli(quantity: &str) -> u64 {
    match quantity.strip_suffix('m') {
        Some(n) => n.parse().unwrap_or_default(),
        None => quantity.parse::<u64>().unwrap_or_default() * 1000,
    }
}

impl Pod {
    fn of(o: &Value) -> Self {
        let conditions = o["status"]["conditions"].as_array();
        let ready =
            conditions.is_some_and(|l| l.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"));
        let containers = o["spec"]["containers"].as_array().into_iter().flatten();
        Self {
            name: text(o, "/metadata/name").to_owned(),
            app: text(o, "/metadata/labels/app").to_owned(),
            owner: text(o, "/metadata/ownerReferences/0/uid").to_owned(),
            node: text(o, "/spec/nodeName").to_owned(),
            leaving: o["metadata"]["deletionTimestamp"].is_string(),
            ended: matches!(text(o, "/status/phase"), "Succeeded" | "Failed"),
            succeeded: text(o, "/status/phase") == "Succeeded",
            was_ready: ready,
            ready,
            milli: containers.map(|c| milli(text(c, "/resources/requests/cpu"))).sum(),
        }
    }
    fn active(&self) -> bool {
        !self.leaving && !self.ended
    }
    fn ordinal(&self) -> Option<u64> {
        self.name.strip_prefix("db-")?.parse().ok()
    }
}

impl Judge {
    /// A deployment is wished to have so many replicas from now on.
    pub fn wish(&mut self, now: Duration, deployment: &str, replicas: u64) {
        let all = self.wishes.entry(deployment.to_owned()).or_default();
        all.retain(|(_, until)| until.is_none_or(|u| u > now));
        for (_, until) in all.iter_mut().filter(|(_, until)| until.is_none()) {
            *until = Some(now + WISHES_LAST);
        }
        all.push((replicas, None));
        self.note(now, &format!("{deployment} is to have {replicas} replicas"));
    }

    /// Something that a violation is to be told with.
    pub fn note(&mut self, now: Duration, what: &str) {
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(format!("{:8.3} {what}", now.as_secs_f64()));
    }

    pub fn last(&self) -> Vec<&str> {
        self.last.iter().map(String::as_str).collect()
    }

    /// Once for each kind and object.
    pub fn violated(&mut self, now: Duration, key: &str, what: &str) {
        if !self.told.insert(key.to_owned()) {
            return;
        }
        let text = format!("at {:.3} s: {what}\n    {}", now.as_secs_f64(), self.last().join("\n    "));
        self.violations.push(text);
    }

    /// A pod from a watch: `ADDED`, `MODIFIED` or `DELETED`.
    pub fn pod(&mut self, now: Duration, kind: &str, o: &Value) {
        self.events += 1;
        let uid = text(o, "/metadata/uid").to_owned();
        self.uids.insert(uid.clone());
        let mut pod = Pod::of(o);
        let state = if pod.leaving { "leaving" } else { text(o, "/status/phase") };
        self.note(now, &format!("{kind} {} {state} on {:?}, ready {}", pod.name, pod.node, pod.ready));
        let before = if kind == "DELETED" { self.pods.remove(&uid) } else { self.pods.get(&uid).cloned() };
        if let Some(before) = &before {
            pod.was_ready |= before.was_ready;
            if !before.node.is_empty() && before.node != pod.node {
                let what =
                    format!("pod {} was bound twice: to {} and to {}", pod.name, before.node, pod.node);
                self.violated(now, &format!("bound {uid}"), &what);
            }
        }
        if pod.succeeded {
            self.not_too_often(now, &pod.app, &uid);
        }
        if kind == "DELETED" {
            return;
        }
        let (fresh, bound) =
            (before.is_none(), before.is_none_or(|b| b.node.is_empty()) && !pod.node.is_empty());
        if fresh && kind == "ADDED" {
            self.in_turn(now, &pod);
        }
        self.pods.insert(uid, pod.clone());
        if fresh {
            self.not_too_many(now, &pod);
        }
        if bound {
            self.fits(now, &pod.node);
        }
    }

    /// A list: what is not in it is gone. What happened in between was not seen.
    pub fn listed(&mut self, now: Duration, items: &[Value]) {
        let there: HashSet<&str> = items.iter().map(|o| text(o, "/metadata/uid")).collect();
        self.pods.retain(|uid, _| there.contains(uid.as_str()));
        for o in items {
            self.pod(now, "LISTED", o);
        }
        for pod in self.pods.values_mut() {
            pod.was_ready = true;
        }
    }

    /// No set of a deployment has at any time more pods that are to stay than are wished, and the surge. All sets together
    /// may: a deployment counts what its sets are to have, and one that has to give up pods does it in its own time.
    fn not_too_many(&mut self, now: Duration, pod: &Pod) {
        let Some(wishes) = self.wishes.get(&pod.app) else { return };
        let counts = |until: &Option<Duration>| until.is_none_or(|u| u > now);
        let most =
            wishes.iter().filter(|(_, until)| counts(until)).map(|(n, _)| *n).max().unwrap_or(0) + SURGE;
        let there = self.pods.values().filter(|p| p.owner == pod.owner && p.active()).count() as u64;
        if there > most {
            let app = &pod.app;
            let what =
                format!("a set of {app} has {there} pods that are to stay, {most} at most were wished");
            self.violated(now, &format!("many {app}"), &what);
        }
    }

    /// The pods of a stateful set come one after the other, each when the one before has been ready.
    fn in_turn(&mut self, now: Duration, pod: &Pod) {
        let Some(ordinal) = pod.ordinal().filter(|_| pod.app == "db") else { return };
        for n in 0..ordinal {
            let name = format!("db-{n}");
            if !self.pods.values().any(|p| p.name == name && p.was_ready) {
                let what = format!("{} was made though {name} has never been ready", pod.name);
                self.violated(now, &format!("order {}", pod.name), &what);
            }
        }
    }

    /// A node is given no more than it has.
    fn fits(&mut self, now: Duration, node: &str) {
        let Some(room) = self.room.get(node).copied() else { return };
        let taken: u64 = self.pods.values().filter(|p| p.node == node && !p.ended).map(|p| p.milli).sum();
        if taken > room {
            let what = format!("{node} has {room} millis of CPU and was given pods that ask for {taken}");
            self.violated(now, &format!("room {node}"), &what);
        }
    }

    /// No more pods of a job succeed than it asks for.
    fn not_too_often(&mut self, now: Duration, job: &str, uid: &str) {
        let Some(wanted) = self.completions.get(job).copied() else { return };
        let all = self.succeeded.entry(job.to_owned()).or_default();
        all.insert(uid.to_owned());
        if all.len() as u64 > wanted {
            let what = format!("{} pods of {job} succeeded, {wanted} were asked for", all.len());
            self.violated(now, &format!("completions {job}"), &what);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, name: &str, app: &str, node: &str, ready: bool) -> Value {
        let condition = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        let container = json!([{"resources": {"requests": {"cpu": "700m"}}}]);
        json!({
            "metadata": {"uid": uid, "name": name, "labels": {"app": app}},
            "spec": {"nodeName": node, "containers": container},
            "status": {"phase": "Running", "conditions": condition},
        })
    }

    const NOW: Duration = Duration::from_secs(1);

    fn judged(events: &[(&str, Value)]) -> Vec<String> {
        let mut judge = Judge::default();
        judge.room.insert("n1".to_owned(), 2000);
        judge.wish(Duration::ZERO, "web", 1);
        for (kind, pod) in events {
            judge.pod(NOW, kind, pod);
        }
        judge.violations
    }

    #[test]
    fn each_rule_has_a_breach_and_a_history_without() {
        let web = |n: u32| ("ADDED", pod(&n.to_string(), &format!("web-{n}"), "web", "", true));
        assert!(judged(&[web(1), web(2)]).is_empty(), "one more is the surge");
        assert!(judged(&[web(1), web(2), web(3)])[0].contains("3 pods that are to stay"));

        let mut judge = Judge::default();
        judge.completions.insert("j".to_owned(), 1);
        for uid in ["1", "1", "2"] {
            assert!(judge.violations.is_empty());
            let mut done = pod(uid, "j-1", "j", "n1", false);
            done["status"]["phase"] = json!("Succeeded");
            judge.pod(NOW, "MODIFIED", &done);
        }
        assert!(judge.violations[0].contains("2 pods of j succeeded"));

        let bound = |node: &str| ("MODIFIED", pod("a", "a", "x", node, false));
        assert!(judged(&[bound(""), bound("n1"), bound("n1")]).is_empty());
        assert!(judged(&[bound("n1"), bound("n2")])[0].contains("bound twice"));

        let on = |n: u32| ("ADDED", pod(&n.to_string(), "big", "big", "n1", false));
        assert!(judged(&[on(1), on(2)]).is_empty());
        assert!(judged(&[on(1), on(2), on(3)])[0].contains("ask for 2100"));

        let db = |n: u32, ready| ("ADDED", pod(&n.to_string(), &format!("db-{n}"), "db", "", ready));
        assert!(judged(&[db(0, true), db(1, false)]).is_empty());
        assert!(judged(&[db(0, false), db(1, false)])[0].contains("db-0 has never been ready"));
        assert!(judged(&[db(1, false)])[0].contains("db-0 has never been ready"));
    }

    #[test]
    fn a_wish_counts_for_a_while_after_the_next() {
        let mut judge = Judge::default();
        judge.wish(Duration::ZERO, "web", 5);
        judge.wish(Duration::from_secs(1), "web", 1);
        for n in 0..3 {
            judge.pod(Duration::from_secs(2), "ADDED", &pod(&n.to_string(), "web", "web", "", true));
        }
        assert!(judge.violations.is_empty());
        judge.pod(Duration::from_secs(100), "ADDED", &pod("late", "web", "web", "", true));
        assert_eq!(judge.violations.len(), 1);
    }
}
