//! The annotation of client-side apply.

use serde_json::{Map, Value};

pub const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Upstream's `TotalAnnotationSizeLimitB`.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The annotation, if there and not empty.
pub(crate) fn of(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str().filter(|s| !s.is_empty())
}

/// Rewrites the annotation, where there is one, to what was applied now. True if it changed.
pub(crate) fn keep_in_step(object: &mut Value, config: &Value) -> bool {
    let Some(before) = of(object).map(str::to_owned) else { return false };
    let mut config = config.clone();
    if let Some(Value::Object(a)) = config.get_mut("metadata").and_then(|m| m.get_mut("annotations")) {
        a.remove(ANNOTATION);
    }
    let text = format!("{config}\n");
    let Some(Value::Object(annotations)) = object.get_mut("metadata").and_then(|m| m.get_mut("annotations"))
    else {
        return false;
    };
    let size = |m: &Map<String, Value>| -> usize {
        m.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum()
    };
    let changed = text != before;
    annotations.insert(ANNOTATION.into(), Value::String(text));
    if size(annotations) > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
        return true;
    }
    changed
}
