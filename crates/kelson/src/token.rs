//! `kelson token`: the tokens with which machines join a cluster, made, listed and removed through its API.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use api::bootstrap_token::{self, BootstrapToken, CLUSTER_INFO, NAMESPACE, PREFIX, PUBLIC_NAMESPACE, TYPE};
use api::resource::{CONFIG_MAPS, SECRETS};
use clap::{Args, Subcommand};
use client::{Client, DeleteOptions, ListParams, clock};
use jiff::Timestamp;
use serde_json::json;

use crate::config::Instance;
use crate::duration::duration;
use crate::kubeconfig::Kubeconfig;

/// The group whose members may ask for a node's certificates (see the default roles).
const JOINING: &str = "system:bootstrappers:kubeadm:default-node-token";
const USAGES: [&str; 2] = ["authentication", "signing"];

#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub command: TokenCommand,
    /// The data directory of the server, whose administrator this is.
    #[arg(long, global = true, value_name = "DIR", default_value = crate::config::DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// Another administrator's kubeconfig.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print the command by which a machine joins with it.
    Create {
        /// The token itself, such as abcdef.0123456789abcdef [default: a random one].
        token: Option<String>,
        /// How long it holds, such as 30m or 24h; 0: for ever.
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        ttl: String,
        /// What it is for, in words.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// What it may be used for, with commas: authentication, signing.
        #[arg(long, value_name = "USAGES", value_delimiter = ',', default_values = USAGES)]
        usages: Vec<String>,
        /// Groups of its bearer, with commas.
        #[arg(long, value_name = "GROUPS", value_delimiter = ',', default_values = [JOINING])]
        groups: Vec<String>,
    },
    /// List the tokens there are.
    List,
    /// Remove tokens; machines that have joined stay.
    Delete {
        /// Ids, or whole tokens.
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

pub fn main(args: TokenArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: TokenArgs) -> anyhow::Result<()> {
    let file = args.kubeconfig.unwrap_or_else(|| Instance::of(&args.data_dir).kubeconfig());
    let client = Client::new(Arc::new(Kubeconfig::read(&file)?.transport()?), "kelson-token");
    match args.command {
        TokenCommand::Create { token, ttl, description, usages, groups } => {
            let wanted = Wanted::new(token, &ttl, description, usages, groups, clock::now())?;
            create(&client, &wanted).await
        }
        TokenCommand::List => list(&client).await,
        TokenCommand::Delete { tokens } => delete(&client, &tokens).await,
    }
}

/// A token to be made.
struct Wanted {
    id: String,
    secret: String,
    data: BTreeMap<&'static str, String>,
}

fn random(length: usize) -> String {
    const SIGNS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // 252 is a multiple of 36: each sign is as likely.
    let mut signs = std::iter::repeat_with(uuid::Uuid::new_v4)
        .flat_map(|u| [u.as_bytes()[..6].to_vec(), u.as_bytes()[9..].to_vec()].concat())
        .filter(|b| *b < 252);
    signs.by_ref().take(length).map(|b| char::from(SIGNS[usize::from(b) % SIGNS.len()])).collect()
}

impl Wanted {
    fn new(
        token: Option<String>,
        ttl: &str,
        description: Option<String>,
        usages: Vec<String>,
        groups: Vec<String>,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let token = token.unwrap_or_else(|| format!("{}.{}", random(6), random(16)));
        let Some((id, secret)) = bootstrap_token::split(&token) else {
            bail!("{token:?} is no token: six signs, a dot, sixteen signs are needed, all of a-z and 0-9");
        };
        let mut data = BTreeMap::from([("token-id", id.to_owned()), ("token-secret", secret.to_owned())]);
        if ttl != "0" {
            let ends = now.checked_add(duration("ttl", ttl)?).context("--ttl: that is too long")?;
            data.insert("expiration", clock::rfc3339(ends));
        }
        data.extend(description.map(|d| ("description", d)));
        for usage in &usages {
            match usage.as_str() {
                "authentication" => data.insert("usage-bootstrap-authentication", "true".into()),
                "signing" => data.insert("usage-bootstrap-signing", "true".into()),
                other => bail!("--usages {other:?}: there are {}", USAGES.join(", ")),
            };
        }
        let begin = format!("{}:", bootstrap_token::GROUP);
        if let Some(g) = groups.iter().find(|g| !g.starts_with(&begin)) {
            bail!("--groups {g:?}: groups of tokens begin with {begin}");
        }
        if !groups.is_empty() {
            data.insert("auth-extra-groups", groups.join(","));
        }
        Ok(Self { id: id.to_owned(), secret: secret.to_owned(), data })
    }
}

async fn create(client: &Client, wanted: &Wanted) -> anyhow::Result<()> {
    let name = format!("{PREFIX}{}", wanted.id);
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "type": TYPE,
        "metadata": { "name": name, "namespace": NAMESPACE }, "stringData": wanted.data });
    client
        .create(&SECRETS, NAMESPACE, &secret)
        .await
        .map_err(|e| anyhow!(e))
        .with_context(|| format!("failed to create the token {}", wanted.id))?;
    let info = client.get(&CONFIG_MAPS, PUBLIC_NAMESPACE, CLUSTER_INFO).await.map_err(|e| anyhow!(e));
    let info = info.context("failed to read where machines join")?.value()?;
    let info = Kubeconfig::parse(info["data"]["kubeconfig"].as_str().unwrap_or_default())
        .context("failed to read the ConfigMap kube-public/cluster-info")?;
    let hashes: Vec<String> = pki::trust::certificates(&info.ca)?
        .iter()
        .map(|c| pki::trust::public_key_hash(c))
        .collect::<Result<_, _>>()?;
    let hashes: String = hashes.iter().map(|h| format!(" --ca-cert-hash {h}")).collect();
    println!("kelson agent --server {} --token {}.{}{hashes}", info.server, wanted.id, wanted.secret);
    Ok(())
}

async fn tokens(client: &Client) -> anyhow::Result<Vec<BootstrapToken>> {
    let params = ListParams { field_selector: format!("type={TYPE}"), ..ListParams::default() };
    let all = client.list(&SECRETS, NAMESPACE, &params).await.map_err(|e| anyhow!(e));
    let all = all.context("failed to list the tokens")?;
    Ok(all.items.iter().filter_map(|o| BootstrapToken::of(&o.value().ok()?)).collect())
}

/// One line of the list.
fn row(t: &BootstrapToken, now: Timestamp) -> [String; 6] {
    let left = match t.ends() {
        None => "<forever>".to_owned(),
        Some(at) if at <= now => "<ended>".to_owned(),
        Some(at) => {
            let minutes = clock::between(now, at).as_secs() / 60;
            if minutes < 120 { format!("{minutes}m") } else { format!("{}h", minutes / 60) }
        }
    };
    let usages: Vec<&str> =
        [(t.authenticates, USAGES[0]), (t.signs, USAGES[1])].iter().filter(|u| u.0).map(|u| u.1).collect();
    let or_none = |s: String| if s.is_empty() { "<none>".to_owned() } else { s };
    [
        format!("{}.{}", t.id, t.secret),
        left,
        or_none(t.expiration.clone()),
        or_none(usages.join(",")),
        or_none(t.description.clone()),
        or_none(t.groups.join(",")),
    ]
}

async fn list(client: &Client) -> anyhow::Result<()> {
    let now = clock::now();
    let head = ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "GROUPS"].map(str::to_owned);
    let rows: Vec<[String; 6]> =
        std::iter::once(head).chain(tokens(client).await?.iter().map(|t| row(t, now))).collect();
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for r in &rows {
        let line: String = r.iter().zip(widths).map(|(c, w)| format!("{c:w$}   ")).collect();
        println!("{}", line.trim_end());
    }
    Ok(())
}

async fn delete(client: &Client, all: &[String]) -> anyhow::Result<()> {
    for token in all {
        let id = bootstrap_token::split(token).map_or(token.as_str(), |(id, _)| id);
        let name = format!("{PREFIX}{id}");
        client
            .delete(&SECRETS, NAMESPACE, &name, &DeleteOptions::default())
            .await
            .map_err(|e| anyhow!(e))
            .with_context(|| format!("failed to delete the token {id}"))?;
        println!("deleted the token {id}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(token: Option<&str>, ttl: &str, usages: &[&str], groups: &[&str]) -> anyhow::Result<Wanted> {
        let own = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
        let now = "2026-01-01T00:00:00Z".parse().expect("time");
        Wanted::new(token.map(str::to_owned), ttl, None, own(usages), own(groups), now)
    }

    #[test]
    fn tokens_are_made_as_they_are_read() {
        let w = wanted(None, "90m", &USAGES, &[JOINING]).expect("token");
        assert_eq!(bootstrap_token::split(&format!("{}.{}", w.id, w.secret)), Some((&*w.id, &*w.secret)));
        assert_eq!(w.data["expiration"], "2026-01-01T01:30:00Z");
        assert_eq!(w.data["auth-extra-groups"], JOINING);
        let w = wanted(Some("abcdef.0123456789abcdef"), "0", &["signing"], &[]).expect("token");
        assert!(w.id == "abcdef" && !w.data.contains_key("expiration"));
        assert!(
            !w.data.contains_key("usage-bootstrap-authentication")
                && w.data.contains_key("usage-bootstrap-signing")
        );
    }

    #[test]
    fn wrong_flags_are_told_in_words() {
        let why = |r: anyhow::Result<Wanted>| format!("{:#}", r.err().expect("refused"));
        assert!(why(wanted(Some("short"), "1h", &[], &[])).contains("is no token"));
        assert!(why(wanted(None, "1d", &[], &[])).contains("--ttl"));
        assert!(why(wanted(None, "1h", &["sign"], &[])).contains("authentication, signing"));
        assert!(
            why(wanted(None, "1h", &[], &["system:masters"])).contains("begin with system:bootstrappers:")
        );
    }
}
