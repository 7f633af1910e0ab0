//! Bad luck on a running cluster: kill -9 of the daemon under load, of containers, of their keepers, SIGTERM, a reboot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use e2e::http::{self, Proxy};
use e2e::writers::{KINDS, Ledger, collection};
use testkit::{Cluster, wait_for};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: busybox:1.36
        command: [sh, -c, "echo up > /www/index.html; exec httpd -f -p 8080 -h /www"]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

/// Name, uid and restart count of every pod of the Deployment, once all are ready.
fn pods(c: &Cluster, restarts: u32) -> BTreeSet<String> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.conditions[?(@.type==\"Ready\")].status} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let mut found = BTreeSet::new();
    wait_for(&format!("two ready pods with {restarts} restarts"), || {
        let text = c.try_kubectl(&["get", "pods", "-l", "app=web", "-o", path], None).stdout;
        found = text
            .lines()
            .filter_map(|l| l.strip_suffix(&format!(" True {restarts}")))
            .map(str::to_owned)
            .collect();
        found.len() == 2 && text.lines().count() == 2
    });
    found
}

fn instance(c: &Cluster) -> String {
    let mark = fs::read_to_string(Path::new(&c.data()).join("kelson.cluster")).expect("the cluster's mark");
    let mark: serde_json::Value = serde_json::from_str(&mark).expect("json");
    mark["instance"].as_str().expect("its name").to_owned()
}

fn walk(dir: &Path, each: &mut impl FnMut(&Path)) {
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        if e.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&e.path(), each);
        }
    }
    each(dir);
}

/// The cluster's directories in every hierarchy of control groups, the inner ones first.
fn cgroups(instance: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut roots = vec![root.to_owned()];
    roots.extend(fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path()));
    let mut all = Vec::new();
    for r in roots {
        let own = r.join(format!("kelson-{instance}"));
        if own.is_dir() {
            walk(&own, &mut |d| all.push(d.to_owned()));
        }
    }
    all
}

/// Processes in the cluster's control groups that run `program`; all of them when it is empty.
fn processes(instance: &str, program: &str) -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    for d in cgroups(instance) {
        let text = fs::read_to_string(d.join("cgroup.procs")).unwrap_or_default();
        all.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
    }
    let runs =
        |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.starts_with(program.as_bytes()));
    all.retain(runs);
    all
}

/// The keepers of this cluster's pods.
fn shims(c: &Cluster) -> BTreeSet<i32> {
    let below = format!("{}/runtime/", fs::canonicalize(c.data()).expect("data").display());
    let pids = fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .filter_map(|e| e.file_name().to_string_lossy().parse::<i32>().ok());
    let is = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("\0shim\0") && line.contains(&below)
    };
    pids.filter(is).collect()
}

fn kill_9(pids: &BTreeSet<i32>) {
    let list: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let _ = Command::new("kill").arg("-9").args(&list).status();
    wait_for("the processes to be gone", || {
        list.iter().all(|p| {
            !Path::new("/proc").join(p).exists()
                || fs::read_to_string(format!("/proc/{p}/stat")).is_ok_and(|s| s.contains(") Z "))
        })
    });
}

/// Follows one kind and goes on from the last revision whenever the watch ends; checks every event against what came before.
fn follow(to: SocketAddr, kind: usize, stop: &AtomicBool, seen: &Mutex<BTreeMap<String, String>>) {
    let (mut revision, mut resumed) = (0u64, 0);
    let (_, list) = http::call(to, "GET", &collection(kind), "", "").expect("a list");
    let number = |v: &serde_json::Value| {
        v["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse().ok()).unwrap_or(0u64)
    };
    revision = revision.max(number(&list));
    *seen.lock().expect("lock") = by_name(&list);
    while !stop.load(Ordering::Relaxed) {
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds=5&resourceVersion={revision}",
            collection(kind)
        );
        let code = http::watch(to, &path, |event| {
            let (what, o) = (event["type"].as_str().unwrap_or_default(), &event["object"]);
            let (name, now) = (o["metadata"]["name"].to_string(), number(o));
            assert!(
                now >= revision && (now > revision || what == "BOOKMARK"),
                "{what} of {name} at {now} after {revision}"
            );
            revision = now;
            let value = o["metadata"]["annotations"]["value"].to_string();
            let mut objects = seen.lock().expect("lock");
            match (what, objects.contains_key(&name)) {
                ("BOOKMARK", _) => {}
                ("ADDED", false) | ("MODIFIED", true) => drop(objects.insert(name, value)),
                ("DELETED", true) => drop(objects.remove(&name)),
                (_, known) => panic!("{what} of {name}, known: {known}, {event}"),
            }
            true
        });
        match code {
            Ok(200) => resumed += 1,
            Ok(500..) | Err(_) => std::thread::park_timeout(std::time::Duration::from_millis(50)),
            Ok(code) => panic!("the watch from {revision} was answered with {code}"),
        }
    }
    assert!(resumed > 1, "the watch never went on");
}

fn by_name(list: &serde_json::Value) -> BTreeMap<String, String> {
    let of = |o: &serde_json::Value| {
        (o["metadata"]["name"].to_string(), o["metadata"]["annotations"]["value"].to_string())
    };
    list["items"].as_array().expect("items").iter().map(of).collect()
}

#[test]
fn kill_9_under_load_loses_nothing_and_touches_no_container() {
    let Some(mut c) = Cluster::with_node() else { return };
    c.apply(WEB);
    let before = pods(&c, 0);
    let instance = instance(&c);
    let running = processes(&instance, "httpd");
    assert_eq!(running.len(), 2);
    let proxy = Proxy::start(Path::new(&c.kubeconfig()));
    let writers = Ledger::default().more_writers(proxy.address, 8);
    let stop = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = (0..KINDS.len())
        .map(|kind| {
            let (stop, to, seen) = (stop.clone(), proxy.address, Arc::new(Mutex::default()));
            let mine = seen.clone();
            (seen, std::thread::spawn(move || follow(to, kind, &stop, &mine)))
        })
        .collect();
    for _ in 0..3 {
        let enough = writers.answered() + 150;
        wait_for("answered writes", || writers.answered() >= enough);
        c.crash();
        assert_eq!(processes(&instance, "httpd"), running);
        c.run();
    }
    let enough = writers.answered() + 100;
    wait_for("answered writes after the last crash", || writers.answered() >= enough);
    let ledger = writers.finish();
    let faults = ledger.faults(proxy.address);
    assert!(faults.is_empty(), "{faults:#?}");

    for (kind, (seen, _)) in watchers.iter().enumerate() {
        let (_, list) = http::call(proxy.address, "GET", &collection(kind), "", "").expect("a list");
        let there = by_name(&list);
        wait_for(&format!("the watch of kind {} to have seen everything", KINDS[kind].2), || {
            *seen.lock().expect("the watcher has failed, see above") == there
        });
    }
    stop.store(true, Ordering::Relaxed);
    for (_, watcher) in watchers {
        watcher.join().expect("a watcher");
    }
    assert_eq!(pods(&c, 0), before);
    assert_eq!(processes(&instance, "httpd"), running);
}

#[test]
fn killed_containers_and_keepers_come_back_and_are_counted() {
    let Some(mut c) = Cluster::with_node() else { return };
    c.apply(WEB);
    let names = pods(&c, 0);
    let instance = instance(&c);
    kill_9(&processes(&instance, "httpd"));
    assert_eq!(pods(&c, 1), names, "killed while the daemon runs");
    c.crash();
    kill_9(&processes(&instance, "httpd"));
    c.run();
    assert_eq!(pods(&c, 2), names, "killed while the daemon is away");
    kill_9(&shims(&c));
    assert_eq!(pods(&c, 3), names, "their keepers killed");
    assert_eq!(processes(&instance, "httpd").len(), 2, "nothing runs twice");
    let code = c.kubectl(&[
        "get",
        "pods",
        "-o",
        "jsonpath={.items[*].status.containerStatuses[0].lastState.terminated.exitCode}",
    ]);
    assert!(code.split(' ').all(|c| c == "255" || c == "137"), "{code}");
}

#[test]
fn sigterm_drains_and_ends_well() {
    let Some(mut c) = Cluster::with_node() else { return };
    c.apply(WEB);
    let names = pods(&c, 0);
    let instance = instance(&c);
    let running = processes(&instance, "httpd");
    let proxy = Proxy::start(Path::new(&c.kubeconfig()));
    let writers = Ledger::default().more_writers(proxy.address, 4);
    wait_for("answered writes", || writers.answered() >= 50);
    let ended = c.stop().expect("it ran");
    assert_eq!(ended.code(), Some(0), "{}", c.log());
    assert_eq!(processes(&instance, "httpd"), running);
    let ledger = writers.finish();
    c.run();
    let faults = ledger.faults(proxy.address);
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(pods(&c, 0), names);
    assert_eq!(processes(&instance, "httpd"), running);
}

/// All that a reboot takes away: processes, control groups, mounts, namespaces, links, tables, `/run`.
fn reboot(c: &mut Cluster) {
    let instance = instance(c);
    c.crash();
    let mut all = shims(c);
    all.extend(processes(&instance, ""));
    kill_9(&all);
    let run = PathBuf::from("/run/kelson").join(&instance);
    let data = fs::canonicalize(c.data()).expect("data");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    for point in mounts.lines().rev().filter_map(|l| l.split(' ').nth(1)) {
        if Path::new(point).starts_with(&run) || Path::new(point).starts_with(&data) {
            let _ = Command::new("umount").args(["-l", point]).status();
        }
    }
    fs::remove_dir_all(&run).expect("run directory");
    wait_for("the control groups to be empty", || processes(&instance, "").is_empty());
    for d in cgroups(&instance) {
        let _ = fs::remove_dir(d);
    }
    let text = |args: &[&str]| {
        let out = Command::new("ip").args(args).output().expect("ip");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let bridge = format!("kel-{instance}");
    let address = text(&["-o", "-4", "address", "show", "dev", &bridge]);
    let gateway =
        address.split_whitespace().nth(3).and_then(|a| a.split('/').next()).expect("its address").to_owned();
    for route in text(&["-o", "route", "show"])
        .lines()
        .filter(|l| l.contains(&format!("src {gateway} ")) || l.ends_with(&format!("src {gateway}")))
    {
        if let Some(link) =
            route.split(" dev ").nth(1).and_then(|r| r.split(' ').next()).filter(|l| l.starts_with("kv"))
        {
            let _ = text(&["link", "del", link]);
        }
    }
    let _ = text(&["link", "del", &bridge]);
    for table in ["pods", "services"] {
        let _ = Command::new("nft")
            .args(["delete", "table", "ip", &format!("kelson-{instance}-{table}")])
            .status();
    }
}

#[test]
fn pods_come_back_after_a_reboot_also_before_the_api() {
    let Some(mut c) = Cluster::with_node() else { return };
    c.apply(WEB);
    let names = pods(&c, 0);
    let instance = instance(&c);
    reboot(&mut c);
    assert!(processes(&instance, "").is_empty());
    c.run();
    assert_eq!(pods(&c, 1), names);

    // The API server waits for a key that does not come: a pipe that nobody writes to stands in its place.
    reboot(&mut c);
    let key = PathBuf::from(c.data()).join("pki/sa.key");
    let text = fs::read(&key).expect("the key");
    fs::remove_file(&key).expect("take the key away");
    let made = Command::new("mkfifo").arg(&key).status().expect("mkfifo");
    assert!(made.success());
    c.spawn();
    wait_for("the pods to run without the API", || processes(&instance, "httpd").len() == 2);
    assert!(
        !c.try_kubectl(&["get", "--raw", "/version", "--request-timeout=2s"], None).ok,
        "the API must not be there yet"
    );
    let running = processes(&instance, "httpd");
    fs::OpenOptions::new().write(true).open(&key).expect("open").write_all(&text).expect("hand over the key");
    c.wait_ready();
    fs::remove_file(&key).expect("take the pipe away");
    fs::write(&key, text).expect("put the key back");
    assert_eq!(pods(&c, 2), names);
    assert_eq!(processes(&instance, "httpd"), running, "what runs is taken over");
}
