//! Conversions between versions of built-in kinds, as pure functions over JSON.

pub mod autoscaling;
pub mod certificates;
pub mod events;
pub mod resource;
