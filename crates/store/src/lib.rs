//! The store: etcd's semantics behind one trait, with engines below it. No Kubernetes policy lives here; keys and
//! values are opaque. `embedded` is the engine of a single server; one behaviour suite (`suite`) is run against every
//! engine.

pub mod backup;
pub mod embedded;
pub mod etcd;
mod memory;
#[cfg(any(test, feature = "suite"))]
pub mod suite;
mod traits;

pub use traits::*;
