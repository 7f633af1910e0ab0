//! The broken set-ups: what is applied, how one sees that it is as broken as it gets, what is asked, and the answer.

/// One of them.
pub struct Setup {
    pub name: &'static str,
    /// Namespace of everything in it.
    pub ns: &'static str,
    pub manifest: String,
    /// It is broken once the answer to this path has all of these words.
    pub until: (String, Vec<String>),
    /// What `kelson why` is asked.
    pub ask: String,
    /// The code of the first cause, and words of its first line.
    pub code: &'static str,
    pub words: Vec<String>,
}

fn meta(name: &str, ns: &str, labels: &str) -> String {
    format!("metadata: {{name: {name}, namespace: {ns}, labels: {{{labels}}}}}")
}

/// A pod; `container` and `spec` are further fields.
fn pod(name: &str, ns: &str, labels: &str, container: &str, spec: &str) -> String {
    let container = if container.contains("image:") {
        container.to_owned()
    } else {
        format!("image: busybox:1.36, {container}")
    };
    let comma = if spec.is_empty() { "" } else { ", " };
    format!(
        "apiVersion: v1\nkind: Pod\n{}\nspec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, {container}}}]{comma}{spec}}}\n---\n",
        meta(name, ns, labels)
    )
}

const SLEEP: &str = "command: [sleep, '100000']";

fn deployment(name: &str, ns: &str, spec: &str, container: &str, template: &str) -> String {
    let comma = |t: &str| if t.is_empty() { String::new() } else { format!(", {t}") };
    format!(
        "apiVersion: apps/v1\nkind: Deployment\n{}\nspec: {{selector: {{matchLabels: {{d: {name}}}}}{}, template: {{metadata: {{labels: {{d: {name}}}}}, \
         spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:1.36', {SLEEP}{}}}]{}}}}}}}\n---\n",
        meta(name, ns, ""),
        comma(spec),
        comma(container),
        comma(template)
    )
}

fn get(group: &str, ns: &str, plural: &str, name: &str) -> String {
    let root = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}") };
    if ns.is_empty() {
        format!("{root}/{plural}/{name}")
    } else {
        format!("{root}/namespaces/{ns}/{plural}/{name}")
    }
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|w| (*w).to_owned()).collect()
}

/// A pod that the scheduler has looked at without finding a node.
fn pending(name: &'static str, manifest: String, code: &'static str, says: &[&str]) -> Setup {
    Setup {
        name,
        ns: "w",
        manifest,
        until: (get("", "w", "pods", name), words(&["\"Unschedulable\"", "nodes are available"])),
        ask: format!("pod {name}"),
        code,
        words: words(says),
    }
}

/// A pod on the node whose object comes to have these words.
fn running(name: &'static str, manifest: String, until: &[&str], code: &'static str, says: &[&str]) -> Setup {
    Setup {
        name,
        ns: "w",
        manifest,
        until: (get("", "w", "pods", name), words(until)),
        ask: format!("pod/{name}"),
        code,
        words: words(says),
    }
}

/// A pod about which there is an event with these words.
fn told(name: &'static str, manifest: String, until: &[&str], code: &'static str, says: &[&str]) -> Setup {
    let events = format!("/api/v1/namespaces/w/events?fieldSelector=involvedObject.name%3D{name}");
    Setup { until: (events, words(until)), ..running(name, manifest, &[], code, says) }
}

/// A deployment whose pods the API server refuses.
fn refused(
    name: &'static str,
    ns: &'static str,
    manifest: String,
    until: &str,
    code: &'static str,
    says: &[&str],
) -> Setup {
    Setup {
        name,
        ns,
        manifest,
        until: (get("apps/v1", ns, "deployments", name), words(&["ReplicaFailure", until])),
        ask: format!("deployment/{name}"),
        code,
        words: words(says),
    }
}

/// Anything else.
#[allow(clippy::too_many_arguments)]
fn thing(
    name: &'static str,
    ask: &str,
    manifest: String,
    path: String,
    until: &[&str],
    code: &'static str,
    says: &[&str],
) -> Setup {
    Setup {
        name,
        ns: "w",
        manifest,
        until: (path, words(until)),
        ask: ask.to_owned(),
        code,
        words: words(says),
    }
}

/// Namespaces and what set-ups share. Nodes that exist in the API only are made by the test.
pub fn shared() -> String {
    let ns = |name: &str, labels: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n---\n")
    };
    [
        ns("w", ""),
        ns("quota", ""),
        ns("limits", ""),
        ns("hook", "hooked: 'yes'"),
        ns("strict", "pod-security.kubernetes.io/enforce: restricted"),
        pod("web", "w", "app: web", SLEEP, ""),
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: small, namespace: quota}\nspec: {hard: {pods: '0'}}\n---\n".into(),
        "apiVersion: v1\nkind: LimitRange\nmetadata: {name: range, namespace: limits}\nspec: {limits: [{type: Container, max: {memory: 64Mi}}]}\n---\n".into(),
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: gate}\nwebhooks:\n\
         - {name: gate.example.com, failurePolicy: Fail, sideEffects: None, admissionReviewVersions: [v1],\n   \
         namespaceSelector: {matchLabels: {hooked: 'yes'}}, clientConfig: {service: {namespace: hook, name: gatekeeper, path: /}},\n   \
         rules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}\n---\n".into(),
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: outside}\nprovisioner: disks.example.com\n---\n".into(),
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: late}\nprovisioner: disks.example.com\nvolumeBindingMode: WaitForFirstConsumer\n---\n".into(),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: w}\ndata: {colour: red}\n---\n".into(),
    ]
    .concat()
}

fn claim(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\n{}\nspec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}{spec}}}\n---\n",
        meta(name, "w", "")
    )
}

fn selectors() -> Vec<Setup> {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: lost, namespace: w}\nspec: {selector: {app: wbe}, ports: [{port: 80}]}\n---\n";
    let budget = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: lost, namespace: w}\nspec: {minAvailable: 1, selector: {matchLabels: {app: wbe}}}\n---\n";
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: lost, namespace: w}\nspec: {podSelector: {matchLabels: {app: wbe}}, policyTypes: [Ingress]}\n---\n";
    let port = "apiVersion: v1\nkind: Service\nmetadata: {name: wrong-port, namespace: w}\nspec: {selector: {app: named}, ports: [{port: 80, targetPort: htpp}]}\n---\n";
    vec![
        thing(
            "service-selector",
            "service/lost",
            service.into(),
            get("", "w", "services", "lost"),
            &["lost"],
            "selects-nothing",
            &["no pod has app=wbe"],
        ),
        thing(
            "budget-selector",
            "pdb/lost",
            budget.into(),
            get("policy/v1", "w", "poddisruptionbudgets", "lost"),
            &["InsufficientPods"],
            "selects-nothing",
            &["no pod has app=wbe"],
        ),
        thing(
            "policy-selector",
            "netpol/lost",
            policy.into(),
            get("networking.k8s.io/v1", "w", "networkpolicies", "lost"),
            &["lost"],
            "selects-nothing",
            &["no pod has app=wbe"],
        ),
        thing(
            "service-port",
            "svc wrong-port",
            port.to_owned()
                + &pod(
                    "named",
                    "w",
                    "app: named",
                    &format!("{SLEEP}, ports: [{{name: http, containerPort: 80}}]"),
                    "",
                ),
            get("", "w", "pods", "named"),
            &["\"phase\":\"Running\""],
            "target-port-missing",
            &["named htpp", "they name http"],
        ),
    ]
}

/// `one` and `two` are nodes of pool `one`, in zones a and b.
fn scheduling() -> Vec<Setup> {
    let on = |pool: &str| format!("nodeSelector: {{pool: {pool}}}");
    let anti = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: anti}}}]}}";
    let beside = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: nobody}}}]}}";
    let required = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: gpu, operator: In, values: [a100]}]}]}}}";
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, nodeAffinityPolicy: Ignore, labelSelector: {matchLabels: {app: spread}}}]";
    let port = format!("{SLEEP}, ports: [{{containerPort: 80, hostPort: 8081}}]");
    let gate = Setup {
        until: (get("", "w", "pods", "gated"), words(&["SchedulingGated"])),
        ..pending(
            "gated",
            pod("gated", "w", "", SLEEP, "schedulingGates: [{name: example.com/review}]"),
            "scheduling-gate",
            &["example.com/review"],
        )
    };
    let nobody = Setup {
        until: (get("", "w", "pods", "unserved"), words(&["\"phase\":\"Pending\""])),
        ..pending(
            "unserved",
            pod("unserved", "w", "", SLEEP, "schedulerName: mine"),
            "scheduler-missing",
            &["the scheduler mine"],
        )
    };
    vec![
        pending(
            "full",
            pod("full", "w", "", &format!("{SLEEP}, resources: {{requests: {{cpu: '4'}}}}"), &on("full")),
            "nodes-full",
            &["needs 4 cpu", "the most any node has free is 1.2", "3.8 of 5 used"],
        ),
        pending(
            "huge",
            pod("huge", "w", "", &format!("{SLEEP}, resources: {{requests: {{memory: 900Gi}}}}"), ""),
            "nodes-full",
            &["needs 900Gi memory", "no node is that large"],
        ),
        pending(
            "tainted",
            pod("tainted", "w", "", SLEEP, &on("tainted")),
            "node-taints",
            &["tainted has the taint dedicated=db:NoSchedule"],
        ),
        pending(
            "labels",
            pod("labels", "w", "", SLEEP, "nodeSelector: {disk: ssd}"),
            "node-labels",
            &["no node has the label disk=ssd", "there is disk=hdd"],
        ),
        pending("affinity", pod("affinity", "w", "", SLEEP, required), "node-affinity", &["gpu=a100"]),
        pending(
            "apart",
            pod("apart-0", "w", "app: anti", SLEEP, "nodeName: apart")
                + &pod("apart", "w", "app: anti", SLEEP, &format!("{}, {anti}", on("apart"))),
            "pod-anti-affinity",
            &["app=anti", "apart has one"],
        ),
        pending(
            "beside",
            pod("beside", "w", "", SLEEP, beside),
            "pod-affinity",
            &["beside pods with app=nobody"],
        ),
        pending(
            "spread",
            pod("spread-0", "w", "app: spread", SLEEP, "nodeName: one")
                + &pod("spread", "w", "app: spread", SLEEP, &format!("nodeSelector: {{zone: a}}, {spread}")),
            "topology-spread",
            &["maxSkew 1 over zone"],
        ),
        pending(
            "cordoned",
            pod("cordoned", "w", "", SLEEP, &on("cordoned")),
            "node-cordoned",
            &["cordoned is cordoned"],
        ),
        pending(
            "port",
            pod("port-0", "w", "", &port, "nodeName: apart") + &pod("port", "w", "", &port, &on("apart")),
            "host-port",
            &["host port 8081 of the node apart is taken by the pod w/port-0"],
        ),
        gate,
        nobody,
    ]
}

fn images(registry: &str) -> Vec<Setup> {
    let of = |name: &'static str, image: &str, more: &str, until: &[&str], code, says: &[&str]| {
        running(name, pod(name, "w", "", &format!("image: '{image}'{more}"), ""), until, code, says)
    };
    let never = ", imagePullPolicy: Never";
    vec![
        of(
            "no-image",
            &format!("{registry}/public/none:1"),
            "",
            &["ImagePullBackOff"],
            "image-missing",
            &["/public/none:1 does not exist"],
        ),
        of(
            "no-tag",
            &format!("{registry}/public/busybox:9"),
            "",
            &["ErrImagePull"],
            "image-missing",
            &["/public/busybox has no tag 9"],
        ),
        of(
            "private",
            &format!("{registry}/private/app:1"),
            "",
            &["ErrImagePull"],
            "image-denied",
            &["/private/app:1", "private"],
        ),
        of(
            "no-registry",
            "127.0.0.1:9/app:1",
            "",
            &["\"waiting\":{\"message\":", "pull"],
            "registry-unreachable",
            &["127.0.0.1:9 can't be reached from node-1"],
        ),
        of(
            "not-here",
            "docker.io/library/not-here:1",
            never,
            &["ErrImageNeverPull"],
            "image-never-pulled",
            &["not-here:1 is not on node-1"],
        ),
    ]
}

fn probe(kind: &str, what: &str) -> String {
    format!("{SLEEP}, {kind}: {{{what}, periodSeconds: 1, failureThreshold: 1}}")
}

fn containers() -> Vec<Setup> {
    let sh = |script: &str| format!("command: [sh, -c, '{script}']");
    let env = |kind: &str, name: &str, key: &str| {
        format!("{SLEEP}, env: [{{name: A, valueFrom: {{{kind}: {{name: {name}, key: {key}}}}}}}]")
    };
    let volume = |name: &str, source: &str| format!("volumes: [{{name: {name}, {source}}}]");
    let mount = |name: &str| format!("{SLEEP}, volumeMounts: [{{name: {name}, mountPath: /v}}]");
    let bad = "CreateContainerConfigError";
    vec![
        told(
            "live",
            pod("live", "w", "", &probe("livenessProbe", "tcpSocket: {port: 9}"), ""),
            &["failed liveness probe"],
            "liveness-probe",
            &["liveness probe of the container c fails"],
        ),
        told(
            "ready",
            pod("ready", "w", "", &probe("readinessProbe", "httpGet: {path: /ok, port: 9}"), ""),
            &["Readiness probe failed"],
            "readiness-probe",
            &["readiness probe fails", "nothing listens on port 9"],
        ),
        told(
            "startup",
            pod("startup", "w", "", &probe("startupProbe", "exec: {command: [test, -e, /up]}"), ""),
            &["failed startup probe"],
            "startup-probe",
            &["start-up probe"],
        ),
        running(
            "crash",
            pod("crash", "w", "", &sh("echo no database >&2; exit 3"), ""),
            &["CrashLoopBackOff"],
            "crash",
            &["exit code 3"],
        ),
        running(
            "oom",
            pod("oom", "w", "", "command: [tail, /dev/zero], resources: {limits: {memory: 24Mi}}", ""),
            &["OOMKilled"],
            "out-of-memory",
            &["its limit of 24Mi"],
        ),
        running(
            "no-map",
            pod("no-map", "w", "", &env("configMapKeyRef", "absent", "k"), ""),
            &[bad],
            "config-map-missing",
            &["the config map absent does not exist"],
        ),
        told(
            "no-secret",
            pod("no-secret", "w", "", &mount("s"), &volume("s", "secret: {secretName: absent}")),
            &["FailedMount"],
            "secret-missing",
            &["the secret absent does not exist"],
        ),
        running(
            "no-key",
            pod("no-key", "w", "", &env("configMapKeyRef", "settings", "size"), ""),
            &[bad],
            "key-missing",
            &["settings has no key size", "it has colour"],
        ),
        running(
            "init",
            pod(
                "init",
                "w",
                "",
                SLEEP,
                "initContainers: [{name: prepare, image: 'busybox:1.36', command: [sh, -c, 'exit 7']}]",
            ),
            &["\"exitCode\":7"],
            "init-failing",
            &["init container prepare fails with exit code 7"],
        ),
        running(
            "no-command",
            pod("no-command", "w", "", "command: [/no/such/program]", ""),
            &["/no/such/program: no such file"],
            "command-missing",
            &["/no/such/program", "not in the image"],
        ),
        running(
            "root",
            pod("root", "w", "", &format!("{SLEEP}, securityContext: {{runAsNonRoot: true}}"), ""),
            &[bad],
            "run-as-non-root",
            &["may not run as root"],
        ),
        told(
            "mount",
            pod(
                "mount",
                "w",
                "",
                &mount("h"),
                &volume("h", "hostPath: {path: /no/such/directory, type: Directory}"),
            ),
            &["FailedMount"],
            "mount-failed",
            &["a volume can't be mounted on node-1"],
        ),
        running(
            "ends",
            pod("ends", "w", "", "command: ['true']", ""),
            &["CrashLoopBackOff"],
            "ends-at-once",
            &["ends by itself"],
        ),
    ]
}

fn claims() -> Vec<Setup> {
    let path = |name: &str| get("", "w", "persistentvolumeclaims", name);
    let of = |name: &'static str, spec: &str, code, says: &[&str]| {
        thing(
            name,
            &format!("pvc/{name}"),
            claim(name, spec),
            path(name),
            &["\"phase\":\"Pending\""],
            code,
            says,
        )
    };
    let used = "volumes: [{name: v, persistentVolumeClaim: {claimName: plain}}]";
    vec![
        of("classless", "", "claim-no-class", &["names no storage class, and no class is the default"]),
        of(
            "no-class",
            ", storageClassName: fast",
            "claim-class-missing",
            &["wants the storage class fast", "does not exist"],
        ),
        of("unmade", ", storageClassName: outside", "provisioner-missing", &["disks.example.com", "no sign"]),
        of("unused", ", storageClassName: late", "claim-waits", &["once a pod uses it"]),
        thing(
            "unbound",
            "pod unbound",
            claim("plain", "") + &pod("unbound", "w", "", SLEEP, used),
            get("", "w", "pods", "unbound"),
            &["unbound immediate PersistentVolumeClaims"],
            "claim-no-class",
            &["the claim plain names no storage class"],
        ),
    ]
}

fn creation() -> Vec<Setup> {
    vec![
        refused(
            "quota",
            "quota",
            deployment("quota", "quota", "", "", ""),
            "exceeded quota",
            "quota-exceeded",
            &["the quota small", "pods=0"],
        ),
        refused(
            "limits",
            "limits",
            deployment(
                "limits",
                "limits",
                "",
                "resources: {limits: {memory: 128Mi}, requests: {memory: 8Mi}}",
                "",
            ),
            "memory usage per Container",
            "limit-range",
            &["the limit range range", "64Mi"],
        ),
        refused(
            "hooked",
            "hook",
            deployment("hooked", "hook", "", "", ""),
            "failed calling webhook",
            "webhook-down",
            &["gate.example.com", "service gatekeeper in hook does not exist"],
        ),
        refused(
            "secure",
            "strict",
            deployment("secure", "strict", "", "", ""),
            "PodSecurity",
            "pod-security",
            &["admits only restricted pods"],
        ),
        refused(
            "account",
            "w",
            deployment("account", "w", "", "", "serviceAccountName: robot"),
            "robot",
            "service-account-missing",
            &["the service account robot does not exist"],
        ),
        refused(
            "priority",
            "w",
            deployment("priority", "w", "", "", "priorityClassName: urgent"),
            "urgent",
            "priority-class-missing",
            &["the priority class urgent does not exist"],
        ),
        refused(
            "runtime",
            "w",
            deployment("runtime", "w", "", "", "runtimeClassName: gvisor"),
            "gvisor",
            "runtime-class-missing",
            &["the runtime class gvisor does not exist"],
        ),
    ]
}

fn others() -> Vec<Setup> {
    let job = |name: &str, spec: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\n{}\nspec: {{{spec}, template: {{spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:1.36', {SLEEP}}}]}}}}}}\n---\n",
            meta(name, "w", "")
        )
    };
    let jobs = |name: &str| get("batch/v1", "w", "jobs", name);
    let budget = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: guard, namespace: w}\nspec: {maxUnavailable: 0, selector: {matchLabels: {d: guarded}}}\n---\n";
    let daemons = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: daemons, namespace: w}\nspec: {selector: {matchLabels: {d: d}}, template: {metadata: {labels: {d: d}}, spec: {nodeSelector: {gpu: 'yes'}, containers: [{name: c, image: i}]}}}\n---\n";
    let held = "apiVersion: v1\nkind: Service\nmetadata: {name: held, namespace: w, finalizers: [example.com/tidy]}\nspec: {ports: [{port: 80}], clusterIP: None}\n---\n";
    vec![
        thing(
            "finalizer",
            "service/held",
            held.into(),
            get("", "w", "services", "held"),
            &["deletionTimestamp"],
            "finalizer",
            &["the finalizer example.com/tidy"],
        ),
        thing(
            "drain",
            "node/drained",
            deployment("guarded", "w", "", "", "nodeName: drained") + budget,
            get("policy/v1", "w", "poddisruptionbudgets", "guard"),
            &["\"expectedPods\":1"],
            "budget-blocks",
            &["drained can't be drained", "the budget guard"],
        ),
        thing(
            "paused",
            "deploy/paused",
            deployment("paused", "w", "paused: true", "", ""),
            get("apps/v1", "w", "deployments", "paused"),
            &["DeploymentPaused"],
            "paused",
            &["it is paused"],
        ),
        thing(
            "suspended",
            "job/suspended",
            job("suspended", "suspend: true"),
            jobs("suspended"),
            &["Suspended"],
            "suspended",
            &["it is suspended"],
        ),
        thing(
            "late",
            "job late",
            job("late", "activeDeadlineSeconds: 1"),
            jobs("late"),
            &["DeadlineExceeded"],
            "deadline-exceeded",
            &["longer than the 1 s"],
        ),
        thing(
            "daemons",
            "ds/daemons",
            daemons.into(),
            get("apps/v1", "w", "daemonsets", "daemons"),
            &["\"observedGeneration\":1"],
            "no-node-matches",
            &["gpu=yes"],
        ),
        thing(
            "broken-node",
            "node broken",
            String::new(),
            get("", "", "nodes", "broken"),
            &["the network is not up"],
            "node-not-ready",
            &["broken is not ready", "the network is not up"],
        ),
        thing(
            "on-broken",
            "pod/on-broken",
            pod("on-broken", "w", "", SLEEP, "nodeName: broken"),
            get("", "w", "pods", "on-broken"),
            &["\"phase\":\"Pending\""],
            "node-not-ready",
            &["the node broken is not ready"],
        ),
        thing(
            "deployed",
            "deployment/deployed",
            deployment("deployed", "w", "replicas: 2", "envFrom: [{secretRef: {name: nowhere}}]", ""),
            get("apps/v1", "w", "deployments", "deployed"),
            &["\"unavailableReplicas\":2"],
            "secret-missing",
            &["the secret nowhere does not exist"],
        ),
    ]
}

pub fn all(registry: &str) -> Vec<Setup> {
    [selectors(), scheduling(), images(registry), containers(), claims(), creation(), others()]
        .into_iter()
        .flatten()
        .collect()
}
