//! Requests that are wrong in every way a client can be wrong, against the real program over TLS: the status code, the
//! reason and the sentence are upstream's, and the server never panics.

mod access;
mod bodies;
mod patches;
mod reading;
mod wire;

use serde_json::{Value, json};
use testkit::Cluster;
use testkit::http::{Answer, Http};

pub const CMS: &str = "/api/v1/namespaces/default/configmaps";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// A cluster, its administrator, and what went wrong so far: one run tells of all differences.
pub struct Bench {
    pub cluster: Cluster,
    pub http: Http,
    wrong: Vec<String>,
}

impl Bench {
    pub fn start() -> Self {
        let cluster = Cluster::control_plane();
        let http = Http::admin(&cluster);
        testkit::wait_for("the default service account", || {
            http.get("/api/v1/namespaces/default/serviceaccounts/default").code == 200
        });
        Self { cluster, http, wrong: Vec::new() }
    }

    pub fn config_map(&self, name: &str) -> Value {
        let a = self.http.json("POST", CMS, &config_map(name));
        assert_eq!(a.code, 201, "{}", a.text());
        a.json()
    }

    /// Holds an answer against code, reason and message. A message that ends in `…` is a beginning.
    pub fn check(&mut self, what: &str, a: &Answer, code: u16, reason: &str, message: &str) {
        let said = a.message();
        let fits = match message.strip_suffix('…') {
            Some(head) => said.starts_with(head),
            None => said == message,
        };
        if a.code != code || a.reason() != reason || !fits {
            self.wrong.push(format!(
                "{what}:\n  wanted {code} {reason:?} {message:?}\n  got    {} {:?} {:?}",
                a.code,
                a.reason(),
                if said.is_empty() { a.text().chars().take(400).collect() } else { said }
            ));
        }
        let v = a.json();
        if code >= 400 && (v["kind"] != "Status" || v["status"] != "Failure" || v["code"] != a.code) {
            self.wrong.push(format!(
                "{what}: no proper Status: {}",
                a.text().chars().take(300).collect::<String>()
            ));
        }
    }

    pub fn equal(&mut self, what: &str, got: &Value, want: Value) {
        if *got != want {
            self.wrong.push(format!("{what}:\n  wanted {want}\n  got    {got}"));
        }
    }

    /// Fails with everything that was wrong, or when the server panicked.
    pub fn end(self) {
        let log = self.cluster.log();
        let panics: Vec<&str> = log.lines().filter(|l| l.contains("panicked")).collect();
        assert!(panics.is_empty(), "the server panicked:\n{}", panics.join("\n"));
        let ok = self.http.get("/readyz");
        assert_eq!((ok.code, ok.text().as_str()), (200, "ok"));
        assert!(self.wrong.is_empty(), "{} differences:\n{}", self.wrong.len(), self.wrong.join("\n"));
    }
}

pub fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

pub fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}})
}
