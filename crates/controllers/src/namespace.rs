//! The namespace loop: empties a namespace that is being deleted, kind by kind as discovery lists them, tells what is
//! left in its conditions, and takes away the `kubernetes` finalizer when nothing is.

use std::time::Duration;

use api::resource::NAMESPACES;
use api::{Object, Resource, Status};
use client::{Client, DeleteOptions, Informer, ListParams, clock};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::skeleton::{self, Error, Key, Next, Queue};
use crate::{Context, discovery};

#[derive(Deserialize)]
struct View {
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    finalizers: Vec<String>,
}

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let namespaces = ctx.informers.get(&NAMESPACES);
    let q = queue.clone();
    namespaces.on_change(move |c| {
        if let Some(o) = c.new.filter(|o| o.meta().is_deleting()) {
            q.add(skeleton::key_of(o));
        }
    });
    if !skeleton::synced(&ctx.token, &[&namespaces]).await {
        return;
    }
    skeleton::work("namespace", &ctx.token, &queue, 5, |key| reconcile(&ctx, &namespaces, key)).await;
}

/// What one kind has left.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    resource: String,
    objects: usize,
    finalizers: Vec<String>,
}

async fn reconcile(ctx: &Context, namespaces: &Informer, key: Key) -> Result<Next, Error> {
    let Some(ns) = namespaces.get("", &key.1).filter(|n| n.meta().is_deleting()) else {
        return Ok(Next::Wait);
    };
    let view: View = ns.view()?;
    if !view.spec.finalizers.iter().any(|f| f == "kubernetes") {
        return Ok(Next::Wait);
    }
    let kinds = match discover(&ctx.client).await {
        Ok(kinds) => kinds,
        Err(s) => {
            let found = [("NamespaceDeletionDiscoveryFailure", Some(("DiscoveryFailed", s.message.clone())))];
            report(ctx, &ns, &view.status, &found).await?;
            return Err(s.into());
        }
    };
    let (mut left, mut failures) = (Vec::new(), Vec::new());
    for kind in &kinds {
        match empty(&ctx.client, kind, ns.name()).await {
            Ok(l) if l.objects > 0 => left.push(l),
            Ok(_) => {}
            Err(s) => failures.push(format!("{}: {s}", kind.plural)),
        }
        // What pods live by (policies, secrets, volumes) stays until the last of them is gone.
        if is_pods(kind) && !(left.is_empty() && failures.is_empty()) {
            break;
        }
    }
    let content = (!left.is_empty())
        .then(|| ("SomeResourcesRemain", format!("Some resources are remaining: {}", words(&left))));
    let finalizers = finalizer_words(&left).map(|w| {
        ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {w}"))
    });
    let failed = (!failures.is_empty()).then(|| {
        (
            "ContentDeletionFailed",
            format!(
                "Failed to delete all resource types, {} remaining: {}",
                failures.len(),
                failures.join(", ")
            ),
        )
    });
    let done = left.is_empty() && failures.is_empty();
    report(
        ctx,
        &ns,
        &view.status,
        &[
            ("NamespaceDeletionDiscoveryFailure", None),
            ("NamespaceDeletionContentFailure", failed),
            ("NamespaceContentRemaining", content),
            ("NamespaceFinalizersRemaining", finalizers),
        ],
    )
    .await?;
    if !done {
        return Ok(Next::After(Duration::from_millis(if left.iter().all(|l| l.finalizers.is_empty()) {
            250
        } else {
            1000
        })));
    }
    let rest: Vec<&String> = view.spec.finalizers.iter().filter(|f| *f != "kubernetes").collect();
    let body = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": ns.name(), "uid": ns.uid() }, "spec": { "finalizers": rest } });
    match ctx.client.update(&NAMESPACES, "", ns.name(), "finalize", &body).await {
        Err(s) if !s.is_not_found() => Err(s.into()),
        _ => Ok(Next::Wait),
    }
}

fn is_pods(kind: &Resource) -> bool {
    kind.group.is_empty() && kind.plural == "pods"
}

/// Every namespaced kind that can be listed and deleted. Pods go first; events last, since deleting the rest makes some.
async fn discover(client: &Client) -> Result<Vec<Resource>, Status> {
    let mut out = discovery::resources(client, &["list", "delete"]).await?;
    out.retain(|r| r.namespaced);
    out.sort_by_key(|r| (!is_pods(r), r.plural == "events"));
    Ok(out)
}

async fn empty(client: &Client, kind: &Resource, ns: &str) -> Result<Left, Status> {
    let list = client.list(kind, ns, &ListParams::default()).await?;
    if list.items.is_empty() {
        return Ok(Left::default());
    }
    if list.items.iter().any(|o| !o.meta().is_deleting()) {
        let options = DeleteOptions { propagation_policy: Some("Background"), ..DeleteOptions::default() };
        match client.delete_collection(kind, ns, &ListParams::default(), &options).await {
            Err(s) if s.code == 405 || s.is_not_found() => {
                for o in &list.items {
                    client.delete_if_there(kind, ns, o.name(), &options).await?;
                }
            }
            other => other?,
        }
    }
    let rest = client.list(kind, ns, &ListParams::default()).await?;
    let finalizers = rest.items.iter().flat_map(|o| o.meta().finalizers().to_vec()).collect();
    let name = if kind.group.is_empty() {
        kind.plural.to_string()
    } else {
        format!("{}.{}", kind.plural, kind.group)
    };
    Ok(Left { resource: name, objects: rest.items.len(), finalizers })
}

/// `pods. has 2 resource instances, …`, as upstream words it.
fn words(left: &[Left]) -> String {
    let mut parts: Vec<String> =
        left.iter().map(|l| format!("{}. has {} resource instances", l.resource, l.objects)).collect();
    parts.sort();
    parts.join(", ")
}

fn finalizer_words(left: &[Left]) -> Option<String> {
    let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for f in left.iter().flat_map(|l| &l.finalizers) {
        *counts.entry(f).or_default() += 1;
    }
    (!counts.is_empty()).then(|| {
        counts.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect::<Vec<_>>().join(", ")
    })
}

type Finding<'a> = (&'a str, Option<(&'a str, String)>);

/// Conditions are written once something remains or fails, and then kept true or false.
async fn report(ctx: &Context, ns: &Object, old: &Value, findings: &[Finding<'_>]) -> Result<(), Status> {
    let mut conditions = old["conditions"].as_array().cloned().unwrap_or_default();
    let mut changed = false;
    for (kind, finding) in findings {
        let (status, reason, message) = match finding {
            Some((reason, message)) => ("True", *reason, message.clone()),
            None => ("False", ok_reason(kind), ok_message(kind).to_owned()),
        };
        let new = json!({ "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": clock::rfc3339(clock::now()) });
        match conditions.iter_mut().find(|c| c["type"] == *kind) {
            Some(c) if c["status"] == status && c["message"] == message.as_str() => {}
            Some(c) => {
                *c = new;
                changed = true;
            }
            None => {
                // A namespace that empties at once needs no conditions; one that does not gets all of them.
                if finding.is_some() || changed {
                    changed = true;
                }
                conditions.push(new);
            }
        }
    }
    if changed {
        match ctx.client.patch_status(&NAMESPACES, "", ns.name(), json!({ "conditions": conditions })).await {
            Err(s) if !s.is_not_found() => return Err(s),
            _ => {}
        }
    }
    Ok(())
}

fn ok_reason(kind: &str) -> &'static str {
    match kind {
        "NamespaceDeletionDiscoveryFailure" => "ResourcesDiscovered",
        "NamespaceDeletionContentFailure" => "ContentDeleted",
        "NamespaceContentRemaining" => "ContentRemoved",
        _ => "ContentHasNoFinalizers",
    }
}

fn ok_message(kind: &str) -> &'static str {
    match kind {
        "NamespaceDeletionDiscoveryFailure" => "All resources successfully discovered",
        "NamespaceDeletionContentFailure" => {
            "All content successfully deleted, may be waiting on finalization"
        }
        "NamespaceContentRemaining" => "All content successfully removed",
        _ => "All content-preserving finalizers finished",
    }
}
