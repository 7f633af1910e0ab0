//! The certificates of an agent's node: how they are asked for, when they are renewed, where they are kept. `Keeper` runs
//! as one task; both certificates are exchanged without a restart.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use api::resource::CERTIFICATE_REQUESTS;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Client, RemoteTransport, clock};
use pki::CertKey;
use serde_json::json;
use tracing::{info, warn};

use super::Dir;
use super::join::Joined;
use crate::node::listen::Serving;

pub const CLIENT: Purpose =
    Purpose { file: "client", signer: "kubernetes.io/kube-apiserver-client-kubelet", usage: "client auth" };
pub const SERVING: Purpose =
    Purpose { file: "serving", signer: "kubernetes.io/kubelet-serving", usage: "server auth" };

/// How often it is looked whether a request was signed.
const LOOK: Duration = Duration::from_secs(1);
const PATIENCE: u32 = 900;
/// After a failure, doubled each time up to `SLOW`.
const QUICK: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_secs(60);
/// Times may jump: the due time is looked at again at least this often.
const CHECK: Duration = Duration::from_secs(300);

/// What a certificate is for.
pub struct Purpose {
    pub file: &'static str,
    signer: &'static str,
    usage: &'static str,
}

impl Dir {
    /// A certificate with its key that belong together; one that was half written is none.
    pub fn certificate(&self, p: &Purpose) -> anyhow::Result<Option<CertKey>> {
        // One file holds both, so that no power cut parts them.
        let Some(text) = self.read(&format!("{}.pem", p.file))? else { return Ok(None) };
        let both = CertKey { cert: text.clone(), key: text };
        Ok(pki::dir::certified_key(&both).is_ok().then_some(both))
    }

    pub fn keep(&self, p: &Purpose, c: &CertKey) -> anyhow::Result<()> {
        self.write(&format!("{}.pem", p.file), &format!("{}{}", c.cert, c.key))
    }
}

/// When to renew what holds from and until then (Unix seconds): after 70 to 90 parts of a hundred, as `spread` says, so that
/// nodes that joined together do not come together.
fn due(from: i64, until: i64, spread: u8) -> i64 {
    let life = until.saturating_sub(from).max(0);
    from + life / 1000 * (700 + i64::from(spread) * 200 / 255)
}

/// Sends a request for a certificate and waits until it is signed.
pub async fn request(
    client: &Client,
    p: &Purpose,
    node: &str,
    addresses: &[IpAddr],
) -> anyhow::Result<CertKey> {
    let names = [node];
    let names = if p.file == SERVING.file && node.parse::<IpAddr>().is_err() { &names[..] } else { &[] };
    let made = pki::request::node_request(node, names, addresses)?;
    let pem = pki::trust::pem_block("CERTIFICATE REQUEST", &made.request);
    let body = json!({ "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": { "generateName": "csr-" },
        "spec": { "request": STANDARD.encode(pem), "signerName": p.signer, "usages": ["digital signature", p.usage] } });
    let asked = client.create(&CERTIFICATE_REQUESTS, "", &body).await.map_err(|e| anyhow!(e));
    let asked = asked.context("failed to ask for a certificate")?;
    let name = asked.name().to_owned();
    for attempt in 0..PATIENCE {
        let o = client.get(&CERTIFICATE_REQUESTS, "", &name).await.map_err(|e| anyhow!(e));
        let v = o.with_context(|| format!("failed to look at the certificate request {name}"))?.value()?;
        let conditions = v["status"]["conditions"].as_array().into_iter().flatten();
        if let Some(c) = conditions.into_iter().find(|c| c["type"] == "Denied" || c["type"] == "Failed") {
            let why = c["message"].as_str().unwrap_or_default();
            bail!("the certificate request {name} was refused: {why}");
        }
        if let Some(cert) = v["status"]["certificate"].as_str() {
            let cert = STANDARD.decode(cert).context("the certificate can't be read")?;
            let cert = String::from_utf8(cert).context("the certificate can't be read")?;
            return Ok(CertKey { cert, key: made.key });
        }
        if attempt == 10 {
            info!(
                request = name,
                "waiting for a certificate; it has to be approved (kubectl certificate approve {name})"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("the certificate request {name} was not signed in time")
}

/// Keeps both certificates of a node fresh.
pub struct Keeper {
    pub dir: Dir,
    pub node: String,
    pub addresses: Vec<IpAddr>,
    pub joined: Joined,
    pub transport: RemoteTransport,
    pub serving: Arc<Serving>,
    pub client: Client,
}

fn validity(c: &CertKey) -> Option<(i64, i64)> {
    let der = pki::trust::certificates(&c.cert).ok()?.into_iter().next()?;
    pki::trust::validity(&der).ok()
}

impl Keeper {
    pub async fn run(self) {
        tokio::join!(self.keep(&CLIENT), self.keep(&SERVING));
    }

    fn use_it(&self, p: &Purpose, c: &CertKey) -> anyhow::Result<()> {
        if p.file == CLIENT.file {
            self.transport.exchange(crate::remote::access(&self.joined.ca, Some(c), None)?);
            return Ok(());
        }
        self.serving.set(c)
    }

    /// Whether the kept certificate is one for this node as it is today.
    fn fits(&self, p: &Purpose, c: &CertKey) -> bool {
        let Ok(all) = pki::trust::certificates(&c.cert) else { return false };
        let Some(der) = all.first() else { return false };
        p.file == CLIENT.file
            || pki::trust::addresses(der).is_ok_and(|had| self.addresses.iter().all(|a| had.contains(a)))
    }

    async fn keep(&self, p: &Purpose) {
        let mut pause = QUICK;
        let spread = uuid::Uuid::new_v4().as_bytes()[0];
        loop {
            let kept = self.dir.certificate(p).ok().flatten().filter(|c| self.fits(p, c));
            let now = clock::now().as_second();
            if let Some(c) = &kept
                && let Some((from, until)) = validity(c)
            {
                if p.file == SERVING.file
                    && now < until
                    && let Err(e) = self.use_it(p, c)
                {
                    warn!(error = format!("{e:#}"), "the kubelet's certificate can't be used");
                }
                let wait = due(from, until, spread) - now;
                if wait > 0 {
                    let wait = Duration::from_secs(u64::try_from(wait).unwrap_or(1));
                    tokio::time::sleep(wait.min(CHECK)).await;
                    continue;
                }
            }
            let addresses = if p.file == SERVING.file { &self.addresses[..] } else { &[] };
            let renewed = async {
                let c = request(&self.client, p, &self.node, addresses).await?;
                self.dir.keep(p, &c)?;
                self.use_it(p, &c)
            };
            match renewed.await {
                Ok(()) => {
                    pause = QUICK;
                    info!(certificate = p.file, "has a new certificate");
                    // One that is to be renewed at once would be asked for without end.
                    tokio::time::sleep(QUICK).await;
                }
                Err(e) => {
                    warn!(
                        certificate = p.file,
                        error = format!("{e:#}"),
                        "failed to get a new certificate, trying again"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(SLOW);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_come_early_and_not_all_at_once() {
        assert_eq!(due(1000, 2000, 0), 1700);
        assert_eq!(due(1000, 2000, 255), 1900);
        assert_eq!(due(2000, 1000, 9), 2000);
    }

    /// Signs what it is asked to, for so short that it is due at once.
    struct Signer(pki::Authority);

    #[async_trait::async_trait]
    impl client::LocalServer for Signer {
        async fn serve(&self, r: http::Request<bytes::Bytes>) -> http::Response<client::LocalBody> {
            let name = r.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let mut object = json!({"metadata": {"name": name}});
            if r.method() == http::Method::POST {
                let asked: serde_json::Value = serde_json::from_slice(r.body()).expect("a request");
                // The request travels in its own name, so that nothing has to be remembered.
                object["metadata"]["name"] =
                    asked["spec"]["request"].as_str().expect("PEM").replace('/', "_").into();
            } else {
                let path = percent_decode(&name).replace('_', "/");
                let pem = String::from_utf8(STANDARD.decode(path).expect("base64")).expect("PEM");
                let cert = self.0.sign_request(&pem, true, 10, clock::now().as_second()).expect("signed");
                object["status"]["certificate"] = STANDARD.encode(cert).into();
            }
            http::Response::new(client::LocalBody::Bytes(object.to_string().into()))
        }
    }

    fn percent_decode(s: &str) -> String {
        s.replace("%3D", "=").replace("%2B", "+")
    }

    #[tokio::test]
    async fn certificates_are_exchanged_while_they_are_used() {
        let ca = pki::Authority::create("ca", clock::now().as_second()).expect("authority");
        let place = tempfile::tempdir().expect("directory");
        let dir = Dir(place.path().to_owned());
        let own = ca.issue(&pki::Subject::new("system:node:n"), &pki::Usage::Client, 0).expect("certificate");
        let joined =
            Joined::new("https://127.0.0.1:1".parse().expect("server"), ca.cert_pem().to_owned(), own);
        let transport = RemoteTransport::new(joined.server.clone(), joined.access().expect("access"));
        let serving = Arc::new(Serving::default());
        let identity = client::LocalIdentity::user("system:node:n", &["system:nodes"]);
        let client = Client::local(Arc::new(Signer(ca)), identity, "test");
        let keeper = Keeper {
            dir,
            node: "n".into(),
            addresses: vec![[10, 0, 0, 2].into()],
            joined,
            transport,
            serving: serving.clone(),
            client,
        };
        let running = tokio::spawn(keeper.run());
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 3 {
            seen.extend(serving.shown());
            tokio::task::yield_now().await;
        }
        running.abort();
        let kept = Dir(place.path().to_owned())
            .certificate(&CLIENT)
            .expect("read")
            .expect("a client's certificate too");
        assert!(kept.cert.contains("BEGIN CERTIFICATE"));
    }

    #[test]
    fn a_certificate_is_kept_with_its_key_or_not_at_all() {
        let place = tempfile::tempdir().expect("directory");
        let dir = Dir(place.path().to_owned());
        assert!(dir.certificate(&CLIENT).expect("none").is_none());
        let now = clock::now().as_second();
        let ca = pki::Authority::create("ca", now).expect("authority");
        let usage =
            pki::Usage::Server { dns: vec!["n".into()], ips: vec![[10, 0, 0, 2].into()], both: false };
        let c = ca.issue(&pki::Subject::new("system:node:n"), &usage, now).expect("certificate");
        dir.keep(&SERVING, &c).expect("keep");
        let kept = dir.certificate(&SERVING).expect("read").expect("there");
        let (from, until) = validity(&kept).expect("dates");
        assert!(from <= now && now < until);
        let der = pki::trust::certificates(&kept.cert).expect("certificates");
        assert_eq!(pki::trust::addresses(&der[0]).expect("addresses"), [IpAddr::from([10, 0, 0, 2])]);
        dir.write("serving.pem", &c.cert).expect("cut off");
        assert!(dir.certificate(&SERVING).expect("read").is_none());
    }
}
