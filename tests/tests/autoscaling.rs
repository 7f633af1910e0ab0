//! What pods use, and who scales by it.

use e2e::extension::Extension;
use serde_json::json;
use testkit::{Cluster, wait_for};

const BUSY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {app: busy}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: burns, image: 'busybox:1.36', command: [sh, -c, 'while true; do :; done'], resources: {limits: {cpu: 200m}}}
  - {name: sleeps, image: 'busybox:1.36', command: [sleep, '1000']}
"#;

/// Millicores of a container as `kubectl top` tells them.
fn millicores(line: &str, column: usize) -> Option<u64> {
    line.split_whitespace().nth(column)?.strip_suffix('m')?.parse().ok()
}

#[test]
fn top_shows_what_nodes_and_pods_use() {
    let Some(c) = Cluster::with_node() else { return };
    c.apply(BUSY);
    c.kubectl(&["wait", "--for=condition=ready", "pod/busy", "--timeout=60s"]);
    let nodes = c.kubectl(&["top", "nodes", "--no-headers"]);
    let line: Vec<&str> = nodes.split_whitespace().collect();
    assert!(
        line.len() == 5 && line[0] == "node-1" && line[1].ends_with('m') && line[4].ends_with('%'),
        "{nodes}"
    );
    let of = |container: &str| {
        let out = c.try_kubectl(&["top", "pods", "--containers", "--no-headers", "-l", "app=busy"], None);
        let line = out.stdout.lines().find(|l| l.contains(container)).unwrap_or_default().to_owned();
        millicores(&line, 2)
    };
    wait_for("the load of a container", || of("burns").is_some_and(|m| m > 50));
    assert!(of("sleeps").is_some_and(|m| m < 20));
    let sum = c.kubectl(&["top", "pod", "busy", "--no-headers"]);
    assert!(millicores(&sum, 1).is_some_and(|m| m > 50), "{sum}");
    let table = c.kubectl(&["get", "pods.metrics.k8s.io"]);
    let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(head, ["NAME", "CPU", "MEMORY", "WINDOW"], "{table}");
    assert!(c.kubectl(&["explain", "nodes", "--api-version=metrics.k8s.io/v1beta1"]).contains("NodeMetrics"));
    let said = c.kubectl_fails(&["top", "pod", "none"], None);
    assert!(said.contains("podmetrics.metrics.k8s.io \"default/none\" not found"), "{said}");

    // A server of one's own takes the place of the one that is built in, and gives it back.
    let e = Extension::start(&c, &["metrics-server.default.svc"]);
    e.service("metrics-server", 443).iter().for_each(|o| drop(c.apply(&o.to_string())));
    let gv = "metrics.k8s.io/v1beta1";
    let root = format!("/apis/{gv}");
    let usage = json!({"cpu": "1234m", "memory": "1Gi"});
    let item = json!({"metadata": {"name": "node-1"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30s", "usage": usage});
    let verbs = ["get", "list"];
    let kind = json!({"name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics", "verbs": verbs});
    let list = json!({"kind": "NodeMetricsList", "apiVersion": gv, "metadata": {}, "items": [item]});
    let kinds =
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": [kind]});
    e.documents(&[(root.clone(), kinds), (format!("{root}/nodes"), list)]);
    e.register(&c, "metrics-server", "metrics.k8s.io", "v1beta1");
    let top = || c.try_kubectl(&["top", "nodes", "--no-headers"], None).stdout;
    wait_for("the figures of the other server", || top().contains("1234m"));
    c.kubectl(&["delete", "apiservice", "v1beta1.metrics.k8s.io"]);
    wait_for("our own figures", || top().contains("node-1") && !top().contains("1234m"));
}

#[test]
fn roles_gather_what_others_bring() {
    let c = Cluster::control_plane();
    c.kubectl(&["create", "clusterrole", "widgets", "--verb=get", "--resource=configmaps"]);
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: all}\naggregationRule: {clusterRoleSelectors: [{matchLabels: {part: 'yes'}}]}\n";
    c.apply(role);
    c.kubectl(&["label", "clusterrole", "widgets", "part=yes"]);
    let verbs =
        |name: &str| c.kubectl(&["get", "clusterrole", name, "-o", "jsonpath={.rules[*].resources[*]}"]);
    wait_for("the gathered rule", || verbs("all") == "configmaps");
    c.kubectl(&[
        "label",
        "clusterrole",
        "widgets",
        "part-",
        "rbac.authorization.k8s.io/aggregate-to-view=true",
    ]);
    wait_for("the rule to go", || verbs("all").is_empty());
    let may =
        |verb: &str| c.try_kubectl(&["auth", "can-i", verb, "nodes.metrics.k8s.io", "--as=jane"], None).ok;
    assert!(!may("list"));
    c.kubectl(&["create", "clusterrolebinding", "jane", "--clusterrole=view", "--user=jane"]);
    wait_for("what view holds", || may("list"));
}

const WORKER: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: load}
data: {load: 'high'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: worker}
spec:
  selector: {matchLabels: {app: worker}}
  template:
    metadata: {labels: {app: worker}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: busybox:1.36
        command: [sh, -c, 'while true; do if [ "$(cat /load/load)" = high ]; then i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; else sleep 1; fi; done']
        resources: {requests: {cpu: 20m}, limits: {cpu: 100m}}
        volumeMounts: [{name: load, mountPath: /load}]
      volumes: [{name: load, configMap: {name: load}}]
"#;

fn jsonpath(c: &Cluster, what: &[&str], path: &str) -> String {
    let path = format!("jsonpath={path}");
    c.try_kubectl(&[&["get"], what, &["-o", &path]].concat(), None).stdout
}

#[test]
fn load_scales_a_deployment_up_and_down() {
    let Some(c) = Cluster::with_node() else { return };
    c.apply(WORKER);
    c.kubectl(&["rollout", "status", "deployment/worker", "--timeout=90s"]);
    c.kubectl(&["autoscale", "deployment", "worker", "--cpu=50%", "--min=1", "--max=3"]);
    let window = r#"{"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}}}"#;
    c.kubectl(&["patch", "hpa", "worker", "--type=merge", "-p", window]);
    let replicas = || jsonpath(&c, &["deployment", "worker"], "{.spec.replicas}");
    wait_for("the deployment to grow", || replicas() == "3");
    let condition = |kind: &str, field: &str| {
        let path = format!("{{.status.conditions[?(@.type==\"{kind}\")].{field}}}");
        jsonpath(&c, &["hpa", "worker"], &path)
    };
    wait_for("the status", || condition("ScalingActive", "reason") == "ValidMetricFound");
    assert_eq!(condition("AbleToScale", "status"), "True");
    let status = |path: &str| jsonpath(&c, &["hpa", "worker"], path);
    assert_eq!(status("{.status.observedGeneration}"), status("{.metadata.generation}"));
    assert!(!status("{.status.lastScaleTime}").is_empty());
    assert_eq!(status("{.status.currentMetrics[0].resource.name}"), "cpu");
    let told = |text: &str| {
        let events = c.kubectl(&["get", "events", "--field-selector=involvedObject.name=worker"]);
        events.contains(text)
    };
    wait_for("the event", || {
        told("New size: 3; reason: cpu resource utilization (percentage of request) above target")
    });
    let table = c.kubectl(&["get", "hpa", "worker", "--no-headers"]);
    assert!(table.contains("Deployment/worker") && table.contains("/50%"), "{table}");
    // The older version shows the same.
    let v1 = jsonpath(
        &c,
        &["horizontalpodautoscalers.v1.autoscaling", "worker"],
        "{.spec.targetCPUUtilizationPercentage}",
    );
    assert_eq!(v1, "50");

    c.kubectl(&["patch", "configmap", "load", "--type=merge", "-p", r#"{"data":{"load":"low"}}"#]);
    wait_for("the deployment to shrink", || replicas() == "1");
    wait_for("its event", || told("New size: 1; reason: All metrics below target"));
    // Who scales to nothing by hand has it stay like that.
    c.kubectl(&["scale", "deployment", "worker", "--replicas=0"]);
    wait_for("scaling to be off", || condition("ScalingActive", "reason") == "ScalingDisabled");
    assert_eq!(replicas(), "0");
}

const WIDGETS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
"#;

/// A scaler of `Widget/one` by these metrics.
fn scaler(name: &str, min: i32, metrics: &str) -> String {
    format!(
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: {name}}}\nspec:\n  minReplicas: {min}\n  maxReplicas: 9\n  scaleTargetRef: {{apiVersion: example.com/v1, kind: Widget, name: one}}\n  behavior: {{scaleDown: {{stabilizationWindowSeconds: 0}}}}\n  metrics: [{metrics}]\n"
    )
}

#[test]
fn figures_of_other_servers_scale_any_kind() {
    let c = Cluster::control_plane();
    let e = Extension::start(&c, &["figures.default.svc"]);
    e.service("figures", 443).iter().for_each(|o| drop(c.apply(&o.to_string())));
    let (custom, external) = ("/apis/custom.metrics.k8s.io/v1beta2", "/apis/external.metrics.k8s.io/v1beta1");
    let figures = |depth: &str, orders: &str| {
        let list = |path: &str| {
            let gv = path.strip_prefix("/apis/").unwrap_or_default();
            (
                path.to_owned(),
                json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": []}),
            )
        };
        let value = json!({"describedObject": {"kind": "Service", "name": "q"}, "metric": {"name": "depth"},
            "timestamp": "2026-01-01T00:00:00Z", "value": depth});
        let orders = json!({"metricName": "all orders", "metricLabels": {}, "timestamp": "2026-01-01T00:00:00Z", "value": orders});
        e.documents(&[
            list(custom),
            list(external),
            (
                format!("{custom}/namespaces/default/services/q/depth"),
                json!({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "items": [value]}),
            ),
            (
                format!("{external}/namespaces/default/all orders"),
                json!({"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "items": [orders]}),
            ),
        ]);
    };
    figures("20", "0");
    c.apply(WIDGETS);
    c.kubectl(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=60s"]);
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: one}\nspec: {replicas: 2}\n";
    wait_for("the widget", || c.try_kubectl(&["apply", "-f", "-"], Some(widget)).ok);
    let status = r#"{"status": {"replicas": 2, "selector": "app=w"}}"#;
    c.kubectl(&["patch", "widget", "one", "--subresource=status", "--type=merge", "-p", status]);
    // Ready pods, which nobody runs here.
    for name in ["a", "b"] {
        c.apply(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: w}}}}\nspec: {{containers: [{{name: c, image: i}}], schedulerName: nobody}}\n"));
        let ready =
            r#"{"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}"#;
        c.kubectl(&["patch", "pod", name, "--subresource=status", "--type=merge", "-p", ready]);
    }
    let object = "{type: Object, object: {describedObject: {apiVersion: v1, kind: Service, name: q}, metric: {name: depth}, target: {type: Value, value: '10'}}}";
    c.apply(&scaler("depth", 1, object));
    let condition = |scaler: &str, kind: &str, field: &str| {
        let path = format!("{{.status.conditions[?(@.type==\"{kind}\")].{field}}}");
        jsonpath(&c, &["hpa", scaler], &path)
    };
    wait_for("the failure of a metric without a server", || {
        condition("depth", "ScalingActive", "reason") == "FailedGetObjectMetric"
    });
    let said = condition("depth", "ScalingActive", "message");
    assert_eq!(
        said,
        "the HPA was unable to compute the replica count: unable to get metric depth on Service default/q: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"
    );
    e.register(&c, "figures", "custom.metrics.k8s.io", "v1beta2");
    e.register(&c, "figures", "external.metrics.k8s.io", "v1beta1");
    let replicas = || jsonpath(&c, &["widget", "one"], "{.spec.replicas}");
    // Twice the target on two pods.
    wait_for("the widget to grow", || replicas() == "4");
    assert_eq!(jsonpath(&c, &["hpa", "depth"], "{.status.currentMetrics[0].object.current.value}"), "20");

    // A second scaler of the same pods: neither knows what to do.
    c.apply(&scaler("other", 1, object));
    wait_for("the ambiguity to be told", || {
        condition("other", "ScalingActive", "reason") == "AmbiguousSelector"
    });
    c.kubectl(&["delete", "hpa", "depth", "other"]);

    // By what is elsewhere it goes to nothing and comes back.
    let orders = "{type: External, external: {metric: {name: all orders}, target: {type: AverageValue, averageValue: '5'}}}";
    c.apply(&scaler("orders", 0, orders));
    wait_for("the widget to go to nothing", || replicas() == "0");
    wait_for("its condition", || condition("orders", "ScaledToZero", "status") == "True");
    figures("20", "12");
    wait_for("the widget to come back", || replicas() == "3");
    wait_for("its condition", || condition("orders", "ScaledToZero", "status") == "False");

    // Nothing there to be scaled.
    c.kubectl(&["delete", "widget", "one"]);
    wait_for("the missing target", || condition("orders", "AbleToScale", "reason") == "FailedGetScale");
}
