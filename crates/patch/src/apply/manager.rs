//! The front of server-side apply: takes whole objects, reads and writes their `managedFields`, and adds what surrounds
//! the rules (checks of the request, tracking from the first apply on, the client-side apply annotation).

use super::conflict::Conflicts;
use super::element::PathElement;
use super::filter::Filter;
use super::managers::{self, ManagerId, Managers, Operation, Trust};
use super::set::Set;
use super::typed::{field_set, validate};
use super::updater::{Fault, Updater, current_operation, strip};
use super::versions::Versions;
use super::{compare::compare, last_applied};
use crate::error::{Error, Result};
use crate::schema::{Type, empty_object};
use serde_json::{Value, json};

/// Tracks owners at one endpoint of one version of a resource.
#[derive(Clone, Copy)]
pub struct FieldManager<'a> {
    pub versions: &'a dyn Versions,
    /// apiVersion and kind of the objects handed in.
    pub api_version: &'a str,
    pub kind: &'a str,
    /// Empty for the main endpoint.
    pub subresource: &'a str,
    pub filter: Option<&'a Filter>,
}

/// The outcome of an apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// With its `managedFields`.
    pub object: Value,
    /// False when nothing but owners changed.
    pub changed: bool,
}

impl<'a> FieldManager<'a> {
    fn ty(&self) -> Result<Type<'a>> {
        self.versions.ty(self.api_version).ok_or_else(|| {
            Error::Failed(format!("no corresponding type for {}", gvk(self.api_version, self.kind)))
        })
    }

    fn updater(&self, ty: Type<'a>) -> Updater<'a> {
        Updater { versions: self.versions, api_version: self.api_version, ty, filter: self.filter }
    }

    /// What an object is before it exists: structs are there, and so creating does not own them.
    fn nothing(&self, ty: Type<'_>) -> Value {
        let mut v = ty.definition().map_or_else(|| json!({"metadata": {}}), empty_object);
        if let Some(m) = v.as_object_mut() {
            m.insert("apiVersion".into(), self.api_version.into());
            m.insert("kind".into(), self.kind.into());
        }
        v
    }

    /// Tracks a create (`live` is `None`), update or patch; `now` is RFC 3339 in whole seconds. Cannot fail: when
    /// owners cannot be worked out they stay what they were.
    pub fn update(&self, live: Option<&Value>, new: Value, manager: &str, now: &str) -> Value {
        let mut new = new;
        if new.get("metadata").is_none_or(|m| !m.is_object()) {
            return new;
        }
        let live_entries = live.and_then(managers::of);
        let owners = self.owners(live_entries, managers::take(&mut new));
        let tracked = self.ty().and_then(|ty| {
            let nothing;
            let before = match live {
                Some(v) => v,
                None => {
                    nothing = self.nothing(ty);
                    &nothing
                }
            };
            self.track(ty, before, &new, owners, manager, now).map_err(Error::Failed)
        });
        let entries = match tracked {
            Ok(m) => managers::encode(m),
            Err(_) => live_entries.cloned(),
        };
        managers::put(&mut new, entries);
        new
    }

    /// Owners to start from: a client may rewrite them at the main endpoint, and may forget them by accident.
    fn owners(&self, live: Option<&Value>, new: Option<Value>) -> Managers {
        let stored = || managers::decode(live.cloned(), Trust::Stored).unwrap_or_default();
        if !self.subresource.is_empty() {
            return stored();
        }
        if managers::is_reset(new.as_ref()) {
            return Managers::new();
        }
        let trust = if new.as_ref() == live { Trust::Stored } else { Trust::Foreign };
        match managers::decode(new, trust) {
            Ok(m) if !m.is_empty() => m,
            _ => stored(),
        }
    }

    fn track(
        &self,
        ty: Type<'a>,
        live: &Value,
        new: &Value,
        mut owners: Managers,
        manager: &str,
        now: &str,
    ) -> std::result::Result<Managers, String> {
        // Objects whose owners were given up stay without until the next apply.
        let exists = live.pointer("/metadata/uid").and_then(Value::as_str).is_some_and(|u| !u.is_empty());
        if owners.is_empty() && exists {
            return Ok(owners);
        }
        self.track_change(ty, live, new, &mut owners, manager, now)?;
        Ok(owners)
    }

    fn track_change(
        &self,
        ty: Type<'a>,
        live: &Value,
        new: &Value,
        owners: &mut Managers,
        manager: &str,
        now: &str,
    ) -> std::result::Result<(), String> {
        let current = current_operation();
        self.updater(ty).update(live, new, owners, &current).map_err(|f| match f {
            Fault::Failed(m) => m,
            Fault::Conflicts(c) => c.to_string(),
        })?;
        strip(owners, &current)?;
        if let Some(mut entry) = owners.remove(&current) {
            let id = ManagerId::new(manager, Operation::Update, self.api_version, self.subresource);
            if let Some(before) = owners.remove(&id) {
                let both = entry.take()?.union(before.into_set()?);
                entry.replace(both);
            }
            entry.time = Some(now.to_owned());
            owners.insert(id, entry);
        }
        managers::cap(owners)
    }

    /// Applies a configuration on the live object (`None`: it is created). `now` is RFC 3339 in whole seconds.
    pub fn apply(
        &self,
        live: Option<&Value>,
        config: &Value,
        manager: &str,
        force: bool,
        now: &str,
    ) -> Result<Applied> {
        let ty = self.ty()?;
        self.check(config, ty)?;
        let mut before = live.cloned().unwrap_or_else(|| self.nothing(ty));
        let mut owners = managers::decode(managers::take(&mut before), Trust::Stored)
            .map_err(|e| Error::Failed(format!("failed to decode managed fields: {e}")))?;

        if owners.is_empty() && live.is_some() {
            self.track_change(ty, &self.nothing(ty), &before, &mut owners, "before-first-apply", now)
                .map_err(|e| Error::Failed(format!("failed to create manager for existing fields: {e}")))?;
        }
        let id = ManagerId::new(manager, Operation::Apply, self.api_version, self.subresource);
        let once = |mut owners: Managers, force: bool| {
            self.updater(ty).apply(&before, config, &mut owners, &id, force).map(|new| (new, owners))
        };
        // kubectl takes over what client-side apply left behind.
        let heir = manager == "kubectl" && !force && last_applied::of(&before).is_some();
        let spare = heir.then(|| owners.clone());
        let outcome = match (once(owners, force), spare) {
            (Err(Fault::Conflicts(c)), Some(spare)) => match self.left_by_client_side(&before, ty) {
                None => Err(Fault::Conflicts(c)),
                Some(allowed) => {
                    let rest: Vec<_> = c.0.into_iter().filter(|c| !allowed.has(&c.path)).collect();
                    if rest.is_empty() { once(spare, true) } else { Err(Fault::Conflicts(Conflicts(rest))) }
                }
            },
            (other, _) => other,
        };
        let (new, mut owners) = outcome.map_err(|f| match f {
            Fault::Failed(m) => Error::Failed(m),
            Fault::Conflicts(c) => Error::Conflict(c),
        })?;
        strip(&mut owners, &id).map_err(Error::Failed)?;
        let mut changed = new.is_some();
        let mut object = new.unwrap_or(before);
        if changed && let Some(e) = owners.get_mut(&id) {
            e.time = Some(now.to_owned());
        }
        if manager == "kubectl" {
            changed |= last_applied::keep_in_step(&mut object, config);
        }
        if object.get("metadata").is_none() {
            object["metadata"] = json!({});
        }
        managers::put(&mut object, managers::encode(owners));
        Ok(Applied { object, changed })
    }

    fn check(&self, config: &Value, ty: Type<'_>) -> Result<()> {
        let text = |k: &str| config.get(k).and_then(Value::as_str).unwrap_or_default();
        if !config.is_object() {
            return Err(Error::BadRequest("error decoding YAML: an apply patch must be an object".into()));
        }
        if (text("apiVersion"), text("kind")) != (self.api_version, self.kind) {
            let got = gvk(text("apiVersion"), text("kind"));
            return Err(Error::BadRequest(format!("invalid object type: {got}")));
        }
        if managers::of(config).and_then(Value::as_array).is_some_and(|a| !a.is_empty()) {
            return Err(Error::BadRequest("metadata.managedFields must be nil".into()));
        }
        let errors = validate(config, ty);
        if errors.is_empty() {
            return Ok(());
        }
        let meta =
            |k: &str| config.pointer(&format!("/metadata/{k}")).and_then(Value::as_str).unwrap_or_default();
        Err(Error::Failed(format!(
            "failed to create typed patch object ({}/{}; {}): {errors}",
            meta("namespace"),
            meta("name"),
            gvk(self.api_version, self.kind)
        )))
    }

    /// The fields that the client-side apply annotation and the object agree on.
    fn left_by_client_side(&self, live: &Value, ty: Type<'_>) -> Option<Set> {
        let last: Value = serde_json::from_str(last_applied::of(live)?).ok()?;
        if last.get("apiVersion").and_then(Value::as_str) != Some(self.api_version)
            || !validate(&last, ty).is_empty()
        {
            return None;
        }
        let c = compare(&last, live, ty).ok()?;
        Some(field_set(&last, ty).difference(&c.modified).difference(&c.added).difference(&c.removed))
    }
}

/// `apps/v1, Kind=Deployment`
fn gvk(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

/// `.metadata.annotations` and the like, for callers that need a path.
pub fn field_path(names: &[&str]) -> super::element::Path {
    names.iter().map(|n| PathElement::field(*n)).collect()
}
