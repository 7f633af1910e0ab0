//! What a ValidatingAdmissionPolicy and its binding say, expressions compiled. Pure.

use cel::{Program, Type};
use serde_json::Value;

use crate::admission::matching::{Condition, Matcher, compile, conditions, environment, list, text, texts};

/// The variables of a policy's expressions.
pub const VARIABLES: [&str; 7] =
    ["object", "oldObject", "request", "params", "namespaceObject", "variables", "authorizer"];

pub struct Policy {
    pub name: String,
    pub matcher: Matcher,
    pub conditions: Vec<Condition>,
    /// In the order in which they may use one another.
    pub variables: Vec<(String, Result<Program, String>)>,
    pub validations: Vec<Validation>,
    pub fails_closed: bool,
    /// apiVersion and kind.
    pub param_kind: Option<(String, String)>,
}

pub struct Validation {
    pub expression: String,
    pub program: Result<Program, String>,
    pub message: String,
    pub message_expression: Option<Result<Program, String>>,
    pub reason: String,
}

pub struct Binding {
    pub name: String,
    pub policy: String,
    pub matcher: Matcher,
    pub params: Option<ParamRef>,
    pub actions: Vec<String>,
}

pub struct ParamRef {
    pub name: String,
    pub namespace: String,
    pub selector: Option<Value>,
    /// Nothing found is fine.
    pub allow_missing: bool,
}

pub fn policy(name: &str, v: &Value) -> Policy {
    let spec = &v["spec"];
    let env = environment(&VARIABLES);
    let param = &spec["paramKind"];
    Policy {
        name: name.to_owned(),
        matcher: Matcher::parse(&spec["matchConstraints"], "resourceRules"),
        conditions: conditions(&spec["matchConditions"], &env),
        variables: list(&spec["variables"])
            .iter()
            .map(|x| (text(x, "name"), compile(&env, &x["expression"], &Type::Dyn)))
            .collect(),
        validations: list(&spec["validations"])
            .iter()
            .map(|x| Validation {
                expression: text(x, "expression").trim().to_owned(),
                program: compile(&env, &x["expression"], &Type::Bool),
                message: text(x, "message").trim().to_owned(),
                message_expression: x["messageExpression"]
                    .as_str()
                    .filter(|s| !s.is_empty())
                    .map(|_| compile(&env, &x["messageExpression"], &Type::String)),
                reason: text(x, "reason"),
            })
            .collect(),
        fails_closed: spec["failurePolicy"] != "Ignore",
        param_kind: param.is_object().then(|| (text(param, "apiVersion"), text(param, "kind"))),
    }
}

pub fn binding(name: &str, v: &Value) -> Binding {
    let spec = &v["spec"];
    let params = &spec["paramRef"];
    Binding {
        name: name.to_owned(),
        policy: text(spec, "policyName"),
        matcher: Matcher::parse(&spec["matchResources"], "resourceRules"),
        params: params.is_object().then(|| ParamRef {
            name: text(params, "name"),
            namespace: text(params, "namespace"),
            selector: params.get("selector").filter(|s| !s.is_null()).cloned(),
            allow_missing: params["parameterNotFoundAction"] == "Allow",
        }),
        actions: texts(&spec["validationActions"]),
    }
}
