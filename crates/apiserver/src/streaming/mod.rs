//! Streams between a client and a node or a pod: logs, exec, attach, port-forward, proxies. The bytes are passed through;
//! what they mean is between the client and the kubelet. Spawns one task per upgraded connection, which ends when
//! either side closes.

mod html;
mod links;
mod pass;
mod proxy;
mod socket;
mod target;
mod tunnel;

pub use html::Page;
pub(crate) use pass::{empty, forward, forwarded_body, passed_headers, read};
pub(crate) use proxy::{endpoint_slices, ready_endpoint};
pub(crate) use socket::Socket;
pub(crate) use tunnel::accept as accept_tunnel;
pub use tunnel::{PATH as TUNNEL_PATH, PROTOCOL as TUNNEL_PROTOCOL};

use std::io;

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::admission::Operation;
use crate::body::Reply;
use crate::call::Call;
use crate::handlers::Target;
use crate::handlers::write::Write;
use crate::request_info::{Query, RequestInfo};
use crate::server::ApiServer;

/// A connection, whatever carries it.
pub trait AsyncReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncReadWrite for T {}

/// The way to a node's kubelet; HTTP/1.1 is spoken on what it hands out.
#[async_trait]
pub trait NodeTransport: Send + Sync {
    async fn connect(&self, node: &str) -> io::Result<Box<dyn AsyncReadWrite>>;

    /// A node that may not be reached offers a connection of its own making; what is spoken on it is between the two.
    fn tunnel(&self, node: &str, stream: Box<dyn AsyncReadWrite>) {
        tracing::debug!(node, "left a node's tunnel unused");
        drop(stream);
    }
}

pub async fn handle(s: &ApiServer, mut call: Call, target: &Target, sub: &str) -> Result<Reply, Status> {
    if sub != "log" {
        admit(s, &call, target, sub).await?;
    }
    match (target.kind.plural.as_str(), sub) {
        ("pods", "log") => {
            let socket = Socket::asked(&mut call)?;
            let reply = pass::log(s, call, target).await?;
            Ok(match socket {
                Some(socket) => socket.bytes(reply),
                None => reply,
            })
        }
        ("pods", "exec" | "attach" | "portforward") => pass::stream(s, call, target, sub).await,
        ("pods", "proxy") => proxy::pod(s, call, target).await,
        ("services", "proxy") => proxy::service(s, call, target).await,
        ("nodes", "proxy") => proxy::node(s, call, target).await,
        _ => Ok(crate::chain::no_such_path()),
    }
}

/// The options of a connection, which the query and the path carry.
fn connect_options(kind: &str, query: &Query, info: &RequestInfo) -> Value {
    let mut o = json!({"apiVersion": "v1", "kind": kind});
    match kind {
        "PodExecOptions" | "PodAttachOptions" => {
            for name in ["stdin", "stdout", "stderr", "tty"] {
                if query.flag(name) {
                    o[name] = true.into();
                }
            }
            if let Some(c) = query.get("container").filter(|c| !c.is_empty()) {
                o["container"] = c.into();
            }
            let command: Vec<&str> = query.all("command").collect();
            if kind == "PodExecOptions" && !command.is_empty() {
                o["command"] = command.into();
            }
        }
        "PodPortForwardOptions" => {
            let ports: Vec<i64> = query.all("ports").filter_map(|p| p.parse().ok()).collect();
            if !ports.is_empty() {
                o["ports"] = ports.into();
            }
        }
        "PodProxyOptions" | "ServiceProxyOptions" | "NodeProxyOptions" => {
            let slash = if info.path.ends_with('/') { "/" } else { "" };
            match info.tail.trim_end_matches('/') {
                "" if slash.is_empty() => {}
                "" => o["path"] = slash.into(),
                tail => o["path"] = format!("/{tail}{slash}").into(),
            }
        }
        _ => {}
    }
    o
}

/// Admission may refuse a connection; the options are its object.
async fn admit(s: &ApiServer, call: &Call, target: &Target, sub: &str) -> Result<(), Status> {
    let w = Write::new(s, call, target, sub)?;
    let kind = target.served().and_then(|v| v.subresource(sub)).map(|s| s.kind.clone()).unwrap_or_default();
    let options = connect_options(&kind, &call.query, &call.info);
    let options = w.admit(Operation::Connect, options, None).await?;
    let _: Value = w.validated(Operation::Connect, options, None).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kind: &str, path: &str, query: &str) -> Value {
        let info = RequestInfo::parse(&http::Method::GET, path, query);
        connect_options(kind, &Query::parse(query), &info)
    }

    #[test]
    fn admission_sees_what_a_connection_asks_for() {
        const POD: &str = "/api/v1/namespaces/n/pods/p";
        let v = options(
            "PodExecOptions",
            &format!("{POD}/exec"),
            "stdin=true&stdout=1&tty=false&container=c&command=a&command=b",
        );
        let want = json!({"apiVersion": "v1", "kind": "PodExecOptions", "stdin": true, "stdout": true, "container": "c", "command": ["a", "b"]});
        assert_eq!(v, want);
        let v = options("PodAttachOptions", &format!("{POD}/attach"), "stdin=true&command=a");
        assert_eq!(v, json!({"apiVersion": "v1", "kind": "PodAttachOptions", "stdin": true}));
        let v = options("PodPortForwardOptions", &format!("{POD}/portforward"), "ports=80&ports=x");
        assert_eq!(v["ports"], json!([80]));
        let path = |tail: &str| options("PodProxyOptions", &format!("{POD}/proxy{tail}"), "")["path"].clone();
        assert_eq!(
            [path(""), path("/"), path("/a/b"), path("/a/")],
            [Value::Null, "/".into(), "/a/b".into(), "/a/".into()]
        );
    }
}
