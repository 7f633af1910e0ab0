//! The way to an API server elsewhere: TLS from a cluster's authority and one's own credentials. Spawns nothing.

use std::sync::Arc;

use client::remote::Access;
use pki::CertKey;

/// As whom to come to a cluster that `ca` (PEM) stands for.
pub fn access(ca: &str, own: Option<&CertKey>, token: Option<&str>) -> anyhow::Result<Access> {
    let believed = pki::authorities::verifier(pki::trust::certificates(ca)?)?;
    let tls = Arc::new(pki::dir::client_config(believed, own)?);
    Ok(Access { tls, token: token.map(str::to_owned) })
}
