//! What jobs and cron jobs may say, by table: a change of something good, and the one complaint about it.

use serde_json::{Value, json};

use super::super::{create, update, update_status};

fn merge(mut base: Value, change: &Value) -> Value {
    match (&mut base, change) {
        (Value::Object(b), Value::Object(c)) => {
            for (k, v) in c {
                let old = b.remove(k).unwrap_or(Value::Null);
                b.insert(k.clone(), merge(old, v));
            }
            base
        }
        _ => change.clone(),
    }
}

fn job() -> Value {
    let labels = json!({"controller-uid": "u", "job-name": "j",
        "batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "j"});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "n", "uid": "u"},
        "spec": {"completions": 4, "parallelism": 2, "backoffLimit": 6, "completionMode": "Indexed",
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
            "template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "dnsPolicy": "ClusterFirst",
                "terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always",
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}]}}}})
}

fn texts(e: super::ErrorList) -> Vec<String> {
    e.iter().map(ToString::to_string).collect()
}

#[test]
fn specifications() {
    let policy =
        |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}, "podReplacementPolicy": "Failed"});
    let success = |rule: Value| json!({"successPolicy": {"rules": [rule]}});
    let codes = |values: Value| {
        policy(json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": values}}))
    };
    let table: Vec<(Value, &[&str])> = vec![
        (json!({}), &[]),
        (
            json!({"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "x"}}}),
            &[
                "spec.selector: Invalid value: {\"matchLabels\":{\"batch.kubernetes.io/controller-uid\":\"x\"}}: `selector` not auto-generated",
                "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u\",\"job-name\":\"j\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            json!({"template": {"metadata": {"labels": {"job-name": null}}}}),
            &["spec.template.metadata.labels[job-name]: Required value: must be 'j'"],
        ),
        (
            json!({"completions": null}),
            &["spec.completions: Required value: when completion mode is Indexed"],
        ),
        (
            json!({"parallelism": 100_001}),
            &[
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
            ],
        ),
        (
            json!({"maxFailedIndexes": 5, "backoffLimitPerIndex": 1}),
            &["spec.maxFailedIndexes: Invalid value: 5: must be less than or equal to completions"],
        ),
        (
            json!({"maxFailedIndexes": 1}),
            &["spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified"],
        ),
        (
            json!({"completions": 100_001, "backoffLimitPerIndex": 1}),
            &["spec.maxFailedIndexes: Required value: must be specified when completions is above 100000"],
        ),
        (
            json!({"completionMode": "NonIndexed", "backoffLimitPerIndex": 1}),
            &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
        ),
        (
            json!({"podReplacementPolicy": "x"}),
            &[
                "spec.podReplacementPolicy: Unsupported value: \"x\": supported values: \"Failed\", \"TerminatingOrFailed\"",
            ],
        ),
        (
            merge(codes(json!([1])), &json!({"podReplacementPolicy": "TerminatingOrFailed"})),
            &[
                "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
            ],
        ),
        (codes(json!([1, 3])), &[]),
        (
            codes(json!([3, 1])),
            &["spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,1]: must be ordered"],
        ),
        (
            policy(json!({"onPodConditions": [{"type": "A", "status": "True"}]})),
            &[
                "spec.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
            ],
        ),
        (
            policy(json!({"action": "Count"})),
            &[
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ],
        ),
        (
            merge(codes(json!([1])), &json!({"template": {"spec": {"restartPolicy": "OnFailure"}}})),
            &[
                "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
            ],
        ),
        (success(json!({"succeededIndexes": "0-2", "succeededCount": 2})), &[]),
        (
            success(json!({"succeededIndexes": "0-4"})),
            &[
                "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-4\": error parsing succeededIndexes: too large index: \"4\"",
            ],
        ),
        (
            success(json!({"succeededIndexes": "0,1", "succeededCount": 3})),
            &[
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
            ],
        ),
    ];
    for (change, want) in table {
        let new = merge(job(), &json!({ "spec": change }));
        assert_eq!(texts(create("batch", "Job", &new)), want, "{change}");
    }
    let long = merge(job(), &json!({"metadata": {"name": "n".repeat(62)}, "spec": {"manualSelector": true}}));
    assert!(
        texts(create("batch", "Job", &long))[0]
            .contains("will not able to create pod with invalid DNS label")
    );
}

#[test]
fn changes() {
    let on = |kind: &str| json!([{"type": kind, "status": "True"}]);
    let suspended = merge(job(), &json!({"spec": {"suspend": true}}));
    let stopped =
        merge(suspended.clone(), &json!({"status": {"startTime": "t", "conditions": on("Suspended")}}));
    let stopping = merge(stopped.clone(), &json!({"status": {"active": 1}}));
    let node = json!({"template": {"spec": {"nodeSelector": {"a": "b"}}}});
    let label = json!({"template": {"metadata": {"labels": {"a": "b"}}}});
    let image = json!({"template": {"spec": {"containers": [{"name": "c", "image": "x", "imagePullPolicy": "Always",
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}]}}});
    let affinity = |kind: &str| {
        let term = json!([{"topologyKey": "k", "labelSelector": {}}]);
        match kind {
            "nodeAffinity" => json!({"template": {"spec": {"affinity": {"nodeAffinity": {}}}}}),
            _ => {
                json!({"template": {"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}}}})
            }
        }
    };
    for (old, change, fine) in [
        (job(), json!({"parallelism": 3}), true),
        (job(), json!({"completions": 3}), false),
        (job(), json!({"completions": 3, "parallelism": 3}), true),
        (job(), json!({"backoffLimit": 3, "activeDeadlineSeconds": 3, "ttlSecondsAfterFinished": 3}), true),
        (job(), json!({"completionMode": "NonIndexed"}), false),
        (job(), json!({"managedBy": "a.io/b"}), false),
        (job(), node.clone(), false),
        (suspended.clone(), node.clone(), true),
        (suspended.clone(), label, true),
        (suspended.clone(), affinity("nodeAffinity"), true),
        (suspended.clone(), affinity("podAffinity"), false),
        (suspended, image, false),
        (stopped, node.clone(), true),
        (stopping, node, false),
    ] {
        let new = merge(old.clone(), &json!({ "spec": change }));
        assert_eq!(
            update("batch", "Job", &new, &old).is_empty(),
            fine,
            "{change}: {:?}",
            texts(update("batch", "Job", &new, &old))
        );
    }
    // A job from before the prefixed labels may still be changed.
    let mut old = job();
    old["spec"]["template"]["metadata"]["labels"] = json!({"controller-uid": "u", "job-name": "j"});
    old["spec"]["selector"] = json!({"matchLabels": {"controller-uid": "u"}});
    let new = merge(old.clone(), &json!({"spec": {"parallelism": 3}}));
    assert_eq!(texts(update("batch", "Job", &new, &old)), Vec::<String>::new());
}

#[test]
fn statuses() {
    let c = |kinds: &[&str]| kinds.iter().map(|k| json!({"type": k, "status": "True"})).collect::<Value>();
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
    let running =
        json!({"startTime": early, "active": 1, "failed": 1, "succeeded": 1, "completedIndexes": "1"});
    let complete = json!({"startTime": early, "completionTime": late, "conditions": c(&["SuccessCriteriaMet", "Complete"])});
    let table: Vec<(&Value, Value, &str)> = vec![
        (
            &running,
            json!({"active": 0, "completionTime": late, "conditions": c(&["SuccessCriteriaMet", "Complete"])}),
            "",
        ),
        (
            &running,
            json!({"active": -1}),
            "status.active: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            &running,
            json!({"failed": 0}),
            "status.failed: Invalid value: 0: cannot decrease the failed counter",
        ),
        (
            &running,
            json!({"succeeded": 0}),
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
        ),
        (
            &running,
            json!({"conditions": c(&["FailureTarget", "Failed"])}),
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ),
        (
            &running,
            json!({"active": 0, "conditions": c(&["FailureTarget", "Failed", "SuccessCriteriaMet"])}),
            "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ),
        (
            &running,
            json!({"active": 0, "conditions": c(&["Complete"])}),
            "status.completionTime: Required value: completionTime is required for Complete jobs",
        ),
        (
            &running,
            json!({"completionTime": late}),
            "status.completionTime: Invalid value: \"2026-01-01T00:00:01Z\": cannot set completionTime when there is no Complete=True condition",
        ),
        (
            &running,
            json!({"startTime": null}),
            "status.startTime: Invalid value: null: field is immutable for unsuspended job once set",
        ),
        (
            &running,
            json!({"completedIndexes": "1,9"}),
            "status.completedIndexes: Invalid value: \"1,9\": error parsing completedIndexes: too large index: \"9\"",
        ),
        (
            &running,
            json!({"failedIndexes": "2"}),
            "status.failedIndexes: Invalid value: \"2\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
        ),
        (
            &running,
            json!({"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["a"]}}),
            "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
        ),
        (
            &complete,
            json!({"conditions": c(&["SuccessCriteriaMet"]), "completionTime": null}),
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
        ),
        (
            &complete,
            json!({"completionTime": early}),
            "status.completionTime: Invalid value: \"2026-01-01T00:00:00Z\": field is immutable",
        ),
        (&complete, json!({"ready": 0}), ""),
    ];
    for (before, change, want) in table {
        let old = merge(job(), &json!({ "status": before }));
        let new = merge(old.clone(), &json!({ "status": change }));
        let got = texts(update_status("batch", "Job", &new, &old));
        // A job that ends in two ways at once is wrong in two ways.
        let first = got.first().map(String::as_str).unwrap_or_default();
        assert_eq!(first, want, "{change}: {got:?}");
    }
}

#[test]
fn cron_jobs() {
    let template = job()["spec"]["template"].clone();
    let good = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "c", "namespace": "n", "uid": "u"},
        "spec": {"schedule": "* * * * *", "concurrencyPolicy": "Allow", "jobTemplate": {"spec": {"template": template}}}});
    let zoned = merge(good.clone(), &json!({"spec": {"schedule": "TZ=UTC * * * * *"}}));
    for (change, want) in [
        (json!({}), ""),
        (json!({"schedule": "@every 5m"}), ""),
        (json!({"timeZone": "UTC"}), ""),
        (json!({"timeZone": "../etc"}), "spec.timeZone: Invalid value: \"../etc\": unknown time zone ../etc"),
        (
            json!({"timeZone": ""}),
            "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string",
        ),
        (
            json!({"schedule": "TZ=UTC * * * * *"}),
            "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ),
        (
            json!({"jobTemplate": {"spec": {"selector": {}}}}),
            "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
        ),
        (
            json!({"jobTemplate": {"spec": {"manualSelector": true}}}),
            "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
        ),
        (
            json!({"startingDeadlineSeconds": -1}),
            "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
    ] {
        let new = merge(good.clone(), &json!({ "spec": change }));
        assert_eq!(texts(create("batch", "CronJob", &new)).join("; "), want, "{change}");
    }
    let long = merge(good.clone(), &json!({"metadata": {"name": "c".repeat(53)}}));
    let name = "c".repeat(53);
    assert_eq!(
        texts(create("batch", "CronJob", &long)),
        [format!("metadata.name: Invalid value: \"{name}\": must be no more than 52 characters")]
    );
    assert!(update("batch", "CronJob", &long, &long).is_empty());
    assert!(update("batch", "CronJob", &zoned, &zoned).is_empty());
    let both = merge(zoned.clone(), &json!({"spec": {"timeZone": "UTC"}}));
    assert_eq!(texts(update("batch", "CronJob", &both, &zoned)).len(), 1);
}
