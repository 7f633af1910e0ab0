//! Objects of one kind, each parsed once per revision: configurations that every write looks at.

use std::collections::HashMap;
use std::sync::Arc;

use api::Status;
use parking_lot::Mutex;
use serde_json::Value;

use crate::Reader;

pub const GROUP: &str = "admissionregistration.k8s.io";

/// Owns the cache; nothing is spawned.
pub struct Parsed<T> {
    plural: &'static str,
    parse: fn(&str, &Value) -> T,
    cache: Mutex<HashMap<String, (u64, Arc<T>)>>,
}

impl<T> Parsed<T> {
    /// `parse` gets the name and the object.
    pub fn new(plural: &'static str, parse: fn(&str, &Value) -> T) -> Self {
        Self { plural, parse, cache: Mutex::default() }
    }

    /// All of them, in the order of their names.
    pub async fn all(&self, reader: &dyn Reader) -> Result<Vec<Arc<T>>, Status> {
        let objects = reader.list(GROUP, self.plural, "").await?;
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let mut out = Vec::with_capacity(objects.len());
        for o in &objects {
            if let Some((revision, parsed)) = self.cache.lock().get(o.name())
                && *revision == o.revision()
            {
                out.push(parsed.clone());
                continue;
            }
            let parsed = Arc::new((self.parse)(o.name(), &o.value().map_err(Status::internal)?));
            self.cache.lock().insert(o.name().to_owned(), (o.revision(), parsed.clone()));
            out.push(parsed);
        }
        let mut cache = self.cache.lock();
        if cache.len() > objects.len() {
            cache.retain(|name, _| objects.iter().any(|o| o.name() == name));
        }
        Ok(out)
    }
}
