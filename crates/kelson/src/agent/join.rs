//! Joining: `cluster-info` is fetched from a server that is not believed yet, and believed when the token's signature and the
//! hash of the authority's key say so; then a first certificate is asked for with the token. Owns `ca.crt` and `server` in
//! the agent's directory; spawns nothing.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use api::bootstrap_token::{CLUSTER_INFO, PUBLIC_NAMESPACE, SIGNATURE};
use api::resource::CONFIG_MAPS;
use client::remote::{Access, Server};
use client::{Client, RemoteTransport, clock};
use pki::CertKey;
use serde_json::Value;
use tracing::{info, warn};

use super::identity::{self, CLIENT};
use super::{Config, Dir, RETRY};
use crate::kubeconfig::Kubeconfig;
use crate::remote::access;

/// A machine that belongs to a cluster.
pub struct Joined {
    pub server: Server,
    /// PEM.
    pub ca: String,
    own: CertKey,
}

impl Joined {
    pub fn new(server: Server, ca: String, own: CertKey) -> Self {
        Self { server, ca, own }
    }
    pub fn access(&self) -> anyhow::Result<Access> {
        access(&self.ca, Some(&self.own), None)
    }
}

/// From an earlier start, if the certificate still holds and is this node's.
fn kept(config: &Config, dir: &Dir) -> anyhow::Result<Option<Joined>> {
    let (Some(ca), Some(own)) = (dir.read("ca.crt")?, dir.certificate(&CLIENT)?) else { return Ok(None) };
    let server = match (&config.server, dir.read("server")?) {
        (Some(s), _) => s.clone(),
        (None, Some(text)) => text.trim().parse()?,
        (None, None) => bail!("--server is needed: https://HOST:PORT of the API server"),
    };
    let der = pki::trust::certificates(&own.cert)?;
    let who = pki::trust::parse_identity(der.first().map_or(&[], |d| d.as_ref()))?;
    let name = format!("system:node:{}", config.machine.node_name);
    if who.user != name {
        bail!(
            "this machine joined as {}, not as {name}; go on with that --node-name, or run kelson clean first",
            who.user
        );
    }
    if who.not_after <= clock::now().as_second() {
        warn!("this node's certificate has ended: it joins anew");
        return Ok(None);
    }
    Ok(Some(Joined::new(server, ca, own)))
}

/// The authority that a cluster's info names, if the token's signature and a hash stand behind it.
fn authority(data: &Value, token: &str, hashes: &[String]) -> anyhow::Result<String> {
    let (id, secret) = api::bootstrap_token::split(token).context("the token has not the form of one")?;
    let text = data["kubeconfig"].as_str().context("cluster-info holds no kubeconfig")?;
    let Some(signature) = data[format!("{SIGNATURE}{id}")].as_str() else {
        bail!(
            "the cluster has not signed for the token {id}; it may have ended (kelson token list), or was just made"
        );
    };
    if !pki::jws::verify(signature, text, id, secret) {
        bail!(
            "what this server says is not signed with the token {id}: it may not be the server it should be"
        );
    }
    let ca = Kubeconfig::parse(text).context("cluster-info can't be read")?.ca;
    let all = pki::trust::certificates(&ca)?;
    for c in &all {
        let hash = pki::trust::public_key_hash(c)?;
        if !hashes.is_empty() && !hashes.contains(&hash) {
            bail!("the cluster's authority has the key {hash}, which no --ca-cert-hash names");
        }
    }
    Ok(ca)
}

/// What one try came to.
async fn attempt(config: &Config, dir: &Dir, server: &Server, token: &str) -> anyhow::Result<Joined> {
    // Nothing secret goes this way: whoever answers is not known yet.
    let anybody = Access { tls: pki::any_server()?, token: None };
    let client = Client::new(Arc::new(RemoteTransport::new(server.clone(), anybody)), "kelson-agent");
    let info = client.get(&CONFIG_MAPS, PUBLIC_NAMESPACE, CLUSTER_INFO).await.map_err(|e| anyhow!(e));
    let info = info.context("failed to ask for the cluster's info")?.value()?;
    let ca = authority(&info["data"], token, &config.hashes)?;
    let bearer = RemoteTransport::new(server.clone(), access(&ca, None, Some(token))?);
    let client = Client::new(Arc::new(bearer), "kelson-agent");
    let own = identity::request(&client, &CLIENT, &config.machine.node_name, &[]).await?;
    dir.write("ca.crt", &ca)?;
    dir.write("server", &server.to_string())?;
    dir.keep(&CLIENT, &own)?;
    info!(%server, node = config.machine.node_name, "joined");
    Ok(Joined::new(server.clone(), ca, own))
}

/// Joins, or finds that this machine has joined before; tries for as long as it takes.
pub async fn joined(config: &Config, dir: &Dir) -> anyhow::Result<Joined> {
    if let Some(joined) = kept(config, dir)? {
        if config.server.is_some() {
            dir.write("server", &joined.server.to_string())?;
        }
        return Ok(joined);
    }
    let (Some(server), Some(token)) = (&config.server, &config.token) else {
        bail!("to join, --server and --token are needed; kelson token create on the server prints both");
    };
    let mut said = String::new();
    loop {
        match attempt(config, dir, server, token).await {
            Ok(joined) => return Ok(joined),
            Err(e) => {
                let why = format!("{e:#}");
                if why != said {
                    warn!(error = why, "failed to join, trying again");
                    said = why;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    #[test]
    fn only_the_tokens_cluster_is_believed() {
        let ca = pki::Authority::create("ca", 1_800_000_000).expect("authority");
        let hash =
            pki::trust::public_key_hash(&pki::trust::certificates(ca.cert_pem()).expect("certificate")[0]);
        let hash = hash.expect("hash");
        let text = format!(
            "clusters: [{{name: '', cluster: {{server: s, certificate-authority-data: {}}}}}]",
            STANDARD.encode(ca.cert_pem())
        );
        let token = "abcdef.0123456789abcdef";
        let data = json!({"kubeconfig": text, "jws-kubeconfig-abcdef": pki::jws::sign(&text, "abcdef", "0123456789abcdef")});
        assert_eq!(authority(&data, token, &[]).expect("believed"), ca.cert_pem());
        assert_eq!(authority(&data, token, &["sha256:0".into(), hash]).expect("believed"), ca.cert_pem());
        let why = |data: &Value, token: &str, hashes: &[String]| {
            format!("{:#}", authority(data, token, hashes).expect_err("refused"))
        };
        assert!(why(&data, token, &["sha256:0".into()]).contains("no --ca-cert-hash names"));
        assert!(why(&data, "abcdef.0123456789abcdeg", &[]).contains("not signed with the token abcdef"));
        assert!(why(&data, "ghijkl.0123456789abcdef", &[]).contains("has not signed for the token ghijkl"));
        let mut forged = data.clone();
        forged["kubeconfig"] = json!(text.replace("server: s", "server: t"));
        assert!(why(&forged, token, &[]).contains("not signed"));
        assert!(why(&json!({}), token, &[]).contains("no kubeconfig"));
    }
}
