//! From a container's spec to what the runtime is told: environment, resources, security, files, mounts. Pure but for
//! `config`, which reads prepared volumes.

pub mod config;
pub mod env;
pub mod expand;
pub mod fields;
pub mod netfiles;
pub mod resources;
pub mod security;
