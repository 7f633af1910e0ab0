//! The shell around `world`: follows nodes and pods, carries out what is due, and says how it went. Reads are shared by all
//! nodes (one watch of each kind), writes go out under each node's identity, a bounded number at once.

use std::time::Duration;

use api::resource::{EVENTS, LEASES, NODES, PODS};
use api::{Object, Resource, Status};
use client::{Client, DeleteOptions, ListParams, Patch, WatchEvent, WatchParams, clock};
use futures::StreamExt;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::access::Access;
use crate::failures::Failures;
use crate::node;
use crate::pod::{Seen, uid_text};
use crate::world::{Act, Outcome, PodAct, What, World};

/// Writes under way at once.
const WRITES: usize = 128;
/// What was read and not yet looked at.
const WAITING: usize = 4096;
const PAGE: u64 = 500;
const PAUSE: Duration = Duration::from_secs(1);
/// Events that may be written at once, and each second after: half a million pods are not to fill the store with them.
const EVENTS_AT_ONCE: f64 = 5_000.0;
const EVENTS_PER_SECOND: f64 = 100.0;

pub struct Options {
    pub nodes: usize,
    pub failures: Failures,
    pub access: Access,
}

enum News {
    Node(Object),
    NodeGone(String),
    Pod {
        namespace: String,
        name: String,
        seen: Box<Seen>,
    },
    PodGone(u128),
    /// A list of pods begins, or is complete.
    Begin,
    Listed,
}

/// What is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nodes,
    Pods,
}

impl Kind {
    fn resource(self) -> Resource {
        if self == Kind::Nodes { NODES } else { PODS }
    }
    fn labels(self) -> String {
        if self == Kind::Nodes { format!("{}=true", node::LABEL) } else { String::new() }
    }
    fn fields(self) -> String {
        if self == Kind::Pods { "spec.nodeName!=".into() } else { String::new() }
    }
    fn news(self, o: Object) -> Option<News> {
        if self == Kind::Nodes {
            return Some(News::Node(o));
        }
        match Seen::of(&o) {
            Ok(seen) => {
                let (namespace, name) = (o.namespace().to_owned(), o.name().to_owned());
                seen.map(|s| News::Pod { namespace, name, seen: Box::new(s) })
            }
            Err(e) => {
                warn!(pod = %o.name(), error = %e, "skipped a pod that does not decode");
                None
            }
        }
    }
    fn gone(self, o: &Object) -> Option<News> {
        match self {
            Kind::Nodes => Some(News::NodeGone(o.name().to_owned())),
            Kind::Pods => o.uid().parse::<uuid::Uuid>().ok().map(|u| News::PodGone(u.as_u128())),
        }
    }
}

/// The receiver is gone: it is over.
struct Over;

async fn tell(to: &Sender<News>, news: Option<News>) -> Result<(), Over> {
    match news {
        Some(n) => to.send(n).await.map_err(|_| Over),
        None => Ok(()),
    }
}

/// Lists, page by page; the revision to watch from.
async fn list(client: &Client, kind: Kind, to: &Sender<News>) -> Result<Result<u64, Status>, Over> {
    if kind == Kind::Pods {
        tell(to, Some(News::Begin)).await?;
    }
    let mut p = ListParams {
        label_selector: kind.labels(),
        field_selector: kind.fields(),
        limit: PAGE,
        ..ListParams::default()
    };
    loop {
        let page = match client.list(&kind.resource(), "", &p).await {
            Ok(page) => page,
            Err(e) => return Ok(Err(e)),
        };
        for o in page.items {
            tell(to, kind.news(o)).await?;
        }
        if page.continue_token.is_empty() {
            if kind == Kind::Pods {
                tell(to, Some(News::Listed)).await?;
            }
            return Ok(Ok(page.revision));
        }
        p.continue_token = page.continue_token;
    }
}

/// Watches from a revision on, again and again; ends when it has to be listed anew.
async fn watch(client: &Client, kind: Kind, mut from: u64, to: &Sender<News>) -> Result<(), Over> {
    loop {
        let p = WatchParams {
            label_selector: kind.labels(),
            field_selector: kind.fields(),
            resource_version: from,
            bookmarks: true,
            timeout_seconds: None,
        };
        let mut stream = match client.watch(&kind.resource(), "", &p).await {
            Ok(s) => s,
            Err(e) => {
                debug!(error = %e, "failed to watch for simulated nodes, trying again");
                if e.is_gone() {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while let Some(event) = stream.next().await {
            match event {
                WatchEvent::Added(o) | WatchEvent::Modified(o) => {
                    from = o.revision();
                    tell(to, kind.news(o)).await?;
                }
                WatchEvent::Deleted(o) => {
                    from = o.revision();
                    tell(to, kind.gone(&o)).await?;
                }
                WatchEvent::Bookmark { revision, .. } => from = revision,
                WatchEvent::Error(_) => return Ok(()),
            }
        }
    }
}

/// `listed` is told once the first list is complete.
async fn follow(client: Client, kind: Kind, to: Sender<News>, listed: tokio::sync::oneshot::Sender<()>) {
    let mut listed = Some(listed);
    loop {
        match list(&client, kind, &to).await {
            Err(Over) => return,
            Ok(Err(e)) => {
                debug!(error = %e, "failed to list for simulated nodes, trying again");
                tokio::time::sleep(PAUSE).await;
            }
            Ok(Ok(revision)) => {
                if let Some(l) = listed.take() {
                    let _ = l.send(());
                }
                if watch(&client, kind, revision, &to).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn outcome(what: &str, r: Result<(), Status>) -> Outcome {
    match r {
        Ok(()) => Outcome::Written,
        Err(e) if e.is_not_found() || e.is_conflict() => Outcome::Gone,
        Err(e) => {
            debug!(what, error = %e, "failed to write for a simulated node, trying again");
            Outcome::Failed
        }
    }
}

/// The object, or at least its status when it is there already.
async fn register(client: &Client, n: usize) -> Result<(), Status> {
    let now = clock::rfc3339(clock::now());
    let uid = match client.create(&NODES, "", &node::object(n, &now)).await {
        Ok(o) => o.uid().to_owned(),
        Err(e) if e.is_already_exists() => client.get(&NODES, "", &node::name(n)).await?.uid().to_owned(),
        Err(e) => return Err(e),
    };
    renew(client, n, &uid).await
}

async fn renew(client: &Client, n: usize, uid: &str) -> Result<(), Status> {
    let now = clock::rfc3339_micro(clock::now());
    let patch = Patch::Merge(json!({"spec": {"renewTime": now}}));
    match client.patch(&LEASES, "kube-node-lease", &node::name(n), "", &patch).await {
        Err(e) if e.is_not_found() && !uid.is_empty() => {
            client.create(&LEASES, "kube-node-lease", &node::lease(n, uid, &now)).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

async fn tell_of(client: &Client, p: &PodAct) {
    let now = &clock::rfc3339(clock::now());
    let host = &node::name(p.node);
    // Side by side: the pod's next stage waits for them.
    let each = p.events.iter().map(|(kind, reason, message)| {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let event: Value = json!({"apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("{}.{}", p.name, id.get(..16).unwrap_or_default()), "namespace": p.namespace},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": p.namespace, "name": p.name,
                "uid": uid_text(p.uid)},
            "type": kind, "reason": reason, "message": message, "count": 1, "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": "kubelet", "host": host}, "reportingComponent": "kubelet", "reportingInstance": host});
        async move {
            if let Err(e) = client.create(&EVENTS, &p.namespace, &event).await {
                debug!(error = %e, "failed to write an event of a simulated node");
            }
        }
    });
    join_all(each).await;
}

async fn pod(client: &Client, p: &PodAct) -> Result<(), Status> {
    if let Some(status) = &p.status {
        client.patch(&PODS, &p.namespace, &p.name, "status", &Patch::Strategic(status.clone())).await?;
    }
    if p.remove {
        let uid = uid_text(p.uid);
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::uid(&uid) };
        client.delete(&PODS, &p.namespace, &p.name, &options).await?;
    }
    Ok(())
}

/// Writes one thing.
async fn write(client: Option<Client>, act: Act, uid: String) -> (What, Outcome) {
    let what = act.what();
    let Some(client) = client else { return (what, Outcome::Failed) };
    let done = match &act {
        Act::Register(n) => outcome("the object", register(&client, *n).await),
        Act::Lease(n) => outcome("the lease", renew(&client, *n, &uid).await),
        Act::Beat { node: n, changed, .. } => {
            let now = clock::rfc3339(clock::now());
            let patch = Patch::Strategic(node::heartbeat(true, &now, *changed));
            let done = client.patch(&NODES, "", &node::name(*n), "status", &patch).await;
            outcome("the status", done.map(|_| ()))
        }
        Act::Pod(p) => {
            let done = outcome("a pod", pod(&client, p).await);
            if done == Outcome::Written {
                tell_of(&client, p).await;
            }
            done
        }
    };
    (what, done)
}

/// How many events may be written.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    /// Whether so many may; what may not is left out, as a kubelet's own limits have it.
    fn take(&mut self, count: usize) -> bool {
        let now = Instant::now();
        let more = now.duration_since(self.at).as_secs_f64() * EVENTS_PER_SECOND;
        self.left = (self.left + more).min(EVENTS_AT_ONCE);
        self.at = now;
        let count = f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let enough = self.left >= count;
        if enough {
            self.left -= count;
        }
        enough
    }
}

/// Runs until the token is cancelled.
pub async fn run(o: Options, token: CancellationToken) {
    let Some(itself) = o.access.itself() else { return };
    let (to, mut news) = mpsc::channel(WAITING);
    let mut followers = JoinSet::new();
    let (listed, nodes_listed) = tokio::sync::oneshot::channel();
    let (pods_listed, _listened) = tokio::sync::oneshot::channel();
    followers.spawn(follow(itself.clone(), Kind::Nodes, to.clone(), listed));
    followers.spawn(async move {
        // Addresses of pods are of their nodes' blocks, which have to be known before.
        if nodes_listed.await.is_ok() {
            follow(itself, Kind::Pods, to, pods_listed).await;
        }
    });
    info!(nodes = o.nodes, "simulating nodes");
    let mut world = World::new(o.nodes, o.failures);
    let mut writes: JoinSet<(What, Outcome)> = JoinSet::new();
    let mut events = Allowance { left: EVENTS_AT_ONCE, at: Instant::now() };
    let start = Instant::now();
    let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    loop {
        for mut act in world.act(now(), clock::now(), WRITES.saturating_sub(writes.len())) {
            let number = match act.what() {
                What::Register(n) | What::Lease(n) | What::Beat { node: n, .. } => n,
                What::Pod { .. } => match &act {
                    Act::Pod(p) => p.node,
                    _ => continue,
                },
            };
            if let Act::Pod(p) = &mut act
                && !events.take(p.events.len())
            {
                p.events.clear();
            }
            let client = o.access.node(number, &node::name(number));
            writes.spawn(write(client, act, world.uid_of(number).to_owned()));
        }
        // When all may write that can, a place has to come free first.
        let next = world.next_due().filter(|_| writes.len() < WRITES);
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(start + Duration::from_millis(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = token.cancelled() => return,
            Some(done) = writes.join_next() => match done {
                Ok((what, outcome)) => world.done(what, outcome, now()),
                Err(e) => warn!(error = %e, "a write of a simulated node panicked"),
            },
            Some(n) = news.recv() => look(&mut world, n, now()),
            () = due => {}
        }
    }
}

fn look(world: &mut World, news: News, now: u64) {
    match news {
        News::Node(o) => world.node_seen(o.name(), node::seen(&o), now),
        News::NodeGone(name) => world.node_gone(&name),
        News::Pod { namespace, name, seen } => world.pod_seen(&namespace, &name, *seen, now),
        News::PodGone(uid) => world.gone(uid),
        News::Begin => world.begin(),
        News::Listed => world.sweep(),
    }
}
