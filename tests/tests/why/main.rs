//! `kelson why` on a cluster in which everything is broken in a way of its own: the first cause that it names has to be the
//! right one.

mod setups;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::Value;
use testkit::http::Http;
use testkit::{Cluster, Output, busybox_archive, kelson, wait_for};

/// Of thirty, so many have to be right.
const RIGHT_OF_30: usize = 27;

/// A registry that has nothing: `public/…` is not there, `private/…` asks for a password.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut request = String::new();
    while let Some(line) = lines.next().transpose()?.filter(|l| !l.is_empty()) {
        if request.is_empty() {
            request = line;
        }
    }
    let head = match request.split(' ').nth(1).unwrap_or_default() {
        p if p.starts_with("/v2/private/") => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"here\"",
        _ => "404 Not Found",
    };
    write!(stream, "HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// A node that exists in the API only, with a label `pool` and so much CPU.
fn node(c: &Cluster, name: &str, labels: &str, cpu: &str, ready: bool) {
    c.apply(&format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{kubernetes.io/hostname: {name}, {labels}}}}}\n"
    ));
    let size = format!(r#"{{"cpu":"{cpu}","memory":"8Gi","pods":"110"}}"#);
    let state = if ready {
        ("True", "KubeletReady", "")
    } else {
        ("False", "KubeletNotReady", "the network is not up")
    };
    let time = "2026-01-01T00:00:00Z";
    let condition = format!(
        r#"{{"type":"Ready","status":"{}","reason":"{}","message":"{}","lastHeartbeatTime":"{time}","lastTransitionTime":"{time}"}}"#,
        state.0, state.1, state.2
    );
    let status =
        format!(r#"{{"status":{{"capacity":{size},"allocatable":{size},"conditions":[{condition}]}}}}"#);
    c.kubectl(&["patch", "node", name, "--subresource=status", "--type=strategic", "-p", &status]);
}

fn nodes(c: &Cluster) {
    node(c, "one", "pool: one, zone: a", "4", true);
    node(c, "two", "pool: two, zone: b", "4", true);
    node(c, "apart", "pool: apart", "4", true);
    node(c, "full", "pool: full", "5", true);
    node(c, "tainted", "pool: tainted", "4", true);
    node(c, "cordoned", "pool: cordoned", "4", true);
    node(c, "drained", "pool: drained", "4", true);
    node(c, "broken", "pool: broken", "4", false);
    c.kubectl(&["label", "node", "node-1", "disk=hdd"]);
    c.kubectl(&["taint", "node", "tainted", "dedicated=db:NoSchedule"]);
    c.kubectl(&["cordon", "cordoned"]);
    c.kubectl(&["cordon", "drained"]);
    // Nobody else is to come to these.
    for name in ["one", "two", "apart", "full"] {
        c.kubectl(&["taint", "node", name, "kept=for-tests:PreferNoSchedule"]);
    }
    wait_for("the nodes to be without the taint of new ones", || {
        let taints = c.kubectl(&[
            "get",
            "nodes",
            "one",
            "two",
            "apart",
            "full",
            "-o",
            "jsonpath={.items[*].spec.taints[*].key}",
        ]);
        !taints.contains("not-ready")
    });
}

/// What takes room on the node that is to be full.
const FILLER: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: filler, namespace: w}\nspec: {nodeName: full, containers: [{name: c, image: i, resources: {requests: {cpu: 3800m}}}]}\n";

fn why(c: &Cluster, ns: &str, thing: &str, form: &str) -> Output {
    let data = c.data();
    let mut args = vec!["why"];
    args.extend(thing.split_whitespace());
    if !ns.is_empty() {
        args.extend(["-n", ns]);
    }
    args.extend(["-o", form, "--data-dir", &data]);
    kelson(&args)
}

#[test]
fn the_first_cause_is_the_right_one() {
    if !testkit::node_possible() {
        testkit::skip("running containers needs root");
        return;
    }
    let c = Cluster::with_flags(true, &["--node-monitor-grace-period", "1h"]);
    c.import_busybox();
    let registry = registry();
    let archive = c.dir().join("known.tar");
    busybox_archive(&archive, &format!("{registry}/public/busybox:1.36"));
    let out = kelson(&["image", "import", "--data-dir", &c.data(), &archive.to_string_lossy()]);
    assert!(out.ok, "{out:?}");
    nodes(&c);
    c.apply(&setups::shared());
    let http = Http::admin(&c);
    for ns in ["w", "quota", "limits", "hook", "strict"] {
        wait_for("the service account", || {
            http.get(&format!("/api/v1/namespaces/{ns}/serviceaccounts/default")).code == 200
        });
    }
    wait_for("the node to tell of its images", || {
        http.get("/api/v1/nodes/node-1").text().contains("/public/busybox:1.36")
    });
    let all = setups::all(&registry);
    assert!(all.len() >= 30, "{} set-ups", all.len());
    let manifests: Vec<&str> = all.iter().map(|s| s.manifest.as_str()).collect();
    c.apply(&(FILLER.to_owned() + "---\n" + &manifests.concat()));
    c.kubectl(&["delete", "service", "held", "-n", "w", "--wait=false"]);

    let (mut right, mut wrong) = (0, Vec::new());
    for s in &all {
        let (path, until) = &s.until;
        let mut last = String::new();
        wait_for(&format!("{} to be broken ({path} with {until:?})", s.name), || {
            last = http.get(path).text();
            until.iter().all(|w| last.contains(w.as_str()))
        });
        let out = why(&c, s.ns, &s.ask, "json");
        let report: Value = serde_json::from_str(&out.stdout).unwrap_or_default();
        let code = report["findings"][0]["causes"][0]["code"].as_str().unwrap_or_default();
        let text = why(&c, s.ns, &s.ask, "text");
        let first = text.stdout.lines().next().unwrap_or_default();
        if code == s.code && s.words.iter().all(|w| first.contains(w.as_str())) {
            right += 1;
        } else {
            wrong.push(format!(
                "{}: wanted {} with {:?}\n  got {code}: {}{}",
                s.name, s.code, s.words, text.stdout, text.stderr
            ));
        }
        if std::env::var_os("WHY_SHOW").is_some() {
            eprintln!("--- {}\n{}", s.name, text.stdout);
        }
    }
    eprintln!("{right} of {} right; wrong:\n{}", all.len(), wrong.join("\n"));
    assert!(right * 30 >= RIGHT_OF_30 * all.len(), "{right} of {} right:\n{}", all.len(), wrong.join("\n"));
    all_at_once(&c);
    what_is_fine(&c);
    with_few_rights(&c);
}

/// Without a name: everything that is broken, each cause once, with the things that share it.
fn all_at_once(c: &Cluster) {
    let out = why(c, "", "", "text");
    assert!(out.ok, "{out:?}");
    if std::env::var_os("WHY_SHOW").is_some() {
        eprintln!("--- everything\n{}", out.stdout);
    }
    for words in [
        "no node has the label disk=ssd",
        "the quota small of quota allows no more pods",
        "the node broken is not ready",
        "deployment/deployed in w",
        "the priority class urgent does not exist",
    ] {
        assert!(out.stdout.contains(words), "{words:?} expected in:\n{}", out.stdout);
    }
    // A deployment speaks for its pods.
    assert!(!out.stdout.contains("\n  pod/deployed-"), "{}", out.stdout);
    let own = why(c, "quota", "", "json");
    let report: Value = serde_json::from_str(&own.stdout).expect("a report");
    let findings = report["findings"].as_array().expect("findings");
    let namespaces: Vec<&str> =
        findings.iter().filter_map(|f| f["namespace"].as_str()).filter(|n| !n.is_empty()).collect();
    assert!(!namespaces.is_empty() && namespaces.iter().all(|n| *n == "quota"), "{namespaces:?}");
}

fn what_is_fine(c: &Cluster) {
    let out = why(c, "w", "pod web", "text");
    assert_eq!(out.stdout, "pod/web in w: nothing is wrong with it\n");
    let gone = why(c, "w", "pod nobody", "text");
    assert!(!gone.ok && gone.stderr.contains("pods \"nobody\" not found"), "{gone:?}");
    let unknown = why(c, "w", "banana/x", "text");
    assert!(!unknown.ok && unknown.stderr.contains("\"banana\" is no kind"), "{unknown:?}");
}

/// A user who may see pods and events of one namespace only still hears what those say, and what was not looked at.
fn with_few_rights(c: &Cluster) {
    c.kubectl(&["create", "serviceaccount", "reader", "-n", "w"]);
    c.kubectl(&["create", "role", "reader", "-n", "w", "--verb=get,list", "--resource=pods,events"]);
    c.kubectl(&["create", "rolebinding", "reader", "-n", "w", "--role=reader", "--serviceaccount=w:reader"]);
    let token = c.kubectl(&["create", "token", "reader", "-n", "w"]);
    let file = c.dir().join("reader.kubeconfig");
    std::fs::copy(c.kubeconfig(), &file).expect("a copy");
    let path = file.to_string_lossy().into_owned();
    let config = |args: &[&str]| c.kubectl(&[&["config", "--kubeconfig", &path], args].concat());
    config(&["set-credentials", "reader", &format!("--token={}", token.trim())]);
    config(&["set-context", "--current", "--user=reader", "--namespace=w"]);
    let ask = |args: &[&str]| {
        let mut command = Command::new(testkit::kelson_path());
        testkit::run(command.arg("why").args(args).env("KUBECONFIG", &path), None)
    };
    let out = ask(&["pod", "full"]);
    let first = out.stdout.lines().next().unwrap_or_default();
    assert!(first.contains("says the scheduler") && first.contains("Insufficient cpu"), "{out:?}");
    assert!(out.stdout.contains("not looked at: nodes (") && out.stdout.contains("forbidden"), "{out:?}");
    let out = ask(&[]);
    assert!(out.ok && out.stdout.contains("not looked at: other namespaces than w"), "{out:?}");
    assert!(out.stdout.contains("exit code 3"), "{out:?}");
    let out = ask(&["deployment/deployed"]);
    assert!(!out.ok && out.stderr.contains("forbidden"), "{out:?}");
}
