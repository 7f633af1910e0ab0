//! The way to servers that may not answer: each request goes to whoever does. A thread follows the pods for the judge.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::http::{Answer, Http};

use crate::judge::Judge;

pub const NAMESPACE: &str = "chaos";

#[derive(Clone)]
pub struct Api {
    servers: Vec<Http>,
    pub started: Instant,
    judge: Arc<Mutex<Judge>>,
}

/// The path of something in the namespace: `own("apps/v1", "deployments/web")`.
pub fn own(version: &str, rest: &str) -> String {
    let root = if version.contains('/') { "apis" } else { "api" };
    format!("/{root}/{version}/namespaces/{NAMESPACE}/{rest}")
}

impl Api {
    pub fn new(servers: Vec<Http>) -> Self {
        let servers = servers.into_iter().map(|s| s.with_patience(Duration::from_secs(2))).collect();
        Self { servers, started: Instant::now(), judge: Arc::default() }
    }

    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, what: &str) {
        let now = self.now();
        self.judge().note(now, what);
    }

    pub fn violated(&self, key: &str, what: &str) {
        let now = self.now();
        self.judge().violated(now, key, what);
    }

    /// The answer of the first server that gives one; for a write that is no proof that no other did it before.
    pub fn send(&self, method: &str, path: &str, kind: &str, body: &Value) -> Option<Answer> {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let header = [("content-type", kind)];
        self.servers
            .iter()
            .filter_map(|s| s.try_send(method, path, &header, &bytes).ok())
            .find(|answer| answer.code < 500)
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.send("GET", path, "application/json", &Value::Null).filter(|a| a.code == 200).map(|a| a.json())
    }

    pub fn items(&self, path: &str) -> Option<Vec<Value>> {
        match self.get(path)?["items"].take() {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn create(&self, path: &str, body: &Value) -> Option<Answer> {
        self.send("POST", path, "application/json", body)
    }

    /// Whether it was done.
    pub fn patch(&self, path: &str, body: &Value) -> bool {
        self.send("PATCH", path, "application/strategic-merge-patch+json", body)
            .is_some_and(|a| a.code == 200)
    }

    pub fn delete(&self, path: &str, options: &Value) -> bool {
        self.send("DELETE", path, "application/json", options).is_some_and(|a| a.code < 300)
    }

    /// Lists and watches the pods until `end`, from whichever server answers.
    pub fn follow(self, end: &AtomicBool) {
        let mut which = 0;
        while !end.load(Ordering::Relaxed) {
            if self.follow_once(&self.servers[which % self.servers.len()], end).is_err() {
                which += 1;
                std::thread::park_timeout(Duration::from_millis(200));
            }
        }
    }

    fn follow_once(&self, server: &Http, end: &AtomicBool) -> std::io::Result<()> {
        let path = own("v1", "pods");
        let list = server.try_send("GET", &path, &[], b"")?;
        if list.code != 200 {
            return Err(std::io::Error::other("no list"));
        }
        let list = list.json();
        let now = self.now();
        self.judge().listed(now, list["items"].as_array().map_or(&[], Vec::as_slice));
        let from = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let mut lines =
            server.try_lines(&format!("{path}?watch=1&timeoutSeconds=3600&resourceVersion={from}"), &[])?;
        if lines.code != 200 {
            return Err(std::io::Error::other("no watch"));
        }
        let mut quiet = 0;
        while !end.load(Ordering::Relaxed) {
            let event = match lines.try_event() {
                // Nothing happens, or nobody is there any more.
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) && quiet < 5 => {
                    quiet += 1;
                    continue;
                }
                other => other?,
            };
            quiet = 0;
            let Some(event) = event else { return Ok(()) };
            let kind = event["type"].as_str().unwrap_or_default();
            match kind {
                "ERROR" => return Ok(()),
                "BOOKMARK" => {}
                kind => {
                    let now = self.now();
                    self.judge().pod(now, kind, &event["object"]);
                }
            }
        }
        Ok(())
    }
}
