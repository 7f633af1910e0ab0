//! Mutating and validating webhooks. Mutating ones are asked one after another, by name of their configuration; those
//! that wish are asked again when another changed the object after them. Validating ones are asked side by side.
//! https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/

mod config;
mod review;

use api::Status;
use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Value, json};

use super::authority::Authority;
use super::matching::{Seen, Subject, hold};
use super::parsed::{GROUP, Parsed};
use super::{Context, Operation, Plugin, Request};
use crate::server::SharedCatalog;
use crate::webhook;
pub use config::VARIABLES;
use config::{Webhook, webhooks};
pub use review::question;
use review::{Answer, No, answer};

pub struct Webhooks {
    pub catalog: SharedCatalog,
    configurations: Parsed<Vec<Webhook>>,
    mutating: bool,
}

impl Webhooks {
    pub fn mutating(catalog: SharedCatalog) -> Self {
        Self {
            catalog,
            configurations: Parsed::new("mutatingwebhookconfigurations", webhooks),
            mutating: true,
        }
    }
    pub fn validating(catalog: SharedCatalog) -> Self {
        Self {
            catalog,
            configurations: Parsed::new("validatingwebhookconfigurations", webhooks),
            mutating: false,
        }
    }
}

/// A webhook that wants to see the request, and the version in which it does.
struct Wanted<'a> {
    webhook: &'a Webhook,
    version: String,
}

impl Webhooks {
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
        let object = subject.show(cx, &w.version, &r.object).await?;
        let old = match r.old {
            Some(o) => subject.show(cx, &w.version, o).await?,
            None => Value::Null,
        };
        let seen =
            Seen { group: r.group, version: &w.version, resource: r.resource, subresource: r.subresource };
        let uid = uuid::Uuid::new_v4().to_string();
        let q = question(r, &seen, &uid, &object, &old);
        match conditions_hold(cx, r, hook, &q).await {
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
        let shown = subject.show(cx, &w.version, &r.object).await?;
        let patched = patch.apply(shown).map_err(|e| wrong(Status::from(e).message))?;
        let new = subject.take(cx, &w.version, patched).await.map_err(|e| wrong(e.message))?;
        let changed = new != r.object;
        r.object = new;
        Ok(changed)
    }
}

/// Whether the webhook's conditions hold.
async fn conditions_hold(
    cx: &Context,
    r: &Request<'_>,
    w: &Webhook,
    question: &Value,
) -> Result<bool, String> {
    if w.conditions.is_empty() {
        return Ok(true);
    }
    let value = api::validation::cel_value;
    let authority = Authority::new(r.user);
    let variables = [
        ("object", value(&question["object"])),
        ("oldObject", value(&question["oldObject"])),
        ("request", value(question)),
        ("authorizer", authority.authorizer()),
        ("authorizer.requestResource", authority.request_resource(r)),
    ];
    authority.settled(cx, || hold(&w.conditions, &variables)).await
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
        let subject = Subject::of(&self.catalog, r);
        let mut labels = None;
        if r.reinvocation.second {
            r.reinvocation.webhooks.begin(&r.object);
        }
        for webhook in all.iter().flat_map(|c| c.iter()) {
            let key = format!("{}/{}", webhook.configuration, webhook.name);
            if r.reinvocation.second && !r.reinvocation.webhooks.wants_again(&key) {
                continue;
            }
            // An earlier one may have changed the labels.
            let Some(version) = webhook.matcher.wants(cx, r, &subject, &mut labels, false).await? else {
                continue;
            };
            if self.mutate(cx, r, &subject, &Wanted { webhook, version }).await? {
                r.reinvocation.webhooks.changed();
                r.reinvocation.wanted = true;
            }
            if webhook.reinvoke {
                r.reinvocation.webhooks.asked(key);
            }
        }
        r.reinvocation.webhooks.end(&r.object);
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
        let subject = Subject::of(&self.catalog, r);
        let mut labels = None;
        let mut wanted = Vec::new();
        for webhook in all.iter().flat_map(|c| c.iter()) {
            if let Some(version) = webhook.matcher.wants(cx, r, &subject, &mut labels, false).await? {
                wanted.push(Wanted { webhook, version });
            }
        }
        let answers = join_all(wanted.iter().map(|w| self.ask(cx, r, &subject, w))).await;
        answers.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }
}
