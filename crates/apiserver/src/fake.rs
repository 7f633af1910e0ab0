//! A `Reader` in memory, for unit tests of what stands above it. Changes are told to watchers as a store would.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Object, Status};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::reader::{Change, Changes, Decide, Reader};

type Key = (String, String, String, String);

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Object>,
    log: Vec<(String, String, Change)>,
    revision: u64,
    writes: usize,
}

#[derive(Clone)]
pub(crate) struct FakeReader {
    state: Arc<Mutex<State>>,
    news: watch::Sender<usize>,
}

impl FakeReader {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), news: watch::channel(0).0 }
    }

    pub(crate) fn writes(&self) -> usize {
        self.state.lock().writes
    }

    pub(crate) fn put(&self, group: &str, plural: &str, mut value: Value) -> Object {
        let mut s = self.state.lock();
        s.revision += 1;
        s.writes += 1;
        if value["metadata"]["uid"].is_null() {
            value["metadata"]["uid"] = json!(format!("uid-{}", s.revision));
        }
        let o = Object::from_value(value, s.revision).expect("object");
        let key = (group.to_owned(), plural.to_owned(), o.namespace().to_owned(), o.name().to_owned());
        s.objects.insert(key, o.clone());
        s.log.push((group.into(), plural.into(), Change::Put(o.clone())));
        let n = s.log.len();
        drop(s);
        self.news.send_replace(n);
        o
    }

    pub(crate) fn delete(&self, group: &str, plural: &str, namespace: &str, name: &str) {
        let mut s = self.state.lock();
        s.revision += 1;
        if let Some(o) = s.objects.remove(&(group.into(), plural.into(), namespace.into(), name.into())) {
            s.log.push((group.into(), plural.into(), Change::Deleted(o)));
        }
        let n = s.log.len();
        drop(s);
        self.news.send_replace(n);
    }
}

struct Following {
    reader: FakeReader,
    news: watch::Receiver<usize>,
    group: String,
    plural: String,
    at: usize,
    after: u64,
}

#[async_trait]
impl Changes for Following {
    async fn next(&mut self) -> Result<Vec<Change>, Status> {
        loop {
            let mut out = Vec::new();
            {
                let s = self.reader.state.lock();
                for (g, p, c) in s.log.iter().skip(self.at) {
                    let revision = match c {
                        Change::Put(o) | Change::Deleted(o) => o.revision(),
                    };
                    if *g == self.group
                        && *p == self.plural
                        && (revision > self.after || matches!(c, Change::Deleted(_)))
                    {
                        out.push(c.clone());
                    }
                }
                self.at = s.log.len();
            }
            if !out.is_empty() {
                return Ok(out);
            }
            self.news.changed().await.map_err(Status::internal)?;
        }
    }
}

#[async_trait]
impl Reader for FakeReader {
    fn revision(&self) -> u64 {
        self.state.lock().revision
    }
    async fn get(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Object>, Status> {
        Ok(self
            .state
            .lock()
            .objects
            .get(&(group.into(), plural.into(), namespace.into(), name.into()))
            .cloned())
    }
    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Object>, Status> {
        let s = self.state.lock();
        let all = s.objects.iter().filter(|((g, p, n, _), _)| {
            g == group && p == plural && (namespace.is_empty() || n == namespace)
        });
        Ok(all.map(|(_, o)| o.clone()).collect())
    }
    async fn changes(&self, group: &str, plural: &str, after: u64) -> Result<Box<dyn Changes>, Status> {
        Ok(Box::new(Following {
            reader: self.clone(),
            news: self.news.subscribe(),
            group: group.into(),
            plural: plural.into(),
            at: 0,
            after,
        }))
    }
    async fn update(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        decide: Decide<'_>,
    ) -> Result<Object, Status> {
        let have = self.get(group, plural, namespace, name).await?;
        let have = have.ok_or_else(|| Status::not_found(group, plural, name))?;
        match decide(have.value().map_err(Status::internal)?)? {
            None => Ok(have),
            Some(v) => Ok(self.put(group, plural, v)),
        }
    }
    async fn create(&self, group: &str, plural: &str, value: Value) -> Result<Object, Status> {
        let text = |f: &str| value["metadata"][f].as_str().unwrap_or_default().to_owned();
        if self.get(group, plural, &text("namespace"), &text("name")).await?.is_some() {
            return Err(Status::already_exists(group, plural, &text("name")));
        }
        Ok(self.put(group, plural, value))
    }
}
