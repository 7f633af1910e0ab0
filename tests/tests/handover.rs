//! A store that the original API server filled is taken over and given back: a Go program writes with upstream's own
//! serializers what upstream would, and reads with its decoders what stands there in the end.

use std::process::Command;

use e2e::programs;
use testkit::etcd::Etcd;
use testkit::{Cluster, run, wait_for};

#[test]
fn what_upstream_stored_is_served_and_given_back() {
    let Some(etcd) = Etcd::start() else { return };
    let Some(program) = programs::handover() else { return };
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
