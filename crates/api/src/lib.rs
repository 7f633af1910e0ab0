//! The shape of a resource: descriptors, schemas, defaults, validation, columns, quantities, selectors,
//! canonical encoding. Pure: no IO, no clock, no task is spawned here.
#![forbid(unsafe_code)]

pub mod bootstrap_token;
pub mod canonical;
pub mod catalog;
pub mod columns;
pub mod conversion;
pub mod cron;
pub mod decode;
pub mod defaults;
pub mod indexes;
pub mod int_or_string;
pub mod label_set;
pub mod labels;
mod meta;
pub mod object;
pub mod openapi;
pub mod placement;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod scale;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod validation;
pub mod volumes;

pub use label_set::{LabelSet, Mark};
pub use meta::{Meta, OwnerReference};
pub use object::Object;
pub use resource::Resource;
pub use status::{Cause, Reason, Status};
