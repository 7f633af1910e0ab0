//! The garbage collector: deletes what has lost its owners, in the background or the foreground, and orphans when asked.
//! Keeps an owner graph from one informer per kind; before it deletes anything it asks the API whether the owner is
//! really gone. New kinds are looked for now and then.

mod graph;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::resource::CUSTOM_RESOURCE_DEFINITIONS;
use api::{Object, OwnerReference, Resource, Status};
use client::{Client, DeleteOptions, Informer, Patch, WorkQueue};
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::{Mutex, RwLock};
use serde_json::json;
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::{Context, discovery};
use graph::{FOREGROUND, Graph, Node, ORPHAN, Owner, Verdict, judge};

const WORKERS: usize = 8;
const LOOK_FOR_KINDS: Duration = Duration::from_secs(30);
/// Definitions come in crowds, and each is served a moment after it was written.
const SETTLE: Duration = Duration::from_millis(200);

struct Collector {
    client: Client,
    graph: Mutex<Graph>,
    queue: WorkQueue<Node>,
    /// In the order of `Node::kind`; only grows.
    kinds: RwLock<Vec<(Resource, Informer)>>,
    /// Objects with an owner of a kind that was not known when they were looked at.
    puzzling: Mutex<HashSet<Node>>,
}

pub async fn run(ctx: Context) {
    let c = Arc::new(Collector {
        client: ctx.client.clone(),
        graph: Mutex::default(),
        queue: WorkQueue::new(),
        kinds: RwLock::default(),
        puzzling: Mutex::default(),
    });
    // A definition that comes brings a kind along.
    let definitions = Arc::new(Notify::new());
    let tell = definitions.clone();
    ctx.informers.get(&CUSTOM_RESOURCE_DEFINITIONS).on_change(move |_| tell.notify_one());
    let find = async {
        loop {
            match discovery::resources(&ctx.client, &["list", "watch", "delete"]).await {
                Ok(found) => c.watch(&ctx, found).await,
                Err(s) => warn!(error = %s, "failed to discover kinds for the garbage collector"),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_FOR_KINDS) => {}
                () = definitions.notified() => tokio::time::sleep(SETTLE).await,
            }
        }
    };
    let mut workers: FuturesUnordered<_> = (0..WORKERS).map(|_| c.work()).collect();
    tokio::select! {
        () = ctx.token.cancelled() => c.queue.close(),
        () = find => {}
        () = async { while workers.next().await.is_some() {} } => {}
    }
}

/// Whether it is being deleted and stays until its dependents are gone.
fn waits(o: &Object) -> bool {
    o.meta().is_deleting() && o.meta().finalizers().iter().any(|f| f == FOREGROUND)
}

impl Collector {
    /// Starts an informer for each kind that is new.
    async fn watch(self: &Arc<Self>, ctx: &Context, found: Vec<Resource>) {
        let mut new = Vec::new();
        for r in found.into_iter().filter(|r| r.plural != "events") {
            let known = self.kinds.read().iter().any(|(k, _)| k.group == r.group && k.plural == r.plural);
            if known {
                continue;
            }
            let informer = ctx.informers.get(&r);
            let index = {
                let mut kinds = self.kinds.write();
                kinds.push((r, informer.clone()));
                kinds.len() - 1
            };
            let c = Arc::downgrade(self);
            informer.on_change(move |change| {
                let Some(c) = c.upgrade() else { return };
                let nodes = c.graph.lock().change(index, change.old, change.new);
                for n in nodes {
                    c.queue.add(n);
                }
            });
            new.push(informer);
        }
        let mut learned = false;
        for i in new {
            // An owner that is not in yet is asked for before anything is deleted, so this is only a courtesy.
            let _ = tokio::time::timeout(Duration::from_secs(5), i.synced()).await;
            learned = true;
        }
        if learned {
            let again = std::mem::take(&mut *self.puzzling.lock());
            again.into_iter().for_each(|n| self.queue.add(n));
        }
    }

    async fn work(&self) {
        while let Some(node) = self.queue.get().await {
            let result = self.process(&node).await;
            self.queue.done(&node);
            match result {
                Ok(()) => self.queue.forget(&node),
                Err(s) => {
                    debug!(name = %node.name, namespace = %node.namespace, error = %s, "failed to collect, trying again");
                    self.queue.retry(node);
                }
            }
        }
    }

    fn kind(&self, index: usize) -> Option<(Resource, Informer)> {
        self.kinds.read().get(index).cloned()
    }

    fn get(&self, node: &Node) -> Option<(Resource, Object)> {
        let (resource, informer) = self.kind(node.kind)?;
        Some((resource, informer.get(&node.namespace, &node.name)?))
    }

    async fn process(&self, node: &Node) -> Result<(), Status> {
        let Some((resource, object)) = self.get(node) else { return Ok(()) };
        let m = object.meta();
        if m.is_deleting() {
            if m.finalizers().iter().any(|f| f == ORPHAN) {
                return self.orphan(&resource, &object).await;
            }
            if m.finalizers().iter().any(|f| f == FOREGROUND) {
                return self.foreground(&resource, &object).await;
            }
            return Ok(());
        }
        if self.verdict(node, &object).await? == Verdict::Keep {
            return Ok(());
        }
        // What is known here may be old: an object that was orphaned a moment ago would go with its former owner.
        let fresh = self.client.find(&resource, object.namespace(), object.name()).await?;
        let Some(object) = fresh.filter(|f| f.uid() == object.uid() && !f.meta().is_deleting()) else {
            return Ok(());
        };
        match self.verdict(node, &object).await? {
            Verdict::Keep => Ok(()),
            Verdict::Unlink(uids) => self.unlink(&resource, &object, &uids).await,
            Verdict::DeleteForeground => {
                // Owners in a circle would wait for each other for ever: this one no longer holds up its own.
                let circle = self.dependents(&object).values().any(|(_, d)| waits(d));
                if circle {
                    self.unblock(&resource, &object).await?;
                }
                let revision = (!circle).then_some(object.revision());
                self.delete(&resource, &object, revision, "Foreground").await
            }
            Verdict::DeleteBackground => {
                self.delete(&resource, &object, Some(object.revision()), "Background").await
            }
        }
    }

    async fn verdict(&self, node: &Node, o: &Object) -> Result<Verdict, Status> {
        let references = o.meta().owner_references();
        let mut owners = Vec::with_capacity(references.len());
        for r in references {
            owners.push((r.clone(), self.owner(node, r, o.namespace()).await?));
        }
        let has_dependents = !self.graph.lock().dependents(o.uid()).is_empty();
        Ok(judge(&owners, has_dependents))
    }

    /// What became of an owner: by the graph when it is there, by the API when it seems gone.
    async fn owner(&self, node: &Node, r: &OwnerReference, namespace: &str) -> Result<Owner, Status> {
        let found = self.graph.lock().find(&r.uid);
        if let Some((_, o)) = found.and_then(|n| self.get(&n)).filter(|(_, o)| o.uid() == r.uid) {
            return Ok(if waits(&o) { Owner::Waiting } else { Owner::Alive });
        }
        let (group, _) = r.api_version.split_once('/').unwrap_or(("", ""));
        let resource = self
            .kinds
            .read()
            .iter()
            .map(|(k, _)| k)
            .find(|k| k.group == group && k.kind == r.kind.as_str())
            .cloned();
        // An unknown kind may be one that is not served just now: nothing is deleted for it.
        let Some(resource) = resource else {
            self.puzzling.lock().insert(node.clone());
            return Ok(Owner::Alive);
        };
        // An object of the whole cluster can't belong to one in a namespace: such a reference leads nowhere, and nothing
        // is deleted for it.
        if resource.namespaced && namespace.is_empty() {
            return Ok(Owner::Alive);
        }
        let ns = if resource.namespaced { namespace } else { "" };
        match self.client.find(&resource, ns, &r.name).await? {
            Some(o) if o.uid() == r.uid => Ok(Owner::Alive),
            _ => Ok(Owner::Gone),
        }
    }

    /// `revision`: as it was judged; one that has changed since is judged again.
    async fn delete(
        &self,
        r: &Resource,
        o: &Object,
        revision: Option<u64>,
        policy: &'static str,
    ) -> Result<(), Status> {
        let mut options = DeleteOptions { propagation_policy: Some(policy), ..DeleteOptions::uid(o.uid()) };
        if let Some(p) = &mut options.preconditions {
            p.resource_version = revision.map(|r| r.to_string());
        }
        self.client.delete_if_there(r, o.namespace(), o.name(), &options).await
    }

    async fn unlink(&self, r: &Resource, o: &Object, uids: &[String]) -> Result<(), Status> {
        self.owners(r, o, |mut all| {
            all.retain(|x| !uids.contains(&x.uid));
            all
        })
        .await
    }

    /// Its owners no longer wait for it.
    async fn unblock(&self, r: &Resource, o: &Object) -> Result<(), Status> {
        self.owners(r, o, |mut all| {
            for x in all.iter_mut().filter(|x| x.block_owner_deletion == Some(true)) {
                x.block_owner_deletion = Some(false);
            }
            all
        })
        .await
    }

    /// Writes other owner references, when they differ.
    async fn owners(
        &self,
        r: &Resource,
        o: &Object,
        change: impl FnOnce(Vec<OwnerReference>) -> Vec<OwnerReference>,
    ) -> Result<(), Status> {
        let Some(fresh) = self.client.find(r, o.namespace(), o.name()).await?.filter(|f| f.uid() == o.uid())
        else {
            return Ok(());
        };
        let old = fresh.meta().owner_references();
        let new = change(old.to_vec());
        if new == *old {
            return Ok(());
        }
        let patch = Patch::Merge(
            json!({ "metadata": { "uid": o.uid(), "resourceVersion": fresh.revision().to_string(),
            "ownerReferences": new } }),
        );
        self.client.patch(r, o.namespace(), o.name(), "", &patch).await.map(|_| ())
    }

    async fn remove_finalizer(&self, r: &Resource, o: &Object, name: &str) -> Result<(), Status> {
        let Some(fresh) = self.client.find(r, o.namespace(), o.name()).await?.filter(|f| f.uid() == o.uid())
        else {
            return Ok(());
        };
        let left: Vec<&String> = fresh.meta().finalizers().iter().filter(|f| *f != name).collect();
        let patch = Patch::Merge(
            json!({ "metadata": { "uid": o.uid(), "resourceVersion": fresh.revision().to_string(),
            "finalizers": left } }),
        );
        match self.client.patch(r, o.namespace(), o.name(), "", &patch).await {
            Err(s) if s.is_not_found() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn dependents(&self, o: &Object) -> HashMap<Node, (Resource, Object)> {
        let nodes = self.graph.lock().dependents(o.uid());
        nodes.into_iter().filter_map(|n| self.get(&n).map(|found| (n, found))).collect()
    }

    /// Dependents stay: their references to the owner go, then the owner.
    async fn orphan(&self, r: &Resource, o: &Object) -> Result<(), Status> {
        for (resource, d) in self.dependents(o).into_values() {
            self.unlink(&resource, &d, &[o.uid().to_owned()]).await?;
        }
        self.remove_finalizer(r, o, ORPHAN).await
    }

    /// The owner goes when no dependent that blocks it is left.
    async fn foreground(&self, r: &Resource, o: &Object) -> Result<(), Status> {
        let all = self.dependents(o);
        let blocks = |d: &Object| {
            d.meta()
                .owner_references()
                .iter()
                .any(|x| x.uid == o.uid() && x.block_owner_deletion == Some(true))
        };
        let blocked = all.values().any(|(_, d)| blocks(d));
        // One that waits itself looks at its own dependents: asking it again would go round in a circle of owners.
        for (node, _) in all.into_iter().filter(|(_, (_, d))| !waits(d)) {
            self.queue.add(node);
        }
        if blocked { Ok(()) } else { self.remove_finalizer(r, o, FOREGROUND).await }
    }
}
