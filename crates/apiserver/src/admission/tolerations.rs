//! DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or can't be reached, unless it says
//! otherwise.

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::{array, items, object, text};
use super::{Context, Operation, Plugin, Request};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }
    fn handles(&self, r: &Request<'_>) -> bool {
        r.is_pod() && r.subresource.is_empty() && matches!(r.operation, Operation::Create | Operation::Update)
    }
    async fn admit(&self, _cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        add(&mut r.object);
        Ok(())
    }
}

fn add(pod: &mut Value) {
    let tolerated = |taint: &str| {
        items(&pod["spec"], "tolerations").iter().any(|t| {
            (text(t, "key") == taint || text(t, "key").is_empty())
                && matches!(text(t, "effect"), "NoExecute" | "")
        })
    };
    let missing: Vec<&str> = TAINTS.into_iter().filter(|t| !tolerated(t)).collect();
    if missing.is_empty() {
        return;
    }
    let spec = object(object(pod).entry("spec").or_insert(Value::Null));
    let list = array(spec, "tolerations");
    for key in missing {
        list.push(
            json!({"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": SECONDS}),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_added() {
        let mut p = json!({"spec": {"tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]}});
        add(&mut p);
        assert_eq!(p["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
        assert_eq!(p["spec"]["tolerations"][1]["key"], "node.kubernetes.io/unreachable");
        let before = p.clone();
        add(&mut p);
        assert_eq!(p, before);
        let mut all = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        add(&mut all);
        assert_eq!(all["spec"]["tolerations"].as_array().map(Vec::len), Some(1));
    }
}
