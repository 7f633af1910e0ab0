//! Texts of the published schemas, which `kubectl explain` shows: what every object has. Pure.

use std::borrow::Cow;

pub(super) const API_VERSION: &str =
    "APIVersion defines the group and the version in which this object is written.";
pub(super) const KIND: &str = "Kind names the resource that this object stands for, in CamelCase.";
pub(super) const METADATA: &str =
    "Standard object's metadata: its name, its namespace and what the system notes down.";

/// The text of a definition, or of one of its fields.
pub fn of<'a>(id: &str, field: Option<&str>) -> Option<Cow<'a, str>> {
    let short = id.rsplit('.').next().unwrap_or_default();
    let text = match (short, field?) {
        ("ObjectMeta", f) => object_meta(f)?,
        ("OwnerReference", f) => owner_reference(f)?,
        (_, "apiVersion") => API_VERSION,
        (_, "kind") => KIND,
        (_, "metadata") => METADATA,
        _ => return None,
    };
    Some(Cow::Borrowed(text))
}

fn object_meta(field: &str) -> Option<&'static str> {
    Some(match field {
        "annotations" => "Annotations hold what tools note on the object; nothing is selected by them.",
        "creationTimestamp" => {
            "CreationTimestamp is a timestamp of the moment in which the server made the object. Read-only."
        }
        "deletionGracePeriodSeconds" => {
            "How many seconds the object may take to end once its deletion was asked for. Read-only."
        }
        "deletionTimestamp" => {
            "The moment at which the object goes, set when its deletion was asked for. Read-only."
        }
        "finalizers" => {
            "Who has to finish something before the object may go. It stays, marked as deleted, until the list is empty."
        }
        "generateName" => "The beginning of a name that the server completes, when no name is given.",
        "generation" => "Counts the changes of what is wished for. Read-only.",
        "labels" => "Labels sort objects; selectors find objects by them.",
        "managedFields" => "Which writer owns which fields. Kept by the server for server-side apply.",
        "name" => "The name, unique among the objects of its resource in the namespace. It never changes.",
        "namespace" => {
            "The namespace in which the name is unique. It never changes; objects of the whole cluster have none."
        }
        "ownerReferences" => {
            "The objects that this one belongs to. When the last of them has gone, this one goes, too."
        }
        "resourceVersion" => {
            "Names this version of the object, for updates that must not overwrite others and for watches. Read-only."
        }
        "selfLink" => "No longer set.",
        "uid" => {
            "Tells this object from all others of all times, also from those of the same name. Read-only."
        }
        _ => return None,
    })
}

fn owner_reference(field: &str) -> Option<&'static str> {
    Some(match field {
        "apiVersion" => "Group and version of the owner.",
        "blockOwnerDeletion" => {
            "Whether the owner, when it is deleted in the foreground, waits for this object to go first."
        }
        "controller" => "Whether this owner is the one that controls the object.",
        "kind" => "Kind of the owner.",
        "name" => "Name of the owner.",
        "uid" => "UID of the owner.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_object_has_is_told() {
        let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        for f in &crate::schema::definition(meta).expect("ObjectMeta").fields {
            assert!(of(meta, Some(&f.name)).is_some(), "{}", f.name);
        }
        assert_eq!(of("io.k8s.api.core.v1.Pod", Some("kind")).as_deref(), Some(KIND));
        assert_eq!(of("io.k8s.api.core.v1.Pod", Some("spec")), None);
    }
}
