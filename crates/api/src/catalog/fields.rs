//! Which fields a field selector may name, per kind, and how their value is read from a stored object.

use serde_json::Value;

/// One field that a field selector may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectableField {
    /// As it stands in the selector.
    pub label: String,
    /// Where it is in the stored object.
    pub path: Vec<String>,
    pub format: FieldFormat,
}

/// How an absent value reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldFormat {
    /// Absent is the empty string.
    Text,
    /// Absent is `false`.
    Bool,
    /// Absent is `0`.
    Int,
    /// An event's source: `source.component`, else `reportingComponent`.
    EventSource,
}

impl SelectableField {
    pub fn new(label: &str, path: &str, format: FieldFormat) -> Self {
        let path = path.split('.').map(str::to_string).collect();
        Self { label: label.to_string(), path, format }
    }

    pub fn text(label: &str) -> Self {
        Self::new(label, label, FieldFormat::Text)
    }

    /// The value as a field selector compares it.
    pub fn value(&self, object: &Value) -> String {
        let mut v = object;
        for step in &self.path {
            v = v.get(step.as_str()).unwrap_or(&Value::Null);
        }
        match (v, self.format) {
            (Value::String(s), FieldFormat::EventSource) if s.is_empty() => reporting(object),
            (Value::String(s), _) => s.clone(),
            (Value::Bool(b), _) => b.to_string(),
            (Value::Number(n), _) => n.to_string(),
            (_, FieldFormat::Bool) => "false".into(),
            (_, FieldFormat::Int) => "0".into(),
            (_, FieldFormat::EventSource) => reporting(object),
            _ => String::new(),
        }
    }
}

fn reporting(event: &Value) -> String {
    event.get("reportingComponent").and_then(Value::as_str).unwrap_or_default().to_string()
}

const EVENT: &[&str] = &["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];

/// The fields of a built-in resource, metadata.name and metadata.namespace first.
pub(super) fn builtin(group: &str, plural: &str) -> Vec<SelectableField> {
    use FieldFormat::{Bool, EventSource, Int, Text};
    let own: &[(&str, FieldFormat)] = match (group, plural) {
        ("", "pods") => &[
            ("spec.nodeName", Text),
            ("spec.restartPolicy", Text),
            ("spec.schedulerName", Text),
            ("spec.serviceAccountName", Text),
            ("spec.hostNetwork", Bool),
            ("status.phase", Text),
            ("status.podIP", Text),
            ("status.nominatedNodeName", Text),
        ],
        ("", "nodes") => &[("spec.unschedulable", Bool)],
        ("", "namespaces") => &[("status.phase", Text)],
        ("", "secrets") => &[("type", Text)],
        ("", "services") => &[("spec.clusterIP", Text), ("spec.type", Text)],
        ("", "replicationcontrollers") | ("apps", "replicasets") => &[("status.replicas", Int)],
        ("certificates.k8s.io", "certificatesigningrequests" | "clustertrustbundles") => {
            &[("spec.signerName", Text)]
        }
        ("certificates.k8s.io", "podcertificaterequests") => {
            &[("spec.signerName", Text), ("spec.podName", Text), ("spec.nodeName", Text)]
        }
        ("resource.k8s.io", "resourceslices") => &[("spec.nodeName", Text), ("spec.driver", Text)],
        _ => &[],
    };
    let mut out = vec![SelectableField::text("metadata.name"), SelectableField::text("metadata.namespace")];
    out.extend(own.iter().map(|(label, format)| SelectableField::new(label, label, *format)));
    match (group, plural) {
        ("batch", "jobs") => out.push(SelectableField::new("status.successful", "status.succeeded", Int)),
        ("", "pods") => out.push(SelectableField::new("spec.host", "spec.nodeName", Text)),
        ("" | "events.k8s.io", "events") => {
            let reference = if group.is_empty() { "involvedObject" } else { "regarding" };
            for f in EVENT {
                let (label, path) = (format!("{reference}.{f}"), format!("involvedObject.{f}"));
                out.push(SelectableField::new(&label, &path, Text));
            }
            out.push(SelectableField::text("reason"));
            out.push(SelectableField::text("type"));
            if group.is_empty() {
                out.push(SelectableField::text("reportingComponent"));
                out.push(SelectableField::new("source", "source.component", EventSource));
            } else {
                out.push(SelectableField::new("reportingController", "reportingComponent", Text));
            }
        }
        _ => {}
    }
    out
}
