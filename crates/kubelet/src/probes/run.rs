//! One attempt of a probe or hook, with upstream's wording of what went wrong.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tokio::net::TcpStream;

use crate::node_ctx::Node;
use crate::pod::{Container, HttpGet, Pod, Probe};
use crate::probes::{grpc, http as client};

/// The address a probe goes to when it names none.
pub fn host(node: &Node, pod: &Pod, pod_ips: &[String]) -> String {
    let first =
        if pod.spec.host_network { node.host_ips().into_iter().next() } else { pod_ips.first().cloned() };
    first.unwrap_or_else(|| "127.0.0.1".into())
}

/// What the probe says: `Ok` is healthy, `Err` holds the output.
pub async fn probe(
    node: &Node,
    pod: &Pod,
    c: &Container,
    id: &str,
    ips: &[String],
    p: &Probe,
) -> Result<(), String> {
    let timeout = p.timeout();
    if let Some(e) = &p.exec {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(1);
        let env: std::collections::BTreeMap<&str, &str> = c
            .env
            .iter()
            .filter(|e| e.value_from.is_none())
            .map(|e| (e.name.as_str(), e.value.as_str()))
            .collect();
        let look = |n: &str| env.get(n).map(|v| (*v).to_owned());
        let cmd: Vec<String> =
            e.command.iter().map(|a| crate::containers::expand::expand(a, &look)).collect();
        return match node.runtime.exec_sync(id, &cmd, seconds).await {
            Ok(r) if r.exit_code == 0 => Ok(()),
            Ok(r) => {
                let mut text = r.stdout;
                text.extend(r.stderr);
                text.truncate(10 << 10);
                Err(String::from_utf8_lossy(&text).into_owned())
            }
            Err(cri::CriError::DeadlineExceeded(_)) => Err(format!(
                "command timed out: \"{}\" timed out after {}s",
                cmd.join(" "),
                timeout.as_secs()
            )),
            Err(e) => Err(e.to_string()),
        };
    }
    let ip = host(node, pod, ips);
    if let Some(g) = &p.http_get {
        let port = c.resolve_port(&g.port).ok_or_else(|| format!("couldn't find port: {}", g.port))?;
        return http(&node.http, g, &ip, port, timeout, "kube-probe").await.map(|_| ());
    }
    if let Some(t) = &p.tcp_socket {
        let port = c.resolve_port(&t.port).ok_or_else(|| format!("couldn't find port: {}", t.port))?;
        let host = if t.host.is_empty() { &ip } else { &t.host };
        return tcp(host, port, timeout).await;
    }
    if let Some(g) = &p.grpc {
        let port = u16::try_from(g.port).map_err(|_| format!("invalid port {}", g.port))?;
        return grpc::check(&ip, port, g.service.as_deref().unwrap_or_default(), timeout).await;
    }
    Err("missing probe handler".into())
}

pub async fn tcp(host: &str, port: u16, timeout: Duration) -> Result<(), String> {
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(format!("dial tcp {host}:{port}: connect: {}", client::reason(&e))),
        Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

pub async fn http(
    http: &client::HttpClient,
    g: &HttpGet,
    ip: &str,
    port: u16,
    timeout: Duration,
    agent: &str,
) -> Result<Bytes, String> {
    let tls = g.scheme.eq_ignore_ascii_case("https");
    let host = if g.host.is_empty() { ip } else { &g.host };
    let shown =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let path = if g.path.starts_with('/') { g.path.clone() } else { format!("/{}", g.path) };
    let url = format!("{}://{shown}:{port}{path}", if tls { "https" } else { "http" });
    let mut b = Request::get(&path);
    let header = |name: &str| g.http_headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    if header("host").is_none() {
        b = b.header("Host", format!("{shown}:{port}"));
    }
    if header("user-agent").is_none() {
        b = b.header("User-Agent", format!("{agent}/1.37"));
    }
    if header("accept").is_none() {
        b = b.header("Accept", "*/*");
    }
    b = b.header("Connection", "close");
    for h in &g.http_headers {
        b = b.header(h.name.as_str(), h.value.as_str());
    }
    let request = b.body(Empty::new()).map_err(|e| format!("Get \"{url}\": {e}"))?;
    match tokio::time::timeout(timeout, http.get(tls, host, port, request)).await {
        Err(_) => Err(format!(
            "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
        Ok(Err(e)) => Err(format!("Get \"{url}\": {e}")),
        Ok(Ok(r)) if (200..400).contains(&r.status().as_u16()) => Ok(r.into_body()),
        Ok(Ok(r)) => Err(format!("HTTP probe failed with statuscode: {}", r.status().as_u16())),
    }
}
