//! A pod's volumes on disk: each idempotent to set up (again after a restart of the daemon, again when an object they
//! show has changed) and taken down from what lies on disk alone.

pub mod atomic;
pub mod certificate;
pub mod claim;
pub mod host_path;
pub mod issuance;
pub mod mounter;
pub mod mounts;
pub mod ownership;
pub mod payload;
pub mod setup;
pub mod subpath;
pub mod token;
pub mod trust;
