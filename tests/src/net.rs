//! What the network tests share: pods that run `e2e-net`, services, and how to ask them from the host and from pods.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use testkit::{Cluster, wait_for};

/// The specification of a pod that runs `e2e-net` from the host; `WHO`, the value of a label, tells them apart.
pub fn server(program: &str, name: &str, label: &str, more: &str) -> String {
    let lib64 = if std::path::Path::new("/lib64").exists() { "/lib64" } else { "/lib" };
    format!(
        r#"
  terminationGracePeriodSeconds: 30
  containers:
  - name: {name}
    image: busybox:1.36
    command: [/e2e-net, serve, "8080"]
    env:
    - {{name: WHO, valueFrom: {{fieldRef: {{fieldPath: "metadata.labels['{label}']"}}}}}}
    ports: [{{containerPort: 8080, name: http}}]
    readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1, timeoutSeconds: 10}}
    resources: {{requests: {{cpu: 100m}}}}
    volumeMounts:
    - {{name: program, mountPath: /e2e-net}}
    - {{name: lib, mountPath: /lib, readOnly: true}}
    - {{name: lib64, mountPath: /lib64, readOnly: true}}
  volumes:
  - {{name: program, hostPath: {{path: {program}}}}}
  - {{name: lib, hostPath: {{path: /lib}}}}
  - {{name: lib64, hostPath: {{path: {lib64}}}}}
{more}"#
    )
}

pub fn indent(text: &str, by: usize) -> String {
    text.lines().map(|l| format!("{}{l}\n", " ".repeat(by))).collect()
}

pub fn address(ip: &str, port: &str) -> SocketAddr {
    let ip = ip.parse().unwrap_or_else(|_| panic!("{ip:?} is no address"));
    SocketAddr::new(ip, port.parse().unwrap_or_else(|_| panic!("{port:?} is no port")))
}

/// One request from this process.
pub fn ask(to: SocketAddr) -> std::io::Result<String> {
    let patience = Some(Duration::from_secs(10));
    let mut s = TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
    s.set_read_timeout(patience)?;
    s.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let (mut text, mut buffer) = (String::new(), [0; 1024]);
    while !(text.contains("\r\n\r\n") && text.ends_with('\n')) {
        match s.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
        }
    }
    Ok(text.split("\r\n\r\n").nth(1).unwrap_or_default().trim().to_owned())
}

/// One datagram from this process, asked again when nothing comes.
pub fn ask_udp(to: SocketAddr) -> Option<String> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let s = UdpSocket::bind(any).ok()?;
    s.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    s.connect(to).ok()?;
    s.send(b"?").ok()?;
    let mut buffer = [0; 512];
    let n = s.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..n]).trim().to_owned())
}

pub fn pod(program: &str, name: &str, labels: &str, more: &str) -> String {
    let spec = server(program, "c", "who", more);
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{who: {name}, {labels}}}}}\nspec:{}",
        indent(&spec, 0)
    )
}

pub fn service(name: &str, spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

pub const PORTS: &str =
    "ports: [{name: web, port: 80, targetPort: http}, {name: dg, port: 80, protocol: UDP, targetPort: 8080}]";

/// What the tests ask of one cluster.
pub struct World {
    pub c: Cluster,
    pub node: String,
}

impl World {
    pub fn get(&self, what: &[&str], path: &str) -> String {
        self.c.kubectl(&[&["get"], what, &["-o", &format!("jsonpath={{{path}}}")]].concat())
    }
    pub fn service(&self, name: &str, path: &str) -> String {
        self.get(&["service", name], path)
    }
    pub fn cluster_ip(&self, name: &str) -> SocketAddr {
        address(&self.service(name, ".spec.clusterIP"), "80")
    }
    pub fn node_port(&self, name: &str) -> String {
        self.service(name, ".spec.ports[0].nodePort")
    }
    pub fn pod_ip(&self, name: &str) -> String {
        self.get(&["pod", name], ".status.podIP")
    }
    /// `e2e-net` in a pod.
    pub fn inside(&self, pod: &str, args: &[&str]) -> Option<String> {
        let out = self.c.try_kubectl(&[&["exec", pod, "--", "/e2e-net"], args].concat(), None);
        out.ok.then(|| out.stdout.trim().to_owned())
    }
    /// Until this process gets an answer from the wanted pod (any when empty); who was seen as the client.
    pub fn from_host(&self, to: SocketAddr, who: &str) -> String {
        let mut client = String::new();
        wait_for(&format!("{who:?} to answer at {to}"), || {
            ask(to).is_ok_and(|said| seen(&said, who, &mut client))
        });
        client
    }
    pub fn from_pod(&self, pod: &str, to: &str, who: &str) -> String {
        let mut client = String::new();
        wait_for(&format!("{who:?} to answer {pod} at {to}"), || {
            self.inside(pod, &["get", to]).is_some_and(|said| seen(&said, who, &mut client))
        });
        client
    }
    pub fn resolves(&self, pod: &str, name: &str, want: &[&str]) {
        let mut got = None;
        let mut want: Vec<&str> = want.to_vec();
        want.sort_unstable();
        wait_for(&format!("{name} to be {want:?} in {pod}"), || {
            got = self.inside(pod, &["resolve", name]);
            let mut lines: Vec<&str> = got.as_deref().unwrap_or_default().lines().collect();
            lines.sort_unstable();
            lines == want
        });
    }
}

fn seen(said: &str, who: &str, client: &mut String) -> bool {
    let Some((name, ip)) = said.split_once(' ') else { return false };
    *client = ip.to_owned();
    who.is_empty() || name == who
}
