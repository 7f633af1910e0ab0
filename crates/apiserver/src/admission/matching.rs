//! Which requests a webhook or a policy wants to see: rules over resources, selectors over labels. Pure but for
//! [`namespace_labels`].

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Status;
use api::catalog::Descriptor;
use api::decode::{Expect, FieldValidation, decode_value};
use api::selector::LabelSelector;
use cel::{Env, Program, Type};
use serde_json::Value;

use super::{Context, Request, authority};
use crate::adapt;
use crate::handlers::convert;
use crate::server::SharedCatalog;

pub type Labels = BTreeMap<String, String>;

pub fn text(v: &Value, key: &str) -> String {
    v[key].as_str().unwrap_or_default().to_owned()
}

pub fn texts(v: &Value) -> Vec<String> {
    v.as_array().into_iter().flatten().filter_map(|s| Some(s.as_str()?.to_owned())).collect()
}

pub fn list(v: &Value) -> &[Value] {
    v.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Operations on resources, as both webhooks and policies word them.
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    /// Of policies only; empty means every name.
    names: Vec<String>,
    scope: String,
}

/// A resource in one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|s| s == "*" || s == wanted)
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*` (no subresources), `*/*`.
fn resource(pattern: &str, s: &Seen<'_>) -> bool {
    let (r, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
    (r == "*" || r == s.resource) && (sub == "*" || sub == s.subresource)
}

impl Rule {
    pub fn parse(v: &Value) -> Self {
        Self {
            operations: texts(&v["operations"]),
            groups: texts(&v["apiGroups"]),
            versions: texts(&v["apiVersions"]),
            resources: texts(&v["resources"]),
            names: texts(&v["resourceNames"]),
            scope: text(v, "scope"),
        }
    }

    pub fn fits(&self, operation: &str, namespaced: bool, name: &str, s: &Seen<'_>) -> bool {
        let scope = match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        };
        scope
            && (self.names.is_empty() || self.names.iter().any(|n| n == name))
            && any(&self.operations, operation)
            && any(&self.groups, s.group)
            && any(&self.versions, s.version)
            && self.resources.iter().any(|p| resource(p, s))
    }
}

/// Rules and selectors together.
pub struct Matcher {
    rules: Vec<Rule>,
    exclude: Vec<Rule>,
    /// Equivalent versions of a resource count as the ones in the rules.
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl Matcher {
    /// `rules` is the name of the field that holds them.
    pub fn parse(v: &Value, rules: &str) -> Self {
        // An unreadable selector was refused at the door; what is left matches nothing.
        let selector = |k: &str| match &v[k] {
            Value::Null => LabelSelector::everything(),
            s => LabelSelector::from_value(s).unwrap_or_else(|_| LabelSelector::nothing()),
        };
        Self {
            rules: list(&v[rules]).iter().map(Rule::parse).collect(),
            exclude: list(&v["excludeResourceRules"]).iter().map(Rule::parse).collect(),
            equivalent: v["matchPolicy"] != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The version in which the request is wanted, by the rules alone. `anything`: no rules mean every request (bindings).
    fn version(&self, r: &Request<'_>, kind: Option<&Descriptor>, anything: bool) -> Option<String> {
        let namespaced = !r.namespace.is_empty() && r.resource != "namespaces";
        let name = r.object_name();
        let fits = |rules: &[Rule], version: &str| {
            let seen = Seen { group: r.group, version, resource: r.resource, subresource: r.subresource };
            rules.iter().any(|x| x.fits(r.operation.as_str(), namespaced, name, &seen))
        };
        let wanted = |version: &str| (anything && self.rules.is_empty()) || fits(&self.rules, version);
        let others = || kind.into_iter().flat_map(|k| k.served()).map(|v| v.name.as_str());
        if fits(&self.exclude, r.version) || (self.equivalent && others().any(|v| fits(&self.exclude, v))) {
            return None;
        }
        if wanted(r.version) {
            return Some(r.version.to_owned());
        }
        if self.equivalent { others().find(|v| wanted(v)).map(str::to_owned) } else { None }
    }

    /// The version in which the request is wanted; `None`: it is not. `labels` keeps those of the namespace between
    /// matchers.
    pub async fn wants(
        &self,
        cx: &Context,
        r: &Request<'_>,
        subject: &Subject,
        labels: &mut Option<Option<Labels>>,
        anything: bool,
    ) -> Result<Option<String>, Status> {
        let Some(version) = self.version(r, subject.kind.as_deref(), anything) else { return Ok(None) };
        if !self.namespaces.is_everything() {
            if labels.is_none() {
                *labels = Some(namespace_labels(cx, r).await?);
            }
            if let Some(Some(l)) = labels
                && !self.namespaces.matches(l)
            {
                return Ok(None);
            }
        }
        if !self.objects.is_everything() {
            let hits = |v: &Value| v.is_object() && self.objects.matches(&labels_of(v));
            if !hits(&r.object) && !r.old.is_some_and(hits) {
                return Ok(None);
            }
        }
        Ok(Some(version))
    }
}

fn labels_of(v: &Value) -> Labels {
    let pairs = v["metadata"]["labels"].as_object().into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

/// Labels of the request's namespace; `None` when it has none to speak of.
async fn namespace_labels(cx: &Context, r: &Request<'_>) -> Result<Option<Labels>, Status> {
    if r.is("", "namespaces") {
        let v = if r.object.is_object() { Some(&r.object) } else { r.old };
        return Ok(v.map(labels_of));
    }
    if r.namespace.is_empty() {
        return Ok(None);
    }
    match cx.reader.get("", "namespaces", "", r.namespace).await? {
        Some(n) => Ok(Some(labels_of(&n.value().map_err(Status::internal)?))),
        None => Err(Status::not_found("", "namespaces", r.namespace)),
    }
}

/// The request's kind, where its body is an object of it.
pub struct Subject {
    kind: Option<Arc<Descriptor>>,
    /// The version that the request's objects are in, where they are custom resources.
    own: String,
}

impl Subject {
    pub fn of(catalog: &SharedCatalog, r: &Request<'_>) -> Self {
        let kind = catalog.read().by_plural(r.group, r.resource).cloned();
        // The body of such a subresource has a kind of its own.
        let own = |k: &Descriptor| {
            k.version(r.version).and_then(|v| v.subresource(r.subresource)).is_some_and(|s| s.kind != k.kind)
        };
        Self { kind: kind.filter(|k| k.stored && !own(k)), own: r.version.to_owned() }
    }

    /// One of the request's objects in another version.
    pub async fn show(&self, cx: &Context, version: &str, v: &Value) -> Result<Value, Status> {
        let mut v = v.clone();
        match &self.kind {
            Some(k) if v.is_object() && k.custom => convert_custom(cx, k, version, v).await,
            Some(k) if v.is_object() => {
                k.from_hub(version, &mut v).map_err(Status::internal)?;
                Ok(v)
            }
            _ => Ok(v),
        }
    }

    /// What somebody made of it, as the request has its objects: pruned and defaulted like any body.
    pub async fn take(&self, cx: &Context, version: &str, v: Value) -> Result<Value, Status> {
        let Some(k) = &self.kind else { return Ok(v) };
        let definition = k.version(version).and_then(|v| v.schema.definition());
        let Some(definition) = definition else { return Ok(v) };
        let expect = Expect { group: &k.group, version, kind: &k.kind, definition };
        let mut v = decode_value(v, expect, FieldValidation::Ignore)?.value;
        adapt::default(k, version, &mut v);
        if k.custom {
            return convert_custom(cx, k, &self.own, v).await;
        }
        k.to_hub(version, &mut v).map_err(Status::internal)?;
        Ok(v)
    }
}

async fn convert_custom(cx: &Context, k: &Descriptor, version: &str, v: Value) -> Result<Value, Status> {
    let all = convert::values(cx.reader.as_ref(), k, version, vec![v]).await;
    let all = all.map_err(|e| Status::internal(e.message))?;
    Ok(all.into_iter().next().unwrap_or_default())
}

/// One of `matchConditions`.
pub struct Condition {
    name: String,
    /// What does not compile is an error when it is asked.
    pub program: Result<Program, String>,
}

/// What one expression may cost.
pub const BUDGET: u64 = 1_000_000;

/// The environment of expressions over a request: these names, and the authorizer.
pub fn environment(names: &[&str]) -> Env {
    let mut variables: Vec<(String, Type)> = names.iter().map(|n| ((*n).to_owned(), Type::Dyn)).collect();
    variables.extend(authority::variables());
    Env::with(variables, authority::functions()).with_literals_checked()
}

pub fn compile(env: &Env, v: &Value, wanted: &Type) -> Result<Program, String> {
    let source = v.as_str().unwrap_or_default();
    let p = env.compile(source, None).map_err(|e| format!("compilation failed: {}", e.show(source)))?;
    if p.result.assignable(wanted) {
        Ok(p)
    } else {
        Err(format!("must evaluate to {wanted} but got {}", p.result))
    }
}

pub fn conditions(v: &Value, env: &Env) -> Vec<Condition> {
    list(v)
        .iter()
        .map(|c| Condition { name: text(c, "name"), program: compile(env, &c["expression"], &Type::Bool) })
        .collect()
}

/// Whether all conditions hold; one that says no wins over one that fails.
pub fn hold(all: &[Condition], variables: &[(&str, cel::Value)]) -> Result<bool, String> {
    let mut error = None;
    for c in all {
        let result = match &c.program {
            Ok(p) => p.eval(variables, &mut BUDGET.clone()).map_err(|e| e.to_string()),
            Err(e) => Err(e.clone()),
        };
        match result {
            Ok(cel::Value::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(e) => error = error.or(Some(format!("{}: {e}", c.name))),
        }
    }
    error.map_or(Ok(true), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules() {
        let make = |resources: &[&str], scope: &str| {
            Rule::parse(&json!({"operations": ["CREATE"], "apiGroups": ["", "apps"], "apiVersions": ["v1"],
                "resources": resources, "scope": scope}))
        };
        let pod = Seen { group: "", version: "v1", resource: "pods", subresource: "" };
        let log = Seen { subresource: "log", ..pod };
        let cases = [
            (make(&["pods"], "*"), "CREATE", true, pod, true),
            (make(&["pods"], "*"), "UPDATE", true, pod, false),
            (make(&["pods"], "Cluster"), "CREATE", true, pod, false),
            (make(&["pods"], "*"), "CREATE", true, log, false),
            (make(&["pods/*"], "*"), "CREATE", true, log, true),
            (make(&["*/log"], "Namespaced"), "CREATE", true, log, true),
            (make(&["*"], "*"), "CREATE", true, pod, true),
            (make(&["*"], "*"), "CREATE", true, log, false),
            (make(&["*/*"], "*"), "CREATE", true, log, true),
            (make(&["pods"], "*"), "CREATE", true, Seen { version: "v2", ..pod }, false),
            (make(&["pods"], "*"), "CREATE", true, Seen { group: "batch", ..pod }, false),
        ];
        for (i, (r, op, namespaced, seen, wanted)) in cases.into_iter().enumerate() {
            assert_eq!(r.fits(op, namespaced, "a", &seen), wanted, "case {i}");
        }
        let named = Rule::parse(&json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
            "resources": ["pods"], "resourceNames": ["a"]}));
        assert!(named.fits("CREATE", true, "a", &pod) && !named.fits("CREATE", true, "b", &pod));
    }
}
