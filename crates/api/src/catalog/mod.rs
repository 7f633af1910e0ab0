//! What resources exist: one `Descriptor` per group-resource, with names, storage key, versions, subresources and
//! selectable fields. The built-in catalog is made once from `data/resources.txt`; a custom resource makes the same
//! structure at run time. Owns the built-in catalog, spawns nothing.

mod builtin;
pub mod custom;
mod fields;
pub mod runtime_config;

use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::schema::{Definition, DefinitionRef};

pub use builtin::builtin;
pub use fields::{FieldFormat, SelectableField};
pub use runtime_config::RuntimeConfig;

/// One resource of one group, in all its versions.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Empty for the core group.
    pub group: String,
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// Where objects live in the store, e.g. `/registry/minions`; no slash at the end.
    pub key_prefix: String,
    /// The form in which objects are worked on and, but for custom resources, stored. The group differs from `group` only
    /// where two groups show the same objects (events).
    pub hub: Hub,
    /// The version in which objects are stored from now on.
    pub storage_version: String,
    /// In discovery order, the preferred version first.
    pub versions: Vec<Version>,
    pub selectable_fields: Vec<SelectableField>,
    /// False for kinds that are answered and not kept (reviews, bindings).
    pub stored: bool,
    /// Made from a CustomResourceDefinition.
    pub custom: bool,
    /// Its definition is being deleted: nothing new is made.
    pub terminating: bool,
    /// Who turns one version of a custom resource into another; without it they differ in name only.
    pub converter: Option<Arc<custom::Converter>>,
}

/// Group, version and kind of the stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    pub group: String,
    pub version: String,
    pub kind: String,
}

/// Maturity of a version; only GA is served unless the runtime configuration says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Ga,
    Beta,
    Alpha,
}

impl Stage {
    /// From a version's name: `v1`, `v1beta1`, `v1alpha2`.
    pub fn of_version(version: &str) -> Self {
        if version.contains("alpha") {
            Stage::Alpha
        } else if version.contains("beta") {
            Stage::Beta
        } else {
            Stage::Ga
        }
    }
}

/// One version of a resource.
#[derive(Debug, Clone)]
pub struct Version {
    pub name: String,
    pub stage: Stage,
    pub served: bool,
    pub verbs: Vec<String>,
    pub schema: Schema,
    pub conversion: Conversion,
    pub subresources: Vec<Subresource>,
    /// `openAPIV3Schema` of a custom resource, for the OpenAPI documents.
    pub openapi: Option<Arc<Value>>,
    /// Text of the Warning header for a deprecated version.
    pub deprecation_warning: Option<String>,
    /// What only custom resources have.
    pub custom: Option<Arc<custom::Custom>>,
    /// Whether it can travel as protobuf, once that was asked.
    pub protobuf: OnceLock<bool>,
}

/// Where the schema of a version comes from.
#[derive(Debug, Clone)]
pub enum Schema {
    /// A built-in definition, parsed when asked for.
    Builtin(DefinitionRef),
    Custom(Arc<Definition>),
    None,
}

impl Schema {
    pub fn definition(&self) -> Option<&Definition> {
        match self {
            Schema::Builtin(d) => Some(d.get()),
            Schema::Custom(d) => Some(d),
            Schema::None => None,
        }
    }
}

/// How a version's JSON becomes the hub's and back. apiVersion and kind are set by the caller in both cases.
#[derive(Debug, Clone, Copy)]
pub enum Conversion {
    /// Same shape: only apiVersion differs.
    Same,
    Functions {
        to_hub: fn(&mut Value),
        from_hub: fn(&mut Value),
    },
}

/// `pods/log`, `deployments/scale`, ...
#[derive(Debug, Clone)]
pub struct Subresource {
    pub name: String,
    /// The kind of its body.
    pub kind: String,
    pub group: String,
    pub version: String,
    pub verbs: Vec<String>,
    /// HTTP methods.
    pub methods: Vec<String>,
    /// A stream (exec, attach, port-forward, proxy).
    pub connect: bool,
    /// A path follows (`proxy/{path}`).
    pub path_tail: bool,
}

/// A name that is not in the catalog's object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    #[error("version {version} of {resource} is unknown")]
    UnknownVersion { resource: String, version: String },
    #[error("field label not supported: {0}")]
    FieldLabel(String),
    #[error("{0:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")]
    OnlyMetadata(String),
}

impl Descriptor {
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name)
    }

    pub fn served(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(|v| v.served)
    }

    pub fn is_served(&self) -> bool {
        self.versions.iter().any(|v| v.served)
    }

    /// `pods` or `deployments.apps`, as messages name the resource.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self, version: &str) -> String {
        api_version(&self.group, version)
    }

    /// apiVersion of the stored form.
    pub fn hub_api_version(&self) -> String {
        api_version(&self.hub.group, &self.hub.version)
    }

    /// The definition of the stored form.
    pub fn hub_definition(&self) -> Option<&Definition> {
        if self.hub.group == self.group {
            return self.version(&self.hub.version)?.schema.definition();
        }
        crate::schema::definition_for(&self.hub.group, &self.hub.version, &self.hub.kind)
    }

    /// Key of one object, or of the prefix of a namespace's objects when `name` is empty (with a slash at the end).
    pub fn key(&self, namespace: &str, name: &str) -> String {
        let mut k = String::with_capacity(self.key_prefix.len() + namespace.len() + name.len() + 2);
        k.push_str(&self.key_prefix);
        k.push('/');
        if self.namespaced && !namespace.is_empty() {
            k.push_str(namespace);
            k.push('/');
        }
        k.push_str(name);
        k
    }

    /// Rewrites an object of `version` into the stored form.
    pub fn to_hub(&self, version: &str, v: &mut Value) -> Result<(), CatalogError> {
        let from = self.need(version)?;
        if let Conversion::Functions { to_hub, .. } = from.conversion {
            to_hub(v);
        }
        set_type(v, self.hub_api_version(), &self.hub.kind);
        Ok(())
    }

    /// Rewrites a stored object into `version`.
    pub fn from_hub(&self, version: &str, v: &mut Value) -> Result<(), CatalogError> {
        let to = self.need(version)?;
        if let Conversion::Functions { from_hub, .. } = to.conversion {
            from_hub(v);
        }
        set_type(v, self.api_version(version), &self.kind);
        Ok(())
    }

    /// True when objects are worked on in `version`.
    pub fn is_hub(&self, version: &str) -> bool {
        self.hub.version == version && self.hub.group == self.group
    }

    /// True when stored bytes can be sent as `version` without any rewriting. Those of a custom resource may be in a
    /// version that was stored earlier, or lack a default that came later.
    pub fn is_stored_as(&self, version: &str) -> bool {
        self.is_hub(version)
            && (!self.custom
                || self.versions.len() == 1 && !self.custom_of(version).is_some_and(|c| c.has_defaults))
    }

    /// The same resource, its objects worked on in `version`: requests for custom resources judge, change and compare
    /// them in the version that was asked for.
    pub fn in_version(&self, version: &str) -> Self {
        let mut d = self.clone();
        d.hub.version = version.to_owned();
        d
    }

    /// Whether objects of the version can travel as protobuf.
    pub fn has_protobuf(&self, version: &str) -> bool {
        !self.custom
            && self.version(version).is_some_and(|v| {
                *v.protobuf.get_or_init(|| crate::protobuf::supports(&self.group, version, &self.kind))
            })
    }

    /// What a version of a custom resource has beyond a built-in one.
    pub fn custom_of(&self, version: &str) -> Option<&custom::Custom> {
        self.version(version)?.custom.as_deref()
    }

    fn need(&self, version: &str) -> Result<&Version, CatalogError> {
        self.version(version).ok_or_else(|| CatalogError::UnknownVersion {
            resource: self.group_resource(),
            version: version.to_string(),
        })
    }

    /// The selectable field of a version behind a label of a field selector.
    pub fn selectable(&self, version: &str, label: &str) -> Result<&SelectableField, CatalogError> {
        let custom = self.custom_of(version);
        let here = |l: &str| {
            l.starts_with("metadata.") || custom.is_none_or(|c| c.selectable.iter().any(|s| s == l))
        };
        self.selectable_fields.iter().find(|f| f.label == label && here(label)).ok_or_else(|| {
            if self.selectable_fields.iter().filter(|f| here(&f.label)).count() > 2 {
                CatalogError::FieldLabel(label.to_string())
            } else {
                CatalogError::OnlyMetadata(label.to_string())
            }
        })
    }

    /// Values of all selectable fields of a stored object.
    pub fn field_values(&self, v: &Value) -> Vec<(&str, String)> {
        self.selectable_fields.iter().map(|f| (f.label.as_str(), f.value(v))).collect()
    }
}

impl Version {
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// `v1` for the core group, `group/version` otherwise.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_string() } else { format!("{group}/{version}") }
}

fn set_type(v: &mut Value, api_version: String, kind: &str) {
    if let Some(o) = v.as_object_mut() {
        o.insert("apiVersion".into(), Value::String(api_version));
        o.insert("kind".into(), Value::String(kind.to_string()));
    }
}

/// A set of descriptors with lookups. Cheap to clone entry by entry, so that a catalog with custom resources is made
/// beside the old one and swapped in.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Sorted by group, then plural.
    entries: Vec<Arc<Descriptor>>,
    /// The same, sorted by group, then kind, then plural.
    by_kind: Vec<Arc<Descriptor>>,
    /// The same, sorted by the hash of group and plural: every request looks several up.
    by_hash: Vec<(u64, Arc<Descriptor>)>,
}

impl Catalog {
    pub fn new(descriptors: impl IntoIterator<Item = Arc<Descriptor>>) -> Self {
        let mut entries: Vec<Arc<Descriptor>> = descriptors.into_iter().collect();
        entries.sort_by(|a, b| plural_key(a).cmp(&plural_key(b)));
        entries.dedup_by(|a, b| plural_key(a) == plural_key(b));
        let mut by_kind = entries.clone();
        by_kind.sort_by(|a, b| kind_key(a).cmp(&kind_key(b)));
        let mut by_hash: Vec<_> = entries.iter().map(|d| (hash(&d.group, &d.plural), d.clone())).collect();
        by_hash.sort_by_key(|(h, _)| *h);
        Catalog { entries, by_kind, by_hash }
    }

    /// Adds one, in the place of another with the same group and plural.
    pub fn insert(&mut self, d: Arc<Descriptor>) {
        self.remove(&d.group, &d.plural);
        let at = self.entries.partition_point(|e| plural_key(e) < plural_key(&d));
        self.entries.insert(at, d.clone());
        let at = self.by_kind.partition_point(|e| kind_key(e) < kind_key(&d));
        self.by_kind.insert(at, d.clone());
        let key = hash(&d.group, &d.plural);
        let at = self.by_hash.partition_point(|(h, _)| *h < key);
        self.by_hash.insert(at, (key, d));
    }

    pub fn remove(&mut self, group: &str, plural: &str) {
        let Ok(at) = self.entries.binary_search_by(|e| plural_key(e).cmp(&(group, plural))) else { return };
        let gone = self.entries.remove(at);
        if let Ok(at) = self.by_kind.binary_search_by(|e| kind_key(e).cmp(&kind_key(&gone))) {
            self.by_kind.remove(at);
        }
        self.by_hash.retain(|(_, d)| !Arc::ptr_eq(d, &gone));
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Descriptor>> {
        self.entries.iter()
    }
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn by_plural(&self, group: &str, plural: &str) -> Option<&Arc<Descriptor>> {
        let key = hash(group, plural);
        let from = self.by_hash.partition_point(|(h, _)| *h < key);
        let same = self.by_hash.iter().skip(from).take_while(|(h, _)| *h == key);
        same.map(|(_, d)| d).find(|d| plural_key(d) == (group, plural))
    }

    pub fn by_kind(&self, group: &str, kind: &str) -> Option<&Arc<Descriptor>> {
        let at = self.by_kind.partition_point(|d| (d.group.as_str(), d.kind.as_str()) < (group, kind));
        self.by_kind.get(at).filter(|d| d.group == group && d.kind == kind)
    }

    /// The groups, core first, then by name.
    pub fn groups(&self) -> Vec<&str> {
        let mut g: Vec<&str> = self.entries.iter().map(|d| d.group.as_str()).collect();
        g.dedup();
        g
    }

    /// Whether a group has that version.
    pub fn serves(&self, group: &str, version: &str) -> bool {
        let from = self.entries.partition_point(|d| d.group.as_str() < group);
        let group = self.entries.iter().skip(from).take_while(|d| d.group == group);
        group.into_iter().any(|d| d.version(version).is_some_and(|v| v.served))
    }

    /// The served versions of a group, the preferred one first.
    pub fn group_versions(&self, group: &str) -> Vec<&str> {
        let mut out: Vec<&str> = Vec::new();
        for v in self.entries.iter().filter(|d| d.group == group).flat_map(|d| d.served()) {
            if !out.contains(&v.name.as_str()) {
                out.push(&v.name);
            }
        }
        out.sort_by_key(|v| std::cmp::Reverse(version_priority(v)));
        out
    }

    /// The resources that a group version serves.
    pub fn resources(
        &self,
        group: &str,
        version: &str,
    ) -> impl Iterator<Item = (&Arc<Descriptor>, &Version)> {
        self.entries.iter().filter(move |d| d.group == group).filter_map(move |d| {
            let v = d.version(version).filter(|v| v.served)?;
            Some((d, v))
        })
    }
}

/// FNV-1a.
fn hash(group: &str, plural: &str) -> u64 {
    let bytes = group.bytes().chain([0]).chain(plural.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

fn plural_key(d: &Descriptor) -> (&str, &str) {
    (&d.group, &d.plural)
}

fn kind_key(d: &Descriptor) -> (&str, &str, &str) {
    (&d.group, &d.kind, &d.plural)
}

/// Orders version names as upstream does: v2 > v1 > v1beta2 > v1beta1 > v1alpha1 > anything else.
pub fn version_priority(v: &str) -> (u8, u32, u32) {
    fn number(s: &str) -> Option<(u32, &str)> {
        let end = s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len());
        let (digits, rest) = s.split_at(end);
        Some((digits.parse().ok()?, rest))
    }
    let parsed = v.strip_prefix('v').and_then(number);
    let Some((major, rest)) = parsed else { return (0, 0, 0) };
    if rest.is_empty() {
        return (3, major, 0);
    }
    for (word, class) in [("beta", 2), ("alpha", 1)] {
        if let Some((minor, "")) = rest.strip_prefix(word).and_then(number) {
            return (class, major, minor);
        }
    }
    (0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(group: &str, plural: &str, kind: &str) -> Arc<Descriptor> {
        let pods = builtin().by_plural("", "pods").expect("pods");
        let text = str::to_owned;
        Arc::new(Descriptor {
            group: text(group),
            plural: text(plural),
            kind: text(kind),
            ..(**pods).clone()
        })
    }

    #[test]
    fn what_comes_and_goes_keeps_the_order() {
        let all = [("b", "xs", "X"), ("a", "ys", "A"), ("a", "xs", "Z"), ("", "zs", "Z"), ("b", "ws", "X")];
        let made = |n: usize| all[..n].iter().map(|(g, p, k)| descriptor(g, p, k)).collect::<Vec<_>>();
        let names = |c: &[Arc<Descriptor>]| {
            c.iter().map(|d| format!("{}/{}/{}", d.group, d.plural, d.kind)).collect::<Vec<_>>()
        };
        let mut c = Catalog::default();
        for n in 1..=all.len() {
            c.insert(made(n).pop().expect("one"));
            let whole = Catalog::new(made(n));
            assert_eq!(names(&c.entries), names(&whole.entries));
            assert_eq!(names(&c.by_kind), names(&whole.by_kind));
            let hashes = |c: &Catalog| c.by_hash.iter().map(|(h, _)| *h).collect::<Vec<_>>();
            assert_eq!(hashes(&c), hashes(&whole));
        }
        assert_eq!(c.by_kind("b", "X").map(|d| d.plural.as_str()), Some("ws"));
        // The kind of a resource may change.
        c.insert(descriptor("b", "ws", "W"));
        assert_eq!((c.len(), c.by_kind.len(), c.by_hash.len()), (5, 5, 5));
        assert_eq!(c.by_kind("b", "X").map(|d| d.plural.as_str()), Some("xs"));
        assert_eq!(c.by_plural("b", "ws").map(|d| d.kind.as_str()), Some("W"));
        for (g, p, k) in all {
            c.remove(g, p);
            assert!(c.by_plural(g, p).is_none() && c.by_kind(g, k).is_none_or(|d| d.plural != p));
        }
        c.remove("b", "xs");
        assert!(c.is_empty() && c.by_kind.is_empty() && c.by_hash.is_empty());
    }
}
