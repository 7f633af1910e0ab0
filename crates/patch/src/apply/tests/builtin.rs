//! On real kinds, with the entries a real cluster shows.

use super::*;

fn manager<'a>(v: &'a OneVersion<'a>, kind: &'a str, filter: Option<&'a Filter>) -> FieldManager<'a> {
    FieldManager { versions: v, api_version: v.api_version, kind, subresource: "", filter }
}

fn ty(group: &str, kind: &str) -> Type<'static> {
    Type::of(api::schema::definition_for(group, "v1", kind).unwrap())
}

#[test]
fn a_deployment_made_by_create() {
    let v = OneVersion { api_version: "apps/v1", ty: ty("apps", "Deployment") };
    let filter = filter::builtin("apps", "deployments", "").unwrap();
    let m = manager(&v, "Deployment", Some(&filter));
    let new = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"dnsPolicy": "ClusterFirst", "securityContext": {},
                "containers": [{"name": "c", "image": "nginx", "resources": {},
                    "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}},
        "status": {"replicas": 1}});
    assert_eq!(
        owners(&m.update(None, new, "kubectl-create", NOW))["kubectl-create"],
        json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {"f:dnsPolicy": {}, "f:securityContext": {},
                        "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {},
                            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                                {".": {}, "f:containerPort": {}, "f:protocol": {}}}}}}}}})
    );
}

#[test]
fn an_autoscaler_and_an_applier() {
    let v = OneVersion { api_version: "apps/v1", ty: ty("apps", "Deployment") };
    let m = manager(&v, "Deployment", None);
    let config = |replicas: Option<u32>, image: &str| {
        let mut c = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
        if let Some(r) = replicas {
            c["spec"]["replicas"] = json!(r);
        }
        c
    };
    let mut live = m.apply(None, &config(Some(1), "a"), "me", false, NOW).unwrap().object;
    live["metadata"]["uid"] = json!("u");
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(5);
    let live = m.update(Some(&live), scaled, "kube-controller-manager", NOW);
    let e = m.apply(Some(&live), &config(Some(2), "b"), "me", false, NOW).unwrap_err();
    assert_eq!(
        e.to_string(),
        "Apply failed with 1 conflict: conflict with \"kube-controller-manager\" using apps/v1: .spec.replicas"
    );
    let out = m.apply(Some(&live), &config(None, "b"), "me", false, NOW).unwrap().object;
    assert_eq!(out["spec"]["replicas"], 5);
    assert_eq!(out["spec"]["template"]["spec"]["containers"][0]["image"], "b");
}

#[test]
fn services_and_their_ports() {
    let v = OneVersion { api_version: "v1", ty: ty("", "Service") };
    let m = manager(&v, "Service", None);
    let svc = |ports: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"ports": ports, "selector": {"a": "b"}}})
    };
    let mut live = m.apply(None, &svc(json!([{"port": 80}])), "a", false, NOW).unwrap().object;
    live["metadata"]["uid"] = json!("u");
    live["spec"]["ports"][0]["protocol"] = json!("TCP");
    let out = m
        .apply(
            Some(&live),
            &svc(json!([{"port": 80, "targetPort": 8080}, {"port": 80, "protocol": "UDP"}])),
            "a",
            false,
            NOW,
        )
        .unwrap()
        .object;
    assert_eq!(
        out["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "targetPort": 8080}, {"port": 80, "protocol": "UDP"}])
    );
    // The selector is atomic.
    let other = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"x": "y"}}});
    let e = m.apply(Some(&out), &other, "b", false, NOW).unwrap_err();
    assert!(e.to_string().ends_with(".spec.selector"), "{e}");
}

#[test]
fn config_maps_and_metadata() {
    let v = OneVersion { api_version: "v1", ty: ty("", "ConfigMap") };
    let m = manager(&v, "ConfigMap", None);
    let cm = |data: Value, meta: Value| {
        let mut c = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
        for (k, x) in meta.as_object().into_iter().flatten() {
            c["metadata"][k] = x.clone();
        }
        c
    };
    let mut live = m
        .apply(
            None,
            &cm(json!({"a": "1"}), json!({"finalizers": ["x/a"], "labels": {"l": "1"}})),
            "a",
            false,
            NOW,
        )
        .unwrap()
        .object;
    live["metadata"]["uid"] = json!("u");
    let live = m
        .apply(
            Some(&live),
            &cm(
                json!({"b": "2"}),
                json!({"finalizers": ["x/b"], "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1"}]}),
            ),
            "b",
            false,
            NOW,
        )
        .unwrap()
        .object;
    assert_eq!(live["data"], json!({"a": "1", "b": "2"}));
    assert_eq!(live["metadata"]["finalizers"], json!(["x/a", "x/b"]));
    assert_eq!(
        owners(&live)["b"],
        json!({"f:data": {"f:b": {}}, "f:metadata": {"f:finalizers": {"v:\"x/b\"": {}},
            "f:ownerReferences": {"k:{\"uid\":\"1\"}": {}}}})
    );
    let gone = m.apply(Some(&live), &cm(json!({}), json!({})), "a", false, NOW).unwrap().object;
    assert_eq!((&gone["data"], &gone["metadata"]["finalizers"]), (&json!({"b": "2"}), &json!(["x/b"])));
    assert!(gone["metadata"].get("labels").is_none());
}

#[test]
fn unknown_fields_are_refused_by_path() {
    let v = OneVersion { api_version: "v1", ty: ty("", "Pod") };
    let m = manager(&v, "Pod", None);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
        "spec": {"containers": [{"name": "c", "imagee": "x"}]}});
    assert_eq!(
        m.apply(None, &pod, "a", false, NOW).unwrap_err().to_string(),
        "failed to create typed patch object (n/p; /v1, Kind=Pod): .spec.containers[name=\"c\"].imagee: field not \
         declared in schema"
    );
}

#[test]
fn versions_of_the_catalog() {
    let catalog = api::catalog::builtin();
    let d = catalog.by_plural("apps", "deployments").unwrap();
    let v = CatalogVersions(d);
    assert!(v.ty("apps/v1").is_some_and(|t| t.definition().is_some()));
    assert!(v.ty("extensions/v1beta1").is_none() && v.ty("v1").is_none());
    assert!(!v.may_have_changed());
    let hpa = CatalogVersions(catalog.by_plural("autoscaling", "horizontalpodautoscalers").unwrap());
    let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "D", "name": "d"}}});
    let v1 = hpa.convert(&v2, "autoscaling/v2", "autoscaling/v1").unwrap();
    assert_eq!(v1["apiVersion"], "autoscaling/v1");
    assert_eq!(v1["spec"]["maxReplicas"], 3);
}

#[test]
fn applying_a_scale_is_applying_replicas() {
    let v = OneVersion { api_version: "apps/v1", ty: ty("apps", "Deployment") };
    let m = manager(&v, "Deployment", None);
    let d = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {}}});
    let mut live = m.apply(None, &d, "owner", false, NOW).unwrap().object;
    live["metadata"]["uid"] = json!("u");
    let body = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 3}});
    let config = scale::parent_config(&body, "apps/v1", "Deployment", &["spec", "replicas"]);
    let at_scale = FieldManager { subresource: "scale", ..m };
    let e = at_scale.apply(Some(&live), &config, "scaler", false, NOW).unwrap_err();
    assert_eq!(e.to_string(), "Apply failed with 1 conflict: conflict with \"owner\": .spec.replicas");
    let out = at_scale.apply(Some(&live), &config, "scaler", true, NOW).unwrap().object;
    assert_eq!(out["spec"]["replicas"], 3);
    assert_eq!(
        owners(&out),
        json!({"owner": {"f:spec": {"f:selector": {}}}, "scaler": {"f:spec": {"f:replicas": {}}}})
    );
}

#[test]
fn what_go_clients_send_along_does_no_harm() {
    let v = OneVersion { api_version: "apps/v1", ty: ty("apps", "Deployment") };
    let filter = filter::builtin("apps", "deployments", "").unwrap();
    let m = manager(&v, "Deployment", Some(&filter));
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "creationTimestamp": null},
        "spec": {"replicas": 1, "selector": {}, "strategy": {}, "template": {"metadata": {"creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "resources": {}}]}}}, "status": {}});
    let out = m.apply(None, &config, "go", false, NOW).unwrap().object;
    assert_eq!(
        owners(&out)["go"],
        json!({"f:spec": {"f:replicas": {}, "f:selector": {}, "f:strategy": {},
            "f:template": {"f:metadata": {"f:creationTimestamp": {}},
                "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:resources": {}}}}}}})
    );
}

#[test]
fn volumes_and_env_by_name() {
    let v = OneVersion { api_version: "v1", ty: ty("", "Pod") };
    let m = manager(&v, "Pod", None);
    let pod = |env: Value, volumes: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "env": env}], "volumes": volumes}})
    };
    let mut live = m
        .apply(
            None,
            &pod(json!([{"name": "A", "value": "1"}]), json!([{"name": "v", "emptyDir": {}}])),
            "a",
            false,
            NOW,
        )
        .unwrap()
        .object;
    live["metadata"]["uid"] = json!("u");
    let both = m
        .apply(
            Some(&live),
            &pod(
                json!([{"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
                json!([]),
            ),
            "b",
            false,
            NOW,
        )
        .unwrap()
        .object;
    assert_eq!(both.pointer("/spec/containers/0/env/1/name"), Some(&json!("B")));
    // One source of a volume for another: the old one goes because nobody asks for it any more.
    let other = m
        .apply(
            Some(&both),
            &pod(json!([{"name": "A", "value": "1"}]), json!([{"name": "v", "hostPath": {"path": "/x"}}])),
            "a",
            false,
            NOW,
        )
        .unwrap()
        .object;
    assert_eq!(other["spec"]["volumes"], json!([{"name": "v", "hostPath": {"path": "/x"}}]));
    assert_eq!(other.pointer("/spec/containers/0/env").and_then(Value::as_array).map(Vec::len), Some(2));
}
