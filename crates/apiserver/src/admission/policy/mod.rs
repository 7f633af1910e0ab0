//! Admission policies: CEL rules of the cluster's administrators over every write. The validating ones stand here, the
//! mutating ones in `mutating`.
//! https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/

mod config;
mod evaluate;
mod faults;
mod mutating;
pub mod typecheck;

use api::{Cause, Reason, Status};
use async_trait::async_trait;

use super::matching::{BUDGET, Subject, hold};
use super::parsed::{GROUP, Parsed};
use super::{Context, Plugin, Request};
use crate::server::SharedCatalog;
use config::{Binding, Policy, Validation, binding, policy};
use evaluate::{Inputs, params, run};
pub use faults::expression_faults;
pub use mutating::MutatingPolicies;

/// What all expressions of a policy over one request may cost.
const POLICY_BUDGET: u64 = 10 * BUDGET;

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
}

/// What a policy has against a request.
struct Objection {
    message: String,
    reason: Reason,
}

/// What a validation came to.
enum Verdict {
    Fine,
    /// Refused, in the policy's words.
    No(Objection),
    /// It could not be judged.
    Error(String),
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
            Verdict::No(Objection { message, reason })
        }
        Err(e) => Verdict::Error(format!("expression '{}' resulted in error: {e}", v.expression)),
    }
}

/// All verdicts of a policy, and its audit annotations.
fn judge_all(p: &Policy, variables: &[(&str, cel::Value)]) -> (Vec<Verdict>, Vec<(String, String)>) {
    match hold(&p.conditions, variables) {
        Ok(true) => {}
        Ok(false) => return (Vec::new(), Vec::new()),
        Err(e) => return (vec![Verdict::Error(e)], Vec::new()),
    }
    let mut budget = POLICY_BUDGET;
    let mut verdicts: Vec<Verdict> = p.validations.iter().map(|v| judge(v, variables, &mut budget)).collect();
    let mut notes = Vec::new();
    for a in &p.audits {
        match run(&a.program, variables, &mut budget) {
            Ok(cel::Value::String(s)) => notes.extend((!s.trim().is_empty()).then(|| (a.key.clone(), s.trim().to_owned()))),
            Ok(cel::Value::Null) => {}
            Ok(other) => verdicts.push(Verdict::Error(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                a.expression,
                other.type_name()
            ))),
            Err(e) => {
                verdicts.push(Verdict::Error(format!("valueExpression '{}' resulted in error: {e}", a.expression)));
            }
        }
    }
    (verdicts, notes)
}

/// One refusal, with the names that stand in it.
fn refusal(r: &Request<'_>, p: &Policy, b: &Binding, o: &Objection) -> Status {
    let (message, reason) = (&o.message, o.reason);
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
                for o in self.evaluate(cx, r, &subject, &version, &p, b).await? {
                    for a in &b.actions {
                        match a.as_str() {
                            "Deny" => denied = denied.or_else(|| Some(refusal(r, &p, b, &o))),
                            "Warn" => r.warn(format!(
                                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                                p.name, b.name, o.message
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
        p: &Policy,
        b: &Binding,
    ) -> Result<Vec<Objection>, Status> {
        let failed =
            |message: String| p.fails_closed.then_some(Objection { message, reason: Reason::Invalid });
        let all = match params(&self.catalog, cx, r, p, b).await {
            Ok(all) => all,
            Err(e) => return Ok(failed(format!("failed to configure binding: {e}")).into_iter().collect()),
        };
        let inputs = Inputs::of(cx, r, subject, version).await?;
        let mut out = Vec::new();
        for param in all {
            let param = api::validation::cel_value(&param);
            let judged = inputs.authority.settled(cx, || judge_all(p, &inputs.with(p, &param))).await;
            let (verdicts, notes) = judged;
            for (key, value) in notes {
                tracing::debug!(policy = p.name, binding = b.name, key, value, "audit annotation");
            }
            for v in verdicts {
                match v {
                    Verdict::Fine => {}
                    Verdict::No(o) => out.push(o),
                    Verdict::Error(e) => out.extend(failed(e)),
                }
            }
        }
        Ok(out)
    }
}
