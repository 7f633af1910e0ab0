//! What a program on kube-rs does: objects, conflicts, server-side apply, scale, discovery, a watcher in both of its
//! forms, and with a node (`node` as second argument) logs and exec. Prints `ok`, or says what went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{
    Api, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams,
    PropagationPolicy,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{Discovery, Scope};
use kube::runtime::reflector;
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{self, Event, InitialListStrategy};
use kube::{Client, Config, ResourceExt};
use serde_json::json;
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, kubeconfig, shape] = args.as_slice() else { bail!("KUBECONFIG SHAPE") };
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let work = async {
        let version = client.apiserver_version().await?;
        ensure!(version.major == "1" && version.minor == "37", "version {version:?}");
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "rust"}}))?;
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        objects(&client).await.context("objects")?;
        for strategy in [InitialListStrategy::ListWatch, InitialListStrategy::StreamingList] {
            watching(&client, strategy.clone()).await.with_context(|| format!("watching by {strategy:?}"))?;
        }
        deployments(&client).await.context("deployments")?;
        discovery(&client).await.context("discovery")?;
        if shape == "node" {
            pods(&client).await.context("pods")?;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(240), work).await.context("it took too long")??;
    println!("ok");
    Ok(())
}

fn map(name: &str, value: &str) -> ConfigMap {
    let mut m = ConfigMap::default();
    m.metadata.name = Some(name.into());
    m.metadata.labels = Some(BTreeMap::from([("for".into(), "rust".into())]));
    m.data = Some(BTreeMap::from([("k".into(), value.into())]));
    m
}

async fn objects(client: &Client) -> Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "rust");
    let post = PostParams::default();
    let first = api.create(&post, &map("a", "1")).await?;
    match api.create(&post, &map("a", "1")).await {
        Err(kube::Error::Api(e)) if e.code == 409 && e.reason == "AlreadyExists" => {}
        other => bail!("a second create: {other:?}"),
    }
    let mut newer = first.clone();
    newer.data = Some(BTreeMap::from([("k".into(), "2".into())]));
    let newer = api.replace("a", &post, &newer).await?;
    ensure!(newer.resource_version() != first.resource_version(), "the version stayed");
    match api.replace("a", &post, &first).await {
        Err(kube::Error::Api(e)) if e.code == 409 && e.reason == "Conflict" => {}
        other => bail!("a stale replace: {other:?}"),
    }
    let merged = api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"l": "3"}}))).await?;
    ensure!(merged.data.as_ref().is_some_and(|d| d.len() == 2), "{merged:?}");
    for n in 0..25 {
        api.create(&post, &map(&format!("page-{n:02}"), "x")).await?;
    }
    let (mut params, mut seen) = (ListParams::default().labels("for=rust").limit(10), 0);
    loop {
        let page = api.list(&params).await?;
        seen += page.items.len();
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(c) => params = params.continue_token(&c),
            None => break,
        }
    }
    ensure!(seen == 26, "{seen} objects in pages");
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels("for=rust")).await?;
    ensure!(api.get_opt("a").await?.is_none(), "it is still there");
    Ok(())
}

/// Every change once and in order, after a start from what is there.
async fn watching(client: &Client, strategy: InitialListStrategy) -> Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "rust");
    let post = PostParams::default();
    api.create(&post, &map("before", "1")).await?;
    let config =
        watcher::Config { initial_list_strategy: strategy, ..watcher::Config::default().labels("for=rust") };
    let (reader, writer) = reflector::store();
    let mut events = reflector::reflector(writer, kube::runtime::watcher(api.clone(), config)).boxed();
    let mut told = Vec::new();
    let mut next = async |told: &mut Vec<String>| -> Result<bool> {
        let event = events.try_next().await?.context("the watch ended")?;
        told.push(match event {
            Event::Init => "init".into(),
            Event::InitApply(o) => format!("had {}", o.name_any()),
            Event::InitDone => "done".into(),
            Event::Apply(o) => format!("{} {}", o.name_any(), o.data.unwrap_or_default()["k"]),
            Event::Delete(o) => format!("gone {}", o.name_any()),
        });
        Ok(true)
    };
    while told.last().is_none_or(|t| t != "done") {
        next(&mut told).await?;
    }
    api.create(&post, &map("after", "1")).await?;
    api.patch("after", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2"}}))).await?;
    api.delete("after", &DeleteParams::default()).await?;
    api.delete("before", &DeleteParams::default()).await?;
    while told.last().is_none_or(|t| t != "gone before") {
        next(&mut told).await?;
    }
    let wanted = ["init", "had before", "done", "after 1", "after 2", "gone after", "gone before"];
    ensure!(told == wanted, "told {told:?}");
    ensure!(reader.state().is_empty(), "the store kept something");
    Ok(())
}

async fn deployments(client: &Client) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), "rust");
    let wanted = |replicas: i32| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "busybox:1.36", "command": ["sleep", "1000"]}]}}}})
    };
    let apply = PatchParams::apply("rust-client");
    api.patch("web", &apply, &Patch::Apply(wanted(1))).await?;
    let other = PatchParams::apply("somebody-else");
    match api.patch("web", &other, &Patch::Apply(wanted(2))).await {
        Err(kube::Error::Api(e)) if e.code == 409 && e.message.contains("conflict with \"rust-client\"") => {}
        other => bail!("an apply in conflict: {other:?}"),
    }
    api.patch("web", &other.force(), &Patch::Apply(wanted(0))).await?;
    let scale = api.get_scale("web").await?;
    ensure!(scale.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0) == 0, "{scale:?}");
    let delete =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..Default::default() };
    let uid = api.get("web").await?.uid().context("no uid")?;
    api.delete("web", &delete).await?;
    await_condition(api, "web", conditions::is_deleted(&uid)).await?;
    Ok(())
}

async fn discovery(client: &Client) -> Result<()> {
    let all = Discovery::new(client.clone()).run().await?;
    let mut kinds = 0;
    for group in all.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation("list") {
                continue;
            }
            kinds += 1;
            let api: Api<DynamicObject> = match capabilities.scope {
                Scope::Namespaced => Api::namespaced_with(client.clone(), "rust", &resource),
                Scope::Cluster => Api::all_with(client.clone(), &resource),
            };
            api.list(&ListParams::default().limit(5))
                .await
                .with_context(|| format!("list of {}", resource.plural))?;
        }
    }
    ensure!(kinds > 40, "only {kinds} kinds");
    Ok(())
}

async fn pods(client: &Client) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), "rust");
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": "busybox:1.36", "command": ["sh", "-c", "echo hello; sleep 1000"]}]}}),
    )?;
    // The namespace's service account is made by a controller.
    loop {
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => break,
            Err(kube::Error::Api(e)) if e.code == 403 && e.message.contains("serviceaccount") => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(e) => return Err(e.into()),
        }
    }
    await_condition(api.clone(), "p", conditions::is_pod_running()).await?;
    while api.logs("p", &LogParams::default()).await? != "hello\n" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut exec = api.exec("p", ["cat", "/etc/hostname"], &AttachParams::default().stderr(false)).await?;
    let mut out = String::new();
    exec.stdout().context("no output")?.read_to_string(&mut out).await?;
    ensure!(out == "p\n", "exec said {out:?}");
    exec.join().await?;
    api.delete("p", &DeleteParams::default()).await?;
    Ok(())
}
