//! The API server: every request passes one filter chain and ends in one generic engine over the catalog of resources.
//! The only crate that opens the store.

pub mod admission;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod reader;
pub mod request_info;
pub mod user;

pub use reader::Reader;
pub use request_info::RequestInfo;
pub use user::User;
