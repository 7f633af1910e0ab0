//! Service accounts, their tokens and what they may do (test/e2e/auth/service_accounts.go, subjectreviews.go).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use testkit::http::Http;
use testkit::{node_possible, skip, wait_for};

use crate::world::{Tests, World, assert_holds, event, newer, version};

pub const TESTS: Tests = &[
    ("[sig-auth] ServiceAccounts should mount an API token into pods [Conformance]", mounted_token),
    ("[sig-auth] ServiceAccounts should allow opting out of API token automount [Conformance]", opting_out),
    (
        "[sig-auth] ServiceAccounts should mount projected service account token [Conformance]",
        projected_token,
    ),
    (
        "[sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer [Conformance]",
        issuer_discovery,
    ),
    (
        "[sig-auth] ServiceAccounts should run through the lifecycle of a ServiceAccount [Conformance]",
        lifecycle,
    ),
    (
        "[sig-auth] ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace [Conformance]",
        root_ca,
    ),
    ("[sig-auth] ServiceAccounts should update a ServiceAccount [Conformance]", update),
    (
        "[sig-auth] ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview [Conformance]",
        token_and_review,
    ),
    ("[sig-auth] SubjectReview should support SubjectReview API operations [Conformance]", subject_review),
];

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn accounts(w: &World) -> String {
    w.path("api/v1", "serviceaccounts")
}

fn account(w: &World, name: &str) -> Value {
    w.create(&accounts(w), &json!({"metadata": {"name": name}}))
}

fn review(w: &World, token: &str) -> Value {
    let review = w.create("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": {"token": token}}));
    let status = &review["status"];
    assert_eq!(status["authenticated"], true, "{review}");
    assert!(status["error"].is_null(), "{review}");
    status.clone()
}

fn mounted_token(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    let user = format!("system:serviceaccount:{}:mounts", w.namespace);
    account(w, "mounts");
    let container = json!({"name": "c", "image": "busybox:1.36", "command": ["sleep", "100000"]});
    w.create(
        &w.path("api/v1", "pods"),
        &json!({
            "metadata": {"name": "pod"},
            "spec": {
                "serviceAccountName": "mounts", "terminationGracePeriodSeconds": 0, "restartPolicy": "Never",
                "containers": [container],
            },
        }),
    );
    w.kubectl(&["wait", "--for=condition=Ready", "pod/pod", "--timeout=90s"]);
    let read = |file: &str| w.kubectl(&["exec", "pod", "--", "cat", &format!("{MOUNT}/{file}")]);
    assert_eq!(read("ca.crt"), w.get(&w.path("api/v1", "configmaps/kube-root-ca.crt"))["data"]["ca.crt"]);
    assert_eq!(read("namespace"), w.namespace);

    let pod = w.get(&w.path("api/v1", "pods/pod"));
    let node = pod["spec"]["nodeName"].as_str().expect("a node");
    let node = w.get(&format!("/api/v1/nodes/{node}"));
    let status = review(w, &read("token"));
    assert_eq!(status["user"]["username"], user);
    let groups = status["user"]["groups"].as_array().expect("groups");
    let own = format!("system:serviceaccounts:{}", w.namespace);
    for group in ["system:authenticated", "system:serviceaccounts", &own] {
        assert!(groups.iter().any(|g| g == group), "no {group} in {groups:?}");
    }
    let extra = |name: &str| status["user"]["extra"][format!("authentication.kubernetes.io/{name}")].clone();
    for (name, object) in [("pod", &pod), ("node", &node)] {
        assert_eq!(extra(&format!("{name}-name")), json!([object["metadata"]["name"]]));
        assert_eq!(extra(&format!("{name}-uid")), json!([object["metadata"]["uid"]]));
    }
    let id = extra("credential-id");
    assert_eq!(id.as_array().map(Vec::len), Some(1));
    assert!(id[0].as_str().is_some_and(|id| id.starts_with("JTI=")), "{id}");
}

fn opting_out(w: &World) {
    for (name, mounts) in [("mount", true), ("nomount", false)] {
        w.create(&accounts(w), &json!({"metadata": {"name": name}, "automountServiceAccountToken": mounts}));
    }
    for account in ["default", "mount", "nomount"] {
        for asked in [None, Some(true), Some(false)] {
            // What the pod says counts more.
            let wanted = asked.unwrap_or(account != "nomount");
            let pod = w.create(
                &w.path("api/v1", "pods"),
                &json!({
                    "metadata": {"generateName": "pod-"},
                    "spec": {
                        "serviceAccountName": account, "automountServiceAccountToken": asked,
                        "nodeSelector": {"of-no": "node"}, "restartPolicy": "Never",
                        "containers": [{"name": "c", "image": "busybox:1.36"}],
                    },
                }),
            );
            let mounts =
                pod["spec"]["containers"][0]["volumeMounts"].as_array().map_or(&[][..], Vec::as_slice);
            let mounted = mounts.iter().any(|m| m["mountPath"] == MOUNT);
            assert_eq!(mounted, wanted, "account {account}, asked for {asked:?}: {pod}");
        }
    }
}

/// The output of a pod that runs a script to its end, with a token at `/tokens/token`.
fn said_with_token(w: &World, token: &Value, script: &str) -> String {
    let container = json!({
        "name": "c", "image": "busybox:1.36", "command": ["sh", "-ec", script],
        "volumeMounts": [{"name": "tokens", "mountPath": "/tokens", "readOnly": true}],
    });
    let volume = json!({"name": "tokens", "projected": {"sources": [{"serviceAccountToken": token}]}});
    let path = w.path("api/v1", "pods");
    let spec = json!({"restartPolicy": "Never", "containers": [container], "volumes": [volume]});
    w.create(&path, &json!({"metadata": {"name": "pod"}, "spec": spec}));
    let phase = || w.get(&format!("{path}/pod"))["status"]["phase"].clone();
    wait_for("the end of the pod", || phase() == "Succeeded" || phase() == "Failed");
    let log = w.kubectl(&["logs", "pod"]);
    assert_eq!(phase(), "Succeeded", "{log}");
    log
}

fn decoded(part: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(part).expect("base64")
}

/// What a token says in its first part, and in its second.
fn said_by(token: &str) -> [Value; 2] {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "{token}");
    [0, 1].map(|i| serde_json::from_slice(&decoded(parts[i])).expect("JSON"))
}

/// That one of the keys has signed a token.
fn verify(token: &str, keys: &Value) {
    let [header, _] = said_by(token);
    assert_eq!(header["alg"], "ES256");
    let key = keys["keys"].as_array().and_then(|l| l.iter().find(|k| k["kid"] == header["kid"]));
    let key = key.unwrap_or_else(|| panic!("no key for {header} in {keys}"));
    assert_holds(key, &json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig"}));
    let [x, y] = ["x", "y"].map(|c| decoded(key[c].as_str().expect("a coordinate")));
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [vec![4], x, y].concat());
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    key.verify(signed.as_bytes(), &decoded(signature)).expect("the signature holds");
}

fn projected_token(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    let token = json!({"path": "token", "expirationSeconds": 3600});
    let token = said_with_token(w, &token, "cat /tokens/token");
    let [_, claims] = said_by(&token);
    assert_eq!(claims["sub"], format!("system:serviceaccount:{}:default", w.namespace));
    let lives = claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(exp, iat)| exp - iat);
    assert_eq!(lives, Some(3600), "{claims}");
    review(w, &token);
}

fn issuer_discovery(w: &World) {
    if !node_possible() {
        return skip("running containers needs root");
    }
    // Who may read these paths is bound to that role; by default, nobody in particular.
    w.create_for_test(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        &json!({
            "metadata": {"name": format!("{}-discovers-the-issuer", w.namespace)},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "system:service-account-issuer-discovery",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": w.namespace}],
        }),
    );
    // The image has no TLS to speak of: the pod reaches what is to be asked, and the test asks it as the pod.
    let known = w.get(CONFIGURATION);
    let [issuer, keys] = ["issuer", "jwks_uri"].map(|field| Place::of(known[field].as_str().expect("a URL")));
    let reach = |p: &Place| format!("nc -w 5 {} {} </dev/null >/dev/null", p.host, p.port);
    let script =
        format!("cat /tokens/token; echo; cat {MOUNT}/token; echo; {}; {}", reach(&issuer), reach(&keys));
    let audience = "oidc-discovery-test";
    let token = json!({"path": "token", "expirationSeconds": 600, "audience": audience});
    let said = said_with_token(w, &token, &script);
    let lines: Vec<&str> = said.lines().collect();
    let [token, bearer] = lines[..] else { panic!("{said}") };
    let ask = |place: &Place, path: &str| -> Value {
        let pod = Http::nobody(w.cluster).under(&place.host);
        let mut answer = None;
        wait_for("the binding", || {
            let got = pod.clone().with_header("authorization", &format!("Bearer {bearer}")).get(path);
            assert!(matches!(got.code, 200 | 403), "{}", got.text());
            answer = (got.code == 200).then(|| got.json());
            answer.is_some()
        });
        answer.unwrap_or_default()
    };
    let configuration = ask(&issuer, &format!("{}{CONFIGURATION}", issuer.path));
    verify(token, &ask(&keys, &keys.path));
    let [header, claims] = said_by(token);
    assert_eq!(claims["iss"], configuration["issuer"]);
    assert_eq!(claims["aud"], json!([audience]));
    assert_holds(
        &claims["kubernetes.io"],
        &json!({"namespace": w.namespace, "serviceaccount": {"name": "default"}}),
    );
    let algorithms = &configuration["id_token_signing_alg_values_supported"];
    assert!(algorithms.as_array().is_some_and(|l| l.contains(&header["alg"])), "{algorithms}");
}

const CONFIGURATION: &str = "/.well-known/openid-configuration";

/// Where an HTTPS URL leads.
struct Place {
    host: String,
    port: String,
    path: String,
}

impl Place {
    fn of(url: &str) -> Self {
        let rest = url.strip_prefix("https://").unwrap_or_else(|| panic!("no HTTPS: {url}"));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
        Self { host: host.to_owned(), port: port.to_owned(), path: path.to_owned() }
    }
}

fn lifecycle(w: &World) {
    let path = format!("{}/account", accounts(w));
    let selected = format!("labelSelector=of%3D{}", w.namespace);
    let from = version(&w.get(&accounts(w))).to_owned();
    let labels = json!({"of": w.namespace});
    let created = w.create(&accounts(w), &json!({"metadata": {"name": "account", "labels": labels}}));
    assert_eq!(w.get(&path)["metadata"]["uid"], created["metadata"]["uid"]);
    let mut lines = w.watch(&accounts(w), &from, &selected);
    event(&mut lines, "ADDED", |_| true);

    let patch = json!({"automountServiceAccountToken": false});
    assert!(newer(&w.patch(&path, "strategic-merge-patch+json", &patch), &created));
    assert_holds(&event(&mut lines, "MODIFIED", |_| true), &patch);
    let all = w.items(&format!("/api/v1/serviceaccounts?{selected}"));
    assert_eq!(all.len(), 1);
    assert_holds(&all[0], &json!({"metadata": {"name": "account"}, "automountServiceAccountToken": false}));

    w.delete(&accounts(w));
    event(&mut lines, "DELETED", |_| true);
    assert!(w.gone(&path));
}

fn root_ca(w: &World) {
    let path = w.path("api/v1", "configmaps/kube-root-ca.crt");
    let is_there = || !w.gone(&path);
    wait_for("the map", is_there);
    let made = w.get(&path);
    w.delete(&path);
    wait_for("another map", || is_there() && w.get(&path)["metadata"]["uid"] != made["metadata"]["uid"]);
    assert_eq!(w.get(&path)["data"], made["data"]);
    let empty = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}});
    w.ask("PUT", &path, &empty, 200);
    wait_for("the map to be corrected", || w.get(&path)["data"] == made["data"]);
}

fn update(w: &World) {
    let created = w.create(
        &accounts(w),
        &json!({"metadata": {"name": "account"}, "automountServiceAccountToken": false}),
    );
    assert_eq!(created["automountServiceAccountToken"], false);
    let path = format!("{}/account", accounts(w));
    let updated = w.update(&path, "", |o| o["automountServiceAccountToken"] = true.into());
    assert_eq!(updated["automountServiceAccountToken"], true);
    assert_eq!(w.get(&path)["automountServiceAccountToken"], true);
}

fn token_and_review(w: &World) {
    account(w, "account");
    let made = w.create(&format!("{}/account/token", accounts(w)), &json!({}));
    let token = made["status"]["token"].as_str().expect("a token");
    let status = review(w, token);
    assert_eq!(status["user"]["username"], format!("system:serviceaccount:{}:account", w.namespace));
}

fn subject_review(w: &World) {
    let account = account(w, "account");
    let user = format!("system:serviceaccount:{}:account", w.namespace);
    let uid = account["metadata"]["uid"].as_str().expect("a uid");
    let own = format!("system:serviceaccounts:{}", w.namespace);
    let groups = ["system:authenticated", "system:serviceaccounts", &own];
    let attributes =
        json!({"verb": "list", "resource": "configmaps", "namespace": w.namespace, "version": "v1"});
    let spec = json!({"resourceAttributes": attributes, "user": user, "groups": groups, "uid": uid});
    let group = "apis/authorization.k8s.io/v1";
    let allowed = |path: &str, metadata: &Value| {
        let review = w.create(path, &json!({"metadata": metadata, "spec": spec}));
        review["status"]["allowed"].as_bool().expect("an answer")
    };
    let mut impersonator = Http::admin(w.cluster).with_header("impersonate-user", &user);
    impersonator = impersonator.with_header("impersonate-uid", uid);
    for group in groups {
        impersonator = impersonator.with_header("impersonate-group", group);
    }
    // What reviews say is what happens.
    let all_say = |wanted: bool| {
        let local = w.path(group, "localsubjectaccessreviews");
        let done = match impersonator.get(&w.path("api/v1", "configmaps")).code {
            200 => true,
            403 => false,
            other => panic!("{other}"),
        };
        [
            allowed(&format!("/{group}/subjectaccessreviews"), &json!({})),
            allowed(&local, &json!({"namespace": w.namespace})),
            done,
        ]
        .iter()
        .all(|said| *said == wanted)
    };
    assert!(all_say(false));
    w.kubectl(&[
        "create",
        "rolebinding",
        "views",
        "--clusterrole=view",
        &format!("--serviceaccount={}:account", w.namespace),
    ]);
    wait_for("the binding", || all_say(true));
}
