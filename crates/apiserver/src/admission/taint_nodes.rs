//! TaintNodesByCondition: a node that has just registered takes no pods until the node lifecycle controller has seen it
//! ready.

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::{array, items, object, text};
use super::{Context, Operation, Plugin, Request};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }
    fn handles(&self, r: &Request<'_>) -> bool {
        r.is("", "nodes") && r.subresource.is_empty() && r.operation == Operation::Create
    }
    async fn admit(&self, _cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        let there = items(&r.object["spec"], "taints")
            .iter()
            .any(|t| text(t, "key") == NOT_READY && text(t, "effect") == "NoSchedule");
        if !there {
            let spec = object(object(&mut r.object).entry("spec").or_insert(Value::Null));
            array(spec, "taints").push(json!({"effect": "NoSchedule", "key": NOT_READY}));
        }
        Ok(())
    }
}
