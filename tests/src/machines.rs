//! Three machines in network namespaces that are one cluster: a server with a node, and two agents, one of them on another
//! subnet. What is made goes with the value.

use testkit::{Agent, Cluster, Hosts, node_possible, skip, wait_for};

/// The server's node, and the agents'.
pub const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// In the order in which they have to go: a node's host after the node.
pub struct Machines {
    pub agents: Vec<Agent>,
    pub cluster: Cluster,
    pub hosts: Hosts,
}

impl Machines {
    /// `None`, said on standard error, where nodes can't run.
    pub fn start(flags: &[&str]) -> Option<Self> {
        Some(Self::on(Self::hosts()?, flags, &[]))
    }

    /// What they run on, for somebody who prepares something there.
    pub fn hosts() -> Option<Hosts> {
        if !node_possible() {
            skip("running containers needs root");
            return None;
        }
        Some(Hosts::new(2, 1))
    }

    /// On these, with variables in the server's environment.
    pub fn on(hosts: Hosts, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let cluster = Cluster::on_host_with(hosts.host(0), flags, variables);
        let token = cluster.kelson(&["token", "create", "--data-dir", &cluster.data()]);
        assert!(token.ok, "{token:?}");
        let join = |n: usize| Agent::join(hosts.host(n), NODES[n], &token.stdout);
        let agents = vec![join(1), join(2)];
        Self { agents, cluster, hosts }
    }

    pub fn ready(&self, node: &str) -> bool {
        let path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        self.cluster.kubectl(&["get", "node", node, "-o", path]) == "True"
    }

    pub fn wait_ready(&self) {
        for node in NODES {
            wait_for("each node to be ready", || self.ready(node));
        }
    }
}
