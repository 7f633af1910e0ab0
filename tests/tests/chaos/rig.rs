//! What is broken and made good again, and who does it: the machines, and the driver that carries a plan out and counts.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::machines::{Machines, NODES};
use serde_json::{Value, json};
use testkit::etcd::Etcd;
use testkit::{Cluster, wait_for};

use crate::api::{Api, NAMESPACE, own};
use crate::judge::milli;
use crate::plan::{Fault, Op};
use crate::{settled, workloads};

/// The fields end in this order: servers before what they stand on.
pub struct Rig {
    pub other: Option<Cluster>,
    pub machines: Machines,
    pub etcd: Vec<Etcd>,
}

/// A node that is silent for so long is unknown; signs of life come every ten seconds.
const FLAGS: [&str; 2] = ["--node-monitor-grace-period", "15s"];
/// What a loop knows is always a little old.
const VARIABLES: [(&str, &str); 1] = [("KELSON_SLOW_INFORMERS", "15")];

impl Rig {
    pub fn alone() -> Option<Self> {
        let machines = Machines::on(Machines::hosts()?, &FLAGS, &VARIABLES);
        Some(Self { other: None, machines, etcd: Vec::new() })
    }

    /// A server with a node and one without, on three members.
    pub fn on_etcd() -> Option<Self> {
        let hosts = Machines::hosts()?;
        let etcd = Etcd::cluster_at(hosts.own(), 3, &[])?;
        let servers: Vec<String> = etcd.iter().map(Etcd::url).collect();
        let servers = format!("--etcd-servers={}", servers.join(","));
        let n = std::process::id() % 40;
        let networks =
            [format!("--service-cidr=10.{}.0.0/16", 60 + n), format!("--cluster-cidr=10.{}.0.0/16", 20 + n)];
        let mut flags = FLAGS.to_vec();
        flags.extend([servers.as_str(), networks[0].as_str(), networks[1].as_str()]);
        let own = format!("--advertise-address={}", hosts.own());
        let machines = Machines::on(hosts, &flags, &VARIABLES);
        let mut other = Cluster::with_keys_of(&machines.cluster, &[&flags[..], &[own.as_str()]].concat());
        other.set_variable(VARIABLES[0].0, VARIABLES[0].1);
        other.run();
        Some(Self { other: Some(other), machines, etcd })
    }

    /// The server that runs the loops.
    fn leader(&mut self, api: &Api) -> &mut Cluster {
        let lease =
            api.get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager");
        let holder =
            lease.and_then(|l| l["spec"]["holderIdentity"].as_str().map(str::to_owned)).unwrap_or_default();
        let leads = |c: &Cluster| !holder.is_empty() && c.log().contains(&holder);
        match &mut self.other {
            Some(other) if leads(other) => other,
            _ => &mut self.machines.cluster,
        }
    }
}

pub struct Driver<'a> {
    api: &'a Api,
    /// Jobs with their completions.
    jobs: Vec<(String, u64)>,
    cordoned: Vec<(Duration, usize)>,
    rolled: u64,
    /// What was done, how often, and how often nobody took it.
    counts: BTreeMap<String, (u32, u32)>,
    faults: Vec<String>,
    /// Until when the loops may lag behind: they stood still, or begin anew.
    behind: Duration,
}

/// Loops that begin anew have caught up after this.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Whether controllers stand still, or begin anew, because of it.
fn stops_loops(fault: Fault) -> bool {
    !matches!(fault, Fault::KillAgent(_) | Fault::PauseAgent(_) | Fault::Cut { .. })
}

impl<'a> Driver<'a> {
    pub fn new(api: &'a Api) -> Self {
        Self {
            api,
            jobs: Vec::new(),
            cordoned: Vec::new(),
            rolled: 0,
            counts: BTreeMap::new(),
            faults: Vec::new(),
            behind: Duration::ZERO,
        }
    }

    /// The workloads; whether they are ready before anything breaks.
    pub fn make(&mut self, rig: &Rig) -> bool {
        rig.machines.wait_ready();
        for node in NODES {
            let n = self.api.get(&format!("/api/v1/nodes/{node}")).expect("a node");
            let cpu = n["status"]["allocatable"]["cpu"].as_str().expect("CPU");
            self.api.judge().room.insert(node.to_owned(), milli(cpu));
        }
        let made = |path: &str, body: &Value| {
            let answer = self.api.create(path, body).expect("an answer");
            assert_eq!(answer.code, 201, "{path}: {}", answer.text());
        };
        made("/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}}));
        wait_for("the namespace's account", || self.api.get(&own("v1", "serviceaccounts/default")).is_some());
        let now = self.api.now();
        self.api.judge().wish(now, "web", 4);
        self.api.judge().wish(now, "big", 2);
        for (version, collection, body) in workloads::all(&crate::doubles::mark()) {
            made(&own(version, collection), &body);
        }
        let fine = || self.api.judge().violations.is_empty();
        let settled = settled::wait(self.api, Duration::from_secs(120), || {
            if fine() { settled::settled(self.api, &[]) } else { Ok(()) }
        });
        if let Err(why) = settled {
            self.api.violated("start", &format!("it does not come right from the start: {why}"));
        }
        fine()
    }

    fn count(&mut self, what: &str, done: bool) {
        let (times, refused) = self.counts.entry(what.to_owned()).or_default();
        *times += 1;
        *refused += u32::from(!done);
    }

    fn scale(&mut self, what: &str, to: u64) -> bool {
        // Also when no answer comes it may have been done.
        if matches!(what, "web" | "big") {
            let now = self.api.now();
            self.api.judge().wish(now, what, to);
        }
        let path = own("apps/v1", &format!("{}/{what}", workloads::resource(what)));
        self.api.patch(&path, &json!({"spec": {"replicas": to}}))
    }

    fn pods(&self, app: &str) -> Vec<Value> {
        let path = own("v1", &format!("pods?labelSelector=app%3D{app}"));
        let mut all = self.api.items(&path).unwrap_or_default();
        all.sort_by_key(|p| p["metadata"]["name"].to_string());
        all
    }

    fn pod_path(pod: &Value) -> String {
        own("v1", &format!("pods/{}", pod["metadata"]["name"].as_str().unwrap_or_default()))
    }

    fn evict(&self, pod: &Value) -> Option<u16> {
        let metadata = json!({"name": pod["metadata"]["name"], "namespace": NAMESPACE});
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata});
        let path = format!("{}/eviction", Self::pod_path(pod));
        self.api.create(&path, &body).map(|answer| answer.code)
    }

    pub fn op(&mut self, op: Op) {
        self.api.note(&format!("{op:?}"));
        let (name, done) = match op {
            Op::Scale { what, to } => ("scale", self.scale(what, to)),
            Op::Roll(what) => {
                self.rolled += 1;
                let path = own("apps/v1", &format!("{}/{what}", workloads::resource(what)));
                let annotation = json!({"metadata": {"annotations": {"rolled": self.rolled.to_string()}}});
                ("roll", self.api.patch(&path, &json!({"spec": {"template": annotation}})))
            }
            Op::DeletePod { of, nth } => {
                let pods = self.pods(of);
                let pod = usize::try_from(nth).ok().and_then(|n| pods.get(n));
                ("delete a pod", pod.is_some_and(|p| self.api.delete(&Self::pod_path(p), &json!({}))))
            }
            Op::Evict => ("evict all at once", self.evict_all()),
            Op::Drain { node, seconds } => ("drain", self.drain(node, seconds)),
            Op::Job { completions, .. } => {
                let name = format!("job-{}", self.jobs.len());
                self.api.judge().completions.insert(name.clone(), completions);
                let made = self.api.create(&own("batch/v1", "jobs"), &workloads::job(&name, op));
                // Without an answer it may be there, or not: it is looked for in the end.
                self.jobs.push((name, completions));
                ("job", made.is_some_and(|a| a.code == 201))
            }
        };
        self.count(name, done);
    }

    /// It was not done: those before took too long.
    pub fn miss(&mut self, op: Op) {
        self.api.note(&format!("{op:?} was missed"));
        self.count("missed", true);
    }

    /// All pods of the budget at once: no more may go than it has to spare.
    fn evict_all(&self) -> bool {
        let ready = |all: &[Value]| -> Vec<Value> {
            let is = |p: &&Value| {
                let mut conditions = p["status"]["conditions"].as_array().into_iter().flatten();
                !p["metadata"]["deletionTimestamp"].is_string()
                    && conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
            };
            all.iter().filter(is).cloned().collect()
        };
        let before = ready(&self.pods("web"));
        if before.is_empty() {
            return false;
        }
        // An eviction goes by what the budget's status says. While no loop keeps that up to date, here as upstream, pods that
        // stopped being ready since are not known to it.
        let told = match self.api.now() < self.behind {
            true => self.api.items(&own("policy/v1", "poddisruptionbudgets")).unwrap_or_default(),
            false => Vec::new(),
        };
        let told = told.iter().filter_map(|b| b["status"]["disruptionsAllowed"].as_u64()).max().unwrap_or(0);
        let codes: Vec<Option<u16>> = std::thread::scope(|scope| {
            let asked: Vec<_> = before.iter().map(|p| scope.spawn(|| self.evict(p))).collect();
            asked.into_iter().map(|t| t.join().unwrap_or_default()).collect()
        });
        let gone = codes.iter().filter(|c| **c == Some(201)).count() as u64;
        // What has become ready meanwhile may have made room for one more.
        let uid = |p: &Value| p["metadata"]["uid"].to_string();
        let known: Vec<String> = before.iter().map(uid).collect();
        let more = ready(&self.pods("web")).iter().filter(|p| !known.contains(&uid(p))).count() as u64;
        let most = (before.len() as u64 + more).saturating_sub(workloads::BUDGET).max(told);
        if gone > most {
            let what = format!(
                "{gone} pods were evicted at once: {} were ready, {more} more came, and the budget keeps {}",
                before.len(),
                workloads::BUDGET
            );
            self.api.violated("budget", &what);
        }
        codes.iter().all(Option::is_some)
    }

    fn cordon(&self, node: usize, on: bool) -> bool {
        self.api.patch(&format!("/api/v1/nodes/{}", NODES[node]), &json!({"spec": {"unschedulable": on}}))
    }

    fn drain(&mut self, node: usize, seconds: u64) -> bool {
        let done = self.cordon(node, true);
        self.cordoned.push((self.api.now() + Duration::from_secs(seconds), node));
        let on = own("v1", &format!("pods?fieldSelector=spec.nodeName%3D{}", NODES[node]));
        let pods = self.api.items(&on).unwrap_or_default();
        for pod in pods.iter().filter(|p| p["metadata"]["labels"]["app"] != "each") {
            self.evict(pod);
        }
        done
    }

    /// What has become due.
    pub fn tend(&mut self) {
        let now = self.api.now();
        let due: Vec<usize> =
            self.cordoned.iter().filter(|(at, _)| *at <= now).map(|(_, node)| *node).collect();
        for node in due {
            if self.cordon(node, false) {
                self.cordoned.retain(|(_, n)| *n != node);
            }
        }
    }

    /// While a node does not answer: its pods of a set have to go, and are wished again. And one is deleted by force.
    fn beside_a_lost_node(&mut self, node: usize) {
        for to in [0, 3] {
            let done = self.scale("kv", to);
            self.count("scale", done);
        }
        let there = |p: &&Value| p["spec"]["nodeName"] == NODES[node];
        if let Some(pod) = self.pods("web").iter().find(there) {
            let done = self.api.delete(&Self::pod_path(pod), &json!({"gracePeriodSeconds": 0}));
            self.count("delete by force", done);
        }
    }

    pub fn break_it(&mut self, fault: Fault, rig: &mut Rig) {
        self.api.note(&format!("{fault:?} begins"));
        self.faults.push(format!("{:8.1} s {fault:?}", self.api.now().as_secs_f64()));
        let m = &mut rig.machines;
        match fault {
            Fault::KillAgent(n) => {
                m.agents[n - 1].crash();
                self.beside_a_lost_node(n);
            }
            Fault::PauseAgent(n) => {
                m.agents[n - 1].pause();
                self.beside_a_lost_node(n);
            }
            Fault::Cut { host, way } => {
                m.hosts.host(host).cut(way);
                if host > 0 {
                    self.beside_a_lost_node(host);
                }
            }
            Fault::KillServer => m.cluster.crash(),
            Fault::KillMidway { milliseconds, to } => {
                self.scale("web", to);
                std::thread::park_timeout(Duration::from_millis(milliseconds));
                m.cluster.crash();
            }
            Fault::PauseServer => m.cluster.pause(),
            Fault::ShiftClock { seconds } => {
                m.cluster.crash();
                m.cluster.set_variable("KELSON_CLOCK_SHIFT", &seconds.to_string());
                m.cluster.run();
            }
            Fault::PauseLeader => rig.leader(self.api).pause(),
            Fault::KillLeader => rig.leader(self.api).crash(),
            Fault::LoseEtcd(member) => rig.etcd[member].crash(),
        }
        if stops_loops(fault) {
            self.behind = Duration::MAX;
        }
    }

    pub fn mend(&mut self, fault: Fault, rig: &mut Rig) {
        self.api.note(&format!("{fault:?} ends"));
        let m = &mut rig.machines;
        match fault {
            Fault::KillAgent(n) => m.agents[n - 1].run(),
            Fault::PauseAgent(n) => m.agents[n - 1].resume(),
            Fault::Cut { host, .. } => m.hosts.host(host).mend(),
            Fault::KillServer | Fault::KillMidway { .. } => m.cluster.run(),
            Fault::PauseServer | Fault::PauseLeader => {
                m.cluster.resume();
                rig.other.iter().for_each(Cluster::resume);
            }
            Fault::ShiftClock { .. } => {
                m.cluster.crash();
                m.cluster.set_variable("KELSON_CLOCK_SHIFT", "");
                m.cluster.run();
            }
            Fault::KillLeader => {
                for c in [&mut m.cluster].into_iter().chain(&mut rig.other).filter(|c| c.pid() == 0) {
                    c.run();
                }
            }
            Fault::LoseEtcd(member) => rig.etcd[member].run(),
        }
        if stops_loops(fault) {
            self.behind = self.api.now() + CATCH_UP;
        }
        self.faults.push(format!("{:8.1} s made good", self.api.now().as_secs_f64()));
    }

    /// Nothing breaks any more: all has to come right again, and once more after a pod of each is deleted.
    pub fn finish(&mut self) {
        self.api.note("nothing breaks any more");
        self.cordoned = (0..NODES.len()).map(|n| (Duration::ZERO, n)).collect();
        let last = settled::wait(self.api, Duration::from_secs(60), || {
            self.tend();
            if self.cordoned.is_empty() { Ok(()) } else { Err("nodes stay cordoned".to_owned()) }
        });
        // As many as there is room for.
        let fits = settled::wait(self.api, Duration::from_secs(30), || {
            if self.scale("big", 4) && self.scale("web", 4) {
                Ok(())
            } else {
                Err("nobody scales".to_owned())
            }
        });
        for why in [last, fits].into_iter().filter_map(Result::err) {
            self.api.violated("finish", &why);
        }
        let jobs = self.jobs.clone();
        let there =
            |(name, _): &&(String, u64)| self.api.get(&own("batch/v1", &format!("jobs/{name}"))).is_some();
        let jobs: Vec<(String, u64)> = jobs.iter().filter(there).cloned().collect();
        let settle = |when: &str, patience| {
            let result =
                settled::wait(self.api, Duration::from_secs(patience), || settled::settled(self.api, &jobs));
            if let Err(why) = result {
                self.api.violated("settled", &format!("it does not come right again {when}: {why}"));
            }
        };
        settle("after the faults", 90);
        // A loop that missed a deletion looks again after a minute: that would be too late. Twice, should such a minute end
        // in between.
        for _ in 0..2 {
            for app in ["web", "big"].into_iter().chain(workloads::SETS) {
                self.api.note(&format!("the last pod of {app} is deleted"));
                if let Some(pod) = self.pods(app).last() {
                    self.api.delete(&Self::pod_path(pod), &json!({}));
                }
            }
            let leaving = |p: &Value| p["metadata"]["deletionTimestamp"].is_string();
            let _ = settled::wait(self.api, Duration::from_secs(20), || {
                if self.pods("web").iter().any(leaving) { Err(String::new()) } else { Ok(()) }
            });
            settle("after a deletion", 40);
        }
    }

    pub fn report(&self, seed: u64, length: Duration) -> (String, bool) {
        let judge = self.api.judge();
        let mut out = format!("seed {seed}, {} s of faults, {} events\n", length.as_secs(), judge.events);
        for (what, (times, refused)) in &self.counts {
            out += &format!("  {times:5} x {what}, {refused} of them not taken\n");
        }
        out += &format!("faults:\n  {}\n", self.faults.join("\n  "));
        if judge.violations.is_empty() {
            out += &format!("nothing was violated; what came last:\n    {}\n", judge.last().join("\n    "));
        }
        for v in &judge.violations {
            out += &format!("VIOLATED {v}\n");
        }
        (out, judge.violations.is_empty())
    }
}
