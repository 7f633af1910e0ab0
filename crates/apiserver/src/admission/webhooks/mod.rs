//! Mutating and validating webhooks. Mutating ones are asked one after another, by name of their configuration; those
//! that wish are asked again when another changed the object after them. Validating ones are asked side by side.
//! https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/

mod config;
mod matching;
mod review;

use std::sync::Arc;

use api::Status;
use api::catalog::Descriptor;
use api::decode::{Expect, FieldValidation, decode_value};
use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Value, json};

use super::{Context, Operation, Plugin, Request};
use crate::server::SharedCatalog;
use crate::{adapt, webhook};
use config::{Configurations, GROUP, Webhook};
use matching::Seen;
use review::{Answer, No, answer, question};

/// What one condition may cost.
const CONDITION_BUDGET: u64 = 1_000_000;

pub struct Webhooks {
    pub catalog: SharedCatalog,
    configurations: Configurations,
    mutating: bool,
}

impl Webhooks {
    pub fn mutating(catalog: SharedCatalog) -> Self {
        Self { catalog, configurations: Configurations::new("mutatingwebhookconfigurations"), mutating: true }
    }
    pub fn validating(catalog: SharedCatalog) -> Self {
        Self {
            catalog,
            configurations: Configurations::new("validatingwebhookconfigurations"),
            mutating: false,
        }
    }
}

/// A webhook that wants to see the request, and the version in which it does.
struct Wanted<'a> {
    webhook: &'a Webhook,
    version: String,
}

/// The request's kind, where bodies are objects of it.
struct Subject {
    kind: Option<Arc<Descriptor>>,
}

impl Subject {
    /// The stored form in another version.
    fn show(&self, version: &str, v: &Value) -> Value {
        let mut v = v.clone();
        if let (Some(k), true) = (&self.kind, v.is_object()) {
            let _ = k.from_hub(version, &mut v);
        }
        v
    }

    /// What a webhook made of it, back in the stored form: pruned and defaulted like any body.
    fn take(&self, version: &str, v: Value) -> Result<Value, Status> {
        let Some(k) = &self.kind else { return Ok(v) };
        let definition = k.version(version).and_then(|v| v.schema.definition());
        let Some(definition) = definition else { return Ok(v) };
        let expect = Expect { group: &k.group, version, kind: &k.kind, definition };
        let mut v = decode_value(v, expect, FieldValidation::Ignore)?.value;
        adapt::default(k, version, &mut v);
        k.to_hub(version, &mut v).map_err(Status::internal)?;
        Ok(v)
    }
}

impl Webhooks {
    fn subject(&self, r: &Request<'_>) -> Subject {
        let kind = self.catalog.read().by_plural(r.group, r.resource).cloned();
        // The body of such a subresource has a kind of its own.
        let own = kind
            .as_ref()
            .and_then(|k| k.version(r.version)?.subresource(r.subresource))
            .is_some_and(|s| kind.as_ref().is_some_and(|k| s.kind != k.kind));
        Subject { kind: kind.filter(|k| k.stored && !own) }
    }

    async fn select<'a>(
        &self,
        cx: &Context,
        r: &Request<'_>,
        subject: &Subject,
        all: impl Iterator<Item = &'a Webhook>,
    ) -> Result<Vec<Wanted<'a>>, Status> {
        let namespaced = !r.namespace.is_empty() && r.resource != "namespaces";
        let mut labels = None;
        let mut out = Vec::new();
        for webhook in all {
            let fits = |version: &str| {
                let seen = Seen { group: r.group, version, resource: r.resource, subresource: r.subresource };
                webhook.rules.iter().any(|x| matching::rule(x, r.operation.as_str(), namespaced, &seen))
            };
            let others = || subject.kind.iter().flat_map(|k| k.served()).map(|v| v.name.as_str());
            let version = if fits(r.version) {
                Some(r.version.to_owned())
            } else if webhook.equivalent {
                others().find(|v| fits(v)).map(str::to_owned)
            } else {
                None
            };
            let Some(version) = version else { continue };
            let labels_of = |v: &Value| {
                let map = v["metadata"]["labels"].as_object();
                let pairs = map.into_iter().flatten();
                pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
            };
            if !webhook.namespaces.is_everything() {
                if labels.is_none() {
                    labels = namespace_labels(cx, r, &labels_of).await?;
                }
                if labels.as_ref().is_some_and(|l| !webhook.namespaces.matches(l)) {
                    continue;
                }
            }
            if !webhook.objects.is_everything() {
                let hits = |v: &Value| v.is_object() && webhook.objects.matches(&labels_of(v));
                if !hits(&r.object) && !r.old.is_some_and(hits) {
                    continue;
                }
            }
            out.push(Wanted { webhook, version });
        }
        Ok(out)
    }

    /// Asks one webhook. `None`: it does not want to see this one, or is ignored.
    async fn ask(
        &self,
        cx: &Context,
        r: &Request<'_>,
        subject: &Subject,
        w: &Wanted<'_>,
    ) -> Result<Option<Answer>, Status> {
        let hook = w.webhook;
        let failed = |why: String| {
            if hook.fails_closed {
                return Err(Status::internal(format!("failed calling webhook \"{}\": {why}", hook.name)));
            }
            tracing::warn!(
                webhook = hook.name,
                configuration = hook.configuration,
                error = why,
                "a webhook failed and is ignored"
            );
            Ok(None)
        };
        let object = subject.show(&w.version, &r.object);
        let old = r.old.map_or(Value::Null, |o| subject.show(&w.version, o));
        let seen =
            Seen { group: r.group, version: &w.version, resource: r.resource, subresource: r.subresource };
        let uid = uuid::Uuid::new_v4().to_string();
        let q = question(r, &seen, &uid, &object, &old);
        match conditions_hold(hook, &q) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            // A condition that fails while another says no does not matter; that was looked at.
            Err(why) if hook.fails_closed => {
                return Err(r.forbidden(format!(
                    "error evaluating match conditions of webhook \"{}\": {why}",
                    hook.name
                )));
            }
            Err(why) => {
                tracing::warn!(
                    webhook = hook.name,
                    error = why,
                    "a match condition failed and the webhook is passed by"
                );
                return Ok(None);
            }
        }
        if r.dry_run && !hook.dry_run {
            return Err(Status::bad_request(format!(
                "admission webhook \"{}\" does not support dry run",
                hook.name
            )));
        }
        let Some(version) = hook.review else {
            return failed("it knows no version of AdmissionReview that this server knows".into());
        };
        let body = json!({"apiVersion": format!("admission.k8s.io/{version}"), "kind": "AdmissionReview", "request": q});
        let answered = match webhook::call(cx.reader.as_ref(), &hook.client, &body, hook.timeout).await {
            Ok(v) => answer(hook, version, &uid, &v),
            Err(e) => Err(No::Failed(e)),
        };
        match answered {
            Ok(a) => {
                a.warnings.iter().for_each(|t| r.warn(t.clone()));
                Ok(Some(a))
            }
            Err(No::Refused(s)) => Err(s),
            Err(No::Failed(why)) => failed(why),
        }
    }

    /// Asks one mutating webhook and takes its patch. True when the object changed.
    async fn mutate(
        &self,
        cx: &Context,
        r: &mut Request<'_>,
        subject: &Subject,
        w: &Wanted<'_>,
    ) -> Result<bool, Status> {
        let Some(Answer { patch: Some(patch), .. }) = self.ask(cx, r, subject, w).await? else {
            return Ok(false);
        };
        if r.operation == Operation::Delete {
            return Ok(false);
        }
        let wrong = |e: String| {
            Status::internal(format!("failed to apply the patch of webhook \"{}\": {e}", w.webhook.name))
        };
        let patch = patch::JsonPatch::parse(&patch).map_err(|e| wrong(Status::from(e).message))?;
        let shown = subject.show(&w.version, &r.object);
        let patched = patch.apply(shown).map_err(|e| wrong(Status::from(e).message))?;
        let new = subject.take(&w.version, patched).map_err(|e| wrong(e.message))?;
        let changed = new != r.object;
        r.object = new;
        Ok(changed)
    }
}

/// Labels of the request's namespace; `None` when it has none to speak of.
async fn namespace_labels(
    cx: &Context,
    r: &Request<'_>,
    of: &impl Fn(&Value) -> std::collections::BTreeMap<String, String>,
) -> Result<Option<std::collections::BTreeMap<String, String>>, Status> {
    if r.is("", "namespaces") {
        let v = if r.object.is_object() { Some(&r.object) } else { r.old };
        return Ok(v.map(of));
    }
    if r.namespace.is_empty() {
        return Ok(None);
    }
    match cx.reader.get("", "namespaces", "", r.namespace).await? {
        Some(n) => Ok(Some(of(&n.value().map_err(Status::internal)?))),
        None => Err(Status::not_found("", "namespaces", r.namespace)),
    }
}

/// All conditions hold; one that says no wins over one that fails.
fn conditions_hold(w: &Webhook, question: &Value) -> Result<bool, String> {
    if w.conditions.is_empty() {
        return Ok(true);
    }
    let value = api::validation::cel_value;
    let variables = [
        ("object", value(&question["object"])),
        ("oldObject", value(&question["oldObject"])),
        ("request", value(question)),
        ("authorizer", cel::Value::Null),
    ];
    let mut error = None;
    for c in &w.conditions {
        let result = match &c.program {
            Ok(p) => p.eval(&variables, &mut CONDITION_BUDGET.clone()).map_err(|e| e.to_string()),
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

#[async_trait]
impl Plugin for Webhooks {
    fn name(&self) -> &'static str {
        if self.mutating { "MutatingAdmissionWebhook" } else { "ValidatingAdmissionWebhook" }
    }

    /// What could lock everybody out is never shown to webhooks.
    fn handles(&self, r: &Request<'_>) -> bool {
        r.group != GROUP
    }

    async fn admit(&self, cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        if !self.mutating {
            return Ok(());
        }
        let all = self.configurations.all(cx.reader.as_ref()).await?;
        if all.is_empty() {
            return Ok(());
        }
        let subject = self.subject(r);
        let mut again = Vec::new();
        let mut changes = 0;
        for webhook in all.iter().flat_map(|c| c.iter()) {
            // An earlier one may have changed the labels.
            for w in self.select(cx, r, &subject, std::iter::once(webhook)).await? {
                changes += u32::from(self.mutate(cx, r, &subject, &w).await?);
                if w.webhook.reinvoke {
                    again.push((w, changes));
                }
            }
        }
        for (w, seen) in again {
            if changes > seen {
                self.mutate(cx, r, &subject, &w).await?;
            }
        }
        Ok(())
    }

    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        if self.mutating {
            return Ok(());
        }
        let all = self.configurations.all(cx.reader.as_ref()).await?;
        if all.is_empty() {
            return Ok(());
        }
        let subject = self.subject(r);
        let wanted = self.select(cx, r, &subject, all.iter().flat_map(|c| c.iter())).await?;
        let answers = join_all(wanted.iter().map(|w| self.ask(cx, r, &subject, w))).await;
        answers.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }
}
