//! Owners speak in the version they wrote in: the types and conversions of a resource's versions.

use crate::schema::Type;
use api::catalog::Descriptor;
use serde_json::Value;
use std::borrow::Cow;

/// What the tracking of owners needs of a resource.
pub trait Versions {
    /// The type of objects of an apiVersion; `None` when the version is not known (any more): its owners are dropped.
    fn ty(&self, api_version: &str) -> Option<Type<'_>>;

    /// An object of `from` as `to` has it; only called with two different versions that have a type.
    fn convert(&self, object: &Value, from: &str, to: &str) -> Result<Value, String>;

    /// Whether lists and maps may have become atomic since entries were written (custom resources).
    fn may_have_changed(&self) -> bool {
        true
    }
}

/// One version only.
#[derive(Debug, Clone, Copy)]
pub struct OneVersion<'a> {
    pub api_version: &'a str,
    pub ty: Type<'a>,
}

impl Versions for OneVersion<'_> {
    fn ty(&self, api_version: &str) -> Option<Type<'_>> {
        (api_version == self.api_version).then_some(self.ty)
    }
    fn convert(&self, _: &Value, from: &str, to: &str) -> Result<Value, String> {
        Err(format!("no conversion from {from} to {to}"))
    }
}

/// The versions of the catalog.
#[derive(Debug, Clone, Copy)]
pub struct CatalogVersions<'a>(pub &'a Descriptor);

impl CatalogVersions<'_> {
    fn name<'v>(&self, api_version: &'v str) -> Option<&'v str> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        (group == self.0.group).then_some(version)
    }
}

impl Versions for CatalogVersions<'_> {
    fn ty(&self, api_version: &str) -> Option<Type<'_>> {
        let v = self.0.version(self.name(api_version)?)?;
        Some(v.schema.definition().map_or(Type::DEDUCED, Type::of))
    }

    fn convert(&self, object: &Value, from: &str, to: &str) -> Result<Value, String> {
        let unknown = |v: &str| format!("version {v} of {} is unknown", self.0.group_resource());
        let mut out = object.clone();
        self.0.to_hub(self.name(from).ok_or_else(|| unknown(from))?, &mut out).map_err(|e| e.to_string())?;
        self.0.from_hub(self.name(to).ok_or_else(|| unknown(to))?, &mut out).map_err(|e| e.to_string())?;
        Ok(out)
    }

    fn may_have_changed(&self) -> bool {
        self.0.versions.iter().any(|v| matches!(v.schema, api::catalog::Schema::Custom(_)))
    }
}

/// `None` when the version is not known.
pub(crate) fn convert<'v>(
    versions: &dyn Versions,
    object: &'v Value,
    from: &str,
    to: &str,
) -> Result<Option<Cow<'v, Value>>, String> {
    if from == to {
        return Ok(Some(Cow::Borrowed(object)));
    }
    if versions.ty(to).is_none() {
        return Ok(None);
    }
    versions.convert(object, from, to).map(|v| Some(Cow::Owned(v)))
}
