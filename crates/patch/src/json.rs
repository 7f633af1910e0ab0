//! JSON patch (RFC 6902) with the habits of the library upstream uses: negative array indices count from the end,
//! `replace` of an absent map key sets it, and the text of every failure.

use api::validation::go_json::kind;

use crate::error::{Error, Result};
use serde_json::Value;

/// Upstream's `maxJSONPatchOperations`.
pub const MAX_OPERATIONS: usize = 10_000;
/// Upstream's `JSONPatchMaxCopyBytes`: how much `copy` may add in one patch.
pub const MAX_COPY_BYTES: usize = 3 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq)]
struct Op {
    kind: String,
    path: Option<String>,
    from: Option<String>,
    value: Option<Value>,
}

/// A parsed patch.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPatch {
    ops: Vec<Op>,
    /// Fields no operation has, worded for strict field validation (`json patch unknown field "[0].x"`).
    pub unknown_fields: Vec<String>,
}

/// Parses and applies in one go.
pub fn json_patch(doc: &Value, patch: &Value) -> Result<Value> {
    JsonPatch::from_value(patch)?.apply(doc.clone())
}

impl JsonPatch {
    pub fn parse(body: &[u8]) -> Result<JsonPatch> {
        let v: Value = serde_json::from_slice(body)
            .map_err(|e| Error::BadRequest(format!("error decoding patch: {e}")))?;
        Self::from_value(&v)
    }

    pub fn from_value(patch: &Value) -> Result<JsonPatch> {
        let Value::Array(items) = patch else {
            return Err(Error::BadRequest(format!(
                "error decoding patch: json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
                kind(patch)
            )));
        };
        if items.len() > MAX_OPERATIONS {
            return Err(Error::TooLarge(format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                items.len()
            )));
        }
        let mut out = JsonPatch { ops: Vec::with_capacity(items.len()), unknown_fields: Vec::new() };
        for (i, item) in items.iter().enumerate() {
            let Value::Object(fields) = item else {
                return Err(Error::BadRequest(format!(
                    "error decoding patch: json: cannot unmarshal {} into Go value of type handlers.jsonPatchOp",
                    kind(item)
                )));
            };
            let text = |name: &str| match fields.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(s)) => Ok(Some(s.clone())),
                Some(other) => Err(Error::BadRequest(format!(
                    "error decoding patch: json: cannot unmarshal {} into Go struct field jsonPatchOp.{name} of type string",
                    kind(other)
                ))),
            };
            out.ops.push(Op {
                kind: text("op")?.unwrap_or_else(|| "unknown".into()),
                path: text("path")?,
                from: text("from")?,
                value: fields.get("value").cloned(),
            });
            for name in fields.keys().filter(|k| !matches!(k.as_str(), "op" | "path" | "from" | "value")) {
                out.unknown_fields.push(format!("json patch unknown field \"[{i}].{name}\""));
            }
        }
        Ok(out)
    }

    pub fn len(&self) -> usize {
        self.ops.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The patched document, or the first failure; the document is given up either way.
    pub fn apply(&self, mut doc: Value) -> Result<Value> {
        let mut copied = 0;
        for op in &self.ops {
            op.apply(&mut doc, &mut copied).map_err(Error::Unprocessable)?;
        }
        Ok(doc)
    }
}

type Text<T> = std::result::Result<T, String>;
const MISSING: &str = "missing value";

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// The container a pointer's last part lives in, and that part.
fn find<'d>(doc: &'d mut Value, path: &str) -> Option<(&'d mut Value, String)> {
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.len() < 2 {
        return None;
    }
    let key = unescape(parts.pop()?);
    let mut at = doc;
    for part in parts.iter().skip(1) {
        at = match at {
            Value::Object(m) => m.get_mut(&unescape(part))?,
            Value::Array(a) => {
                let i = index(&unescape(part), a.len()).ok()?;
                a.get_mut(i)?
            }
            _ => return None,
        };
    }
    matches!(at, Value::Object(_) | Value::Array(_)).then_some((at, key))
}

fn index(key: &str, len: usize) -> Text<usize> {
    let i: i64 = key.parse().map_err(|_| format!("strconv.Atoi: parsing {key:?}: invalid syntax"))?;
    let at = if i < 0 { i + len as i64 } else { i };
    usize::try_from(at)
        .ok()
        .filter(|at| *at < len)
        .ok_or_else(|| format!("Unable to access invalid index: {i}: invalid index referenced"))
}

/// A map answers null for an absent key, an array fails.
fn get(container: &Value, key: &str) -> Text<Option<Value>> {
    match container {
        Value::Object(m) => Ok(m.get(key).cloned()),
        Value::Array(a) => Ok(a.get(index(key, a.len())?).cloned()),
        _ => Ok(None),
    }
}

fn add(container: &mut Value, key: &str, value: Value) -> Text<()> {
    match container {
        Value::Object(m) => {
            m.insert(key.to_owned(), value);
        }
        Value::Array(a) if key == "-" => a.push(value),
        Value::Array(a) => {
            let at = index(key, a.len() + 1).map_err(|e| {
                if e.starts_with("strconv") {
                    format!("value was not a proper array index: '{key}': {e}")
                } else {
                    e
                }
            })?;
            a.insert(at, value);
        }
        _ => return Err(MISSING.into()),
    }
    Ok(())
}

fn remove(container: &mut Value, key: &str) -> Text<Value> {
    match container {
        Value::Object(m) => {
            m.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: {MISSING}"))
        }
        Value::Array(a) => {
            let at = index(key, a.len())?;
            Ok(a.remove(at))
        }
        _ => Err(MISSING.into()),
    }
}

impl Op {
    fn path(&self, verb: &str) -> Text<&str> {
        self.path.as_deref().ok_or_else(|| {
            format!("{verb} operation failed to decode path: operation missing path field: {MISSING}")
        })
    }

    fn from(&self, verb: &str) -> Text<&str> {
        self.from.as_deref().ok_or_else(|| {
            format!("{verb} operation failed to decode from: operation, missing from field: {MISSING}")
        })
    }

    fn apply(&self, doc: &mut Value, copied: &mut usize) -> Text<()> {
        let value = || self.value.clone().unwrap_or(Value::Null);
        let missing = |what: &str, path: &str| format!("{what}: {path}: {MISSING}");
        match self.kind.as_str() {
            "add" => {
                let path = self.path("add")?;
                let (at, key) = find(doc, path).ok_or_else(|| {
                    format!("add operation does not apply: doc is missing path: \"{path}\": {MISSING}")
                })?;
                add(at, &key, value()).map_err(|e| format!("error in add for path: '{path}': {e}"))
            }
            "remove" => {
                let path = self.path("remove")?;
                let (at, key) = find(doc, path).ok_or_else(|| {
                    format!("remove operation does not apply: doc is missing path: \"{path}\": {MISSING}")
                })?;
                remove(at, &key).map(drop).map_err(|e| format!("error in remove for path: '{path}': {e}"))
            }
            "replace" => {
                let path = self.path("replace")?;
                let (at, key) = find(doc, path)
                    .ok_or_else(|| missing("replace operation does not apply: doc is missing path", path))?;
                match at {
                    Value::Object(m) => {
                        m.insert(key, value());
                    }
                    Value::Array(a) => {
                        let slot = index(&key, a.len()).ok().and_then(|i| a.get_mut(i));
                        *slot.ok_or_else(|| {
                            missing("replace operation does not apply: doc is missing key", path)
                        })? = value();
                    }
                    _ => return Err(missing("replace operation does not apply: doc is missing path", path)),
                }
                Ok(())
            }
            "move" => {
                let from = self.from("move")?;
                let (at, key) = find(doc, from).ok_or_else(|| {
                    missing("move operation does not apply: doc is missing from path", from)
                })?;
                let moved = remove(at, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
                let path = self.path("move")?;
                let (at, key) = find(doc, path).ok_or_else(|| {
                    missing("move operation does not apply: doc is missing destination path", path)
                })?;
                add(at, &key, moved).map_err(|e| format!("error in move for path: '{path}': {e}"))
            }
            "test" => {
                let path = self.path("test")?;
                let (at, key) = find(doc, path)
                    .ok_or_else(|| missing("test operation does not apply: is missing path", path))?;
                let found = get(at, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?;
                if found.unwrap_or(Value::Null) == value() {
                    Ok(())
                } else {
                    Err(format!("{}{path} failed: test failed", crate::error::TEST))
                }
            }
            "copy" => {
                let from = self.from("copy")?;
                let (at, key) = find(doc, from).ok_or_else(|| {
                    missing("copy operation does not apply: doc is missing from path", from)
                })?;
                let found = get(at, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?;
                let found = found.unwrap_or(Value::Null);
                *copied += size(&found);
                if *copied > MAX_COPY_BYTES {
                    return Err(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {copied}, \
                         exceeding the limit {MAX_COPY_BYTES}"
                    ));
                }
                let path = self.path("copy")?;
                let (at, key) = find(doc, path).ok_or_else(|| {
                    missing("copy operation does not apply: doc is missing destination path", path)
                })?;
                add(at, &key, found).map_err(|e| format!("error while adding value during copy: {e}"))
            }
            other => Err(format!("Unexpected kind: {other}")),
        }
    }
}

/// Roughly the encoded length; only the copy limit hangs on it.
fn size(v: &Value) -> usize {
    match v {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(s) => s.len() + 2,
        Value::Array(a) => 2 + a.iter().map(|x| size(x) + 1).sum::<usize>(),
        Value::Object(m) => 2 + m.iter().map(|(k, x)| k.len() + 4 + size(x)).sum::<usize>(),
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
