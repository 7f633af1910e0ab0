//! The gRPC health check, spoken by hand: one message out, one in.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// `Ok` when the service says SERVING.
pub async fn check(host: &str, port: u16, service: &str, timeout: Duration) -> Result<(), String> {
    let late = || {
        format!(
            "timeout: failed to connect service \"{host}:{port}\" within {timeout:?}: context deadline exceeded"
        )
    };
    tokio::time::timeout(timeout, call(host, port, service)).await.map_err(|_| late())?
}

async fn call(host: &str, port: u16, service: &str) -> Result<(), String> {
    let tcp = TcpStream::connect((host, port)).await.map_err(|e| {
        format!("failed to connect service \"{host}:{port}\": {}", crate::probes::http::reason(&e))
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let request = Request::post(format!("http://{host}:{port}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(Bytes::from(encode(service))))
        .map_err(|e| e.to_string())?;
    let out = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let headers = answer.headers().clone();
        let all = answer.into_body().collect().await.map_err(|e| e.to_string())?;
        let trailers = all.trailers().cloned().unwrap_or_default();
        let status = trailers.get("grpc-status").or_else(|| headers.get("grpc-status"));
        if let Some(s) = status.filter(|s| s.as_bytes() != b"0") {
            return Err(format!("error: health rpc failed with code {}", s.to_str().unwrap_or("?")));
        }
        match decode(&all.to_bytes()) {
            1 => Ok(()),
            n => Err(format!(
                "service unhealthy (responded with {:?})",
                ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].get(n)
            )),
        }
    }
    .await;
    driver.abort();
    out
}

fn encode(service: &str) -> Vec<u8> {
    let name = &service.as_bytes()[..service.len().min(127)];
    let mut message = Vec::new();
    if !name.is_empty() {
        message.extend([0x0a, name.len() as u8]);
        message.extend(name);
    }
    let mut out = vec![0, 0, 0, 0, message.len() as u8];
    out.extend(message);
    out
}

/// The value of field 1.
fn decode(frame: &[u8]) -> usize {
    match frame.get(5..) {
        Some([0x08, n, ..]) => usize::from(*n),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(encode(""), [0, 0, 0, 0, 0]);
        assert_eq!(encode("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(decode(&[0, 0, 0, 0, 2, 8, 1]), 1);
        assert_eq!(decode(&[0, 0, 0, 0, 0]), 0);
    }
}
