//! Several servers on one etcd: one runs the loops and another takes over, however the first one ends; the `kubernetes`
//! Service leads to all that live; races between servers have one winner.

use serde_json::{Value, json};
use testkit::etcd::{Etcd, free_port};
use testkit::http::Http;
use testkit::{Cluster, kelson, wait_for};

const NETWORKS: [&str; 2] = ["--service-cidr=10.96.0.0/16", "--cluster-cidr=10.244.0.0/16"];
const OFFICES: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// Flags of a server whom others know by this address.
fn flags(etcd: &Etcd, address: &str, more: &[&str]) -> Vec<String> {
    let own = [format!("--etcd-servers={}", etcd.url()), format!("--advertise-address={address}")];
    own.into_iter().chain(NETWORKS.iter().chain(more).map(|f| (*f).to_owned())).collect()
}

fn refs(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

fn lease(c: &Cluster, name: &str) -> Value {
    let out = c.try_kubectl(&["get", "lease", "-n", "kube-system", name, "-o", "json"], None);
    serde_json::from_str(&out.stdout).unwrap_or_default()
}

fn holder(c: &Cluster, name: &str) -> String {
    lease(c, name)["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

fn seconds(v: &Value) -> f64 {
    let out = testkit::run(
        std::process::Command::new("date").args(["-u", "+%s.%N", "-d", v.as_str().expect("a time")]),
        None,
    );
    out.stdout.trim().parse().expect("seconds")
}

/// Whether this process leads both, by its own log.
fn leads(c: &Cluster) -> bool {
    OFFICES.iter().all(|o| {
        let holder = holder(c, o);
        !holder.is_empty() && c.log().contains(&holder)
    })
}

fn replicas(c: &Cluster, name: &str) -> Vec<String> {
    let uids =
        c.kubectl(&["get", "pods", "-l", &format!("a={name}"), "-o", "jsonpath={.items[*].metadata.uid}"]);
    uids.split_whitespace().map(str::to_owned).collect()
}

fn deployment(name: &str, replicas: usize) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{a: {name}}}}}\n  template:\n    metadata: {{labels: {{a: {name}}}}}\n    spec: {{containers: [{{name: c, image: none}}]}}\n"
    )
}

/// Waits until the deployment's status tells of so many; answers its pods, of which there are as many.
fn settled(c: &Cluster, name: &str, n: usize) -> Vec<String> {
    wait_for(&format!("{n} replicas of {name}"), || {
        let seen = c.kubectl(&["get", "deployment", name, "-o", "jsonpath={.status.replicas}"]);
        seen == n.to_string() && replicas(c, name).len() == n
    });
    replicas(c, name)
}

/// Where the `kubernetes` Service leads: by its slices, and by its Endpoints.
fn endpoints(c: &Cluster) -> [Vec<String>; 2] {
    let list = |args: &[&str]| {
        let text = c.kubectl(args);
        let mut all: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        all.sort_unstable();
        all
    };
    let slices = "jsonpath={.items[*].endpoints[*].addresses[*]}";
    [
        list(&["get", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes", "-o", slices]),
        list(&["get", "endpoints", "kubernetes", "-o", "jsonpath={.subsets[*].addresses[*].ip}"]),
    ]
}

const ONE: &str = "192.0.2.1";
const TWO: &str = "192.0.2.2";

#[test]
fn one_leads_and_another_takes_over() {
    let Some(etcd) = Etcd::start() else { return };
    let mut a = Cluster::with_flags(false, &refs(&flags(&etcd, ONE, &[])));
    wait_for("the first server to lead", || leads(&a));
    let mut b = Cluster::beside(&a, &refs(&flags(&etcd, TWO, &[])));
    for c in [&a, &b] {
        assert_eq!(endpoints(c), [[ONE, TWO], [ONE, TWO]], "written before a server says that it is ready");
    }
    let spec = lease(&b, OFFICES[0])["spec"].clone();
    assert_eq!((&spec["leaseDurationSeconds"], &spec["leaseTransitions"]), (&json!(15), &json!(0)));
    wait_for("the lease to be renewed", || lease(&b, OFFICES[0])["spec"]["renewTime"] != spec["renewTime"]);

    b.apply(&deployment("d", 3));
    let first = settled(&a, "d", 3);
    assert!(!b.log().contains("became leader"), "{}", b.log());

    // Without a goodbye: the lease and the place among the endpoints run out.
    a.crash();
    b.kubectl(&["scale", "deployment", "d", "--replicas=5"]);
    let second = settled(&b, "d", 5);
    assert!(first.iter().all(|uid| second.contains(uid)), "no pod was made anew");
    wait_for("the second server to lead", || leads(&b));
    assert_eq!(lease(&b, OFFICES[0])["spec"]["leaseTransitions"], 1);
    wait_for("the endpoints without the dead server", || endpoints(&b) == [[TWO], [TWO]]);

    // It comes back, and does not take over.
    a.run();
    assert_eq!(endpoints(&b), [[ONE, TWO], [ONE, TWO]]);
    assert!(leads(&b));
    let before = lease(&a, OFFICES[0])["spec"]["renewTime"].clone();
    let ended = b.stop();
    assert!(ended.is_some_and(|s| s.success()), "{ended:?}\n{}", b.log());
    assert_eq!(endpoints(&a), [[ONE], [ONE]], "out before the end");
    wait_for("the first server to lead again", || leads(&a));
    let after = lease(&a, OFFICES[0])["spec"].clone();
    assert_eq!(after["leaseTransitions"], 2);
    // Sooner than the lease could have run out: it was given back.
    assert!(seconds(&after["acquireTime"]) - seconds(&before) < 15.0, "{before} {after}");
    a.kubectl(&["scale", "deployment", "d", "--replicas=2"]);
    let third = settled(&a, "d", 2);
    assert!(third.iter().all(|uid| second.contains(uid)));

    // The last one is out as well.
    a.stop();
    let c = Cluster::beside(&a, &refs(&flags(&etcd, "192.0.2.3", &[])));
    assert_eq!(endpoints(&c), [["192.0.2.3"], ["192.0.2.3"]]);
}

/// How often the log says something.
fn said(c: &Cluster, what: &str) -> usize {
    c.log().matches(what).count()
}

#[test]
fn a_lost_lease_stops_the_loops_until_it_is_won_again() {
    let Some(mut etcd) = Etcd::start() else { return };
    let quick = ["--leader-elect-renew-deadline=3s", "--leader-elect-retry-period=500ms"];
    let c = Cluster::with_flags(false, &refs(&flags(&etcd, ONE, &quick)));
    wait_for("the server to lead", || leads(&c));
    c.apply(&deployment("d", 1));
    settled(&c, "d", 1);

    // Somebody else takes both offices, for as long as nobody looks.
    let thief = r#"{"spec":{"holderIdentity":"thief","leaseDurationSeconds":3600}}"#;
    for o in OFFICES {
        c.kubectl(&["patch", "lease", "-n", "kube-system", o, "--type=merge", "-p", thief]);
    }
    wait_for("the loops to stop", || said(&c, "lost the lease") == 2);
    c.kubectl(&["scale", "deployment", "d", "--replicas=2"]);
    for o in OFFICES {
        c.kubectl(&["delete", "lease", "-n", "kube-system", o]);
    }
    settled(&c, "d", 2);
    wait_for("the server to lead again", || leads(&c));

    // etcd is away for longer than the deadline.
    let before = said(&c, "became leader");
    etcd.crash();
    wait_for("the loops to stop again", || said(&c, "lost the lease") == 4);
    assert_eq!(c.kubectl(&["get", "--raw", "/livez/ping"]).trim(), "ok", "the API server goes on");
    etcd.run();
    wait_for("the loops to start again", || said(&c, "became leader") == before + 2);
    c.kubectl(&["scale", "deployment", "d", "--replicas=3"]);
    settled(&c, "d", 3);
    assert_eq!(holder(&c, OFFICES[0]).split('_').next(), Some("node-1"));
}

#[test]
fn a_server_alone_does_not_elect() {
    let c = Cluster::with_flags(false, &[]);
    c.apply(&deployment("d", 1));
    settled(&c, "d", 1);
    assert_eq!(c.kubectl(&["get", "leases", "-n", "kube-system", "-o", "name"]).trim(), "");
    // Unless it is told to.
    let c = Cluster::with_flags(false, &["--leader-elect"]);
    wait_for("the server to lead", || leads(&c));
    c.apply(&deployment("d", 1));
    settled(&c, "d", 1);
}

#[test]
fn servers_may_start_at_the_same_time() {
    let Some(etcd) = Etcd::start() else { return };
    let mut first = Cluster::with_flags(false, &refs(&flags(&etcd, ONE, &["--etcd-prefix=/other"])));
    first.stop();
    let mut all = [ONE, TWO, "192.0.2.3"]
        .map(|ip| Cluster::with_keys_of(&first, &refs(&flags(&etcd, ip, &["--etcd-prefix=/fresh"]))));
    all.iter_mut().for_each(Cluster::spawn);
    all.iter_mut().for_each(Cluster::wait_ready);
    wait_for("all among the endpoints", || endpoints(&all[0]).iter().all(|e| e.len() == 3));
    wait_for("one to lead", || !holder(&all[1], OFFICES[0]).is_empty());
    let ip = all[1].kubectl(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"]);
    assert_eq!(
        all[2].kubectl(&["get", "ipaddresses", "-o", "name"]).trim(),
        format!("ipaddress.networking.k8s.io/{ip}")
    );

    // Of two that want the same at the same time one gets it.
    let ways: Vec<Http> = all.iter().map(Http::admin).collect();
    for round in 0..5 {
        let codes: Vec<u16> = std::thread::scope(|s| {
            let asking: Vec<_> = ways
                .iter()
                .enumerate()
                .map(|(i, http)| {
                    let port = json!({"port": 80, "nodePort": 30100 + round});
                    let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{round}-{i}")},
                        "spec": {"type": "NodePort", "clusterIP": format!("10.96.0.{}", 100 + round), "ports": [port]}});
                    s.spawn(move || http.json("POST", "/api/v1/namespaces/default/services", &body).code)
                })
                .collect();
            asking.into_iter().map(|t| t.join().expect("an answer")).collect()
        });
        assert_eq!(codes.iter().filter(|c| **c == 201).count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|c| **c == 422).count(), 2, "{codes:?}");
    }
}

#[test]
fn a_server_with_other_keys_is_refused() {
    let Some(etcd) = Etcd::start() else { return };
    let a = Cluster::with_flags(false, &refs(&flags(&etcd, ONE, &[])));
    let data = a.dir().join("other");
    let port = format!("127.0.0.1:{}", free_port());
    let mut args = vec!["server", "--no-node", "--data-dir", data.to_str().expect("path"), "--listen", &port];
    let more = flags(&etcd, TWO, &[]);
    args.extend(refs(&more));
    let out = kelson(&args);
    assert!(!out.ok && out.stderr.contains("hold other keys"), "{out:?}");
    assert!(out.stderr.contains("other/pki") && out.stderr.contains("sa.key"), "{out:?}");
    kelson(&["clean", "--data-dir", data.to_str().expect("path")]);
}
