//! What the scheduler knows besides pods and nodes, kept in the cache: budgets, groups of pods, namespaces. Registers
//! handlers on informers; spawns nothing.

use std::sync::Arc;

use api::object::DecodeError;
use api::resource::{
    NAMESPACES, POD_DISRUPTION_BUDGETS, REPLICA_SETS, REPLICATION_CONTROLLERS, SERVICES, STATEFUL_SETS,
};
use api::{Object, Resource};
use client::{Change, Informer, Informers};
use tracing::warn;

use crate::core::{Budget, Cache, Group};
use crate::pods::Shared;
use crate::queue::Kind;

/// Keeps what an informer sees in the cache, and tells the queue.
pub fn keep<T: 'static>(
    shared: &Arc<Shared>,
    informer: &Informer,
    event: Option<Kind>,
    of: impl Fn(&Object) -> Result<T, DecodeError> + Send + Sync + 'static,
    set: fn(&mut Cache, T),
    remove: impl Fn(&mut Cache, &Object) + Send + Sync + 'static,
) {
    let shared = shared.clone();
    informer.on_change(move |c: Change<'_>| {
        let Some(o) = c.object() else { return };
        {
            let cache = &mut shared.cache.lock();
            match c.new.map(&of) {
                Some(Ok(t)) => set(cache, t),
                None => remove(cache, o),
                Some(Err(e)) => warn!(name = %o.name(), error = %e, "skipped an object that does not decode"),
            }
        }
        if let Some(event) = event {
            shared.event(event.into());
        }
    });
}

pub struct Watched(Vec<Informer>);

impl Watched {
    pub fn new(shared: &Arc<Shared>, informers: &Informers) -> Self {
        let mut all = Vec::new();
        let mut get = |r: &Resource| {
            let i = informers.get(r);
            all.push(i.clone());
            i
        };
        keep(shared, &get(&POD_DISRUPTION_BUDGETS), None, Budget::of, set_budget, |c, o| {
            c.budgets.remove(&(o.namespace().to_owned(), o.name().to_owned()));
        });
        let namespaces = get(&NAMESPACES);
        let labels = |o: &Object| Ok((o.name().to_owned(), o.meta().labels.to_map()));
        keep(
            shared,
            &namespaces,
            Some(Kind::NamespaceChanged),
            labels,
            |c, (name, labels)| {
                c.set_namespace(&name, labels);
            },
            |c, o| {
                c.remove_namespace(o.name());
            },
        );
        type Parse = fn(&'static str, &Object) -> Result<Group, DecodeError>;
        for (resource, kind, parse) in [
            (&SERVICES, "Service", Group::by_map as Parse),
            (&REPLICATION_CONTROLLERS, "ReplicationController", Group::by_map),
            (&REPLICA_SETS, "ReplicaSet", Group::by_selector),
            (&STATEFUL_SETS, "StatefulSet", Group::by_selector),
        ] {
            keep(
                shared,
                &get(resource),
                None,
                move |o| parse(kind, o),
                |c, g| c.groups.set(g),
                move |c, o| c.groups.remove(kind, o.namespace(), o.name()),
            );
        }
        Self(all)
    }

    pub async fn synced(&self) -> bool {
        for i in &self.0 {
            if !i.synced().await {
                return false;
            }
        }
        true
    }
}

fn set_budget(cache: &mut Cache, b: Budget) {
    cache.budgets.insert((b.namespace.clone(), b.name.clone()), b);
}
