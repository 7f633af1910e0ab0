//! Ways to an API server elsewhere: TLS from a cluster's authority and one's own credentials, and all of that read from a
//! kubeconfig. Spawns nothing.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::RemoteTransport;
use client::remote::Access;
use pki::CertKey;
use serde::Deserialize;

/// As whom to come to a cluster that `ca` (PEM) stands for.
pub fn access(ca: &str, own: Option<&CertKey>, token: Option<&str>) -> anyhow::Result<Access> {
    let believed = pki::authorities::verifier(pki::trust::certificates(ca)?)?;
    let tls = Arc::new(pki::dir::client_config(believed, own)?);
    Ok(Access { tls, token: token.map(str::to_owned) })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    current_context: String,
    contexts: Option<Vec<Named>>,
    clusters: Option<Vec<Named>>,
    users: Option<Vec<Named>>,
}

/// An entry of either kind.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    name: String,
    context: Link,
    cluster: Cluster,
    user: User,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Link {
    cluster: String,
    user: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority_data: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate_data: String,
    client_key_data: String,
    token: String,
}

/// What a kubeconfig's current context says; without one, its only cluster.
pub struct Kubeconfig {
    pub server: String,
    /// PEM.
    pub ca: String,
    user: User,
}

fn decoded(what: &str, data: &str) -> anyhow::Result<String> {
    let raw = STANDARD.decode(data.trim()).with_context(|| format!("{what} is no base64"))?;
    String::from_utf8(raw).with_context(|| format!("{what} is no PEM text"))
}

impl Kubeconfig {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let f: File = serde_norway::from_str(text).context("it is no kubeconfig")?;
        let (contexts, clusters) = (f.contexts.unwrap_or_default(), f.clusters.unwrap_or_default());
        let link = contexts.iter().find(|c| c.name == f.current_context).map(|c| &c.context);
        let cluster = match link {
            Some(l) => clusters.iter().find(|c| c.name == l.cluster),
            None => clusters.first(),
        };
        let Some(Named { cluster, .. }) = cluster else { bail!("it names no cluster") };
        if cluster.certificate_authority_data.is_empty() {
            bail!("it holds no certificate authority (certificate-authority-data)");
        }
        let users = f.users.unwrap_or_default();
        let user = link.and_then(|l| users.iter().find(|u| u.name == l.user)).map(|u| u.user.clone());
        Ok(Self {
            server: cluster.server.clone(),
            ca: decoded("certificate-authority-data", &cluster.certificate_authority_data)?,
            user: user.unwrap_or_default(),
        })
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let read = || Self::parse(&std::fs::read_to_string(path)?);
        read().with_context(|| format!("failed to read {}", path.display()))
    }

    pub fn transport(&self) -> anyhow::Result<RemoteTransport> {
        let u = &self.user;
        let own = if u.client_certificate_data.is_empty() {
            None
        } else {
            Some(CertKey {
                cert: decoded("client-certificate-data", &u.client_certificate_data)?,
                key: decoded("client-key-data", &u.client_key_data)?,
            })
        };
        let token = Some(u.token.as_str()).filter(|t| !t.is_empty());
        Ok(RemoteTransport::new(self.server.parse()?, access(&self.ca, own.as_ref(), token)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::kubeconfig::{Credentials, render};

    #[test]
    fn what_is_rendered_is_read() {
        let text = render("c", "https://10.0.0.1:6443", "PEM", "u", &Credentials::Token("t"));
        let k = Kubeconfig::parse(&text).expect("kubeconfig");
        assert_eq!(
            (k.server.as_str(), k.ca.as_str(), k.user.token.as_str()),
            ("https://10.0.0.1:6443", "PEM", "t")
        );
        // As kubeadm writes cluster-info.
        let bare = "kind: Config\nclusters:\n- cluster: {certificate-authority-data: UEVN, server: s}\n  name: ''\ncontexts: null\nusers: null\n";
        assert_eq!(Kubeconfig::parse(bare).expect("kubeconfig").ca, "PEM");
        for wrong in ["", "[]", "clusters: []", "clusters: [{cluster: {server: s}}]", "a: b: c"] {
            assert!(Kubeconfig::parse(wrong).is_err(), "{wrong}");
        }
    }
}
