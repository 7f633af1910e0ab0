//! The one way to the API. A `Client` carries the verbs, a `Transport` carries the bytes (in process through the whole
//! filter chain, or over TLS), `Informers` keep one shared, read-only copy per kind, `WorkQueue` feeds a loop,
//! `EventRecorder` writes Events, and `Election` says which server runs a set of loops. Spawned tasks: one per informer,
//! one per event recorder, one per term of office.
#![forbid(unsafe_code)]

pub mod clock;
mod election;
mod events;
mod held;
mod informer;
mod late;
pub mod planted;
pub mod post;
mod queue;
pub mod remote;
mod transport;
mod verbs;
pub mod websocket;

pub use election::{Election, Timing};
pub use events::{EventRecorder, EventType, ObjectRef};
pub use informer::{Change, Informer, Informers, Scope};
pub use late::LateServer;
pub use queue::WorkQueue;
pub use remote::RemoteTransport;
pub use transport::{
    LocalBody, LocalIdentity, LocalServer, LocalTransport, ObjectList, Transport, WatchEvent, WatchStream,
};
pub use verbs::{Client, DeleteOptions, ListParams, Patch, WatchParams, segment};

pub use api::{Object, Resource, Status};
