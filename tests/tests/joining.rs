//! Tokens with which machines join: made, signed for, used for a node's first certificate and for nothing else, ended and
//! removed. And the block of the pod network that each node gets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use testkit::{Cluster, Output, run, wait_for};

struct Joining {
    cluster: Cluster,
    /// A word of the printed command, after its flag.
    line: Vec<String>,
}

impl Joining {
    fn word(&self, flag: &str) -> &str {
        let at = self.line.iter().position(|w| w == flag).expect(flag);
        &self.line[at + 1]
    }

    fn new() -> Self {
        let cluster = Cluster::control_plane();
        let out = cluster.kelson(&[
            "token",
            "create",
            "--data-dir",
            &cluster.data(),
            "--description",
            "for a test",
        ]);
        assert!(out.ok, "{out:?}");
        let line = out.stdout.split_whitespace().map(str::to_owned).collect();
        Self { cluster, line }
    }

    /// kubectl as the bearer of the token.
    fn bearer(&self, args: &[&str], input: Option<&str>) -> Output {
        let server = format!("https://127.0.0.1:{}", self.cluster.port());
        let mut command = self.cluster.command(args);
        command.env("KUBECONFIG", "/dev/null");
        command.args(["--server", &server, "--insecure-skip-tls-verify", "--token", self.word("--token")]);
        run(&mut command, input)
    }

    fn request(&self, name: &str, subject: &str, group: &str, signer: &str) -> Output {
        let key = rcgen::KeyPair::generate().expect("key");
        let mut csr = rcgen::CertificateParams::default();
        csr.distinguished_name = rcgen::DistinguishedName::new();
        csr.distinguished_name.push(rcgen::DnType::OrganizationName, group);
        csr.distinguished_name.push(rcgen::DnType::CommonName, subject);
        let csr = csr.serialize_request(&key).and_then(|r| r.pem()).expect("request");
        let request = STANDARD.encode(csr);
        let manifest = format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\n\
             spec: {{request: {request}, signerName: {signer}, usages: [client auth, digital signature]}}\n"
        );
        self.bearer(&["create", "-f", "-"], Some(&manifest))
    }

    fn state(&self, request: &str) -> String {
        self.cluster.kubectl(&["get", "csr", request, "--no-headers"])
    }

    fn signatures(&self) -> String {
        self.cluster.kubectl(&[
            "get",
            "configmap",
            "-n",
            "kube-public",
            "cluster-info",
            "-o",
            "jsonpath={.data}",
        ])
    }
}

#[test]
fn a_token_is_for_joining_and_for_nothing_else() {
    let j = Joining::new();
    let c = &j.cluster;
    assert_eq!(j.line[..2], ["kelson", "agent"]);
    assert!(j.word("--server").starts_with("https://") && j.word("--ca-cert-hash").starts_with("sha256:"));
    let (id, _) = j.word("--token").split_once('.').expect("a token");
    let list = c.kelson(&["token", "list", "--data-dir", &c.data()]);
    assert!(list.stdout.contains(j.word("--token")) && list.stdout.contains("for a test"), "{list:?}");
    wait_for("its signature", || j.signatures().contains(&format!("jws-kubeconfig-{id}")));

    assert!(j.bearer(&["get", "pods", "-A"], None).stderr.contains("forbidden"));
    let (nodes, client) = ("system:nodes", "kubernetes.io/kube-apiserver-client-kubelet");
    for (name, subject, group, signer) in [
        ("masters", "system:node:a", "system:masters", client),
        ("bob", "bob", "devs", "kubernetes.io/kube-apiserver-client"),
        ("node", "system:node:a", nodes, client),
    ] {
        let made = j.request(name, subject, group, signer);
        assert!(made.ok, "{made:?}");
    }
    wait_for("the node's certificate", || j.state("node").contains("Approved,Issued"));
    assert!(j.state("bob").contains("Pending") && j.state("masters").contains("Pending"));

    let deleted = c.kelson(&["token", "delete", "--data-dir", &c.data(), id]);
    assert!(deleted.ok, "{deleted:?}");
    wait_for("its signature to go", || !j.signatures().contains("jws-kubeconfig-"));
    assert!(j.bearer(&["get", "csr"], None).stderr.contains("Unauthorized"));
    assert!(!c.kelson(&["token", "delete", "--data-dir", &c.data(), id]).ok);
}

#[test]
fn a_token_ends() {
    let c = Cluster::control_plane();
    let made = c.kelson(&["token", "create", "--data-dir", &c.data(), "--ttl", "1s"]);
    assert!(made.ok, "{made:?}");
    wait_for("the token to be removed", || {
        c.kubectl(&["get", "secrets", "-n", "kube-system", "-o", "name"]).is_empty()
    });
    let kept =
        c.kelson(&["token", "create", "abcdef.0123456789abcdef", "--data-dir", &c.data(), "--ttl", "0"]);
    assert!(kept.ok && kept.stdout.contains("--token abcdef.0123456789abcdef "), "{kept:?}");
}

#[test]
fn each_node_has_a_block_of_its_own() {
    let networks = ["--cluster-cidr", "10.77.0.0/23,fd77::/62", "--service-cidr", "10.78.0.0/24,fd78::/112"];
    let mut c = Cluster::with_flags(false, &networks);
    let cidrs =
        |c: &Cluster, node: &str| c.kubectl(&["get", "node", node, "-o", "jsonpath={.spec.podCIDRs}"]);
    let (first, second) = (r#"["10.77.0.0/24","fd77::/64"]"#, r#"["10.77.1.0/24","fd77:0:0:1::/64"]"#);
    c.add_silent_node("a");
    wait_for("a's block", || cidrs(&c, "a") == first);
    c.add_silent_node("b");
    wait_for("b's block", || cidrs(&c, "b") == second);
    c.add_silent_node("c");
    let events = |c: &Cluster| c.kubectl(&["get", "events", "-A", "-o", "jsonpath={.items[*].message}"]);
    wait_for("the event", || events(&c).contains("Node c status is now: CIDRNotAvailable"));
    assert_eq!(cidrs(&c, "c"), "");
    c.crash();
    c.run();
    assert_eq!((cidrs(&c, "a").as_str(), cidrs(&c, "b").as_str()), (first, second));
    c.kubectl(&["delete", "node", "a"]);
    wait_for("c to get what is free", || cidrs(&c, "c") == first);
}
