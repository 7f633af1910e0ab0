//! Certificates and service-account tokens. Owns the files under `<data-dir>/pki/`; spawns nothing.
//!
//! - [`authority`]: a certificate authority that issues leaf certificates
//! - [`authorities`]: which servers a TLS client believes
//! - [`dir`]: what lies in the pki directory, made or renewed at start
//! - [`request`]: a key, and a request that proves it
//! - [`trust`]: who a client certificate belongs to
//! - [`token`]: bound service-account tokens, minted and verified
//! - [`oidc`]: the discovery documents that let others verify those tokens
//! - [`unverified`]: a TLS client that takes any certificate
//! - [`jws`]: signatures made with bootstrap tokens
//! - [`kubeconfig`]: a kubeconfig with everything embedded
//!
//! Time is always handed in as Unix seconds; nothing here reads a clock, except rustls inside a handshake.
#![forbid(unsafe_code)]

pub mod authorities;
pub mod authority;
pub mod dir;
mod files;
pub mod jws;
pub mod kubeconfig;
pub mod oidc;
pub mod request;
pub mod token;
pub mod trust;
pub mod unverified;

pub use authority::{Authority, CertKey, Subject, Usage};
pub use dir::{Options, Pki};
pub use files::{make_dir, write_durable};
pub use token::{BoundRef, Claims, Signer, TokenError, Verifier};
pub use trust::{CertIdentity, ClientTrust, RequestClientCert, provider};
pub use unverified::any_server;

/// Why a key, certificate or file of the pki directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to {what} {path}: {source}")]
    Io { what: &'static str, path: String, source: std::io::Error },
    #[error(
        "failed to read {path}: {why}; restore it from a backup, or remove it together with its pair to have it made anew"
    )]
    Unusable { path: String, why: String },
    #[error("failed to make a certificate for {name}: {source}")]
    Issue { name: String, source: rcgen::Error },
    #[error("keys of type {wanted} can't be made on this node, use one of {known}")]
    KeyType { wanted: String, known: String },
    #[error("failed to set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("failed to read certificate: {0}")]
    Certificate(String),
}
