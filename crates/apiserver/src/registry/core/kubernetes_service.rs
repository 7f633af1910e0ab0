//! At start: the ServiceCIDR of the configuration, the `kubernetes` Service with its endpoints, and allocations that do
//! not agree with the Services (a copy restored from elsewhere, a hand that deleted an IPAddress).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use api::{Object, Status};
use serde_json::{Value, json};
use store::{Op, Range};

use super::cidr::family;
use super::service_spec as spec;
use super::services::{NODE_PORTS, claim_port, ip_address, ip_key};
use crate::handlers::meta;
use crate::server::ApiServer;
use crate::storage::{Encoded, failed};

const NAME: &str = "kubernetes";
const NET: &str = "networking.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";
/// Operations per repairing transaction; etcd takes 128.
const BATCH: usize = 100;

pub async fn start(s: &ApiServer) -> Result<(), Status> {
    service_cidr(s).await?;
    service(s).await?;
    endpoints(s).await?;
    repair(s).await
}

async fn service_cidr(s: &ApiServer) -> Result<(), Status> {
    if s.reader().get(NET, "servicecidrs", "", NAME).await?.is_some() {
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
    s.reader().create(NET, "servicecidrs", v).await.map(|_| ())
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
    s.reader().create("", "services", v).await?;
    Ok(())
}

/// Writes `wanted` where the object is missing or says something else.
async fn ensure(
    s: &ApiServer,
    group: &str,
    plural: &str,
    wanted: Value,
    fields: &[&str],
) -> Result<(), Status> {
    let name = meta::name(&wanted).to_owned();
    match s.reader().get(group, plural, "default", &name).await? {
        None => s.reader().create(group, plural, wanted).await.map(|_| ()),
        Some(_) => s
            .reader()
            .update(group, plural, "default", &name, &mut |mut v| {
                if fields.iter().all(|f| v[*f] == wanted[*f]) {
                    return Ok(None);
                }
                for f in fields {
                    v[*f] = wanted[*f].clone();
                }
                Ok(Some(v))
            })
            .await
            .map(|_| ()),
    }
}

async fn endpoints(s: &ApiServer) -> Result<(), Status> {
    let ip = s.cluster.advertise_address;
    let port = s.cluster.advertise_port;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": NAME, "namespace": "default", "generation": 1,
            "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": family(ip),
        "endpoints": [{"addresses": [ip.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    // The address type of a slice never changes: a slice of the other family is replaced.
    if let Some(o) = s.reader().get(DISCOVERY, "endpointslices", "default", NAME).await?
        && o.value().map_err(Status::internal)?["addressType"] != family(ip)
    {
        let key = "/registry/endpointslices/default/kubernetes";
        s.storage.remove(key, o.revision()).await?;
    }
    ensure(s, DISCOVERY, "endpointslices", slice, &["endpoints", "ports"]).await?;
    let old = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": NAME, "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": ip.to_string()}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    ensure(s, "", "endpoints", old, &["subsets"]).await
}

/// What has to be written so that allocations agree with the Services. Pure.
pub fn differences(
    services: &[Value],
    addresses: &[Object],
    ports: &HashMap<u16, String>,
) -> Result<Vec<Op>, Status> {
    let mut ops = Vec::new();
    let mut wanted: BTreeMap<String, &Value> = BTreeMap::new();
    let mut wanted_ports: BTreeMap<u16, &Value> = BTreeMap::new();
    for v in services {
        for ip in spec::allocated_ips(v) {
            if let Some(other) = wanted.get(&ip) {
                tracing::error!(
                    ip,
                    service = meta::name(v),
                    other = meta::name(other),
                    "two services have the same address; recreate one"
                );
                continue;
            }
            wanted.insert(ip, v);
        }
        for p in spec::node_ports(v) {
            wanted_ports.entry(p).or_insert(v);
        }
    }
    let mut have: HashMap<&str, &Object> = addresses.iter().map(|o| (o.name(), o)).collect();
    for (ip, v) in &wanted {
        let (ns, name) = (meta::text(v, "/metadata/namespace"), meta::name(v));
        let right = have.remove(ip.as_str()).is_some_and(|o| {
            o.value().is_ok_and(|a| {
                let r = &a["spec"]["parentRef"];
                r["resource"] == "services" && r["namespace"] == ns && r["name"] == name
            })
        });
        if !right && let Ok(parsed) = ip.parse::<IpAddr>() {
            tracing::warn!(ip, service = format!("{ns}/{name}"), "address was not allocated, repaired");
            ops.push(Encoded::new(ip_address(parsed, ns, name))?.put(&ip_key(ip), None));
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
            ops.push(Op::Delete { key: ip_key(ip) });
        }
    }
    for (p, v) in &wanted_ports {
        let owner =
            json!({"namespace": meta::text(v, "/metadata/namespace"), "name": meta::name(v)}).to_string();
        if ports.get(p) != Some(&owner) {
            ops.push(claim_port(*p, v));
        }
    }
    ops.extend(
        ports
            .keys()
            .filter(|p| !wanted_ports.contains_key(p))
            .map(|p| Op::Delete { key: format!("{NODE_PORTS}{p}") }),
    );
    Ok(ops)
}

async fn repair(s: &ApiServer) -> Result<(), Status> {
    let services = s
        .reader()
        .list("", "services", "")
        .await?
        .iter()
        .map(|o| o.value().map_err(Status::internal))
        .collect::<Result<Vec<_>, _>>()?;
    let addresses = s.reader().list(NET, "ipaddresses", "").await?;
    let r = s.storage.store().range(Range::prefix(NODE_PORTS)).await.map_err(failed)?;
    let ports = r
        .records
        .iter()
        .filter_map(|r| {
            let p: u16 = r.key.strip_prefix(NODE_PORTS)?.parse().ok()?;
            Some((p, String::from_utf8_lossy(&r.value).into_owned()))
        })
        .collect();
    let ops = differences(&services, &addresses, &ports)?;
    for batch in ops.chunks(BATCH) {
        s.storage.commit(Vec::new(), batch.to_vec()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repair_makes_what_is_missing_and_releases_the_rest() {
        let svc = json!({"metadata": {"namespace": "d", "name": "a"}, "spec": {"type": "NodePort",
            "clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"], "ports": [{"nodePort": 30001}]}});
        let ip = |ip: &str, name: &str| {
            Object::from_value(ip_address(ip.parse().expect("ip"), "d", name), 1).expect("object")
        };
        let right: HashMap<u16, String> =
            [(30001, json!({"namespace": "d", "name": "a"}).to_string())].into();
        let ops = differences(std::slice::from_ref(&svc), &[ip("10.0.0.5", "a")], &right).expect("ops");
        assert!(ops.is_empty());
        let ops = differences(
            &[svc],
            &[ip("10.0.0.5", "b"), ip("10.0.0.6", "gone")],
            &[(30002, "{}".into())].into(),
        )
        .expect("ops");
        assert_eq!(ops.len(), 4);
    }
}
