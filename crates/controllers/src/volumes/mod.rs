//! Storage: the loop that binds claims to volumes, claims for ephemeral volumes, attachments of drivers' volumes, and
//! the finalizers that keep what is used.

pub mod attach;
pub mod binder;
pub mod ephemeral;
pub mod expand;
mod plan;
pub mod protection;
