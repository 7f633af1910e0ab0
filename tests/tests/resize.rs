//! Pods resized in place on a real node: without and with a restart, waiting for room, quotas and ranges, a restart of the
//! node in between.

use testkit::{Cluster, wait_for};

fn field(c: &Cluster, what: &str, path: &str) -> String {
    c.try_kubectl(&["get", what, "-o", &format!("jsonpath={path}")], None).stdout
}

fn is(c: &Cluster, pod: &str, path: &str, want: &str) {
    wait_for(&format!("{pod} to have {path} = {want}"), || field(c, pod, path) == want);
}

fn patch(container: &str, resources: &str) -> String {
    format!(r#"{{"spec": {{"containers": [{{"name": "{container}", "resources": {resources}}}]}}}}"#)
}

fn resize(c: &Cluster, pod: &str, resources: &str) {
    c.kubectl(&["patch", pod, "--subresource", "resize", "-p", &patch("c", resources)]);
}

const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1.36
    command: [sleep, '100000']
    resources: {requests: {cpu: 20m, memory: 20Mi}, limits: {cpu: 100m, memory: 40Mi}}
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
";

const RESTARTS: &str = "{.status.containerStatuses[0].restartCount}";
const PENDING: &str = "{.status.conditions[?(@.type==\"PodResizePending\")].reason}";
const IN_PROGRESS: &str = "{.status.conditions[?(@.type==\"PodResizeInProgress\")].status}";
const HAS: &str = "{.status.containerStatuses[0].resources}";
const GRANTED: &str = "{.status.containerStatuses[0].allocatedResources}";

/// The limits as the container sees them.
fn limits(c: &Cluster) -> String {
    let script = "cd /sys/fs/cgroup; cat cpu.max 2>/dev/null || cat cpu/cpu.cfs_quota_us cpu,cpuacct/cpu.cfs_quota_us; \
                  cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes";
    let out = c.try_kubectl(&["exec", "p", "--", "sh", "-c", script], None).stdout;
    out.split_whitespace().filter(|w| *w != "100000").collect::<Vec<_>>().join(" ")
}

#[test]
fn pods_are_resized_in_place() {
    let Some(mut c) = Cluster::with_node() else { return };
    c.apply(POD);
    is(&c, "pod/p", "{.status.phase}", "Running");
    assert_eq!(limits(&c), format!("10000 {}", 40 << 20));

    // CPU in place.
    resize(&c, "pod/p", r#"{"requests": {"cpu": "30m"}, "limits": {"cpu": "200m"}}"#);
    is(
        &c,
        "pod/p",
        HAS,
        r#"{"limits":{"cpu":"200m","memory":"40Mi"},"requests":{"cpu":"30m","memory":"20Mi"}}"#,
    );
    assert_eq!(field(&c, "pod/p", GRANTED), r#"{"cpu":"30m","memory":"20Mi"}"#);
    is(&c, "pod/p", IN_PROGRESS, "");
    assert_eq!(limits(&c), format!("20000 {}", 40 << 20));
    assert_eq!(field(&c, "pod/p", RESTARTS), "0");
    assert_eq!(field(&c, "pod/p", "{.metadata.generation}"), "2");
    is(&c, "pod/p", "{.status.observedGeneration}", "2");

    // Memory by a restart, as its policy says.
    resize(&c, "pod/p", r#"{"limits": {"memory": "60Mi"}}"#);
    is(&c, "pod/p", RESTARTS, "1");
    is(&c, "pod/p", IN_PROGRESS, "");
    is(&c, "pod/p", "{.status.containerStatuses[0].resources.limits.memory}", "60Mi");
    wait_for("the new limits", || limits(&c) == format!("20000 {}", 60 << 20));

    waits_for_room(&mut c);
    what_may_not_change(&c);
}

fn waits_for_room(c: &mut Cluster) {
    resize(c, "pod/p", r#"{"requests": {"cpu": "500"}, "limits": {"cpu": "500"}}"#);
    is(c, "pod/p", PENDING, "Deferred");
    let why = field(c, "pod/p", "{.status.conditions[?(@.type==\"PodResizePending\")].message}");
    assert!(why.contains("Node didn't have enough resource: cpu, requested: 500000"), "{why}");
    assert_eq!(field(c, "pod/p", GRANTED), r#"{"cpu":"30m","memory":"20Mi"}"#);
    // What was granted outlives the node's process.
    c.crash();
    c.run();
    is(c, "pod/p", PENDING, "Deferred");
    assert_eq!(field(c, "pod/p", GRANTED), r#"{"cpu":"30m","memory":"20Mi"}"#);
    assert_eq!(limits(c), format!("20000 {}", 60 << 20));
    let events = "jsonpath={range .items[*]}{.reason}{\" \"}{end}";
    let seen = c.kubectl(&["get", "events", "-o", events]);
    for reason in ["ResizeStarted", "ResizeCompleted", "ResizeDeferred"] {
        assert!(seen.contains(reason), "{reason} expected in {seen}");
    }
    resize(c, "pod/p", r#"{"requests": {"cpu": "40m"}, "limits": {"cpu": "200m"}}"#);
    is(c, "pod/p", PENDING, "");
    is(c, "pod/p", GRANTED, r#"{"cpu":"40m","memory":"20Mi"}"#);
    assert_eq!(field(c, "pod/p", RESTARTS), "1");
}

fn what_may_not_change(c: &Cluster) {
    let refused = |resources: &str, words: &str| {
        let body = patch("c", resources);
        let said = c.kubectl_fails(&["patch", "pod/p", "--subresource", "resize", "-p", &body], None);
        assert!(said.contains(words), "{words} expected in: {said}");
    };
    refused(
        r#"{"requests": {"cpu": "200m", "memory": "60Mi"}, "limits": {"cpu": "200m", "memory": "60Mi"}}"#,
        "Pod QOS Class may not change as a result of resizing",
    );
    refused(r#"{"limits": {"cpu": null}}"#, "resource limits cannot be removed");
    let plain =
        c.kubectl_fails(&["patch", "pod/p", "-p", &patch("c", r#"{"requests": {"cpu": "50m"}}"#)], None);
    assert!(plain.contains("pod updates may not change fields other than"), "{plain}");
    c.apply(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {requests.cpu: 100m}}\n---\n\
         apiVersion: v1\nkind: LimitRange\nmetadata: {name: r}\nspec: {limits: [{type: Container, max: {cpu: 300m}}]}\n",
    );
    is(c, "resourcequota/q", "{.status.used.requests\\.cpu}", "40m");
    refused(r#"{"requests": {"cpu": "150m"}}"#, "exceeded quota: q");
    refused(r#"{"limits": {"cpu": "400m"}}"#, "maximum cpu usage per Container is 300m, but limit is 400m");
    resize(c, "pod/p", r#"{"requests": {"cpu": "90m"}}"#);
    is(c, "resourcequota/q", "{.status.used.requests\\.cpu}", "90m");
}
