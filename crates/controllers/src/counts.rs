//! Numbers of a status in canonical form.

use serde_json::{Value, json};

/// Sets a count that is omitted when zero; null says so in a merge patch.
pub fn set(status: &mut Value, old: &Value, name: &str, n: i64) {
    match (n, old.get(name)) {
        (0, None) => {}
        (0, Some(_)) => status[name] = Value::Null,
        (n, _) => status[name] = json!(n),
    }
}

/// The size of a list as the API counts.
pub fn of(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
