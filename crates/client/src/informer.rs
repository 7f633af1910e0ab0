//! Informers: one shared copy per kind and scope, kept by list and watch, with indexes and change handlers. Each spawns
//! one task, which ends with the factory's token.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Reason, Resource, Status};
use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::held::Objects;
use crate::planted;
use crate::transport::WatchEvent;
use crate::verbs::{Client, ListParams, WatchParams};

/// Which objects of a resource an informer holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Scope {
    /// Empty: all.
    pub namespace: String,
    pub label_selector: String,
    pub field_selector: String,
}

/// What happened to one object.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub old: Option<&'a Object>,
    pub new: Option<&'a Object>,
}

impl<'a> Change<'a> {
    /// The newest state there is.
    pub fn object(&self) -> Option<&'a Object> {
        self.new.or(self.old)
    }
}

type Handler = Box<dyn Fn(Change<'_>) + Send + Sync>;
type IndexFn = Box<dyn Fn(&Object) -> Vec<String> + Send + Sync>;
type Key = (String, String);

struct Index {
    of: IndexFn,
    entries: HashMap<String, HashSet<Key>>,
}

#[derive(Default)]
struct State {
    objects: Objects,
    indexes: HashMap<&'static str, Index>,
    revision: u64,
}

impl State {
    /// `there`: whether the object is, in this state. Answers the state before.
    fn set(&mut self, o: &Object, there: bool, revision: u64) -> Option<Object> {
        self.revision = self.revision.max(revision);
        let old = match there {
            true => self.objects.insert(o.clone()),
            false => self.objects.remove(o.namespace(), o.name()),
        };
        for index in self.indexes.values_mut() {
            let key = key_of(o);
            for value in old.iter().flat_map(|o| (index.of)(o)) {
                if let Some(set) = index.entries.get_mut(&value) {
                    set.remove(&key);
                    if set.is_empty() {
                        index.entries.remove(&value);
                    }
                }
            }
            for value in there.then(|| (index.of)(o)).into_iter().flatten() {
                index.entries.entry(value).or_default().insert(key.clone());
            }
        }
        old
    }
}

struct Inner {
    resource: Resource,
    scope: Scope,
    state: RwLock<State>,
    /// Held while a change is applied and told, so that a handler added meanwhile misses and repeats nothing.
    handlers: Mutex<Vec<Handler>>,
    synced: watch::Sender<bool>,
}

/// A shared view of one kind; cheap to clone.
#[derive(Clone)]
pub struct Informer {
    inner: Arc<Inner>,
}

/// The factory: one informer per resource and scope serves the whole process (of one identity).
#[derive(Clone)]
pub struct Informers {
    client: Client,
    token: CancellationToken,
    made: Arc<Mutex<HashMap<(Resource, Scope), Informer>>>,
}

impl Informers {
    pub fn new(client: Client, token: CancellationToken) -> Self {
        Self { client, token, made: Arc::default() }
    }

    /// All objects of the resource.
    pub fn get(&self, resource: &Resource) -> Informer {
        self.scoped(resource, Scope::default())
    }

    /// Started on first use; must be called inside a tokio runtime.
    pub fn scoped(&self, resource: &Resource, scope: Scope) -> Informer {
        let mut made = self.made.lock();
        made.entry((resource.clone(), scope.clone()))
            .or_insert_with(|| {
                let informer = Informer {
                    inner: Arc::new(Inner {
                        resource: resource.clone(),
                        scope,
                        state: RwLock::default(),
                        handlers: Mutex::default(),
                        synced: watch::channel(false).0,
                    }),
                };
                tokio::spawn(run(informer.inner.clone(), self.client.clone(), self.token.clone()));
                informer
            })
            .clone()
    }

    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Informer {
    /// Returns when the first list is in; `false` when the informer was stopped before.
    pub async fn synced(&self) -> bool {
        self.inner.synced.subscribe().wait_for(|s| *s).await.is_ok()
    }

    pub fn is_synced(&self) -> bool {
        *self.inner.synced.borrow()
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Object> {
        self.inner.state.read().objects.get(namespace, name).cloned()
    }

    /// All objects, or those of one namespace.
    pub fn list(&self, namespace: Option<&str>) -> Vec<Object> {
        let s = self.inner.state.read();
        match namespace {
            None => s.objects.iter().cloned().collect(),
            Some(ns) => s.objects.in_namespace(ns).cloned().collect(),
        }
    }

    pub fn len(&self) -> usize {
        self.inner.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Revision of the newest change that is in. Read before a list it says what the list holds at least, read after one
    /// what it holds at most.
    pub fn revision(&self) -> u64 {
        self.inner.state.read().revision
    }

    /// Adds an index once; a second call with the same name changes nothing.
    pub fn add_index(&self, name: &'static str, of: impl Fn(&Object) -> Vec<String> + Send + Sync + 'static) {
        let mut s = self.inner.state.write();
        if s.indexes.contains_key(name) {
            return;
        }
        let mut index = Index { of: Box::new(of), entries: HashMap::new() };
        for o in s.objects.iter() {
            for value in (index.of)(o) {
                index.entries.entry(value).or_default().insert(key_of(o));
            }
        }
        s.indexes.insert(name, index);
    }

    /// The index `owner`: by uid of the managing owner.
    pub fn index_by_owner(&self) {
        self.add_index("owner", |o| o.meta().controller().map(|c| c.uid.clone()).into_iter().collect());
    }

    pub fn by_index(&self, name: &str, value: &str) -> Vec<Object> {
        let s = self.inner.state.read();
        let Some(set) = s.indexes.get(name).and_then(|i| i.entries.get(value)) else { return Vec::new() };
        set.iter().filter_map(|(ns, name)| s.objects.get(ns, name).cloned()).collect()
    }

    /// Calls `f` for all that is there, then for each change, in order, from the informer's task: it must be quick,
    /// must not block and must not add handlers.
    pub fn on_change(&self, f: impl Fn(Change<'_>) + Send + Sync + 'static) {
        let mut handlers = self.inner.handlers.lock();
        let now: Vec<Object> = self.inner.state.read().objects.iter().cloned().collect();
        for o in &now {
            f(Change { old: None, new: Some(o) });
        }
        handlers.push(Box::new(f));
    }
}

impl Inner {
    fn apply(&self, o: &Object, there: bool, revision: u64) {
        let handlers = self.handlers.lock();
        let old = self.state.write().set(o, there, revision);
        let new = there.then_some(o);
        if old.is_none() && new.is_none() {
            return;
        }
        for h in handlers.iter() {
            h(Change { old: old.as_ref(), new });
        }
    }

    fn replace(&self, items: Vec<Object>, revision: u64) {
        let mut gone: HashMap<Key, Object> =
            self.state.read().objects.iter().map(|o| (key_of(o), o.clone())).collect();
        for o in items {
            let known = gone.remove(&key_of(&o));
            if known.is_none_or(|old| old.revision() != o.revision()) {
                self.apply(&o, true, o.revision());
            }
        }
        for o in gone.into_values() {
            self.apply(&o, false, revision);
        }
    }
}

fn key_of(o: &Object) -> Key {
    (o.namespace().to_owned(), o.name().to_owned())
}

async fn run(inner: Arc<Inner>, client: Client, token: CancellationToken) {
    let mut pause = Duration::from_millis(20);
    while !token.is_cancelled() {
        let result = tokio::select! {
            () = token.cancelled() => return,
            r = list_and_watch(&inner, &client, &mut pause) => r,
        };
        if let Err(status) = result {
            if status.is_gone() {
                debug!(resource = %inner.resource.plural, "watch history is gone, listing again");
            } else if status.reason == Reason::ServiceUnavailable {
                // The transport has said it, once for all that ask.
                debug!(resource = %inner.resource.plural, error = %status, "failed to list or watch, trying again");
            } else {
                warn!(resource = %inner.resource.plural, error = %status, "failed to list or watch, trying again");
            }
        }
        tokio::select! { () = token.cancelled() => return, () = tokio::time::sleep(pause) => {} }
        pause = (pause * 2).min(Duration::from_secs(10));
    }
}

/// Returns when it has to list again.
async fn list_and_watch(inner: &Inner, client: &Client, pause: &mut Duration) -> Result<(), Status> {
    let scope = &inner.scope;
    let params = ListParams {
        label_selector: scope.label_selector.clone(),
        field_selector: scope.field_selector.clone(),
        ..ListParams::default()
    };
    let list = client.list(&inner.resource, &scope.namespace, &params).await?;
    let mut revision = list.revision;
    inner.replace(list.items, revision);
    inner.synced.send_replace(true);
    *pause = Duration::from_millis(20);
    loop {
        let params = WatchParams {
            label_selector: scope.label_selector.clone(),
            field_selector: scope.field_selector.clone(),
            resource_version: revision,
            bookmarks: true,
            timeout_seconds: None,
        };
        let mut stream = client.watch(&inner.resource, &scope.namespace, &params).await?;
        let mut progressed = false;
        while let Some(event) = stream.next().await {
            progressed = true;
            planted::slow().await;
            match event {
                WatchEvent::Added(o) | WatchEvent::Modified(o) => {
                    revision = revision.max(o.revision());
                    inner.apply(&o, true, revision);
                }
                WatchEvent::Deleted(o) => {
                    revision = revision.max(o.revision());
                    inner.apply(&o, false, revision);
                }
                WatchEvent::Bookmark { revision: r, .. } => revision = revision.max(r),
                WatchEvent::Error(status) => return Err(status),
            }
        }
        if !progressed {
            // An end without a single event: do not spin on a server that is going away.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
