//! The skeleton of a loop: a queue of keys, workers that reconcile one key at a time, back-off on failure.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Status};
use client::{Informer, WorkQueue};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Namespace (empty for cluster-scoped) and name.
pub type Key = (String, String);

pub fn key_of(o: &Object) -> Key {
    (o.namespace().to_owned(), o.name().to_owned())
}

/// What a reconcile asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing until the next event.
    Wait,
    /// Look again then, also without an event.
    After(Duration),
}

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Api(#[from] Status),
    #[error(transparent)]
    Decode(#[from] api::object::DecodeError),
}

impl Error {
    /// A write lost a race; the next event or a quick retry settles it.
    fn is_race(&self) -> bool {
        matches!(self, Error::Api(s) if s.is_conflict() || s.is_not_found() || s.is_already_exists())
    }
}

pub type Queue = Arc<WorkQueue<Key>>;

/// Queues every changed object under its own key.
pub fn enqueue_self(informer: &Informer, queue: &Queue) {
    let queue = queue.clone();
    informer.on_change(move |c| {
        if let Some(o) = c.object() {
            queue.add(key_of(o));
        }
    });
}

/// Queues the managing owner of that kind of every changed object, the former owner too.
pub fn enqueue_owner(informer: &Informer, queue: &Queue, kind: &'static str) {
    let queue = queue.clone();
    informer
        .on_change(move |c| [c.old, c.new].into_iter().flatten().for_each(|o| add_owner(&queue, o, kind)));
}

fn add_owner(queue: &Queue, o: &Object, kind: &str) {
    if let Some(owner) = o.meta().controller().filter(|r| r.kind == kind) {
        queue.add((o.namespace().to_owned(), owner.name.clone()));
    }
}

/// The same for revisions: a new one was made by its owner, and one that somebody else made is looked at, as upstream does,
/// when the owner's next turn comes.
pub fn enqueue_owner_of_revision(informer: &Informer, queue: &Queue, kind: &'static str) {
    let queue = queue.clone();
    informer.on_change(move |c| {
        let known = [c.old, c.new.filter(|_| c.old.is_some())];
        known.into_iter().flatten().for_each(|o| add_owner(&queue, o, kind));
    });
}

/// Waits until all informers have their first list; false when the loop is being stopped.
pub async fn synced(token: &CancellationToken, informers: &[&Informer]) -> bool {
    let all = async {
        for i in informers {
            if !i.synced().await {
                return false;
            }
        }
        true
    };
    tokio::select! { () = token.cancelled() => false, ok = all => ok }
}

/// Runs `workers` workers until the token is cancelled. A panic in `reconcile` ends the loop, whose supervisor starts it
/// again.
pub async fn work<F, Fut>(name: &str, token: &CancellationToken, queue: &Queue, workers: usize, reconcile: F)
where
    F: Fn(Key) -> Fut,
    Fut: Future<Output = Result<Next, Error>>,
{
    let one = || async {
        while let Some(key) = queue.get().await {
            match reconcile(key.clone()).await {
                Ok(next) => {
                    queue.forget(&key);
                    queue.done(&key);
                    if let Next::After(delay) = next {
                        queue.add_after(key, delay);
                    }
                }
                Err(e) => {
                    if e.is_race() {
                        debug!(controller = name, namespace = %key.0, name = %key.1, error = %e, "lost a race, trying again");
                    } else {
                        warn!(controller = name, namespace = %key.0, name = %key.1, error = %e, "failed to reconcile, trying again");
                    }
                    queue.done(&key);
                    queue.retry(key);
                }
            }
        }
    };
    let mut all: FuturesUnordered<_> = (0..workers).map(|_| one()).collect();
    tokio::select! {
        () = token.cancelled() => queue.close(),
        () = async { while all.next().await.is_some() {} } => {}
    }
}
