//! Hostile objects, patches, selectors and strings: what the API reads out of bodies and URLs.

use std::collections::BTreeMap;

use api::decode::{Expect, FieldValidation, decode, decode_value};
use serde_json::{Value, json};

const KINDS: [(&str, &str, &str); 9] = [
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Node"),
    ("apps", "v1", "Deployment"),
    ("batch", "v1", "CronJob"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
];

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"default","labels":{"app":"x"},
"finalizers":["a.b/c"],"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"o","uid":"u","controller":true}],
"managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{}}}]},
"spec":{"containers":[{"name":"c","image":"busybox:1.36","command":["sh"],"ports":[{"containerPort":80,"protocol":"TCP"}],
"env":[{"name":"A","value":"b"},{"name":"B","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],
"resources":{"limits":{"cpu":"500m","memory":"64Mi"}},"readinessProbe":{"httpGet":{"path":"/","port":"http"}},
"volumeMounts":[{"name":"v","mountPath":"/v"}],"securityContext":{"capabilities":{"add":["NET_ADMIN"]}}}],
"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Gi"}},{"name":"p","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}],
"tolerations":[{"key":"k","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],
"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":
[{"key":"a","operator":"In","values":["b"]}]}]}}},"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z",
"whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"a":"b"}}}]}}"#;
const SERVICE: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"s"},"spec":{"type":"NodePort","ports":
[{"port":80,"targetPort":"http","nodePort":30080}],"selector":{"a":"b"},"clusterIPs":["10.0.0.1"],"ipFamilies":["IPv4"]}}"#;
const DEPLOYMENT: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"replicas":3,
"selector":{"matchLabels":{"a":"b"}},"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},
"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
const CRONJOB: &str = r#"{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"c"},"spec":{"schedule":"*/5 * * * *",
"timeZone":"Europe/Berlin","jobTemplate":{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i"}],
"restartPolicy":"Never"}}}}}}"#;
const POLICY: &str = r#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"n"},"spec":
{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}],"ports":[{"port":80,
"endPort":90}]}]}}"#;

/// What a write goes through once its body is a value.
fn accept(group: &str, version: &str, kind: &str, mut v: Value) {
    let Some(definition) = api::schema::definition_for(group, version, kind) else { return };
    if let Some(d) = api::catalog::builtin().by_kind(group, kind) {
        let _ = d.to_hub(version, &mut v);
    }
    api::defaults::apply(group, version, kind, &mut v);
    api::canonical::canonicalize(&mut v, definition);
    let _ = api::validation::create(group, kind, &v);
    let _ = api::validation::update(group, kind, &v, &v);
    if let Ok(bytes) = api::protobuf::encode(&v) {
        let _ = api::protobuf::decode_as(&bytes, group, version, kind);
    }
    let _ = api::Object::from_value(v, 1).map(|o| o.to_json());
}

fn expect(kind: &'static (&str, &str, &str)) -> Option<Expect<'static>> {
    let (group, version, kind) = *kind;
    let definition = api::schema::definition_for(group, version, kind)?;
    Some(Expect { group, version, kind, definition })
}

#[test]
fn json_bodies() {
    let seeds = [POD, SERVICE, DEPLOYMENT, CRONJOB, POLICY, "{}", "null", "[1e999]"].map(str::as_bytes);
    fuzz::run("json_bodies", &seeds, 1, |b| {
        let _ = api::Object::from_wire(b);
        for kind in &KINDS {
            let Some(e) = expect(kind) else { continue };
            for mode in [FieldValidation::Warn, FieldValidation::Strict] {
                if let Ok(d) = decode(b, e, mode) {
                    accept(kind.0, kind.1, kind.2, d.value);
                }
            }
        }
    });
}

#[test]
fn yaml_bodies() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
        d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
        g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\ni: [*h,*h,*h,*h,*h,*h,*h,*h,*h]\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {n: 'y'}}\nspec:\n  containers:\n  - &c {name: c, image: i}\n  - *c\n";
    let seeds =
        [pod, bomb, "? [a]\n: 1\n", "<<: {a: 1}\n", "--- !!binary aGk=\n", "1: 2\n"].map(str::as_bytes);
    fuzz::run("yaml_bodies", &seeds, 1, |b| {
        let Ok(v) = serde_norway::from_slice::<Value>(b) else { return };
        for kind in &KINDS {
            let Some(e) = expect(kind) else { continue };
            if let Ok(d) = decode_value(v.clone(), e, FieldValidation::Warn) {
                accept(kind.0, kind.1, kind.2, d.value);
            }
        }
    });
}

#[test]
fn protobuf_bodies() {
    let seeds: Vec<Vec<u8>> = [POD, SERVICE, DEPLOYMENT, CRONJOB, POLICY]
        .iter()
        .filter_map(|s| api::protobuf::encode(&serde_json::from_str(s).ok()?).ok())
        .collect();
    assert!(seeds.len() >= 4, "the seeds themselves must encode");
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    fuzz::run("protobuf_bodies", &seeds, 1, |b| {
        if let Ok(v) = api::protobuf::decode(b) {
            let _ = api::protobuf::encode(&v);
            let text = |k: &str| v[k].as_str().unwrap_or_default().to_owned();
            let (version, kind) = (text("apiVersion"), text("kind"));
            let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
            accept(group, version, &kind, v.clone());
        }
        for (group, version, kind) in KINDS {
            let _ = api::protobuf::decode_as(b, group, version, kind);
        }
    });
}

#[test]
fn patches() {
    let seeds = [
        r#"[{"op":"add","path":"/spec/containers/-","value":{"name":"d"}},{"op":"test","path":"/kind","value":"Pod"}]"#,
        r#"[{"op":"move","from":"/spec","path":"/spec/x"},{"op":"copy","from":"/metadata","path":"/spec/containers/0/a~1b"}]"#,
        r#"[{"op":"remove","path":"/spec/containers/18446744073709551615"},{"op":"replace","path":"","value":null}]"#,
        r#"{"spec":{"containers":[{"name":"c","image":null,"$patch":"delete"}],"$setElementOrder/containers":[{"name":"c"}]}}"#,
        r#"{"spec":{"$retainKeys":["containers"],"tolerations":[{"$patch":"replace"}]},"metadata":{"$deleteFromPrimitiveList/finalizers":["a.b/c"]}}"#,
        r#"{"f:metadata":{"f:labels":{"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{}}}}}"#,
        r#"v:{"a":1}"#,
    ]
    .map(str::as_bytes);
    let doc: Value = serde_json::from_str(POD).expect("the pod");
    fuzz::run("patches", &seeds, 1, move |b| {
        if let Ok(p) = patch::JsonPatch::parse(b) {
            let _ = p.apply(doc.clone());
        }
        if let Ok(p) = patch::merge::parse(b) {
            let _ = patch::merge_patch(&doc, &Value::Object(p));
        }
        if let (Ok(p), Some(d)) = (patch::strategic::parse(b), api::schema::definition_for("", "v1", "Pod")) {
            let _ = patch::strategic::apply(&doc, &Value::Object(p), patch::Type::of(d));
        }
        if let Ok(v) = serde_json::from_slice::<Value>(b)
            && let Ok(set) = patch::apply::Set::from_fields(&v)
        {
            let again = patch::apply::Set::from_fields(&set.to_fields());
            assert!(again.is_ok_and(|a| a.len() == set.len()), "a field set does not survive its own text");
        }
        if let Ok(s) = std::str::from_utf8(b) {
            let _ = patch::apply::PathElement::decode(s);
        }
    });
}

#[test]
fn selectors() {
    let seeds = [
        "a=b,c!=d",
        "x in (a,b),y notin (c),z,!w",
        "a>1,b<2",
        "a.b/c==d",
        "metadata.name=x,status.phase!=y",
        "a\\,b=c\\=d",
    ]
    .map(str::as_bytes);
    fuzz::run("selectors", &seeds, 1, |b| {
        let Ok(s) = std::str::from_utf8(b) else { return };
        let labels: BTreeMap<String, String> = [("a".to_owned(), "5".to_owned())].into();
        if let Ok(sel) = api::selector::LabelSelector::parse(s) {
            let _ = sel.matches(&labels);
        }
        if let Ok(sel) = api::selector::FieldSelector::parse(s) {
            let _ = sel.matches_values(&[("metadata.name", "x".into())]);
        }
        if let Ok(v) = serde_json::from_slice::<Value>(b) {
            let _ = api::selector::LabelSelector::from_value(&v).map(|sel| sel.matches(&labels));
        }
        let v =
            json!({"matchExpressions": [{"key": s, "operator": s, "values": [s]}], "matchLabels": {s: s}});
        let _ = api::selector::LabelSelector::from_value(&v);
    });
}

#[test]
fn strings() {
    let seeds = ["1", "1.5Gi", "-0.000000001n", "1e3", "1E18", "9223372036854775807Ei", "0.1m", "+5k", "2026-01-02T03:04:05.678901Z",
        "2026-12-31T23:59:60+14:00", "*/5 1-3,7 * jan-dec sun", "@hourly", "a.b/c-d_e", "10.0.0.0/8", "fd00::/64", "50%",
        "docker.io/library/busybox:1.36@sha256:0000000000000000000000000000000000000000000000000000000000000000", "1m30s"]
    .map(str::as_bytes);
    fuzz::run("strings", &seeds, 1, |b| {
        let Ok(s) = std::str::from_utf8(b) else { return };
        if let Ok(q) = api::quantity::Quantity::parse(s) {
            let (text, again) = (q.to_string(), api::quantity::canonical(&q.to_string()));
            assert_eq!(
                again.ok().as_deref(),
                Some(text.as_str()),
                "a quantity's own text is another quantity"
            );
            let _ = (q.value(), q.milli_value(), q.as_f64(), q.round_up(-3), q.scaled(3));
        }
        let _ = api::time::parse(s).map(api::time::format);
        let _ = api::time::canonical_micro(s);
        if let (Ok(c), Some(z)) = (api::cron::Schedule::parse(s), api::cron::zone("Europe/Berlin")) {
            let _ = c.next(jiff::Timestamp::UNIX_EPOCH, &z);
        }
        use api::validation::names as n;
        for rule in [
            n::dns1123_label,
            n::dns1123_subdomain,
            n::qualified_name,
            n::label_value,
            n::env_var_name,
            n::config_key,
        ] {
            let _ = rule(s);
        }
        let _ = (n::port_name(s), n::percent_value(s), n::ip(s), n::path_segment(s, true));
        if let Some((ip, len)) = n::parse_cidr(s) {
            let _ = n::mask(ip, len);
        }
        let _ = runtime::images::reference::Reference::parse(s).map(|r| r.name());
        let _ = cel::functions::duration(s);
        let _ = kubelet::containers::netfiles::parse_resolv_conf(s);
        let _ = kubelet::containers::expand::expand(s, &|_| Some("x".into()));
    });
}
