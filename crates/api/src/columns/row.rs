//! One row being filled, and the texts that many cells share.

use super::duration;
use crate::validation::at::At;
use serde_json::Value;

pub struct Row<'v> {
    pub o: At<'v, 'static>,
    pub now: i64,
    pub cells: Vec<Value>,
    pub conditions: Value,
}

/// `text`, or what stands for nothing.
pub fn or<'s>(text: &'s str, nothing: &'s str) -> &'s str {
    if text.is_empty() { nothing } else { text }
}

impl<'v> Row<'v> {
    pub fn new(o: At<'v, 'static>, now: i64) -> Self {
        Row { o, now, cells: Vec::with_capacity(12), conditions: Value::Null }
    }
    pub fn meta(&self, field: &str) -> &'v str {
        self.o.raw("metadata").get(field).and_then(Value::as_str).unwrap_or_default()
    }
    /// The value at a path of fields; null when absent.
    pub fn at(&self, path: &str) -> &'v Value {
        at(self.o.v, path)
    }
    pub fn str(&self, path: &str) -> &'v str {
        self.at(path).as_str().unwrap_or_default()
    }
    pub fn int(&self, path: &str) -> i64 {
        self.at(path).as_i64().unwrap_or(0)
    }
    pub fn name(&mut self) {
        let n = self.meta("name");
        self.text(n);
    }
    pub fn age(&mut self) {
        let t = since(self.meta("creationTimestamp"), self.now);
        self.text(t);
    }
    pub fn text(&mut self, s: impl Into<String>) {
        self.cells.push(Value::String(s.into()));
    }
    pub fn number(&mut self, n: i64) {
        self.cells.push(n.into());
    }
    pub fn flag(&mut self, b: bool) {
        self.cells.push(Value::Bool(b));
    }
    /// The string at a path, or what stands for nothing.
    pub fn text_at(&mut self, path: &str, nothing: &str) {
        let s = or(self.str(path), nothing).to_owned();
        self.text(s);
    }
    pub fn number_at(&mut self, path: &str) {
        let n = self.int(path);
        self.number(n);
    }
    pub fn flag_at(&mut self, path: &str) {
        let b = self.at(path).as_bool().unwrap_or(false);
        self.flag(b);
    }
    /// How many entries stand at a path.
    pub fn count_at(&mut self, path: &str) {
        let n = len(self.at(path));
        self.number(n);
    }
    pub fn deleting(&self) -> bool {
        !self.meta("deletionTimestamp").is_empty()
    }
    /// Names and images of a pod template's containers.
    pub fn containers(&mut self, path: &str) {
        let list = list(self.at(path));
        let join = |f: &str| list.iter().map(|c| text(c, f)).collect::<Vec<_>>().join(",");
        let (names, images) = (join("name"), join("image"));
        self.text(names);
        self.text(images);
    }
}

pub fn at<'v>(v: &'v Value, path: &str) -> &'v Value {
    static NULL: Value = Value::Null;
    path.split('.').try_fold(v, |v, f| v.get(f)).unwrap_or(&NULL)
}
pub fn list(v: &Value) -> &[Value] {
    v.as_array().map_or(&[], Vec::as_slice)
}
pub fn text<'v>(v: &'v Value, field: &str) -> &'v str {
    v.get(field).and_then(Value::as_str).unwrap_or_default()
}
pub fn len(v: &Value) -> i64 {
    let n = match v {
        Value::Array(a) => a.len(),
        Value::Object(o) => o.len(),
        _ => 0,
    };
    i64::try_from(n).unwrap_or(i64::MAX)
}
/// A string or number as text.
pub fn shown(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
/// Age of a time; absent is `<unknown>`.
pub fn since(time: &str, now: i64) -> String {
    duration::since(time, now)
}
/// The condition of that type.
pub fn condition<'v>(v: &'v Value, kind: &str) -> Option<&'v Value> {
    list(v).iter().find(|c| text(c, "type") == kind)
}
pub fn condition_is(v: &Value, kind: &str, status: &str) -> bool {
    condition(v, kind).is_some_and(|c| text(c, "status") == status)
}

/// A map of labels: `k=v,k=v`.
pub fn labels(v: &Value) -> String {
    let all: Vec<String> = v
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    if all.is_empty() { "<none>".into() } else { all.join(",") }
}

/// A LabelSelector as text, sorted by key.
pub fn selector(v: &Value) -> String {
    let mut all: Vec<(String, String)> = Vec::new();
    for (k, v) in v.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        all.push((k.clone(), format!("{k}={}", v.as_str().unwrap_or_default())));
    }
    for r in list(v.get("matchExpressions").unwrap_or(&Value::Null)) {
        let key = text(r, "key");
        let mut values: Vec<&str> = list(&r["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let shown = match text(r, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".into(),
        };
        all.push((key.to_owned(), shown));
    }
    all.sort();
    if all.is_empty() {
        return "<none>".into();
    }
    all.into_iter().map(|(_, s)| s).collect::<Vec<_>>().join(",")
}

/// The first three, and how many more there are.
pub fn first_three(all: &[String]) -> String {
    let head = all.get(..all.len().min(3)).unwrap_or_default().join(",");
    if all.len() > 3 { format!("{head} + {} more...", all.len() - 3) } else { head }
}
