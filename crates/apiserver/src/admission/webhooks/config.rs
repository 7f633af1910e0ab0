//! What a webhook configuration says. Pure.

use std::time::Duration;

use serde_json::Value;

use crate::admission::matching::{Condition, Matcher, conditions, environment, list, text, texts};

/// What one webhook wants to see, and how it is asked.
pub struct Webhook {
    pub name: String,
    /// Of its configuration, for the log.
    pub configuration: String,
    pub client: Value,
    pub matcher: Matcher,
    pub fails_closed: bool,
    pub conditions: Vec<Condition>,
    pub timeout: Duration,
    /// May be called for a dry run.
    pub dry_run: bool,
    pub reinvoke: bool,
    /// The newest version of AdmissionReview that both sides know.
    pub review: Option<&'static str>,
}

/// The variables of match conditions, beside the authorizer.
pub const VARIABLES: [&str; 3] = ["object", "oldObject", "request"];

fn webhook(configuration: &str, v: &Value) -> Webhook {
    let known = texts(&v["admissionReviewVersions"]);
    Webhook {
        name: text(v, "name"),
        configuration: configuration.to_owned(),
        client: v["clientConfig"].clone(),
        matcher: Matcher::parse(v, "rules"),
        fails_closed: v["failurePolicy"] != "Ignore",
        conditions: conditions(&v["matchConditions"], &environment(&VARIABLES)),
        timeout: Duration::from_secs(v["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30)),
        dry_run: matches!(v["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")),
        reinvoke: v["reinvocationPolicy"] == "IfNeeded",
        review: ["v1", "v1beta1"].into_iter().find(|k| known.iter().any(|v| v == k)),
    }
}

pub fn webhooks(configuration: &str, v: &Value) -> Vec<Webhook> {
    list(&v["webhooks"]).iter().map(|w| webhook(configuration, w)).collect()
}
