//! Mistakes that another implementation of this API was seen to make, one test each.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testkit::http::Http;
use testkit::{Cluster, wait_for};

const CMS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn start() -> (Cluster, Http) {
    let c = Cluster::control_plane();
    let http = Http::admin(&c);
    wait_for("the default service account", || {
        http.get("/api/v1/namespaces/default/serviceaccounts/default").code == 200
    });
    (c, http)
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

fn made(http: &Http, path: &str, v: &Value) -> Value {
    let a = http.json("POST", path, v);
    assert_eq!(a.code, 201, "{}", a.text());
    a.json()
}

fn patch(http: &Http, path: &str, media: &str, body: &Value) -> testkit::http::Answer {
    http.send("PATCH", path, &[("content-type", media)], body.to_string().as_bytes())
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 0,
        "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"name": "d", "image": "i:1"}]}}}})
}

#[test]
fn short_names_are_resolved() {
    let (c, _) = start();
    for (short, path) in [
        ("cm", "configmap/kube-root-ca.crt"),
        ("sa", "serviceaccount/default"),
        ("svc", "service/kubernetes"),
    ] {
        wait_for(path, || c.try_kubectl(&["get", short, "-o", "name"], None).stdout.contains(path));
    }
    for short in
        ["po", "deploy", "rs", "ds", "sts", "rc", "ep", "pvc", "hpa", "cj", "netpol", "pdb", "ing", "all"]
    {
        c.kubectl(&["get", short]);
    }
    for short in ["no", "ns", "pv", "sc", "pc", "csr", "crd"] {
        c.kubectl(&["get", short]);
    }
}

#[test]
fn a_watch_is_no_list_and_begins_with_the_whole_state() {
    let (_c, http) = start();
    let names: BTreeSet<String> = (0..20).map(|i| format!("c{i}")).collect();
    for n in &names {
        made(&http, CMS, &config_map(n));
    }
    for q in ["watch=1", "watch=true", "watch", "watch=1&resourceVersion=0", "watch=1&resourceVersion="] {
        let mut w = http.lines(&format!("{CMS}?{q}"), &[]);
        assert_eq!(w.code, 200, "{q}");
        let mut seen = BTreeSet::new();
        while !names.is_subset(&seen) {
            let e = w.event().expect("an event");
            assert_eq!(e["type"], "ADDED", "{q}: {e}");
            assert_eq!(e["object"]["kind"], "ConfigMap");
            assert!(
                seen.insert(e["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned()),
                "{q}: twice: {e}"
            );
        }
    }
    for q in ["watch=0", "watch=false"] {
        assert_eq!(http.get(&format!("{CMS}?{q}")).json()["kind"], "ConfigMapList");
    }
}

#[test]
fn a_watch_of_tables_says_its_columns_once() {
    let (_c, http) = start();
    for n in ["a", "b", "c"] {
        made(&http, CMS, &config_map(n));
    }
    let accept = [("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")];
    let mut w =
        http.lines(&format!("{CMS}?watch=1&fieldSelector=metadata.name!%3Dkube-root-ca.crt"), &accept);
    for n in 0..3 {
        let e = w.event().expect("an event");
        let table = &e["object"];
        assert_eq!((&e["type"], &table["kind"]), (&json!("ADDED"), &json!("Table")));
        assert_eq!(table["rows"][0]["cells"].as_array().map(Vec::len), Some(3), "{e}");
        let columns = &table["columnDefinitions"];
        assert_eq!(columns.as_array().map(Vec::len), (n == 0).then_some(3), "{e}");
        assert!(n == 0 || columns.is_null(), "{e}");
    }
}

#[test]
fn a_resumed_watch_replays_nothing() {
    let (_c, http) = start();
    let mut at = made(&http, CMS, &config_map("a"))["metadata"]["resourceVersion"].clone();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut last = 0u64;
    for round in 0..10 {
        let mut w = http.lines(&format!("{CMS}?watch=1&resourceVersion={}", text(&at)), &[]);
        for i in 0..5 {
            let a = patch(
                &http,
                &format!("{CMS}/a"),
                "application/merge-patch+json",
                &json!({"data": {"k": format!("{round}-{i}")}}),
            );
            assert_eq!(a.code, 200);
        }
        // Left in the middle: three are read now, two by the next watch, which is asked for from the third on.
        let mut w2 = None;
        for i in 0..5 {
            if i == 3 {
                w2 = Some(http.lines(&format!("{CMS}?watch=1&resourceVersion={}", text(&at)), &[]));
            }
            let e = w2.as_mut().unwrap_or(&mut w).event().expect("an event");
            assert_eq!(
                (e["type"].as_str(), text(&e["object"]["data"]["k"])),
                (Some("MODIFIED"), format!("{round}-{i}"))
            );
            at = e["object"]["metadata"]["resourceVersion"].clone();
            let now: u64 = text(&at).parse().expect("a version");
            assert!(now > last, "{now} after {last}");
            last = now;
        }
    }
}

#[test]
fn an_empty_list_has_a_version_to_watch_from() {
    let (_c, http) = start();
    made(&http, CMS, &config_map("before"));
    let empty = http.get("/apis/apps/v1/namespaces/default/statefulsets").json();
    assert_eq!(empty["items"], json!([]));
    let at: u64 =
        empty["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse().expect("a version");
    let after = made(&http, CMS, &config_map("after"));
    let after: u64 =
        after["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse().expect("a version");
    assert!(at < after && at > 1, "{at} {after}");
    let mut w = http.lines(&format!("{CMS}?watch=1&resourceVersion={at}"), &[]);
    loop {
        let e = w.event().expect("an event");
        let name = e["object"]["metadata"]["name"].clone();
        assert_ne!(name, "before", "{e}");
        if name == "after" {
            break;
        }
    }
}

#[test]
fn nothing_is_made_in_a_namespace_that_is_missing() {
    let (_c, http) = start();
    let there = "namespaces \"nowhere\" not found";
    for (path, v) in [
        ("/api/v1/namespaces/nowhere/configmaps", config_map("a")),
        ("/api/v1/namespaces/nowhere/configmaps", json!({"metadata": {"generateName": "a-"}})),
        (
            "/api/v1/namespaces/nowhere/pods",
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        ),
        ("/apis/apps/v1/namespaces/nowhere/deployments", deployment("d")),
        ("/apis/coordination.k8s.io/v1/namespaces/nowhere/leases", json!({"metadata": {"name": "l"}})),
        (
            "/api/v1/namespaces/nowhere/events",
            json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "nowhere"}}),
        ),
    ] {
        let a = http.json("POST", path, &v);
        assert_eq!((a.code, a.message().as_str()), (404, there), "{path}");
    }
    let mut v = config_map("a");
    v["apiVersion"] = json!("v1");
    v["kind"] = json!("ConfigMap");
    let a = patch(
        &http,
        "/api/v1/namespaces/nowhere/configmaps/a?fieldManager=m",
        "application/apply-patch+yaml",
        &v,
    );
    assert_eq!((a.code, a.message().as_str()), (404, there));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (_c, http) = start();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut v = deployment("d");
        change(&mut v["spec"]);
        http.json("POST", DEPLOYMENTS, &v)
    };
    for (a, field, message) in [
        (
            with(&|s| s["replicas"] = json!(-1)),
            "spec.replicas",
            "Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            with(&|s| s["template"]["spec"]["containers"][0]["image"] = json!("")),
            "spec.template.spec.containers[0].image",
            "Required value",
        ),
        (
            with(&|s| s["template"]["metadata"]["labels"]["a"] = json!("c")),
            "spec.template.metadata.labels",
            "Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`",
        ),
        (
            with(&|s| s["selector"] = json!({})),
            "spec.selector",
            "Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            with(&|s| s["template"]["spec"]["containers"] = json!([])),
            "spec.template.spec.containers",
            "Required value",
        ),
        (
            with(&|s| s["template"]["spec"]["restartPolicy"] = json!("Never")),
            "spec.template.spec.restartPolicy",
            "Unsupported value: \"Never\": supported values: \"Always\"",
        ),
    ] {
        let causes = a.json()["details"]["causes"].clone();
        let found =
            causes.as_array().into_iter().flatten().any(|c| c["field"] == field && c["message"] == message);
        assert!(a.code == 422 && found, "{field}: {}", a.text());
    }
}

#[test]
fn what_must_not_change_does_not() {
    let (_c, http) = start();
    made(&http, DEPLOYMENTS, &deployment("d"));
    let merge = "application/merge-patch+json";
    let a = patch(
        &http,
        &format!("{DEPLOYMENTS}/d"),
        merge,
        &json!({"spec": {"selector": {"matchLabels": {"a": "c"}}, "template": {"metadata": {"labels": {"a": "c"}}}}}),
    );
    assert!(
        a.code == 422
            && a.message().contains("spec.selector: Invalid value: ")
            && a.message().contains("field is immutable"),
        "{}",
        a.text()
    );
    made(
        &http,
        "/api/v1/namespaces/default/secrets",
        &json!({"metadata": {"name": "s"}, "type": "Opaque", "immutable": true, "stringData": {"a": "b"}}),
    );
    let secret = "/api/v1/namespaces/default/secrets/s";
    for body in [json!({"data": {"a": "Yw=="}}), json!({"immutable": false}), json!({"type": "other"})] {
        assert_eq!(patch(&http, secret, merge, &body).code, 422, "{body}");
    }
    made(
        &http,
        "/api/v1/namespaces/default/services",
        &json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}),
    );
    let a = patch(
        &http,
        "/api/v1/namespaces/default/services/s",
        merge,
        &json!({"spec": {"clusterIP": "10.96.77.77", "clusterIPs": ["10.96.77.77"]}}),
    );
    assert_eq!(a.code, 422, "{}", a.text());
    made(
        &http,
        "/api/v1/namespaces/default/pods",
        &json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
    );
    let a = patch(&http, "/api/v1/namespaces/default/pods/p", merge, &json!({"spec": {"hostNetwork": true}}));
    assert!(
        a.code == 422 && a.message().contains("pod updates may not change fields other than"),
        "{}",
        a.text()
    );
    let a = patch(
        &http,
        &format!("{CMS}/kube-root-ca.crt"),
        merge,
        &json!({"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "generation": 77, "selfLink": "x"}}),
    );
    assert!(
        a.code != 200 || a.json()["metadata"]["creationTimestamp"] != "2001-01-01T00:00:00Z",
        "{}",
        a.text()
    );
}

#[test]
fn quota_and_delete_preconditions_hold() {
    let (c, http) = start();
    c.kubectl(&["create", "quota", "q", "--hard=count/secrets=1"]);
    wait_for("the first count", || {
        c.kubectl(&["get", "quota", "q", "-o", "jsonpath={.status.used}"]).contains("count/secrets")
    });
    made(&http, "/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "one"}}));
    let a = http.json("POST", "/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "two"}}));
    assert!(a.code == 403 && a.message().contains("exceeded quota: q"), "{}", a.text());
    let cm = made(&http, CMS, &config_map("a"));
    for wrong in [
        json!({"uid": "x"}),
        json!({"resourceVersion": "1"}),
        json!({"uid": cm["metadata"]["uid"], "resourceVersion": "1"}),
    ] {
        assert_eq!(
            http.json("DELETE", &format!("{CMS}/a"), &json!({"preconditions": wrong})).code,
            409,
            "{wrong}"
        );
    }
    let right = json!({"uid": cm["metadata"]["uid"], "resourceVersion": cm["metadata"]["resourceVersion"]});
    assert_eq!(http.json("DELETE", &format!("{CMS}/a"), &json!({"preconditions": right})).code, 200);
}

#[test]
fn patch_directives_work_in_lists_of_containers() {
    let (_c, http) = start();
    made(&http, DEPLOYMENTS, &deployment("d"));
    let strategic = "application/strategic-merge-patch+json";
    let change = |containers: Value| {
        let a = patch(
            &http,
            &format!("{DEPLOYMENTS}/d"),
            strategic,
            &json!({"spec": {"template": {"spec": {"containers": containers}}}}),
        );
        assert_eq!(a.code, 200, "{}", a.text());
        a.json()["spec"]["template"]["spec"]["containers"].clone()
    };
    let after = change(json!([{"name": "c", "env": [{"name": "A", "$patch": "delete"}]}]));
    assert_eq!(after[0]["env"], json!([{"name": "B", "value": "2"}]));
    let after = change(json!([{"name": "d", "$patch": "delete"}]));
    assert_eq!(after.as_array().map(Vec::len), Some(1));
    let after = change(json!([{"name": "c", "env": [{"name": "C", "value": "3"}, {"$patch": "replace"}]}]));
    assert_eq!(after[0]["env"], json!([{"name": "C", "value": "3"}]));
    let after = change(json!([{"$patch": "replace"}, {"name": "e", "image": "i:2"}]));
    assert_eq!((after.as_array().map(Vec::len), after[0]["name"].as_str()), (Some(1), Some("e")));
}

#[test]
fn ownership_goes_down_to_the_field() {
    let (_c, http) = start();
    let apply = |manager: &str, v: Value| {
        patch(&http, &format!("{DEPLOYMENTS}/d?fieldManager={manager}"), "application/apply-patch+yaml", &v)
    };
    assert_eq!(apply("one", deployment("d")).code, 201);
    let part = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
    let env = |name: &str, value: &str| {
        part(
            json!({"template": {"spec": {"containers": [{"name": "c", "env": [{"name": name, "value": value}]}]}}}),
        )
    };
    // Another variable of the same container is nobody's business; the same one is.
    assert_eq!(apply("two", env("Z", "1")).code, 200);
    let a = apply("two", env("A", "other"));
    assert_eq!(a.code, 409, "{}", a.text());
    assert_eq!(
        a.json()["details"]["causes"][0]["field"],
        ".spec.template.spec.containers[name=\"c\"].env[name=\"A\"].value"
    );
    // The owner's next apply takes away what it owned alone and no longer lists, and nothing else.
    let mut next = deployment("d");
    next["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "B", "value": "2"}]);
    let a = apply("one", next);
    assert_eq!(a.code, 200);
    let mut left: Vec<String> = a.json()["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|e| e["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["B", "Z"]);
    let managed = a.json()["metadata"]["managedFields"].to_string();
    assert!(managed.contains("k:{\\\"name\\\":\\\"Z\\\"}"), "{managed}");
}

#[test]
fn memory_of_big_lists_is_given_back() {
    let (c, http) = start();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
    };
    for i in 0..40 {
        let mut v = config_map(&format!("big-{i}"));
        v["data"]["k"] = json!("x".repeat(700_000));
        made(&http, CMS, &v);
    }
    let before = resident();
    for accept in [
        "application/json",
        "application/vnd.kubernetes.protobuf",
        "application/json;as=Table;g=meta.k8s.io;v=v1",
    ] {
        for _ in 0..10 {
            let a = http.send("GET", CMS, &[("accept", accept)], b"");
            assert_eq!(a.code, 200);
        }
    }
    // 28 MB each time: what stays may be a few of them, not all thirty.
    wait_for("the memory to come back", || resident() < before + 300);
}
