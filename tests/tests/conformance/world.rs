//! What one test is given: a cluster that it shares with the others, a namespace of its own that goes with it, kubectl and
//! HTTP as an administrator. A cluster starts with the first test that wants it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Once, PoisonError, RwLock};

use serde_json::Value;
use testkit::etcd::Etcd;
use testkit::http::{Answer, Http};
use testkit::{Cluster, Output, node_possible};

/// A test by upstream's name.
pub type Test = (&'static str, fn(&World));
pub type Tests = &'static [Test];

pub const ENGINES: [&str; 2] = ["embedded", "etcd"];

/// The fields end in this order: the cluster before what it stands on.
struct Shared {
    cluster: Cluster,
    _etcd: Option<Etcd>,
}

/// A cluster on one engine.
pub struct Engine {
    pub name: &'static str,
    shared: RwLock<Option<Shared>>,
    starting: Once,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Engine {
    pub fn new(name: &'static str) -> Self {
        Self { name, shared: RwLock::default(), starting: Once::new() }
    }

    /// Once; should it fail, those who come later do not try again.
    fn start(&self) {
        self.starting.call_once(|| {
            let etcd = (self.name == "etcd").then(|| Etcd::start().expect("an etcd"));
            let servers = etcd.as_ref().map(|e| format!("--etcd-servers={}", e.url()));
            let flags: Vec<&str> = servers.iter().map(String::as_str).collect();
            let node = node_possible();
            let cluster = Cluster::with_flags(node, &flags);
            if node {
                cluster.import_busybox();
            }
            let shared = Shared { cluster, _etcd: etcd };
            *self.shared.write().unwrap_or_else(PoisonError::into_inner) = Some(shared);
        });
    }

    /// Runs one test. Those marked `[Serial]` run while no other does.
    pub fn run(&self, name: &str, test: fn(&World)) {
        self.start();
        let (read, write);
        let shared = if name.contains("[Serial]") {
            write = self.shared.write().unwrap_or_else(PoisonError::into_inner);
            write.as_ref()
        } else {
            read = self.shared.read().unwrap_or_else(PoisonError::into_inner);
            read.as_ref()
        };
        let Some(Shared { cluster, .. }) = shared else { panic!("the cluster did not start") };
        let namespace = format!("e2e-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        cluster.kubectl(&["create", "namespace", &namespace]);
        let world = World { cluster, http: Http::admin(cluster), namespace };
        let outcome = catch_unwind(AssertUnwindSafe(|| test(&world)));
        cluster.kubectl(&["delete", "namespace", &world.namespace, "--wait=false", "--ignore-not-found"]);
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    }
}

pub struct World<'c> {
    /// For what has no namespace. What a test makes there, it names after its namespace and removes.
    pub cluster: &'c Cluster,
    pub http: Http,
    pub namespace: String,
}

impl World<'_> {
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

    /// A request that must be answered with this code; its body.
    pub fn ask(&self, method: &str, path: &str, body: &Value, code: u16) -> Value {
        let answer = match body {
            Value::Null => self.http.send(method, path, &[], b""),
            body => self.http.json(method, path, body),
        };
        checked(&answer, code, &format!("{method} {path}"))
    }

    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, &Value::Null, 200)
    }

    pub fn create(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, body, 201)
    }

    pub fn delete(&self, path: &str) -> Value {
        self.ask("DELETE", path, &Value::Null, 200)
    }

    /// A patch of this kind: `merge-patch+json`, `strategic-merge-patch+json`, `json-patch+json`.
    pub fn patch(&self, path: &str, kind: &str, body: &Value) -> Value {
        let kind = format!("application/{kind}");
        let answer = self.http.send("PATCH", path, &[("content-type", &kind)], body.to_string().as_bytes());
        checked(&answer, 200, &format!("PATCH {path}"))
    }
}

fn checked(answer: &Answer, code: u16, what: &str) -> Value {
    assert_eq!(answer.code, code, "{what}: {}", answer.text());
    answer.json()
}
