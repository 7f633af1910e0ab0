//! Storage: the loop that binds claims to volumes, claims for ephemeral volumes, and the finalizers that keep what is
//! used.

pub mod binder;
pub mod ephemeral;
mod plan;
pub mod protection;
