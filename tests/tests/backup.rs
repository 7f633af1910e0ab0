//! `kelson backup`, `kelson restore` and `kelson store` on real clusters: taken while others write, put back elsewhere, from
//! either store into either, with an informer of client-go held open across it; what is damaged or in the way is refused.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use e2e::http::Proxy;
use e2e::programs;
use e2e::writers::{KINDS, Writers, collection};
use serde_json::Value;
use testkit::etcd::Etcd;
use testkit::{Background, Cluster, Output, kelson, wait_for};

const CRD: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.com}\nspec:\n  group: example.com\n  scope: Namespaced\n  names: {plural: things, singular: thing, kind: Thing, listKind: ThingList}\n  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]\n";
const THING: &str =
    "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t, labels: {a: b}}\nspec: {size: 3}\n";

fn config_map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{k: {value:?}}}\n")
}

fn good(args: &[&str]) -> String {
    let out = kelson(args);
    assert!(out.ok, "kelson {args:?}: {out:?}");
    out.stdout
}

fn refused(args: &[&str], part: &str) -> Output {
    let out = kelson(args);
    assert!(!out.ok && out.stderr.contains(part), "kelson {args:?} should tell of {part:?}: {out:?}");
    out
}

fn file(c: &Cluster, name: &str) -> String {
    c.dir().join(name).to_string_lossy().into_owned()
}

/// The number behind a word.
fn number(text: &str, before: &str) -> u64 {
    let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("no {before:?} in {text:?}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|e| panic!("{before:?} in {text:?}: {e}"))
}

/// Objects of a list but for what a restore gives anew.
fn objects(list: &str) -> Vec<Value> {
    let mut list: Value = serde_json::from_str(list).expect("a list");
    let items = list["items"].as_array_mut().expect("items");
    for o in items.iter_mut() {
        let meta = o["metadata"].as_object_mut().expect("metadata");
        assert!(meta.remove("resourceVersion").is_some() && meta.contains_key("uid"), "{meta:?}");
    }
    std::mem::take(items)
}

fn lists() -> Vec<String> {
    let mut all: Vec<String> = (0..KINDS.len()).map(collection).collect();
    all.extend(
        ["/apis/example.com/v1/things", "/apis/rbac.authorization.k8s.io/v1/clusterroles"].map(str::to_owned),
    );
    all
}

fn all_objects(c: &Cluster, at: &str) -> Vec<Value> {
    lists().iter().flat_map(|l| objects(&c.kubectl(&["get", "--raw", &format!("{l}{at}")]))).collect()
}

#[test]
fn a_backup_under_load_is_one_moment_and_comes_back_elsewhere() {
    let a = Cluster::control_plane();
    a.apply(CRD);
    wait_for("the kind to be served", || a.try_kubectl(&["apply", "-f", "-"], Some(THING)).ok);
    let token = a.kubectl(&["create", "token", "default"]);
    let proxy = Proxy::start(Path::new(&a.kubeconfig()));
    let writers = Writers::start(proxy.address, 8);
    wait_for("the load", || writers.answered() > 300);
    let backup = file(&a, "backup");
    let data = a.data();
    let told = good(&["backup", &backup, "--data-dir", &data]);
    let before = writers.answered();
    let revision = number(&told, "at revision ");
    // As they were at that moment, from the running server's history.
    let then = all_objects(&a, &format!("?resourceVersion={revision}&resourceVersionMatch=Exact"));
    wait_for("writes to go on", || writers.answered() > before + 50);
    drop(writers.finish());
    assert!(then.len() > 60, "{}", then.len());
    assert_ne!(all_objects(&a, ""), then, "nothing was written meanwhile");
    let mode = std::fs::metadata(&backup).expect("the backup").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    refused(&["backup", &backup, "--data-dir", &data], "--force");
    good(&["backup", &file(&a, "second"), "--data-dir", &data, "--without-keys"]);
    assert!(good(&["restore", "--check", &backup]).contains("with the cluster's keys"));
    refused(&["restore", &backup, "--data-dir", &data], "holds a cluster already");
    refused(&["restore", &backup, "--data-dir", &data, "--force"], "in use");

    let mut b = Cluster::unstarted(&[]);
    good(&["restore", &backup, "--data-dir", &b.data()]);
    b.run();
    assert_eq!(all_objects(&b, ""), then);
    // The same cluster to its clients: its authority, its tokens.
    let elsewhere = format!("https://127.0.0.1:{}", b.port());
    let authority = format!("{}/pki/ca.crt", a.data());
    let by_token = ["--kubeconfig=/dev/null", "--server", &elsewhere, "--certificate-authority", &authority];
    let who = ["auth", "whoami", "--token", token.trim(), "-o", "jsonpath={.status.userInfo.username}"];
    let me = b.kubectl(&[&who[..], &by_token].concat());
    assert_eq!(me, "system:serviceaccount:default:default");
    let by_old = a.kubectl(&["get", "thing", "t", "-o", "name", "--server", &elsewhere]);
    assert_eq!(by_old.trim(), "thing.example.com/t");
    // Who knows a revision from before is told that it is gone.
    let from = format!("/api/v1/configmaps?watch=1&resourceVersion={revision}&timeoutSeconds=5");
    let event: Value = serde_json::from_str(&b.kubectl(&["get", "--raw", &from])).expect("one event");
    assert_eq!((&event["type"], &event["object"]["code"]), (&"ERROR".into(), &410.into()));
    // It is written to as any other.
    b.apply(&config_map("after", "1"));
}

/// client-go's informer, or why there is none.
fn informer(c: &Cluster) -> Option<Background> {
    let mut command = Command::new(programs::hold()?);
    command.args(["-kubeconfig", &c.kubeconfig()]);
    let mut held = Background::start(command);
    held.wait_text("synced");
    Some(held)
}

/// What the informer was told: (word, name, revision) in order.
fn told(text: &str) -> Vec<(String, String, u64)> {
    let line = |l: &str| {
        let mut words = l.split(' ');
        let (word, name, revision) = (words.next()?, words.next()?, words.next()?);
        let known = ["add", "update", "delete"].contains(&word);
        known.then(|| (word.to_owned(), name.to_owned(), revision.parse().expect("a revision")))
    };
    text.lines().filter_map(line).collect()
}

/// No revision came twice, also not for another object, and each object's only grew.
fn judge(text: &str) {
    let mut seen = BTreeSet::new();
    for (word, name, revision) in told(text) {
        if word != "delete" {
            assert!(
                seen.insert(revision),
                "{name} came with revision {revision}, which was seen before:\n{text}"
            );
        }
    }
}

fn holds(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (word, name, _) in told(text) {
        match word.as_str() {
            "delete" => names.remove(&name),
            _ => names.insert(name),
        };
    }
    names
}

/// Changes some, takes it all back by a restore, and looks at the informer that was held open meanwhile.
fn go_back(c: &mut Cluster, held: &mut Background, name: &str, restore: &[&str], flags: &[&str]) {
    let get = |c: &Cluster, name: &str| c.kubectl(&["get", "configmap", name, "-o", "jsonpath={.data.k}"]);
    c.kubectl(&["create", "configmap", &format!("later-{name}")]);
    c.kubectl(&["patch", "configmap", "kept", "-p", &format!(r#"{{"data":{{"k":"changed {name}"}}}}"#)]);
    c.kubectl(&["delete", "configmap", "gone"]);
    wait_for("the informer to see it", || {
        let text = held.text();
        !holds(&text).contains("gone") && holds(&text).contains(&format!("later-{name}"))
    });
    let before = told(&held.text());
    let newest = before.iter().map(|(_, _, r)| *r).max().expect("events");
    c.stop();
    good(restore);
    c.set_flags(flags);
    c.run();
    assert_eq!(get(c, "kept"), "1");
    wait_for("the informer to have listed anew", || {
        let text = held.text();
        holds(&text).contains("gone") && !holds(&text).contains(&format!("later-{name}"))
    });
    // Something new is seen too, as one event.
    c.apply(&config_map(&format!("new-{name}"), "1"));
    held.wait_text(&format!("add new-{name} "));
    let text = held.text();
    judge(&text);
    let after = &told(&text)[before.len()..];
    let old = after.iter().find(|(word, _, r)| word != "delete" && *r <= newest);
    assert!(old.is_none(), "{old:?} is no newer than {newest}:\n{text}");
    c.kubectl(&["delete", "configmap", &format!("new-{name}")]);
    held.wait_text(&format!("delete new-{name} "));
}

#[test]
fn a_held_informer_lists_anew_and_sees_no_revision_twice() {
    let mut c = Cluster::unstarted(&[]);
    c.run();
    for name in ["kept", "gone", "same"] {
        c.apply(&config_map(name, "1"));
    }
    let Some(mut held) = informer(&c) else { return };
    let (backup, data) = (file(&c, "backup"), c.data());
    good(&["backup", &backup, "--data-dir", &data]);
    for round in ["one", "two"] {
        // The second time from the same backup, by a cluster that has gone on since.
        go_back(&mut c, &mut held, round, &["restore", &backup, "--data-dir", &data, "--force"], &[]);
    }
    let text = held.text();
    assert!(text.lines().any(|l| l.starts_with("request 410") || l.contains("request 200")), "{text}");
}

#[test]
fn a_held_informer_goes_from_store_to_store() {
    let Some(etcd) = Etcd::start() else { return };
    let mut c = Cluster::unstarted(&[]);
    c.run();
    for name in ["kept", "gone", "same"] {
        c.apply(&config_map(name, "1"));
    }
    c.apply(CRD);
    wait_for("the kind to be served", || c.try_kubectl(&["apply", "-f", "-"], Some(THING)).ok);
    let Some(mut held) = informer(&c) else { return };
    let (first, second, third) = (file(&c, "1"), file(&c, "2"), file(&c, "3"));
    let data = c.data();
    let servers = format!("--etcd-servers={}", etcd.url());
    good(&["backup", &first, "--data-dir", &data]);
    let then = all_objects(&c, "");

    // Into an etcd whose revision is far below.
    let into = ["restore", &first, "--data-dir", &data, &servers, "--force"];
    go_back(&mut c, &mut held, "etcd", &into, &[&servers]);
    let settled =
        |c: &Cluster| all_objects(c, "").into_iter().filter(|o| o["kind"] != "Lease").collect::<Vec<_>>();
    let without_leases: Vec<Value> = then.into_iter().filter(|o| o["kind"] != "Lease").collect();
    assert_eq!(settled(&c), without_leases);
    refused(&["backup", &second, "--data-dir", &data], &servers);
    refused(&["restore", &first, &servers, "--without-keys"], "--force");
    refused(
        &["restore", &first, &servers, "--without-keys", "--force"],
        "API servers are using this etcd (1,",
    );

    // The etcd it is of, while it runs; put back into it, it goes on from there.
    good(&["backup", &second, "--data-dir", &data, &servers]);
    let back = ["restore", &second, "--data-dir", &data, &servers, "--force"];
    go_back(&mut c, &mut held, "same-etcd", &back, &[&servers]);
    assert!(good(&["store", "status", &servers]).contains("since a restore"));

    // Without its keys, by a cluster that has its own.
    let beside = [&servers, "--etcd-prefix=/beside"];
    good(&[&["restore", &second, "--without-keys"][..], &beside].concat());
    let mut other = Cluster::unstarted(&beside);
    other.run();
    assert_eq!(other.kubectl(&["get", "configmap", "same", "-o", "jsonpath={.data.k}"]), "1");
    other.stop();
    // A neighbour whose prefix begins with the same letters keeps what it has.
    good(&["restore", &second, "--without-keys", &servers, "--etcd-prefix=/be", "--force"]);
    other.run();
    assert_eq!(other.kubectl(&["get", "configmap", "same", "-o", "jsonpath={.data.k}"]), "1");
    other.stop();

    // And home.
    good(&["backup", &third, "--data-dir", &data, &servers]);
    let home = ["restore", &third, "--data-dir", &data, "--force"];
    go_back(&mut c, &mut held, "home", &home, &[]);
    assert_eq!(settled(&c), without_leases);
}

#[test]
fn what_is_damaged_or_in_the_way_is_refused() {
    let mut c = Cluster::unstarted(&[]);
    c.run();
    c.apply(&config_map("a", "1"));
    c.stop();
    // A stopped one is read from its files.
    let (backup, data) = (file(&c, "backup"), c.data());
    good(&["backup", &backup, "--data-dir", &data]);
    let bytes = std::fs::read(&backup).expect("the backup");
    let spoiled = file(&c, "spoiled");
    let empty = file(&c, "empty");
    for at in [3, 40, bytes.len() / 2, bytes.len() - 5] {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        std::fs::write(&spoiled, bad).expect("a spoiled copy");
        let out = refused(&["restore", &spoiled, "--data-dir", &empty], "damaged file");
        let place = number(&out.stderr, "at byte ");
        assert!(place <= at as u64, "{out:?}");
    }
    for n in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&spoiled, &bytes[..n]).expect("a short copy");
        refused(&["restore", &spoiled, "--data-dir", &empty], "damaged file");
    }
    assert!(!Path::new(&empty).exists(), "nothing was begun");

    // One that was cut short keeps a server from starting.
    std::fs::write(format!("{data}/restore.unfinished"), "").expect("a mark");
    let out = kelson(&["server", "--no-node", "--data-dir", &data, "--listen", "127.0.0.1:0"]);
    assert!(!out.ok && out.stderr.contains("run it again"), "{out:?}");
    good(&["restore", &backup, "--data-dir", &data, "--force"]);
    c.run();
    assert_eq!(c.kubectl(&["get", "configmap", "a", "-o", "jsonpath={.data.k}"]), "1");
    for args in [
        &["backup", &backup, "--data-dir", "/nowhere/at/all"][..],
        &["store", "status", "--data-dir", "/nowhere/at/all"],
    ] {
        let out = kelson(args);
        assert!(!out.ok, "{out:?}");
    }
    refused(&["store", "ls", "--data-dir", "/nowhere/at/all"], "--etcd-servers");
    let out = kelson(&["backup"]);
    assert_eq!(out.code, Some(2), "{out:?}");
}

/// The same questions to a running server, to the files of a stopped one, and to an etcd.
fn looks_inside(place: &[&str], engine: &str) {
    let with = |args: &[&str]| good(&[args, place].concat());
    let status = with(&["store", "status"]);
    assert!(
        status.contains(engine) && status.contains("configmaps") && status.contains("services/specs"),
        "{status}"
    );
    let keys = with(&["store", "ls", "/registry/configmaps/default/"]);
    assert!(keys.contains("/registry/configmaps/default/a") && !keys.contains("/registry/pods"), "{keys}");
    let yaml = with(&["store", "get", "/registry/configmaps/default/a"]);
    assert!(yaml.contains("kind: ConfigMap") && yaml.contains("resourceVersion"), "{yaml}");
    let json = with(&["store", "get", "/registry/configmaps/default/a", "-o", "json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["data"]["k"], "1");
    refused(&[&["store", "get", "/registry/configmaps/default/none"][..], place].concat(), "there is no key");
    let check = with(&["store", "check"]);
    assert!(check.contains("no fault was found"), "{check}");
    assert!(with(&["store", "compact"]).contains("is gone"));
    refused(&[&["store", "compact", "--revision", "999999999999999"][..], place].concat(), "future");
}

#[test]
fn a_store_is_looked_into_wherever_it_is() {
    let mut c = Cluster::unstarted(&[]);
    c.run();
    c.apply(&config_map("a", "1"));
    // Its port is kept beside it, under a key that holds no object.
    c.kubectl(&["create", "service", "nodeport", "n", "--tcp=80"]);
    let data = c.data();
    looks_inside(&["--data-dir", &data], "read through its server");
    c.stop();
    looks_inside(&["--data-dir", &data], "no server runs");
    // A flipped bit in the snapshot that compacting has written.
    let store = Path::new(&data).join("store");
    let snapshot = std::fs::read_dir(&store).expect("store").flatten().map(|e| e.path());
    let snapshot =
        snapshot.into_iter().find(|p| p.extension().is_some_and(|e| e == "snap")).expect("a snapshot");
    let good_bytes = std::fs::read(&snapshot).expect("the snapshot");
    let mut bytes = good_bytes.clone();
    let half = bytes.len() / 2;
    bytes[half] ^= 1;
    std::fs::write(&snapshot, bytes).expect("a spoiled snapshot");
    let out = refused(&["store", "check", "--data-dir", &data], "faults");
    assert!(out.stdout.contains(".snap at byte"), "{out:?}");
    std::fs::write(&snapshot, good_bytes).expect("the snapshot");
    if let Some(etcd) = Etcd::start() {
        let servers = format!("--etcd-servers={}", etcd.url());
        c.set_flags(&[&servers]);
        c.run();
        c.apply(&config_map("a", "1"));
        looks_inside(&[&servers], "etcd 3.");
    }
}
