//! pods/proxy, services/proxy and nodes/proxy: HTTP to what runs in the cluster, by way of the API.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::{Object, Reason, Status};
use http::{HeaderValue, Method, StatusCode, header};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::AsyncReadWrite;
use super::links::Links;
use super::pass::{forward, kubelet, unreachable};
use super::target::scheme_name_port;
use crate::Reader;
use crate::body::{self, Reply};
use crate::call::Call;
use crate::handlers::Target;
use crate::server::ApiServer;

const CONNECT: Duration = Duration::from_secs(10);

/// Without the slash, a page's relative links would leave the proxied place.
fn redirect(call: &Call) -> Option<Reply> {
    let reads = call.method == Method::GET || call.method == Method::HEAD;
    if !reads || !call.info.tail.is_empty() || call.uri.path().ends_with('/') || call.upgrade.is_some() {
        return None;
    }
    let query = call.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let to = HeaderValue::from_str(&format!("{}/{query}", call.uri.path())).ok()?;
    let mut r = body::text(StatusCode::MOVED_PERMANENTLY, "");
    r.headers_mut().insert(header::LOCATION, to);
    Some(r)
}

/// Addresses of the node itself and of its link are not behind this proxy.
fn allowed(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => (a.segments()[0] & 0xffc0) == 0xfe80,
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

/// Passes a request on to `backend` over `io`.
async fn through(
    mut call: Call,
    io: Box<dyn AsyncReadWrite>,
    backend: &str,
    what: &str,
) -> Result<Reply, Status> {
    let links = Links::of(&call, backend);
    let path = links.path(&call);
    // What is upgraded is no page, and is passed on as it is.
    if call.upgrade.is_some() {
        return forward(call, io, &path, links.host(), what).await;
    }
    links.announce(&mut call.headers);
    let reply = forward(call, io, &path, links.host(), what).await?;
    Ok(links.apply(reply))
}

async fn to(call: Call, tls: bool, ip: &str, port: u16, what: &str) -> Result<Reply, Status> {
    let ip: IpAddr = ip.parse().map_err(|_| unreachable(what, "it has no address"))?;
    if !allowed(ip) {
        return Err(Status::bad_request("address not allowed"));
    }
    let address = SocketAddr::new(ip, port);
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(s)) => s,
        Ok(Err(e)) => return Err(unreachable(what, format!("dial tcp {address}: {e}"))),
        Err(_) => return Err(unreachable(what, format!("dial tcp {address}: timed out"))),
    };
    let io: Box<dyn AsyncReadWrite> = if tls {
        // Who answers is told by the address, as upstream has it.
        let config = pki::any_server().map_err(Status::internal)?;
        let stream = TlsConnector::from(config).connect(ServerName::IpAddress(ip.into()), stream).await;
        Box::new(stream.map_err(|e| unreachable(what, format!("TLS with {address}: {e}")))?)
    } else {
        Box::new(stream)
    };
    through(call, io, &address.to_string(), what).await
}

fn parsed<'a>(call: &'a Call, what: &str) -> Result<(&'a str, &'a str, &'a str), Status> {
    let bad = || Status::bad_request(format!("invalid {what} request \"{}\"", call.name()));
    let (scheme, name, port) = scheme_name_port(call.name()).ok_or_else(bad)?;
    Ok((scheme, name, port))
}

pub async fn pod(s: &ApiServer, call: Call, target: &Target) -> Result<Reply, Status> {
    if let Some(r) = redirect(&call) {
        return Ok(r);
    }
    let (scheme, name, port) = parsed(&call, "pod")?;
    let tls = scheme == "https";
    let pod =
        s.storage.get(&target.key(call.namespace(), name)).await?.ok_or_else(|| target.not_found(name))?;
    let v = pod.value().map_err(Status::internal)?;
    let ports = || {
        v["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|c| c["ports"].as_array().into_iter().flatten())
    };
    let number = match port {
        "" => ports().find_map(|p| p["containerPort"].as_u64()).unwrap_or(80),
        p => match p.parse() {
            Ok(n) => n,
            Err(_) => ports()
                .find(|c| c["name"] == p)
                .and_then(|c| c["containerPort"].as_u64())
                .ok_or_else(|| Status::bad_request(format!("pod {name} has no port named \"{p}\"")))?,
        },
    };
    let ip = v["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let what = format!("pod {name}");
    to(call, tls, &ip, port_number(number)?, &what).await
}

fn port_number(n: u64) -> Result<u16, Status> {
    u16::try_from(n)
        .ok()
        .filter(|p| *p != 0)
        .ok_or_else(|| Status::bad_request(format!("{n} is no port number")))
}

/// Ready endpoints of a port, as address and port. Pure.
fn endpoints(slices: &[Value], port_name: &str) -> Vec<(String, u64)> {
    let mut out = Vec::new();
    for s in slices {
        let Some(port) = s["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|p| p["name"].as_str().unwrap_or_default() == port_name)
            .and_then(|p| p["port"].as_u64())
        else {
            continue;
        };
        for e in s["endpoints"].as_array().into_iter().flatten() {
            if e["conditions"]["ready"] == false {
                continue;
            }
            if let Some(a) = e["addresses"][0].as_str() {
                out.push((a.to_owned(), port));
            }
        }
    }
    out
}

/// The endpoint slices of a service.
pub async fn endpoint_slices(
    reader: &dyn Reader,
    namespace: &str,
    service: &str,
) -> Result<Vec<Value>, Status> {
    let all = reader.list("discovery.k8s.io", "endpointslices", namespace).await?;
    let of = |o: &&Object| o.meta().labels.get("kubernetes.io/service-name").is_some_and(|l| l == service);
    Ok(all.iter().filter(of).filter_map(|o| o.value().ok()).collect())
}

/// Address and port of one ready endpoint of a service's port, any of them.
pub async fn ready_endpoint(
    reader: &dyn Reader,
    namespace: &str,
    service: &str,
    port_name: &str,
) -> Result<Option<(String, u64)>, Status> {
    let mut all = endpoints(&endpoint_slices(reader, namespace, service).await?, port_name);
    Ok(if all.is_empty() { None } else { Some(all.swap_remove(rand::random_range(0..all.len()))) })
}

pub async fn service(s: &ApiServer, call: Call, target: &Target) -> Result<Reply, Status> {
    if let Some(r) = redirect(&call) {
        return Ok(r);
    }
    let (scheme, name, port) = parsed(&call, "service")?;
    let tls = scheme == "https";
    let svc =
        s.storage.get(&target.key(call.namespace(), name)).await?.ok_or_else(|| target.not_found(name))?;
    let v = svc.value().map_err(Status::internal)?;
    let ports = v["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let found = match port {
        "" if ports.len() == 1 => ports.first(),
        "" => None,
        p => ports.iter().find(|q| q["name"] == p || q["port"].as_u64().is_some_and(|n| n.to_string() == p)),
    };
    let none = |why: String| {
        let mut st = Status::new(Reason::ServiceUnavailable, why);
        st.retry_after_seconds = 1;
        st
    };
    let Some(found) = found else {
        return Err(none(format!("no service port \"{port}\" found for service \"{name}\"")));
    };
    let port_name = found["name"].as_str().unwrap_or_default();
    let endpoint = ready_endpoint(s.reader().as_ref(), call.namespace(), name, port_name).await?;
    let Some((ip, port)) = endpoint else {
        return Err(none(format!("no endpoints available for service \"{name}\"")));
    };
    let what = format!("service {name}");
    to(call, tls, &ip, port_number(port)?, &what).await
}

pub async fn node(s: &ApiServer, call: Call, target: &Target) -> Result<Reply, Status> {
    let (_, name, _) = parsed(&call, "node")?;
    let name = name.to_owned();
    if s.storage.get(&target.key("", &name)).await?.is_none() {
        return Err(target.not_found(&name));
    }
    let io = kubelet(s, &name).await?;
    through(call, io, &name, &format!("node {name}")).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ready_endpoints_of_the_port() {
        let s = json!({"ports": [{"name": "web", "port": 8080}], "endpoints": [
            {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"]}]});
        let all = endpoints(&[s], "web");
        assert_eq!(all, [("10.0.0.1".to_owned(), 8080), ("10.0.0.3".to_owned(), 8080)]);
    }

    #[test]
    fn addresses_of_the_host_are_refused() {
        for (ip, ok) in
            [("127.0.0.1", false), ("169.254.169.254", false), ("fe80::1", false), ("10.0.0.1", true)]
        {
            assert_eq!(allowed(ip.parse().expect("ip")), ok, "{ip}");
        }
    }
}
