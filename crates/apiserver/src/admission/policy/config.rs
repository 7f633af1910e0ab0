//! What admission policies and their bindings say, expressions compiled. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::types::ObjectType;
use cel::{Env, Program, Type};
use serde_json::Value;

use super::evaluate::Variables;
use super::mutating::messages;
use crate::admission::matching::{Condition, Matcher, compile, conditions, environment, list, text, texts};

/// The variables of a policy's expressions, beside `variables` and the authorizer.
const VARIABLES: [&str; 5] = ["object", "oldObject", "request", "params", "namespaceObject"];

/// Of either kind; a validating one has no mutations and a mutating one no validations.
pub struct Policy {
    pub name: String,
    pub matcher: Matcher,
    pub conditions: Vec<Condition>,
    pub variables: Arc<Variables>,
    pub validations: Vec<Validation>,
    pub audits: Vec<Audit>,
    pub mutations: Vec<Mutation>,
    /// Asked again when others changed the object after it.
    pub reinvoke: bool,
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

pub struct Audit {
    pub key: String,
    pub expression: String,
    pub program: Result<Program, String>,
}

/// An expression that makes a patch.
pub struct Mutation {
    pub program: Result<Program, String>,
    pub json_patch: bool,
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

/// What expressions see beside the policy's variables; `typed` are those whose type is known.
pub fn base(typed: &[(&str, &Type)]) -> Env {
    let mut env = environment(&VARIABLES).with_messages(messages);
    for (name, known) in typed {
        for (_, t) in env.variables.iter_mut().filter(|(n, _)| n == name) {
            *t = (*known).clone();
        }
    }
    env
}

/// The policy's variables, each of which may use those before it, and the environment in which all are known.
pub fn variables(v: &Value, base: Env) -> (Variables, Env) {
    let mut fields: BTreeMap<String, Type> = BTreeMap::new();
    let with = |fields: &BTreeMap<String, Type>| {
        let mut env = base.clone();
        let known = ObjectType { name: "kubernetes.variables".into(), fields: fields.clone() };
        env.variables.push(("variables".into(), Type::Object(known.into())));
        env
    };
    let mut all = Vec::new();
    for x in list(v) {
        let name = text(x, "name");
        let program = compile(&with(&fields), &x["expression"], &Type::Dyn);
        fields.insert(name.clone(), program.as_ref().map_or(Type::Dyn, |p| p.result.clone()));
        all.push((name, program));
    }
    (Variables(all), with(&fields))
}

fn mutation(env: &Env, x: &Value) -> Mutation {
    let json_patch = x["patchType"] == "JSONPatch";
    let (field, wanted) = match json_patch {
        true => ("jsonPatch", Type::list(Type::Message("JSONPatch".into()))),
        false => ("applyConfiguration", Type::Message("Object".into())),
    };
    Mutation { program: compile(env, &x[field]["expression"], &wanted), json_patch }
}

pub fn policy(name: &str, v: &Value) -> Policy {
    let spec = &v["spec"];
    let (variables, env) = variables(&spec["variables"], base(&[]));
    let param = &spec["paramKind"];
    Policy {
        name: name.to_owned(),
        matcher: Matcher::parse(&spec["matchConstraints"], "resourceRules"),
        conditions: conditions(&spec["matchConditions"], &env),
        variables: Arc::new(variables),
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
        audits: list(&spec["auditAnnotations"])
            .iter()
            .map(|x| Audit {
                key: format!("{name}/{}", text(x, "key")),
                expression: text(x, "valueExpression").trim().to_owned(),
                program: compile(&env, &x["valueExpression"], &Type::Dyn),
            })
            .collect(),
        mutations: list(&spec["mutations"]).iter().map(|x| mutation(&env, x)).collect(),
        reinvoke: spec["reinvocationPolicy"] == "IfNeeded",
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
