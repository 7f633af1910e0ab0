//! The ways to change an object by describing the change: JSON patch, JSON merge patch, strategic merge patch
//! and server-side apply. Owns what is tracked in `metadata.managedFields`. Pure: no IO, no clock (the caller
//! hands in the time), spawns nothing. Works on `serde_json::Value` with a `schema::Type` beside it.
#![forbid(unsafe_code)]

pub mod apply;
pub mod error;
mod gofmt;
pub mod json;
pub mod merge;
pub mod schema;
pub mod strategic;

pub use error::{Error, Result};
pub use gofmt::go_type;
pub use json::{JsonPatch, json_patch};
pub use merge::{diff, merge_patch};
pub use schema::{Schema, Type};

/// A value as Go prints it with `%v`, for messages that quote one.
pub fn go_text(v: &serde_json::Value) -> String {
    gofmt::v(v)
}
