//! What extends the API, as real processes beside the cluster: a conversion webhook by URL, an extension API server behind
//! a Service, and a front proxy that speaks for its users.

use e2e::extension::Extension;
use testkit::http::Http;
use testkit::{Background, Cluster, wait_for};

const POINTS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: points.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: points, singular: point, kind: Point}
  conversion:
    strategy: Webhook
    webhook: {conversionReviewVersions: [v1], clientConfig: {url: 'URL', caBundle: CA}}
  versions:
  - {name: v1, served: true, storage: STORE1, schema: {openAPIV3Schema: {type: object, properties: {hostPort: {type: string}}}}}
  - {name: v2, served: true, storage: STORE2, schema: {openAPIV3Schema: {type: object, properties: {host: {type: string}, port: {type: string}}}}}
"#;

#[test]
fn a_webhook_converts_custom_resources() {
    let c = Cluster::control_plane();
    let e = Extension::start(&c, &[]);
    let definition = |v1: &str, v2: &str| {
        let url = format!("https://127.0.0.1:{}/convert", e.port);
        POINTS.replace("URL", &url).replace("CA", &e.ca).replace("STORE1", v1).replace("STORE2", v2)
    };
    c.apply(&definition("true", "false"));
    c.kubectl(&["wait", "--for=condition=Established", "crd/points.stable.example.com", "--timeout=60s"]);
    let point = |version: &str, name: &str, fields: &str| {
        format!(
            "apiVersion: stable.example.com/{version}\nkind: Point\nmetadata: {{name: {name}}}\n{fields}\n"
        )
    };
    let old = point("v1", "old", "hostPort: localhost:8080");
    wait_for("the first object", || c.try_kubectl(&["apply", "-f", "-"], Some(&old)).ok);
    let get = |version: &str, what: &str, path: &str| {
        c.kubectl(&[
            "get",
            &format!("points.{version}.stable.example.com"),
            what,
            "-o",
            &format!("jsonpath={path}"),
        ])
    };
    assert_eq!(get("v2", "old", "{.apiVersion} {.host} {.port}"), "stable.example.com/v2 localhost 8080");
    c.apply(&definition("false", "true"));
    let stored = ["get", "crd", "points.stable.example.com", "-o", "jsonpath={.status.storedVersions[*]}"];
    wait_for("both versions to be noted", || c.kubectl(&stored) == "v1 v2");
    c.apply(&point("v2", "new", "host: h\nport: \"1\""));
    assert_eq!(get("v1", "new", "{.hostPort}"), "h:1");
    // kubectl asks for a list in one version, whatever is stored.
    for (version, shown) in [("v1", "h:1 localhost:8080"), ("v2", "1 8080")] {
        let path = if version == "v1" { "{.items[*].hostPort}" } else { "{.items[*].port}" };
        let resource = format!("points.{version}.stable.example.com");
        assert_eq!(c.kubectl(&["get", &resource, "-o", &format!("jsonpath={path}")]), shown);
    }
    c.kubectl(&[
        "patch",
        "points.v1.stable.example.com",
        "old",
        "--type=merge",
        "-p",
        r#"{"hostPort":"far:2"}"#,
    ]);
    assert_eq!(get("v2", "old", "{.host}:{.port}"), "far:2");
    // Without its webhook the other version can't be had, and says why.
    drop(e);
    let said = c.kubectl_fails(&["get", "points.v1.stable.example.com", "new"], None);
    assert!(
        said.contains(
            "conversion webhook for stable.example.com/v2, Kind=Point failed: Post \"https://127.0.0.1:"
        ),
        "{said}"
    );
    assert_eq!(get("v2", "new", "{.host}"), "h");
}

#[test]
fn an_extension_server_answers_its_group() {
    let c = Cluster::control_plane();
    let mut e = Extension::start(&c, &["wardle.default.svc"]);
    e.service("wardle", 443).iter().for_each(|o| drop(c.apply(&o.to_string())));
    let ca = &e.ca;
    c.apply(&format!(
        r#"
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1alpha1.wardle.example.com}}
spec: {{group: wardle.example.com, version: v1alpha1, groupPriorityMinimum: 2000, versionPriority: 200, service: {{namespace: default, name: wardle}}, caBundle: {ca}}}
"#
    ));
    let available =
        ["wait", "--for=condition=Available", "apiservice/v1alpha1.wardle.example.com", "--timeout=60s"];
    c.kubectl(&available);
    let table = c.kubectl(&["get", "apiservices"]);
    let line = |name: &str| {
        table.lines().find(|l| l.starts_with(name)).unwrap_or_default().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("v1alpha1.wardle.example.com ")[1..3], ["default/wardle", "True"], "{table}");
    assert_eq!(line("v1.apps ")[1..3], ["Local", "True"], "{table}");

    // kubectl works with it like with any kind.
    let shown = c.kubectl(&["api-resources", "--api-group=wardle.example.com"]);
    assert!(shown.contains("flunders") && shown.contains("Flunder"), "{shown}");
    assert!(c.kubectl(&["api-versions"]).contains("wardle.example.com/v1alpha1"));
    let flunder = "apiVersion: wardle.example.com/v1alpha1\nkind: Flunder\nmetadata: {name: one}\n";
    let create =
        |ns: &str| c.try_kubectl(&["-n", ns, "create", "--validate=false", "-f", "-"], Some(flunder));
    let made = create("default");
    assert!(made.ok, "{}", made.stderr);
    assert_eq!(
        c.kubectl(&["get", "fl", "one", "-o", r"jsonpath={.metadata.annotations.made-by}"]),
        "kubernetes-admin"
    );
    let mut watching = Background::start(c.command(&["get", "flunders", "-w", "-o", "name"]));
    watching.wait_text("flunder.wardle.example.com/one");
    let said = c.kubectl_fails(&["get", "flunders", "none"], None);
    assert!(said.contains("flunders \"none\" not found"), "{said}");
    let said = c.kubectl_fails(&["get", "flunders", "--as=jane"], None);
    assert!(
        said.contains("User \"jane\" cannot list resource \"flunders\" in API group \"wardle.example.com\""),
        "{said}"
    );
    // A namespace that ends takes them along.
    c.kubectl(&["create", "namespace", "other"]);
    assert!(create("other").ok);
    c.kubectl(&["delete", "namespace", "other", "--timeout=90s"]);
    assert_eq!(c.kubectl(&["get", "flunders", "-A", "-o", "name"]).trim(), "flunder.wardle.example.com/one");
    c.kubectl(&["delete", "flunder", "one", "--timeout=60s"]);

    // It is gone, and comes back.
    e.stop();
    let condition = [
        "get",
        "apiservice",
        "v1alpha1.wardle.example.com",
        "-o",
        "jsonpath={.status.conditions[0].status} {.status.conditions[0].reason}",
    ];
    // A request that fails has it looked at anew.
    wait_for("the failure to be noticed", || {
        c.try_kubectl(&["get", "--raw", "/apis/wardle.example.com/v1alpha1"], None);
        c.kubectl(&condition) == "False FailedDiscoveryCheck"
    });
    let said = c.kubectl_fails(&["get", "--raw", "/apis/wardle.example.com/v1alpha1/flunders"], None);
    assert!(
        said.contains("service unavailable") || said.contains("currently unable to handle the request"),
        "{said}"
    );
    e.run();
    c.kubectl(&available);
    c.kubectl(&["delete", "apiservice", "v1alpha1.wardle.example.com"]);
    wait_for("the group to be gone", || !c.kubectl(&["api-versions"]).contains("wardle"));
}

#[test]
fn a_front_proxy_speaks_for_its_users() {
    let c = Cluster::control_plane();
    let read = |name: &str| std::fs::read_to_string(format!("{}/pki/{name}", c.data())).expect("a key");
    let proxy =
        || Http::with_certificate(&c, &read("front-proxy-client.crt"), &read("front-proxy-client.key"));
    let review = serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let ask = |h: &Http| h.json("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", &review);
    let jane = proxy().with_header("X-Remote-User", "jane").with_header("X-Remote-Group", "devs");
    let info = ask(&jane).json()["status"]["userInfo"].clone();
    assert_eq!(
        (&info["username"], &info["groups"]),
        (&"jane".into(), &serde_json::json!(["devs", "system:authenticated"]))
    );
    assert_eq!(jane.get("/api/v1/secrets").code, 403);
    assert_eq!(ask(&proxy()).code, 401);
    let admin = Http::admin(&c).with_header("X-Remote-User", "jane");
    assert_eq!(ask(&admin).json()["status"]["userInfo"]["username"], "kubernetes-admin");
}
