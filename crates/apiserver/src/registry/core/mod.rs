//! The core group.

pub mod binding;
pub mod cidr;
pub mod eviction;
pub mod kubernetes_endpoints;
mod kubernetes_service;
pub mod namespaces;
pub mod pods;
pub mod service_spec;
pub mod services;
pub mod small;
pub mod token;
