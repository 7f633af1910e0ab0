//! Policies and webhook configurations: their expressions must compile when they are written.

use api::{Cause, Status};
use async_trait::async_trait;
use serde_json::Value;

use crate::admission::expression_faults;
use crate::registry::{Context, Extra, Strategy};

pub struct Expressions;

#[async_trait]
impl Strategy for Expressions {
    async fn allocate(
        &self,
        c: &Context<'_>,
        new: &mut Value,
        old: Option<&Value>,
        _extra: &mut Extra,
    ) -> Result<(), Status> {
        let kind = &c.target.kind;
        let part = |v: &Value| (v["spec"].clone(), v["webhooks"].clone());
        // What did not change was accepted once.
        if old.is_some_and(|o| part(o) == part(new)) {
            return Ok(());
        }
        let found = expression_faults(&kind.kind, new);
        if found.is_empty() {
            return Ok(());
        }
        let cause = |(field, source, why): (String, String, String)| Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {}: {why}", api::validation::errors::quote(&source)),
            field,
        };
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        Err(Status::invalid(&kind.group, &kind.kind, name, found.into_iter().map(cause).collect()))
    }
}
