//! The resourceclaim loop: claims from templates for the pods that ask for them, and an end to what ended pods held. `plan`
//! is pure. Where a claim is met is the scheduler's matter. Spawns its workers.
//! https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/

mod plan;

use std::collections::BTreeMap;

use api::resource::PODS;
use api::{Object, Resource, Status};
use client::{DeleteOptions, Informer, ObjectRef, Patch};
use serde_json::{Value, json};

use crate::Context;
use crate::skeleton::{self, Error, Key, Next, Queue, key_of};
use plan::{
    FINALIZER, FOR_POD_CLAIM, PodClaim, fate, from_template, is_done, must_reserve, owner, pod_claims,
    statuses,
};

const CLAIMS: Resource = Resource::new("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", true);
const TEMPLATES: Resource =
    Resource::new("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate", true);
/// Claims by the uid of their pod.
const BY_POD: &str = "pod";

struct Loop {
    ctx: Context,
    pods: Informer,
    claims: Informer,
    templates: Informer,
}

fn claims_of(pod: &Object) -> Vec<PodClaim> {
    // Few pods ask for any, and every change of every pod comes by here.
    let asks = br#""resourceClaims":"#;
    if !pod.stored_bytes().windows(asks.len()).any(|w| w == asks) {
        return Vec::new();
    }
    pod.value().map(|v| pod_claims(&v)).unwrap_or_default()
}

pub async fn run(ctx: Context) {
    let (by_pod, by_claim) = (Queue::default(), Queue::default());
    let l = Loop {
        pods: ctx.informers.get(&PODS),
        claims: ctx.informers.get(&CLAIMS),
        templates: ctx.informers.get(&TEMPLATES),
        ctx: ctx.clone(),
    };
    l.claims.add_index(BY_POD, |o| {
        o.value().ok().and_then(|v| owner(&v).map(|(_, uid)| uid.to_owned())).into_iter().collect()
    });
    l.pods.add_index("resource claims", |o| match claims_of(o).is_empty() {
        true => Vec::new(),
        false => vec![o.namespace().to_owned()],
    });
    let (pods, claims) = (by_pod.clone(), by_claim.clone());
    let owned = l.claims.clone();
    l.pods.on_change(move |c| {
        let Some(o) = c.object() else { return };
        let entries = claims_of(o);
        if entries.is_empty() {
            return;
        }
        pods.add(key_of(o));
        let done = c.new.is_none() || o.value().is_ok_and(|v| is_done(&v));
        if done {
            let named = entries.into_iter().filter_map(|e| e.claim);
            let made = owned.by_index(BY_POD, o.uid()).into_iter().map(|c| c.name().to_owned());
            named.chain(made).for_each(|name| claims.add((o.namespace().to_owned(), name)));
        }
    });
    let (pods, claims, informer) = (by_pod.clone(), by_claim.clone(), l.pods.clone());
    l.claims.on_change(move |c| {
        let Some(o) = c.object() else { return };
        claims.add(key_of(o));
        // Pods wait for it, or are to be put among its users.
        for pod in informer.by_index("resource claims", o.namespace()) {
            if claims_of(&pod).iter().any(|e| e.claim.as_deref() == Some(o.name())) {
                pods.add(key_of(&pod));
            }
        }
    });
    let (pods, informer) = (by_pod.clone(), l.pods.clone());
    l.templates.on_change(move |c| {
        let Some(o) = c.new else { return };
        for pod in informer.by_index("resource claims", o.namespace()) {
            if claims_of(&pod).iter().any(|e| e.template.as_deref() == Some(o.name())) {
                pods.add(key_of(&pod));
            }
        }
    });
    if !skeleton::synced(&ctx.token, &[&l.pods, &l.claims, &l.templates]).await {
        return;
    }
    tokio::join!(
        skeleton::work("resourceclaim", &ctx.token, &by_pod, 4, |key| l.pod(key)),
        skeleton::work("resourceclaim", &ctx.token, &by_claim, 4, |key| l.claim(key)),
    );
}

impl Loop {
    /// The claim that was made for an entry of the pod, whether its status tells of it or not.
    fn made(&self, pod: &Object, entry: &PodClaim) -> Option<String> {
        if let Some(name) = &entry.claim {
            let there = self.claims.get(pod.namespace(), name)?;
            let mine = |v: &Value| owner(v).is_some_and(|(_, uid)| uid == pod.uid());
            return there.value().is_ok_and(|v| mine(&v)).then(|| name.clone());
        }
        let all = self.claims.by_index(BY_POD, pod.uid());
        let found = all.iter().find(|c| {
            c.value().is_ok_and(|v| v["metadata"]["annotations"][FOR_POD_CLAIM] == entry.name.as_str())
        });
        found.map(|c| c.name().to_owned())
    }

    async fn make(
        &self,
        pod: &Object,
        v: &Value,
        entry: &PodClaim,
        template: &str,
    ) -> Result<String, String> {
        let found = self.templates.get(pod.namespace(), template);
        let missing = || {
            let not_found = Status::not_found("resource.k8s.io", "resourceclaimtemplates", template);
            format!("resource claim template \"{template}\": {}", not_found.message)
        };
        let template = found.ok_or_else(missing)?.value().map_err(|e| e.to_string())?;
        let body = from_template(v, &entry.name, &template);
        let made = self.ctx.client.create(&CLAIMS, pod.namespace(), &body).await;
        made.map(|c| c.name().to_owned()).map_err(|e| format!("create ResourceClaim : {e}"))
    }

    async fn pod(&self, key: Key) -> Result<Next, Error> {
        let Some(pod) = self.pods.get(&key.0, &key.1) else { return Ok(Next::Wait) };
        let v = pod.value()?;
        if pod.meta().is_deleting() || is_done(&v) {
            return Ok(Next::Wait);
        }
        let mut new: BTreeMap<String, String> = BTreeMap::new();
        for entry in pod_claims(&v) {
            let Some(template) = &entry.template else { continue };
            let name = match self.made(&pod, &entry) {
                Some(name) => name,
                None => match self.make(&pod, &v, &entry, template).await {
                    Ok(name) => name,
                    Err(e) => {
                        let text = format!("PodResourceClaim {}: {e}", entry.name);
                        let about = ObjectRef::of(&PODS, &pod);
                        self.ctx.events.warning(about, "FailedResourceClaimCreation", &text);
                        return Err(Status::internal(text).into());
                    }
                },
            };
            if entry.claim.as_ref() != Some(&name) {
                new.insert(entry.name.clone(), name);
            }
        }
        if !new.is_empty() {
            let status = json!({"resourceClaimStatuses": statuses(&v, &new)});
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
            match self.ctx.client.patch(&PODS, &key.0, &key.1, "status", &patch).await {
                Err(e) if !e.is_not_found() && !e.is_conflict() => return Err(e.into()),
                _ => {}
            }
        }
        if v["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty()) {
            self.reserve(&pod, &v).await?;
        }
        Ok(Next::Wait)
    }

    /// A pod that was placed without the scheduler.
    async fn reserve(&self, pod: &Object, v: &Value) -> Result<(), Error> {
        for entry in pod_claims(v) {
            let Some(claim) = entry.claim.and_then(|name| self.claims.get(pod.namespace(), &name)) else {
                continue;
            };
            let mut c = claim.value()?;
            if !must_reserve(&c, v) {
                continue;
            }
            if !c["status"]["reservedFor"].is_array() {
                c["status"]["reservedFor"] = json!([]);
            }
            if let Some(users) = c["status"]["reservedFor"].as_array_mut() {
                users.push(json!({"resource": "pods", "name": pod.name(), "uid": pod.uid()}));
            }
            self.ctx.client.update(&CLAIMS, pod.namespace(), claim.name(), "status", &c).await?;
        }
        Ok(())
    }

    /// Whether the pod among a claim's users still is there and may run.
    async fn there(&self, namespace: &str, user: &Value) -> Result<bool, Error> {
        let text = |f: &str| user[f].as_str().unwrap_or_default();
        let pod = match self.pods.get(namespace, text("name")) {
            // It may be too new for the informer.
            None => self.ctx.client.find(&PODS, namespace, text("name")).await?,
            found => found,
        };
        let Some(pod) = pod.filter(|p| p.uid() == text("uid")) else { return Ok(false) };
        Ok(!is_done(&pod.value()?))
    }

    async fn claim(&self, key: Key) -> Result<Next, Error> {
        let Some(claim) = self.claims.get(&key.0, &key.1) else { return Ok(Next::Wait) };
        let mut v = claim.value()?;
        let mut gone: Vec<Value> = Vec::new();
        for user in v["status"]["reservedFor"].as_array().into_iter().flatten() {
            if !self.there(&key.0, user).await? {
                gone.push(user["uid"].clone());
            }
        }
        let f = fate(&v, |u| !gone.contains(&u["uid"]));
        // As it was seen: a new user in between must not be lost.
        if f.users.is_some() || f.deallocate {
            if let Some(users) = f.users {
                v["status"]["reservedFor"] = Value::Array(users);
            }
            if f.deallocate
                && let Some(status) = v["status"].as_object_mut()
            {
                status.remove("allocation");
            }
            v = self.ctx.client.update(&CLAIMS, &key.0, &key.1, "status", &v).await?.value()?;
        }
        if f.unprotect {
            if let Some(all) = v["metadata"]["finalizers"].as_array_mut() {
                all.retain(|f| f != FINALIZER);
            }
            match self.ctx.client.update(&CLAIMS, &key.0, &key.1, "", &v).await {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
        if f.unused
            && !claim.meta().is_deleting()
            && let Some((name, uid)) = owner(&v)
            && let Some(pod) = self.pods.get(&key.0, name)
            && (pod.uid() != uid || is_done(&pod.value()?))
        {
            let options = DeleteOptions::uid(claim.uid());
            self.ctx.client.delete_if_there(&CLAIMS, &key.0, &key.1, &options).await?;
        }
        Ok(Next::Wait)
    }
}
