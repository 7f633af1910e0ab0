//! kubectl's commands on objects, end to end on a control plane alone: what each prints and what it changes.

use std::os::unix::fs::PermissionsExt;

use testkit::{Background, Cluster, Output, run, wait_for};

const MAPS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {set: one}}\ndata: {k: v}\n---\n\
    apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, labels: {set: one}}\n";

fn first(manifest: &str) -> &str {
    manifest.split("---").next().unwrap_or_default()
}

fn file(c: &Cluster, name: &str, text: &str) -> String {
    let path = c.dir().join(name);
    std::fs::write(&path, text).expect("write a file");
    path.to_string_lossy().into_owned()
}

/// Runs `kubectl edit` with a script in place of the editor.
fn edit(c: &Cluster, script: &str, args: &[&str]) -> Output {
    let path = file(c, "editor", &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let mut command = c.command(&[&["edit"], args].concat());
    run(command.env("KUBE_EDITOR", path), None)
}

fn web(c: &Cluster) {
    c.kubectl(&["create", "deployment", "web", "--image=busybox:1.36", "--replicas=2", "--port=8080"]);
    wait_for("two pods", || c.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).lines().count() == 2);
}

fn holds(text: &str, parts: &[&str]) {
    for p in parts {
        assert!(text.contains(p), "no {p:?} in:\n{text}");
    }
}

#[test]
fn edit_changes_and_refuses() {
    let c = Cluster::control_plane();
    web(&c);
    let edited = edit(
        &c,
        "sed -i 's/minReadySeconds: .*/minReadySeconds: 7/; s/^  replicas: 2/  replicas: 3/' \"$1\"",
        &["deploy/web"],
    );
    assert!(edited.ok && edited.stdout.contains("deployment.apps/web edited"), "{edited:?}");
    assert_eq!(c.kubectl(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"]), "3");
    let same = edit(&c, "true", &["deploy/web"]);
    assert!(same.ok && same.stderr.contains("no changes made"), "{same:?}");
    let kept = c.dir().join("reopened");
    let script = format!(
        "if grep -q 'was not valid' \"$1\"; then cp \"$1\" {}; else sed -i 's/^  replicas: 3/  replicas: -1/' \"$1\"; fi",
        kept.display()
    );
    let refused = edit(&c, &script, &["deploy/web"]);
    assert!(!refused.ok && refused.stderr.contains("deployments.apps \"web\" is invalid"), "{refused:?}");
    let reopened = std::fs::read_to_string(kept).expect("the file that was opened again");
    holds(&reopened, &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]);
    // A status is edited past its controller, so only that it is accepted can be told.
    let status = edit(&c, "sed -i '/observedGeneration/d' \"$1\"", &["deploy/web", "--subresource=status"]);
    assert!(status.ok, "{status:?}");
    holds(&c.kubectl(&["get", "deploy", "web", "--subresource=scale"]), &["DESIRED", "AVAILABLE"]);
}

#[test]
fn watches_show_changes_and_wait_ends() {
    let c = Cluster::control_plane();
    c.apply(MAPS);
    let mut all = Background::start(c.command(&["get", "configmaps", "-w", "--output-watch-events"]));
    all.wait_text("kube-root-ca.crt");
    c.kubectl(&["delete", "configmap", "b"]);
    all.wait_text("DELETED");
    let only = Background::start(c.command(&[
        "get",
        "configmap",
        "a",
        "--watch-only",
        "-o",
        "jsonpath={.metadata.labels.n};",
    ]));
    let mut n = 0;
    wait_for("a change alone", || {
        n += 1;
        c.kubectl(&["label", "--overwrite", "configmap", "a", &format!("n=change-{n}")]);
        only.text().contains("change-")
    });
    c.kubectl(&["wait", "--for=jsonpath={.data.k}=v", "configmap/a", "--timeout=90s"]);
    c.kubectl(&["wait", "--for=delete", "configmap/b", "--timeout=90s"]);
    let mut created =
        Background::start(c.command(&["wait", "--for=create", "configmap/late", "--timeout=90s"]));
    c.kubectl(&["create", "configmap", "late"]);
    created.wait_text("configmap/late condition met");
    c.kubectl(&["create", "deployment", "none", "--image=x"]);
    let missed = c.kubectl_fails(&["wait", "--for=condition=Available", "deploy/none", "--timeout=1s"], None);
    holds(&missed, &["timed out waiting for the condition on deployments/none"]);
}

#[test]
fn patches_labels_and_annotations() {
    let c = Cluster::control_plane();
    web(&c);
    let get = |path: &str| c.kubectl(&["get", "deploy", "web", "-o", &format!("jsonpath={{{path}}}")]);
    let patch = |kind: &str, body: &str| c.kubectl(&["patch", "deploy", "web", "--type", kind, "-p", body]);
    patch(
        "strategic",
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"busybox","env":[{"name":"A","value":"B"}]}]}}}}"#,
    );
    assert_eq!(get(".spec.template.spec.containers[0].image"), "busybox:1.36");
    assert_eq!(get(".spec.template.spec.containers[0].env[0].value"), "B");
    patch("merge", r#"{"spec":{"minReadySeconds":3}}"#);
    patch(
        "json",
        r#"[{"op":"test","path":"/spec/minReadySeconds","value":3},{"op":"replace","path":"/spec/minReadySeconds","value":4}]"#,
    );
    assert_eq!(get(".spec.minReadySeconds"), "4");
    assert!(
        c.kubectl(&["patch", "deploy", "web", "-p", r#"{"spec":{"minReadySeconds":4}}"#])
            .contains("patched (no change)")
    );
    let failed = c.kubectl_fails(
        &["patch", "deploy", "web", "--type=json", "-p", r#"[{"op":"remove","path":"/spec/nothing"}]"#],
        None,
    );
    holds(
        &failed,
        &["The request is invalid: the server rejected our request due to an error in our request"],
    );
    c.kubectl(&[
        "patch",
        "deploy",
        "web",
        "--subresource=scale",
        "--type=merge",
        "-p",
        r#"{"spec":{"replicas":1}}"#,
    ]);
    assert_eq!(get(".spec.replicas"), "1");
    c.kubectl(&["label", "deploy", "web", "a=b"]);
    holds(
        &c.kubectl_fails(&["label", "deploy", "web", "a=c"], None),
        &["'a' already has a value (b), and --overwrite is false"],
    );
    c.kubectl(&["label", "--overwrite", "deploy", "web", "a=c"]);
    holds(&c.kubectl(&["label", "deploy", "web", "--list"]), &["a=c", "app=web"]);
    c.kubectl(&["label", "deploy", "web", "a-"]);
    c.kubectl(&["annotate", "deploy", "web", "note=some words"]);
    assert_eq!(
        (get(".metadata.labels.a"), get(".metadata.annotations.note")),
        (String::new(), "some words".into())
    );
}

#[test]
fn every_generator_creates_and_describe_tells_of_it() {
    let c = Cluster::control_plane();
    let pair = rcgen::generate_simple_self_signed(vec!["x".into()]).expect("a certificate");
    let key = file(&c, "k.pem", &pair.signing_key.serialize_pem());
    let cert = file(&c, "c.pem", &pair.cert.pem());
    // What follows `create`, the object, and what `describe` says of it.
    let made: &[(&str, &str, &str)] = &[
        ("namespace team", "ns/team", "Status:       Active"),
        ("deployment web --image=busybox:1.36 --replicas=2", "deploy/web", "2 desired"),
        ("service clusterip web --tcp=80:8080", "svc/web", "8080/TCP"),
        ("service nodeport np --tcp=80:8080", "svc/np", "NodePort:"),
        ("service loadbalancer lb --tcp=80", "svc/lb", "LoadBalancer"),
        ("service externalname en --external-name=example.org", "svc/en", "example.org"),
        ("secret generic s --from-literal=a=b", "secret/s", "a:  1 bytes"),
        (
            "secret docker-registry dr --docker-username=a --docker-password=b --docker-server=c",
            "secret/dr",
            ".dockerconfigjson",
        ),
        ("configmap cm --from-literal=a=b", "cm/cm", "Data\n====\na:\n----\nb"),
        ("role r --verb=get --resource=pods", "role/r", "pods"),
        ("rolebinding rb --role=r --user=eve", "rolebinding/rb", "User  eve"),
        ("clusterrole cr --verb=get --resource=pods", "clusterrole/cr", "[get]"),
        ("clusterrolebinding crb --clusterrole=cr --group=g", "clusterrolebinding/crb", "Group  g"),
        ("ingress i --rule=foo.com/bar=web:80,tls=cert", "ing/i", "cert terminates foo.com"),
        ("poddisruptionbudget p --selector=app=web --min-available=1", "pdb/p", "Min available:  1"),
        ("quota q --hard=pods=100", "quota/q", "100"),
        ("serviceaccount sa", "sa/sa", "sa"),
        ("priorityclass pc --value=1000 --description=words", "pc/pc", "Value:             1000"),
        ("job j --image=busybox:1.36 -- true", "job/j", "Parallelism:      1"),
        ("cronjob cj --image=busybox:1.36 --schedule=@yearly -- true", "cronjob/cj", "@yearly"),
        ("job j2 --from=cronjob/cj", "job/j2", "Controlled By:    CronJob/cj"),
    ];
    for (args, object, says) in made {
        let args: Vec<&str> = ["create"].into_iter().chain(args.split(' ')).collect();
        holds(&c.kubectl(&args), &[" created"]);
        holds(&c.kubectl(&["describe", object]), &[says]);
        if !args.contains(&"--") {
            let again = c.try_kubectl(&[&args[..], &["--dry-run=server"]].concat(), None);
            assert!(!again.ok && again.stderr.contains("already exists"), "{args:?}: {again:?}");
        }
    }
    c.kubectl(&["create", "secret", "tls", "t", &format!("--cert={cert}"), &format!("--key={key}")]);
    assert_eq!(c.kubectl(&["get", "secret", "t", "-o", "jsonpath={.type}"]), "kubernetes.io/tls");
    assert_eq!(
        c.kubectl(&["create", "token", "sa", "--duration=1h", "--audience=x"]).trim().split('.').count(),
        3
    );
    c.kubectl(&["autoscale", "deployment", "web", "--min=1", "--max=3", "--cpu=80%"]);
    holds(&c.kubectl(&["describe", "hpa", "web"]), &["resource cpu on pods", "<unknown> / 80%"]);
    c.kubectl(&["expose", "deployment", "web", "--port=80", "--name=exposed"]);
    c.kubectl(&["run", "p", "--image=busybox:1.36", "--labels=x=y"]);
    wait_for("the scheduler's word", || {
        c.kubectl(&["describe", "pod", "p"]).contains("no nodes available to schedule pods")
    });
    wait_for("the deployment's event", || {
        let d = c.kubectl(&["describe", "deploy", "web"]);
        d.contains("deployment-controller  Scaled up replica set web-")
    });
    for kind in [
        "node",
        "pv",
        "pvc",
        "sc",
        "netpol",
        "sts",
        "ds",
        "limitrange",
        "csr",
        "lease",
        "ingressclass",
        "crd",
    ] {
        c.kubectl(&["describe", kind]);
    }
    for kind in
        ["rs", "endpoints", "endpointslice", "ns", "svc/kubernetes", "clusterrole/edit", "flowschema/exempt"]
    {
        holds(&c.kubectl(&["describe", kind]), &["Name:"]);
    }
    let all = c.kubectl(&["get", "all"]);
    holds(
        &all,
        &[
            "pod/p",
            "service/web",
            "deployment.apps/web",
            "replicaset.apps/web-",
            "cronjob.batch/cj",
            "job.batch/j",
            "horizontalpodautoscaler.autoscaling/web",
        ],
    );
}

#[test]
fn apply_prunes_replaces_diffs_and_deletes() {
    let c = Cluster::control_plane();
    let names = || c.kubectl(&["get", "configmaps", "-l", "set=one", "-o", "name"]);
    let both = file(&c, "both.yaml", MAPS);
    let one = file(&c, "one.yaml", first(MAPS));
    c.kubectl(&["apply", "-f", &both]);
    let pruned =
        c.kubectl(&["apply", "-f", &one, "--prune", "-l", "set=one", "--prune-allowlist=core/v1/ConfigMap"]);
    holds(&pruned, &["configmap/a unchanged", "configmap/b pruned"]);
    let applyset = |f: &str| {
        let mut command =
            c.command(&["apply", "-n", "default", "-f", f, "--prune", "--applyset=configmaps/set"]);
        run(command.env("KUBECTL_APPLYSET", "true"), None)
    };
    c.kubectl(&["delete", "-f", &one]);
    let set = applyset(&both);
    assert!(set.ok && names().lines().count() == 2, "{set:?}");
    let set = applyset(&one);
    assert!(set.ok && set.stdout.contains("configmap/b pruned"), "{set:?}");
    let diff = c.try_kubectl(&["diff", "-f", &both], None);
    holds(&diff.stdout, &["+  name: b"]);
    c.kubectl(&["apply", "-f", &both]);
    assert!(c.try_kubectl(&["diff", "-f", &both], None).ok, "nothing differs after an apply");
    holds(&c.kubectl(&["apply", "view-last-applied", "cm", "a"]), &["set: one"]);
    holds(&c.kubectl(&["replace", "-f", &both]), &["configmap/a replaced"]);
    let uid = || c.kubectl(&["get", "cm", "a", "-o", "jsonpath={.metadata.uid}"]);
    let before = uid();
    c.kubectl(&["replace", "--force", "-f", &both]);
    assert_ne!(uid(), before);
    holds(
        &c.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &both]),
        &["configmap/a serverside-applied"],
    );
    c.kubectl(&["delete", "configmap", "--field-selector=metadata.name=b"]);
    assert_eq!(names(), "configmap/a\n");
    holds(&c.kubectl(&["delete", "configmap", "--all", "--dry-run=server"]), &["(server dry run)"]);
    c.kubectl(&["delete", "configmap", "-l", "set=one"]);
    assert_eq!(names(), "");
    c.kubectl(&["delete", "configmap", "none", "--ignore-not-found"]);
    std::fs::create_dir_all(c.dir().join("k")).expect("directory");
    file(&c, "k/maps.yaml", MAPS);
    file(
        &c,
        "k/kustomization.yaml",
        "namePrefix: k-\nresources: [maps.yaml]\nconfigMapGenerator: [{name: g, literals: [a=b]}]\n",
    );
    let k = c.dir().join("k").to_string_lossy().into_owned();
    holds(&c.kubectl(&["kustomize", &k]), &["name: k-a", "name: k-g-"]);
    holds(&c.kubectl(&["apply", "-k", &k]), &["configmap/k-a created"]);
    c.kubectl(&["delete", "-k", &k]);
}

#[test]
fn rollouts_and_set() {
    let c = Cluster::control_plane();
    web(&c);
    let template = |path: &str| {
        c.kubectl(&["get", "deploy", "web", "-o", &format!("jsonpath={{.spec.template.spec{path}}}")])
    };
    c.kubectl(&["rollout", "pause", "deploy/web"]);
    holds(&c.kubectl_fails(&["rollout", "pause", "deploy/web"], None), &["is already paused"]);
    c.kubectl(&["set", "image", "deploy/web", "busybox=busybox:2"]);
    c.kubectl(&["set", "env", "deploy/web", "X=Y"]);
    holds(&c.kubectl(&["set", "env", "deploy/web", "--list"]), &["X=Y"]);
    c.kubectl(&["set", "resources", "deploy/web", "--limits=cpu=200m,memory=128Mi", "--requests=cpu=100m"]);
    c.kubectl(&["set", "serviceaccount", "deploy/web", "default"]);
    assert_eq!(template(".containers[0]['image','resources.limits.memory']"), "busybox:2 128Mi");
    assert_eq!(template(".serviceAccountName"), "default");
    assert_eq!(c.kubectl(&["get", "rs", "-o", "name"]).lines().count(), 1, "paused");
    c.kubectl(&["rollout", "resume", "deploy/web"]);
    wait_for("the second revision", || c.kubectl(&["rollout", "history", "deploy/web"]).contains("\n2 "));
    holds(&c.kubectl(&["rollout", "history", "deploy/web", "--revision=2"]), &["busybox:2", "revision #2"]);
    c.kubectl(&["rollout", "restart", "deploy/web"]);
    wait_for("the third revision", || c.kubectl(&["rollout", "history", "deploy/web"]).contains("\n3 "));
    let late = c.try_kubectl(&["rollout", "status", "deploy/web", "--timeout=1s"], None);
    assert!(!late.ok && late.stdout.contains("new replicas have been updated"), "{late:?}");
    c.kubectl(&["rollout", "undo", "deploy/web", "--to-revision=1"]);
    assert_eq!(template(".containers[0].image"), "busybox:1.36");
    holds(
        &c.kubectl_fails(&["scale", "deploy", "web", "--replicas=3", "--current-replicas=9"], None),
        &["Expected replicas to be 9, was 2"],
    );
    c.kubectl(&["create", "service", "clusterip", "s", "--tcp=80"]);
    c.kubectl(&["set", "selector", "svc/s", "a=b"]);
    assert_eq!(c.kubectl(&["get", "svc", "s", "-o", "jsonpath={.spec.selector}"]), r#"{"a":"b"}"#);
    c.kubectl(&["create", "rolebinding", "rb", "--clusterrole=view", "--user=eve"]);
    c.kubectl(&["set", "subject", "rolebinding", "rb", "--user=bob"]);
    holds(&c.kubectl(&["get", "rolebinding", "rb", "-o", "wide"]), &["eve, bob"]);
}
