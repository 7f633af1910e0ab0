//! Why a thing does not do what it should, in plain words. `facts` is what was read of a cluster, `families` decide over it
//! (one file per family of causes, all pure), `explain` puts their causes in order, `render` prints them, and `read` is the
//! shell that reads. Works against any Kubernetes, with the rights of whoever asks. Spawns nothing.
#![forbid(unsafe_code)]

mod amounts;
mod cause;
mod explain;
mod facts;
mod families;
pub mod read;
pub mod render;
mod target;

pub use cause::{Cause, Evidence, Finding, Help, Report, Weight};
pub use explain::{everything, explain};
pub use facts::{Facts, Lookup, Thing};
pub use target::{Kind, TargetError, kind, target};

#[cfg(test)]
mod tests;
