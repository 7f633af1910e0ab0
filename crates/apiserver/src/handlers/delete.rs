//! delete and deletecollection: preconditions, grace, finalizers, propagation. What a deletion means for an object is
//! decided by `plan`, which is pure.

use api::{Object, Status};
use futures::{StreamExt, TryStreamExt};
use http::StatusCode;
use serde_json::{Value, json};
use store::Op;

use super::write::{TRIES, Write, too_contended};
use super::{Target, convert, decode, meta, output, read};
use crate::adapt;
use crate::admission::Operation;
use crate::body::{self, Reply};
use crate::call::{Call, check_dry_run};
use crate::registry::{Extra, Grace, Strategy, rules};
use crate::request_info::truthy;
use crate::server::ApiServer;
use crate::storage::{Encoded, Written, at_revision};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Objects of a collection that are deleted side by side.
const PARALLEL: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub grace: Option<i64>,
    pub propagation: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

fn invalid(field: &str, reason: &str, message: String) -> Status {
    Status::invalid(
        "meta.k8s.io",
        "DeleteOptions",
        "",
        vec![api::Cause { reason: reason.into(), message, field: field.into() }],
    )
}

fn propagation(s: &str) -> Result<Propagation, Status> {
    Ok(match s {
        "Orphan" => Propagation::Orphan,
        "Background" => Propagation::Background,
        "Foreground" => Propagation::Foreground,
        other => {
            return Err(invalid(
                "propagationPolicy",
                "FieldValueNotSupported",
                format!(
                    "Unsupported value: \"{other}\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                ),
            ));
        }
    })
}

impl Options {
    /// From the body if there is one, else from the query.
    pub fn parse(call: &Call) -> Result<Self, Status> {
        let b = decode::loose(call)?;
        let mut o = Self::default();
        let (policy, orphan);
        if b.is_null() {
            o.grace = match call.query.get("gracePeriodSeconds").filter(|s| !s.is_empty()) {
                Some(s) => Some(crate::request_info::int(s)?),
                None => None,
            };
            policy = call.query.get("propagationPolicy").filter(|s| !s.is_empty()).map(str::to_owned);
            orphan = call.query.get("orphanDependents").map(truthy);
            o.dry_run = call.dry_run()?;
        } else {
            match b["kind"].as_str().unwrap_or("DeleteOptions") {
                "DeleteOptions" | "" => {}
                other => {
                    return Err(Status::bad_request(format!(
                        "decoded object cannot be converted to DeleteOptions: it is a {other}"
                    )));
                }
            }
            let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
            o.grace = b["gracePeriodSeconds"].as_i64();
            policy = text(&b["propagationPolicy"]);
            orphan = b["orphanDependents"].as_bool();
            o.uid = text(&b["preconditions"]["uid"]);
            o.resource_version = text(&b["preconditions"]["resourceVersion"]);
            let all: Vec<&str> =
                b["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            o.dry_run = check_dry_run("DeleteOptions", all.into_iter())? || call.dry_run()?;
        }
        if let (Some(p), true) = (&policy, orphan.is_some()) {
            return Err(invalid(
                "propagationPolicy",
                "FieldValueInvalid",
                format!("Invalid value: {p:?}: orphanDependents and deletionPropagation cannot be both set"),
            ));
        }
        o.propagation = match (policy, orphan) {
            (Some(p), _) => Some(propagation(&p)?),
            (None, Some(true)) => Some(Propagation::Orphan),
            (None, Some(false)) => Some(Propagation::Background),
            (None, None) => None,
        };
        Ok(o)
    }

    /// Whether the object is the one that was meant.
    pub fn check(&self, target: &Target, current: &Object) -> Result<(), Status> {
        let differ = |what: &str, want: &str, is: &str, then: &str| {
            // Upstream names the kind here, not the resource.
            Err(Status::conflict(
                &target.kind.group,
                &target.kind.kind,
                current.name(),
                &format!(
                    "the {what} in the precondition ({want}) does not match the {what} in record ({is}). The object might have been {then}"
                ),
            ))
        };
        if let Some(uid) = self.uid.as_deref().filter(|u| *u != current.uid()) {
            return differ("UID", uid, current.uid(), "deleted and then recreated");
        }
        let is = current.revision().to_string();
        if let Some(rv) = self.resource_version.as_deref().filter(|r| *r != is) {
            return differ("ResourceVersion", rv, &is, "modified");
        }
        Ok(())
    }
}

/// What is to be done with an object that somebody wants gone.
#[derive(Debug, PartialEq)]
pub enum Plan {
    Remove,
    /// It stays for now, changed like this.
    Mark(Box<Value>),
    /// Its deletion is under way already.
    Pending,
}

/// Facts of the kind that `plan` needs.
pub struct Kind<'a> {
    pub strategy: &'a dyn Strategy,
    pub orphans_by_default: bool,
}

/// `now` in seconds since the epoch.
pub fn plan(kind: &Kind<'_>, object: &Value, o: &Options, now: i64) -> Plan {
    let mut v = object.clone();
    let m = &object["metadata"];
    let old_grace = m["deletionGracePeriodSeconds"].as_i64();
    let deleting = m["deletionTimestamp"].as_str().map(str::to_owned);
    let mut grace = 0;
    let mut graceful = false;
    match (&deleting, old_grace) {
        (Some(at), Some(old)) => match o.grace {
            Some(new) if new < old => {
                grace = new.max(0);
                graceful = true;
                let at = client::clock::parse(at).map_or(now, |t| t.as_second());
                set_deletion(&mut v, at - old + grace, grace);
            }
            // Grace may only be shortened. With 0 left, nothing but finalizers holds it.
            _ if old > 0 || !meta::finalizers(object).is_empty() || kind.strategy.held_back(object) => {
                return Plan::Pending;
            }
            _ => {}
        },
        (Some(_), None) => {}
        (None, _) => {
            if let Grace::Seconds(s) = kind.strategy.grace(object, o.grace) {
                grace = s;
                graceful = true;
                set_deletion(&mut v, now + s, s);
                bump(&mut v);
            }
        }
    }
    let finalizers = wanted_finalizers(kind, object, o);
    set_finalizers(&mut v, &finalizers);
    let held = !finalizers.is_empty() || kind.strategy.held_back(&v);
    if !held && (!graceful || grace == 0) {
        return Plan::Remove;
    }
    if !graceful && deleting.is_none() {
        set_deletion(&mut v, now, 0);
        bump(&mut v);
    }
    kind.strategy.begin_deletion(&mut v);
    Plan::Mark(Box::new(v))
}

fn set_deletion(v: &mut Value, at: i64, grace: i64) {
    let t = jiff::Timestamp::from_second(at).unwrap_or_default();
    if let Ok(m) = meta::meta_mut(v) {
        m.insert("deletionTimestamp".into(), json!(client::clock::rfc3339(t)));
        m.insert("deletionGracePeriodSeconds".into(), json!(grace));
    }
}

fn bump(v: &mut Value) {
    if meta::generation(v) > 0 {
        let _ = meta::bump_generation(v);
    }
}

fn set_finalizers(v: &mut Value, all: &[String]) {
    if let Ok(m) = meta::meta_mut(v) {
        if all.is_empty() {
            m.remove("finalizers");
        } else {
            m.insert("finalizers".into(), json!(all));
        }
    }
}

/// The finalizers after the propagation policy has had its say.
fn wanted_finalizers(kind: &Kind<'_>, object: &Value, o: &Options) -> Vec<String> {
    let now = meta::finalizers(object);
    let has = |f: &str| now.iter().any(|n| n == f);
    let (orphan, foreground) = match o.propagation {
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Foreground) => (false, true),
        Some(Propagation::Background) => (false, false),
        None if has(ORPHAN) => (true, false),
        None if has(FOREGROUND) => (false, true),
        None => (kind.orphans_by_default, false),
    };
    let mut out: Vec<String> = now.iter().filter(|f| *f != ORPHAN && *f != FOREGROUND).cloned().collect();
    if orphan {
        out.push(ORPHAN.into());
    }
    if foreground {
        out.push(FOREGROUND.into());
    }
    out
}

/// What became of a deletion.
pub enum Outcome {
    /// Gone; the last state.
    Gone(Object),
    /// Still there, marked.
    Marked(Object),
}

/// Deletes one object by name.
pub async fn delete(w: &Write<'_>, name: &str, o: &Options) -> Result<Outcome, Status> {
    let namespace = w.namespace();
    delete_in(w, namespace, name, o).await
}

pub async fn delete_in(w: &Write<'_>, namespace: &str, name: &str, o: &Options) -> Result<Outcome, Status> {
    let kind = &w.target.kind;
    let strategy = w.strategy();
    let facts = Kind { strategy, orphans_by_default: rules::orphans_by_default(&kind.group, &kind.plural) };
    let key = w.target.key(namespace, name);
    for _ in 0..TRIES {
        let current = w.server.storage.get(&key).await?.ok_or_else(|| w.target.not_found(name))?;
        o.check(w.target, &current)?;
        let mut old = convert::from_storage(w.server, w.target, &current).await?;
        meta::meta_mut(&mut old)?.remove("resourceVersion");
        let mut r = w.request(Operation::Delete, Value::Null, Some(&old));
        r.dry_run = o.dry_run;
        r.namespace = if kind.plural == "namespaces" && kind.group.is_empty() { name } else { namespace };
        r.name = name;
        w.server.admission.admit(&mut r).await?;
        w.server.admission.validate(&r).await?;
        drop(r);
        let mut extra = Extra::default();
        let (op, result) = match plan(&facts, &old, o, client::clock::now().as_second()) {
            Plan::Pending => return Ok(Outcome::Marked(current)),
            Plan::Remove => {
                strategy.release(&w.context(), &old, &mut extra).await?;
                (Op::Delete { key: key.clone() }, None)
            }
            Plan::Mark(v) => {
                let mut v = *v;
                adapt::canonical(kind, &mut v);
                let e = Encoded::new(convert::to_storage(w.server, w.target, v).await?)?;
                if e.bytes == current.stored_bytes() {
                    return Ok(Outcome::Marked(current));
                }
                (e.put(&key, None), Some(e))
            }
        };
        if o.dry_run {
            return Ok(match result {
                None => Outcome::Gone(current),
                Some(e) => Outcome::Marked(e.at(current.revision())),
            });
        }
        let mut compare = vec![at_revision(&key, current.revision())];
        compare.append(&mut extra.compare);
        let mut ops = vec![op];
        ops.append(&mut extra.ops);
        if let Written::Done { revision, .. } = w.server.storage.commit(compare, ops).await? {
            return Ok(match result {
                None => Outcome::Gone(current),
                Some(e) => Outcome::Marked(e.at(revision)),
            });
        }
    }
    Err(too_contended(w.target, name))
}

pub async fn handle(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    output::Wanted::of(call, target)?;
    let o = Options::parse(call)?;
    let mut w = Write::new(s, call, target, "")?;
    w.dry_run = o.dry_run;
    if target.kind.plural == "jobs" && o.propagation.is_none() {
        call.warnings.add(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
        );
    }
    match delete(&w, call.name(), &o).await? {
        Outcome::Marked(obj) => {
            let code = if o.propagation == Some(Propagation::Foreground) {
                StatusCode::ACCEPTED
            } else {
                StatusCode::OK
            };
            output::object(s, call, target, obj, code).await
        }
        Outcome::Gone(obj) => {
            let mut details = json!({"name": obj.name(), "kind": target.kind.plural, "uid": obj.uid()});
            if !target.kind.group.is_empty() {
                details["group"] = json!(target.kind.group);
            }
            output::outcome(call, StatusCode::OK, &body::success(details))
        }
    }
}

pub async fn collection(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let o = Options::parse(call)?;
    let mut w = Write::new(s, call, target, "")?;
    w.dry_run = o.dry_run;
    let l = read::page(s, call, target).await?;
    let (w, o) = (&w, &o);
    futures::stream::iter(l.items.clone())
        .map(|item| async move {
            match delete_in(w, item.namespace(), item.name(), o).await {
                // Gone already is as good.
                Err(st) if !st.is_not_found() => Err(st),
                _ => Ok(()),
            }
        })
        .buffer_unordered(PARALLEL)
        .try_collect::<Vec<()>>()
        .await?;
    output::list(s, call, target, l).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::core::namespaces::Namespaces;
    use crate::registry::core::pods::Pods;
    use crate::registry::strategy;

    fn pod(node: &str) -> Value {
        json!({"metadata": {"name": "p", "generation": 1}, "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}})
    }
    const POD: Kind<'static> = Kind { strategy: &Pods, orphans_by_default: false };

    fn marked(p: Plan) -> Value {
        match p {
            Plan::Mark(v) => *v,
            other => panic!("not marked: {other:?}"),
        }
    }

    #[test]
    fn pods_end_gracefully_and_grace_only_shrinks() {
        let none = Options::default();
        assert_eq!(plan(&POD, &pod(""), &none, 1000), Plan::Remove);
        assert_eq!(plan(&POD, &pod("n"), &Options { grace: Some(0), ..none.clone() }, 1000), Plan::Remove);
        let v = marked(plan(&POD, &pod("n"), &none, 1000));
        assert_eq!(v["metadata"]["deletionTimestamp"], "1970-01-01T00:17:10Z");
        assert_eq!(
            (v["metadata"]["deletionGracePeriodSeconds"].as_i64(), meta::generation(&v)),
            (Some(30), 2)
        );
        assert_eq!(plan(&POD, &v, &none, 1001), Plan::Pending);
        assert_eq!(plan(&POD, &v, &Options { grace: Some(60), ..none.clone() }, 1001), Plan::Pending);
        let w = marked(plan(&POD, &v, &Options { grace: Some(5), ..none.clone() }, 1001));
        assert_eq!(w["metadata"]["deletionTimestamp"], "1970-01-01T00:16:45Z");
        assert_eq!(plan(&POD, &w, &Options { grace: Some(0), ..none }, 1002), Plan::Remove);
    }

    #[test]
    fn finalizers_and_propagation() {
        let kind = Kind { strategy: strategy("apps", "deployments"), orphans_by_default: false };
        let d = json!({"metadata": {"name": "d", "generation": 1, "finalizers": ["x"]}});
        let v = marked(plan(&kind, &d, &Options::default(), 1000));
        assert_eq!(
            (v["metadata"]["deletionGracePeriodSeconds"].as_i64(), meta::generation(&v)),
            (Some(0), 2)
        );
        assert_eq!(plan(&kind, &v, &Options::default(), 1001), Plan::Pending);
        let plain = json!({"metadata": {"name": "d"}});
        assert_eq!(plan(&kind, &plain, &Options::default(), 1), Plan::Remove);
        let o = Options { propagation: Some(Propagation::Foreground), ..Options::default() };
        assert_eq!(marked(plan(&kind, &plain, &o, 1))["metadata"]["finalizers"], json!([FOREGROUND]));
        let job = Kind { strategy: strategy("batch", "jobs"), orphans_by_default: true };
        assert_eq!(
            marked(plan(&job, &plain, &Options::default(), 1))["metadata"]["finalizers"],
            json!([ORPHAN])
        );
        let o = Options { propagation: Some(Propagation::Background), ..Options::default() };
        assert_eq!(plan(&job, &plain, &o, 1), Plan::Remove);
    }

    #[test]
    fn a_namespace_waits_for_its_contents() {
        let kind = Kind { strategy: &Namespaces, orphans_by_default: false };
        let ns = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let v = marked(plan(&kind, &ns, &Options::default(), 1));
        assert_eq!(v["status"]["phase"], "Terminating");
        assert_eq!(plan(&kind, &v, &Options::default(), 2), Plan::Pending);
    }
}
