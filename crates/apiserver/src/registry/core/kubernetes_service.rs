//! At start: the ServiceCIDR of the configuration, the `kubernetes` Service, and allocations that do not agree with the
//! Services (a copy restored from elsewhere, a hand that deleted an IPAddress). Other servers of the cluster may be at
//! work meanwhile: what they made first stays, and a repair holds only for the state that it was made of.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use api::{Object, Status};
use serde_json::{Value, json};
use store::{Compare, Fresh, Op, Range};

use super::cidr::family;
use super::kubernetes_endpoints;
use super::service_spec as spec;
use super::services::{NODE_PORTS, claim_port, ip_address, ip_key, port_key, port_owner};
use crate::server::ApiServer;
use crate::storage::{Encoded, Written, at_revision, failed};

pub const NAME: &str = "kubernetes";
const NET: &str = "networking.k8s.io";
pub const DISCOVERY: &str = "discovery.k8s.io";
/// Repairs per transaction, two conditions each; etcd takes 128.
const BATCH: usize = 50;
/// How often a repair starts over because others wrote meanwhile.
const TRIES: usize = 20;

pub async fn start(s: &ApiServer) -> Result<(), Status> {
    service_cidr(s).await?;
    service(s).await?;
    kubernetes_endpoints::start(s).await?;
    repair(s).await
}

/// Makes what is missing. That it is there already, since another server was faster, is as good.
async fn create(s: &ApiServer, group: &str, plural: &str, v: Value) -> Result<(), Status> {
    match s.reader().create(group, plural, v).await {
        Err(e) if e.is_already_exists() => Ok(()),
        other => other.map(drop),
    }
}

async fn service_cidr(s: &ApiServer) -> Result<(), Status> {
    if let Some(o) = s.reader().get(NET, "servicecidrs", "", NAME).await? {
        let there = spec::texts(&o.value().map_err(Status::internal)?["spec"]["cidrs"]);
        if there != s.cluster.service_cidrs {
            tracing::warn!(
                configured = s.cluster.service_cidrs.join(","),
                cluster = there.join(","),
                "the cluster's services have another network than this server was told; start it with --service-cidr {}",
                there.join(",")
            );
        }
        return Ok(());
    }
    let now = client::clock::rfc3339(client::clock::now());
    let v = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": NAME, "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
        "spec": {"cidrs": s.cluster.service_cidrs},
        "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now,
            "reason": "", "message": "Kubernetes default Service CIDR is ready"}]},
    });
    create(s, NET, "servicecidrs", v).await
}

async fn service(s: &ApiServer) -> Result<(), Status> {
    let Some(first) = s.allocators.cidrs.first() else { return Ok(()) };
    let ip = first.first();
    if s.reader().get("", "services", "default", NAME).await?.is_some() {
        return Ok(());
    }
    let v = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": ip.to_string(), "clusterIPs": [ip.to_string()],
            "ipFamilies": [family(ip)], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": s.cluster.advertise_port}],
            "sessionAffinity": "None", "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    });
    create(s, "", "services", v).await
}

/// One thing to be put right, and the state in which it is right to do so.
pub struct Repair {
    compare: Vec<Compare>,
    op: Op,
}

/// What stands for node ports: whose, and since which revision.
type Ports = HashMap<u16, (String, u64)>;

/// What has to be written so that allocations agree with the Services, which were read after the allocations: what no
/// Service had by then, none can have got since without writing it anew. Pure.
pub fn differences(services: &[Object], addresses: &[Object], ports: &Ports) -> Result<Vec<Repair>, Status> {
    let mut out = Vec::new();
    let values = services.iter().map(|o| o.value().map_err(Status::internal));
    let values = values.collect::<Result<Vec<_>, _>>()?;
    let mut wanted: BTreeMap<String, (&Object, &Value)> = BTreeMap::new();
    let mut wanted_ports: BTreeMap<u16, (&Object, &Value)> = BTreeMap::new();
    for (o, v) in services.iter().zip(&values) {
        for ip in spec::allocated_ips(v) {
            if let Some((other, _)) = wanted.get(&ip) {
                tracing::error!(
                    ip,
                    service = o.name(),
                    other = other.name(),
                    "two services have the same address; recreate one"
                );
                continue;
            }
            wanted.insert(ip, (o, v));
        }
        for p in spec::node_ports(v) {
            wanted_ports.entry(p).or_insert((o, v));
        }
    }
    let unchanged = |o: &Object| {
        at_revision(&format!("/registry/services/specs/{}/{}", o.namespace(), o.name()), o.revision())
    };
    let mut have: HashMap<&str, &Object> = addresses.iter().map(|o| (o.name(), o)).collect();
    for (ip, (o, _)) in &wanted {
        let (ns, name) = (o.namespace(), o.name());
        let there = have.remove(ip.as_str());
        let right = there.is_some_and(|o| {
            o.value().is_ok_and(|a| {
                let r = &a["spec"]["parentRef"];
                r["resource"] == "services" && r["namespace"] == ns && r["name"] == name
            })
        });
        if !right && let Ok(parsed) = ip.parse::<IpAddr>() {
            tracing::warn!(ip, service = format!("{ns}/{name}"), "address was not allocated, repaired");
            let key = ip_key(ip);
            let compare = vec![unchanged(o), at_revision(&key, there.map_or(0, Object::revision))];
            out.push(Repair { compare, op: Encoded::new(ip_address(parsed, ns, name))?.put(&key, None) });
        }
    }
    for (ip, o) in have {
        let ours = o
            .meta()
            .labels
            .get("ipaddress.kubernetes.io/managed-by")
            .is_some_and(|m| m == "ipallocator.k8s.io");
        if ours {
            tracing::warn!(ip, "address belongs to no service, released");
            let key = ip_key(ip);
            out.push(Repair { compare: vec![at_revision(&key, o.revision())], op: Op::Delete { key } });
        }
    }
    for (p, (o, v)) in &wanted_ports {
        let there = ports.get(p);
        if there.is_none_or(|(owner, _)| *owner != port_owner(v)) {
            let at = at_revision(&port_key(*p), there.map_or(0, |(_, revision)| *revision));
            out.push(Repair { compare: vec![unchanged(o), at], op: claim_port(*p, v) });
        }
    }
    for (p, (_, revision)) in ports.iter().filter(|(p, _)| !wanted_ports.contains_key(p)) {
        let key = port_key(*p);
        out.push(Repair { compare: vec![at_revision(&key, *revision)], op: Op::Delete { key } });
    }
    Ok(out)
}

async fn repair(s: &ApiServer) -> Result<(), Status> {
    for _ in 0..TRIES {
        if repair_once(s).await? {
            return Ok(());
        }
    }
    tracing::warn!("others changed services all the while; their allocations were not checked at this start");
    Ok(())
}

/// False where somebody else wrote what was to be repaired.
async fn repair_once(s: &ApiServer) -> Result<bool, Status> {
    // In this order, see `differences`.
    let (addresses, _) = s.storage.all("/registry/ipaddresses/", Fresh::Newest).await?;
    let r = s.storage.store().range(Range::prefix(NODE_PORTS)).await.map_err(failed)?;
    let ports = r
        .records
        .iter()
        .filter_map(|r| {
            let p: u16 = r.key.strip_prefix(NODE_PORTS)?.parse().ok()?;
            Some((p, (String::from_utf8_lossy(&r.value).into_owned(), r.mod_revision)))
        })
        .collect();
    let (services, _) = s.storage.all("/registry/services/specs/", Fresh::Newest).await?;
    let repairs = differences(&services, &addresses, &ports)?;
    for batch in repairs.chunks(BATCH) {
        let compare = batch.iter().flat_map(|r| r.compare.clone()).collect();
        let ops = batch.iter().map(|r| r.op.clone()).collect();
        if let Written::Lost = s.storage.commit(compare, ops).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repair_makes_what_is_missing_and_releases_the_rest() {
        let svc = json!({"metadata": {"namespace": "d", "name": "a"}, "spec": {"type": "NodePort",
            "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"], "ports": [{"nodePort": 30001}]}});
        let owner = port_owner(&svc);
        let svc = Object::from_value(svc, 7).expect("service");
        let ip = |ip: &str, name: &str, revision| {
            Object::from_value(ip_address(ip.parse().expect("ip"), "d", name), revision).expect("object")
        };
        let conditions = |r: &Repair| -> Vec<(String, u64)> {
            let of = |c: &Compare| match c {
                Compare::ModRevision { key, equals } | Compare::CreateRevision { key, equals } => {
                    (key.clone(), *equals)
                }
            };
            r.compare.iter().map(of).collect()
        };
        let services = [svc];
        let right = [(30001, (owner, 5))].into();
        assert!(differences(&services, &[ip("10.0.0.5", "a", 5)], &right).expect("repairs").is_empty());
        let addresses = [ip("10.0.0.5", "b", 3), ip("10.0.0.6", "gone", 4)];
        let all = differences(&services, &addresses, &[(30002, ("{}".into(), 6))].into()).expect("repairs");
        let seen: Vec<_> = all.iter().map(conditions).collect();
        let at = |key: &str, revision| (format!("/registry/{key}"), revision);
        assert_eq!(
            seen,
            [
                vec![at("services/specs/d/a", 7), at("ipaddresses/10.0.0.5", 3)],
                vec![at("ipaddresses/10.0.0.6", 4)],
                vec![at("services/specs/d/a", 7), at("ranges/servicenodeports/30001", 0)],
                vec![at("ranges/servicenodeports/30002", 6)],
            ]
        );
    }
}
