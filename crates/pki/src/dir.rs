//! What lies in `<data-dir>/pki/`: two authorities and the key of service-account tokens, which must never be lost,
//! and leaf certificates, which are made anew when they are missing, damaged, near their end, of another authority
//! or lacking a name. File names are those that administrators know.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::KeyPair;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::{Authority, CertKey, LEAF_SECONDS, Subject, Usage};
use crate::files::{self, Keep};
use crate::token::Signer;
use crate::trust::{self, ClientTrust, RequestClientCert};
use crate::{Error, kubeconfig};

/// A leaf is renewed when less than this share (one part in N) of its life is left.
const RENEW_PART: i64 = 5;

/// Name of the front proxy's certificate, as a file and as a user.
pub const FRONT_PROXY_CLIENT: &str = "front-proxy-client";

/// What the serving certificate must answer to.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub hostname: String,
    pub advertise: Vec<IpAddr>,
    /// First address of every service CIDR: the `kubernetes` Service.
    pub service_ips: Vec<IpAddr>,
    pub cluster_domain: String,
    pub extra_dns: Vec<String>,
}

impl Options {
    fn serving(&self) -> Usage {
        let mut dns: Vec<String> =
            ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
                .map(str::to_owned)
                .to_vec();
        if !self.cluster_domain.is_empty() {
            dns.push(format!("kubernetes.default.svc.{}", self.cluster_domain));
        }
        if !self.hostname.is_empty() {
            dns.push(self.hostname.clone());
        }
        dns.extend(self.extra_dns.iter().cloned());
        let mut ips = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        ips.extend(self.advertise.iter().filter(|i| !i.is_unspecified()));
        ips.extend(self.service_ips.iter());
        let unique: BTreeSet<IpAddr> = ips.into_iter().collect();
        let names: BTreeSet<String> = dns.into_iter().collect();
        Usage::Server { dns: names.into_iter().collect(), ips: unique.into_iter().collect(), both: false }
    }
}

/// The keys and certificates of one cluster.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    /// Signs all server and client certificates of the cluster.
    pub ca: Authority,
    /// Signs the one certificate with which the API server speaks to aggregated API servers.
    pub front_proxy: Authority,
    /// Signs service-account tokens.
    pub tokens: Arc<Signer>,
    /// The API server's serving certificate.
    pub serving: CertKey,
    /// The API server's own certificate towards kubelets.
    pub kubelet_client: CertKey,
    /// The API server's own certificate towards aggregated API servers.
    pub front_proxy_client: CertKey,
}

impl Pki {
    /// Opens the directory; what is missing is made, what nears its end is renewed. `now` in Unix seconds.
    pub fn open(dir: &Path, options: &Options, now: i64) -> Result<Self, Error> {
        files::make_dir(dir)?;
        // Three keys that need an fsync each: side by side they cost one.
        let (ca, front_proxy, tokens) = std::thread::scope(|s| {
            let front = s.spawn(|| authority(dir, "front-proxy-ca", "front-proxy-ca", now));
            let tokens = s.spawn(|| signer(dir));
            let ca = authority(dir, "ca", "kubernetes", now);
            let lost = || Error::Certificate("a thread that reads keys has failed".into());
            (ca, front.join().unwrap_or_else(|_| Err(lost())), tokens.join().unwrap_or_else(|_| Err(lost())))
        });
        let (ca, front_proxy, tokens) = (ca?, front_proxy?, Arc::new(tokens?));
        let serving = leaf(dir, "apiserver", &ca, &Subject::new("kube-apiserver"), &options.serving(), now)?;
        let me = Subject::new("kube-apiserver-kubelet-client");
        let kubelet_client = leaf(dir, "apiserver-kubelet-client", &ca, &me, &Usage::Client, now)?;
        let proxy = Subject::new(FRONT_PROXY_CLIENT);
        let front_proxy_client = leaf(dir, FRONT_PROXY_CLIENT, &front_proxy, &proxy, &Usage::Client, now)?;
        Ok(Self { dir: dir.to_owned(), ca, front_proxy, tokens, serving, kubelet_client, front_proxy_client })
    }

    /// Tells the keys that all servers of a cluster share from those of other clusters; says nothing about them.
    pub fn fingerprint(&self) -> String {
        let mut of = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [self.ca.cert_pem(), self.front_proxy.cert_pem(), self.tokens.key_id()] {
            of.update(part.trim().as_bytes());
            of.update(b"\n");
        }
        of.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The administrator: member of `system:masters`.
    pub fn admin(&self, now: i64) -> Result<CertKey, Error> {
        self.client("admin", &Subject::new("kubernetes-admin").in_group("system:masters"), now)
    }

    /// A client certificate kept under `file` (`<file>.crt`, `<file>.key`).
    pub fn client(&self, file: &str, subject: &Subject, now: i64) -> Result<CertKey, Error> {
        leaf(&self.dir, file, &self.ca, subject, &Usage::Client, now)
    }

    /// What a kubelet shows to the API server.
    pub fn kubelet_client(&self, node: &str, now: i64) -> Result<CertKey, Error> {
        let subject = Subject::new(format!("system:node:{node}")).in_group("system:nodes");
        self.client(&format!("kubelet-client-{}", file_part(node)), &subject, now)
    }

    /// What a kubelet shows to those who call it.
    pub fn kubelet_serving(&self, node: &str, ips: &[IpAddr], now: i64) -> Result<CertKey, Error> {
        let subject = Subject::new(format!("system:node:{node}")).in_group("system:nodes");
        let usage = Usage::Server { dns: vec![node.to_owned()], ips: ips.to_vec(), both: false };
        leaf(&self.dir, &format!("kubelet-{}", file_part(node)), &self.ca, &subject, &usage, now)
    }

    pub fn client_trust(&self) -> Result<ClientTrust, Error> {
        ClientTrust::new(self.ca.cert_pem())
    }

    /// Whose certificates may say in headers who somebody else is.
    pub fn front_proxy_trust(&self) -> Result<ClientTrust, Error> {
        ClientTrust::new(self.front_proxy.cert_pem())
    }

    /// The API server's TLS set-up: HTTP/2 and HTTP/1.1, client certificates asked for but judged later.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, Error> {
        let hints = format!("{}{}", self.ca.cert_pem(), self.front_proxy.cert_pem());
        let verifier = RequestClientCert::new(&hints)?;
        server_config(&self.serving, verifier)
    }

    /// Writes a kubeconfig for the administrator, unless the file says the same already.
    pub fn write_admin_kubeconfig(&self, path: &Path, server: &str, now: i64) -> Result<(), Error> {
        let admin = self.admin(now)?;
        let credentials = kubeconfig::Credentials::Certificate { cert_pem: &admin.cert, key_pem: &admin.key };
        let text = kubeconfig::render("kelson", server, self.ca.cert_pem(), "kubernetes-admin", &credentials);
        write_if_changed(path, &text)
    }
}

fn private_key(of: &CertKey) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(of.key.as_bytes())
        .map_err(|e| Error::Certificate(format!("private key: {e}")))
}

/// A server's TLS set-up from a certificate and a verifier of clients.
pub fn server_config(
    cert: &CertKey,
    verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
) -> Result<rustls::ServerConfig, Error> {
    let key = private_key(cert)?;
    let mut config = rustls::ServerConfig::builder_with_provider(trust::provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(trust::certificates(&cert.cert)?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A certificate with its key as TLS takes them.
pub fn certified_key(of: &CertKey) -> Result<rustls::sign::CertifiedKey, Error> {
    let chain = trust::certificates(&of.cert)?;
    Ok(rustls::sign::CertifiedKey::from_der(chain, private_key(of)?, &trust::provider())?)
}

/// A client's TLS set-up: which servers it believes, and the certificate that it shows.
pub fn client_config(
    believed: Arc<dyn rustls::client::danger::ServerCertVerifier>,
    own: Option<&CertKey>,
) -> Result<rustls::ClientConfig, Error> {
    let builder = rustls::ClientConfig::builder_with_provider(trust::provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(believed);
    let Some(own) = own else { return Ok(builder.with_no_client_auth()) };
    Ok(builder.with_client_auth_cert(trust::certificates(&own.cert)?, private_key(own)?)?)
}

/// Writes a file for its owner only, atomically, when its content differs.
pub fn write_if_changed(path: &Path, text: &str) -> Result<(), Error> {
    if files::read(path)?.as_deref() == Some(text) {
        return Ok(());
    }
    files::write(path, text, Keep::Replaceable)
}

/// A node name is a DNS name, but it comes from outside: nothing of it may leave the directory.
fn file_part(node: &str) -> String {
    node.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' }).collect()
}

fn authority(dir: &Path, file: &str, common_name: &str, now: i64) -> Result<Authority, Error> {
    let (crt, key) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
    match (files::read(&crt)?, files::read(&key)?) {
        (Some(c), Some(k)) => Authority::load(&c, &k)
            .map_err(|e| Error::Unusable { path: crt.display().to_string(), why: e.to_string() }),
        (Some(_), None) => {
            Err(Error::Unusable { path: key.display().to_string(), why: "the file is missing".into() })
        }
        // A key without its certificate is a first start that broke off: nothing was signed with it yet.
        (None, _) => {
            let a = Authority::create(common_name, now)?;
            files::write(&key, a.key_pem(), Keep::Durable)?;
            files::write(&crt, a.cert_pem(), Keep::Durable)?;
            Ok(a)
        }
    }
}

fn signer(dir: &Path) -> Result<Signer, Error> {
    let path = dir.join("sa.key");
    let pem = match files::read(&path)? {
        Some(p) => p,
        None => {
            let key = KeyPair::generate()
                .map_err(|source| Error::Issue { name: "service-account tokens".into(), source })?;
            let pem = key.serialize_pem();
            files::write(&path, &pem, Keep::Durable)?;
            files::write(&dir.join("sa.pub"), key.public_key_pem(), Keep::Replaceable)?;
            pem
        }
    };
    Signer::from_pem(&pem).map_err(|why| Error::Unusable { path: path.display().to_string(), why })
}

fn leaf(
    dir: &Path,
    file: &str,
    ca: &Authority,
    subject: &Subject,
    usage: &Usage,
    now: i64,
) -> Result<CertKey, Error> {
    let (crt, key) = (dir.join(format!("{file}.crt")), dir.join(format!("{file}.key")));
    if let (Some(cert), Some(key)) = (files::read(&crt)?, files::read(&key)?) {
        let have = CertKey { cert, key };
        if still_good(&have, ca, subject, usage, now) {
            return Ok(have);
        }
    }
    let new = ca.issue(subject, usage, now)?;
    files::write(&key, &new.key, Keep::Replaceable)?;
    files::write(&crt, &new.cert, Keep::Replaceable)?;
    Ok(new)
}

fn still_good(have: &CertKey, ca: &Authority, subject: &Subject, usage: &Usage, now: i64) -> bool {
    let check = || -> Option<bool> {
        let der = trust::certificates(&have.cert).ok()?.into_iter().next()?;
        let key = KeyPair::from_pem(&have.key).ok()?;
        let ca_der = trust::certificates(ca.cert_pem()).ok()?.into_iter().next()?;
        let (_, ca_cert) = X509Certificate::from_der(&ca_der).ok()?;
        let (_, cert) = X509Certificate::from_der(&der).ok()?;
        let who = trust::parse_identity(&der).ok()?;
        cert.verify_signature(Some(ca_cert.public_key())).ok()?;
        let life = cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp();
        let left = cert.validity().not_after.timestamp() - now;
        let names_there = match usage {
            Usage::Client => true,
            Usage::Server { dns, ips, .. } => {
                let san = cert.subject_alternative_name().ok()??;
                let mut have_dns = BTreeSet::new();
                let mut have_ips = BTreeSet::new();
                for n in &san.value.general_names {
                    match n {
                        GeneralName::DNSName(d) => {
                            have_dns.insert((*d).to_owned());
                        }
                        GeneralName::IPAddress(b) => {
                            have_ips.insert(trust::address(b)?);
                        }
                        _ => {}
                    }
                }
                dns.iter().all(|d| have_dns.contains(d)) && ips.iter().all(|i| have_ips.contains(i))
            }
        };
        let key_fits = cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw();
        let groups: Vec<String> = subject.organization.iter().cloned().collect();
        Some(
            names_there
                && key_fits
                && who.user == subject.common_name
                && who.groups == groups
                && left * RENEW_PART > life.min(LEAF_SECONDS * 2),
        )
    };
    check().unwrap_or(false)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
