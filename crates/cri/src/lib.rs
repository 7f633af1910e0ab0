//! The Container Runtime Interface (CRI v1) as plain Rust: messages named and shaped as in `api.proto`, and the two
//! traits a kubelet calls. Owns no state and spawns nothing; [`fake`] is an in-memory runtime for tests.
//!
//! Differences from the protobuf service, all on purpose: streaming calls (exec, attach, port-forward) give their
//! streams directly instead of a URL, and messages hold maps and enums where protobuf has repeated pairs and numbers.

pub mod container;
pub mod error;
pub mod fake;
pub mod image;
pub mod sandbox;
pub mod service;
pub mod stats;
pub mod stream;

pub use container::*;
pub use error::{CriError, PullReason, Result};
pub use image::*;
pub use sandbox::*;
pub use service::*;
pub use stats::*;
pub use stream::*;

/// Labels and annotations.
pub type StringMap = std::collections::BTreeMap<String, String>;
