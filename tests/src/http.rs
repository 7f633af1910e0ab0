//! Plain HTTP to a cluster's API by way of `kubectl proxy`: writers and watchers that neither retry nor hide anything.
//! Owns the proxy's process.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A server that says nothing for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);

pub struct Proxy {
    child: Child,
    pub address: SocketAddr,
}

impl Proxy {
    pub fn start(kubeconfig: &Path) -> Self {
        let kubectl = std::env::var_os("KUBECTL").unwrap_or_else(|| "kubectl".into());
        let mut child = Command::new(kubectl)
            .args(["proxy", "--port=0", "--reject-methods=^$"])
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start kubectl proxy");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("what kubectl proxy says");
        let address = line.trim().rsplit(' ').next().and_then(|a| a.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("kubectl proxy said {line:?}")) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    kind: &str,
    body: &str,
) -> io::Result<(u16, BufReader<TcpStream>)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut read = BufReader::new(stream);
    let mut status = String::new();
    read.read_line(&mut status)?;
    let code = status.split(' ').nth(1).and_then(|c| c.parse().ok());
    let code = code.ok_or_else(|| io::Error::other(format!("no answer: {status:?}")))?;
    let mut line = String::new();
    while read.read_line(&mut line)? > 2 {
        line.clear();
    }
    Ok((code, read))
}

/// The status code and the whole body, or that there was no whole answer.
pub fn call(to: SocketAddr, method: &str, path: &str, kind: &str, body: &str) -> io::Result<(u16, Value)> {
    let (code, mut read) = send(to, method, path, kind, body)?;
    let mut text = String::new();
    read.read_to_string(&mut text)?;
    Ok((code, serde_json::from_str(&text).map_err(io::Error::other)?))
}

/// Hands over the events of a watch until it ends or `each` says that it is enough. A line that was cut off is none.
pub fn watch(to: SocketAddr, path: &str, mut each: impl FnMut(Value) -> bool) -> io::Result<u16> {
    let (code, mut read) = send(to, "GET", path, "application/json", "")?;
    let mut line = String::new();
    while code == 200 && read.read_line(&mut line)? > 0 && line.ends_with('\n') {
        if !each(serde_json::from_str(&line).map_err(io::Error::other)?) {
            break;
        }
        line.clear();
    }
    Ok(code)
}
