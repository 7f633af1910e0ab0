//! What expressions of a policy see: the request, its objects, the parameters, and the policy's own variables, each of
//! which is worked out when an expression first asks for it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use api::Status;
use api::selector::LabelSelector;
use cel::{EvalError, Fields, Program};
use parking_lot::Mutex;
use serde_json::Value;

use super::config::{Binding, Policy};
use crate::admission::authority::Authority;
use crate::admission::matching::{Seen, Subject};
use crate::admission::webhooks::question;
use crate::admission::{Context, Request};
use crate::handlers::convert;
use crate::server::SharedCatalog;

/// A policy's variables in their order.
#[derive(Debug)]
pub struct Variables(pub Vec<(String, Result<Program, String>)>);

type Named = Vec<(&'static str, cel::Value)>;

/// `variables` of one evaluation.
#[derive(Debug)]
struct Lazy {
    variables: Arc<Variables>,
    others: Named,
    done: Mutex<HashMap<String, Result<cel::Value, EvalError>>>,
    me: Weak<Lazy>,
}

impl Fields for Lazy {
    fn field(&self, name: &str, budget: &mut u64) -> Option<Result<cel::Value, EvalError>> {
        let (_, program) = self.variables.0.iter().find(|(n, _)| n == name)?;
        if let Some(done) = self.done.lock().get(name) {
            return Some(done.clone());
        }
        let result = match (program, self.me.upgrade()) {
            (Err(e), _) => Err(EvalError::Failed(e.clone())),
            (Ok(p), me) => {
                let mut all = self.others.clone();
                all.extend(me.map(|me| ("variables", cel::Value::Lazy(me))));
                p.eval(&all, budget)
            }
        };
        let result = result.map_err(|e| match e {
            EvalError::Failed(why) => {
                EvalError::Failed(format!("composited variable {name:?} fails to evaluate: {why}"))
            }
            other => other,
        });
        self.done.lock().insert(name.to_owned(), result.clone());
        Some(result)
    }
}

/// What all expressions over one request see.
pub struct Inputs {
    fixed: Named,
    pub authority: Authority,
}

impl Inputs {
    /// `version`: the one in which the policy wants the request.
    pub async fn of(cx: &Context, r: &Request<'_>, subject: &Subject, version: &str) -> Result<Self, Status> {
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
            _ if r.is("", "namespaces") => Value::Null,
            n => match cx.reader.get("", "namespaces", "", n).await? {
                Some(o) => o.value().map_err(Status::internal)?,
                None => return Err(Status::not_found("", "namespaces", n)),
            },
        };
        let authority = Authority::new(r.user);
        let fixed = vec![
            ("object", value(&object)),
            ("oldObject", value(&old)),
            ("request", value(&q)),
            ("namespaceObject", value(&namespace)),
            ("authorizer", authority.authorizer()),
            ("authorizer.requestResource", authority.request_resource(r)),
        ];
        Ok(Self { fixed, authority })
    }

    /// Everything by name, for one evaluation of a policy's expressions with these parameters.
    pub fn with(&self, p: &Policy, params: &cel::Value) -> Named {
        let mut all = self.fixed.clone();
        all.push(("params", params.clone()));
        let others = all.clone();
        let lazy = Arc::new_cyclic(|me| Lazy {
            variables: p.variables.clone(),
            others,
            done: Mutex::default(),
            me: me.clone(),
        });
        all.push(("variables", cel::Value::Lazy(lazy)));
        all
    }
}

pub fn run(
    p: &Result<Program, String>,
    variables: &[(&str, cel::Value)],
    budget: &mut u64,
) -> Result<cel::Value, String> {
    p.as_ref().map_err(Clone::clone)?.eval(variables, budget).map_err(|e| e.to_string())
}

/// The parameters that a binding names: one `null` where the policy takes none.
pub async fn params(
    catalog: &SharedCatalog,
    cx: &Context,
    r: &Request<'_>,
    p: &Policy,
    b: &Binding,
) -> Result<Vec<Value>, String> {
    let Some((api_version, kind)) = &p.param_kind else { return Ok(vec![Value::Null]) };
    let Some(wanted) = &b.params else { return Ok(vec![Value::Null]) };
    let group = api_version.split_once('/').map_or("", |(g, _)| g);
    let found = catalog.read().by_kind(group, kind).cloned();
    let Some(d) = found else {
        return Err(format!("failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"));
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
