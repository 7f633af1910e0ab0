//! Services: cluster addresses and node ports. An address is an IPAddress object, a node port a key of its own; both are
//! written in the Service's transaction, so that two Services never share one and nothing leaks. `service_spec` is the
//! pure half, `kubernetes_service` keeps the cluster's own Service and repairs at start.

use std::net::IpAddr;

use api::{Cause, Reason, Status};
use async_trait::async_trait;
use serde_json::{Value, json};
use store::{Op, Range};

use super::cidr::{Cidr, family};
use super::service_spec as spec;
use crate::handlers::meta;
use crate::registry::{Context, Extra, Strategy};
use crate::server::{ApiServer, Cluster};
use crate::storage::{Encoded, at_revision, failed};

pub use super::kubernetes_service::start;

pub const NODE_PORTS: &str = "/registry/ranges/servicenodeports/";
const RANDOM_TRIES: usize = 32;

pub struct Services;

/// The configured ranges.
pub struct Allocators {
    pub cidrs: Vec<Cidr>,
    pub node_ports: std::ops::RangeInclusive<u16>,
}

impl Allocators {
    pub fn new(c: &Cluster) -> Result<Self, String> {
        let cidrs = c
            .service_cidrs
            .iter()
            .map(|s| {
                Cidr::parse(s)
                    .ok_or_else(|| format!("service CIDR {s:?} is no address range like 10.96.0.0/16"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { cidrs, node_ports: c.node_ports.clone() })
    }
}

fn invalid(v: &Value, field: &str, message: String) -> Status {
    Status::invalid(
        "",
        "Service",
        meta::name(v),
        vec![Cause { reason: "FieldValueInvalid".into(), message, field: field.into() }],
    )
}

/// Ranges of all ServiceCIDR objects that are not on their way out.
async fn ranges(s: &ApiServer) -> Result<Vec<Cidr>, Status> {
    let mut out = s.allocators.cidrs.clone();
    for o in s.reader().list("networking.k8s.io", "servicecidrs", "").await? {
        if o.meta().is_deleting() {
            continue;
        }
        let v = o.value().map_err(Status::internal)?;
        for c in spec::texts(&v["spec"]["cidrs"]).iter().filter_map(|c| Cidr::parse(c)) {
            if !out.contains(&c) {
                out.push(c);
            }
        }
    }
    Ok(out)
}

pub fn ip_key(ip: &str) -> String {
    format!("/registry/ipaddresses/{ip}")
}

/// The IPAddress object that stands for one address of a Service.
pub fn ip_address(ip: IpAddr, namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": ip.to_string(),
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": client::clock::rfc3339(client::clock::now()),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family(ip),
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    })
}

async fn is_free(s: &ApiServer, key: &str) -> Result<bool, Status> {
    Ok(s.storage.store().get(key).await.map_err(failed)?.is_none())
}

async fn claim_ip(s: &ApiServer, ip: IpAddr, v: &Value, extra: &mut Extra) -> Result<(), Status> {
    let key = ip_key(&ip.to_string());
    let o = ip_address(ip, meta::text(v, "/metadata/namespace"), meta::name(v));
    extra.compare.push(at_revision(&key, 0));
    extra.ops.push(Encoded::new(o)?.put(&key, None));
    let _ = s;
    Ok(())
}

/// A free address of a family: a random one above the static band, then whatever is left.
async fn pick_ip(s: &ApiServer, ranges: &[Cidr], want: &str, v: &Value) -> Result<IpAddr, Status> {
    let own: Vec<Cidr> = ranges.iter().copied().filter(|c| c.family() == want).collect();
    for c in &own {
        let (band, n) = (c.static_band(), c.usable());
        if n == 0 {
            continue;
        }
        for _ in 0..RANDOM_TRIES {
            let ip = c.at(rand::random_range(band + 1..=n.max(band + 1)));
            if c.contains(ip) && is_free(s, &ip_key(&ip.to_string())).await? {
                return Ok(ip);
            }
        }
        let used: std::collections::HashSet<String> = {
            let r = s.storage.store().range(Range::prefix("/registry/ipaddresses/")).await.map_err(failed)?;
            r.records.iter().map(|r| r.key.rsplit('/').next().unwrap_or_default().to_owned()).collect()
        };
        let order = (band + 1..=n).chain(1..=band.min(n));
        let limit = usize::try_from(n).unwrap_or(usize::MAX).min(used.len() + 2 + 256);
        if let Some(ip) = order.take(limit).map(|i| c.at(i)).find(|ip| !used.contains(&ip.to_string())) {
            return Ok(ip);
        }
    }
    let _ = v;
    Err(Status::new(
        Reason::InternalError,
        format!("Internal error occurred: failed to allocate a serviceIP: range is full ({want})"),
    ))
}

async fn addresses(
    s: &ApiServer,
    new: &mut Value,
    old: Option<&Value>,
    extra: &mut Extra,
) -> Result<(), Status> {
    let mut configured: Vec<&'static str> = Vec::new();
    for c in &s.allocators.cidrs {
        if !configured.contains(&c.family()) {
            configured.push(c.family());
        }
    }
    spec::families(new, &configured).map_err(|(field, m)| invalid(new, field, m))?;
    let before: Vec<String> = old.map(spec::allocated_ips).unwrap_or_default();
    if spec::needs_cluster_ip(new) && !spec::is_headless(new) {
        let ranges = ranges(s).await?;
        let families = spec::texts(&new["spec"]["ipFamilies"]);
        let mut ips: Vec<String> = spec::cluster_ips(new);
        ips.truncate(families.len());
        for (i, want) in families.iter().enumerate() {
            match ips.get(i).cloned() {
                Some(ip) if before.contains(&ip) => {}
                Some(text) if !text.is_empty() => {
                    let shown = || {
                        format!(
                            "Invalid value: [{}]",
                            ips.iter().map(|s| format!("\"{s}\"")).collect::<Vec<_>>().join(",")
                        )
                    };
                    let ip: IpAddr = text.parse().map_err(|_| {
                        invalid(new, &format!("spec.clusterIPs[{i}]"), format!("Invalid value: \"{text}\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
                    })?;
                    if !ranges.iter().any(|c| c.contains(ip)) {
                        let all: Vec<&str> = s.cluster.service_cidrs.iter().map(String::as_str).collect();
                        return Err(invalid(
                            new,
                            "spec.clusterIPs",
                            format!(
                                "{}: failed to allocate IP {ip}: provided IP ({ip}) is not in the valid range. The range of valid IPs is {}",
                                shown(),
                                all.join(",")
                            ),
                        ));
                    }
                    if !is_free(s, &ip_key(&ip.to_string())).await? {
                        return Err(invalid(
                            new,
                            "spec.clusterIPs",
                            format!(
                                "{}: failed to allocate IP {ip}: provided IP is already allocated",
                                shown()
                            ),
                        ));
                    }
                    claim_ip(s, ip, new, extra).await?;
                }
                _ => {
                    let ip = pick_ip(s, &ranges, want, new).await?;
                    claim_ip(s, ip, new, extra).await?;
                    if i < ips.len() {
                        ips[i] = ip.to_string();
                    } else {
                        ips.push(ip.to_string());
                    }
                }
            }
        }
        new["spec"]["clusterIP"] = json!(ips.first());
        new["spec"]["clusterIPs"] = json!(ips);
    }
    let now = spec::allocated_ips(new);
    for gone in before.iter().filter(|ip| !now.contains(ip)) {
        extra.ops.push(Op::Delete { key: ip_key(gone) });
    }
    Ok(())
}

pub fn port_key(p: u16) -> String {
    format!("{NODE_PORTS}{p}")
}

/// What stands under a node port's key: whose it is.
pub fn port_owner(v: &Value) -> String {
    json!({"namespace": meta::text(v, "/metadata/namespace"), "name": meta::name(v)}).to_string()
}

pub fn claim_port(p: u16, v: &Value) -> Op {
    Op::Put { key: port_key(p), value: port_owner(v).into_bytes().into(), ttl: None, aux: None }
}

async fn node_ports(
    s: &ApiServer,
    new: &mut Value,
    old: Option<&Value>,
    extra: &mut Extra,
) -> Result<(), Status> {
    let before = old.map(spec::node_ports).unwrap_or_default();
    let range = s.allocators.node_ports.clone();
    let mut mine: Vec<u16> = Vec::new();
    if spec::needs_node_ports(new) || spec::needs_health_port(new) {
        let wanted: Vec<(String, u64)> = if spec::needs_node_ports(new) {
            spec::ports(new)
                .iter()
                .enumerate()
                .map(|(i, p)| (format!("spec.ports[{i}].nodePort"), p["nodePort"].as_u64().unwrap_or(0)))
                .collect()
        } else {
            Vec::new()
        };
        let health = spec::needs_health_port(new).then(|| {
            ("spec.healthCheckNodePort".to_owned(), new["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0))
        });
        for (field, p) in wanted.iter().chain(&health).filter(|(_, p)| *p != 0) {
            let port = u16::try_from(*p).unwrap_or(0);
            if before.contains(&port) || mine.contains(&port) {
                mine.push(port);
                continue;
            }
            let why = if !range.contains(&port) {
                format!(
                    "provided port is not in the valid range. The range of valid ports is {}-{}",
                    range.start(),
                    range.end()
                )
            } else if !is_free(s, &port_key(port)).await? {
                "provided port is already allocated".to_owned()
            } else {
                mine.push(port);
                continue;
            };
            return Err(invalid(new, field, format!("Invalid value: {p}: {why}")));
        }
        // One port number in two protocols shares its node port.
        let mut by_port: Vec<(i64, u16)> = spec::ports(new)
            .iter()
            .filter_map(|p| {
                Some((p["port"].as_i64()?, u16::try_from(p["nodePort"].as_u64()?).ok().filter(|p| *p != 0)?))
            })
            .collect();
        let mut fill: Vec<u16> = Vec::new();
        if spec::needs_node_ports(new) {
            for p in spec::ports(new).iter().filter(|p| p["nodePort"].as_u64().unwrap_or(0) == 0) {
                let number = p["port"].as_i64().unwrap_or(0);
                let clash = |np: u16| {
                    spec::ports(new).iter().any(|o| {
                        o["nodePort"].as_u64() == Some(u64::from(np)) && o["protocol"] == p["protocol"]
                    })
                };
                let port = match by_port.iter().find(|(n, np)| *n == number && !clash(*np)) {
                    Some((_, np)) => *np,
                    None => pick_port(s, &range, &mine).await?,
                };
                by_port.push((number, port));
                mine.push(port);
                fill.push(port);
            }
            let mut fill = fill.into_iter();
            for p in spec::ports_mut(new).filter(|p| p["nodePort"].as_u64().unwrap_or(0) == 0) {
                if let Some(n) = fill.next() {
                    p["nodePort"] = json!(n);
                }
            }
        }
        if spec::needs_health_port(new) && new["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
            let p = pick_port(s, &range, &mine).await?;
            new["spec"]["healthCheckNodePort"] = json!(p);
            mine.push(p);
        }
    }
    mine.sort_unstable();
    mine.dedup();
    for p in mine.iter().filter(|p| !before.contains(p)) {
        extra.compare.push(at_revision(&port_key(*p), 0));
        extra.ops.push(claim_port(*p, new));
    }
    for p in before.iter().filter(|p| !mine.contains(p)) {
        extra.ops.push(Op::Delete { key: port_key(*p) });
    }
    Ok(())
}

async fn pick_port(
    s: &ApiServer,
    range: &std::ops::RangeInclusive<u16>,
    mine: &[u16],
) -> Result<u16, Status> {
    for _ in 0..RANDOM_TRIES {
        let p = rand::random_range(range.clone());
        if !mine.contains(&p) && is_free(s, &port_key(p)).await? {
            return Ok(p);
        }
    }
    for p in range.clone() {
        if !mine.contains(&p) && is_free(s, &port_key(p)).await? {
            return Ok(p);
        }
    }
    Err(Status::internal("failed to allocate a nodePort: range is full"))
}

#[async_trait]
impl Strategy for Services {
    fn prepare_create(&self, new: &mut Value) {
        spec::normalize(new, None);
        spec::drop_unused(new, None);
        if let Some(o) = new.as_object_mut() {
            o.insert("status".into(), json!({"loadBalancer": {}}));
        }
    }

    fn prepare_update(&self, sub: &str, new: &mut Value, old: &Value) {
        if sub.is_empty() {
            spec::normalize(new, Some(old));
            spec::keep_allocated(new, old);
            spec::drop_unused(new, Some(old));
        }
    }

    async fn allocate(
        &self,
        c: &Context<'_>,
        new: &mut Value,
        old: Option<&Value>,
        extra: &mut Extra,
    ) -> Result<(), Status> {
        addresses(c.server, new, old, extra).await?;
        node_ports(c.server, new, old, extra).await
    }

    async fn release(&self, _c: &Context<'_>, old: &Value, extra: &mut Extra) -> Result<(), Status> {
        extra.ops.extend(spec::allocated_ips(old).iter().map(|ip| Op::Delete { key: ip_key(ip) }));
        extra.ops.extend(spec::node_ports(old).iter().map(|p| Op::Delete { key: port_key(*p) }));
        Ok(())
    }
}
