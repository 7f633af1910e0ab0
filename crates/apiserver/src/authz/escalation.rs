//! Nobody grants what they don't hold: roles need all their permissions or the verb `escalate`, bindings all
//! permissions of the role they name or the verb `bind`.

use api::Status;
use serde_json::Value;

use super::rules::{Rule, escalation_message, missing};
use super::{Attributes, Authorizer, RoleRef};
use crate::User;
use crate::user::SYSTEM_MASTERS;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Judges a write of one of the four RBAC kinds. `old` is absent on create.
pub async fn check(
    authorizer: &Authorizer,
    user: &User,
    plural: &str,
    namespace: &str,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if user.in_group(SYSTEM_MASTERS) {
        return Ok(());
    }
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let same = |field: &str| old.is_some_and(|o| o[field] == new[field]);
    match plural {
        "roles" | "clusterroles" => {
            if same("rules") && same("aggregationRule") {
                return Ok(());
            }
            let may = Attributes {
                verb: "escalate",
                group: GROUP,
                resource: plural,
                name,
                namespace,
                is_resource: true,
                ..Attributes::of(user)
            };
            if authorizer.authorize(&may).await.allowed() {
                return Ok(());
            }
            let rules: Vec<Rule> = serde_json::from_value(new["rules"].clone()).unwrap_or_default();
            confirm(authorizer, user, plural, namespace, name, &rules)?;
            let gathers = !new["aggregationRule"].is_null();
            if gathers && !same("aggregationRule") {
                let (owned, _) = authorizer.rules_for(user, namespace);
                if !missing(&owned, &full_authority()).is_empty() {
                    let why = "must have cluster-admin privileges to use an aggregationRule";
                    return Err(Status::forbidden(GROUP, plural, name, why));
                }
            }
            Ok(())
        }
        "rolebindings" | "clusterrolebindings" => {
            if same("roleRef") && same("subjects") {
                return Ok(());
            }
            let role = RoleRef {
                kind: new["roleRef"]["kind"].as_str().unwrap_or_default().to_owned(),
                name: new["roleRef"]["name"].as_str().unwrap_or_default().to_owned(),
            };
            let may = Attributes {
                verb: "bind",
                group: GROUP,
                resource: if role.kind == "Role" { "roles" } else { "clusterroles" },
                name: &role.name,
                namespace,
                is_resource: true,
                ..Attributes::of(user)
            };
            if authorizer.authorize(&may).await.allowed() {
                return Ok(());
            }
            let rules = authorizer
                .role_rules(&role, namespace)
                .map_err(|_| Status::not_found(GROUP, &role.kind.to_ascii_lowercase(), &role.name))?;
            confirm(authorizer, user, plural, namespace, name, &rules)
        }
        _ => Ok(()),
    }
}

fn confirm(
    authorizer: &Authorizer,
    user: &User,
    plural: &str,
    namespace: &str,
    name: &str,
    rules: &[Rule],
) -> Result<(), Status> {
    let (owned, errors) = authorizer.rules_for(user, namespace);
    let lacking = missing(&owned, rules);
    if lacking.is_empty() {
        return Ok(());
    }
    let mut why = escalation_message(user, &lacking);
    if !errors.is_empty() {
        why = format!("{why}; resolution errors: [{}]", errors.join(" "));
    }
    Err(Status::forbidden(GROUP, plural, name, &why))
}

fn full_authority() -> [Rule; 2] {
    let star = || vec!["*".to_owned()];
    [
        Rule { api_groups: star(), resources: star(), verbs: star(), ..Rule::default() },
        Rule { non_resource_urls: star(), verbs: star(), ..Rule::default() },
    ]
}
