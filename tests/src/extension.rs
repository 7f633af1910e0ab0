//! The process of `clients/python/extension.py` beside a cluster: its webhooks, and its extension API server. Ends with
//! the value that holds it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use serde_json::{Value, json};
use testkit::{Background, Cluster, run};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Extension {
    process: Option<Background>,
    /// Of its certificate and its key.
    dir: PathBuf,
    pub port: u16,
    /// Base64, as a caBundle has it.
    pub ca: String,
}

impl Extension {
    /// Under these names and as 127.0.0.1, with the authority of the front proxy as the cluster publishes it.
    pub fn start(c: &Cluster, names: &[&str]) -> Self {
        let dir = c.dir().join(format!("extension-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&dir).expect("a directory");
        let names: Vec<String> = names.iter().chain(&["127.0.0.1"]).map(|n| (*n).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("certificate");
        let file = |name: &str, text: &str| std::fs::write(dir.join(name), text).expect("a file");
        file("tls.crt", &made.cert.pem());
        file("tls.key", &made.signing_key.serialize_pem());
        let published = ["-n", "kube-system", "get", "configmap", "extension-apiserver-authentication", "-o"];
        let path = r"jsonpath={.data.requestheader-client-ca-file}";
        file("front-proxy.crt", &c.kubectl(&[&published[..], &[path]].concat()));
        let ca = base64::engine::general_purpose::STANDARD.encode(made.cert.pem());
        let mut e = Self { process: None, dir, port: 0, ca };
        e.run();
        e
    }

    /// Starts it, again on the port that it had.
    pub fn run(&mut self) {
        let mut command = Command::new("python3");
        command
            .arg(crate::programs::sources().join("python/extension.py"))
            .args(["tls.crt", "tls.key", "front-proxy.crt"].map(|f| self.dir.join(f)))
            .arg(self.port.to_string());
        let mut process = Background::start(command);
        process.wait_text("serving on ");
        let text = process.text();
        let port = text.lines().find_map(|l| l.strip_prefix("serving on ")?.trim().parse().ok());
        self.port = port.expect("a port");
        self.process = Some(process);
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    /// What it answers at these paths from now on.
    pub fn documents(&self, by_path: &[(String, Value)]) {
        let by_path = Value::Object(by_path.iter().cloned().collect());
        let (new, path) = (self.dir.join("documents.new"), self.dir.join("documents.json"));
        std::fs::write(&new, by_path.to_string()).expect("documents");
        std::fs::rename(new, path).expect("documents");
    }

    /// Has the cluster ask it, behind the Service `name`, for a group version.
    pub fn register(&self, c: &Cluster, name: &str, group: &str, version: &str) {
        let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("{version}.{group}")},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": {"namespace": "default", "name": name}, "caBundle": self.ca}});
        c.apply(&object.to_string());
        let service = format!("apiservice/{version}.{group}");
        c.kubectl(&["wait", "--for=condition=Available", &service, "--timeout=60s"]);
    }

    /// A Service of this name without a selector, and the EndpointSlice that leads from it to this process.
    pub fn service(&self, name: &str, port: u16) -> [Value; 2] {
        let ports = json!([{"name": "https", "port": port, "targetPort": self.port}]);
        let slice = json!({"name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}});
        [
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": ports}}),
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": slice,
                "addressType": "IPv4", "ports": [{"name": "https", "port": self.port}],
                "endpoints": [{"addresses": [address()], "conditions": {"ready": true}}],
            }),
        ]
    }
}

/// An address of this machine that is not loopback: endpoints may not be.
fn address() -> IpAddr {
    let out = run(Command::new("hostname").arg("-I"), None);
    let first = out.stdout.split_whitespace().find_map(|a| a.parse::<IpAddr>().ok().filter(IpAddr::is_ipv4));
    first.expect("an address of this machine")
}
