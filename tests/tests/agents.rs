//! Three machines that are one cluster: a server and two agents, one of them on another subnet. Pods reach each other and
//! Services from everywhere, whoever is killed meanwhile.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use e2e::machines::{Machines, NODES};
use testkit::{Background, Output, run, skip, wait_for};

/// Asks by name, again and again, on the second node.
const PROBE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  nodeName: node-2
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1.36
    command: [sh, -c, "while true; do timeout 5 wget -qO- http://each >/dev/null && echo asked || echo missed; sleep 0.1; done"]
"#;

struct World(Machines);

impl std::ops::Deref for World {
    type Target = Machines;
    fn deref(&self) -> &Machines {
        &self.0
    }
}

impl std::ops::DerefMut for World {
    fn deref_mut(&mut self) -> &mut Machines {
        &mut self.0
    }
}

impl World {
    fn new(flags: &[&str]) -> Option<Self> {
        // Signs of life come every ten seconds.
        Machines::start(&[&["--node-monitor-grace-period", "15s"], flags].concat()).map(Self)
    }

    fn kubectl(&self, args: &[&str]) -> String {
        self.cluster.kubectl(args)
    }

    fn get(&self, what: &[&str], path: &str) -> String {
        self.kubectl(&[&["get"], what, &["-o", &format!("jsonpath={{{path}}}")]].concat())
    }

    /// The pod of the daemon set on a node.
    fn pod(&self, node: &str) -> String {
        let field = format!("spec.nodeName={node}");
        self.get(&["pods", "-l", "app=each", "--field-selector", &field], ".items[0].metadata.name")
    }

    fn address(&self, pod: &str) -> String {
        self.get(&["pod", pod], ".status.podIP")
    }

    fn exec(&self, pod: &str, command: &[&str]) -> Output {
        self.cluster.try_kubectl(&[&["exec", pod, "--"], command].concat(), None)
    }

    fn fetch(&self, pod: &str, from: &str) -> Output {
        self.exec(pod, &["timeout", "10", "wget", "-qO-", &format!("http://{from}")])
    }
}

/// From a machine, not from a pod.
fn ask(mut curl: Command, from: &str) -> String {
    let out = run(curl.args(["-sS", "--max-time", "10", &format!("http://{from}")]), None);
    assert!(out.ok, "{from}: {out:?}");
    out.stdout.trim().to_owned()
}

fn manifest() -> String {
    let pods = |kind: &str, name: &str, more: &str| {
        format!(
            r#"---
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
{more}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: DoNotSchedule
        labelSelector: {{matchLabels: {{app: {name}}}}}
      containers:
      - name: c
        image: busybox:1.36
        command: [sh, -c, "mkdir -p /w && echo {name} >/w/index.html && dd if=/dev/zero of=/w/big bs=1k count=300 2>/dev/null && echo serving && exec httpd -f -p 8080 -h /w"]
        ports: [{{containerPort: 8080, name: http}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
"#
        )
    };
    let service = |name: &str, kind: &str| {
        format!(
            r#"---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: {kind}, selector: {{app: {name}}}, ports: [{{port: 80, targetPort: http}}]}}
"#
        )
    };
    [
        pods("DaemonSet", "each", ""),
        pods("Deployment", "web", "  replicas: 3"),
        service("web", "NodePort"),
        service("each", "ClusterIP"),
    ]
    .concat()
}

/// IPv6 beside IPv4: routes on one subnet, and through the same tunnel to the other.
#[test]
fn nodes_reach_each_other_by_both_families() {
    if TcpListener::bind("[::1]:0").is_err() || !Path::new("/proc/sys/net/ipv6/conf/all/forwarding").exists()
    {
        skip("the machine has no IPv6");
        return;
    }
    let n = std::process::id() % 200;
    let pods = format!("10.{}.0.0/16,fd00:{n:x}:3::/56", 20 + n % 40);
    let services = format!("10.{}.0.0/16,fd00:{n:x}:4::/112", 60 + n % 40);
    let Some(w) = World::new(&["--cluster-cidr", &pods, "--service-cidr", &services]) else { return };
    for node in NODES {
        wait_for("each node to be ready", || w.ready(node));
        let addresses = w.get(&["node", node], ".status.addresses[?(@.type=='InternalIP')].address");
        assert!(addresses.split(' ').count() == 2 && addresses.contains("fd98:"), "{addresses}");
    }
    let both = "spec: {ipFamilyPolicy: RequireDualStack, type";
    w.cluster.apply(&manifest().replace("spec: {type", both));
    w.kubectl(&["rollout", "status", "daemonset/each", "--timeout=120s"]);
    let pods = NODES.map(|n| w.pod(n));
    for pod in &pods {
        for to in &pods {
            let addresses = w.get(&["pod", to], ".status.podIPs[*].ip");
            let (four, six) = addresses.split_once(' ').expect("two addresses");
            for a in [format!("{four}:8080"), format!("[{six}]:8080")] {
                let out = w.fetch(pod, &a);
                assert!(out.ok && out.stdout.trim() == "each", "from {pod} to {a}: {out:?}");
            }
        }
        let services = w.get(&["service", "each"], ".spec.clusterIPs[*]");
        for ip in services.split(' ') {
            let to = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
            for _ in 0..6 {
                let out = w.fetch(pod, &to);
                assert!(out.ok, "from {pod} to {to}: {out:?}");
            }
        }
    }
}

/// A node behind a wall that lets nothing in: the way back is the connection that the agent made.
#[test]
fn a_node_that_the_server_cant_reach_has_logs_and_exec() {
    let Some(w) = World::new(&[]) else { return };
    let (node, agent) = ("node-2", &w.agents[0]);
    wait_for("the node to be ready", || w.ready(node));
    wait_for("the tunnel", || agent.log().contains("has a tunnel to this node"));
    let wall = "table inet wall { chain input {\ntype filter hook input priority 0\n\
        ct state established,related accept\niifname \"eth0\" tcp dport 10250 drop\n}\n}";
    let out = run(agent.host().command("nft").args(["-f", "-"]), Some(wall));
    assert!(out.ok, "{out:?}");
    w.cluster.apply(PROBE);
    w.kubectl(&["wait", "--for=condition=Ready", "pod/probe", "--timeout=60s"]);
    wait_for("its log", || !w.kubectl(&["logs", "probe"]).is_empty());
    let out = w.exec("probe", &["sh", "-c", "echo told; exit 3"]);
    assert_eq!((out.stdout.trim(), out.code), ("told", Some(3)), "{out:?}");
    // More than a window of bytes, both ways.
    let long = "x".repeat(1 << 20);
    let out = w.cluster.try_kubectl(&["exec", "-i", "probe", "--", "cat"], Some(&long));
    assert!(out.ok && out.stdout == long, "{} bytes of {} came back", out.stdout.len(), long.len());
    let raw = w.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/healthz")]);
    assert_eq!(raw, "ok");
}

#[test]
fn three_machines_are_one_cluster() {
    let labels = ["--node-labels", "topology.kubernetes.io/zone=zone-1"];
    let Some(mut w) = World::new(&labels) else { return };
    let logs = format!("{}/logs", w.agents[0].data());
    w.wait_ready();
    let blocks = NODES.map(|n| w.get(&["node", n], ".spec.podCIDRs[0]"));
    let zones = NODES.map(|n| w.get(&["node", n], r".metadata.labels.topology\.kubernetes\.io/zone"));
    assert_eq!(zones, ["zone-1", "", ""]);
    assert!(blocks[0] != blocks[1] && blocks[1] != blocks[2] && blocks[0] != blocks[2], "{blocks:?}");

    w.cluster.apply(&manifest());
    w.kubectl(&["rollout", "status", "daemonset/each", "--timeout=120s"]);
    w.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    let mut places = w.get(&["pods", "-l", "app=web"], ".items[*].spec.nodeName");
    let mut spread: Vec<&str> = places.split_whitespace().collect();
    spread.sort_unstable();
    assert_eq!(spread, NODES, "a deployment is spread over the nodes");

    // By address, by name and by the node's port, from each to each; by exec, which goes to each node.
    let pods = NODES.map(|n| w.pod(n));
    let addresses = pods.clone().map(|p| w.address(&p));
    let port = w.get(&["service", "web"], ".spec.ports[0].nodePort");
    for (node, pod) in NODES.iter().zip(&pods) {
        for a in &addresses {
            let out = w.fetch(pod, &format!("{a}:8080"));
            assert!(out.ok && out.stdout.trim() == "each", "from {node} to {a}: {out:?}");
            // More than fits a packet, which is smaller through the tunnel.
            let big = format!("timeout 10 wget -qO- http://{a}:8080/big | wc -c");
            let out = w.exec(pod, &["sh", "-c", &big]);
            assert_eq!(out.stdout.trim(), "307200", "from {node} to {a}: {out:?}");
        }
        for name in ["web", "each.default.svc.cluster.local"] {
            for _ in 0..6 {
                let out = w.fetch(pod, name);
                assert!(out.ok, "from {node} to {name}: {out:?}");
            }
        }
        let host = w.get(&["node", node], ".status.addresses[?(@.type=='InternalIP')].address");
        assert_eq!(ask(Command::new("curl"), &format!("{host}:{port}")), "web", "{node}");
        assert_eq!(w.kubectl(&["logs", pod]), "serving\n");
        let mut forward = Background::start(w.cluster.command(&["port-forward", pod, ":8080"]));
        forward.wait_text("-> 8080");
        let text = forward.text();
        let local = text.trim_start_matches("Forwarding from ").split(' ').next().expect("an address");
        assert_eq!(ask(Command::new("curl"), local), "each", "{node}");
    }
    // And what each of them uses is asked of its own kubelet.
    wait_for("the use of every node", || {
        let top = w.cluster.try_kubectl(&["top", "nodes", "--no-headers"], None).stdout;
        NODES.iter().all(|n| top.lines().any(|l| l.starts_with(n) && l.contains("m ")))
    });

    // One node's certificate opens nothing on another; the administrator's does.
    let pods_of = |cert: &str| {
        let url = format!("https://{}:10250/pods", w.agents[1].host().address);
        run(Command::new("curl").args(["-sS", "-k", "--max-time", "10", "--cert", cert, &url]), None).stdout
    };
    let refused = pods_of(&format!("{}/agent/client.pem", w.agents[0].data()));
    assert!(refused.contains("Forbidden (user=system:node:node-2, verb=get, resource=nodes"), "{refused}");
    let admin = format!("{}/both.pem", w.cluster.dir().display());
    let both = ["crt", "key"].map(|e| std::fs::read_to_string(format!("{}/pki/admin.{e}", w.cluster.data())));
    std::fs::write(&admin, both.map(|r| r.expect("the administrator's certificate")).concat()).expect("file");
    let shown = pods_of(&admin);
    assert!(shown.contains(&pods[2]) && !shown.contains(&pods[1]), "{shown}");

    // The server dies: what runs on the agents goes on and answers, by name as well.
    w.cluster.apply(PROBE);
    // Beside the agent: there will be no API to ask.
    let probe = || {
        let all = std::fs::read_dir(format!("{logs}/containers")).into_iter().flatten().flatten();
        let own = all.map(|e| e.path()).find(|p| p.to_string_lossy().contains("/probe_default_c-"));
        own.and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default()
    };
    let lines = |of: &str| probe().lines().filter(|l| l.ends_with(of)).count();
    wait_for("the probe to have asked", || lines("asked") > 5);
    let missed = lines("missed");
    w.cluster.crash();
    let asked = lines("asked");
    wait_for("the probe to have asked without a server", || lines("asked") > asked + 20);
    assert_eq!(lines("missed"), missed, "requests by name fail while the server is away");
    let agent = w.agents[0].host().clone();
    assert_eq!(ask(agent.command("curl"), &format!("{}:8080", addresses[2])), "each");
    w.cluster.run();
    w.wait_ready();
    let out = w.fetch(&pods[1], "web");
    assert!(out.ok, "{out:?}");
    for p in &pods {
        assert_eq!(w.get(&["pod", p], ".status.containerStatuses[0].restartCount"), "0", "{p}");
    }

    // An agent dies, and comes back: its pods have gone on.
    w.agents[1].crash();
    wait_for("the silence to be noticed", || !w.ready(NODES[2]));
    let out = w.fetch(&pods[0], &format!("{}:8080", addresses[2]));
    assert!(out.ok && out.stdout.trim() == "each", "{out:?}");
    w.agents[1].run();
    wait_for("the agent to be back", || w.ready(NODES[2]));
    wait_for("exec to its node", || w.exec(&pods[2], &["true"]).ok);
    assert_eq!(w.get(&["pod", &pods[2]], ".status.containerStatuses[0].restartCount"), "0");

    // A node that is gone for good: nothing leads to it any more.
    w.agents[1].stop();
    w.kubectl(&["delete", "node", NODES[2]]);
    let routes = || run(w.agents[0].host().command("ip").args(["route"]), None).stdout;
    wait_for("its route to go", || !routes().contains(&blocks[2]));
    assert!(routes().contains(&blocks[0]));
    places = w.get(&["endpointslices", "-n", "kube-system"], ".items[*].endpoints[*].nodeName");
    wait_for("its DNS to go", || {
        places = w.get(&["endpointslices", "-n", "kube-system"], ".items[*].endpoints[*].nodeName");
        !places.contains(NODES[2])
    });
}
