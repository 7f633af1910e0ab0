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
        if !node_possible() {
            skip("running containers needs root");
            return None;
        }
        let hosts = Hosts::new(2, 1);
        let cluster = Cluster::on_host(hosts.host(0), flags);
        let token = cluster.kelson(&["token", "create", "--data-dir", &cluster.data()]);
        assert!(token.ok, "{token:?}");
        let join = |n: usize| Agent::join(hosts.host(n), NODES[n], &token.stdout);
        let agents = vec![join(1), join(2)];
        Some(Self { agents, cluster, hosts })
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
