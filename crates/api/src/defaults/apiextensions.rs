//! Defaults of apiextensions.k8s.io.

use serde_json::{Value, json};

use super::{Fields, empty, ensure, get, plain, pointer, text};

pub(super) fn apply(kind: &str, o: &mut Fields) {
    if kind != "CustomResourceDefinition" {
        return;
    }
    let Some(s) = ensure(o, "spec") else { return };
    if let Some(n) = ensure(s, "names") {
        let kind = text(n, "kind").to_string();
        plain(n, "singular", kind.to_lowercase());
        if !kind.is_empty() {
            plain(n, "listKind", format!("{kind}List"));
        }
    }
    if empty(s, "conversion") {
        s.insert("conversion".into(), json!({"strategy": "None"}));
    }
    let service = get(s, "conversion")
        .and_then(|c| get(c, "webhook"))
        .and_then(|w| get(w, "clientConfig"))
        .and_then(|c| get(c, "service"));
    if let Some(service) = service {
        pointer(service, "port", 443);
    }
    let stored: Vec<Value> = s
        .get("versions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|v| v["storage"] == true)
        .map(|v| v["name"].clone())
        .collect();
    if let Some(st) = ensure(o, "status")
        && !stored.is_empty()
    {
        plain(st, "storedVersions", stored);
    }
}
