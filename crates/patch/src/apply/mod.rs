//! Server-side apply and the tracking of who owns which field.
//!
//! `FieldManager` is the entry: `update` for every ordinary write, `apply` for an apply. Below it `updater` holds the
//! rules, `managers` the entries of `managedFields`, `set` and `element` the field paths, and `compare`, `merge`,
//! `remove`, `reconcile` and `typed` the walks over values by type.

mod compare;
mod conflict;
pub mod csa;
mod element;
pub mod filter;
pub mod last_applied;
mod lay;
mod manager;
mod managers;
mod merge;
mod reconcile;
mod remove;
pub mod scale;
mod set;
#[cfg(test)]
mod tests;
mod typed;
mod updater;
mod value;
mod versions;

pub use conflict::{Conflict, Conflicts};
pub use element::{Path, PathElement, path_text};
pub use filter::Filter;
pub use lay::lay_over;
pub use manager::{Applied, FieldManager, field_path};
pub use managers::{ManagerId, Operation, keep_times_if_unchanged, of as managed_fields};
pub use set::Set;
pub use versions::{CatalogVersions, OneVersion, Versions};
