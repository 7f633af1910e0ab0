//! A container's life on a node: probes, hooks, order, ends and restarts, with the reasons `kubectl get pods` shows and the
//! events that say why.

use testkit::{Cluster, wait_for};

/// A pod of one container `c`; `more` are further fields of the container, `spec` of the pod.
fn pod(name: &str, command: &str, more: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{t: {name}}}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         {spec}\n  containers:\n  - name: c\n    image: busybox:1.36\n    command: [sh, -c, '{command}']\n    {more}\n---\n"
    )
}

const FOREVER: &str = "exec sleep 100000";

fn path(c: &Cluster, pod: &str, path: &str) -> String {
    c.try_kubectl(&["get", "pod", pod, "-o", &format!("jsonpath={{{path}}}")], None).stdout
}

/// The STATUS column of `kubectl get pods`.
fn shown(c: &Cluster, pod: &str) -> String {
    let line = c.try_kubectl(&["get", "pod", pod, "--no-headers"], None).stdout;
    line.split_whitespace().nth(2).unwrap_or_default().to_owned()
}

fn events(c: &Cluster, pod: &str) -> String {
    c.try_kubectl(&["events", "--for", &format!("pod/{pod}")], None).stdout
}

fn wait_status(c: &Cluster, pod: &str, any: &[&str]) {
    wait_for(&format!("{pod} to be shown as {any:?}"), || any.contains(&shown(c, pod).as_str()));
}

fn wait_event(c: &Cluster, pod: &str, parts: &[&str]) {
    wait_for(&format!("an event of {pod} with {parts:?}"), || {
        events(c, pod).lines().any(|l| parts.iter().all(|p| l.contains(p)))
    });
}

fn restarts(c: &Cluster, pod: &str) -> u32 {
    path(c, pod, ".status.containerStatuses[0].restartCount").parse().unwrap_or(0)
}

fn wait_ready(c: &Cluster, pod: &str) {
    wait_for(&format!("{pod} to be ready"), || {
        path(c, pod, ".status.conditions[?(@.type==\"Ready\")].status") == "True"
    });
}

fn exec(c: &Cluster, pod: &str, script: &str) -> String {
    c.try_kubectl(&["exec", pod, "-c", "c", "--", "sh", "-c", script], None).stdout
}

#[test]
fn probes_restart_gate_and_start() {
    let Some(c) = Cluster::with_node() else { return };
    let failing =
        |kind: &str, probe: &str| format!("{kind}: {{{probe}, periodSeconds: 1, failureThreshold: 1}}");
    let all = [
        pod(
            "live",
            "touch /ok; exec sleep 100000",
            &failing("livenessProbe", "exec: {command: [test, -e, /ok]}"),
            "",
        ),
        pod("tcp", FOREVER, &failing("livenessProbe", "tcpSocket: {port: 9}"), ""),
        pod("grpc", FOREVER, &failing("livenessProbe", "grpc: {port: 9}"), ""),
        pod(
            "gated",
            "exec httpd -f -p 8080 -h /www",
            &failing("readinessProbe", "httpGet: {path: /ready, port: 8080}"),
            "",
        ),
        pod(
            "slow",
            FOREVER,
            "startupProbe: {exec: {command: [test, -e, /up]}, periodSeconds: 1, failureThreshold: 1000}\n    \
             livenessProbe: {exec: {command: [test, -e, /up]}, periodSeconds: 1, failureThreshold: 1}",
            "",
        ),
        pod("never-up", FOREVER, &failing("startupProbe", "exec: {command: [\"false\"]}"), ""),
    ];
    c.apply(&all.concat());
    c.apply("apiVersion: v1\nkind: Service\nmetadata: {name: gated}\nspec: {selector: {t: gated}, ports: [{port: 80, targetPort: 8080}]}\n");

    wait_ready(&c, "live");
    exec(&c, "live", "rm /ok");
    wait_for("the restart of live", || restarts(&c, "live") >= 1);
    wait_event(&c, "live", &["Unhealthy", "Liveness probe failed"]);
    wait_event(&c, "live", &["Killing", "Container c failed liveness probe, will be restarted"]);
    for (name, says) in [("tcp", "connection refused"), ("grpc", "failed to connect")] {
        wait_for("a restart", || restarts(&c, name) >= 1);
        wait_for("the probe's words", || events(&c, name).to_lowercase().contains(says));
    }

    wait_event(&c, "gated", &["Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404"]);
    assert_eq!(path(&c, "gated", ".status.containerStatuses[0].ready"), "false");
    let endpoints = |ready: &str| {
        let path = format!("jsonpath={{.items[*].endpoints[?(@.conditions.ready=={ready})].addresses}}");
        c.kubectl(&["get", "endpointslices", "-l", "kubernetes.io/service-name=gated", "-o", &path])
    };
    wait_for("an endpoint that is not ready", || !endpoints("false").is_empty());
    exec(&c, "gated", "echo > /www/ready");
    wait_for("the endpoint to be ready", || !endpoints("true").is_empty());
    exec(&c, "gated", "rm /www/ready");
    wait_for("the endpoint to be gone again", || endpoints("true").is_empty());
    assert_eq!(restarts(&c, "gated"), 0);

    wait_event(&c, "slow", &["Unhealthy", "Startup probe failed"]);
    assert_eq!(
        (path(&c, "slow", ".status.containerStatuses[0].started"), restarts(&c, "slow")),
        ("false".into(), 0)
    );
    exec(&c, "slow", "touch /up");
    wait_ready(&c, "slow");
    wait_for("the restart of never-up", || restarts(&c, "never-up") >= 1);
    wait_event(&c, "never-up", &["Killing", "failed startup probe, will be restarted"]);
}

#[test]
fn hooks_order_and_ends() {
    let Some(c) = Cluster::with_node() else { return };
    let hooks = "lifecycle: {preStop: {exec: {command: [sh, -c, 'echo preStop >> /v/log; sleep 0.2']}}}\n    \
                 volumeMounts: [{name: v, mountPath: /v}]";
    let dir = c.dir().join("shared");
    std::fs::create_dir_all(&dir).expect("a directory of the host");
    let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    let volume = format!("volumes: [{{name: v, hostPath: {{path: {}}}}}]", dir.display());
    let trap = r#"trap "echo term >> /v/log; exit 0" TERM; echo up; while true; do sleep 0.1; done"#;
    let graceful = pod("graceful", trap, hooks, &volume).replace("PeriodSeconds: 1\n", "PeriodSeconds: 60\n");
    let stubborn = pod("stubborn", r#"trap "" TERM; while true; do sleep 0.1; done"#, "", "");
    let post = pod(
        "post",
        FOREVER,
        "lifecycle: {postStart: {exec: {command: [sh, -c, 'until [ -e /go ]; do sleep 0.1; done']}}}",
        "",
    );
    let bad =
        pod("bad", FOREVER, "lifecycle: {postStart: {exec: {command: [sh, -c, 'echo why; exit 4']}}}", "");
    let step = |name: &str, more: &str| {
        format!(
            "\n  - {{name: {name}, image: 'busybox:1.36', volumeMounts: [{{name: v, mountPath: /v}}], {more}}}"
        )
    };
    let write = |word: &str| format!("command: [sh, -c, 'echo {word} >> /v/order']");
    let side = "restartPolicy: Always, startupProbe: {exec: {command: [test, -e, /v/side]}, periodSeconds: 1, failureThreshold: 1000}, \
         command: [sh, -c, 'trap \"echo side-ends >> /v/order; exit 0\" TERM; echo side >> /v/order; sleep 0.5; touch /v/side; while true; do sleep 0.1; done']";
    let init = format!(
        "initContainers:{}{}{}\n  {volume}",
        step("one", &write("one")),
        step("side", side),
        step("two", &write("two"))
    );
    let main = r#"trap "echo main-ends >> /v/order; exit 0" TERM; echo main >> /v/order; while true; do sleep 0.1; done"#;
    let order = pod("order", main, "volumeMounts: [{name: v, mountPath: /v}]", &init)
        .replace("PeriodSeconds: 1\n", "PeriodSeconds: 60\n");
    c.apply(&[graceful, stubborn, post, bad, order].concat());

    wait_ready(&c, "graceful");
    wait_for("its trap", || c.try_kubectl(&["logs", "graceful"], None).stdout.contains("up"));
    c.kubectl(&["delete", "pod", "graceful", "--timeout=90s"]);
    assert_eq!(log(), "preStop\nterm\n");
    wait_event(&c, "graceful", &["Killing", "Stopping container c"]);

    wait_ready(&c, "stubborn");
    c.kubectl(&["delete", "pod", "stubborn", "--timeout=90s"]);

    // A pod is not Running before its hook is done.
    wait_for("the hook of post", || !path(&c, "post", ".status.containerStatuses[0].containerID").is_empty());
    assert_eq!(
        (shown(&c, "post").as_str(), path(&c, "post", ".status.phase").as_str()),
        ("ContainerCreating", "Pending")
    );
    wait_for("the hook to end", || {
        exec(&c, "post", "touch /go");
        shown(&c, "post") == "Running"
    });
    wait_event(&c, "bad", &["FailedPostStartHook", "why"]);
    wait_event(&c, "bad", &["Killing", "FailedPostStartHook"]);
    wait_status(&c, "bad", &["PostStartHookError", "CrashLoopBackOff"]);

    wait_ready(&c, "order");
    let order = || std::fs::read_to_string(dir.join("order")).unwrap_or_default();
    wait_for("the main container", || order().ends_with("main\n"));
    assert_eq!(order(), "one\nside\ntwo\nmain\n");
    assert_eq!(
        path(&c, "order", ".status.initContainerStatuses[*].state.terminated.reason"),
        "Completed Completed"
    );
    assert_eq!(c.kubectl(&["get", "pod", "order", "--no-headers"]).split_whitespace().nth(1), Some("2/2"));
    c.kubectl(&["delete", "pod", "order", "--timeout=90s"]);
    assert_eq!(order(), "one\nside\ntwo\nmain\nmain-ends\nside-ends\n");
}

#[test]
fn what_fails_is_shown_with_its_reason() {
    let Some(c) = Cluster::with_node() else { return };
    let image = |text: String, image: &str| text.replace("busybox:1.36", image);
    let all = [
        image(pod("no-image", FOREVER, "", ""), "localhost:1/none:1"),
        image(pod("bad-name", FOREVER, "", ""), "Bad//Name"),
        image(pod("never", FOREVER, "imagePullPolicy: Never", ""), "absent:1"),
        pod("no-config", FOREVER, "env: [{name: A, valueFrom: {configMapKeyRef: {name: late, key: k}}}]", ""),
        pod(
            "no-volume",
            FOREVER,
            "volumeMounts: [{name: v, mountPath: /v}]",
            "volumes: [{name: v, secret: {secretName: none}}]",
        ),
        pod("no-entry", "", "", "").replace("[sh, -c, '']", "[/no/such]"),
        pod("no-entry-once", "", "", "restartPolicy: Never").replace("[sh, -c, '']", "[/no/such]"),
        pod("crash", "echo words; exit 3", "", ""),
        pod("failed", "exit 3", "", "restartPolicy: Never"),
        pod("done", "exit 0", "", "restartPolicy: OnFailure"),
        pod(
            "oom",
            "x=a; while true; do x=$x$x; done",
            "resources: {limits: {memory: 20Mi}}",
            "restartPolicy: Never",
        ),
        pod("root", FOREVER, "", "securityContext: {runAsNonRoot: true}"),
        pod(
            "init",
            FOREVER,
            "",
            "initContainers: [{name: i, image: 'busybox:1.36', command: [sh, -c, 'exit 2']}]",
        ),
        pod(
            "init-once",
            FOREVER,
            "",
            "restartPolicy: Never\n  initContainers: [{name: i, image: 'busybox:1.36', command: [sh, -c, 'exit 2']}]",
        ),
        pod("late", FOREVER, "", "activeDeadlineSeconds: 1"),
        pod("told", "echo the reason > /dev/termination-log; exit 1", "", "restartPolicy: Never"),
        pod(
            "told-by-log",
            "echo from the log; exit 1",
            "terminationMessagePolicy: FallbackToLogsOnError",
            "restartPolicy: Never",
        ),
    ];
    c.apply(&all.concat());

    wait_status(&c, "no-image", &["ErrImagePull", "ImagePullBackOff"]);
    wait_event(&c, "no-image", &["Failed", "Error: ErrImagePull"]);
    wait_status(&c, "no-image", &["ImagePullBackOff"]);
    wait_event(&c, "no-image", &["Failed", "Failed to pull image \"localhost:1/none:1\""]);
    wait_event(&c, "no-image", &["BackOff", "Back-off pulling image \"localhost:1/none:1\""]);
    wait_status(&c, "bad-name", &["InvalidImageName"]);
    wait_event(&c, "bad-name", &["InspectFailed", "couldn't parse image name \"Bad//Name\""]);
    wait_status(&c, "never", &["ErrImageNeverPull"]);
    wait_event(&c, "never", &["ErrImageNeverPull", "is not present with pull policy of Never"]);
    wait_status(&c, "no-config", &["CreateContainerConfigError"]);
    wait_event(&c, "no-config", &["Failed", "Error: configmap \"late\" not found"]);
    c.kubectl(&["create", "configmap", "late", "--from-literal=k=v"]);
    wait_ready(&c, "no-config");
    wait_event(
        &c,
        "no-volume",
        &["FailedMount", "MountVolume.SetUp failed for volume \"v\"", "secret \"none\" not found"],
    );
    assert_eq!(shown(&c, "no-volume"), "ContainerCreating");
    wait_event(&c, "no-entry", &["Failed", "exec: \"/no/such\": stat /no/such: no such file or directory"]);
    wait_status(&c, "no-entry", &["RunContainerError", "CrashLoopBackOff"]);
    wait_status(&c, "no-entry", &["CrashLoopBackOff"]);
    let last = ".status.containerStatuses[0].lastState.terminated['reason','exitCode']";
    assert_eq!(path(&c, "no-entry", last), "StartError 128");
    wait_status(&c, "no-entry-once", &["StartError"]);
    wait_status(&c, "crash", &["CrashLoopBackOff"]);
    wait_event(&c, "crash", &["BackOff", "Back-off restarting failed container c in pod crash_default"]);
    assert_eq!(path(&c, "crash", last), "Error 3");
    wait_status(&c, "failed", &["Error"]);
    wait_status(&c, "done", &["Completed"]);
    assert_eq!(
        (path(&c, "failed", ".status.phase"), path(&c, "done", ".status.phase")),
        ("Failed".into(), "Succeeded".into())
    );
    wait_status(&c, "oom", &["OOMKilled"]);
    assert_eq!(path(&c, "oom", ".status.containerStatuses[0].state.terminated.exitCode"), "137");
    wait_status(&c, "root", &["CreateContainerConfigError"]);
    wait_event(&c, "root", &["Failed", "container has runAsNonRoot and image will run as root"]);
    wait_status(&c, "init", &["Init:CrashLoopBackOff"]);
    wait_status(&c, "init-once", &["Init:Error"]);
    wait_for("the deadline", || path(&c, "late", ".status['phase','reason']") == "Failed DeadlineExceeded");
    let message = ".status.containerStatuses[0].state.terminated.message";
    wait_for("the message", || path(&c, "told", message).trim() == "the reason");
    wait_for("the log's end", || path(&c, "told-by-log", message).trim() == "from the log");
    let described = c.kubectl(&["describe", "pod", "crash"]);
    assert!(described.contains("Exit Code:    3") && described.contains("CrashLoopBackOff"), "{described}");
}

#[test]
fn static_pods_and_what_a_pod_knows_of_itself() {
    let Some(c) = Cluster::with_node() else { return };
    let manifest = std::path::Path::new(&c.data()).join("manifests/fixed.yaml");
    std::fs::write(&manifest, pod("fixed", FOREVER, "", "").trim_end_matches("---\n")).expect("the manifest");
    wait_ready(&c, "fixed-node-1");
    assert_eq!(path(&c, "fixed-node-1", ".metadata.annotations.kubernetes\\.io/config\\.source"), "file");
    assert_eq!(path(&c, "fixed-node-1", ".metadata.ownerReferences[0].kind"), "Node");
    let uid = path(&c, "fixed-node-1", ".metadata.uid");
    c.kubectl(&["delete", "pod", "fixed-node-1", "--wait=false"]);
    wait_for(
        "a new mirror",
        || !matches!(path(&c, "fixed-node-1", ".metadata.uid"), u if u.is_empty() || u == uid),
    );
    wait_ready(&c, "fixed-node-1");
    assert_eq!(restarts(&c, "fixed-node-1"), 0, "its container goes on");

    c.kubectl(&["create", "secret", "generic", "s", "--from-literal=key=hidden"]);
    c.kubectl(&["create", "configmap", "m", "--from-literal=key=open"]);
    let env = "env:\n    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}\n    \
        - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}\n    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}\n    \
        - {name: BOTH, value: '$(NAME)/$(NODE)/$$(NAME)'}\n    envFrom: [{configMapRef: {name: m}, prefix: M_}, {secretRef: {name: s}, prefix: S_}]\n    \
        resources: {limits: {memory: 64Mi}}\n    volumeMounts: [{name: p, mountPath: /p}, {name: m, mountPath: /one/file, subPath: key}]";
    let volumes = "volumes:\n  - name: m\n    configMap: {name: m}\n  - name: p\n    projected:\n      defaultMode: 0440\n      sources:\n      \
        - secret: {name: s, items: [{key: key, path: a/secret, mode: 0400}]}\n      - configMap: {name: m, items: [{key: key, path: a/map}]}\n      \
        - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: limit, resourceFieldRef: {containerName: c, resource: limits.memory}}]}\n      \
        - serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}";
    c.apply(&pod("knows", FOREVER, env, volumes));
    wait_ready(&c, "knows");
    let ip = path(&c, "knows", ".status.podIP");
    wait_for("its environment", || {
        exec(&c, "knows", "echo $NAME $IP $NODE $CPU $BOTH $M_key $S_key")
            == format!("knows {ip} node-1 64 knows/node-1/$(NAME) open hidden\n")
    });
    let files = exec(
        &c,
        "knows",
        "cat /p/a/secret; echo; cat /p/a/map; echo; cat /p/limit; echo; cat /one/file; echo; cut -d. -f3 /p/token | wc -l; stat -L -c %a /p/a/secret /p/a/map",
    );
    assert_eq!(files, "hidden\nopen\n67108864\nopen\n1\n400\n440\n");
    assert_eq!(exec(&c, "knows", "cat /p/labels").trim(), "t=\"knows\"");
    c.kubectl(&["label", "pod", "knows", "more=words"]);
    wait_for("the new label in the file", || exec(&c, "knows", "cat /p/labels").contains("more=\"words\""));

    std::fs::remove_file(&manifest).expect("remove the manifest");
    wait_for("the mirror to go", || !c.try_kubectl(&["get", "pod", "fixed-node-1"], None).ok);
}
