//! `--runtime-config`: which group versions and resources are served beside the GA ones.

use std::sync::Arc;

use super::{Catalog, Stage};

/// Parsed `--runtime-config`: `api/all=true`, `api/beta=true`, `apps/v1=false`, `batch/v1/jobs=true`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeConfig {
    entries: Vec<(String, bool)>,
}

/// An entry that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("runtime-config entry {0:?} is invalid: it should look like api/beta=true or apps/v1=false")]
pub struct RuntimeConfigError(String);

impl RuntimeConfig {
    pub fn parse(text: &str) -> Result<Self, RuntimeConfigError> {
        let mut entries = Vec::new();
        for e in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let (key, value) = e.split_once('=').unwrap_or((e, "true"));
            let on = match value {
                "" | "true" | "1" => true,
                "false" | "0" => false,
                _ => return Err(RuntimeConfigError(e.to_string())),
            };
            if !key.contains('/') && key != "v1" {
                return Err(RuntimeConfigError(e.to_string()));
            }
            entries.push((key.to_string(), on));
        }
        Ok(Self { entries })
    }

    fn find(&self, key: &str) -> Option<bool> {
        self.entries.iter().rev().find(|(k, _)| k == key).map(|(_, on)| *on)
    }

    /// The catalog with versions switched on and off. The most specific entry decides.
    pub fn apply(&self, catalog: &Catalog) -> Catalog {
        Catalog::new(catalog.iter().map(|d| {
            let mut d = d.as_ref().clone();
            for v in &mut d.versions {
                let gv = super::api_version(&d.group, &v.name);
                let stage = match v.stage {
                    Stage::Ga => "api/ga",
                    Stage::Beta => "api/beta",
                    Stage::Alpha => "api/alpha",
                };
                v.served = self
                    .find(&format!("{gv}/{}", d.plural))
                    .or_else(|| self.find(&gv))
                    .or_else(|| self.find(stage))
                    .or_else(|| self.find("api/all"))
                    .unwrap_or(v.served);
            }
            Arc::new(d)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::builtin;

    #[test]
    fn the_most_specific_entry_wins() {
        let c = RuntimeConfig::parse("api/beta=true,coordination.k8s.io/v1beta1=false").expect("parse");
        let out = c.apply(builtin());
        let served =
            |g: &str, p: &str, v: &str| out.by_plural(g, p).and_then(|d| d.version(v)).map(|v| v.served);
        assert_eq!(served("resource.k8s.io", "resourceclaims", "v1beta1"), Some(true));
        assert_eq!(served("coordination.k8s.io", "leasecandidates", "v1beta1"), Some(false));
        assert_eq!(served("resource.k8s.io", "devicetaintrules", "v1alpha3"), Some(false));
        assert!(RuntimeConfig::parse("nonsense").is_err());
    }
}
