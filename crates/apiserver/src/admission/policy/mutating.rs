//! MutatingAdmissionPolicy: expressions that make a configuration to lay over the object, or a JSON patch. They run one
//! after another, by name of policy and binding, before the mutating webhooks.
//! https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/

use std::sync::Arc;

use api::catalog::Descriptor;
use api::{Cause, Reason, Status};
use async_trait::async_trait;
use cel::{Message, Type};
use serde_json::{Map, Value, json};

use super::POLICY_BUDGET;
use super::config::{Binding, Mutation, Policy, binding, policy};
use super::evaluate::{Inputs, params, run};
use crate::admission::matching::{Subject, hold};
use crate::admission::parsed::{GROUP, Parsed};
use crate::admission::{Context, Plugin, Request};
use crate::server::SharedCatalog;

static JSON_PATCH: [(&str, Type); 4] =
    [("op", Type::String), ("path", Type::String), ("from", Type::String), ("value", Type::Dyn)];

/// The messages that expressions may make.
pub fn messages(name: &str) -> Option<Option<&'static [(&'static str, Type)]>> {
    match name {
        "JSONPatch" => Some(Some(&JSON_PATCH)),
        n if n == "Object" || n.starts_with("Object.") => Some(None),
        _ => None,
    }
}

pub struct MutatingPolicies {
    catalog: SharedCatalog,
    policies: Parsed<Policy>,
    bindings: Parsed<Binding>,
}

impl MutatingPolicies {
    pub fn new(catalog: SharedCatalog) -> Self {
        Self {
            catalog,
            policies: Parsed::new("mutatingadmissionpolicies", policy),
            bindings: Parsed::new("mutatingadmissionpolicybindings", binding),
        }
    }
}

/// A policy by one of its bindings, with one set of parameters.
struct Invocation {
    policy: Arc<Policy>,
    binding: Arc<Binding>,
    version: String,
    param: Value,
}

impl Invocation {
    fn key(&self) -> String {
        let meta = &self.param["metadata"];
        format!("{} {} {} {}", self.policy.name, self.binding.name, meta["namespace"], meta["name"])
    }
}

/// Why a policy could not do its work.
struct Failure {
    policy: String,
    binding: String,
    message: String,
    reason: Reason,
}

/// All failures as one refusal, worded by the first.
fn refusal(r: &Request<'_>, failures: &[Failure]) -> Option<Status> {
    let first = failures.first()?;
    let told = |f: &Failure| {
        format!("policy '{}' with binding '{}' denied request: {}", f.policy, f.binding, f.message)
    };
    let mut s = r.forbidden("admission request denied by policy");
    s.message = told(first);
    s.reason = first.reason;
    s.causes = failures
        .iter()
        .map(|f| Cause { reason: String::new(), message: told(f), field: String::new() })
        .collect();
    Some(s)
}

#[async_trait]
impl Plugin for MutatingPolicies {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    /// Policies do not change what could switch them off.
    fn handles(&self, r: &Request<'_>) -> bool {
        r.group != GROUP
    }

    async fn admit(&self, cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        let bindings = self.bindings.all(cx.reader.as_ref()).await?;
        if bindings.is_empty() || !r.object.is_object() {
            return Ok(());
        }
        let subject = Subject::of(&self.catalog, r);
        let mut failures = Vec::new();
        let wanted = self.invocations(cx, r, &subject, &bindings, &mut failures).await?;
        if r.reinvocation.second {
            r.reinvocation.policies.begin(&r.object);
        }
        for i in &wanted {
            let key = i.key();
            if r.reinvocation.second && !r.reinvocation.policies.wants_again(&key) {
                continue;
            }
            let before = r.object.clone();
            if !self.invoke(cx, r, &subject, i, &mut failures).await? {
                continue;
            }
            if r.object != before {
                r.reinvocation.policies.changed();
                r.reinvocation.wanted = true;
            }
            if i.policy.reinvoke {
                r.reinvocation.policies.asked(key);
            }
        }
        r.reinvocation.policies.end(&r.object);
        refusal(r, &failures).map_or(Ok(()), Err)
    }
}

impl MutatingPolicies {
    /// Who wants to see the request.
    async fn invocations(
        &self,
        cx: &Context,
        r: &Request<'_>,
        subject: &Subject,
        bindings: &[Arc<Binding>],
        failures: &mut Vec<Failure>,
    ) -> Result<Vec<Invocation>, Status> {
        let mut out = Vec::new();
        let mut labels = None;
        for policy in self.policies.all(cx.reader.as_ref()).await? {
            let Some(version) = policy.matcher.wants(cx, r, subject, &mut labels, false).await? else {
                continue;
            };
            for binding in bindings.iter().filter(|b| b.policy == policy.name) {
                if binding.matcher.wants(cx, r, subject, &mut labels, true).await?.is_none() {
                    continue;
                }
                match params(&self.catalog, cx, r, &policy, binding).await {
                    Ok(all) => out.extend(all.into_iter().map(|param| Invocation {
                        policy: policy.clone(),
                        binding: binding.clone(),
                        version: version.clone(),
                        param,
                    })),
                    Err(e) if policy.fails_closed => failures.push(Failure {
                        policy: policy.name.clone(),
                        binding: binding.name.clone(),
                        message: format!("failed to configure binding: {e}"),
                        reason: Reason::Forbidden,
                    }),
                    Err(_) => {}
                }
            }
        }
        Ok(out)
    }

    /// Lets one policy change the object. False when its conditions do not hold.
    async fn invoke(
        &self,
        cx: &Context,
        r: &mut Request<'_>,
        subject: &Subject,
        i: &Invocation,
        failures: &mut Vec<Failure>,
    ) -> Result<bool, Status> {
        let p = &i.policy;
        let mut fail = |message: String| {
            if p.fails_closed {
                failures.push(Failure {
                    policy: p.name.clone(),
                    binding: i.binding.name.clone(),
                    message,
                    reason: Reason::Invalid,
                });
            }
        };
        let param = api::validation::cel_value(&i.param);
        if !p.conditions.is_empty() {
            let inputs = Inputs::of(cx, r, subject, &i.version).await?;
            match inputs.authority.settled(cx, || hold(&p.conditions, &inputs.with(p, &param))).await {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(e) => {
                    fail(e);
                    return Ok(false);
                }
            }
        }
        for m in &p.mutations {
            // Each sees what the one before it made.
            let inputs = Inputs::of(cx, r, subject, &i.version).await?;
            let made = inputs
                .authority
                .settled(cx, || run(&m.program, &inputs.with(p, &param), &mut POLICY_BUDGET.clone()))
                .await;
            let shown = subject.show(cx, &i.version, &r.object).await?;
            let patched = made.and_then(|v| self.patched(r, &i.version, m, &v, shown));
            match patched {
                Ok(None) => {}
                Ok(Some(v)) => match subject.take(cx, &i.version, v).await {
                    Ok(new) => r.object = new,
                    Err(e) => fail(e.message),
                },
                Err(e) => fail(e),
            }
        }
        Ok(true)
    }

    fn kind(&self, r: &Request<'_>) -> Option<Arc<Descriptor>> {
        self.catalog.read().by_plural(r.group, r.resource).cloned()
    }

    /// The object after a mutation; `None`: a test in its patch says no.
    fn patched(
        &self,
        r: &Request<'_>,
        version: &str,
        m: &Mutation,
        made: &cel::Value,
        shown: Value,
    ) -> Result<Option<Value>, String> {
        if m.json_patch {
            let patch = json_patch(made)?;
            let patch = patch::JsonPatch::from_value(&patch).map_err(|e| format!("JSON Patch: {e}"))?;
            return match patch.apply(shown) {
                Ok(v) => Ok(Some(v)),
                Err(e) if e.is_failed_test() => Ok(None),
                Err(e) => Err(format!("JSON Patch: {e}")),
            };
        }
        let cel::Value::Message(message) = made else {
            return Err(format!(
                "unsupported return type from ApplyConfiguration expression: {}",
                made.type_name()
            ));
        };
        named_by_path(message)?;
        let mut config = to_json(made)?;
        for k in ["apiVersion", "kind"] {
            config[k] = shown[k].clone();
        }
        let kind = self.kind(r);
        let definition = kind.as_deref().and_then(|k| k.version(version)).and_then(|v| v.schema.definition());
        let Some(definition) = definition else {
            return Err(format!("no schema for {}", r.kind));
        };
        let laid = patch::apply::lay_over(&shown, &config, patch::Type::of(definition));
        laid.map(Some).map_err(|e| format!("error applying patch: {e}"))
    }
}

/// A list of `JSONPatch{…}` as a JSON patch.
fn json_patch(made: &cel::Value) -> Result<Value, String> {
    let cel::Value::List(list) = made else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".into());
    };
    let mut ops = Vec::with_capacity(list.len());
    for v in list.iter() {
        let cel::Value::Message(m) = v else {
            return Err(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".into()
            );
        };
        let text = |k: &str| m.fields.get(k).and_then(cel::Value::as_str).unwrap_or_default();
        let mut op = json!({"op": text("op"), "path": text("path")});
        if !text("from").is_empty() {
            op["from"] = json!(text("from"));
        }
        if let Some(v) = m.fields.get("value") {
            if let cel::Value::Message(m) = v {
                named_by_path(m)?;
            }
            op["value"] = to_json(v)?;
        }
        ops.push(op);
    }
    Ok(Value::Array(ops))
}

/// `Object.spec.template{…}` may stand at `spec.template` only.
fn named_by_path(m: &Message) -> Result<(), String> {
    let mut wrong = Vec::new();
    for (field, v) in &m.fields {
        check_names(v, &format!("{}.{field}", m.name), &mut wrong);
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("type mismatch: {}", wrong.join("\n"))) }
}

fn check_names(v: &cel::Value, expected: &str, wrong: &mut Vec<String>) {
    match v {
        cel::Value::Message(m) => {
            if *m.name != *expected {
                wrong.push(format!(
                    "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
                    m.name
                ));
            }
            for (field, v) in &m.fields {
                check_names(v, &format!("{expected}.{field}"), wrong);
            }
        }
        cel::Value::List(l) => l.iter().for_each(|v| check_names(v, expected, wrong)),
        cel::Value::Map(m) => m.values().for_each(|v| check_names(v, expected, wrong)),
        _ => {}
    }
}

/// A value as JSON.
fn to_json(v: &cel::Value) -> Result<Value, String> {
    use base64::Engine;
    use cel::value::Key;
    Ok(match v {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(b) => json!(b),
        cel::Value::Int(i) => json!(i),
        cel::Value::Uint(u) => json!(u),
        cel::Value::Double(d) => json!(d),
        cel::Value::String(s) => json!(&**s),
        cel::Value::Bytes(b) => json!(base64::engine::general_purpose::STANDARD.encode(b)),
        cel::Value::Timestamp(t) => json!(t.to_string()),
        cel::Value::List(l) => Value::Array(l.iter().map(to_json).collect::<Result<_, _>>()?),
        cel::Value::Map(m) => {
            let mut out = Map::new();
            for (k, v) in m.iter() {
                let Key::String(k) = k else {
                    return Err("map keys must be strings to be written as JSON".into());
                };
                out.insert(k.to_string(), to_json(v)?);
            }
            Value::Object(out)
        }
        cel::Value::Message(m) => {
            let all = m.fields.iter().map(|(k, v)| Ok((k.clone(), to_json(v)?)));
            Value::Object(all.collect::<Result<_, String>>()?)
        }
        other => return Err(format!("a value of type {} has no form in JSON", other.type_name())),
    })
}
