//! The API's behaviour, asked for in process through the whole filter chain, over the embedded engine in a temporary
//! directory.

mod aggregation;
mod conversion;
mod corpus;
mod crds;
mod crud;
mod deleting;
mod elections;
mod hook;
mod lists;
mod metrics;
mod mutating;
mod patching;
mod pods;
mod policies;
mod protocol;
mod services;
mod setup;
mod watching;
mod webhooks;
