//! Certificates of pods: a signer in this process answers what the kubelet asks for its pods. Volumes show what is issued,
//! events tell what is refused, another start of the program brings another certificate into a running container, and a
//! node asks for its own pods alone.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, KeyPair, PublicKeyData};
use serde_json::{Value, json};
use testkit::http::Http;
use testkit::{Cluster, wait_for};

const SIGNER: &str = "example.com/signer";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/namespaces/default/podcertificaterequests";

struct Signer {
    http: Http,
    name: &'static str,
    issuer: Issuer<'static, KeyPair>,
    authority: String,
}

/// The time, shifted, as the API writes it and as rcgen takes it: both to the second.
fn at(offset: i64) -> (String, SystemTime) {
    let t = Timestamp::from_second(Timestamp::now().as_second() + offset).expect("time");
    (t.to_string(), t.into())
}

impl Signer {
    fn new(c: &Cluster, name: &'static str) -> Self {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).expect("certificate").pem().replace('\r', "");
        Self { http: Http::admin(c), name, issuer: Issuer::new(params, key), authority }
    }

    /// This many requests of a pod that wait for an answer.
    fn waiting(&self, pod: &str, count: usize) -> Vec<Value> {
        let path = format!("{REQUESTS}?fieldSelector=spec.signerName%3D{},spec.podName%3D{pod}", self.name);
        let mut found = Vec::new();
        wait_for(&format!("{count} requests of {pod}"), || {
            let all = self.http.get(&path).json();
            found = all["items"].as_array().cloned().unwrap_or_default();
            found.retain(|r| r["status"]["conditions"].as_array().is_none_or(Vec::is_empty));
            found.len() == count
        });
        found
    }

    fn answer(&self, request: &Value, status: Value) {
        let name = request["metadata"]["name"].as_str().expect("name");
        let mut request = request.clone();
        request["status"] = status;
        let a = self.http.json("PUT", &format!("{REQUESTS}/{name}/status"), &request);
        assert_eq!(a.code, 200, "{}", a.text());
    }

    /// Issues what is asked for; the public key in it.
    fn issue(&self, request: &Value) -> Vec<u8> {
        let der =
            STANDARD.decode(request["spec"]["stubPKCS10Request"].as_str().expect("request")).expect("base64");
        let mut csr =
            CertificateSigningRequestParams::from_der(&der.into()).expect("a request that is signed");
        let life = request["spec"]["maxExpirationSeconds"].as_i64().expect("seconds").min(7200);
        let [(from, not_before), (refresh, _), (to, not_after)] = [-60, 1800, life - 60].map(at);
        csr.params.not_before = not_before.into();
        csr.params.not_after = not_after.into();
        let leaf = csr.signed_by(&self.issuer).expect("certificate").pem().replace('\r', "");
        self.answer(
            request,
            json!({
                "conditions": [condition("Issued", "Signed", "here it is")],
                "certificateChain": format!("a word before\n{leaf}{}", self.authority),
                "notBefore": from, "beginRefreshAt": refresh, "notAfter": to,
            }),
        );
        csr.public_key.der_bytes().to_vec()
    }
}

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": at(0).0})
}

fn pod(name: &str, more: &str, sources: &[&str]) -> String {
    let sources: Vec<String> = sources.iter().map(|s| format!("{{podCertificate: {{{s}}}}}")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n{more}  containers:\n  - {{name: c, image: 'busybox:1.36', command: [sleep, '100000'], volumeMounts: [{{name: t, mountPath: /t}}]}}\n  volumes: [{{name: t, projected: {{sources: [{}]}}}}]\n---\n",
        sources.join(", ")
    )
}

fn source(signer: &str, key: &str, more: &str) -> String {
    format!("signerName: {signer}, keyType: {key}, {more}")
}

fn ready(c: &Cluster, pod: &str) {
    c.kubectl(&["wait", "--for=condition=ready", &format!("pod/{pod}"), "--timeout=90s"]);
}

fn read(c: &Cluster, pod: &str, path: &str) -> String {
    c.kubectl(&["exec", pod, "--", "cat", &format!("/t/{path}")])
}

fn says(c: &Cluster, pod: &str, reason: &str, text: &str) {
    let about = format!("involvedObject.name={pod},reason={reason}");
    let path = "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}";
    wait_for(&format!("an event {reason} about {pod}: {text}"), || {
        c.try_kubectl(&["get", "events", "--field-selector", &about, "-o", path], None).stdout.contains(text)
    });
}

/// What stands in front of the first certificate, and the certificates.
fn split(bundle: &str) -> (&str, &str) {
    bundle.split_at(bundle.find("-----BEGIN CERTIFICATE-----").expect("a certificate"))
}

fn public_half(key: &str) -> Vec<u8> {
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{key}");
    KeyPair::from_pem(key).expect("a key").der_bytes().to_vec()
}

#[test]
fn pods_show_what_their_signer_issues() {
    let Some(mut c) = Cluster::with_node() else { return };
    let signer = Signer::new(&c, SIGNER);
    let bundle = source(
        SIGNER,
        "ECDSAP256",
        "credentialBundlePath: all.pem, maxExpirationSeconds: 3600, userAnnotations: {example.com/path: /mine}",
    );
    let apart = source(SIGNER, "ED25519", "keyPath: own/key.pem, certificateChainPath: chain.pem");
    c.apply(&pod("shown", "", &[&bundle, &apart]));
    let requests = signer.waiting("shown", 2);
    let field = |what: &str, path: &str| c.kubectl(&["get", what, "-o", &format!("jsonpath={path}")]);
    let node = field("nodes", "{.items[0].metadata.name}");
    for r in &requests {
        let (meta, spec) = (&r["metadata"], &r["spec"]);
        assert!(meta["name"].as_str().is_some_and(|n| n.starts_with("req-")), "{r}");
        let uid = field("pod/shown", "{.metadata.uid}");
        assert_eq!(
            (meta["ownerReferences"][0]["uid"].as_str(), spec["podUID"].as_str()),
            (Some(&*uid), Some(&*uid))
        );
        assert_eq!(
            (spec["serviceAccountName"].as_str(), spec["nodeName"].as_str()),
            (Some("default"), Some(&*node))
        );
        assert_eq!(spec["serviceAccountUID"], field("serviceaccount/default", "{.metadata.uid}"));
        assert_eq!(spec["nodeUID"], field(&format!("node/{node}"), "{.metadata.uid}"));
        assert!(spec["pkixPublicKey"].is_null(), "the older form's fields: {r}");
    }
    let asked = |r: &&Value| r["spec"]["unverifiedUserAnnotations"] == json!({"example.com/path": "/mine"});
    let first = requests.iter().find(asked).expect("the annotations");
    let second = requests.iter().find(|r| !asked(r)).expect("the other request");
    let seconds = |r: &Value| r["spec"]["maxExpirationSeconds"].as_i64();
    assert_eq!((seconds(first), seconds(second)), (Some(3600), Some(86_400)));
    let table = c.kubectl(&["get", "podcertificaterequests"]);
    assert!(table.contains("SIGNERNAME") && table.contains("Pending") && table.contains(SIGNER), "{table}");

    // Nothing is shown before all are there.
    let key = signer.issue(first);
    says(&c, "shown", "FailedMount", "credential bundle is not issued yet");
    let other = signer.issue(second);
    ready(&c, "shown");
    let all = read(&c, "shown", "all.pem");
    let (private, chain) = split(&all);
    assert_eq!(public_half(private), key);
    // The leaf and what is above it, without the words between.
    assert!(chain.ends_with(&signer.authority) && chain.matches("BEGIN CERT").count() == 2, "{all}");
    assert!(!all.contains("a word before"));
    assert_eq!(public_half(&read(&c, "shown", "own/key.pem")), other);
    assert!(read(&c, "shown", "chain.pem").ends_with(&signer.authority));
    let table = c.kubectl(&["get", "podcertificaterequests"]);
    assert_eq!(table.matches("Issued").count(), 2, "{table}");

    // A pod's own user owns its files.
    let more = "  securityContext: {runAsUser: 1000, runAsGroup: 1000}\n";
    c.apply(&pod("owned", more, &[&source(SIGNER, "ECDSAP384", "credentialBundlePath: all.pem")]));
    signer.issue(&signer.waiting("owned", 1)[0]);
    ready(&c, "owned");
    let owner = c.kubectl(&["exec", "owned", "--", "stat", "-L", "-c", "%u %a", "/t/all.pem"]);
    assert_eq!(owner.trim(), "1000 600");

    // Nothing of it outlives the program: another start asks again, and the container goes on.
    c.stop();
    c.run();
    signer.issue(&signer.waiting("owned", 1)[0]);
    for r in signer.waiting("shown", 2) {
        signer.issue(&r);
    }
    wait_for("the files to change", || {
        let now = read(&c, "shown", "all.pem");
        now != all && public_half(split(&now).0) != key
    });
    let restarts =
        c.kubectl(&["get", "pod/shown", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"]);
    assert_eq!(restarts, "0");
}

#[test]
fn refusals_are_told() {
    let Some(c) = Cluster::with_node() else { return };
    let signer = Signer::new(&c, SIGNER);
    let wanted = |key: &str| source(SIGNER, key, "credentialBundlePath: all.pem");
    c.apply(&(pod("denied", "", &[&wanted("ECDSAP256")]) + &pod("failed", "", &[&wanted("ED25519")])));
    for (pod, kind, said) in [("denied", "Denied", "was denied"), ("failed", "Failed", "failed")] {
        let request = &signer.waiting(pod, 1)[0];
        signer.answer(request, json!({"conditions": [condition(kind, "NotHere", "no such luck")]}));
        let name = request["metadata"]["name"].as_str().expect("name");
        let message = format!(
            "PodCertificateRequest default/{name} {said}, reason=\"NotHere\", message=\"no such luck\""
        );
        says(&c, pod, kind, &message);
        let lower = kind.to_lowercase();
        let mount = format!(
            "PodCertificateRequest was permanently {lower}: reason=\"NotHere\" message=\"no such luck\""
        );
        says(&c, pod, "FailedMount", &mount);
        // It is for good: nobody is asked again.
        signer.waiting(pod, 0);
    }
    c.apply(&pod("unable", "", &[&wanted("RSA3072")]));
    says(&c, "unable", "FailedMount", "keys of type RSA3072 can't be made on this node");

    for (path, pod, part) in [
        ("maxExpirationSeconds: 3599", "short", "if provided, maxExpirationSeconds must be >= 3600"),
        ("maxExpirationSeconds: 7862401", "long", "if provided, maxExpirationSeconds must be <= 7862400"),
        ("userAnnotations: {plain: x}", "plain", "must be a domain-prefixed key"),
    ] {
        let m = self::pod(pod, "", &[&source(SIGNER, "ED25519", &format!("keyPath: k, {path}"))]);
        let said = c.kubectl_fails(&["create", "-f", "-"], Some(&m));
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn nodes_ask_for_their_own_pods_and_signers_answer() {
    let c = Cluster::control_plane();
    let admin = Http::admin(&c);
    let as_node = |name: &str| {
        let user = format!("system:node:{name}");
        admin.clone().with_header("impersonate-user", &user).with_header("impersonate-group", "system:nodes")
    };
    let made = |path: &str, v: Value| {
        let a = admin.json("POST", path, &v);
        assert_eq!(a.code, 201, "{}", a.text());
        a.json()["metadata"]["uid"].clone()
    };
    let [one, two] = ["one", "two"].map(|n| made("/api/v1/nodes", json!({"metadata": {"name": n}})));
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = made(accounts, json!({"metadata": {"name": "sa"}}));
    let shows = json!([{"name": "t", "projected": {"sources": [{"podCertificate": {
        "signerName": SIGNER, "keyType": "ED25519", "keyPath": "k"}}]}}]);
    let pod = made(
        "/api/v1/namespaces/default/pods",
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "one", "serviceAccountName": "sa", "volumes": shows,
            "containers": [{"name": "c", "image": "none.test/none:1"}]}}),
    );
    let key = KeyPair::generate().expect("key");
    let csr = CertificateParams::default().serialize_request(&key).expect("request");
    let good = json!({"metadata": {"name": "r"}, "spec": {
        "signerName": SIGNER, "podName": "p", "podUID": pod, "serviceAccountName": "sa", "serviceAccountUID": account,
        "nodeName": "one", "nodeUID": one, "stubPKCS10Request": STANDARD.encode(csr.der())}});
    let changed = |spec: Value| {
        let mut v = good.clone();
        spec.as_object().into_iter().flatten().for_each(|(k, x)| v["spec"][k] = x.clone());
        v
    };
    let asks = |node: &str, v: &Value| as_node(node).json("POST", REQUESTS, v);
    for (node, v, code, part) in [
        ("two", good.clone(), 403, "which is not the requesting node \"two\""),
        ("two", changed(json!({"nodeName": "two", "nodeUID": two})), 403, "is not running on node \"two\""),
        ("one", changed(json!({"nodeUID": two})), 500, "inconsistent with the running node"),
        ("one", changed(json!({"podUID": "x"})), 500, "which differs from running pod"),
        ("one", changed(json!({"podName": "gone"})), 500, "pods \"gone\" not found"),
        (
            "one",
            changed(json!({"serviceAccountName": "default"})),
            403,
            "that differs from running pod (\"sa\")",
        ),
        (
            "one",
            changed(json!({"serviceAccountUID": "x"})),
            500,
            "which differs from the running service account",
        ),
        ("one", changed(json!({"signerName": "other.com/x"})), 403, "for signer \"other.com/x\""),
    ] {
        let a = asks(node, &v);
        assert!(a.code == code && a.message().contains(part), "{node} {v}: {} {}", a.code, a.message());
    }
    // A role may let a node ask for what its pods do not show.
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: more}\nrules: [{apiGroups: [certificates.k8s.io], resources: ['other.com:x'], verbs: [request-serviceaccounts-podcertificate-signer]}]\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: more}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: more}\nsubjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:nodes'}]\n";
    c.apply(role);
    let mut other = changed(json!({"signerName": "other.com/x"}));
    other["metadata"]["name"] = json!("other");
    wait_for("the role to hold", || asks("one", &other).code == 201);
    assert_eq!(asks("one", &good).code, 201);

    // Nodes see their own requests.
    let mine = "?fieldSelector=spec.nodeName%3Done";
    let gets = |node: &str, path: &str| as_node(node).get(&format!("{REQUESTS}{path}"));
    assert_eq!(gets("one", mine).json()["items"].as_array().map(Vec::len), Some(2));
    assert_eq!((gets("one", "/r").code, gets("one", "").code), (200, 403));
    assert_eq!((gets("two", mine).code, gets("two", "/r").code), (403, 403));
    let empty = gets("two", "?fieldSelector=spec.nodeName%3Dtwo").json();
    assert_eq!(empty["items"].as_array().map(Vec::len), Some(0));
    for (method, path) in [("PUT", "/r"), ("PUT", "/r/status"), ("DELETE", "/r")] {
        assert_eq!(
            as_node("one").json(method, &format!("{REQUESTS}{path}"), &good).code,
            403,
            "{method} {path}"
        );
    }

    // Who writes a status must be let sign for the signer.
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: writer}\nrules:\n- {apiGroups: [certificates.k8s.io], resources: [podcertificaterequests/status], verbs: [update, patch]}\n- {apiGroups: [certificates.k8s.io], resources: [signers], resourceNames: ['example.com/*'], verbs: [sign]}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: writer}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: writer}\nsubjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: jane}]\n";
    c.apply(role);
    let jane = admin.clone().with_header("impersonate-user", "jane");
    let denies = json!({"status": {"conditions": [condition("Denied", "No", "")]}}).to_string();
    let patch = [("content-type", "application/merge-patch+json")];
    let deny =
        |name: &str| jane.send("PATCH", &format!("{REQUESTS}/{name}/status"), &patch, denies.as_bytes());
    wait_for("the role to hold", || deny("r").code == 200);
    let a = deny("other");
    let why =
        "spec.signerName: Forbidden: User \"jane\" is not permitted to \"sign\" for signer \"other.com/x\"";
    assert!(a.code == 422 && a.message().contains(why), "{}", a.text());
    // A decision stays.
    let undone = br#"{"status": {"conditions": null}}"#;
    let a = admin.send("PATCH", &format!("{REQUESTS}/r/status"), &patch, undone);
    assert!(a.code == 422 && a.message().contains("immutable after"), "{}", a.text());
}
