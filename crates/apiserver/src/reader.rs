//! What authentication, authorization and admission read and (for quota) write, straight from the engine and without the
//! filter chain. Objects are shared, nothing is copied; the engine is the cache.

use api::{Object, Status};
use async_trait::async_trait;
use serde_json::Value;

/// One change of a collection, as `Reader::changes` hands it out.
#[derive(Debug, Clone)]
pub enum Change {
    /// Created or updated.
    Put(Object),
    /// Deleted; the last state, at the revision of the delete.
    Deleted(Object),
}

/// Changes of one collection. Ended by an error when the reader fell behind: list again and start anew.
#[async_trait]
pub trait Changes: Send {
    async fn next(&mut self) -> Result<Vec<Change>, Status>;
}

/// Decides on the new value from the current one: `Ok(None)` leaves it as it is, `Err` gives up. May run several times.
pub type Decide<'a> = &'a mut (dyn FnMut(Value) -> Result<Option<Value>, Status> + Send);

#[async_trait]
pub trait Reader: Send + Sync {
    /// The newest durable revision: a cache filled at this revision is fresh.
    fn revision(&self) -> u64;

    /// `namespace` is empty for cluster-scoped kinds. `None`: there is no such object.
    async fn get(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Object>, Status>;

    /// All objects of a kind; `namespace` empty means all namespaces. In key order.
    async fn list(&self, group: &str, plural: &str, namespace: &str) -> Result<Vec<Object>, Status>;

    /// Changes after `revision` (of `list`/`revision()`), all namespaces.
    async fn changes(&self, group: &str, plural: &str, after: u64) -> Result<Box<dyn Changes>, Status>;

    /// Compare-and-write with retries: reads, lets `decide` make the new value, writes if nobody was faster, else again.
    /// The value carries its resourceVersion. Defaults, validation and admission are not run. NotFound when it is not there.
    async fn update(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        decide: Decide<'_>,
    ) -> Result<Object, Status>;

    /// Writes a new object as it is (uid and creationTimestamp are filled if missing). AlreadyExists when it is there.
    async fn create(&self, group: &str, plural: &str, value: Value) -> Result<Object, Status>;
}
