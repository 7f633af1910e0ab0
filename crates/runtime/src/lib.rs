//! The embedded CRI runtime: images, snapshots, sandboxes, containers, behind the traits of the `cri` crate.
//!
//! [`EmbeddedRuntime`] owns everything below its root and run directories and nothing else; several live on one
//! machine. Containers are made and held by shims (crate `shim`), one process per pod, so dropping or killing the
//! runtime leaves them running; [`EmbeddedRuntime::open`] rebuilds all state from disk and from the shims.
#![allow(unsafe_code)]

pub mod config;
mod filters;
pub mod images;
pub mod memory;
pub mod sandbox;
pub mod service;
pub mod snapshots;
pub mod spec;

pub use config::{LoopbackOnly, NetRequest, PodNetwork, RuntimeConfig, ShimCommand};
pub use service::EmbeddedRuntime;
