//! Objects that upstream refuses, under `tests/corpus`: the same code, reason, message and causes here. What differs
//! still is listed in `tests/corpus/known.txt`; the list may only shrink.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures::StreamExt;
use serde_json::{Map, Value, json};

use super::setup::*;

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(corpus().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Sets what stands at a JSON pointer; null removes, `-` appends, missing parents are made.
fn set(doc: &mut Value, pointer: &str, value: &Value) {
    let (head, rest) = match pointer.strip_prefix('/') {
        None => {
            *doc = value.clone();
            return;
        }
        Some(p) => p.split_once('/').map_or((p, String::new()), |(h, r)| (h, format!("/{r}"))),
    };
    let head = head.replace("~1", "/").replace("~0", "~");
    let removes = rest.is_empty() && value.is_null();
    let index = head.parse::<usize>();
    if doc.is_null() {
        *doc = if head == "-" || index.is_ok() { json!([]) } else { json!({}) };
    }
    match doc {
        Value::Array(list) => {
            let i = index.unwrap_or(list.len());
            if removes {
                list.remove(i);
                return;
            }
            if i == list.len() {
                list.push(Value::Null);
            }
            set(&mut list[i], &rest, value);
        }
        _ => {
            let m = doc.as_object_mut().unwrap_or_else(|| panic!("{pointer}: no object"));
            if removes {
                m.remove(&head);
            } else {
                set(m.entry(head).or_insert(Value::Null), &rest, value);
            }
        }
    }
}

fn patched(doc: &Value, patch: &Map<String, Value>) -> Value {
    let mut out = doc.clone();
    patch.iter().filter(|(k, _)| *k != "was").for_each(|(k, v)| set(&mut out, k, v));
    out
}

/// The parts of an answer that are compared.
fn answer(code: u16, v: &Value) -> Value {
    if code < 300 {
        return json!({"code": 200});
    }
    let mut out = json!({"code": code, "reason": v["reason"], "message": v["message"]});
    let causes: Vec<Value> = v["details"]["causes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| {
            json!({"type": c["reason"], "field": c["field"].as_str().unwrap_or_default(), "message": c["message"]})
        })
        .collect();
    if !causes.is_empty() {
        out["causes"] = json!(causes);
    }
    out
}

struct Kind {
    server: Server,
    collection: String,
    base: Value,
    /// The change under which the stored object was made.
    stored: Option<(Value, Value)>,
}

impl Kind {
    fn item(&self) -> String {
        format!("{}/{}", self.collection, self.base["metadata"]["name"].as_str().expect("name"))
    }

    async fn create(&self, now: &Map<String, Value>) -> Value {
        let v = patched(&self.base, now);
        let (code, v) = self.server.post(&format!("{}?dryRun=All", self.collection), &v).await;
        answer(code, &v)
    }

    /// Takes away what is stored, whatever protects it.
    async fn remove(&self) {
        let item = self.item();
        self.server.delete(&item, &json!({"gracePeriodSeconds": 0})).await;
        if self.server.get(&item).await.0 == 200 {
            self.server.merge(&item, &json!({"metadata": {"finalizers": null}})).await;
        }
    }

    /// The stored object that a case starts from.
    async fn old(&mut self, was: &Value) -> Result<Value, Value> {
        if let Some((_, v)) = self.stored.as_ref().filter(|(w, _)| w == was) {
            return Ok(v.clone());
        }
        if self.stored.take().is_some() {
            self.remove().await;
        }
        let wanted = patched(&self.base, was.as_object().unwrap_or(&Map::new()));
        let (code, mut v) = self.server.post(&self.collection, &wanted).await;
        if code >= 300 {
            return Err(json!({"made": v["message"]}));
        }
        self.stored = Some((json!("half made"), Value::Null));
        if wanted["status"].is_object() {
            let status = format!("{}/status", self.item());
            v["status"] = wanted["status"].clone();
            let (mut code, mut answer) = self.server.put(&status, &v).await;
            // A loop has written the status meanwhile (definitions).
            while code == 409 {
                v = self.server.get(&self.item()).await.1;
                v["status"] = wanted["status"].clone();
                (code, answer) = self.server.put(&status, &v).await;
            }
            if !matches!(code, 200 | 404 | 405) {
                return Err(json!({"status written": answer["message"]}));
            }
            v = self.server.get(&self.item()).await.1;
        }
        self.stored = Some((was.clone(), v.clone()));
        Ok(v)
    }

    async fn change(&mut self, sub: &str, case: &Map<String, Value>) -> Value {
        let old = match self.old(case.get("was").unwrap_or(&Value::Null)).await {
            Ok(v) => v,
            Err(why) => return why,
        };
        let sub = if sub == "update" { String::new() } else { format!("/{sub}") };
        let uri = format!("{}{sub}?dryRun=All", self.item());
        let (mut code, mut v) = self.server.put(&uri, &patched(&old, case)).await;
        // A loop has written the status meanwhile (definitions, policies).
        if code == 409 {
            let now = self.server.get(&self.item()).await.1;
            (code, v) = self.server.put(&uri, &patched(&now, case)).await;
            if let Some((_, stored)) = &mut self.stored {
                *stored = now;
            }
        }
        answer(code, &v)
    }
}

/// Each case of one file that is answered otherwise than upstream does, and how.
async fn mismatches(stem: &str) -> Vec<(String, Value, Value)> {
    let file: Value = serde_norway::from_str(&read(&format!("cases/{stem}.yaml"))).expect("yaml");
    let golden: Map<String, Value> = read(&format!("golden/{stem}.jsonl"))
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).expect("json"))
        .map(|mut v| {
            (
                v["case"].as_str().expect("case").to_owned(),
                v.as_object_mut().map(|o| o.remove("case")).map(|_| v).expect("object"),
            )
        })
        .collect();
    let (api_version, kind) =
        (file["apiVersion"].as_str().expect("version"), file["kind"].as_str().expect("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let catalog = api::catalog::builtin();
    let d = catalog.by_kind(group, kind).expect("a built-in kind");
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let ns = if d.namespaced { "/namespaces/default" } else { "" };
    let mut base = file["base"].clone();
    base["apiVersion"] = json!(api_version);
    base["kind"] = json!(kind);
    let collection = format!("{root}{ns}/{}", d.plural);
    let mut k = Kind { server: Server::start().await, collection, base, stored: None };
    let mut out = Vec::new();
    let mut seen = 0;
    for (op, list) in file["cases"].as_object().expect("cases") {
        for case in list.as_array().expect("list") {
            let id = format!("{op} {case}");
            let case = case.as_object().expect("case");
            let got = if op == "create" { k.create(case).await } else { k.change(op, case).await };
            let want = golden.get(&id).unwrap_or_else(|| panic!("{stem}: {id}: run the generator again"));
            seen += 1;
            if got != *want {
                out.push((format!("{stem} {id}"), want.clone(), got));
            }
        }
    }
    assert_eq!(seen, golden.len(), "{stem}: answers without a case: run the generator again");
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_refuses_is_refused_in_its_words() {
    let mut stems: Vec<String> = std::fs::read_dir(corpus().join("cases"))
        .expect("cases")
        .map(|f| f.expect("file").path().file_stem().expect("stem").to_string_lossy().into_owned())
        .collect();
    stems.sort();
    assert!(stems.len() > 40, "{stems:?}");
    let all = read("known.txt");
    let known: BTreeSet<&str> = all.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let files = stems.into_iter().map(|s| tokio::spawn(async move { mismatches(&s).await }));
    let mut answers = futures::stream::iter(files).buffered(2);
    let mut found = BTreeSet::new();
    let mut worse = Vec::new();
    while let Some(file) = answers.next().await {
        for (id, want, got) in file.expect("cases run") {
            if !known.contains(id.as_str()) {
                worse.push(format!("{id}\n  upstream: {want}\n  here:     {got}"));
            }
            found.insert(id);
        }
    }
    let better: Vec<&&str> = known.iter().filter(|k| !found.contains(**k)).collect();
    assert!(worse.is_empty(), "{} differ from upstream:\n{}", worse.len(), worse.join("\n"));
    assert!(better.is_empty(), "no longer differ, take them off known.txt: {better:#?}");
}
