//! Ownership: owner references, adoption of orphans that a selector matches, release of children it no longer matches.

use api::selector::LabelSelector;
use api::{Object, Resource, Status};
use client::{Change, Client, Informer, Patch};
use serde_json::{Value, json};

use crate::skeleton::{Error, Key, Queue, key_of};

/// The reference that makes `owner` the managing owner.
pub fn controller_ref(resource: &Resource, owner: &Object) -> Value {
    json!({ "apiVersion": resource.api_version(), "kind": resource.kind, "name": owner.name(), "uid": owner.uid(),
        "controller": true, "blockOwnerDeletion": true })
}

/// Queues the owner (of kind `resource`) of every changed pod, the former owner too, and for an orphan every owner whose
/// selector matches. `observe` is told of each owner's change first.
pub fn enqueue_for_pods(
    pods: &Informer,
    owners: &Informer,
    resource: &Resource,
    queue: &Queue,
    selector: fn(&Object) -> Result<LabelSelector, Error>,
    observe: impl Fn(&Key, Change<'_>) + Send + Sync + 'static,
) {
    let (all, queue, kind) = (owners.clone(), queue.clone(), resource.kind.to_string());
    pods.on_change(move |c| {
        for o in [c.old, c.new].into_iter().flatten() {
            match o.meta().controller() {
                Some(owner) if owner.kind == kind => {
                    let key = (o.namespace().to_owned(), owner.name.clone());
                    observe(&key, c);
                    queue.add(key);
                }
                Some(_) => {}
                // An orphan: whoever selects it may adopt it.
                None if c.old.is_none_or(|old| {
                    old.meta().labels != o.meta().labels || old.meta().controller().is_some()
                }) =>
                {
                    for owner in all.list(Some(o.namespace())) {
                        if selector(&owner).is_ok_and(|s| s.matches(&o.meta().labels)) {
                            queue.add(key_of(&owner));
                        }
                    }
                }
                None => {}
            }
        }
    });
}

/// Adds the indexes behind `candidates`: by the managing owner's uid, and what has none by namespace.
pub fn index(informer: &Informer) {
    informer.index_by_owner();
    informer.add_index("orphan", |o| match o.meta().controller() {
        None => vec![o.namespace().to_owned()],
        Some(_) => Vec::new(),
    });
}

/// What may be a child of `owner`: its children and the orphans of its namespace, by name.
pub fn candidates(informer: &Informer, owner: &Object) -> Vec<Object> {
    let mut all = informer.by_index("owner", owner.uid());
    all.extend(informer.by_index("orphan", owner.namespace()));
    all.sort_by(|a, b| a.name().cmp(b.name()));
    all
}

/// What to do with one object that may be a child.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    Keep,
    Adopt,
    Release,
    Ignore,
}

/// Decides by the owner's uid and selector; an owner that is being deleted adopts nothing.
pub fn claim(owner_uid: &str, owner_deleting: bool, matches: bool, child: &Object) -> Claim {
    match child.meta().controller() {
        Some(c) if c.uid == owner_uid => match matches {
            true => Claim::Keep,
            false if owner_deleting => Claim::Ignore,
            false => Claim::Release,
        },
        Some(_) => Claim::Ignore,
        None if matches && !owner_deleting && !child.meta().is_deleting() => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// The children of `owner` among `candidates` (those of its namespace), after adopting and releasing.
pub async fn claim_all(
    client: &Client,
    owner_resource: &Resource,
    owner: &Object,
    selector: &LabelSelector,
    child_resource: &Resource,
    candidates: Vec<Object>,
) -> Result<Vec<Object>, Status> {
    claim_with(client, owner_resource, owner, selector, child_resource, candidates, &[]).await
}

/// As `claim_all`; an adopted child gets these finalizers too, a released one loses them.
pub async fn claim_with(
    client: &Client,
    owner_resource: &Resource,
    owner: &Object,
    selector: &LabelSelector,
    child_resource: &Resource,
    candidates: Vec<Object>,
    finalizers: &[&str],
) -> Result<Vec<Object>, Status> {
    let mut mine = Vec::with_capacity(candidates.len());
    let mut checked_owner = false;
    for child in candidates {
        let matches = selector.matches(&child.meta().labels);
        match claim(owner.uid(), owner.meta().is_deleting(), matches, &child) {
            Claim::Keep => mine.push(child),
            Claim::Ignore => {}
            Claim::Release => {
                let mut patch = json!({ "metadata": { "uid": child.uid(),
                    "ownerReferences": [{ "$patch": "delete", "uid": owner.uid() }] } });
                if !finalizers.is_empty() {
                    patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!(finalizers);
                }
                let patch = Patch::Strategic(patch);
                match client.patch(child_resource, child.namespace(), child.name(), "", &patch).await {
                    Err(s) if !s.is_not_found() && !s.is_conflict() && s.code != 422 => return Err(s),
                    _ => {}
                }
            }
            Claim::Adopt => {
                if !checked_owner {
                    // The informer may lag: adopting for an owner that is gone would lose the child to the collector.
                    let fresh = client.get(owner_resource, owner.namespace(), owner.name()).await?;
                    if fresh.uid() != owner.uid() || fresh.meta().is_deleting() {
                        let (r, name) = (owner_resource, owner.name());
                        return Err(Status::conflict(&r.group, &r.plural, name, "it has just been deleted"));
                    }
                    checked_owner = true;
                }
                let mut patch = json!({ "metadata": { "uid": child.uid(),
                    "ownerReferences": [controller_ref(owner_resource, owner)] } });
                if !finalizers.is_empty() {
                    patch["metadata"]["finalizers"] = json!(finalizers);
                }
                let patch = Patch::Strategic(patch);
                match client.patch(child_resource, child.namespace(), child.name(), "", &patch).await {
                    Ok(adopted) => mine.push(adopted),
                    Err(s) if s.is_not_found() || s.is_conflict() || s.code == 422 => {}
                    Err(s) => return Err(s),
                }
            }
        }
    }
    Ok(mine)
}
