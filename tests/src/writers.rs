//! Writers that keep book of what was answered, so that it can be held against what a cluster has after a crash. Each is a
//! thread of its own with objects of its own; all end when told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http;

/// Path and kind of what is written; the value stands in an annotation, which every kind has.
pub const KINDS: &[(&str, &str, &str)] = &[
    ("/api/v1", "v1", "ConfigMap"),
    ("/api/v1", "v1", "Secret"),
    ("/apis/coordination.k8s.io/v1", "coordination.k8s.io/v1", "Lease"),
    ("/apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io/v1", "Role"),
];

pub fn collection(kind: usize) -> String {
    let (root, _, kind) = KINDS[kind % KINDS.len()];
    format!("{root}/namespaces/default/{}s", kind.to_lowercase())
}

/// What an object must be: the last answered state, or, where an answer never came, the one asked for. `None`: absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fate {
    pub answered: Option<String>,
    pub asked: Option<Option<String>>,
}

impl Fate {
    fn allows(&self, found: Option<&str>) -> bool {
        self.answered.as_deref() == found || self.asked.as_ref().is_some_and(|a| a.as_deref() == found)
    }
}

type Book = BTreeMap<(usize, String), Fate>;

pub struct Writers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Book>>,
}

/// Long enough to lie in many sectors, and all of one piece.
fn value(name: &str, version: usize) -> String {
    format!("{name}={version};").repeat(150)
}

/// Create, change a few times, and every third object is deleted again.
fn write(to: SocketAddr, writer: usize, stop: &AtomicBool, answered: &AtomicUsize, book: &mut Book) {
    let (_, version, kind) = KINDS[writer % KINDS.len()];
    let path = collection(writer);
    for n in book.len().. {
        let name = format!("w{writer}-{n}");
        let at = format!("{path}/{name}");
        let fate = book.entry((writer, name.clone())).or_default();
        for step in 0..4 {
            let wanted = (step < 3 || n % 3 > 0).then(|| value(&name, step));
            let annotated = json!({ "annotations": { "value": wanted }, "name": name });
            let (method, at, body) = match (step, &wanted) {
                (0, _) => {
                    ("POST", &path, json!({ "apiVersion": version, "kind": kind, "metadata": annotated }))
                }
                (_, Some(_)) => ("PATCH", &at, json!({ "metadata": annotated })),
                (_, None) => ("DELETE", &at, json!({})),
            };
            let mime = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match http::call(to, method, at, mime, &body.to_string()) {
                Ok((200 | 201, _)) => {
                    fate.answered = wanted;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                // The server is away, or goes while it works: that object is left as it may be.
                Ok((429 | 500.., _)) | Err(_) => {
                    fate.asked = Some(wanted);
                    std::thread::park_timeout(Duration::from_millis(50));
                    break;
                }
                Ok((code, answer)) => panic!("{method} {at} was answered with {code}: {answer}"),
            }
        }
    }
}

impl Writers {
    pub fn start(to: SocketAddr, count: usize) -> Self {
        Self::go_on(to, count, &Book::new())
    }

    /// Each writer goes on behind the objects it has made before.
    fn go_on(to: SocketAddr, count: usize, book: &Book) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let of = |w: usize| {
            book.range((w, String::new())..(w + 1, String::new()))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        let threads = (0..count)
            .map(|w| {
                let (stop, answered, mut book) = (stop.clone(), answered.clone(), of(w));
                std::thread::spawn(move || {
                    write(to, w, &stop, &answered, &mut book);
                    book
                })
            })
            .collect();
        Self { stop, answered, threads }
    }

    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    pub fn finish(mut self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let books = std::mem::take(&mut self.threads).into_iter().map(|t| t.join().expect("a writer"));
        Ledger(books.flatten().collect())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// All that was written.
#[derive(Debug, Default)]
pub struct Ledger(Book);

impl Ledger {
    pub fn answered(&self) -> usize {
        self.0.values().filter(|f| f.answered.is_some()).count()
    }

    /// Every object that is not what it must be, and every one that nobody wrote.
    pub fn faults(&self, to: SocketAddr) -> Vec<String> {
        let mut faults = Vec::new();
        let mut found: BTreeMap<(usize, String), String> = BTreeMap::new();
        for kind in 0..KINDS.len() {
            let (code, list) = http::call(to, "GET", &collection(kind), "", "").expect("a list");
            assert_eq!(code, 200, "{list}");
            for o in list["items"].as_array().expect("items") {
                let name = o["metadata"]["name"].as_str().unwrap_or_default();
                let writer = name.strip_prefix('w').and_then(|n| n.split_once('-')?.0.parse().ok());
                if let Some(w) = writer {
                    let value = o["metadata"]["annotations"]["value"].as_str().unwrap_or_default();
                    found.insert((w, name.to_owned()), value.to_owned());
                }
            }
        }
        for (key, fate) in &self.0 {
            let is = found.remove(key);
            if !fate.allows(is.as_deref()) {
                let short = |v: Option<&str>| v.map_or("absent".to_owned(), |v| v.chars().take(20).collect());
                faults.push(format!(
                    "{} is {}, it must be {}",
                    key.1,
                    short(is.as_deref()),
                    short(fate.answered.as_deref())
                ));
            }
        }
        faults.extend(found.into_keys().map(|(_, name)| format!("{name} is there and nobody wrote it")));
        faults
    }

    /// What is there now is what is known from now on: an unanswered write has come true, or not.
    pub fn settle(&mut self, to: SocketAddr) {
        for ((writer, name), fate) in &mut self.0 {
            if fate.asked.take().is_some() {
                let path = format!("{}/{name}", collection(*writer));
                let (code, o) = http::call(to, "GET", &path, "", "").expect("an answer");
                let value = |o: &Value| o["metadata"]["annotations"]["value"].as_str().map(str::to_owned);
                fate.answered = if code == 200 { value(&o) } else { None };
            }
        }
    }

    pub fn more_writers(&self, to: SocketAddr, count: usize) -> Writers {
        Writers::go_on(to, count, &self.0)
    }
}
