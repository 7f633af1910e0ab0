//! What one test by upstream's name is given: a cluster that it shares with the others of its file, a namespace of its own
//! that goes with it, kubectl and HTTP as an administrator. A cluster starts with the first test that wants it.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock};

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};
use testkit::etcd::Etcd;
use testkit::http::{Answer, Http, Lines};
use testkit::{Cluster, Output, wait_for};

/// A test by upstream's name.
pub type Test = (&'static str, fn(&World));
pub type Tests = &'static [Test];

/// What the tests of a file stand on.
pub trait Stage: Send + Sync + Sized + 'static {
    fn start(name: &'static str) -> Self;
    fn cluster(&self) -> &Cluster;
    /// Where the cluster is kept, if it is there.
    fn etcd(&self) -> Option<&Etcd> {
        None
    }
}

/// A stage that starts once, and is shared.
pub struct Shared<S> {
    name: &'static str,
    stage: RwLock<Option<S>>,
    starting: Once,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl<S: Stage> Shared<S> {
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, stage: RwLock::default(), starting: Once::new() })
    }

    /// Once; should it fail, those who come later do not try again.
    fn start(&self) {
        self.starting.call_once(|| {
            let stage = S::start(self.name);
            *self.stage.write().unwrap_or_else(PoisonError::into_inner) = Some(stage);
        });
    }

    /// A test on this stage, whose name is put before its own.
    pub fn trial(self: &Arc<Self>, (name, test): Test) -> Trial {
        let shared = self.clone();
        Trial::test(format!("{}: {name}", self.name), move || {
            shared.run(name, test);
            Ok(())
        })
    }

    /// Runs one test. Those marked `[Serial]` run while no other does.
    fn run(&self, name: &str, test: fn(&World)) {
        self.start();
        let (read, write);
        let stage = if serial(name) {
            write = self.stage.write().unwrap_or_else(PoisonError::into_inner);
            write.as_ref()
        } else {
            read = self.stage.read().unwrap_or_else(PoisonError::into_inner);
            read.as_ref()
        };
        let Some(stage) = stage else { panic!("the cluster did not start") };
        // What is skipped, and what panics, is told by the name of the thread.
        let thread = std::thread::Builder::new().name(format!("{}: {name}", self.name));
        std::thread::scope(|scope| {
            let run = || test(&World::new(stage.cluster(), stage.etcd()));
            let ended = thread.spawn_scoped(scope, run).expect("a thread").join();
            ended.unwrap_or_else(|panic| resume_unwind(panic));
        });
    }
}

/// Whether a test wants the cluster for itself.
pub fn serial(name: &str) -> bool {
    name.contains("[Serial]")
}

/// That each of these names, one a line, has a test, and each test a name.
pub fn names_match(names: &str, files: &[Tests]) -> Result<(), Failed> {
    let asked: BTreeSet<&str> = names.lines().collect();
    let mut there = BTreeSet::new();
    let twice: Vec<&str> =
        files.iter().copied().flatten().map(|t| t.0).filter(|name| !there.insert(*name)).collect();
    let lacking: Vec<_> = asked.difference(&there).collect();
    let unknown: Vec<_> = there.difference(&asked).collect();
    if lacking.is_empty() && unknown.is_empty() && twice.is_empty() {
        return Ok(());
    }
    Err(format!("without a test: {lacking:#?}\nunknown names: {unknown:#?}\ntwice: {twice:#?}").into())
}

pub struct World<'c> {
    /// For what has no namespace. What a test makes there, it names after its namespace and removes: see `remove_at_end`.
    pub cluster: &'c Cluster,
    /// Where the cluster is kept, if it is there.
    pub etcd: Option<&'c Etcd>,
    pub http: Http,
    pub namespace: String,
    /// What goes when the test ends, the last first.
    made: Mutex<Vec<Passing>>,
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        let mut made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        while made.pop().is_some() {}
    }
}

impl<'c> World<'c> {
    fn new(cluster: &'c Cluster, etcd: Option<&'c Etcd>) -> Self {
        let namespace = format!("e2e-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let w = Self { cluster, etcd, http: Http::admin(cluster), namespace, made: Mutex::default() };
        w.create_namespace(&w.namespace, json!({}));
        w
    }

    fn own<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["-n", &self.namespace], args].concat()
    }

    /// kubectl in the test's namespace; it must succeed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.cluster.kubectl(&self.own(args))
    }

    pub fn try_kubectl(&self, args: &[&str], input: Option<&str>) -> Output {
        self.cluster.try_kubectl(&self.own(args), input)
    }

    /// `kubectl apply -f -` in the test's namespace.
    pub fn apply(&self, manifest: &str) -> String {
        let out = self.try_kubectl(&["apply", "-f", "-"], Some(manifest));
        assert!(out.ok, "kubectl apply failed: {}\n{manifest}", out.stderr);
        out.stdout
    }

    /// The path of a resource of this namespace: `path("api/v1", "configmaps")`.
    pub fn path(&self, version: &str, resource: &str) -> String {
        format!("/{version}/namespaces/{}/{resource}", self.namespace)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        match body {
            Value::Null => self.http.send(method, path, &[], b""),
            body => self.http.json(method, path, body),
        }
    }

    /// A request that must be answered with this code; its body.
    pub fn ask(&self, method: &str, path: &str, body: &Value, code: u16) -> Value {
        let answer = self.send(method, path, body);
        checked(&answer, code, &format!("{method} {path}"))
    }

    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null, 200)
    }

    pub fn create(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, body, 201)
    }

    /// `passing` until the end of the test.
    pub fn remove_at_end(&self, path: &str) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(self.passing(path));
    }

    /// What has no namespace, created and removed at the end of the test; its path.
    pub fn create_for_test(&self, collection: &str, body: &Value) -> String {
        let made = self.create(collection, body);
        let path = format!("{collection}/{}", made["metadata"]["name"].as_str().expect("a name"));
        self.remove_at_end(&path);
        path
    }

    /// A namespace with these labels, in which pods may be made.
    pub fn create_namespace(&self, name: &str, labels: Value) {
        let body = json!({"metadata": {"name": name, "labels": labels}});
        let path = self.create_for_test("/api/v1/namespaces", &body);
        wait_for("a namespace's account", || {
            self.http.get(&format!("{path}/serviceaccounts/default")).code == 200
        });
    }

    /// A custom resource definition of the group `<namespace>.example.com` that is served when this returns; its path.
    /// `spec` is laid over what follows from the kind's name.
    pub fn define(&self, kind: &str, spec: &Value) -> String {
        let (one, group) = (kind.to_lowercase(), format!("{}.example.com", self.namespace));
        let names = json!({"plural": format!("{one}s"), "singular": one, "kind": kind});
        let mut whole = json!({"group": group, "scope": "Namespaced", "names": names});
        for (field, value) in spec.as_object().expect("a spec") {
            whole[field] = value.clone();
        }
        let text = |v: &Value| v.as_str().expect("text").to_owned();
        let (group, plural) = (text(&whole["group"]), text(&whole["names"]["plural"]));
        let served = whole["versions"].as_array().expect("versions").iter().filter(|v| v["served"] == true);
        let served: Vec<String> =
            served.map(|v| format!("/apis/{group}/{}/{plural}", text(&v["name"]))).collect();
        let body = json!({"metadata": {"name": format!("{plural}.{group}")}, "spec": whole});
        let path = self.create_for_test("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &body);
        wait_for("a kind to be served", || served.iter().all(|list| self.http.get(list).code == 200));
        path
    }

    /// The path of a resource of the group that `define` makes, in this namespace.
    pub fn custom(&self, version: &str, resource: &str) -> String {
        self.path(&format!("apis/{}.example.com/{version}", self.namespace), resource)
    }

    /// A request that must be refused with words that have this part; the status.
    pub fn refused(&self, method: &str, path: &str, body: &Value, part: &str) -> Value {
        let answer = self.send(method, path, body);
        let whole = answer.text();
        assert!(answer.code >= 400 && answer.message().contains(part), "{method} {path}, {part}: {whole}");
        answer.json()
    }

    pub fn delete(&self, path: &str) -> Value {
        self.ask("DELETE", path, &Value::Null, 200)
    }

    /// Whether there is nothing at this path.
    pub fn gone(&self, path: &str) -> bool {
        match self.http.get(path).code {
            404 => true,
            code => {
                assert_eq!(code, 200, "GET {path}");
                false
            }
        }
    }

    /// Reads an object, changes it and writes it to a subresource (or to none: ``), until nobody came between.
    pub fn update(&self, path: &str, subresource: &str, change: impl Fn(&mut Value)) -> Value {
        loop {
            let mut object = self.get(path);
            change(&mut object);
            let to = format!("{path}{subresource}");
            let answer = self.http.json("PUT", &to, &object);
            if answer.code != 409 {
                return checked(&answer, 200, &format!("PUT {to}"));
            }
        }
    }

    /// The items of a list; the path may have a query.
    pub fn items(&self, path: &str) -> Vec<Value> {
        let mut list = self.get(path);
        match list["items"].take() {
            Value::Array(items) => items,
            _ => panic!("no list: {list}"),
        }
    }

    /// A watch from a version on.
    pub fn watch(&self, path: &str, from: &str, query: &str) -> Lines {
        let lines =
            self.http.lines(&format!("{path}?watch=1&timeoutSeconds=60&resourceVersion={from}&{query}"), &[]);
        assert_eq!(lines.code, 200);
        lines
    }

    /// What has no namespace and is deleted when what this returns goes, also in a panic; with a query it is what a list selects.
    pub fn passing(&self, path: &str) -> Passing {
        Passing { http: self.http.clone(), path: path.to_owned() }
    }

    /// A patch of this kind: `merge-patch+json`, `strategic-merge-patch+json`, `json-patch+json`.
    pub fn patch(&self, path: &str, kind: &str, body: &Value) -> Value {
        let kind = format!("application/{kind}");
        let answer = self.http.send("PATCH", path, &[("content-type", &kind)], body.to_string().as_bytes());
        checked(&answer, 200, &format!("PATCH {path}"))
    }
}

/// The version of an object or a list.
pub fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_else(|| panic!("no resource version in {object}"))
}

/// Whether an object is a newer state than another.
pub fn newer(object: &Value, than: &Value) -> bool {
    let number = |o| version(o).parse::<u64>().expect("a resource version is a number");
    number(object) > number(than)
}

/// Whether everything in `wanted` is in a value: fields of objects, values otherwise.
pub fn holds(value: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.iter().all(|(name, wanted)| holds(&value[name], wanted)),
        wanted => value == wanted,
    }
}

#[track_caller]
pub fn assert_holds(value: &Value, wanted: &Value) {
    assert!(holds(value, wanted), "{wanted} is not in {value:#}");
}

/// The next event of a watch that is as wanted; its object.
pub fn event(lines: &mut Lines, kind: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
    loop {
        let mut event = lines.event().expect("the watch ended before the event");
        assert_ne!(event["type"], "ERROR", "{event}");
        if event["type"] == kind && wanted(&event["object"]) {
            return event["object"].take();
        }
    }
}

/// Deletes what is at a path when it goes.
pub struct Passing {
    http: Http,
    path: String,
}

impl Drop for Passing {
    fn drop(&mut self) {
        match self.http.try_send("DELETE", &self.path, &[], b"") {
            Ok(answer) if matches!(answer.code, 200 | 202 | 404) => {}
            failed => eprintln!("failed to delete {}: {failed:?}", self.path),
        }
    }
}

fn checked(answer: &Answer, code: u16, what: &str) -> Value {
    assert_eq!(answer.code, code, "{what}: {}", answer.text());
    answer.json()
}
