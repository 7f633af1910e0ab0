//! Kubeconfigs as kubectl reads them: contexts, several files of which the first to name a thing wins, certificates and keys
//! inside or in files beside, tokens, and programs that hand out credentials. Runs such a program; spawns nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::RemoteTransport;
use pki::CertKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Instance;
use crate::remote::access;

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
    /// The directory of its file: paths are relative to it.
    #[serde(skip)]
    dir: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Link {
    cluster: String,
    user: String,
    namespace: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority_data: String,
    certificate_authority: String,
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate_data: String,
    client_key_data: String,
    client_certificate: String,
    client_key: String,
    token: String,
    #[serde(rename = "tokenFile")]
    token_file: String,
    exec: Option<Exec>,
}

/// A program that hands out credentials (client.authentication.k8s.io).
#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "camelCase", default)]
struct Exec {
    api_version: String,
    command: String,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    install_hint: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Variable {
    name: String,
    value: String,
}

/// What a kubeconfig's chosen context says; without one, its only cluster.
pub struct Kubeconfig {
    pub server: String,
    /// PEM.
    pub ca: String,
    /// Of the context; empty when it names none.
    pub namespace: String,
    user: User,
    /// Of the user's file.
    dir: PathBuf,
}

fn decoded(what: &str, data: &str) -> anyhow::Result<String> {
    let raw = STANDARD.decode(data.trim()).with_context(|| format!("{what} is no base64"))?;
    String::from_utf8(raw).with_context(|| format!("{what} is no PEM text"))
}

/// What stands inside, or in the file that is named; the former wins.
fn inside(what: &str, data: &str, file: &str, dir: &Path) -> anyhow::Result<String> {
    if !data.is_empty() || file.is_empty() {
        return decoded(&format!("{what}-data"), data);
    }
    let path = dir.join(file);
    std::fs::read_to_string(&path).with_context(|| format!("failed to read {what} from {}", path.display()))
}

/// Where kubectl would look: the flag, the cluster of a data directory, `KUBECONFIG`, `~/.kube/config`, this machine's cluster.
pub fn places(flag: Option<PathBuf>, data_dir: Option<&Path>) -> Vec<PathBuf> {
    if let Some(file) = flag {
        return vec![file];
    }
    if let Some(dir) = data_dir {
        return vec![Instance::of(dir).kubeconfig()];
    }
    let named = std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty());
    if let Some(all) = named {
        return std::env::split_paths(&all).filter(|p| !p.as_os_str().is_empty()).collect();
    }
    let home = std::env::var_os("HOME").map(|h| Path::new(&h).join(".kube/config"));
    match home.filter(|p| p.is_file()) {
        Some(file) => vec![file],
        None => vec![Instance::of(Path::new(crate::config::DEFAULT_DATA_DIR)).kubeconfig()],
    }
}

impl Kubeconfig {
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        Self::choose(vec![(PathBuf::new(), text.to_owned())], None)
    }

    /// `files`: the directory and the text of each. `context`: another one than the current.
    fn choose(files: Vec<(PathBuf, String)>, context: Option<&str>) -> anyhow::Result<Self> {
        let mut all = File::default();
        let (mut contexts, mut clusters, mut users) = (Vec::new(), Vec::new(), Vec::new());
        for (dir, text) in files {
            let f: File = serde_norway::from_str(&text).context("it is no kubeconfig")?;
            if all.current_context.is_empty() {
                all.current_context = f.current_context;
            }
            for (from, into) in
                [(f.contexts, &mut contexts), (f.clusters, &mut clusters), (f.users, &mut users)]
            {
                let with = |n: Named| Named { dir: dir.clone(), ..n };
                into.extend(from.unwrap_or_default().into_iter().map(with));
            }
        }
        let wanted = context.unwrap_or(&all.current_context);
        let link = contexts.iter().find(|c| c.name == wanted).map(|c| &c.context);
        if let (None, Some(name)) = (link, context) {
            let names: Vec<&str> = contexts.iter().map(|c| c.name.as_str()).collect();
            bail!("it has no context {name:?}; there are {}", names.join(", "));
        }
        let cluster = match link {
            Some(l) => clusters.iter().find(|c| c.name == l.cluster),
            None => clusters.first(),
        };
        let Some(Named { cluster, dir, .. }) = cluster else { bail!("it names no cluster") };
        if cluster.certificate_authority_data.is_empty() && cluster.certificate_authority.is_empty() {
            if cluster.insecure_skip_tls_verify {
                bail!(
                    "it wants no certificate to be checked (insecure-skip-tls-verify), which is not done here: give it the cluster's authority"
                );
            }
            bail!("it holds no certificate authority (certificate-authority-data)");
        }
        let user = link.and_then(|l| users.iter().find(|u| u.name == l.user));
        Ok(Self {
            server: cluster.server.clone(),
            ca: inside(
                "certificate-authority",
                &cluster.certificate_authority_data,
                &cluster.certificate_authority,
                dir,
            )?,
            namespace: link.map(|l| l.namespace.clone()).unwrap_or_default(),
            user: user.map(|u| u.user.clone()).unwrap_or_default(),
            dir: user.map(|u| u.dir.clone()).unwrap_or_default(),
        })
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        Self::read_all(&[path.to_owned()], None)
    }

    /// Of several files the first that names a thing wins; those that are missing are left out, as kubectl has it.
    pub fn read_all(paths: &[PathBuf], context: Option<&str>) -> anyhow::Result<Self> {
        let shown: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        let read = || {
            let mut files = Vec::new();
            for path in paths {
                match std::fs::read_to_string(path) {
                    Ok(text) => files.push((path.parent().map(Path::to_owned).unwrap_or_default(), text)),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound && paths.len() > 1 => {}
                    Err(e) => return Err(e.into()),
                }
            }
            Self::choose(files, context)
        };
        read().with_context(|| format!("failed to read {}", shown.join(" and ")))
    }

    pub fn transport(&self) -> anyhow::Result<RemoteTransport> {
        let u = &self.user;
        let mut token = u.token.clone();
        if token.is_empty() && !u.token_file.is_empty() {
            let path = self.dir.join(&u.token_file);
            let text = std::fs::read_to_string(&path);
            text.with_context(|| format!("failed to read the token in {}", path.display()))?
                .trim()
                .clone_into(&mut token);
        }
        let mut own = None;
        if !u.client_certificate_data.is_empty() || !u.client_certificate.is_empty() {
            own = Some(CertKey {
                cert: inside(
                    "client-certificate",
                    &u.client_certificate_data,
                    &u.client_certificate,
                    &self.dir,
                )?,
                key: inside("client-key", &u.client_key_data, &u.client_key, &self.dir)?,
            });
        }
        if let Some(exec) = u.exec.as_ref().filter(|_| token.is_empty() && own.is_none()) {
            (token, own) = exec.ask(&self.dir)?;
        }
        let token = Some(token.as_str()).filter(|t| !t.is_empty());
        Ok(RemoteTransport::new(self.server.parse()?, access(&self.ca, own.as_ref(), token)?))
    }
}

impl Exec {
    /// The token, or the certificate, that the program hands out.
    fn ask(&self, dir: &Path) -> anyhow::Result<(String, Option<CertKey>)> {
        let info =
            json!({"apiVersion": self.api_version, "kind": "ExecCredential", "spec": {"interactive": false}});
        // A path with a slash is relative to the kubeconfig, a bare name is looked for in PATH.
        let program =
            if self.command.contains('/') { dir.join(&self.command) } else { PathBuf::from(&self.command) };
        let variables: BTreeMap<&str, &str> =
            self.env.iter().flatten().map(|v| (v.name.as_str(), v.value.as_str())).collect();
        let out = Command::new(&program)
            .args(self.args.iter().flatten())
            .envs(variables)
            .env("KUBERNETES_EXEC_INFO", info.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| {
                format!(
                    "failed to run {}, which hands out the credentials. {}",
                    self.command,
                    self.install_hint.trim()
                )
            })?;
        if !out.status.success() {
            bail!("{}, which hands out the credentials, ended with {}", self.command, out.status);
        }
        let answer: Value = serde_json::from_slice(&out.stdout)
            .with_context(|| format!("what {} printed is no ExecCredential", self.command))?;
        let of = |k: &str| answer["status"][k].as_str().unwrap_or_default().to_owned();
        let (cert, key) = (of("clientCertificateData"), of("clientKeyData"));
        let own = (!cert.is_empty()).then_some(CertKey { cert, key });
        if own.is_none() && of("token").is_empty() {
            bail!("{} handed out neither a token nor a certificate", self.command);
        }
        Ok((of("token"), own))
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

    const ONE: &str = "current-context: a\ncontexts:\n- {name: a, context: {cluster: c, user: u, namespace: shop}}\n- {name: b, context: {cluster: d, user: v}}\n\
        clusters:\n- {name: c, cluster: {server: s1, certificate-authority: ca.pem}}\nusers:\n- {name: u, user: {tokenFile: token}}\n";
    const TWO: &str = "current-context: z\nclusters:\n- {name: c, cluster: {server: later, certificate-authority-data: UEVN}}\n\
        - {name: d, cluster: {server: s2, certificate-authority-data: UEVN}}\nusers:\n- {name: v, user: {exec: {command: ./give, apiVersion: client.authentication.k8s.io/v1, args: [now]}}}\n";

    #[test]
    fn several_files_are_one() {
        let dir = tempfile::tempdir().expect("directory");
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("write");
            dir.path().join(name)
        };
        let paths = [dir.path().join("not-there"), write("one", ONE), write("two", TWO)];
        write("ca.pem", "from a file");
        let k = Kubeconfig::read_all(&paths, None).expect("kubeconfig");
        assert_eq!((k.server.as_str(), k.ca.as_str(), k.namespace.as_str()), ("s1", "from a file", "shop"));
        assert_eq!(k.dir, dir.path());
        let k = Kubeconfig::read_all(&paths, Some("b")).expect("kubeconfig");
        assert_eq!((k.server.as_str(), k.namespace.as_str()), ("s2", ""));
        let give = write("give", "#!/bin/sh\necho \"{\\\"status\\\": {\\\"token\\\": \\\"$1\\\"}}\"\n");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&give, mode).expect("mode");
        let (token, own) = k.user.exec.as_ref().expect("a program").ask(&k.dir).expect("a token");
        assert_eq!((token.as_str(), own.is_none()), ("now", true));
        let wrong = Kubeconfig::read_all(&paths, Some("nope")).err().expect("no such context");
        assert!(format!("{wrong:#}").contains("there are a, b"), "{wrong:#}");
        assert!(Kubeconfig::read_all(&paths[..1], None).is_err());
    }
}
