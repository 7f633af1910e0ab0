//! What all nodes of a cluster have to agree on. A server knows it from its configuration and tells it in a ConfigMap; a
//! machine that joins reads it there, and keeps a copy for when the server is away. Spawns nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, bail};
use netlink::Cidr;
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// The ConfigMap, in `kube-system`.
pub const NODE_SETTINGS: &str = "kelson-nodes";
/// Says of a node elsewhere that it answers for the cluster's DNS.
pub const RUNS_DNS: &str = "kelson.dev/dns";
/// Parts of a node that a cluster may do without.
const PARTS: [&str; 3] = ["proxy", "dns", "cni"];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    #[serde(with = "text")]
    pub cluster_cidrs: Vec<Cidr>,
    #[serde(with = "text")]
    pub service_cidrs: Vec<Cidr>,
    pub domain: String,
    /// Addresses of the `kube-dns` Service; none where DNS is left out.
    pub dns: Vec<IpAddr>,
    /// Parts that no node runs.
    pub without: Vec<String>,
}

/// Lists with commas.
mod text {
    use super::Cidr;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(all: &[Cidr], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::joined(all))
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Cidr>, D::Error> {
        let text = String::deserialize(d)?;
        super::parts(&text).map(|c| c.parse().map_err(D::Error::custom)).collect()
    }
}

/// With commas between them.
pub fn joined<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|s| !s.is_empty())
}

impl Shared {
    pub fn of(config: &Config) -> Self {
        Self {
            cluster_cidrs: config.cluster_cidrs.clone(),
            service_cidrs: config.service_cidrs.clone(),
            domain: config.domain.clone(),
            dns: if config.enabled("dns") { config.dns_ips() } else { vec![] },
            without: PARTS.iter().filter(|p| !config.enabled(p)).map(|p| (*p).to_owned()).collect(),
        }
    }

    /// Whether nodes run this part of them.
    pub fn runs(&self, part: &str) -> bool {
        !self.without.iter().any(|p| p == part)
    }

    pub fn data(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("clusterCIDRs", joined(&self.cluster_cidrs)),
            ("serviceCIDRs", joined(&self.service_cidrs)),
            ("clusterDomain", self.domain.clone()),
            ("clusterDNS", joined(&self.dns)),
            ("without", self.without.join(",")),
        ])
    }

    /// From the data of the ConfigMap.
    pub fn read(data: &serde_json::Value) -> anyhow::Result<Self> {
        let text = |key: &str| data[key].as_str().unwrap_or_default();
        let cidrs = |key: &str| -> anyhow::Result<Vec<Cidr>> {
            let all: Vec<Cidr> =
                parts(text(key)).map(str::parse).collect::<Result<_, _>>().with_context(|| key.to_owned())?;
            if all.is_empty() {
                bail!("{key} is missing");
            }
            Ok(all)
        };
        Ok(Self {
            cluster_cidrs: cidrs("clusterCIDRs")?,
            service_cidrs: cidrs("serviceCIDRs")?,
            domain: match text("clusterDomain") {
                "" => bail!("clusterDomain is missing"),
                d => d.to_owned(),
            },
            dns: parts(text("clusterDNS")).map(str::parse).collect::<Result<_, _>>().context("clusterDNS")?,
            without: parts(text("without")).map(str::to_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ServerArgs;

    #[test]
    fn what_is_told_is_read() {
        let args = ServerArgs {
            service_cidr: Some("10.96.0.0/16,fd00:96::/108".into()),
            cluster_cidr: Some("10.244.0.0/16,fd00:244::/56".into()),
            disable: vec!["dns".into(), "scheduler".into()],
            ..ServerArgs::default()
        };
        let mine = Shared::of(&Config::new(args).expect("config"));
        assert_eq!((mine.without.join(" ").as_str(), mine.dns.len()), ("dns", 0));
        let data = serde_json::to_value(mine.data()).expect("data");
        assert_eq!(Shared::read(&data).expect("settings"), mine);
        let kept = serde_json::to_string(&mine).expect("text");
        assert_eq!(serde_json::from_str::<Shared>(&kept).expect("settings"), mine);
        for (key, value) in
            [("clusterCIDRs", ""), ("serviceCIDRs", "x"), ("clusterDomain", ""), ("clusterDNS", "y")]
        {
            let mut broken = data.clone();
            broken[key] = value.into();
            assert!(Shared::read(&broken).is_err(), "{key}");
        }
    }
}
