//! Webhook configurations, parsed once per revision. Owns that cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use api::selector::LabelSelector;
use cel::{Env, Program, Type};
use parking_lot::Mutex;
use serde_json::Value;

use crate::Reader;

pub const GROUP: &str = "admissionregistration.k8s.io";

/// What one webhook wants to see, and how it is asked.
pub struct Webhook {
    pub name: String,
    /// Of its configuration, for the log.
    pub configuration: String,
    pub client: Value,
    pub rules: Vec<Rule>,
    /// Equivalent versions of a resource count as the ones in the rules.
    pub equivalent: bool,
    pub fails_closed: bool,
    pub namespaces: LabelSelector,
    pub objects: LabelSelector,
    pub conditions: Vec<Condition>,
    pub timeout: Duration,
    /// May be called for a dry run.
    pub dry_run: bool,
    pub reinvoke: bool,
    /// The newest version of AdmissionReview that both sides know.
    pub review: Option<&'static str>,
}

pub struct Rule {
    pub operations: Vec<String>,
    pub groups: Vec<String>,
    pub versions: Vec<String>,
    pub resources: Vec<String>,
    pub scope: String,
}

pub struct Condition {
    pub name: String,
    /// What does not compile is an error when it is asked.
    pub program: Result<Program, String>,
}

fn text(v: &Value, key: &str) -> String {
    v[key].as_str().unwrap_or_default().to_owned()
}

fn texts(v: &Value) -> Vec<String> {
    v.as_array().into_iter().flatten().filter_map(|s| Some(s.as_str()?.to_owned())).collect()
}

fn list(v: &Value) -> &[Value] {
    v.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The variables of match conditions.
pub fn environment() -> Env {
    let names = ["object", "oldObject", "request", "authorizer"];
    Env::with(names.iter().map(|n| ((*n).to_owned(), Type::Dyn)).collect(), api::validation::cel_functions())
}

fn rule(v: &Value) -> Rule {
    Rule {
        operations: texts(&v["operations"]),
        groups: texts(&v["apiGroups"]),
        versions: texts(&v["apiVersions"]),
        resources: texts(&v["resources"]),
        scope: text(v, "scope"),
    }
}

fn webhook(configuration: &str, v: &Value) -> Webhook {
    // An unreadable selector was refused at the door; what is left matches nothing.
    let selector = |k: &str| match &v[k] {
        Value::Null => LabelSelector::everything(),
        s => LabelSelector::from_value(s).unwrap_or_else(|_| LabelSelector::nothing()),
    };
    let env = environment();
    let known = texts(&v["admissionReviewVersions"]);
    Webhook {
        name: text(v, "name"),
        configuration: configuration.to_owned(),
        client: v["clientConfig"].clone(),
        rules: list(&v["rules"]).iter().map(rule).collect(),
        equivalent: v["matchPolicy"] != "Exact",
        fails_closed: v["failurePolicy"] != "Ignore",
        namespaces: selector("namespaceSelector"),
        objects: selector("objectSelector"),
        conditions: list(&v["matchConditions"])
            .iter()
            .map(|c| Condition {
                name: text(c, "name"),
                program: env
                    .compile(c["expression"].as_str().unwrap_or_default(), Some(&Type::Bool))
                    .map_err(|e| e.message),
            })
            .collect(),
        timeout: Duration::from_secs(v["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30)),
        dry_run: matches!(v["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")),
        reinvoke: v["reinvocationPolicy"] == "IfNeeded",
        review: ["v1", "v1beta1"].into_iter().find(|k| known.iter().any(|v| v == k)),
    }
}

type Parsed = Arc<Vec<Webhook>>;

/// The configurations of one kind.
pub struct Configurations {
    plural: &'static str,
    cache: Mutex<HashMap<String, (u64, Parsed)>>,
}

impl Configurations {
    pub fn new(plural: &'static str) -> Self {
        Self { plural, cache: Mutex::default() }
    }

    /// All of them, by the names of their configurations.
    pub async fn all(&self, reader: &dyn Reader) -> Result<Vec<Parsed>, Status> {
        let objects = reader.list(GROUP, self.plural, "").await?;
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let mut out = Vec::with_capacity(objects.len());
        for o in &objects {
            if let Some((revision, parsed)) = self.cache.lock().get(o.name())
                && *revision == o.revision()
            {
                out.push(parsed.clone());
                continue;
            }
            let v = o.value().map_err(Status::internal)?;
            let parsed: Parsed =
                Arc::new(list(&v["webhooks"]).iter().map(|w| webhook(o.name(), w)).collect());
            self.cache.lock().insert(o.name().to_owned(), (o.revision(), parsed.clone()));
            out.push(parsed);
        }
        let mut cache = self.cache.lock();
        if cache.len() > objects.len() {
            cache.retain(|name, _| objects.iter().any(|o| o.name() == name));
        }
        Ok(out)
    }
}
