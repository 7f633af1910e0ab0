//! Jobs and cron jobs with real pods: all of them start together, then each is held against how it has to end.

use testkit::{Cluster, wait_for};

/// A job whose container runs `command`; `spec` and `pod` are more lines of flow-style YAML.
fn job(name: &str, command: &str, spec: &str) -> String {
    format!(
        r#"---
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  {spec}
  template: {{spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [
    {{name: main, image: "busybox:1.36", command: [sh, -c, '{command}']}}]}}}}
"#
    )
}

const TICK: &str = r#"---
apiVersion: batch/v1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: "@every 1s"
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 1
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, terminationGracePeriodSeconds: 1, containers: [
    {name: main, image: "busybox:1.36", command: [echo, tick]}]}}}}
"#;

const POLICY: &str = "backoffLimit: 6\n  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}";
const SUCCESS: &str = "completions: 2\n  parallelism: 2\n  completionMode: Indexed\n  successPolicy: {rules: [{succeededIndexes: \"0\"}]}";

fn get(c: &Cluster, what: &str, path: &str) -> String {
    let path = format!("jsonpath={path}");
    let args: Vec<&str> = ["get"].into_iter().chain(what.split(' ')).chain(["-o", &path]).collect();
    c.try_kubectl(&args, None).stdout
}

fn pods(c: &Cluster, job: &str) -> Vec<String> {
    let selector = format!("batch.kubernetes.io/job-name={job}");
    let out = c.try_kubectl(&["get", "pods", "-l", &selector, "-o", "name"], None);
    assert!(out.ok, "{out:?}");
    out.stdout.lines().map(str::to_owned).collect()
}

/// Waits for the job's last condition and answers `reason: message` of it.
fn ends(c: &Cluster, name: &str, condition: &str) -> String {
    let path = format!(
        "{{range .status.conditions[?(@.type==\"{condition}\")]}}{{.status}} {{.reason}}: {{.message}}{{end}}"
    );
    wait_for(&format!("{name} to be {condition}"), || {
        get(c, &format!("job/{name}"), &path).starts_with("True")
    });
    get(c, &format!("job/{name}"), &path).trim_start_matches("True ").to_owned()
}

#[test]
fn jobs_end_as_they_should() {
    let Some(c) = Cluster::with_node() else { return };
    let all = [
        job("hello", "echo hello", "backoffLimit: 1"),
        job("parallel", "true", "completions: 4\n  parallelism: 2"),
        job(
            "indexed",
            "echo $JOB_COMPLETION_INDEX $(hostname)",
            "completions: 3\n  parallelism: 2\n  completionMode: Indexed",
        ),
        job("failing", "exit 1", "backoffLimit: 0"),
        job("policy", "exit 42", POLICY),
        job("success", "test $JOB_COMPLETION_INDEX = 0 || sleep 1000", SUCCESS),
        job("late", "sleep 1000", "activeDeadlineSeconds: 1"),
        job("short-lived", "true", "ttlSecondsAfterFinished: 0"),
        job("paused", "sleep 1000", "suspend: true"),
    ];
    c.apply(&all.concat());

    c.kubectl(&["wait", "--for=condition=complete", "job/hello", "--timeout=90s"]);
    assert_eq!(c.kubectl(&["logs", "job/hello"]).trim(), "hello");
    assert_eq!(get(&c, "job/hello", "{.status.succeeded} {.status.active} {.status.ready}"), "1  0");
    assert_eq!(get(&c, "pods -l job-name=hello", "{.items[*].metadata.finalizers}"), "");
    let shown = c.kubectl(&["get", "job", "hello", "--no-headers"]);
    assert!(shown.contains("Complete") && shown.contains("1/1"), "{shown}");
    wait_for("the events", || {
        let told = c.kubectl(&["describe", "job", "hello"]);
        told.contains("SuccessfulCreate") && told.contains("Job completed")
    });

    assert_eq!(
        ends(&c, "parallel", "Complete"),
        "CompletionsReached: Reached expected number of succeeded pods"
    );
    assert_eq!((get(&c, "job/parallel", "{.status.succeeded}"), pods(&c, "parallel").len()), ("4".into(), 4));

    ends(&c, "indexed", "Complete");
    assert_eq!(get(&c, "job/indexed", "{.status.completedIndexes} {.status.succeeded}"), "0-2 3");
    let one = "batch.kubernetes.io/job-completion-index=1,job-name=indexed";
    wait_for("the log of index 1", || {
        c.try_kubectl(&["logs", "-l", one], None).stdout.trim() == "1 indexed-1"
    });

    assert_eq!(
        ends(&c, "failing", "Failed"),
        "BackoffLimitExceeded: Job has reached the specified backoff limit"
    );
    assert_eq!(get(&c, "job/failing", "{.status.failed} {.status.active}"), "1 ");
    let why = ends(&c, "policy", "Failed");
    assert!(why.starts_with("PodFailurePolicy: Container main for pod default/policy-"), "{why}");
    assert!(why.ends_with("failed with exit code 42 matching FailJob rule at index 0"), "{why}");
    assert_eq!(ends(&c, "success", "Complete"), "SuccessPolicy: Matched rules at index 0");
    assert_eq!(get(&c, "job/success", "{.status.completedIndexes}"), "0");
    assert_eq!(ends(&c, "late", "Failed"), "DeadlineExceeded: Job was active longer than specified deadline");
    wait_for("no running pod of ended jobs", || {
        let running =
            c.try_kubectl(&["get", "pods", "--field-selector=status.phase=Running", "-o", "name"], None);
        running.ok && running.stdout.is_empty()
    });
    wait_for("the job to go when its time is over", || {
        !c.try_kubectl(&["get", "job", "short-lived"], None).ok && pods(&c, "short-lived").is_empty()
    });

    paused(&c);
    let taken = c.kubectl_fails(&["apply", "-f", "-"], Some(&job("hello", "echo other", "backoffLimit: 1")));
    assert!(taken.contains("field is immutable"), "{taken}");
}

/// Suspended, resumed, suspended again; then it runs, and its pod outlives it.
fn paused(c: &Cluster) {
    let suspended = || get(c, "job/paused", "{.status.conditions[?(@.type==\"Suspended\")].status}");
    let set = |on: bool| {
        let patch = format!("{{\"spec\":{{\"suspend\":{on}}}}}");
        c.kubectl(&["patch", "job", "paused", "--type=merge", "-p", &patch]);
    };
    wait_for("the suspended job", || suspended() == "True");
    assert_eq!((pods(c, "paused").len(), get(c, "job/paused", "{.status.startTime}")), (0, String::new()));
    for round in ["first", "second"] {
        set(false);
        wait_for(&format!("the {round} start"), || {
            get(c, "job/paused", "{.status.active}{.status.ready}") == "11" && suspended() == "False"
        });
        if round == "first" {
            set(true);
            wait_for("the pod to go", || pods(c, "paused").is_empty() && suspended() == "True");
            assert_eq!(get(c, "job/paused", "{.status.failed}"), "", "a suspended pod is no failure");
        }
    }
    c.kubectl(&["delete", "job", "paused", "--cascade=orphan", "--timeout=90s"]);
    let left = pods(c, "paused");
    assert_eq!(left.len(), 1);
    wait_for("the pod to be free", || {
        get(c, &left[0], "{.metadata.ownerReferences}{.metadata.finalizers}").is_empty()
    });
    c.kubectl(&["delete", &left[0], "--timeout=90s"]);
}

#[test]
fn cron_jobs_fire_and_keep_their_history() {
    let Some(c) = Cluster::with_node() else { return };
    c.apply(TICK);
    wait_for("a success", || !get(&c, "cronjob/tick", "{.status.lastSuccessfulTime}").is_empty());
    assert!(!get(&c, "cronjob/tick", "{.status.lastScheduleTime}").is_empty());
    c.kubectl(&["patch", "cronjob", "tick", "--type=merge", "-p", "{\"spec\":{\"suspend\":true}}"]);
    let names = || {
        let out = c.try_kubectl(&["get", "jobs", "-o", "name"], None);
        out.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    wait_for("nothing active", || get(&c, "cronjob/tick", "{.status.active}").is_empty());
    let made = names();
    let first = made.first().cloned().unwrap_or_default();
    assert!(first.starts_with("job.batch/tick-"), "{made:?}");
    let about = "{.metadata.ownerReferences[0].kind} {.metadata.annotations.batch\\.kubernetes\\.io/cronjob-scheduled-timestamp}";
    let told = get(&c, &first, about);
    assert!(told.starts_with("CronJob 20") && told.ends_with('Z'), "{told}");

    c.kubectl(&["create", "job", "tock", "--from=cronjob/tick"]);
    ends(&c, "tock", "Complete");
    assert_eq!(
        get(&c, "job/tock", "{.metadata.annotations.cronjob\\.kubernetes\\.io/instantiate}"),
        "manual"
    );
    wait_for("only the newest to be kept", || names() == ["job.batch/tock"] && pods(&c, "tock").len() == 1);
    c.kubectl(&["delete", "cronjob", "tick", "--timeout=90s"]);
    wait_for("its jobs and pods to go with it", || {
        let pods = c.try_kubectl(&["get", "pods", "-o", "name"], None);
        names().is_empty() && pods.ok && pods.stdout.is_empty()
    });
    let refused = c.kubectl_fails(&["apply", "-f", "-"], Some(&TICK.replace("@every 1s", "* * * *")));
    assert!(refused.contains("expected exactly 5 fields, found 4: [* * * *]"), "{refused}");
}
