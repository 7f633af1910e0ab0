//! ValidatingAdmissionPolicy: CEL rules of the cluster's administrators over every write.
//! https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/

mod config;

use std::sync::Arc;

use api::selector::LabelSelector;
use api::{Cause, Reason, Status};
use async_trait::async_trait;
use cel::value::Key;
use serde_json::Value;

use super::matching::{BUDGET, Seen, Subject, hold};
use super::parsed::{GROUP, Parsed};
use super::webhooks::question;
use super::{Context, Plugin, Request};
use crate::handlers::convert;
use crate::server::SharedCatalog;
use config::{Binding, Policy, Validation, binding, policy};

pub struct ValidatingPolicies {
    catalog: SharedCatalog,
    policies: Parsed<Policy>,
    bindings: Parsed<Binding>,
}

impl ValidatingPolicies {
    pub fn new(catalog: SharedCatalog) -> Self {
        Self {
            catalog,
            policies: Parsed::new("validatingadmissionpolicies", policy),
            bindings: Parsed::new("validatingadmissionpolicybindings", binding),
        }
    }

    /// The parameters that a binding names: one `null` where the policy takes none.
    async fn params(
        &self,
        cx: &Context,
        r: &Request<'_>,
        p: &Policy,
        b: &Binding,
    ) -> Result<Vec<Value>, String> {
        let Some((api_version, kind)) = &p.param_kind else { return Ok(vec![Value::Null]) };
        let Some(wanted) = &b.params else { return Ok(vec![Value::Null]) };
        let group = api_version.split_once('/').map_or("", |(g, _)| g);
        let found = self.catalog.read().by_kind(group, kind).cloned();
        let Some(d) = found else {
            return Err(format!(
                "failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"
            ));
        };
        let namespace = match (d.namespaced, wanted.namespace.as_str()) {
            (false, _) => "",
            (true, "") if r.namespace.is_empty() => {
                return Err(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                        .into(),
                );
            }
            (true, "") => r.namespace,
            (true, n) => n,
        };
        let mut out = Vec::new();
        if let Some(s) = &wanted.selector {
            let selector = LabelSelector::from_value(s).map_err(|e| e.to_string())?;
            for o in cx.reader.list(group, &d.plural, namespace).await.map_err(|e| e.message)? {
                if selector.matches(&o.meta().labels) {
                    out.push(o.value().map_err(|e| e.to_string())?);
                }
            }
        } else if let Some(o) =
            cx.reader.get(group, &d.plural, namespace, &wanted.name).await.map_err(|e| e.message)?
        {
            out.push(o.value().map_err(|e| e.to_string())?);
        }
        if out.is_empty() && !wanted.allow_missing {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
        }
        let version = api_version.rsplit('/').next().unwrap_or_default();
        if d.custom {
            return convert::values(cx.reader.as_ref(), &d, version, out).await.map_err(|e| e.message);
        }
        for v in &mut out {
            d.from_hub(version, v).map_err(|e| e.to_string())?;
        }
        Ok(out)
    }
}

/// What a validation came to.
enum Verdict {
    Fine,
    /// Refused, in the policy's words.
    No(String, Reason),
    /// It could not be judged.
    Error(String),
}

fn run(
    p: &Result<cel::Program, String>,
    variables: &[(&str, cel::Value)],
    budget: &mut u64,
) -> Result<cel::Value, String> {
    p.as_ref().map_err(Clone::clone)?.eval(variables, budget).map_err(|e| e.to_string())
}

fn judge(v: &Validation, variables: &[(&str, cel::Value)], budget: &mut u64) -> Verdict {
    match run(&v.program, variables, budget) {
        Ok(cel::Value::Bool(true)) => Verdict::Fine,
        Ok(_) => {
            let made = v.message_expression.as_ref().and_then(|p| run(p, variables, budget).ok());
            let made = made.as_ref().and_then(cel::Value::as_str).map(str::trim).filter(|m| !m.is_empty());
            let message = match made {
                Some(m) => m.to_owned(),
                None if v.message.is_empty() => format!("failed expression: {}", v.expression),
                None => v.message.clone(),
            };
            let reason = match v.reason.as_str() {
                "" => Reason::Invalid,
                r => Reason::parse(r),
            };
            Verdict::No(message, reason)
        }
        Err(e) => Verdict::Error(format!("expression '{}' resulted in error: {e}", v.expression)),
    }
}

/// One refusal, with the names that stand in it.
fn refusal(r: &Request<'_>, p: &Policy, b: &Binding, message: &str, reason: Reason) -> Status {
    let said =
        format!("ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {message}", p.name, b.name);
    let mut s = r.forbidden(&said);
    s.reason = reason;
    s.code = reason.code();
    s.causes.push(Cause { reason: String::new(), message: message.to_owned(), field: String::new() });
    s
}

#[async_trait]
impl Plugin for ValidatingPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    /// Policies do not judge what could switch them off.
    fn handles(&self, r: &Request<'_>) -> bool {
        r.group != GROUP
    }

    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        let bindings = self.bindings.all(cx.reader.as_ref()).await?;
        if bindings.is_empty() {
            return Ok(());
        }
        let policies = self.policies.all(cx.reader.as_ref()).await?;
        let subject = Subject::of(&self.catalog, r);
        let mut labels = None;
        let mut denied = None;
        for p in policies {
            let Some(version) = p.matcher.wants(cx, r, &subject, &mut labels, false).await? else { continue };
            for b in bindings.iter().filter(|b| b.policy == p.name) {
                if b.matcher.wants(cx, r, &subject, &mut labels, true).await?.is_none() {
                    continue;
                }
                for (message, reason) in self.evaluate(cx, r, &subject, &version, &p, b).await? {
                    for a in &b.actions {
                        match a.as_str() {
                            "Deny" => denied = denied.or_else(|| Some(refusal(r, &p, b, &message, reason))),
                            "Warn" => r.warn(format!(
                                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                                p.name, b.name
                            )),
                            // There is no audit log yet.
                            _ => {}
                        }
                    }
                }
            }
        }
        denied.map_or(Ok(()), Err)
    }
}

impl ValidatingPolicies {
    /// What one binding of a policy has against the request.
    async fn evaluate(
        &self,
        cx: &Context,
        r: &Request<'_>,
        subject: &Subject,
        version: &str,
        p: &Arc<Policy>,
        b: &Binding,
    ) -> Result<Vec<(String, Reason)>, Status> {
        let value = api::validation::cel_value;
        let seen = Seen { group: r.group, version, resource: r.resource, subresource: r.subresource };
        let object = subject.show(cx, version, &r.object).await?;
        let old = match r.old {
            Some(o) => subject.show(cx, version, o).await?,
            None => Value::Null,
        };
        let q = question(r, &seen, "", &Value::Null, &Value::Null);
        let namespace = match r.namespace {
            "" => Value::Null,
            n => match cx.reader.get("", "namespaces", "", n).await? {
                Some(o) => o.value().map_err(Status::internal)?,
                None => Value::Null,
            },
        };
        let fixed = [
            ("object", value(&object)),
            ("oldObject", value(&old)),
            ("request", value(&q)),
            ("namespaceObject", value(&namespace)),
            ("authorizer", cel::Value::Null),
        ];
        let failed = |why: String| if p.fails_closed { vec![(why, Reason::Invalid)] } else { Vec::new() };
        let with = |params: cel::Value, variables: cel::Map| {
            let mut all = fixed.to_vec();
            all.push(("params", params));
            all.push(("variables", cel::Value::Map(variables.into())));
            all
        };
        match hold(&p.conditions, &with(cel::Value::Null, cel::Map::new())) {
            Ok(true) => {}
            Ok(false) => return Ok(Vec::new()),
            Err(e) => return Ok(failed(e)),
        }
        let params = match self.params(cx, r, p, b).await {
            Ok(all) => all,
            Err(e) => return Ok(failed(format!("failed to configure binding: {e}"))),
        };
        let mut out = Vec::new();
        for param in params {
            let mut budget = 10 * BUDGET;
            let param = value(&param);
            let mut named = cel::Map::new();
            for (name, program) in &p.variables {
                // One that fails is missing to those that ask for it, and to nobody else.
                if let Ok(v) = run(program, &with(param.clone(), named.clone()), &mut budget) {
                    named.insert(Key::String(name.as_str().into()), v);
                }
            }
            let variables = with(param, named);
            for v in &p.validations {
                match judge(v, &variables, &mut budget) {
                    Verdict::Fine => {}
                    Verdict::No(message, reason) => out.push((message, reason)),
                    Verdict::Error(e) => out.extend(failed(e)),
                }
            }
        }
        Ok(out)
    }
}
