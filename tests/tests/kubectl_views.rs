//! What kubectl shows of a control plane: output forms, selectors, rights, certificates, nodes, discovery.

use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine;
use testkit::{Background, Cluster, run, wait_for};

const NODE: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1}
status:
  allocatable: {cpu: "2", memory: 4Gi, pods: "10"}
  capacity: {cpu: "2", memory: 4Gi, pods: "10"}
  conditions: [{type: Ready, status: "True"}]
"#;

fn holds(text: &str, parts: &[&str]) {
    for p in parts {
        assert!(text.contains(p), "no {p:?} in:\n{text}");
    }
}

#[test]
fn output_forms_selectors_and_order() {
    let c = Cluster::control_plane();
    c.kubectl(&["create", "deployment", "web", "--image=busybox:1.36", "--replicas=3"]);
    let pods = |args: &[&str]| c.kubectl(&[&["get", "pods", "-l", "app=web"], args].concat());
    wait_for("three pods", || pods(&["-o", "name"]).lines().count() == 3);
    holds(&pods(&["-o", "wide"]), &["NOMINATED NODE", "READINESS GATES", "Pending"]);
    holds(&pods(&["--show-labels", "-L", "app"]), &["LABELS", "APP", "app=web,pod-template-hash="]);
    holds(&pods(&["-o", "yaml"]), &["kind: List", "schedulerName: default-scheduler"]);
    holds(
        &c.kubectl(&["get", "deploy/web", "-o", "json"]),
        &["\"kind\": \"Deployment\"", "\"progressDeadlineSeconds\": 600"],
    );
    assert_eq!(
        pods(&["-o", "jsonpath={range .items[*]}{.spec.containers[0].image} {end}"]),
        "busybox:1.36 ".repeat(3)
    );
    let columns = c.kubectl(&[
        "get",
        "deploy",
        "-o",
        "custom-columns=N:.metadata.name,I:.spec.template.spec.containers[*].image",
    ]);
    assert_eq!(columns, "N     I\nweb   busybox:1.36\n");
    assert_eq!(
        c.kubectl(&["get", "deploy", "-o", "go-template={{range .items}}{{.spec.replicas}};{{end}}"]),
        "3;"
    );
    assert_eq!(pods(&["--chunk-size=1", "-o", "name"]).lines().count(), 3);
    holds(&pods(&["--server-print=false"]), &["NAME", "AGE"]);
    assert_eq!(c.kubectl(&["get", "pods", "--field-selector=status.phase=Running", "-o", "name"]), "");
    assert_eq!(
        c.kubectl(&["get", "pods", "--field-selector=status.phase!=Running,spec.nodeName=", "-o", "name"])
            .lines()
            .count(),
        3
    );
    let unknown = c.kubectl_fails(&["get", "pods", "--field-selector=spec.foo=x"], None);
    holds(&unknown, &["field label not supported: spec.foo"]);
    let services = |key: &str| {
        c.kubectl(&[
            "get",
            "svc",
            "-n",
            "default",
            "--sort-by",
            key,
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ])
    };
    c.kubectl(&["create", "service", "clusterip", "aa", "--tcp=80"]);
    assert_eq!(services(".metadata.name"), "aa kubernetes");
    assert_eq!(services("{.metadata.creationTimestamp}"), "kubernetes aa");
    assert_eq!(c.kubectl(&["get", "pods", "-l", "app in (web,db),!x", "-o", "name"]).lines().count(), 3);
    assert_eq!(c.kubectl(&["get", "pods", "-l", "app notin (web)", "-o", "name"]), "");
    holds(&c.kubectl(&["get", "pods,deploy", "-A"]), &["NAMESPACE", "pod/web-", "deployment.apps/web"]);
    holds(&c.kubectl(&["get", "pod", "none", "--ignore-not-found"]), &[]);
    wait_for("events of all three", || {
        c.kubectl(&["get", "events", "--field-selector=reason=FailedScheduling", "-o", "name"])
            .lines()
            .count()
            == 3
    });
    holds(
        &c.kubectl(&["events", "--for", "deploy/web"]),
        &["ScalingReplicaSet", "Scaled up replica set web-"],
    );
    holds(&c.kubectl(&["events", "--types=Warning"]), &["FailedScheduling"]);
    let dump = c.kubectl(&["cluster-info", "dump"]);
    holds(&dump, &["\"kind\": \"EventList\"", "\"kind\": \"DeploymentList\""]);
}

#[test]
fn a_node_is_cordoned_tainted_and_drained() {
    let c = Cluster::with_flags(false, &["--disable", "metrics"]);
    c.apply(NODE);
    holds(&c.kubectl(&["get", "nodes"]), &["n1", "Ready"]);
    c.kubectl(&["cordon", "n1"]);
    holds(&c.kubectl(&["get", "nodes"]), &["Ready,SchedulingDisabled"]);
    c.kubectl(&["uncordon", "n1"]);
    c.kubectl(&["taint", "node", "n1", "a=b:NoSchedule"]);
    holds(&c.kubectl_fails(&["taint", "node", "n1", "a=b:NoSchedule"], None), &["--overwrite is false"]);
    holds(
        &c.kubectl(&["describe", "node", "n1"]),
        &["Taints:             a=b:NoSchedule", "Allocatable:", "Non-terminated Pods:          (0 in total)"],
    );
    c.kubectl(&["taint", "node", "n1", "a-"]);
    holds(&c.kubectl(&["drain", "n1", "--ignore-daemonsets"]), &["node/n1 cordoned", "node/n1 drained"]);
    holds(&c.kubectl_fails(&["top", "nodes"], None), &["Metrics API not available"]);
    holds(&c.kubectl_fails(&["top", "pods"], None), &["Metrics API not available"]);
}

#[test]
fn rights_identity_and_certificates() {
    let c = Cluster::control_plane();
    holds(&c.kubectl(&["auth", "whoami"]), &["kubernetes-admin", "system:masters"]);
    assert_eq!(c.kubectl(&["auth", "can-i", "create", "pods/exec"]), "yes\n");
    let denied = c.try_kubectl(&["auth", "can-i", "delete", "pods", "--as=eve"], None);
    assert!(!denied.ok && denied.stdout == "no\n", "{denied:?}");
    holds(
        &c.kubectl(&["auth", "can-i", "--list", "--as=eve"]),
        &["selfsubjectreviews.authentication.k8s.io", "[/healthz]"],
    );
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: rr, namespace: default}\n\
        rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n";
    let reconciled = c.try_kubectl(&["auth", "reconcile", "-f", "-"], Some(role));
    assert!(reconciled.ok && reconciled.stderr.contains("reconciliation required create"), "{reconciled:?}");
    holds(&c.kubectl(&["config", "view"]), &["current-context:", "DATA+OMITTED"]);
    holds(&c.kubectl(&["config", "get-contexts"]), &["CURRENT", "kubernetes-admin"]);

    let key = rcgen::KeyPair::generate().expect("key");
    let mut csr = rcgen::CertificateParams::default();
    csr.distinguished_name = rcgen::DistinguishedName::new();
    csr.distinguished_name.push(rcgen::DnType::CommonName, "bob");
    csr.distinguished_name.push(rcgen::DnType::OrganizationName, "devs");
    let csr = csr.serialize_request(&key).and_then(|r| r.pem()).expect("request");
    let request = base64::engine::general_purpose::STANDARD.encode(csr);
    for name in ["bob", "mallory"] {
        c.apply(&format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\n\
             spec: {{request: {request}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}\n"
        ));
    }
    holds(&c.kubectl(&["get", "csr", "bob"]), &["kubernetes-admin", "Pending"]);
    holds(&c.kubectl(&["certificate", "approve", "bob"]), &["approved"]);
    holds(&c.kubectl(&["certificate", "deny", "mallory"]), &["denied"]);
    holds(&c.kubectl(&["get", "csr"]), &["Approved", "Denied"]);
    wait_for("the certificate", || c.kubectl(&["get", "csr", "bob"]).contains("Approved,Issued"));
    let issued = c.kubectl(&["get", "csr", "bob", "-o", "jsonpath={.status.certificate}"]);
    let pem = base64::engine::general_purpose::STANDARD.decode(issued).expect("base64");
    assert!(String::from_utf8_lossy(&pem).starts_with("-----BEGIN CERTIFICATE-----"));
    holds(&c.kubectl(&["describe", "csr", "bob"]), &["Common Name:    bob", "Organization:   devs"]);
}

#[test]
fn discovery_explain_and_proxy() {
    let c = Cluster::control_plane();
    holds(&c.kubectl(&["version"]), &["Server Version: v1.37"]);
    holds(&c.kubectl(&["api-resources"]), &["deployments", "deploy", "apps/v1", "Deployment"]);
    let verbs = c.kubectl(&[
        "api-resources",
        "--verbs=list,watch",
        "--namespaced=false",
        "-o",
        "wide",
        "--api-group=",
    ]);
    holds(&verbs, &["namespaces", "create,delete,get,list,patch,update,watch"]);
    holds(&c.kubectl(&["api-resources", "--categories=all", "-o", "name"]), &["pods", "statefulsets.apps"]);
    holds(&c.kubectl(&["api-versions"]), &["apps/v1", "rbac.authorization.k8s.io/v1"]);
    holds(
        &c.kubectl(&["explain", "pod.spec.containers"]),
        &["FIELD: containers <[]Container>", "image\t<string>", "-required-"],
    );
    holds(
        &c.kubectl(&["explain", "deploy", "--recursive"]),
        &["rollingUpdate\t<RollingUpdateDeployment>", "maxSurge\t<IntOrString>"],
    );
    holds(&c.kubectl(&["explain", "hpa", "--api-version=autoscaling/v1"]), &["VERSION:    v1"]);
    holds(&c.kubectl_fails(&["explain", "pod.spec.none"], None), &["field \"none\" does not exist"]);
    holds(&c.kubectl(&["cluster-info"]), &["Kubernetes control plane is running at https://"]);
    holds(&c.kubectl(&["get", "--raw", "/readyz?verbose"]), &["readyz check passed"]);
    holds(&c.kubectl(&["get", "componentstatuses"]), &["Healthy"]);

    let mut proxy = Background::start(c.command(&["proxy", "--port=0"]));
    proxy.wait_text("Starting to serve on ");
    let text = proxy.text();
    let address = text.trim().rsplit(' ').next().expect("an address");
    let mut answer = String::new();
    let mut s = TcpStream::connect(address).expect("connect to the proxy");
    s.write_all(b"GET /api/v1/namespaces/default HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("ask");
    s.read_to_string(&mut answer).expect("answer");
    holds(&answer, &["200 OK", "\"name\":\"default\""]);
    // Clients before OpenAPI v3 ask for the protobuf form.
    let mut create = c.command(&["create", "--validate=strict", "-f", "-"]);
    let bad = run(
        create.env("KUBECTL_OPENAPIV3_PATCH", "false"),
        Some("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndta: {}\n"),
    );
    assert!(!bad.ok && bad.stderr.contains("unknown field \"dta\""), "{bad:?}");
}
