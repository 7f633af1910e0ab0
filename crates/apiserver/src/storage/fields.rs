//! Values of selectable fields, taken once per stored object and kept beside it.

use std::sync::OnceLock;

use api::catalog::Descriptor;
use serde_json::Value;

/// Label and value, for the descriptor that asked first.
#[derive(Default)]
pub struct Values(OnceLock<Box<[(Box<str>, Box<str>)]>>);

impl Values {
    /// Whether the object's field `label` has `want`. Name and namespace are not looked up here.
    pub fn is(&self, d: &Descriptor, bytes: &[u8], label: &str, want: &str) -> bool {
        let all = self.0.get_or_init(|| {
            let v: Value = serde_json::from_slice(bytes).unwrap_or_default();
            d.selectable_fields
                .iter()
                .filter(|f| !f.label.starts_with("metadata."))
                .map(|f| (f.label.as_str().into(), f.value(&v).into()))
                .collect()
        });
        if let Some((_, v)) = all.iter().find(|(l, _)| &**l == label) {
            return **v == *want;
        }
        // Another group shows the same objects under other labels (events); rare enough to parse again.
        let v: Value = serde_json::from_slice(bytes).unwrap_or_default();
        d.selectable_fields.iter().find(|f| f.label == label).is_some_and(|f| f.value(&v) == want)
    }
}
