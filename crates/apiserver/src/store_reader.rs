//! The `Reader` over the store.

use std::sync::Arc;

use api::catalog::Descriptor;
use api::{Object, Status};
use async_trait::async_trait;
use client::WatchEvent;
use serde_json::{Value, json};
use store::{Fresh, WatchItem, Watcher};

use crate::adapt;
use crate::handlers::meta;
use crate::reader::{Change, Changes, Decide, Reader};
use crate::registry::{rules, strategy};
use crate::server::SharedCatalog;
use crate::storage::watch::plain;
use crate::storage::{Encoded, Storage, failed};

const TRIES: usize = 100;

pub struct StoreReader {
    storage: Storage,
    catalog: SharedCatalog,
}

impl StoreReader {
    pub fn new(storage: Storage, catalog: SharedCatalog) -> Self {
        Self { storage, catalog }
    }

    fn kind(&self, group: &str, plural: &str) -> Result<Arc<Descriptor>, Status> {
        self.catalog.read().by_plural(group, plural).cloned().ok_or_else(|| {
            Status::internal(format!("resource {plural} of group {group:?} is not in the catalog"))
        })
    }
}

struct Following(Box<dyn Watcher>);

#[async_trait]
impl Changes for Following {
    async fn next(&mut self) -> Result<Vec<Change>, Status> {
        loop {
            let events = match self.0.next().await.map_err(failed)? {
                WatchItem::Events(e) => e,
                WatchItem::Progress(_) => continue,
            };
            let mut out = Vec::with_capacity(events.len());
            for e in events.iter() {
                match plain(e.kind, &e.record, e.previous.as_deref())? {
                    Some(WatchEvent::Added(o) | WatchEvent::Modified(o)) => out.push(Change::Put(o)),
                    Some(WatchEvent::Deleted(o)) => out.push(Change::Deleted(o)),
                    _ => {}
                }
            }
            if !out.is_empty() {
                return Ok(out);
            }
        }
    }
}

#[async_trait]
impl Reader for StoreReader {
    fn revision(&self) -> u64 {
        self.storage.revision()
    }

    async fn get(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Object>, Status> {
        let kind = self.kind(group, plural)?;
        if name.is_empty() || (kind.namespaced && namespace.is_empty()) {
            return Ok(None);
        }
        self.storage.known(&kind.key(namespace, name)).await
    }

    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Object>, Status> {
        Ok(self.storage.all(&self.kind(group, plural)?.key(namespace, ""), Fresh::Known).await?.0)
    }

    async fn changes(&self, group: &str, plural: &str, after: u64) -> Result<Box<dyn Changes>, Status> {
        let prefix = self.kind(group, plural)?.key("", "");
        let w = self.storage.store().watch(&prefix, Some(after + 1)).await.map_err(failed)?;
        Ok(Box::new(Following(w)))
    }

    async fn update(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        decide: Decide<'_>,
    ) -> Result<Object, Status> {
        let kind = self.kind(group, plural)?;
        let key = kind.key(namespace, name);
        for _ in 0..TRIES {
            let current =
                self.storage.known(&key).await?.ok_or_else(|| Status::not_found(group, plural, name))?;
            let old = current.value().map_err(Status::internal)?;
            let Some(mut new) = decide(old.clone())? else { return Ok(current) };
            adapt::canonical(&kind, &mut new);
            if rules::has_generation(group, plural, kind.custom) && meta::spec_changed(&new, &old) {
                meta::bump_generation(&mut new)?;
            }
            let ttl = strategy(group, plural).ttl(&new);
            let encoded = Encoded::new(new)?;
            if encoded.bytes == current.stored_bytes() {
                return Ok(current);
            }
            if let Some(o) = self.storage.replace(&key, current.revision(), &encoded, ttl).await? {
                return Ok(o);
            }
        }
        Err(Status::conflict(group, plural, name, "the object has been modified too often; please try again"))
    }

    async fn create(&self, group: &str, plural: &str, mut value: Value) -> Result<Object, Status> {
        let kind = self.kind(group, plural)?;
        let m = meta::meta_mut(&mut value)?;
        m.entry("uid").or_insert_with(|| json!(uuid::Uuid::new_v4().to_string()));
        m.entry("creationTimestamp").or_insert_with(|| json!(client::clock::rfc3339(client::clock::now())));
        adapt::default(&kind, &kind.hub.version, &mut value);
        adapt::canonical(&kind, &mut value);
        let key = kind.key(meta::text(&value, "/metadata/namespace"), meta::name(&value));
        let name = meta::name(&value).to_owned();
        let ttl = strategy(group, plural).ttl(&value);
        self.storage
            .create(&key, &Encoded::new(value)?, ttl)
            .await?
            .ok_or_else(|| Status::already_exists(group, plural, &name))
    }
}
