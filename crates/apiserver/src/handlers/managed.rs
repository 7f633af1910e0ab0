//! `metadata.managedFields`: who owns which field. The bookkeeping itself is pure and lives in `patch`.

use api::Status;
use patch::apply::{CatalogVersions, FieldManager, Filter, filter};
use serde_json::Value;

use super::write::Write;
use super::{Target, decode, meta};
use crate::adapt;

/// Who writes, and when.
pub struct Manager<'a> {
    pub name: &'a str,
    /// Empty, `status`, `scale`, …
    pub subresource: &'a str,
    pub now: &'a str,
}

fn endpoint_filter(target: &Target, sub: &str) -> Option<Filter> {
    if target.kind.custom {
        return filter::custom(target.has_subresource("status"), sub);
    }
    filter::builtin(&target.kind.group, &target.kind.plural, sub)
}

/// After a create (`old` is `None`) or an update that is no apply. What the writer did not change stays others'.
pub fn on_write(
    target: &Target,
    new: &mut Value,
    old: Option<&Value>,
    m: &Manager<'_>,
) -> Result<(), Status> {
    let versions = CatalogVersions(&target.kind);
    let api_version = target.api_version();
    let filter = endpoint_filter(target, m.subresource);
    let fm = FieldManager {
        versions: &versions,
        api_version: &api_version,
        kind: &target.kind.kind,
        subresource: m.subresource,
        filter: filter.as_ref(),
    };
    if target.is_hub() {
        let v = fm.update(old, new.take(), m.name, m.now);
        *new = v;
        return Ok(());
    }
    let mut versioned = new.clone();
    decode::from_hub(target, &mut versioned)?;
    let old = match old {
        Some(o) => {
            let mut o = o.clone();
            decode::from_hub(target, &mut o)?;
            Some(o)
        }
        None => None,
    };
    let v = fm.update(old.as_ref(), versioned, m.name, m.now);
    let meta = meta::meta_mut(new)?;
    match v.pointer("/metadata/managedFields") {
        Some(f) => meta.insert("managedFields".into(), f.clone()),
        None => meta.remove("managedFields"),
    };
    Ok(())
}

/// A server-side apply, ready to be put on whatever is there.
pub struct Apply<'a> {
    target: &'a Target,
    name: &'a str,
    config: Value,
    force: bool,
    manager: &'a str,
    sub: &'a str,
    now: String,
    filter: Option<Filter>,
}

impl<'a> Apply<'a> {
    pub fn new(w: &'a Write<'a>, config: &Value, force: bool) -> Result<Self, Status> {
        let mut config = config.clone();
        if !config.is_object() {
            return Err(Status::bad_request("error decoding YAML: an apply patch must be an object"));
        }
        if meta::name(&config).is_empty() {
            meta::meta_mut(&mut config)?.insert("name".into(), w.call.name().into());
        }
        meta::agree(&mut config, w.target, w.call.namespace_or_own(w.target), w.call.name())?;
        Ok(Self {
            target: w.target,
            name: w.call.name(),
            config,
            force,
            manager: &w.manager,
            sub: w.sub,
            now: client::clock::rfc3339(client::clock::now()),
            filter: endpoint_filter(w.target, w.sub),
        })
    }

    /// The applied object in the stored version, owners included.
    pub fn on(&self, old: Option<&Value>) -> Result<Value, Status> {
        let versions = CatalogVersions(&self.target.kind);
        let api_version = self.target.api_version();
        let fm = FieldManager {
            versions: &versions,
            api_version: &api_version,
            kind: &self.target.kind.kind,
            subresource: self.sub,
            filter: self.filter.as_ref(),
        };
        let live = match old {
            Some(o) => {
                let mut o = o.clone();
                decode::from_hub(self.target, &mut o)?;
                Some(o)
            }
            None => None,
        };
        let applied = fm
            .apply(live.as_ref(), &self.config, self.manager, self.force, &self.now)
            .map_err(|e| adapt::patch_error(&self.target.kind, self.name, e))?;
        let mut v = applied.object;
        decode::to_hub(self.target, &mut v)?;
        Ok(v)
    }
}
