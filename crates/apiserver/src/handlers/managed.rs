//! `metadata.managedFields`: who owns which field. The bookkeeping itself is pure and lives in `patch`.

use std::cell::RefCell;
use std::collections::HashMap;

use api::Status;
use async_trait::async_trait;
use patch::apply::{CatalogVersions, FieldManager, Filter, Versions, filter};
use serde_json::Value;

use super::update::Transform;
use super::write::Write;
use super::{Target, convert, decode, meta};
use crate::adapt;
use crate::server::ApiServer;

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

/// How often a computation is done again because it needed one more conversion.
const ROUNDS: usize = 32;

/// Objects (as text) and the apiVersions that a webhook has given them in.
type Converted = HashMap<(String, String), Result<Value, String>>;

/// The versions of a resource whose objects a webhook converts. It can't be waited for in here: what is not known yet is
/// noted, fetched by `settled`, and the computation done again.
struct Known<'a> {
    plain: CatalogVersions<'a>,
    converted: &'a Converted,
    missing: RefCell<Vec<(Value, String)>>,
}

impl Versions for Known<'_> {
    fn ty(&self, api_version: &str) -> Option<patch::Type<'_>> {
        self.plain.ty(api_version)
    }
    fn convert(&self, object: &Value, from: &str, to: &str) -> Result<Value, String> {
        if self.plain.0.converter.is_none() {
            return self.plain.convert(object, from, to);
        }
        match self.converted.get(&(object.to_string(), to.to_owned())) {
            Some(r) => r.clone(),
            None => {
                self.missing.borrow_mut().push((object.clone(), to.to_owned()));
                Err("not converted yet".into())
            }
        }
    }
    fn may_have_changed(&self) -> bool {
        self.plain.may_have_changed()
    }
}

/// The result of `run` once every conversion that it asks for is known.
async fn settled<T>(
    s: &ApiServer,
    target: &Target,
    run: impl Fn(&dyn Versions) -> T + Send + Sync,
) -> Result<T, Status>
where
    T: Send,
{
    let mut converted = Converted::new();
    for _ in 0..ROUNDS {
        let missing = {
            let plain = CatalogVersions(&target.kind);
            let known = Known { plain, converted: &converted, missing: RefCell::default() };
            let result = run(&known);
            let missing = known.missing.into_inner();
            if missing.is_empty() {
                return Ok(result);
            }
            missing
        };
        for (object, to) in missing {
            let version = to.rsplit('/').next().unwrap_or_default();
            let key = (object.to_string(), to.clone());
            let all = convert::values(s.reader().as_ref(), &target.kind, version, vec![object]).await;
            let one = all.map_err(|e| e.message).and_then(|v| v.into_iter().next().ok_or_else(String::new));
            converted.insert(key, one);
        }
    }
    Err(Status::internal("the owners of fields could not be worked out: too many conversions"))
}

fn manager<'a>(
    target: &'a Target,
    api_version: &'a str,
    sub: &'a str,
    filter: Option<&'a Filter>,
    versions: &'a dyn Versions,
) -> FieldManager<'a> {
    FieldManager { versions, api_version, kind: &target.kind.kind, subresource: sub, filter }
}

/// After a create (`old` is `None`) or an update that is no apply. What the writer did not change stays others'.
pub async fn on_write(
    w: &Write<'_>,
    new: &mut Value,
    old: Option<&Value>,
    m: &Manager<'_>,
) -> Result<(), Status> {
    let target = w.target;
    let api_version = target.api_version();
    let filter = endpoint_filter(target, m.subresource);
    if target.is_hub() {
        if target.kind.converter.is_none() {
            let versions = CatalogVersions(&target.kind);
            let fm = manager(target, &api_version, m.subresource, filter.as_ref(), &versions);
            *new = fm.update(old, new.take(), m.name, m.now);
            return Ok(());
        }
        *new = settled(w.server, target, |versions| {
            let fm = manager(target, &api_version, m.subresource, filter.as_ref(), versions);
            fm.update(old, new.clone(), m.name, m.now)
        })
        .await?;
        return Ok(());
    }
    let versions = CatalogVersions(&target.kind);
    let fm = manager(target, &api_version, m.subresource, filter.as_ref(), &versions);
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
    server: &'a ApiServer,
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
            server: w.server,
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
}

#[async_trait]
impl Transform for Apply<'_> {
    /// The applied object, owners included.
    async fn make(&mut self, old: Option<&Value>) -> Result<Value, Status> {
        let api_version = self.target.api_version();
        let live = match old {
            Some(o) => {
                let mut o = o.clone();
                decode::from_hub(self.target, &mut o)?;
                Some(o)
            }
            None => None,
        };
        let this = &*self;
        let applied = settled(this.server, this.target, |versions| {
            manager(this.target, &api_version, this.sub, this.filter.as_ref(), versions).apply(
                live.as_ref(),
                &this.config,
                this.manager,
                this.force,
                &this.now,
            )
        })
        .await?;
        let applied = applied.map_err(|e| adapt::patch_error(&self.target.kind, self.name, e))?;
        let mut v = applied.object;
        decode::to_hub(self.target, &mut v)?;
        Ok(v)
    }
}
