//! `/etc/hosts` and the DNS settings of a pod, in upstream's wording. Pure.

use crate::pod::{HostAlias, Pod};

/// The managed hosts file of a pod with its own network.
pub fn hosts(pod_ips: &[String], hostname: &str, fqdn: Option<&str>, aliases: &[HostAlias]) -> String {
    let mut out = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    for ip in pod_ips {
        match fqdn {
            Some(f) => out.push_str(&format!("{ip}\t{f}\t{hostname}\n")),
            None => out.push_str(&format!("{ip}\t{hostname}\n")),
        }
    }
    out.push_str(&alias_lines(aliases));
    out
}

/// The node's file plus aliases, for pods on the host network.
pub fn hosts_of_node(node_file: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{node_file}{}", alias_lines(aliases))
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let lines: String = aliases.iter().map(|a| format!("{}\t{}\n", a.ip, a.hostnames.join("\t"))).collect();
    format!("\n# Entries added by HostAliases.\n{lines}")
}

/// `resolv.conf` in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

pub fn parse_resolv_conf(text: &str) -> Dns {
    let mut d = Dns::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => d.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => {
                d.searches = words.map(|w| w.trim_end_matches('.').to_owned()).collect()
            }
            Some("options") => d.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    d.searches.retain(|s| !s.is_empty());
    d
}

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// What the pod's `dnsPolicy` and `dnsConfig` make of the node's settings.
pub fn dns(pod: &Pod, cluster_dns: &[String], domain: &str, node: &Dns) -> Dns {
    let mut d = match pod.spec.dns_policy() {
        "None" => Dns::default(),
        "ClusterFirst" if !pod.spec.host_network && !cluster_dns.is_empty() => {
            cluster(pod, cluster_dns, domain, node)
        }
        "ClusterFirstWithHostNet" if !cluster_dns.is_empty() => cluster(pod, cluster_dns, domain, node),
        _ => node.clone(),
    };
    let own = &pod.spec.dns_config;
    for s in &own.nameservers {
        if !d.servers.contains(s) {
            d.servers.push(s.clone());
        }
    }
    for s in &own.searches {
        if !d.searches.contains(s) {
            d.searches.push(s.clone());
        }
    }
    for o in &own.options {
        d.options.retain(|x| x.split(':').next() != Some(o.name.as_str()));
        d.options.push(match o.value.as_deref() {
            Some(v) if !v.is_empty() => format!("{}:{v}", o.name),
            _ => o.name.clone(),
        });
    }
    // More than upstream allows, and the C library reads, is left out.
    d.servers.truncate(MAX_SERVERS);
    d.searches.truncate(MAX_SEARCHES);
    d
}

fn cluster(pod: &Pod, servers: &[String], domain: &str, node: &Dns) -> Dns {
    let ns = &pod.metadata.namespace;
    let mut searches = vec![format!("{ns}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    for s in &node.searches {
        if !searches.contains(s) {
            searches.push(s.clone());
        }
    }
    Dns { servers: servers.to_vec(), searches, options: vec!["ndots:5".into()] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(v: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"namespace": "n"}, "spec": v})).expect("pod")
    }

    #[test]
    fn dns_policies() {
        let node = parse_resolv_conf("search corp.example.\nnameserver 1.1.1.1 # x\noptions rotate\n");
        let c = ["10.96.0.10".to_owned()];
        let d = dns(&pod(json!({})), &c, "cluster.local", &node);
        assert_eq!(d.servers, c);
        assert_eq!(d.searches, ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"]);
        assert_eq!(d.options, ["ndots:5"]);
        let d = dns(&pod(json!({"hostNetwork": true})), &c, "cluster.local", &node);
        assert_eq!(d, node);
        let d = dns(
            &pod(
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "options": [{"name": "ndots", "value": "2"}]}}),
            ),
            &c,
            "cluster.local",
            &node,
        );
        assert_eq!(
            d,
            Dns { servers: vec!["9.9.9.9".into()], searches: vec![], options: vec!["ndots:2".into()] }
        );
    }

    #[test]
    fn hosts_file() {
        let a = [HostAlias { ip: "1.2.3.4".into(), hostnames: vec!["a".into(), "b".into()] }];
        let h = hosts(&["10.0.0.2".into()], "web-0", Some("web-0.web.n.svc.cluster.local"), &a);
        assert!(h.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(h.ends_with(
            "10.0.0.2\tweb-0.web.n.svc.cluster.local\tweb-0\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
        ));
    }
}
