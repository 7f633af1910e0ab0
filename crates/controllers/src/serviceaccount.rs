//! Two small loops over namespaces: every active one has a service account `default`, and a config map
//! `kube-root-ca.crt` with the cluster's certificate authority. Both are put back when somebody deletes or changes them.

use api::resource::{CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS};
use api::{Object, Status};
use client::{Informer, Scope};
use serde_json::{Value, json};

use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue};

const ROOT_CA: &str = "kube-root-ca.crt";
const NOTE: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
    internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

fn active(namespaces: &Informer, name: &str) -> bool {
    namespaces.get("", name).is_some_and(|n| {
        !n.meta().is_deleting() && n.view::<Value>().is_ok_and(|v| v["status"]["phase"] != "Terminating")
    })
}

/// Queues a namespace for itself and for each change of the object named `name` in it.
fn watch(namespaces: &Informer, objects: &Informer, name: &'static str, queue: &Queue) {
    skeleton::enqueue_self(namespaces, queue);
    let q = queue.clone();
    objects.on_change(move |c| {
        if let Some(o) = c.object().filter(|o| o.name() == name && c.old.is_some()) {
            q.add((String::new(), o.namespace().to_owned()));
        }
    });
}

fn done(result: Result<Object, Status>) -> Result<Next, Error> {
    match result {
        Ok(_) => Ok(Next::Wait),
        // The namespace went away meanwhile, or somebody else was quicker.
        Err(s) if s.is_not_found() || s.is_already_exists() || s.code == 403 => Ok(Next::Wait),
        Err(s) => Err(s.into()),
    }
}

pub async fn default_accounts(ctx: Context) {
    let queue = Queue::default();
    let (namespaces, accounts) = (ctx.informers.get(&NAMESPACES), ctx.informers.get(&SERVICE_ACCOUNTS));
    watch(&namespaces, &accounts, "default", &queue);
    if !skeleton::synced(&ctx.token, &[&namespaces, &accounts]).await {
        return;
    }
    skeleton::work("serviceaccount", &ctx.token, &queue, 1, |key: Key| {
        let (ctx, namespaces, accounts) = (&ctx, &namespaces, &accounts);
        async move {
            let ns = key.1;
            if !active(namespaces, &ns) || accounts.get(&ns, "default").is_some() {
                return Ok(Next::Wait);
            }
            let body =
                json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
            done(ctx.client.create(&SERVICE_ACCOUNTS, &ns, &body).await)
        }
    })
    .await;
}

pub async fn root_ca(ctx: Context) {
    let queue = Queue::default();
    let namespaces = ctx.informers.get(&NAMESPACES);
    let scope = Scope { field_selector: format!("metadata.name={ROOT_CA}"), ..Scope::default() };
    let maps = ctx.informers.scoped(&CONFIG_MAPS, scope);
    watch(&namespaces, &maps, ROOT_CA, &queue);
    if !skeleton::synced(&ctx.token, &[&namespaces, &maps]).await {
        return;
    }
    skeleton::work("root-ca", &ctx.token, &queue, 1, |key: Key| {
        let (ctx, namespaces, maps) = (&ctx, &namespaces, &maps);
        async move {
            let ns = key.1;
            if !active(namespaces, &ns) {
                return Ok(Next::Wait);
            }
            let want = json!({ "ca.crt": ctx.config.root_ca });
            let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": want,
                "metadata": { "name": ROOT_CA, "annotations": { "kubernetes.io/description": NOTE } } });
            match maps.get(&ns, ROOT_CA) {
                None => done(ctx.client.create(&CONFIG_MAPS, &ns, &body).await),
                Some(o) if o.view::<Value>()?["data"] == want => Ok(Next::Wait),
                Some(_) => done(ctx.client.update(&CONFIG_MAPS, &ns, ROOT_CA, "", &body).await),
            }
        }
    })
    .await;
}
