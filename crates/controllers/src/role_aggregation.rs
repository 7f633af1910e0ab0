//! The clusterrole-aggregation loop: a ClusterRole with an aggregation rule gets the rules of those that its selectors name.
//! Owns nothing, spawns its worker.
//! https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles

use api::Object;
use api::resource::CLUSTER_ROLES;
use api::selector::LabelSelector;
use client::Patch;
use serde_json::{Value, json};

use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};

pub async fn run(ctx: Context) {
    let queue = Queue::default();
    let roles = ctx.informers.get(&CLUSTER_ROLES);
    // There are few roles, and which gather which is nobody's to know: each change has all gather anew.
    roles.add_index("gathers", |o| match gathers(o) {
        true => vec![String::new()],
        false => Vec::new(),
    });
    let (all, to) = (roles.clone(), queue.clone());
    roles.on_change(move |c| {
        for role in all.by_index("gathers", "") {
            to.add(key_of(&role));
        }
        if let Some(o) = c.new.filter(|o| gathers(o)) {
            to.add(key_of(o));
        }
    });
    if !skeleton::synced(&ctx.token, &[&roles]).await {
        return;
    }
    skeleton::work("clusterrole-aggregation", &ctx.token, &queue, 1, |key: Key| {
        let (client, roles) = (&ctx.client, &roles);
        async move {
            let Some(role) = roles.get("", &key.1) else { return Ok(Next::Wait) };
            if let Some(rules) = gathered(&role, roles.list(None))? {
                let body = json!({"apiVersion": CLUSTER_ROLES.api_version(), "kind": CLUSTER_ROLES.kind,
                    "metadata": {"name": key.1}, "rules": rules});
                client.patch(&CLUSTER_ROLES, "", &key.1, "", &Patch::Apply { body, force: true }).await?;
            }
            Ok(Next::Wait)
        }
    })
    .await;
}

fn gathers(o: &Object) -> bool {
    o.value().is_ok_and(|v| !v["aggregationRule"].is_null())
}

/// The rules that a role should have; `None` when it has them, or gathers none.
fn gathered(role: &Object, mut all: Vec<Object>) -> Result<Option<Vec<Value>>, Error> {
    let v = role.value()?;
    if v["aggregationRule"].is_null() {
        return Ok(None);
    }
    all.sort_by(|a, b| a.name().cmp(b.name()));
    let mut rules: Vec<Value> = Vec::new();
    for s in v["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten() {
        let selector = LabelSelector::from_value(s).unwrap_or_else(|_| LabelSelector::nothing());
        for other in all.iter().filter(|o| o.name() != role.name() && selector.matches(&o.meta().labels)) {
            for rule in other.value()?["rules"].as_array().into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    let has = v["rules"].as_array().cloned().unwrap_or_default();
    Ok((has != rules).then_some(rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_gathered_by_name_and_once() {
        let rule = |r: &str| json!({"apiGroups": [""], "resources": [r], "verbs": ["get"]});
        let role = |name: &str, label: &str, rules: Value| {
            let v = json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": rules});
            Object::from_value(v, 1).expect("role")
        };
        let gathering = |rules: Value| {
            let selectors = json!([{"matchLabels": {"a": "true"}}, {"matchLabels": {"b": "true"}}]);
            let v = json!({"metadata": {"name": "all", "labels": {"a": "true"}}, "rules": rules,
                "aggregationRule": {"clusterRoleSelectors": selectors}});
            Object::from_value(v, 1).expect("role")
        };
        let others = || {
            vec![
                role("z", "a", json!([rule("one"), rule("two")])),
                role("c", "a", json!([rule("two")])),
                role("b", "b", json!([rule("three"), rule("one")])),
                role("d", "d", json!([rule("four")])),
                role("e", "a", Value::Null),
            ]
        };
        let want = vec![rule("two"), rule("one"), rule("three")];
        let got = |rules| {
            let own = gathering(rules);
            gathered(&own, others().into_iter().chain([own.clone()]).collect()).expect("rules")
        };
        assert_eq!(got(Value::Null), Some(want.clone()));
        assert_eq!(got(json!([rule("mine")])), Some(want.clone()));
        assert_eq!(got(json!(want)), None);
        let plain = role("z", "a", json!([rule("one")]));
        assert_eq!(gathered(&plain, others()).expect("rules"), None);
        let none = gathered(&gathering(Value::Null), Vec::new()).expect("rules");
        assert_eq!(none, None);
    }
}
