//! Where the store is when it is an etcd: flags, their form in the configuration file, and what the engine gets of them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use serde::Deserialize;
use store::etcd::{Options, Tls};

use crate::duration::duration;

#[derive(Debug, Clone, Default, ClapArgs, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EtcdArgs {
    /// Keep the cluster in this etcd instead of the data directory: URLs of its members, with commas.
    #[arg(long = "etcd-servers", value_name = "URLS", value_delimiter = ',')]
    pub servers: Vec<String>,
    /// Authority that etcd's certificate is checked against.
    #[arg(long = "etcd-cafile", value_name = "FILE")]
    pub cafile: Option<PathBuf>,
    /// Certificate shown to etcd.
    #[arg(long = "etcd-certfile", value_name = "FILE")]
    pub certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long = "etcd-keyfile", value_name = "FILE")]
    pub keyfile: Option<PathBuf>,
    /// What every key in etcd begins with [default: /registry].
    #[arg(long = "etcd-prefix", value_name = "PREFIX")]
    pub prefix: Option<String>,
    /// How often etcd's history is compacted; 0: never [default: 5m].
    #[arg(long = "etcd-compaction-interval", value_name = "DURATION")]
    pub compaction_interval: Option<String>,
}

impl EtcdArgs {
    /// Flags win over the file.
    pub fn over(self, file: Self) -> Self {
        Self {
            servers: if self.servers.is_empty() { file.servers } else { self.servers },
            cafile: self.cafile.or(file.cafile),
            certfile: self.certfile.or(file.certfile),
            keyfile: self.keyfile.or(file.keyfile),
            prefix: self.prefix.or(file.prefix),
            compaction_interval: self.compaction_interval.or(file.compaction_interval),
        }
    }

    /// `None`: the cluster is kept in the data directory.
    pub fn options(self) -> anyhow::Result<Option<Etcd>> {
        if self.servers.is_empty() {
            let others = [self.cafile.is_some(), self.certfile.is_some(), self.prefix.is_some()];
            if others.contains(&true) || self.keyfile.is_some() || self.compaction_interval.is_some() {
                bail!("the --etcd-… flags need --etcd-servers");
            }
            return Ok(None);
        }
        for url in &self.servers {
            if !url.starts_with("https://") && !url.starts_with("http://") {
                bail!("--etcd-servers {url:?}: a URL is needed, such as https://10.0.0.1:2379");
            }
        }
        if self.certfile.is_some() != self.keyfile.is_some() {
            bail!("--etcd-certfile and --etcd-keyfile go together");
        }
        let prefix = self.prefix.unwrap_or_else(|| "/registry".into());
        // As upstream reads it: a path, with one slash before and none behind.
        let prefix = format!("/{}", prefix.trim_matches('/'));
        if prefix == "/" {
            bail!("--etcd-prefix: a path is needed, such as /registry");
        }
        let compact_every = match self.compaction_interval.as_deref() {
            None => Some(Duration::from_secs(300)),
            Some("0" | "0s") => None,
            Some(text) => Some(duration("etcd-compaction-interval", text).context("etcd")?),
        };
        let tls = Tls { ca: self.cafile, cert: self.certfile, key: self.keyfile };
        Ok(Some(Etcd { servers: self.servers, tls, prefix, compact_every }))
    }
}

#[derive(Debug, Clone)]
pub struct Etcd {
    pub servers: Vec<String>,
    pub tls: Tls,
    pub prefix: String,
    pub compact_every: Option<Duration>,
}

impl Etcd {
    pub fn engine(&self) -> Options {
        Options {
            tls: self.tls.clone(),
            // With the slash: a neighbour's prefix may begin alike.
            prefix: format!("{}/", self.prefix),
            compact_every: self.compact_every,
            // The original may have been here before.
            decode: Some(apiserver::storage::foreign::decoder()),
            ..Options::new(self.servers.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_gets() {
        assert!(EtcdArgs::default().options().expect("none").is_none());
        let a = EtcdArgs {
            servers: vec!["https://a:2379".into()],
            prefix: Some("kelson/".into()),
            compaction_interval: Some("0".into()),
            ..EtcdArgs::default()
        };
        let file = EtcdArgs {
            servers: vec!["https://b:2379".into()],
            cafile: Some("/ca".into()),
            ..EtcdArgs::default()
        };
        let e = a.over(file).options().expect("options").expect("an etcd");
        assert_eq!((e.servers[0].as_str(), e.prefix.as_str()), ("https://a:2379", "/kelson"));
        assert_eq!((e.tls.ca, e.compact_every), (Some("/ca".into()), None));
    }

    #[test]
    fn wrong_flags_are_told_in_words() {
        let wrong = |a: EtcdArgs| format!("{:#}", a.options().expect_err("must be refused"));
        let at = |url: &str| EtcdArgs { servers: vec![url.into()], ..EtcdArgs::default() };
        assert!(wrong(at("10.0.0.1:2379")).contains("https://10.0.0.1:2379"));
        assert!(
            wrong(EtcdArgs { cafile: Some("x".into()), ..EtcdArgs::default() }).contains("--etcd-servers")
        );
        assert!(wrong(EtcdArgs { keyfile: Some("x".into()), ..at("http://a:1") }).contains("go together"));
        assert!(wrong(EtcdArgs { prefix: Some("/".into()), ..at("http://a:1") }).contains("/registry"));
        let often = EtcdArgs { compaction_interval: Some("5".into()), ..at("http://a:1") };
        assert!(wrong(often).contains("unit"));
    }
}
