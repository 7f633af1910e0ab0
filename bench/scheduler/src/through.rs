//! The same shapes through a real API: nodes and pods are created over HTTP/2, the scheduler binds durably, a watch tells
//! when. Counts from the first create to the last binding, as upstream's SchedulingThroughput does. Spawns one task for each
//! creator and one for the watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_load::client::{Pool, open};
use bench_load::process::Watched;
use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::shapes::{self, Apart, Shape};

const JSON: &str = "application/json";
/// Creates under way at once.
const CREATORS: usize = 128;
/// A shape that does not get on within this is given up.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct World {
    pub pool: Arc<Pool>,
    pub nodes: usize,
    pub watched: Vec<Watched>,
}

/// Makes `count` objects, each by its number.
async fn create(
    pool: &Arc<Pool>,
    path: String,
    count: usize,
    body: impl Fn(usize) -> Value + Send + Sync + 'static,
) -> Result<()> {
    let (next, body) = (Arc::new(AtomicUsize::new(0)), Arc::new(body));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CREATORS.min(count) {
        let (pool, path, next, body) = (pool.clone(), path.clone(), next.clone(), body.clone());
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return anyhow::Ok(());
                }
                let bytes = Bytes::from(serde_json::to_vec(&body(n))?);
                pool.send(Method::POST, &path, JSON, bytes).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn remove(pool: &Pool, path: &str) -> Result<()> {
    let now = Bytes::from_static(br#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}"#);
    pool.send(Method::DELETE, path, JSON, now).await.map(|_| ())
}

/// Counts the pods of a namespace as they are bound.
struct Bound {
    count: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Bound {
    async fn watch(pool: &Pool, namespace: &str) -> Result<Self> {
        let path = format!("/api/v1/namespaces/{namespace}/pods?watch=1&resourceVersion=0");
        let mut sender = pool.connect().await?;
        let mut body = open(&mut sender, pool.request(Method::GET, &path, "", Bytes::new())?).await?;
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let task = tokio::spawn(async move {
            let _connection = sender;
            let (mut seen, mut rest) = (std::collections::HashSet::new(), BytesMut::new());
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame?.into_data() else { continue };
                rest.extend_from_slice(&data);
                while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                    let line = rest.split_to(end + 1);
                    let text = String::from_utf8_lossy(&line);
                    // No need to parse: a pod has one uid, and a bound one names its node.
                    let after = |key: &str| text.split_once(key).and_then(|(_, t)| t.split('"').next());
                    if after("\"nodeName\":\"").is_some()
                        && let Some(uid) = after("\"uid\":\"")
                        && seen.insert(uid.to_owned())
                    {
                        counter.store(seen.len(), Ordering::Relaxed);
                    }
                }
            }
            Ok(())
        });
        Ok(Self { count, task })
    }

    /// Until so many are bound.
    async fn wait(&self, want: usize) -> Result<()> {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let now = self.count.load(Ordering::Relaxed);
            if now >= want {
                return Ok(());
            }
            if now > last {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                bail!("{now} of {want} pods were bound, and no more for {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    /// Nodes, and the namespaces with what admission asks for.
    pub async fn prepare(&self) -> Result<()> {
        create(&self.pool, "/api/v1/nodes".into(), self.nodes, shapes::node_object).await.context("nodes")
    }

    async fn namespace(&self, name: &str) -> Result<()> {
        let n = name.to_owned();
        create(&self.pool, "/api/v1/namespaces".into(), 1, move |_| json!({"metadata": {"name": n}})).await?;
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
        create(&self.pool, path, 1, |_| json!({"metadata": {"name": "default"}})).await
    }

    async fn pods(
        &self,
        namespace: &str,
        prefix: &'static str,
        count: usize,
        of: fn(usize) -> Value,
    ) -> Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        create(&self.pool, path, count, move |n| shapes::named(&of(n), prefix, n)).await
    }

    pub async fn run(&self, shape: &Shape, pods: usize, turn: usize) -> Result<Value> {
        let (init, measured) = (format!("init-{turn}"), format!("sched-{turn}"));
        for n in [&init, &measured] {
            self.namespace(n).await?;
        }
        for (path, object) in (shape.objects)() {
            // It may be there from an earlier shape.
            if let Err(e) = create(&self.pool, path.to_owned(), 1, move |_| object.clone()).await
                && !e.to_string().contains("AlreadyExists")
            {
                return Err(e);
            }
        }
        let before = Bound::watch(&self.pool, &init).await?;
        self.pods(&init, "init", shape.before, shape.init).await.context("initial pods")?;
        if shape.apart != Some(Apart::InitWaits) {
            before.wait(shape.before).await.context("initial pods")?;
        }
        let bound = Bound::watch(&self.pool, &measured).await?;
        let count = pods.min(shape.most);
        let stop = Arc::new(AtomicBool::new(false));
        let beside = shape.apart.filter(|a| *a != Apart::InitWaits).map(|apart| {
            let (pool, namespace, stop) = (self.pool.clone(), init.clone(), stop.clone());
            tokio::spawn(async move {
                match apart {
                    Apart::Preempting => preempt(&pool, &namespace, &stop).await,
                    _ => churn(&pool, &namespace, &stop).await,
                }
            })
        });
        let cpu: Vec<f64> = self.watched.iter().map(Watched::cpu).collect::<Result<_>>()?;
        let began = Instant::now();
        self.pods(&measured, "p", count, shape.measured).await.context("measured pods")?;
        let created = began.elapsed().as_secs_f64();
        bound.wait(count).await.context("measured pods")?;
        let took = began.elapsed().as_secs_f64();
        let used: Vec<f64> = self.watched.iter().map(Watched::cpu).collect::<Result<_>>()?;
        stop.store(true, Ordering::Relaxed);
        if let Some(b) = beside {
            b.await??;
        }
        let us = used.iter().zip(&cpu).map(|(a, b)| (a - b) / count as f64 * 1e6).sum::<f64>();
        // The machine is left as it was found, for the next shape.
        for n in [&init, &measured] {
            remove(&self.pool, &format!("/api/v1/namespaces/{n}/pods")).await?;
        }
        let rate = count as f64 / took;
        println!(
            "{:<28} {count:>8} pods {rate:>8.0} a second, created {:>7.0} a second, {us:>7.0} µs of the server's CPU each",
            shape.name,
            count as f64 / created
        );
        Ok(
            json!({"bench": "scheduler", "shape": shape.name, "nodes": self.nodes, "pods": count, "pods_per_second": rate,
            "cpu_us_per_pod": us, "goal": shape.goal}),
        )
    }
}

/// Pods that need the place of three others, five a second.
async fn preempt(pool: &Arc<Pool>, namespace: &str, stop: &AtomicBool) -> Result<()> {
    let mut n = 0usize;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        create(pool, path, 1, move |_| shapes::named(&shapes::high(0), "high", n)).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// A node, a pod that fits nowhere and a service come and go, as in upstream's mixed churn.
async fn churn(pool: &Arc<Pool>, namespace: &str, stop: &AtomicBool) -> Result<()> {
    let mut n = 0usize;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let (pods, services) = (
            format!("/api/v1/namespaces/{namespace}/pods"),
            format!("/api/v1/namespaces/{namespace}/services"),
        );
        let mut node = shapes::node_object(1_000_000 + n);
        node["status"]["allocatable"]["pods"] = json!("0");
        let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        create(pool, "/api/v1/nodes".into(), 1, move |_| node.clone()).await?;
        create(pool, pods.clone(), 1, move |_| shapes::named(&shapes::too_large(0), "churn", n)).await?;
        create(pool, services.clone(), 1, move |_| {
            json!({"metadata": {"name": format!("churn-{n}")}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}})
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        remove(pool, &format!("/api/v1/nodes/{name}")).await?;
        remove(pool, &format!("{pods}/churn-{n}")).await?;
        remove(pool, &format!("{services}/churn-{n}")).await?;
    }
    Ok(())
}
