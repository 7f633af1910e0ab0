//! The one way to the API. A `Client` carries the verbs, a `Transport` carries the bytes (in process through the whole
//! filter chain, or a socket), `Informers` keep one shared, read-only copy per kind, `WorkQueue` feeds a loop, and
//! `EventRecorder` writes Events. Spawned tasks: one per informer, one per event recorder.
#![forbid(unsafe_code)]

pub mod clock;
mod events;
mod informer;
mod late;
mod queue;
mod transport;
mod verbs;

pub use events::{EventRecorder, EventType, ObjectRef};
pub use informer::{Change, Informer, Informers, Scope};
pub use late::LateServer;
pub use queue::WorkQueue;
pub use transport::{
    LocalBody, LocalIdentity, LocalServer, LocalTransport, ObjectList, Transport, WatchEvent, WatchStream,
};
pub use verbs::{Client, DeleteOptions, ListParams, Patch, WatchParams};

pub use api::{Object, Resource, Status};
