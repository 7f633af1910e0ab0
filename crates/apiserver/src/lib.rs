//! The API server: every request passes one filter chain (`chain`) and ends in one generic engine (`handlers`) over the
//! catalog of resources; what is special to a kind stands in `registry`. The only crate that opens the store.

pub mod adapt;
pub mod admission;
pub mod aggregation;
pub mod authn;
pub mod authz;
pub mod body;
pub mod bootstrap;
pub mod call;
pub mod chain;
mod coalesce;
mod conditions;
pub mod discovery;
mod extensions;
pub mod flow;
mod follow;
pub mod handlers;
mod impersonation;
mod lines;
mod local;
pub mod metrics;
pub mod negotiate;
pub mod nonresource;
mod openapi;
pub mod reader;
pub mod registry;
pub mod request_info;
pub mod resource_metrics;
pub mod serve;
pub mod server;
pub mod storage;
mod store_reader;
pub mod streaming;
pub mod user;
mod webhook;

pub use aggregation::FrontProxy;
pub use reader::Reader;
pub use request_info::RequestInfo;
pub use server::{ApiServer, Cluster, Config, Security};
pub use streaming::NodeTransport;
pub use user::User;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod security_tests;
