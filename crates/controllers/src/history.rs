//! Controller revisions, shared by StatefulSets and DaemonSets: each template that a set has had is kept once, as the
//! patch that brings it back. What to do is decided purely; `settle` and `truncate` act.

use std::collections::HashSet;

use api::resource::CONTROLLER_REVISIONS;
use api::selector::LabelSelector;
use api::{Object, Resource, Status};
use client::{Client, DeleteOptions, Informer, Patch};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::owners;
use crate::skeleton::Error;
use crate::template;

/// Set names are cut to this before the hash is appended, as upstream does.
const NAME_ROOM: usize = 223;

#[derive(Debug, Clone)]
pub struct Revision {
    pub object: Object,
    pub number: i64,
    pub data: Value,
}

impl Revision {
    pub fn of(object: Object) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct View {
            #[serde(default)]
            revision: i64,
            #[serde(default)]
            data: Value,
        }
        let v: View = object.view()?;
        Ok(Self { object, number: v.revision, data: v.data })
    }

    pub fn name(&self) -> &str {
        self.object.name()
    }

    pub fn label(&self, key: &str) -> &str {
        self.object.meta().labels.get(key).unwrap_or_default()
    }

    /// The pod template it keeps.
    pub fn template(&self) -> Value {
        let mut t = self.data["spec"]["template"].clone();
        if let Some(o) = t.as_object_mut() {
            o.remove("$patch");
        }
        t
    }
}

/// What a revision keeps: a strategic patch that replaces the template. kubectl applies it to undo.
pub fn data(template: &Value) -> Value {
    let mut t = template.clone();
    if let Some(o) = t.as_object_mut() {
        o.insert("$patch".into(), json!("replace"));
    }
    json!({ "spec": { "template": t } })
}

/// Oldest first.
pub fn sort(all: &mut [Revision]) {
    all.sort_by(|a, b| a.number.cmp(&b.number).then_with(|| a.object.by_age(&b.object)));
}

/// Which revision stands for the present template.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The one at this place, as it is.
    Keep(usize),
    /// An older one at this place comes back under a new number.
    Bump(usize, i64),
    Create(i64),
}

pub fn decide(sorted: &[Revision], data: &Value) -> Decision {
    let next = sorted.last().map_or(1, |r| r.number + 1);
    match sorted.iter().rposition(|r| r.data == *data) {
        None => Decision::Create(next),
        Some(i) if i + 1 == sorted.len() => Decision::Keep(i),
        Some(i) => Decision::Bump(i, next),
    }
}

/// Revisions beyond the limit that nothing lives by, oldest first.
pub fn surplus<'a>(sorted: &'a [Revision], live: &HashSet<&str>, limit: i64) -> Vec<&'a Revision> {
    let dead: Vec<&Revision> = sorted.iter().filter(|r| !live.contains(r.name())).collect();
    let Ok(limit) = usize::try_from(limit) else { return Vec::new() };
    let n = dead.len().saturating_sub(limit);
    dead.into_iter().take(n).collect()
}

/// The set whose history it is.
pub struct Owner<'a> {
    pub client: &'a Client,
    pub resource: &'a Resource,
    pub set: &'a Object,
    pub annotations: &'a Map<String, Value>,
    pub template: &'a Value,
    /// The label under which a revision carries its hash.
    pub hash_label: &'static str,
}

impl Owner<'_> {
    /// The set's revisions, after adopting orphans that the selector matches; oldest first.
    pub async fn list(&self, informer: &Informer, selector: &LabelSelector) -> Result<Vec<Revision>, Error> {
        let candidates = owners::candidates(informer, self.set);
        let mine = owners::claim_all(
            self.client,
            self.resource,
            self.set,
            selector,
            &CONTROLLER_REVISIONS,
            candidates,
        )
        .await?;
        let mut all = mine.into_iter().map(Revision::of).collect::<Result<Vec<_>, _>>()?;
        sort(&mut all);
        Ok(all)
    }

    /// Makes the revision of the present template the newest one and returns it. `all` is kept up to date. `collisions`
    /// grows when another template has the same hash.
    pub async fn settle(&self, all: &mut Vec<Revision>, collisions: &mut i64) -> Result<Revision, Error> {
        let data = data(self.template);
        let settled = match decide(all, &data) {
            Decision::Keep(i) => return all.get(i).cloned().ok_or_else(|| lost(self.set)),
            Decision::Bump(i, number) => {
                let old = if i < all.len() { all.remove(i) } else { return Err(lost(self.set)) };
                let patch =
                    Patch::Merge(json!({ "metadata": { "uid": old.object.uid() }, "revision": number }));
                let ns = self.set.namespace();
                Revision::of(self.client.patch(&CONTROLLER_REVISIONS, ns, old.name(), "", &patch).await?)?
            }
            Decision::Create(number) => self.create(&data, number, collisions).await?,
        };
        all.retain(|r| r.name() != settled.name());
        all.push(settled.clone());
        Ok(settled)
    }

    async fn create(&self, data: &Value, number: i64, collisions: &mut i64) -> Result<Revision, Error> {
        let ns = self.set.namespace();
        loop {
            let hash = template::hash(data, *collisions);
            let base: String = self.set.name().chars().take(NAME_ROOM).collect();
            let name = format!("{base}-{hash}");
            let mut labels = self.template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
            labels.insert(self.hash_label.into(), json!(hash));
            let body = json!({ "apiVersion": "apps/v1", "kind": "ControllerRevision",
                "metadata": { "name": name, "namespace": ns, "labels": labels, "annotations": self.annotations,
                    "ownerReferences": [owners::controller_ref(self.resource, self.set)] },
                "data": data, "revision": number });
            match self.client.create(&CONTROLLER_REVISIONS, ns, &body).await {
                Ok(o) => return Revision::of(o),
                Err(s) if s.is_already_exists() => {
                    let there = Revision::of(self.client.get(&CONTROLLER_REVISIONS, ns, &name).await?)?;
                    let ours = there.object.meta().controller().is_some_and(|c| c.uid == self.set.uid());
                    if ours && there.data == *data {
                        return Ok(there);
                    }
                    *collisions += 1;
                }
                Err(s) => return Err(s.into()),
            }
        }
    }

    /// Deletes what is beyond the limit and not `live`.
    pub async fn truncate(&self, all: &[Revision], live: &HashSet<&str>, limit: i64) -> Result<(), Status> {
        for r in surplus(all, live, limit) {
            let options = DeleteOptions::uid(r.object.uid());
            self.client
                .delete_if_there(&CONTROLLER_REVISIONS, self.set.namespace(), r.name(), &options)
                .await?;
        }
        Ok(())
    }
}

fn lost(set: &Object) -> Error {
    Status::internal(format!("the revision of {}/{} is gone", set.namespace(), set.name())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(name: &str, number: i64, image: &str) -> Revision {
        let v = json!({"metadata": {"name": name, "uid": name}, "revision": number, "data": data(&template(image))});
        Revision::of(Object::from_value(v, 1).expect("object")).expect("revision")
    }

    fn template(image: &str) -> Value {
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"image": image}]}})
    }

    #[test]
    fn a_template_is_kept_bumped_or_new() {
        let all = [revision("a", 1, "one"), revision("b", 2, "two")];
        for (image, want) in
            [("two", Decision::Keep(1)), ("one", Decision::Bump(0, 3)), ("three", Decision::Create(3))]
        {
            assert_eq!(decide(&all, &data(&template(image))), want, "{image}");
        }
        assert_eq!(decide(&[], &data(&template("x"))), Decision::Create(1));
        assert_eq!(all[0].template(), template("one"));
    }

    #[test]
    fn the_oldest_that_nothing_lives_by_go_first() {
        let mut all: Vec<Revision> =
            (1..=5).rev().map(|i| revision(&format!("r{i}"), i, &format!("{i}"))).collect();
        sort(&mut all);
        let names = |live: &[&str], limit| -> Vec<String> {
            surplus(&all, &live.iter().copied().collect(), limit)
                .iter()
                .map(|r| r.name().to_owned())
                .collect()
        };
        assert_eq!(names(&["r1", "r5"], 2), ["r2"]);
        assert_eq!(names(&["r5"], 10), Vec::<String>::new());
        assert_eq!(names(&["r5"], 0), ["r1", "r2", "r3", "r4"]);
    }
}
