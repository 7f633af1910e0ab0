//! Clusters whose store is an etcd: the same behaviour for kubectl, what happens when etcd is gone for a while, and
//! several API servers on one, certificates on both sides.

use std::process::Command;

use serde_json::{Value, json};
use testkit::etcd::{Etcd, free_port};
use testkit::http::Http;
use testkit::{Background, Cluster, wait_for};

fn on(etcd: &Etcd, more: &[&str]) -> Cluster {
    let servers = format!("--etcd-servers={}", etcd.url());
    Cluster::with_flags(false, &[&[servers.as_str()], more].concat())
}

fn config_map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{k: {value:?}}}\n")
}

fn get(c: &Cluster, name: &str) -> String {
    c.kubectl(&["get", "configmap", name, "-o", "jsonpath={.data.k}"])
}

fn version(c: &Cluster, name: &str) -> String {
    c.kubectl(&["get", "configmap", name, "-o", "jsonpath={.metadata.resourceVersion}"])
}

fn watch(c: &Cluster) -> Background {
    let args = ["get", "configmaps", "-w", "-o", "jsonpath={.metadata.name}={.data.k}{\"\\n\"}"];
    let mut command: Command = c.command(&args);
    command.arg("--request-timeout=0");
    Background::start(command)
}

#[test]
fn a_cluster_lives_in_etcd() {
    let Some(etcd) = Etcd::start() else { return };
    let mut c = on(&etcd, &["--etcd-prefix=/mine"]);
    let mut seen = watch(&c);
    c.apply(&config_map("a", "1"));
    seen.wait_text("a=1");
    c.apply(&config_map("a", "2"));
    seen.wait_text("a=2");

    let old = c.kubectl(&["get", "configmap", "a", "-o", "json"]);
    c.kubectl(&["patch", "configmap", "a", "-p", r#"{"data":{"k":"3"}}"#]);
    let refused = c.try_kubectl(&["replace", "-f", "-"], Some(&old));
    assert!(!refused.ok && refused.stderr.contains("the object has been modified"), "{refused:?}");

    // Loops work on it: a Deployment gets its pods, a deleted namespace goes with what is inside.
    c.apply(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  replicas: 2\n  selector: {matchLabels: {a: d}}\n  template:\n    metadata: {labels: {a: d}}\n    spec: {containers: [{name: c, image: none}]}\n",
    );
    wait_for("the deployment's pods", || {
        c.kubectl(&["get", "pods", "-l", "a=d", "-o", "name"]).lines().count() == 2
    });
    c.kubectl(&["create", "namespace", "short"]);
    c.kubectl(&["create", "configmap", "inside", "-n", "short"]);
    c.kubectl(&["delete", "namespace", "short", "--timeout=80s"]);

    let before = version(&c, "a");
    for crash in [false, true] {
        if crash {
            c.crash();
        } else {
            c.stop();
        }
        c.run();
        assert_eq!((get(&c, "a").as_str(), &version(&c, "a")), ("3", &before));
        assert_eq!(c.kubectl(&["get", "pods", "-l", "a=d", "-o", "name"]).lines().count(), 2);
    }
    assert!(!std::path::Path::new(&c.data()).join("store").exists(), "nothing is kept beside etcd");
    assert_eq!(c.kubectl(&["get", "--raw", "/readyz/etcd"]).trim(), "ok");
}

#[test]
fn what_was_compacted_is_gone() {
    let Some(etcd) = Etcd::start() else { return };
    let mut c = on(&etcd, &["--etcd-compaction-interval=500ms"]);
    c.apply(&config_map("a", "old"));
    let old = version(&c, "a");
    let then =
        format!("/api/v1/namespaces/default/configmaps?resourceVersion={old}&resourceVersionMatch=Exact");
    c.apply(&config_map("a", "new"));
    let list: Value = serde_json::from_str(&c.kubectl(&["get", "--raw", &then])).expect("a list");
    assert_eq!(list["items"][0]["data"]["k"], "old");
    // A new process has no history in memory: it is etcd that knows, until it is compacted.
    c.stop();
    c.run();
    wait_for("the compaction", || {
        let out = c.try_kubectl(&["get", "--raw", &then], None);
        assert!(out.ok || out.stderr.contains("too old"), "{out:?}");
        !out.ok
    });
    let from =
        format!("/api/v1/namespaces/default/configmaps?watch=1&resourceVersion={old}&timeoutSeconds=5");
    let event: Value = serde_json::from_str(&c.kubectl(&["get", "--raw", &from])).expect("one event");
    assert_eq!((&event["type"], &event["object"]["code"]), (&"ERROR".into(), &410.into()));
    assert_eq!(get(&c, "a"), "new");
}

#[test]
fn without_etcd_reads_from_memory_go_on() {
    let Some(mut etcd) = Etcd::start() else { return };
    let c = on(&etcd, &[]);
    c.apply(&config_map("a", "1"));
    let mut seen = watch(&c);
    seen.wait_text("a=1");
    etcd.crash();
    let maps = "/api/v1/namespaces/default/configmaps";
    let list: Value =
        serde_json::from_str(&c.kubectl(&["get", "--raw", &format!("{maps}?resourceVersion=0")]))
            .expect("a list");
    assert!(list["items"].as_array().is_some_and(|all| all.iter().any(|m| m["metadata"]["name"] == "a")));
    let ready = c.kubectl_fails(&["get", "--raw", "/readyz"], None);
    assert!(ready.contains("[-]etcd failed"), "{ready}");
    // Asked directly: kubectl tries again until its own patience ends.
    let http = Http::admin(&c);
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}});
    for answer in [http.json("POST", maps, &body), http.get(&format!("{maps}/a"))] {
        assert!(answer.code == 500 && answer.message().contains("can't be reached"), "{}", answer.text());
    }
    etcd.run();
    wait_for("etcd's return to be seen", || c.try_kubectl(&["get", "--raw", "/readyz"], None).ok);
    c.apply(&config_map("a", "after"));
    // The watch was never ended.
    seen.wait_text("a=after");
}

#[test]
fn servers_on_one_etcd_are_one_cluster() {
    let Some(etcd) = Etcd::start() else { return };
    let networks = ["--service-cidr=10.96.0.0/16", "--cluster-cidr=10.244.0.0/16"];
    let servers = format!("--etcd-servers={}", etcd.url());
    let a = on(&etcd, &networks);
    let b = Cluster::beside(&a, &[servers.as_str(), networks[0], networks[1]]);
    let mut seen = watch(&b);
    for i in 0..10 {
        let (one, other) = if i % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let name = format!("m{i}");
        one.apply(&config_map(&name, "1"));
        // Read at once: no wait, no retry.
        assert_eq!(get(other, &name), "1");
        other.apply(&config_map(&name, "2"));
        assert_eq!(get(one, &name), "2");
        seen.wait_text(&format!("{name}=2"));
        let all = other.kubectl(&["get", "configmaps", "-o", "name"]);
        assert_eq!(all.lines().filter(|l| l.contains("/m")).count(), i + 1);
    }
    // A namespace made here takes objects there, and a definition made here is served there.
    a.kubectl(&["create", "namespace", "n"]);
    b.kubectl(&["create", "configmap", "x", "-n", "n"]);
    b.kubectl(&["delete", "namespace", "n", "--timeout=80s"]);
    a.apply(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.com}\nspec:\n  group: example.com\n  scope: Namespaced\n  names: {plural: things, singular: thing, kind: Thing, listKind: ThingList}\n  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]\n",
    );
    let thing = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\n";
    wait_for("the kind to be served by the other server", || {
        b.try_kubectl(&["apply", "-f", "-"], Some(thing)).ok
    });
    assert_eq!(a.kubectl(&["get", "things", "-o", "name"]).trim(), "thing.example.com/t");
    // Addresses are given once.
    for (i, c) in [&a, &b, &a, &b].into_iter().enumerate() {
        c.kubectl(&["create", "service", "clusterip", &format!("s{i}"), "--tcp=80"]);
    }
    let ips = a.kubectl(&["get", "services", "-o", "jsonpath={.items[*].spec.clusterIP}"]);
    let mut ips: Vec<&str> = ips.split(' ').collect();
    ips.sort_unstable();
    ips.dedup();
    assert_eq!(ips.len(), 5);
}

/// Files of an authority, of a server and of a client, below a directory of the test's own.
struct Keys(std::path::PathBuf);

impl Keys {
    fn make() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
        let dir = std::env::temp_dir().join(format!("kelson-e2e-{}-etcd-keys", std::process::id()));
        std::fs::create_dir_all(&dir).expect("directory");
        let keys = Self(dir);
        let write = |name: &str, text: &str| std::fs::write(keys.0.join(name), text).expect("a file");
        for ca in ["ca", "other-ca"] {
            let key = KeyPair::generate().expect("key");
            let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            write(&format!("{ca}.crt"), &params.self_signed(&key).expect("authority").pem());
            if ca != "ca" {
                continue;
            }
            let issuer = Issuer::new(params, key);
            use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
            // etcd is a client of its own.
            for (name, usages) in [("server", vec![ServerAuth, ClientAuth]), ("client", vec![ClientAuth])] {
                let key = KeyPair::generate().expect("key");
                let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
                params.extended_key_usages = usages;
                write(&format!("{name}.crt"), &params.signed_by(&key, &issuer).expect("certificate").pem());
                write(&format!("{name}.key"), &key.serialize_pem());
            }
        }
        keys
    }

    fn flag(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.0.join(file).display())
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn both_sides_show_certificates() {
    let keys = Keys::make();
    let own = [
        keys.flag("cert-file", "server.crt"),
        keys.flag("key-file", "server.key"),
        keys.flag("trusted-ca-file", "ca.crt"),
        "--client-cert-auth".to_owned(),
    ];
    let Some(mut etcd) = Etcd::with(&own.each_ref().map(String::as_str)) else { return };
    let (ca, other) = (keys.flag("etcd-cafile", "ca.crt"), keys.flag("etcd-cafile", "other-ca.crt"));
    let (cert, key) = (keys.flag("etcd-certfile", "client.crt"), keys.flag("etcd-keyfile", "client.key"));

    // Without a certificate, and with one while the other side's is of another authority: refused, and why is told.
    let data = keys.0.join("data");
    let servers = format!("--etcd-servers={}", etcd.url());
    let listen = format!("--listen=127.0.0.1:{}", free_port());
    for (flags, why) in [(vec![&ca], "certificate"), (vec![&other, &cert, &key], "invalid peer certificate")]
    {
        let mut args =
            vec!["server", "--no-node", "--data-dir", data.to_str().expect("path"), &listen, &servers];
        args.extend(flags.iter().map(|f| f.as_str()));
        let out = testkit::kelson(&args);
        assert!(!out.ok && out.stderr.contains("failed to open the store"), "{out:?}");
        assert!(out.stderr.to_lowercase().contains(why), "{out:?}");
    }
    testkit::kelson(&["clean", "--data-dir", data.to_str().expect("path")]);

    let c = on(&etcd, &[&ca, &cert, &key]);
    c.apply(&config_map("a", "1"));
    let mut seen = watch(&c);
    seen.wait_text("a=1");
    etcd.run();
    wait_for("etcd's return to be seen", || c.try_kubectl(&["get", "--raw", "/readyz"], None).ok);
    c.apply(&config_map("a", "2"));
    seen.wait_text("a=2");
}
