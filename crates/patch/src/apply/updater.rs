//! The rules of ownership: who loses and gains fields when an object changes, and what an apply may take away.

use super::compare::{Comparison, compare};
use super::conflict::{Conflict, Conflicts};
use super::filter::Filter;
use super::managers::{Entry, ManagerId, Managers, Operation};
use super::merge::merge;
use super::reconcile::reconcile;
use super::remove::{Emptied, remove};
use super::set::Set;
use super::typed::field_set;
use super::value::equal;
use super::versions::{Versions, convert};
use crate::schema::Type;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

pub(crate) enum Fault {
    Conflicts(Conflicts),
    Failed(String),
}

impl From<String> for Fault {
    fn from(m: String) -> Self {
        Fault::Failed(m)
    }
}

pub(crate) struct Updater<'a> {
    pub versions: &'a dyn Versions,
    /// The version objects are handed in as.
    pub api_version: &'a str,
    pub ty: Type<'a>,
    pub filter: Option<&'a Filter>,
}

impl Updater<'_> {
    fn filtered(&self, set: Set) -> Set {
        match self.filter {
            Some(f) => f.apply(set),
            None => set,
        }
    }

    fn compare(&self, old: &Value, new: &Value, ty: Type<'_>) -> Result<Comparison, String> {
        let c = compare(old, new, ty).map_err(|e| format!("failed to compare objects: {e}"))?;
        Ok(match self.filter {
            None => c,
            Some(f) => Comparison {
                removed: f.apply(c.removed),
                modified: f.apply(c.modified),
                added: f.apply(c.added),
            },
        })
    }

    /// Drops entries of unknown versions and brings the others up to the schema.
    fn reconcile(&self, managers: &mut Managers) -> Result<(), String> {
        managers.retain(|_, e| self.versions.ty(&e.api_version).is_some());
        if self.versions.may_have_changed() {
            for e in managers.values_mut() {
                if let Some(ty) = self.versions.ty(&e.api_version)
                    && let Some(set) = reconcile(&e.set()?, ty)
                {
                    e.replace(set);
                }
            }
        }
        Ok(())
    }

    /// Takes what changed from everybody but `workflow`.
    fn take(
        &self,
        old: &Value,
        new: &Value,
        managers: &mut Managers,
        workflow: &ManagerId,
        force: bool,
    ) -> Result<Comparison, Fault> {
        let mut comparisons: BTreeMap<String, Comparison> = BTreeMap::new();
        let own = self.compare(old, new, self.ty)?;
        comparisons.insert(self.api_version.to_owned(), own);
        let mut conflicts = Vec::new();
        let mut rest: Vec<(ManagerId, Set)> = Vec::new();
        for (id, e) in managers.iter().filter(|(id, _)| *id != workflow) {
            let v = e.api_version.as_str();
            if !comparisons.contains_key(v) {
                let (Some(o), Some(n), Some(ty)) = (
                    convert(self.versions, old, self.api_version, v)
                        .map_err(|e| format!("failed to convert old object: {e}"))?,
                    convert(self.versions, new, self.api_version, v)
                        .map_err(|e| format!("failed to convert new object: {e}"))?,
                    self.versions.ty(v),
                ) else {
                    continue;
                };
                comparisons.insert(v.to_owned(), self.compare(&o, &n, ty)?);
            }
            let Some(c) = comparisons.get(v) else { continue };
            if !(e.touches(&c.modified) || e.touches(&c.added) || e.touches(&c.removed)) {
                continue;
            }
            let set = e.set()?;
            let taken = set.intersection(&c.modified).union(set.intersection(&c.added));
            taken.for_each(|p| conflicts.push(Conflict { manager: id.clone(), path: p.to_vec() }));
            rest.push((id.clone(), set.difference(&taken).difference(&c.removed)));
        }
        if !force && !conflicts.is_empty() {
            return Err(Fault::Conflicts(Conflicts(conflicts)));
        }
        for (id, set) in rest {
            if let Some(e) = managers.get_mut(&id) {
                e.replace(set);
            }
        }
        managers.retain(|_, e| !e.is_empty());
        Ok(comparisons.remove(self.api_version).unwrap_or_default())
    }

    /// A write: `manager` owns what it changed.
    pub(crate) fn update(
        &self,
        old: &Value,
        new: &Value,
        managers: &mut Managers,
        manager: &ManagerId,
    ) -> Result<(), Fault> {
        self.reconcile(managers)?;
        let c = self.take(old, new, managers, manager, true)?;
        let mut before = managers.remove(manager).map_or_else(|| Ok(Set::default()), Entry::into_set)?;
        before.subtract(&c.removed, false);
        let set = self.filtered(before.union(c.modified).union(c.added));
        if !set.is_empty() {
            managers.insert(manager.clone(), Entry::new(self.api_version, set));
        }
        Ok(())
    }

    /// An apply. `None` for an object that does not change.
    pub(crate) fn apply(
        &self,
        live: &Value,
        config: &Value,
        managers: &mut Managers,
        manager: &ManagerId,
        force: bool,
    ) -> Result<Option<Value>, Fault> {
        self.reconcile(managers)?;
        let merged = merge(live, config, self.ty).map_err(|e| format!("failed to merge config: {e}"))?;
        let last = managers.remove(manager);
        let set = self.filtered(field_set(config, self.ty));
        let mut entry = Entry::new(self.api_version, set);
        entry.time = last.as_ref().and_then(|e| e.time.clone());
        managers.insert(manager.clone(), entry);
        let new = match last {
            Some(last) => self
                .prune(merged, managers, manager, &last)
                .map_err(|e| format!("failed to prune fields: {e}"))?,
            None => merged,
        };
        self.take(live, &new, managers, manager, force)?;
        Ok((!equal(live, &new)).then_some(new))
    }

    /// Takes away what the manager applied last time, did not apply now, and nobody else owns.
    fn prune(
        &self,
        merged: Value,
        managers: &Managers,
        manager: &ManagerId,
        last: &Entry,
    ) -> Result<Value, String> {
        let last_set = last.set()?;
        let now = managers.get(manager).map_or_else(|| Ok(Set::default()), Entry::set)?;
        if last_set.is_empty()
            || (last.api_version == self.api_version && last_set.difference(&now).is_empty())
        {
            return Ok(merged);
        }
        let version = last.api_version.as_str();
        let (Some(ty), Some(base)) =
            (self.versions.ty(version), convert(self.versions, &merged, self.api_version, version)?)
        else {
            return Ok(merged);
        };
        let last_named = last_set.with_named_fields(Some(ty));
        let pruned = remove(&base, ty, &last_named, Emptied::Null);
        let pruned = self.add_back_owned(&base, pruned, version, managers)?;

        // What stays away must have been the applier's own: fields of nobody, or of writers, come back.
        let all = field_set(&base, ty).with_named_fields(Some(ty));
        let kept = field_set(&pruned, ty).with_named_fields(Some(ty));
        let gone = all.difference(&kept).intersection(&last_named);
        let result = remove(&base, ty, &gone, Emptied::Gone);
        match convert(self.versions, &result, version, self.api_version)? {
            Some(v) => Ok(v.into_owned()),
            None => Err(format!("version {} is unknown", self.api_version)),
        }
    }

    /// Brings back what somebody owns, version by version, beginning with the one of `pruned`.
    fn add_back_owned(
        &self,
        base: &Value,
        pruned: Value,
        version: &str,
        managers: &Managers,
    ) -> Result<Value, String> {
        let mut owned: BTreeMap<&str, Set> = BTreeMap::new();
        for e in managers.values() {
            let slot = owned.entry(e.api_version.as_str()).or_default();
            *slot = std::mem::take(slot).union(e.set()?);
        }
        let first = owned.remove_entry(version);
        let (mut at, mut merged, mut pruned) = (version, base.clone(), pruned);
        for (v, set) in first.into_iter().chain(owned) {
            let (Some(ty), Some(m), Some(p)) = (
                self.versions.ty(v),
                convert(self.versions, &merged, at, v)?,
                convert(self.versions, &pruned, at, v)?,
            ) else {
                continue;
            };
            let named = |s: Set| s.with_named_fields(Some(ty));
            let keep = named(field_set(&p, ty)).union(named(set));
            let next = remove(&m, ty, &named(field_set(&m, ty)).difference(&keep), Emptied::Null);
            let m = m.into_owned();
            (at, merged, pruned) = (v, m, next);
        }
        match convert(self.versions, &pruned, at, version)? {
            Some(v) => Ok(v.into_owned()),
            None => Err(format!("version {version} is unknown")),
        }
    }
}

/// Bookkeeping fields that never are anybody's.
pub(crate) fn strip(managers: &mut Managers, manager: &ManagerId) -> Result<(), String> {
    if let Some(e) = managers.get_mut(manager) {
        let mut rest = e.take()?;
        rest.subtract(&NEVER_OWNED, false);
        if rest.is_empty() {
            managers.remove(manager);
        } else {
            e.replace(rest);
        }
    }
    Ok(())
}

static NEVER_OWNED: LazyLock<Set> = LazyLock::new(|| {
    use super::element::PathElement;
    let top = ["apiVersion", "kind", "metadata"].into_iter().map(|n| vec![PathElement::field(n)]);
    let meta = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    top.chain(meta.into_iter().map(|n| vec![PathElement::field("metadata"), PathElement::field(n)])).collect()
});

/// `current-operation`, so that a writer's own earlier fields are treated like everybody else's.
pub(crate) fn current_operation() -> ManagerId {
    ManagerId::new("current-operation", Operation::Update, "", "")
}
