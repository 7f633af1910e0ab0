//! The shell: reads what the families need, with the rights of whoever asks. What may not be read is noted, and the rest
//! goes on. Spawns nothing.

use std::collections::BTreeSet;

use api::{Object, Status};
use bytes::Bytes;
use client::{Client, ListParams};
use futures::future::join_all;
use http::Request;

use crate::facts::{Facts, Thing, str_of};
use crate::families::mounts;
use crate::target::{KINDS, Kind, kind};

/// Read in the namespace of what is asked about.
const WITHIN: [&str; 16] = [
    "pod",
    "deployment",
    "replicaset",
    "replicationcontroller",
    "statefulset",
    "daemonset",
    "job",
    "cronjob",
    "service",
    "endpointslice",
    "event",
    "persistentvolumeclaim",
    "resourcequota",
    "limitrange",
    "serviceaccount",
    "poddisruptionbudget",
];
const CLUSTER: [&str; 9] = [
    "node",
    "persistentvolume",
    "storageclass",
    "priorityclass",
    "runtimeclass",
    "csidriver",
    "namespace",
    "validatingwebhookconfiguration",
    "mutatingwebhookconfiguration",
];
/// How many containers' last words are asked for.
const LOGS: usize = 10;
const PAGE: u64 = 500;

/// What is asked about.
#[derive(Debug, Clone)]
pub enum Question {
    One {
        kind: &'static Kind,
        namespace: String,
        name: String,
    },
    /// Everything, in a namespace or (`""`) in all.
    All {
        namespace: String,
    },
}

/// All pages of a list.
async fn list(client: &Client, k: &Kind, ns: &str) -> Result<Vec<Object>, Status> {
    let mut p = ListParams { limit: PAGE, ..ListParams::default() };
    let mut out = Vec::new();
    loop {
        let page = client.list(&k.resource, ns, &p).await?;
        out.extend(page.items);
        if page.continue_token.is_empty() {
            return Ok(out);
        }
        p.continue_token = page.continue_token;
    }
}

fn plural(k: &Kind, ns: &str) -> String {
    let name = if k.resource.group.is_empty() {
        k.resource.plural.to_string()
    } else {
        format!("{}.{}", k.resource.plural, k.resource.group)
    };
    match (k.resource.namespaced, ns) {
        (true, "") => format!("{name} of all namespaces"),
        (true, ns) => format!("{name} in {ns}"),
        (false, _) => name,
    }
}

fn add(f: &mut Facts, k: &'static Kind, ns: &str, answer: Result<Vec<Object>, Status>) {
    match answer {
        Ok(all) => f.set_list(k.name, ns, all.iter().filter_map(|o| o.value().ok()).collect()),
        // A cluster that does not know the kind has none of it.
        Err(s) if s.is_not_found() => f.set_list(k.name, ns, Vec::new()),
        Err(s) => {
            f.unread.insert(plural(k, ns), s.message);
        }
    }
}

async fn lists(client: &Client, f: &mut Facts, wanted: &[(&'static Kind, String)]) {
    let answers = join_all(wanted.iter().map(|(k, ns)| list(client, k, ns))).await;
    for ((k, ns), answer) in wanted.iter().zip(answers) {
        add(f, k, ns, answer);
    }
}

/// Pods that lack something, and what they name.
fn named(f: &Facts) -> BTreeSet<(&'static str, String, String)> {
    let mut out = BTreeSet::new();
    let lacking = f
        .all("pod")
        .iter()
        .filter(|p| !crate::families::pods::is_ready(p) && p.text("/status/phase") == "Pending");
    for p in lacking.filter(|p| !p.text("/spec/nodeName").is_empty()) {
        out.extend(mounts::wanted(p).into_iter().map(|w| (w.kind, p.ns().to_owned(), w.name.to_owned())));
        for s in p.list("/spec/imagePullSecrets") {
            out.insert(("secret", p.ns().to_owned(), str_of(&s["name"]).to_owned()));
        }
    }
    out
}

/// Of secrets the names of the keys are kept, not what is in them.
fn hide(v: &mut serde_json::Value) {
    for field in ["data", "stringData", "binaryData"] {
        for (_, x) in v.get_mut(field).and_then(serde_json::Value::as_object_mut).into_iter().flatten() {
            *x = serde_json::Value::String(String::new());
        }
    }
    if let Some(m) = v.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        m.remove("annotations");
        m.remove("managedFields");
    }
}

async fn one(client: &Client, f: &mut Facts, k: &'static Kind, ns: &str, name: &str) {
    match client.get(&k.resource, ns, name).await {
        Ok(o) => {
            if let Ok(mut v) = o.value() {
                if matches!(k.name, "secret" | "configmap") {
                    hide(&mut v);
                }
                f.set_one(k.name, v);
            }
        }
        Err(s) if s.is_not_found() => f.set_missing(k.name, ns, name),
        Err(s) => {
            f.unread.insert(format!("{} {ns}/{name}", k.name), s.message);
        }
    }
}

/// Containers that have ended without success, with whether their last run is the one before.
fn ended(f: &Facts) -> Vec<(String, String, String, bool)> {
    let mut out = Vec::new();
    for p in f.all("pod").iter().filter(|p| p.text("/status/phase") != "Succeeded") {
        for list in ["/status/initContainerStatuses", "/status/containerStatuses"] {
            for c in p.list(list) {
                let bad = |t: &serde_json::Value| t["exitCode"].as_i64().is_some_and(|n| n != 0);
                let now = bad(&c["state"]["terminated"]);
                if now || bad(&c["lastState"]["terminated"]) {
                    out.push((p.ns().to_owned(), p.name().to_owned(), str_of(&c["name"]).to_owned(), !now));
                }
            }
        }
    }
    out.truncate(LOGS);
    out
}

async fn last_words(client: &Client, ns: &str, pod: &str, container: &str, previous: bool) -> Option<String> {
    let path = api::resource::PODS.path(ns, Some(pod), Some("log"));
    let uri = format!("{path}?container={container}&previous={previous}&tailLines=3&limitBytes=2000");
    let answer = client.raw(Request::get(uri).body(Bytes::new()).ok()?).await.ok()?;
    Some(String::from_utf8_lossy(answer.body()).into_owned())
}

/// Reads what is needed to answer. Fails when the thing itself can't be read, or nothing can.
pub async fn facts(client: &Client, q: &Question, now: i64) -> Result<Facts, Status> {
    let mut f = Facts::at(now);
    let asked = match q {
        Question::One { kind, namespace, name } => {
            let ns = if kind.resource.namespaced { namespace.as_str() } else { "" };
            Some(client.get(&kind.resource, ns, name).await?)
        }
        Question::All { .. } => None,
    };
    let ns = match q {
        Question::One { kind, namespace, .. } if kind.resource.namespaced => namespace.as_str(),
        Question::One { kind, name, .. } if kind.name == "namespace" => name.as_str(),
        Question::One { .. } => "",
        Question::All { namespace } => namespace,
    };
    let names = |all: &[&str]| -> Vec<(&'static Kind, String)> {
        all.iter()
            .filter_map(|n| kind(n))
            .map(|k| (k, if k.resource.namespaced { ns.to_owned() } else { String::new() }))
            .collect()
    };
    let mut wanted = names(&WITHIN);
    wanted.extend(names(&CLUSTER));
    wanted.extend(kind("networkpolicy").map(|k| (k, ns.to_owned())));
    wanted.extend(kind("lease").map(|k| (k, "kube-node-lease".to_owned())));
    wanted.extend(kind("lease").map(|k| (k, "kube-system".to_owned())));
    lists(client, &mut f, &wanted).await;
    // A kind that is not among those, or may be read by name only.
    if let (Some(o), Question::One { kind, .. }) = (&asked, q)
        && f.find(kind.name, o.namespace(), o.name()).is_none()
        && let Ok(v) = o.value()
    {
        f.set_one(kind.name, v);
    }
    if !ns.is_empty() {
        elsewhere(client, &mut f, ns).await;
    }
    for (kind_name, ns, name) in named(&f) {
        if let Some(k) = kind(kind_name) {
            one(client, &mut f, k, &ns, &name).await;
        }
    }
    for (ns, pod, container, previous) in ended(&f) {
        if let Some(text) = last_words(client, &ns, &pod, &container, previous).await {
            f.logs.insert((ns, pod, container), text);
        }
    }
    Ok(f)
}

/// What lies in other namespaces: all pods, where a pod waits for a node, and services of webhooks.
async fn elsewhere(client: &Client, f: &mut Facts, ns: &str) {
    let waits = |p: &&Thing| p.text("/spec/nodeName").is_empty() && !crate::families::pods::is_finished(p);
    if f.all("pod").iter().any(|p| waits(&p))
        && let Some(k) = kind("pod")
    {
        let answer =
            list(client, k, "").await.map(|all| all.into_iter().filter(|o| o.namespace() != ns).collect());
        add(f, k, "", answer);
    }
    let mut others = BTreeSet::new();
    for k in ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"] {
        for w in f.all(k).iter().flat_map(|c| c.list("/webhooks")) {
            let of = str_of(&w["clientConfig"]["service"]["namespace"]);
            if !of.is_empty() && of != ns {
                others.insert(of.to_owned());
            }
        }
    }
    let refused = f.all("event").iter().any(|e| e.text("/message").contains("failed calling webhook"));
    if !refused {
        return;
    }
    let all_pods = f.knows("pod", "");
    let wanted: Vec<(&'static Kind, String)> = KINDS
        .iter()
        .filter(|k| matches!(k.name, "service" | "endpointslice") || (k.name == "pod" && !all_pods))
        .flat_map(|k| others.iter().map(move |ns| (k, ns.clone())))
        .collect();
    lists(client, f, &wanted).await;
}
