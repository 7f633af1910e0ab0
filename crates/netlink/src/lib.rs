//! Links, addresses, routes and nftables: the one place that changes the kernel's network. No Kubernetes policy. Owns
//! one netlink socket with its driving task per `Netlink`, and short-lived threads that enter a pod's namespace.
#![forbid(unsafe_code)]

pub mod conntrack;
mod link;
pub mod loopback;
mod netns;
pub mod nft;
mod overlay;
pub mod sysctl;

pub use link::{Cidr, CidrError, Netlink, PodLink, pod_mac};
pub use netns::inside;
pub use overlay::{Tunnel, Via};

/// What failed, on which link or table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to {what}: {source}")]
    Netlink { what: String, source: rtnetlink::Error },
    #[error("failed to {what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("nft refused the change: {0}")]
    Nft(String),
    #[error("{0}")]
    Other(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}
