//! Tables of custom resources, by the `additionalPrinterColumns` of their version.

use super::row::{list, text};
use super::{IncludeObject, JsonPath, ListMeta, duration, render};
use crate::Object;
use serde_json::{Value, json};

/// One column, its path parsed once.
#[derive(Debug, Clone)]
struct Column {
    kind: String,
    path: Option<JsonPath>,
}

/// The columns of one version of a custom resource.
#[derive(Debug, Clone)]
pub struct Columns {
    definitions: Value,
    columns: Vec<Column>,
}

impl Columns {
    /// From `additionalPrinterColumns`; none means name and age.
    pub fn new(additional: &Value) -> Self {
        let age = json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "time since the object was created"}]);
        let source = if list(additional).is_empty() { &age } else { additional };
        let mut definitions = vec![
            json!({"name": "Name", "type": "string", "format": "name", "description": "name of the object", "priority": 0}),
        ];
        let mut columns = Vec::new();
        for c in list(source) {
            definitions.push(json!({"name": text(c, "name"), "type": text(c, "type"), "format": text(c, "format"),
                "description": text(c, "description"), "priority": c.get("priority").and_then(Value::as_i64).unwrap_or(0)}));
            columns.push(Column {
                kind: text(c, "type").into(),
                path: JsonPath::parse(text(c, "jsonPath")).ok(),
            });
        }
        Columns { definitions: Value::Array(definitions), columns }
    }
}

/// The table of these objects, as JSON.
pub fn table(
    columns: &Columns,
    items: &[Object],
    now: i64,
    include: IncludeObject,
    list: &ListMeta,
) -> Vec<u8> {
    render(
        || columns.definitions.clone(),
        items,
        now,
        include,
        list,
        |row| {
            row.name();
            for c in &columns.columns {
                let found = c.path.as_ref().map(|p| p.find(row.o.v)).unwrap_or_default();
                let cell = cell(c, &found, row.now);
                row.cells.push(cell);
            }
        },
    )
}

/// What does not fit the column's type is an empty cell.
fn cell(c: &Column, found: &[&Value], now: i64) -> Value {
    let Some(first) = found.first() else { return Value::Null };
    match (c.kind.as_str(), first) {
        ("integer", Value::Number(n)) => {
            n.as_i64().or(n.as_f64().map(|f| f as i64)).map_or(Value::Null, Value::from)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*first).clone(),
        ("date", Value::String(s)) => {
            duration::parse_time(s).map_or_else(|| "<invalid>".into(), |t| duration::human(now - t)).into()
        }
        ("string", _) => {
            let show = |v: &Value| match v {
                Value::String(s) => s.clone(),
                other => other.to_string(),
            };
            let all: Vec<String> = found.iter().map(|v| show(v)).collect();
            all.join(",").into()
        }
        _ => Value::Null,
    }
}
