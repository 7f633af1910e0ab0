//! `metadata.managedFields`: who owns which fields. Entries stay encoded until somebody has to look inside.

use super::set::{Set, fields_touch};
use crate::gofmt;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// What tells two managers apart. Appliers are the same in every version, so their `api_version` is empty here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerId {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
}

impl ManagerId {
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let manager = if manager.is_empty() { "unknown" } else { manager };
        let api_version = if operation == Operation::Apply { "" } else { api_version };
        ManagerId {
            manager: manager.into(),
            operation,
            api_version: api_version.into(),
            subresource: subresource.into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Fields {
    Encoded(Value),
    Decoded(Set),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub api_version: String,
    /// RFC 3339 as it stood there; an entry made by a change that changed nothing has none.
    pub time: Option<String>,
    fields: Fields,
}

impl Entry {
    pub fn new(api_version: &str, set: Set) -> Self {
        Entry { api_version: api_version.into(), time: None, fields: Fields::Decoded(set) }
    }

    pub fn set(&self) -> Result<Set, String> {
        match &self.fields {
            Fields::Encoded(v) => Set::from_fields(v).map_err(|e| format!("error decoding set: {e}")),
            Fields::Decoded(s) => Ok(s.clone()),
        }
    }

    pub(crate) fn into_set(self) -> Result<Set, String> {
        match self.fields {
            Fields::Decoded(s) => Ok(s),
            Fields::Encoded(_) => self.set(),
        }
    }

    /// Takes the set out, to be replaced.
    pub(crate) fn take(&mut self) -> Result<Set, String> {
        match &mut self.fields {
            Fields::Decoded(s) => Ok(std::mem::take(s)),
            Fields::Encoded(_) => self.set(),
        }
    }

    pub fn replace(&mut self, set: Set) {
        self.fields = Fields::Decoded(set);
    }

    /// Whether the entry owns a member of the set.
    pub fn touches(&self, set: &Set) -> bool {
        match &self.fields {
            Fields::Encoded(v) => fields_touch(v, set),
            Fields::Decoded(s) => !s.intersection(set).is_empty(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match &self.fields {
            Fields::Encoded(v) => v.as_object().is_none_or(|m| m.is_empty()),
            Fields::Decoded(s) => s.is_empty(),
        }
    }

    fn into_fields(self) -> Value {
        match self.fields {
            Fields::Encoded(v) => v,
            Fields::Decoded(s) => s.to_fields(),
        }
    }
}

pub type Managers = BTreeMap<ManagerId, Entry>;

/// How far a list of entries is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// We wrote it: what is inside the entries is read when needed.
    Stored,
    /// A client wrote it: everything is read now.
    Foreign,
}

/// `metadata.managedFields` of an object, if there.
pub fn of(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

/// Reads entries; null or nothing is no entries.
pub(crate) fn decode(entries: Option<Value>, trust: Trust) -> Result<Managers, String> {
    let list = match entries {
        None | Some(Value::Null) => return Ok(Managers::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("managedFields must be a list".into()),
    };
    let mut out = Managers::new();
    for (i, mut e) in list.into_iter().enumerate() {
        let encoded = match e.get_mut("fieldsV1").map(Value::take) {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(v) => v,
        };
        let text = |k: &str| e.get(k).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
            other => {
                return Err(format!("invalid fieldsType {} in managed fields entry {i}", gofmt::q(other)));
            }
        }
        let fields = match trust {
            Trust::Stored => Fields::Encoded(encoded),
            Trust::Foreign => {
                Fields::Decoded(Set::from_fields(&encoded).map_err(|e| format!("error decoding set: {e}"))?)
            }
        };
        // The name is taken as it is: an entry without one stays an entry without one.
        let id = ManagerId {
            manager: text("manager").into(),
            ..ManagerId::new("", operation, text("apiVersion"), text("subresource"))
        };
        let time = Some(text("time")).filter(|t| !t.is_empty()).map(str::to_owned);
        out.insert(id, Entry { api_version: text("apiVersion").into(), time, fields });
    }
    Ok(out)
}

/// Whether a client asks to forget all owners: an empty list, or a list of one empty entry.
pub(crate) fn is_reset(entries: Option<&Value>) -> bool {
    let blank = |e: &Value| match e {
        Value::Null => true,
        Value::Object(m) => m.values().all(|v| v.is_null() || v.as_str() == Some("")),
        _ => false,
    };
    match entries {
        Some(Value::Array(a)) => match a.as_slice() {
            [] => true,
            [one] => blank(one),
            _ => false,
        },
        _ => false,
    }
}

/// Entries as they go into an object, in upstream's order; `None` when there are none.
pub(crate) fn encode(managers: Managers) -> Option<Value> {
    let mut list: Vec<(ManagerId, Entry)> = managers.into_iter().collect();
    list.sort_by(|(a, x), (b, y)| {
        (a.operation, &x.time, &a.manager, &x.api_version, &a.subresource).cmp(&(
            b.operation,
            &y.time,
            &b.manager,
            &y.api_version,
            &b.subresource,
        ))
    });
    let entries: Vec<Value> = list
        .into_iter()
        .map(|(id, e)| {
            let mut m = Map::new();
            let texts = [
                ("manager", id.manager.as_str()),
                ("operation", id.operation.as_str()),
                ("apiVersion", &e.api_version),
                ("time", e.time.as_deref().unwrap_or_default()),
                ("fieldsType", "FieldsV1"),
                ("subresource", &id.subresource),
            ];
            for (k, v) in texts.into_iter().filter(|(_, v)| !v.is_empty()) {
                m.insert(k.into(), v.into());
            }
            m.insert("fieldsV1".into(), e.into_fields());
            Value::Object(m)
        })
        .collect();
    (!entries.is_empty()).then_some(Value::Array(entries))
}

/// Takes `metadata.managedFields` out of an object.
pub(crate) fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// Sets or removes `metadata.managedFields`; an object without metadata has no owners.
pub(crate) fn put(object: &mut Value, entries: Option<Value>) {
    if let Some(Value::Object(meta)) = object.get_mut("metadata") {
        match entries {
            Some(v) => meta.insert("managedFields".into(), v),
            None => meta.remove("managedFields"),
        };
    }
}

/// No more than this many entries of writers; the oldest are folded into one per version.
pub(crate) const MAX_UPDATERS: usize = 10;

pub(crate) fn cap(managers: &mut Managers) -> Result<(), String> {
    let mut updaters: Vec<(Option<String>, ManagerId)> = managers
        .iter()
        .filter(|(id, _)| id.operation == Operation::Update)
        .map(|(id, e)| (e.time.clone(), id.clone()))
        .collect();
    updaters.sort();
    let mut count = updaters.len();
    let mut first_of: BTreeMap<String, ManagerId> = BTreeMap::new();
    for (time, id) in updaters {
        if count <= MAX_UPDATERS {
            break;
        }
        let Some(version) = managers.get(&id).map(|e| e.api_version.clone()) else { continue };
        let bucket = ManagerId::new("ancient-changes", Operation::Update, &version, "");
        let Some(first) = first_of.get(&version) else {
            first_of.insert(version, id);
            continue;
        };
        if !managers.contains_key(&bucket)
            && let Some(e) = managers.remove(first)
        {
            managers.insert(bucket.clone(), e);
        }
        let Some(old) = managers.remove(&id) else { continue };
        if let Some(e) = managers.get_mut(&bucket) {
            let both = old.set()?.union(e.set()?);
            e.replace(both);
            e.time = time;
        }
        count -= 1;
    }
    Ok(())
}

/// A write that changes nothing but times of entries changes nothing: the old entries stay.
pub fn keep_times_if_unchanged(old: &Value, new: &mut Value) {
    let without_times = |v: Option<&Value>| -> Vec<Value> {
        let mut list = v.and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter_mut().filter_map(Value::as_object_mut).for_each(|m| drop(m.remove("time")));
        // Their order hangs on the times.
        list.sort_by_cached_key(Value::to_string);
        list
    };
    let (Some(before), Some(after)) = (of(old), of(new)) else { return };
    if before == after
        || without_times(Some(before)) != without_times(Some(after))
        || !same_otherwise(old, new)
    {
        return;
    }
    put(new, Some(before.clone()));
}

fn same_otherwise(a: &Value, b: &Value) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return a == b };
    let minor = |k: &&String| !matches!(k.as_str(), "managedFields" | "resourceVersion" | "generation");
    let meta = |m: &Map<String, Value>| -> Vec<(String, Value)> {
        let fields = m.get("metadata").and_then(Value::as_object);
        fields.into_iter().flatten().filter(|(k, _)| minor(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    a.len() == b.len()
        && a.iter().filter(|(k, _)| *k != "metadata").all(|(k, v)| b.get(k) == Some(v))
        && meta(a) == meta(b)
}
