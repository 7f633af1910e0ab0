//! What an older definition was allowed, and is still allowed to it though new ones are refused for it.

use serde_json::Value;

use super::{At, ErrorList, defaults, openapi, rules};

/// What a stored definition does that a new one may not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tolerated {
    pub other_types: bool,
    pub unpruned_defaults: bool,
    pub granular_sets: bool,
    pub loose_keys: bool,
    pub unknown_reviews: bool,
    pub unversioned: bool,
    /// Rules use functions that the version before does not know.
    pub newer: bool,
    /// Of the version at hand: its schema is as it was.
    pub costs: bool,
}

impl Tolerated {
    pub fn by(old: &Value) -> Self {
        let spec = &old["spec"];
        let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let schemas = || versions.iter().map(|v| &v["schema"]["openAPIV3Schema"]);
        let any = |holds: &dyn Fn(&Value) -> bool| schemas().any(|s| openapi::any(s, holds));
        let fails = |check: &dyn Fn(&At, &mut ErrorList), s: &Value| {
            let mut e = ErrorList::new();
            check(&At::root(s), &mut e);
            !e.is_empty()
        };
        let (mut strict, mut loose) = (ErrorList::new(), ErrorList::new());
        for s in schemas() {
            defaults::check(&At::root(s), true, &mut strict);
            defaults::check(&At::root(s), false, &mut loose);
        }
        let reviews = spec["conversion"]["webhook"]["conversionReviewVersions"].as_array();
        Self {
            other_types: any(&openapi::other_type),
            unpruned_defaults: strict.len() > loose.len(),
            granular_sets: any(&|s| openapi::granular_set(s).is_some()),
            loose_keys: any(&|s| fails(&openapi::told_apart, s)),
            unknown_reviews: reviews.is_some_and(|r| !r.is_empty() && !r.iter().any(known_review)),
            unversioned: schemas().any(Value::is_null),
            newer: any(&rules::newer),
            costs: false,
        }
    }

    /// For the schema of a version: one that is stored as it is may be too expensive.
    pub fn version(self, v: &Value, old: Option<&Value>) -> Self {
        let stored = old.and_then(|o| o["spec"]["versions"].as_array()).into_iter().flatten();
        let same = |o: &Value| o["name"] == v["name"] && o["schema"] == v["schema"];
        Self { costs: stored.into_iter().any(same), ..self }
    }
}

pub fn known_review(v: &Value) -> bool {
    v == "v1" || v == "v1beta1"
}
