//! A Service under load from outside while one of three nodes is drained, its agent killed, its network cut: which requests are
//! lost, and that none is but those that were on their way to what is gone. And a volume that follows its pod.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use e2e::load::Load;
use e2e::machines::{Machines, NODES};
use testkit::{Cut, wait_for};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 3
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {matchLabels: {app: web}}
      containers:
      - name: c
        image: busybox:1.36
        command: [sh, -c, "mkdir -p /w && echo it >/w/index.html && exec httpd -f -p 8080 -h /w"]
        ports: [{containerPort: 8080, name: http}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"#;

struct World(Machines);

impl World {
    fn new() -> Option<Self> {
        // Signs of life come every ten seconds.
        let machines = Machines::start(&["--node-monitor-grace-period", "15s"])?;
        machines.wait_ready();
        Some(Self(machines))
    }

    fn kubectl(&self, args: &[&str]) -> String {
        self.0.cluster.kubectl(args)
    }

    fn get(&self, what: &[&str], path: &str) -> String {
        self.kubectl(&[&["get"], what, &["-o", &format!("jsonpath={{{path}}}")]].concat())
    }

    /// Where endpoints of the Service that are ready are.
    fn places(&self) -> Vec<String> {
        let slices = ["endpointslices", "-l", "kubernetes.io/service-name=web"];
        let path = ".items[*].endpoints[?(@.conditions.ready==true)].nodeName";
        self.get(&slices, path).split_whitespace().map(str::to_owned).collect()
    }

    fn drain(&self, node: &str) {
        let flags = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s"];
        self.kubectl(&[&["drain", node], &flags[..]].concat());
    }
}

#[test]
fn requests_while_a_node_leaves() {
    let Some(mut w) = World::new() else { return };
    w.0.cluster.apply(WEB);
    w.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    wait_for("endpoints on each node", || NODES.iter().all(|n| w.places().iter().any(|p| p == n)));
    let port: u16 = w.get(&["service", "web"], ".spec.ports[0].nodePort").parse().expect("a port");
    // Through the two nodes that stay: their proxies lead to all three.
    let to = |n: usize| SocketAddr::new(IpAddr::V4(w.0.hosts.host(n).address), port);
    let start = || {
        [("fresh connections, first node", to(0), false), ("fresh connections, third node", to(2), false)]
            .map(|(name, to, keep)| Load::start(name, to, keep))
    };

    // Drained: its pods go one by one, each when nobody is led to it any more.
    let loads = start();
    wait_for("requests before", || loads.iter().all(|l| l.answered() > 50));
    w.drain(NODES[1]);
    wait_for("no endpoint on the drained node", || !w.places().iter().any(|p| p == NODES[1]));
    let so_far: Vec<u64> = loads.iter().map(Load::answered).collect();
    wait_for("requests after", || loads.iter().zip(&so_far).all(|(l, n)| l.answered() > n + 50));
    for load in loads {
        load.finish();
    }
    w.kubectl(&["uncordon", NODES[1]]);
    w.kubectl(&["rollout", "restart", "deployment/web"]);
    w.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    wait_for("endpoints on each node again", || NODES.iter().all(|n| w.places().iter().any(|p| p == n)));

    // Its agent is killed: what runs there goes on, and is led to until the silence is noticed.
    let loads = start();
    wait_for("requests before", || loads.iter().all(|l| l.answered() > 50));
    w.0.agents[0].crash();
    wait_for("the silence to be noticed", || !w.0.ready(NODES[1]));
    wait_for("no endpoint on the silent node", || !w.places().iter().any(|p| p == NODES[1]));
    w.0.agents[0].run();
    wait_for("the node to be back", || w.0.ready(NODES[1]));
    for load in loads {
        load.finish();
    }
    w.kubectl(&["rollout", "restart", "deployment/web"]);
    w.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    wait_for("endpoints on each node once more", || NODES.iter().all(|n| w.places().iter().any(|p| p == n)));

    // Its network is cut: who is led there waits in vain, until the silence is noticed; nobody else does.
    let to = |n: usize| SocketAddr::new(IpAddr::V4(w.0.hosts.host(n).address), port);
    let loads = [("first node", 0), ("third node", 2)].map(|(name, n)| Load::start(name, to(n), false));
    wait_for("requests before", || loads.iter().all(|l| l.answered() > 50));
    let cut = Instant::now();
    w.0.hosts.host(1).cut(Cut::Both);
    wait_for("the silence to be noticed", || !w.0.ready(NODES[1]));
    wait_for("no endpoint on the lost node", || !w.places().iter().any(|p| p == NODES[1]));
    let so_far: Vec<u64> = loads.iter().map(Load::answered).collect();
    wait_for("requests after", || loads.iter().zip(&so_far).all(|(l, n)| l.answered() > n + 200));
    let noticed = Instant::now();
    for load in &loads {
        for (asked, how) in load.failed() {
            assert!(asked >= cut, "a request of before the cut was lost: {how}");
        }
    }
    // One at a time that waits for half a minute: few are lost, and none that began once the node was out.
    let so_far: Vec<u64> = loads.iter().map(Load::answered).collect();
    wait_for("more requests after", || loads.iter().zip(&so_far).all(|(l, n)| l.answered() > n + 200));
    for load in &loads {
        let failed = load.failed();
        eprintln!("lost while the network was cut: {} of {}", failed.len(), load.answered());
        assert!(failed.iter().all(|(asked, _)| *asked < noticed), "{failed:?}");
    }
    w.0.hosts.host(1).mend();
    wait_for("the node to be back", || w.0.ready(NODES[1]));
}

const VOLUME: &str = r#"
apiVersion: v1
kind: PersistentVolume
metadata: {name: NAME}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: by-hand
  persistentVolumeReclaimPolicy: Delete
  hostPath: {path: "PATH", type: DirectoryOrCreate}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: keeper}
spec:
  serviceName: keeper
  replicas: 1
  selector: {matchLabels: {app: keeper}}
  template:
    metadata: {labels: {app: keeper}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: busybox:1.36
        command: [sh, -c, "date +%s.%N >>/data/starts; exec sleep 3600"]
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], storageClassName: by-hand, resources: {requests: {storage: 1Gi}}}
"#;

#[test]
fn a_volume_follows_its_pod() {
    let Some(w) = World::new() else { return };
    let path = w.0.cluster.dir().join("volume");
    let name = format!("volume-{}", std::process::id());
    w.0.cluster.apply(&VOLUME.replace("PATH", &path.to_string_lossy()).replace("NAME", &name));
    let runs =
        || w.get(&["pods", "-l", "app=keeper"], ".items[*].status.containerStatuses[0].ready") == "true";
    wait_for("the pod to run", runs);
    let place = || w.get(&["pod", "keeper-0"], ".spec.nodeName");
    let first = place();
    w.drain(&first);
    wait_for("the pod to run elsewhere", || runs() && place() != first);
    let starts = w.kubectl(&["exec", "keeper-0", "--", "cat", "/data/starts"]);
    assert_eq!(starts.lines().count(), 2, "what the first one wrote is there: {starts}");
    assert_eq!(w.get(&["pvc", "data-keeper-0"], ".spec.volumeName"), name);
}
