//! Runs a lifecycle handler: exec, httpGet, tcpSocket, sleep.

use std::time::Duration;

use crate::node_ctx::Node;
use crate::pod::{Container, Handler, Pod};
use crate::probes::run;

/// `within`: what is left of the grace period (preStop).
pub async fn run(
    node: &Node,
    pod: &Pod,
    c: &Container,
    id: &str,
    pod_ips: &[String],
    h: &Handler,
    within: Option<Duration>,
) -> Result<(), String> {
    let limit = within.unwrap_or(Duration::from_secs(600));
    let work = async {
        if let Some(e) = &h.exec {
            let timeout = i64::try_from(limit.as_secs()).unwrap_or(0).max(1);
            return match node.runtime.exec_sync(id, &e.command, timeout).await {
                Ok(r) if r.exit_code == 0 => Ok(()),
                Ok(r) => Err(format!(
                    "command '{}' exited with {}: {}, message: {:?}",
                    e.command.join(" "),
                    r.exit_code,
                    String::from_utf8_lossy(&r.stderr),
                    String::from_utf8_lossy(&r.stdout)
                )),
                Err(e) => Err(e.to_string()),
            };
        }
        if let Some(s) = &h.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(s.seconds).unwrap_or(0))).await;
            return Ok(());
        }
        let ip = run::host(node, pod, pod_ips);
        if let Some(g) = &h.http_get {
            let port = c.resolve_port(&g.port).ok_or_else(|| format!("invalid port {}", g.port))?;
            let out = run::http(&node.http, g, &ip, port, Duration::from_secs(30), "kube-lifecycle").await;
            return out.map(|_| ());
        }
        if let Some(t) = &h.tcp_socket {
            let port = c.resolve_port(&t.port).ok_or_else(|| format!("invalid port {}", t.port))?;
            let host = if t.host.is_empty() { ip } else { t.host.clone() };
            return run::tcp(&host, port, Duration::from_secs(30)).await;
        }
        Ok(())
    };
    match tokio::time::timeout(limit, work).await {
        Ok(r) => r,
        Err(_) => Err(format!("the hook did not end within {} s", limit.as_secs())),
    }
}
