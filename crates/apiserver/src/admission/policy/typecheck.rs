//! Whether the expressions of a ValidatingAdmissionPolicy fit the kinds that it names: warnings in its status, which change
//! nothing about what the policy does. Spawns one task that follows the policies.
//! https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/#type-checking

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::catalog::{Catalog, api_version};
use api::schema::{Definition, Type as Field};
use api::{Object, Status};
use cel::types::ObjectType;
use cel::{Env, Type};
use serde_json::{Value, json};

use super::config::{base, variables};
use crate::admission::matching::{list, text, texts};
use crate::admission::parsed::GROUP;
use crate::reader::Change;
use crate::server::ApiServer;

const PLURAL: &str = "validatingadmissionpolicies";
/// Kinds that a policy is checked against.
const KINDS: usize = 10;
/// Structs within structs; what is deeper may be anything.
const DEPTH: usize = 12;

/// Follows the policies and writes their status.
pub fn start(server: &ApiServer) {
    let server = server.clone();
    let stop = server.stop.clone();
    tokio::spawn(async move {
        tokio::select! { () = stop.cancelled() => {} () = follow(&server) => {} }
    });
}

async fn follow(server: &ApiServer) {
    let reader = server.reader();
    loop {
        let from = reader.revision();
        if let Ok(all) = reader.list(GROUP, PLURAL, "").await {
            for o in &all {
                look(server, o).await;
            }
            if let Ok(mut changes) = reader.changes(GROUP, PLURAL, from).await {
                while let Ok(all) = changes.next().await {
                    for c in all {
                        if let Change::Put(o) = c {
                            look(server, &o).await;
                        }
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn look(server: &ApiServer, o: &Object) {
    let Ok(v) = o.value() else { return };
    if o.meta().generation <= v["status"]["observedGeneration"].as_i64().unwrap_or(0) {
        return;
    }
    let found = warnings(&server.catalog(), &v["spec"]);
    let checked = if found.is_empty() { json!({}) } else { json!({"expressionWarnings": found}) };
    let generation = o.meta().generation;
    let set = &mut |mut v: Value| -> Result<Option<Value>, Status> {
        if v["metadata"]["generation"] != generation {
            return Ok(None);
        }
        if !v["status"].is_object() {
            v["status"] = json!({});
        }
        v["status"]["observedGeneration"] = json!(generation);
        v["status"]["typeChecking"] = checked.clone();
        Ok(Some(v))
    };
    if let Err(e) = server.reader().update(GROUP, PLURAL, "", o.name(), set).await
        && !e.is_not_found()
    {
        tracing::warn!(policy = o.name(), error = %e, "failed to write the status of an admission policy");
    }
}

/// What is wrong with the expressions, by where they stand. Pure.
fn warnings(catalog: &Catalog, spec: &Value) -> Vec<Value> {
    let param = param_type(catalog, &spec["paramKind"]);
    let typed: Vec<(String, Env)> = kinds(catalog, spec)
        .into_iter()
        .map(|(shown, object)| {
            let env = base(&[("object", &object), ("oldObject", &object), ("params", &param)]);
            (shown, variables(&spec["variables"], env).1)
        })
        .collect();
    let mut out = Vec::new();
    for (i, v) in list(&spec["validations"]).iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(v, field);
            let told: Vec<String> = typed
                .iter()
                .filter(|_| !source.is_empty())
                .filter_map(|(shown, env)| {
                    let e = env.compile(&source, None).err()?;
                    Some(format!("{shown}: compilation failed: {}\n", e.show(&source)))
                })
                .collect();
            if !told.is_empty() {
                out.push(
                    json!({"fieldRef": format!("spec.validations[{i}].{field}"), "warning": told.join("\n")}),
                );
            }
        }
    }
    out
}

/// The kinds that the rules name without wildcards, as errors show them, with their types.
fn kinds(catalog: &Catalog, spec: &Value) -> Vec<(String, Type)> {
    let mut found: BTreeSet<(String, String, String)> = BTreeSet::new();
    for rule in list(&spec["matchConstraints"]["resourceRules"]) {
        let (groups, versions) = (texts(&rule["apiGroups"]), texts(&rule["apiVersions"]));
        if groups.iter().chain(&versions).any(|s| s.contains('*')) {
            continue;
        }
        for resource in texts(&rule["resources"]).iter().filter(|r| !r.contains(['*', '/'])) {
            for group in &groups {
                let Some(kind) = catalog.by_plural(group, resource) else { continue };
                for version in versions.iter().filter(|v| kind.version(v).is_some_and(|v| v.served)) {
                    found.insert((group.clone(), version.clone(), kind.kind.clone()));
                }
            }
        }
    }
    let typed = found.into_iter().take(KINDS).filter_map(|(group, version, kind)| {
        let d = catalog.by_kind(&group, &kind)?.version(&version)?.schema.definition()?;
        Some((format!("{}, Kind={kind}", api_version_shown(&group, &version)), object(d, &mut Vec::new())))
    });
    typed.collect()
}

/// `/v1` for the core group, as Go shows it.
fn api_version_shown(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/{version}") } else { api_version(group, version) }
}

fn param_type(catalog: &Catalog, kind: &Value) -> Type {
    let api_version = text(kind, "apiVersion");
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let d = catalog.by_kind(group, &text(kind, "kind"));
    let d = d.and_then(|k| k.version(version)).and_then(|v| v.schema.definition());
    d.map_or(Type::Dyn, |d| object(d, &mut Vec::new()))
}

/// `above`: the structs around this one; one that holds itself may be anything inside.
fn object<'d>(d: &'d Definition, above: &mut Vec<&'d str>) -> Type {
    let again = !d.id.is_empty() && above.contains(&d.id.as_ref());
    if above.len() > DEPTH || again || d.fields.is_empty() {
        return Type::Dyn;
    }
    let name = if d.id.is_empty() { "object".to_owned() } else { d.go_name().to_owned() };
    above.push(&d.id);
    let mut fields = BTreeMap::new();
    for f in &d.fields {
        if let Some(name) = api::validation::cel_name(&f.name) {
            fields.insert(name, field(&f.ty, above));
        }
    }
    above.pop();
    Type::Object(ObjectType { name, fields }.into())
}

fn field<'d>(t: &'d Field, above: &mut Vec<&'d str>) -> Type {
    match t {
        Field::Ref(_) | Field::Object(_) => t.definition().map_or(Type::Dyn, |d| object(d, above)),
        Field::String => Type::String,
        Field::Bytes => Type::Bytes,
        Field::Int32 | Field::Int64 => Type::Int,
        Field::Number => Type::Double,
        Field::Boolean => Type::Bool,
        Field::Time | Field::MicroTime => Type::Timestamp,
        Field::Array(e) => Type::list(field(e, above)),
        Field::Map(e) => Type::map(Type::String, field(e, above)),
        _ => Type::Dyn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(expressions: &[&str]) -> Value {
        let all: Vec<Value> = expressions.iter().map(|e| json!({"expression": e})).collect();
        json!({"matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "deployments/scale", "nothing"]}]},
            "variables": [{"name": "n", "expression": "object.spec.replicas"}], "validations": all})
    }

    #[test]
    fn expressions_against_the_kinds_they_are_for() {
        let c = api::catalog::builtin();
        let fine = spec(&[
            "object.spec.replicas > 1 && variables.n > 1",
            "object.spec.template.spec.containers.all(c, c.image.startsWith('x'))",
            "object.metadata.labels['a'] == 'b' && oldObject == null",
            "authorizer.requestResource.check('get').allowed() && request.userInfo.username != ''",
        ]);
        assert_eq!(warnings(c, &fine), [Value::Null; 0]);
        let wrong = warnings(c, &spec(&["object.replicas > 1", "variables.n > 'a'", "true"]));
        assert_eq!(
            wrong[0],
            json!({"fieldRef": "spec.validations[0].expression",
                "warning": "apps/v1, Kind=Deployment: compilation failed: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n"})
        );
        assert_eq!((wrong.len(), &wrong[1]["fieldRef"]), (2, &json!("spec.validations[1].expression")));
        // A schema that holds itself has an end.
        let mut deep = spec(&["object.spec.versions.all(v, v.served)"]);
        deep["variables"] = json!([]);
        deep["matchConstraints"]["resourceRules"][0] = json!({"apiGroups": ["apiextensions.k8s.io"], "apiVersions": ["v1"], "resources": ["customresourcedefinitions"]});
        assert!(warnings(c, &deep).is_empty());
        // Wildcards name no kind.
        let mut any = spec(&["object.replicas > 1"]);
        any["matchConstraints"]["resourceRules"][0]["apiVersions"] = json!(["*"]);
        assert!(warnings(c, &any).is_empty());
    }
}
