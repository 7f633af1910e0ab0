//! Simulated nodes: they speak to the API over TLS as their kubelets would, and play what pods go through. `world` and what
//! it is made of decide (pure: `node`, `pod`, `stage`, `status`, `failures`), `drive` lists, watches and writes, `access` puts
//! each write under its node's identity (docs/adr/0008). Spawns two tasks that watch and a bounded number that write.
#![forbid(unsafe_code)]

mod access;
mod drive;
mod failures;
mod node;
mod pod;
mod stage;
mod status;
mod world;

pub use access::Access;
pub use drive::{Options, run};
pub use failures::{Failures, FailuresError};
pub use node::{FIRST_ADDRESS, LABEL, SILENT};
