//! Where the `kubernetes` Service leads. A server alone says its own address. Servers that share a store each keep a record
//! alive under `/registry/masterleases/`, which ends by itself when its server does, and write all that are there into the
//! Service's Endpoints and EndpointSlice. The records are upstream's, with the port beside the address, since two servers on
//! one machine have two ports.
//!
//! Spawns one task where the store is shared; `leave` ends it, takes this server out and waits for that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use api::Status;
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::{Event, Op, Range, Record, WatchItem, Watcher};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cidr::family;
use super::kubernetes_service::{DISCOVERY, NAME};
use crate::handlers::meta;
use crate::server::ApiServer;
use crate::storage::failed;

pub const LEASES: &str = "/registry/masterleases/";
/// As upstream: a record ends unless it is renewed half a time more often.
const TTL: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
/// How long the way out may take.
const LEAVE: Duration = Duration::from_secs(3);
/// Marks the slices beside the first one.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "apiserver.kelson.dev";

/// The task that keeps our record, while it runs.
#[derive(Default)]
pub struct Keeper {
    leaving: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Says where this server is, and keeps saying it where others may be.
pub async fn start(s: &ApiServer) -> Result<(), Status> {
    if !s.cluster.shared {
        return write(s, &[own(s)].into()).await;
    }
    renew(s).await?;
    reconcile(s).await?;
    let server = s.clone();
    let task = tokio::spawn(async move {
        let (stop, leaving) = (server.stop.clone(), server.endpoints.leaving.clone());
        tokio::select! {
            () = stop.cancelled() => {}
            () = leaving.cancelled() => {}
            () = keep(&server) => {}
        }
    });
    *s.endpoints.task.lock() = Some(task);
    Ok(())
}

/// Takes this server out of the list, also as the last one. Does nothing where nobody else may be.
pub async fn leave(s: &ApiServer) {
    let Some(task) = s.endpoints.task.lock().take() else { return };
    s.endpoints.leaving.cancel();
    let out = async {
        // Nothing puts it back afterwards.
        let _ = task.await;
        let gone = Op::Delete { key: key(own(s)) };
        s.storage.commit(Vec::new(), vec![gone]).await?;
        let left = read(s).await?;
        write(s, &left).await
    };
    match tokio::time::timeout(LEAVE, out).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => {
            tracing::warn!(error = %e, "this server stays among the endpoints of kubernetes for a while")
        }
        Err(_) => tracing::warn!(
            "this server stays among the endpoints of kubernetes for a while: the store is slow"
        ),
    }
}

fn own(s: &ApiServer) -> SocketAddr {
    SocketAddr::new(s.cluster.advertise_address, s.cluster.advertise_port)
}

fn key(at: SocketAddr) -> String {
    format!("{LEASES}{at}")
}

/// What stands under a key of ours.
fn record(at: SocketAddr) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {},
        "subsets": [{"addresses": [{"ip": at.ip().to_string()}], "ports": [{"port": at.port(), "protocol": "TCP"}]}],
    })
}

/// The server that a record tells of. One of upstream's has no port: it is ours.
fn server_of(r: &Record, port: u16) -> Option<SocketAddr> {
    let v: Value = serde_json::from_slice(&r.value).ok()?;
    let subset = &v["subsets"][0];
    let ip = subset["addresses"][0]["ip"].as_str()?.parse().ok()?;
    let said = subset["ports"][0]["port"].as_u64().and_then(|p| u16::try_from(p).ok());
    Some(SocketAddr::new(ip, said.unwrap_or(port)))
}

async fn renew(s: &ApiServer) -> Result<(), Status> {
    let at = own(s);
    let put = Op::Put { key: key(at), value: record(at).to_string().into(), ttl: Some(TTL), aux: None };
    s.storage.commit(Vec::new(), vec![put]).await.map(drop)
}

async fn read(s: &ApiServer) -> Result<BTreeSet<SocketAddr>, Status> {
    let all = s.storage.store().range(Range::prefix(LEASES)).await.map_err(failed)?;
    Ok(all.records.iter().filter_map(|r| server_of(r, s.cluster.advertise_port)).collect())
}

async fn reconcile(s: &ApiServer) -> Result<(), Status> {
    let mut all = read(s).await?;
    all.insert(own(s));
    write(s, &all).await
}

/// Never ends.
async fn keep(s: &ApiServer) {
    let mut watch: Option<Box<dyn Watcher>> = None;
    // At start it has just been renewed.
    let mut due = Instant::now() + RENEW;
    loop {
        let result = async {
            if Instant::now() >= due {
                renew(s).await?;
                due = Instant::now() + RENEW;
            }
            if watch.is_none() {
                watch = Some(s.storage.store().watch(LEASES, None).await.map_err(failed)?);
            }
            reconcile(s).await
        };
        if let Err(e) = result.await {
            tracing::warn!(error = %e, "the endpoints of kubernetes were not written, trying again");
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let changed = async {
            match &mut watch {
                Some(w) => next(w.as_mut(), &key(own(s))).await,
                None => Ok(false),
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            c = changed => match c {
                Ok(true) => due = Instant::now(),
                Ok(false) => {}
                Err(e) => {
                    tracing::debug!(error = %e, "watching the servers anew");
                    watch = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Waits for a change; answers whether our own record has gone.
async fn next(w: &mut dyn Watcher, own: &str) -> Result<bool, store::Error> {
    loop {
        if let WatchItem::Events(events) = w.next().await? {
            let ended = |e: &Event| e.kind == store::EventKind::Delete && &*e.record.key == own;
            return Ok(events.iter().any(ended));
        }
    }
}

/// The subsets of the Endpoints: one for each port. Pure.
fn subsets(all: &BTreeSet<SocketAddr>) -> Value {
    let mut by_port: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
    for at in all {
        by_port.entry(at.port()).or_default().push(json!({"ip": at.ip().to_string()}));
    }
    by_port
        .into_iter()
        .map(|(port, addresses)| {
            json!({"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]})
        })
        .collect()
}

/// The slices: one for each family and port, of which the first has the Service's own name. Pure.
fn slices(all: &BTreeSet<SocketAddr>) -> Vec<Value> {
    let mut groups: BTreeMap<(&str, u16), Vec<Value>> = BTreeMap::new();
    for at in all {
        let one = json!({"addresses": [at.ip().to_string()], "conditions": {"ready": true}});
        groups.entry((family(at.ip()), at.port())).or_default().push(one);
    }
    let slice = |name: String, family: &str, endpoints: Vec<Value>, ports: Value| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "default", "generation": 1,
                "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": family, "endpoints": endpoints, "ports": ports,
        })
    };
    if groups.is_empty() {
        return vec![slice(NAME.into(), "IPv4", Vec::new(), json!([]))];
    }
    let groups = groups.into_iter().enumerate();
    groups
        .map(|(i, ((family, port), endpoints))| {
            let first = i == 0;
            let name =
                if first { NAME.into() } else { format!("{NAME}-{}-{port}", family.to_ascii_lowercase()) };
            let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
            let mut v = slice(name, family, endpoints, ports);
            if !first {
                v["metadata"]["labels"][MANAGED_BY] = json!(US);
            }
            v
        })
        .collect()
}

/// Writes the Endpoints and the slices where they say something else.
async fn write(s: &ApiServer, all: &BTreeSet<SocketAddr>) -> Result<(), Status> {
    let wanted = slices(all);
    for o in s.reader().list(DISCOVERY, "endpointslices", "default").await? {
        let labels = &o.meta().labels;
        if labels.get("kubernetes.io/service-name").is_none_or(|n| n != NAME) {
            continue;
        }
        let same_name = wanted.iter().find(|w| meta::name(w) == o.name());
        let wrong = match same_name {
            // The address type of a slice never changes: a slice of the other family is replaced.
            Some(w) => o.value().map_err(Status::internal)?["addressType"] != w["addressType"],
            None => labels.get(MANAGED_BY).is_some_and(|m| m == US),
        };
        if wrong {
            let key = format!("/registry/endpointslices/default/{}", o.name());
            s.storage.remove(&key, o.revision()).await?;
        }
    }
    for slice in wanted {
        ensure(s, DISCOVERY, "endpointslices", slice, &["endpoints", "ports"]).await?;
    }
    let old = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets(all),
    });
    ensure(s, "", "endpoints", old, &["subsets"]).await
}

/// Writes `wanted` where the object is missing or says something else. Another server may do the same at the same time.
async fn ensure(
    s: &ApiServer,
    group: &str,
    plural: &str,
    wanted: Value,
    fields: &[&str],
) -> Result<(), Status> {
    let name = meta::name(&wanted).to_owned();
    if s.reader().get(group, plural, "default", &name).await?.is_none() {
        match s.reader().create(group, plural, wanted.clone()).await {
            Err(e) if e.is_already_exists() => {}
            other => return other.map(drop),
        }
    }
    let decide = &mut |mut v: Value| {
        if fields.iter().all(|f| v[*f] == wanted[*f]) {
            return Ok(None);
        }
        for f in fields {
            v[*f] = wanted[*f].clone();
        }
        Ok(Some(v))
    };
    match s.reader().update(group, plural, "default", &name, decide).await {
        // Replaced by another server just now, which writes what it knows; a change of the list brings us back here.
        Err(e) if e.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};

    use super::*;

    fn all(servers: &[&str]) -> BTreeSet<SocketAddr> {
        servers.iter().map(|s| s.parse().expect("address")).collect()
    }

    #[test]
    fn servers_stand_together_by_port_and_family() {
        let one = all(&["192.0.2.2:6443", "192.0.2.1:6443"]);
        assert_eq!(
            subsets(&one),
            json!([{"addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}],
                "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}]}])
        );
        let s = slices(&one);
        assert_eq!((s.len(), meta::name(&s[0])), (1, "kubernetes"));
        assert_eq!(s[0]["endpoints"].as_array().map(Vec::len), Some(2));
        assert!(s[0]["metadata"]["labels"][MANAGED_BY].is_null(), "upstream's has none");

        let mixed = all(&["192.0.2.1:6444", "192.0.2.1:6443", "[2001:db8::1]:6443"]);
        assert_eq!(subsets(&mixed).as_array().map(Vec::len), Some(2));
        let names: Vec<String> = slices(&mixed).iter().map(|s| meta::name(s).to_owned()).collect();
        assert_eq!(names, ["kubernetes", "kubernetes-ipv4-6444", "kubernetes-ipv6-6443"]);

        assert_eq!(subsets(&all(&[])), json!([]));
        assert_eq!(slices(&all(&[]))[0]["endpoints"], json!([]));
    }

    #[test]
    fn records_are_read_back() {
        let of = |v: Value| {
            let r = Record {
                key: "k".into(),
                value: v.to_string().into(),
                create_revision: 1,
                mod_revision: 1,
                version: 1,
                expires_at_ms: None,
                aux: OnceLock::new(),
            };
            server_of(&Arc::new(r), 6443)
        };
        for at in ["192.0.2.1:16443", "[2001:db8::1]:6443"] {
            let at: SocketAddr = at.parse().expect("address");
            assert_eq!(of(record(at)), Some(at));
        }
        let upstream = json!({"kind": "Endpoints", "metadata": {"generation": 7}, "subsets": [{"addresses": [{"ip": "192.0.2.9"}]}]});
        assert_eq!(of(upstream), Some("192.0.2.9:6443".parse().expect("address")));
        for wrong in [json!({}), json!([]), json!({"subsets": [{"addresses": [{"ip": "x"}]}]})] {
            assert_eq!(of(wrong), None);
        }
    }
}
