//! A store that the original API server filled is taken over and given back: a Go program writes with upstream's own
//! serializers what upstream would, and reads with its decoders what stands there in the end.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::etcd::Etcd;
use testkit::{Cluster, run, wait_for};

/// The program of tests/clients/go/handover, or why there is none.
fn program() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/go");
    let exe = std::env::current_exe().expect("the test's own path");
    let program = exe.ancestors().nth(3).expect("the target directory").join("clients/handover");
    let path = format!("{}:/usr/local/go/bin", std::env::var("PATH").unwrap_or_default());
    let mut build = Command::new("go");
    build.current_dir(source).env("PATH", path).args(["build", "-mod=readonly", "-o"]).arg(&program);
    let out = build.arg("./handover").output().map_err(|e| format!("go does not run: {e}"))?;
    if out.status.success() { Ok(program) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

#[test]
fn what_upstream_stored_is_served_and_given_back() {
    let Some(etcd) = Etcd::start() else { return };
    let program = match program() {
        Ok(p) => p,
        Err(why) => {
            let missing = ["does not run", "dial tcp", "no such host", "i/o timeout", "connection"];
            assert!(missing.iter().any(|m| why.contains(m)), "the program was not built: {why}");
            return testkit::skip("the handover program can't be had: no Go, or no modules");
        }
    };
    let go = |what: &str, place: &str| {
        let out = run(Command::new(&program).args([what, place]), None);
        assert!(out.ok && out.stdout.trim_end().ends_with("ok"), "{what}: {}{}", out.stdout, out.stderr);
    };
    go("put", &etcd.url());

    let servers = format!("--etcd-servers={}", etcd.url());
    let networks = ["--service-cidr=10.96.0.0/16", "--cluster-cidr=10.244.0.0/16"];
    // Nobody but the program changes anything.
    let mut c =
        Cluster::with_flags(false, &[&servers, networks[0], networks[1], "--disable=controllers,scheduler"]);
    assert!(!c.log().contains("can't be read"), "{}", c.log());
    go("served", &c.kubeconfig());
    // Addresses and ports of services that were there are taken.
    for (field, why) in [("nodePort", "already allocated"), ("clusterIP", "already allocated")] {
        let (ip, port) = if field == "clusterIP" { ("10.96.7.7", "") } else { ("", ", nodePort: 30080") };
        let service = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: late}}\nspec: {{type: NodePort, clusterIP: {ip:?}, ports: [{{port: 80{port}}}]}}\n"
        );
        let refused = c.kubectl_fails(&["create", "-f", "-"], Some(&service));
        assert!(refused.contains(why), "{field}: {refused}");
    }
    c.stop();
    go("back", &etcd.url());

    // Loops work on it as on their own.
    let d = Cluster::beside(&c, &[&servers, networks[0], networks[1]]);
    wait_for("the pods of upstream's deployment", || {
        let pods = d.kubectl(&[
            "get",
            "pods",
            "-n",
            "upstream",
            "-o",
            "jsonpath={.items[*].metadata.ownerReferences[0].kind}",
        ]);
        pods.matches("ReplicaSet").count() == 2
    });
    let thing = d.kubectl(&[
        "get",
        "things.old.example.com",
        "-n",
        "upstream",
        "t",
        "-o",
        "jsonpath={.spec.tags[1]}",
    ]);
    assert_eq!(thing, "b");
}
