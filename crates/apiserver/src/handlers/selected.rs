//! Field selectors of custom resources whose definition converts by a webhook: the fields are those of the version that was
//! asked for, so objects are converted before they are judged. Owns, per such watch, the names of what is selected.
//! https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#crd-selectable-fields

use std::collections::HashSet;

use api::{Object, Status};
use client::{ObjectList, WatchEvent, WatchStream};
use futures::StreamExt;

use super::{Target, convert};
use crate::server::ApiServer;
use crate::storage::filter::{Filter, Shown};
use crate::storage::paging::{At, Page};
use crate::storage::watch::{From, Options};

/// The items that are selected, in the version that was asked for. What comes after this page is not known.
pub async fn list(
    s: &ApiServer,
    target: &Target,
    mut list: ObjectList,
    shown: &Shown,
) -> Result<ObjectList, Status> {
    let mut items = Vec::new();
    for o in convert::shown(s, target, list.items).await? {
        if shown.selects(&o)? {
            items.push(o);
        }
    }
    list.items = items;
    list.remaining = None;
    Ok(list)
}

/// What is selected, by namespace and name.
#[derive(Default)]
struct Selected(HashSet<(String, String)>);

fn key(o: &Object) -> (String, String) {
    (o.namespace().to_owned(), o.name().to_owned())
}

impl Selected {
    /// What an event means to who sees the selected objects only. Pure.
    fn told(&mut self, e: WatchEvent, shown: &Shown) -> Option<WatchEvent> {
        match e {
            WatchEvent::Added(o) | WatchEvent::Modified(o) => {
                let is = match shown.selects(&o) {
                    Ok(is) => is,
                    Err(s) => return Some(WatchEvent::Error(s)),
                };
                match (self.0.contains(&key(&o)), is) {
                    (false, true) => {
                        self.0.insert(key(&o));
                        Some(WatchEvent::Added(o))
                    }
                    (true, true) => Some(WatchEvent::Modified(o)),
                    (true, false) => {
                        self.0.remove(&key(&o));
                        Some(WatchEvent::Deleted(o))
                    }
                    (false, false) => None,
                }
            }
            WatchEvent::Deleted(o) => self.0.remove(&key(&o)).then_some(WatchEvent::Deleted(o)),
            other => Some(other),
        }
    }
}

async fn selected_at(
    s: &ApiServer,
    target: &Target,
    prefix: &str,
    filter: &Filter,
    shown: &Shown,
    revision: u64,
) -> Result<Selected, Status> {
    let page = Page { at: At::Exact(revision), limit: 0, start: String::new(), continued: false };
    let all = s.storage.list(prefix, None, &page, filter).await?.items;
    let mut selected = Selected::default();
    for o in convert::shown(s, target, all).await? {
        if shown.selects(&o)? {
            selected.0.insert(key(&o));
        }
    }
    Ok(selected)
}

/// Changes of what is selected; an object that is changed so that it is not any more is DELETED in its new state.
pub async fn watch(
    s: &ApiServer,
    target: &Target,
    prefix: &str,
    options: &Options,
    filter: Filter,
    shown: Shown,
) -> WatchStream {
    let mut options = options.clone();
    let start = match options.from {
        From::State => None,
        From::After(r) => Some(r),
        From::Now => Some(s.storage.revision()),
    };
    let mut selected = Selected::default();
    if let Some(r) = start {
        options.from = From::After(r);
        selected = match selected_at(s, target, prefix, &filter, &shown, r).await {
            Ok(selected) => selected,
            Err(status) => return futures::stream::iter([WatchEvent::Error(status)]).boxed(),
        };
    }
    let events = s.storage.watch(prefix, &options, filter, s.stop.clone()).await;
    let told = convert::events(s, target, events).map(move |e| selected.told(e, &shown));
    told.filter_map(std::future::ready).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition() -> std::sync::Arc<api::catalog::Descriptor> {
        let versions: Vec<_> = [("v1", true, ".hostPort"), ("v2", false, ".host")]
            .map(|(name, storage, path)| {
                json!({"name": name, "served": true, "storage": storage, "selectableFields": [{"jsonPath": path}],
                    "schema": {"openAPIV3Schema": {"type": "object"}}})
            })
            .into();
        let conversion = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://x"}, "conversionReviewVersions": ["v1"]}});
        let names = json!({"plural": "as", "kind": "A", "singular": "a", "listKind": "AList"});
        let crd = json!({"spec": {"group": "g.io", "scope": "Namespaced", "versions": versions, "conversion": conversion},
            "status": {"acceptedNames": names}});
        std::sync::Arc::new(api::catalog::custom::descriptor(&crd).expect("descriptor"))
    }

    fn object(name: &str, host: &str) -> Object {
        let v = json!({"apiVersion": "g.io/v2", "kind": "A", "metadata": {"name": name, "namespace": "n"}, "host": host});
        Object::from_value(v, 7).expect("object")
    }

    #[test]
    fn what_is_selected_is_told_apart_by_its_shown_fields() {
        let mut filter =
            Filter::new(&definition(), "v2", "", "metadata.namespace=n,host=h1").expect("filter");
        let shown = filter.take_shown().expect("a field that is converted");
        assert!(!filter.is_everything(), "the namespace is judged as it is stored");
        assert!(Filter::new(&definition(), "v1", "", "host=h1").is_err(), "a field of the other version");
        let mut selected = Selected::default();
        let mut told = |e| {
            selected.told(e, &shown).map(|e| match e {
                WatchEvent::Added(_) => "ADDED",
                WatchEvent::Modified(_) => "MODIFIED",
                WatchEvent::Deleted(_) => "DELETED",
                _ => "other",
            })
        };
        assert_eq!(told(WatchEvent::Added(object("a", "h1"))), Some("ADDED"));
        assert_eq!(told(WatchEvent::Added(object("b", "h2"))), None);
        assert_eq!(told(WatchEvent::Modified(object("b", "h1"))), Some("ADDED"));
        assert_eq!(told(WatchEvent::Modified(object("a", "h1"))), Some("MODIFIED"));
        assert_eq!(told(WatchEvent::Modified(object("a", "h2"))), Some("DELETED"));
        assert_eq!(told(WatchEvent::Deleted(object("a", "h2"))), None);
        assert_eq!(told(WatchEvent::Deleted(object("b", "h1"))), Some("DELETED"));
    }
}
