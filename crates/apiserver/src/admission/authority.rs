//! Functions of admission expressions beside the common ones. `authorizer`: whether somebody may do something, asked of the cluster's own authorizer. An expression
//! can't wait: a question that is new is noted, answered between two evaluations, and the expression evaluated again.
//! https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-authorizer-library

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use cel::functions::{Function, Table, opaque, text};
use cel::{Opaque, Type, Value};
use parking_lot::Mutex;

use super::{Context, Request};
use crate::User;
use crate::authz::{Attributes, Decision};

const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
const PATH: &str = "kubernetes.authorization.PathCheck";
const GROUP: &str = "kubernetes.authorization.GroupCheck";
const RESOURCE: &str = "kubernetes.authorization.ResourceCheck";
const DECISION: &str = "kubernetes.authorization.Decision";
const TYPES: [&str; 5] = [AUTHORIZER, PATH, GROUP, RESOURCE, DECISION];

/// Questions that one evaluation may come up with.
const ROUNDS: usize = 64;

/// Who is asked about, and what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Question {
    /// Namespace and name of a service account; `None`: whoever sent the request.
    account: Option<(String, String)>,
    /// Of a check without a resource.
    path: Option<String>,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    field_selector: String,
    label_selector: String,
    verb: String,
}

#[derive(Debug, Default)]
struct Known {
    answers: HashMap<Question, (bool, String)>,
    missing: Vec<Question>,
}

/// The answers of one evaluation, and the questions that are open.
#[derive(Debug)]
pub struct Authority {
    user: User,
    known: Arc<Mutex<Known>>,
}

impl Authority {
    pub fn new(user: &User) -> Self {
        Self { user: user.clone(), known: Arc::default() }
    }

    fn check(&self, question: Question, name: &'static str) -> Value {
        Value::opaque(Check { known: self.known.clone(), question, name })
    }

    /// The variable `authorizer`.
    pub fn authorizer(&self) -> Value {
        self.check(Question::default(), AUTHORIZER)
    }

    /// The variable `authorizer.requestResource`: what the request is about.
    pub fn request_resource(&self, r: &Request<'_>) -> Value {
        let question = Question {
            group: r.group.into(),
            resource: r.resource.into(),
            subresource: r.subresource.into(),
            namespace: r.namespace.into(),
            name: r.object_name().into(),
            ..Question::default()
        };
        self.check(question, RESOURCE)
    }

    async fn ask(&self, cx: &Context, q: &Question) -> (bool, String) {
        let account;
        let user = match &q.account {
            None => &self.user,
            Some((namespace, name)) => {
                let groups = [
                    "system:serviceaccounts",
                    &format!("system:serviceaccounts:{namespace}"),
                    crate::user::AUTHENTICATED,
                ];
                account =
                    User::new(format!("{}{namespace}:{name}", crate::user::SERVICE_ACCOUNT_PREFIX), &groups);
                &account
            }
        };
        let a = Attributes {
            verb: &q.verb,
            namespace: &q.namespace,
            group: &q.group,
            resource: &q.resource,
            subresource: &q.subresource,
            name: &q.name,
            is_resource: q.path.is_none(),
            path: q.path.as_deref().unwrap_or_default(),
            field_selector: &q.field_selector,
            ..Attributes::of(user)
        };
        match cx.authorizer.authorize(&a).await {
            Decision::Allow(why) => (true, why),
            Decision::NoOpinion(why) => (false, why),
        }
    }

    /// The result of `run` once all its questions are answered.
    pub async fn settled<T>(&self, cx: &Context, run: impl Fn() -> T + Send + Sync) -> T {
        for _ in 0..ROUNDS {
            let missing = {
                let result = run();
                let missing = std::mem::take(&mut self.known.lock().missing);
                if missing.is_empty() {
                    return result;
                }
                missing
            };
            for q in missing {
                let answer = self.ask(cx, &q).await;
                self.known.lock().answers.insert(q, answer);
            }
        }
        run()
    }
}

/// A question on its way to be asked.
#[derive(Debug, Clone)]
struct Check {
    known: Arc<Mutex<Known>>,
    question: Question,
    name: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
struct Answer(bool, String);

impl Opaque for Check {
    fn type_name(&self) -> &'static str {
        self.name
    }
    fn same(&self, other: &dyn Opaque) -> bool {
        other
            .as_any()
            .downcast_ref::<Self>()
            .is_some_and(|o| self.question == o.question && self.name == o.name)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Opaque for Answer {
    fn type_name(&self) -> &'static str {
        DECISION
    }
    fn same(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref::<Self>() == Some(self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

type R = Result<Value, String>;

/// The check with one more part, as another kind of check.
fn with(a: &[Value], name: &'static str, set: impl FnOnce(&mut Question, &str)) -> R {
    let mut check = opaque::<Check>(a, 0)?.clone();
    set(&mut check.question, text(a, 1)?);
    check.name = name;
    Ok(Value::opaque(check))
}

fn path(a: &[Value]) -> R {
    if text(a, 1)?.is_empty() {
        return Err("path must not be empty".into());
    }
    with(a, PATH, |q, p| q.path = Some(p.to_owned()))
}
fn group(a: &[Value]) -> R {
    with(a, GROUP, |q, g| q.group = g.to_owned())
}
fn service_account(a: &[Value]) -> R {
    let name = text(a, 2)?.to_owned();
    with(a, AUTHORIZER, |q, ns| q.account = Some((ns.to_owned(), name)))
}
fn resource(a: &[Value]) -> R {
    with(a, RESOURCE, |q, r| q.resource = r.to_owned())
}
fn subresource(a: &[Value]) -> R {
    with(a, RESOURCE, |q, s| q.subresource = s.to_owned())
}
fn namespace(a: &[Value]) -> R {
    with(a, RESOURCE, |q, n| q.namespace = n.to_owned())
}
fn name(a: &[Value]) -> R {
    with(a, RESOURCE, |q, n| q.name = n.to_owned())
}
fn field_selector(a: &[Value]) -> R {
    with(a, RESOURCE, |q, s| q.field_selector = s.to_owned())
}
fn label_selector(a: &[Value]) -> R {
    with(a, RESOURCE, |q, s| q.label_selector = s.to_owned())
}

fn check(a: &[Value]) -> R {
    let check = opaque::<Check>(a, 0)?;
    let question = Question { verb: text(a, 1)?.to_owned(), ..check.question.clone() };
    let mut known = check.known.lock();
    match known.answers.get(&question) {
        Some((allowed, why)) => Ok(Value::opaque(Answer(*allowed, why.clone()))),
        None => {
            known.missing.push(question);
            Err("the authorizer has not answered yet".into())
        }
    }
}

fn allowed(a: &[Value]) -> R {
    Ok(Value::Bool(opaque::<Answer>(a, 0)?.0))
}
fn reason(a: &[Value]) -> R {
    Ok(Value::from(opaque::<Answer>(a, 0)?.1.as_str()))
}

const ALL: &[(&str, Function)] = &[
    ("kubernetes.authorization.Authorizer:path(string)->kubernetes.authorization.PathCheck", path),
    ("kubernetes.authorization.Authorizer:group(string)->kubernetes.authorization.GroupCheck", group),
    (
        "kubernetes.authorization.Authorizer:serviceAccount(string,string)->kubernetes.authorization.Authorizer",
        service_account,
    ),
    ("kubernetes.authorization.PathCheck:check(string)->kubernetes.authorization.Decision", check),
    (
        "kubernetes.authorization.GroupCheck:resource(string)->kubernetes.authorization.ResourceCheck",
        resource,
    ),
    (
        "kubernetes.authorization.ResourceCheck:subresource(string)->kubernetes.authorization.ResourceCheck",
        subresource,
    ),
    (
        "kubernetes.authorization.ResourceCheck:namespace(string)->kubernetes.authorization.ResourceCheck",
        namespace,
    ),
    ("kubernetes.authorization.ResourceCheck:name(string)->kubernetes.authorization.ResourceCheck", name),
    (
        "kubernetes.authorization.ResourceCheck:fieldSelector(string)->kubernetes.authorization.ResourceCheck",
        field_selector,
    ),
    (
        "kubernetes.authorization.ResourceCheck:labelSelector(string)->kubernetes.authorization.ResourceCheck",
        label_selector,
    ),
    ("kubernetes.authorization.ResourceCheck:check(string)->kubernetes.authorization.Decision", check),
    ("kubernetes.authorization.Decision:allowed()->bool", allowed),
    ("kubernetes.authorization.Decision:reason()->string", reason),
    ("jsonpatch.escapeKey(string)->string", |a| {
        Ok(Value::from(text(a, 0)?.replace('~', "~0").replace('/', "~1")))
    }),
    // The authorizer here never fails: who can't be judged is not allowed.
    ("kubernetes.authorization.Decision:errored()->bool", |_| Ok(Value::Bool(false))),
    ("kubernetes.authorization.Decision:error()->string", |_| Ok(Value::from(""))),
];

/// Kubernetes' functions and these.
pub fn functions() -> Arc<Table> {
    static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
    TABLE
        .get_or_init(|| {
            let mut t = (*api::validation::cel_functions()).clone();
            for (signature, run) in ALL {
                t.add(signature, &TYPES, *run);
            }
            Arc::new(t)
        })
        .clone()
}

/// The variables by which expressions ask.
pub fn variables() -> [(String, Type); 2] {
    [
        ("authorizer".into(), Type::Opaque(AUTHORIZER)),
        ("authorizer.requestResource".into(), Type::Opaque(RESOURCE)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_read() {
        let t = functions();
        for f in [
            "path",
            "group",
            "serviceAccount",
            "resource",
            "subresource",
            "namespace",
            "name",
            "check",
            "allowed",
            "reason",
            "errored",
            "error",
            "jsonpatch.escapeKey",
        ] {
            assert!(t.knows(f), "{f}");
        }
    }
}
