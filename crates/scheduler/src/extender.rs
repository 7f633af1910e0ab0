//! Extenders: services that a configuration names, asked over HTTP which of the nodes that do they take, which they prefer,
//! whether a preemption suits them, and to bind (`kube-scheduler/extender/v1`). Owns no connection; spawns nothing of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::post::Endpoint;
use rustls::pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::core::PodInfo;

/// Upstream's, where none is said.
const PATIENCE: Duration = Duration::from_secs(5);
/// From an extender's score (0 to 10) to the plugins' (0 to 100).
const SCALE: i64 = 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    url_prefix: String,
    #[serde(default)]
    filter_verb: String,
    #[serde(default)]
    preempt_verb: String,
    #[serde(default)]
    prioritize_verb: String,
    #[serde(default)]
    bind_verb: String,
    #[serde(default)]
    weight: i64,
    #[serde(default, rename = "enableHTTPS")]
    enable_https: bool,
    tls_config: Option<Tls>,
    #[serde(default, rename = "httpTimeout")]
    http_timeout: Option<String>,
    #[serde(default)]
    node_cache_capable: bool,
    #[serde(default)]
    managed_resources: Vec<Managed>,
    #[serde(default)]
    ignorable: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Tls {
    insecure: bool,
    server_name: Option<String>,
    cert_file: String,
    key_file: String,
    #[serde(rename = "caFile")]
    ca_file: String,
    cert_data: String,
    key_data: String,
    #[serde(rename = "caData")]
    ca_data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Managed {
    name: String,
    #[serde(default)]
    ignored_by_scheduler: bool,
}

/// One that was read and checked.
#[derive(Debug, Clone)]
pub struct Extender {
    endpoint: Endpoint,
    patience: Duration,
    filter: String,
    preempt: String,
    prioritize: String,
    bind: String,
    weight: i64,
    /// It knows nodes by name.
    by_name: bool,
    managed: Vec<String>,
    ignorable: bool,
}

/// Nodes as an extender is told of them, in one order.
pub struct Nodes<'a> {
    pub names: Vec<String>,
    /// The object of a node by its name.
    pub object: &'a (dyn Fn(&str) -> Option<Value> + Sync),
}

/// What an extender leaves of the nodes, and why it refuses others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    pub names: Vec<String>,
    pub refused: Vec<(String, String)>,
}

/// `1m30s`, as Go writes durations.
fn duration(text: &str) -> Option<Duration> {
    let mut total = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    Duration::try_from_secs_f64(total).ok()
}

fn pem(file: &str, data: &str) -> Result<Option<Vec<u8>>, String> {
    if !data.is_empty() {
        return STANDARD.decode(data).map(Some).map_err(|e| format!("data that is no base64: {e}"));
    }
    if file.is_empty() {
        return Ok(None);
    }
    std::fs::read(file).map(Some).map_err(|e| format!("failed to read {file}: {e}"))
}

impl Tls {
    /// Without an authority any certificate will do, as upstream has it.
    fn client(&self) -> Result<rustls::ClientConfig, String> {
        let builder = rustls::ClientConfig::builder_with_provider(pki::trust::provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let ca = pem(&self.ca_file, &self.ca_data)?;
        let builder = match ca.filter(|_| !self.insecure) {
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                for c in CertificateDer::pem_slice_iter(&ca) {
                    let added =
                        c.map_err(|e| e.to_string()).and_then(|c| roots.add(c).map_err(|e| e.to_string()));
                    added.map_err(|e| format!("an authority that can't be read: {e}"))?;
                }
                builder.with_root_certificates(roots)
            }
            None => builder.dangerous().with_custom_certificate_verifier(pki::unverified::verifier()),
        };
        let own = (pem(&self.cert_file, &self.cert_data)?, pem(&self.key_file, &self.key_data)?);
        let (Some(cert), Some(key)) = own else { return Ok(builder.with_no_client_auth()) };
        let chain = CertificateDer::pem_slice_iter(&cert).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|e| format!("a client certificate that can't be read: {e}"))?;
        let key =
            PrivateKeyDer::from_pem_slice(&key).map_err(|e| format!("a key that can't be read: {e}"))?;
        builder.with_client_auth_cert(chain, key).map_err(|e| e.to_string())
    }
}

impl Extender {
    /// Errors begin with the path below the extender.
    pub fn new(file: File) -> Result<Self, String> {
        if !file.prioritize_verb.is_empty() && file.weight <= 0 {
            return Err(".weight: must be above zero with a prioritizeVerb".into());
        }
        let patience = match &file.http_timeout {
            None => PATIENCE,
            Some(text) => {
                duration(text).ok_or(format!(".httpTimeout: {text:?} is no duration such as 5s"))?
            }
        };
        let tls = file.tls_config.unwrap_or_default();
        let https = file.enable_https || file.url_prefix.starts_with("https://");
        let config = match https {
            true => Some(Arc::new(tls.client().map_err(|e| format!(".tlsConfig: {e}"))?)),
            false => None,
        };
        let endpoint = Endpoint::new(&file.url_prefix, config, tls.server_name)
            .map_err(|e| format!(".urlPrefix: {e}"))?;
        Ok(Self {
            endpoint,
            patience: if patience.is_zero() { PATIENCE } else { patience },
            filter: file.filter_verb,
            preempt: file.preempt_verb,
            prioritize: file.prioritize_verb,
            bind: file.bind_verb,
            weight: file.weight,
            by_name: file.node_cache_capable,
            managed: file.managed_resources.iter().map(|m| m.name.clone()).collect(),
            ignorable: file.ignorable,
        })
    }

    pub fn binds(&self) -> bool {
        !self.bind.is_empty()
    }

    pub fn managed(&self) -> &[String] {
        &self.managed
    }

    /// Whether it is asked about a pod: always, or for the resources that it looks after.
    pub fn interested(&self, pod: &PodInfo) -> bool {
        self.managed.is_empty() || self.managed.iter().any(|m| pod.requests.of(m) > 0)
    }

    async fn ask(&self, verb: &str, body: &Value) -> Result<Value, String> {
        let body = serde_json::to_vec(body).map_err(|e| e.to_string())?;
        let answer = self.endpoint.post(verb, body, self.patience).await?;
        serde_json::from_slice(&answer)
            .map_err(|e| format!("{:?} {verb}: the answer is no JSON: {e}", self.endpoint))
    }

    fn arguments(&self, pod: &Value, nodes: &Nodes<'_>) -> Value {
        match self.by_name {
            true => json!({ "Pod": pod, "Nodes": null, "NodeNames": nodes.names }),
            false => {
                let items: Vec<Value> = nodes.names.iter().filter_map(|n| (nodes.object)(n)).collect();
                json!({ "Pod": pod, "Nodes": { "metadata": {}, "items": items }, "NodeNames": null })
            }
        }
    }

    /// What it leaves of the nodes. One whose failures may be ignored leaves all when it fails.
    pub async fn filter(&self, pod: &Value, nodes: &Nodes<'_>) -> Result<Filtered, String> {
        if self.filter.is_empty() {
            return Ok(Filtered { names: nodes.names.clone(), refused: Vec::new() });
        }
        let answer = self.ask(&self.filter, &self.arguments(pod, nodes)).await;
        match answer.and_then(|a| filtered(&a, nodes, self.by_name)) {
            Err(e) if self.ignorable => {
                tracing::info!(error = e, "left out an extender that failed");
                Ok(Filtered { names: nodes.names.clone(), refused: Vec::new() })
            }
            other => other,
        }
    }

    /// What it adds to the scores of nodes; nothing when it fails, as upstream has it.
    pub async fn prioritize(&self, pod: &Value, nodes: &Nodes<'_>) -> HashMap<String, i64> {
        if self.prioritize.is_empty() {
            return HashMap::new();
        }
        match self.ask(&self.prioritize, &self.arguments(pod, nodes)).await {
            Ok(answer) => scores(&answer, self.weight),
            Err(e) => {
                tracing::info!(error = e, "an extender did not say what it prefers");
                HashMap::new()
            }
        }
    }

    /// Whether the victims may go: those that it leaves; none when it refuses the node.
    pub async fn preempt(
        &self,
        pod: &Value,
        node: &str,
        victims: &[Arc<PodInfo>],
    ) -> Result<Option<Vec<Arc<PodInfo>>>, String> {
        if self.preempt.is_empty() {
            return Ok(Some(victims.to_vec()));
        }
        let pods: Vec<Value> = victims.iter().map(|v| json!({ "UID": v.uid })).collect();
        let of = json!({ node: { "Pods": pods, "NumPDBViolations": 0 } });
        let answer = self.ask(&self.preempt, &json!({ "Pod": pod, "NodeNameToMetaVictims": of })).await;
        let answer = match answer {
            Err(e) if self.ignorable => {
                tracing::info!(error = e, "left out an extender that failed");
                return Ok(Some(victims.to_vec()));
            }
            other => lower(&other?),
        };
        let Some(left) = answer.get("nodenametometavictims").and_then(|m| m.get(node)).map(lower) else {
            return Ok(None);
        };
        let uids: Vec<String> = list(left.get("pods"))
            .iter()
            .filter_map(|p| lower(p).get("uid").and_then(Value::as_str).map(str::to_owned))
            .collect();
        Ok(Some(victims.iter().filter(|v| uids.contains(&v.uid)).cloned().collect()))
    }

    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), String> {
        let body =
            json!({ "PodName": pod.name, "PodNamespace": pod.namespace, "PodUID": pod.uid, "Node": node });
        said(&lower(&self.ask(&self.bind, &body).await?))
    }
}

/// Field names in any case, as Go reads them.
fn lower(v: &Value) -> Map<String, Value> {
    v.as_object().into_iter().flatten().map(|(k, v)| (k.to_ascii_lowercase(), v.clone())).collect()
}

fn list(v: Option<&Value>) -> &[Value] {
    v.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn said(answer: &Map<String, Value>) -> Result<(), String> {
    match answer.get("error").and_then(Value::as_str) {
        None | Some("") => Ok(()),
        Some(e) => Err(e.to_owned()),
    }
}

fn filtered(answer: &Value, nodes: &Nodes<'_>, by_name: bool) -> Result<Filtered, String> {
    let a = lower(answer);
    said(&a)?;
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let names: Vec<String> = match a.get("nodenames") {
        Some(Value::Array(names)) if by_name => names.iter().filter_map(text).collect(),
        _ => {
            let items = a.get("nodes").and_then(|n| lower(n).get("items").cloned());
            let items = items.unwrap_or_default();
            list(Some(&items)).iter().filter_map(|n| text(&n["metadata"]["name"])).collect()
        }
    };
    if let Some(unknown) = names.iter().find(|n| !nodes.names.contains(n)) {
        return Err(format!("it names a node {unknown:?} that it was not asked about"));
    }
    let refused = ["failednodes", "failedandunresolvablenodes"].iter().flat_map(|f| {
        let map = a.get(*f).and_then(Value::as_object).cloned().unwrap_or_default();
        map.into_iter().filter_map(|(n, why)| Some((n, why.as_str()?.to_owned())))
    });
    Ok(Filtered { refused: refused.collect(), names })
}

fn scores(answer: &Value, weight: i64) -> HashMap<String, i64> {
    let one = |h: &Value| {
        let h = lower(h);
        let score = h.get("score")?.as_i64()?.clamp(0, SCALE);
        Some((h.get("host")?.as_str()?.to_owned(), score.saturating_mul(weight).saturating_mul(SCALE)))
    };
    list(Some(answer)).iter().filter_map(one).collect()
}

/// Resources that are left to the extender alone.
pub fn left_alone(file: &File) -> Vec<String> {
    file.managed_resources.iter().filter(|m| m.ignored_by_scheduler).map(|m| m.name.clone()).collect()
}

#[cfg(test)]
mod tests;
