//! PUT of any kind and subresource, and the compare-and-write loop under every other change of an object.

use api::{Object, Status};
use async_trait::async_trait;
use http::StatusCode;
use serde_json::Value;
use store::Op;

use super::managed::{Manager, on_write};
use super::write::{TRIES, Write, too_contended};
use super::{Target, convert, create, decode, meta, output};
use crate::adapt;
use crate::admission::Operation;
use crate::body::Reply;
use crate::call::Call;
use crate::registry::{Extra, rules};
use crate::server::ApiServer;
use crate::storage::{Encoded, Written, at_revision};

/// Makes the new object (in the version that is worked on) from the current one, which carries its resourceVersion. May
/// run several times.
#[async_trait]
pub trait Transform: Send {
    async fn make(&mut self, old: Option<&Value>) -> Result<Value, Status>;
}

#[async_trait]
impl<F: FnMut(Option<&Value>) -> Result<Value, Status> + Send> Transform for F {
    async fn make(&mut self, old: Option<&Value>) -> Result<Value, Status> {
        self(old)
    }
}

/// Rules of one update.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// A missing object is made.
    pub upsert: bool,
    /// The transform keeps managedFields itself (apply).
    pub owns_fields: bool,
    /// A missing resourceVersion is fine whatever the kind says (the transform starts from the current object).
    pub unconditional: bool,
}

pub async fn handle(s: &ApiServer, call: &Call, target: &Target, sub: &str) -> Result<Reply, Status> {
    output::Wanted::of(call, target)?;
    let w = Write::new(s, call, target, sub)?;
    let mut v = decode::object(call, target)?;
    meta::agree(&mut v, target, call.namespace_or_own(target), call.name())?;
    decode::to_hub(target, &mut v)?;
    let rules = Rules {
        upsert: sub.is_empty() && rules::create_on_update(&target.kind.group, &target.kind.plural),
        ..Rules::default()
    };
    let (o, created) = update(&w, rules, &mut |_: Option<&Value>| Ok(v.clone())).await?;
    output::object(s, call, target, o, if created { StatusCode::CREATED } else { StatusCode::OK }).await
}

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Answers the object and whether it was made.
pub async fn update(
    w: &Write<'_>,
    r: Rules,
    transform: &mut dyn Transform,
) -> Result<(Object, bool), Status> {
    let kind = &w.target.kind;
    let name = w.call.name().to_owned();
    let key = w.target.key(w.namespace(), &name);
    for _ in 0..TRIES {
        let Some(current) = w.server.storage.get(&key).await? else {
            if !r.upsert {
                return Err(w.target.not_found(&name));
            }
            let mut new = transform.make(None).await?;
            if !meta::text(&new, "/metadata/uid").is_empty() {
                return Err(other_uid(w, &name, meta::text(&new, "/metadata/uid"), ""));
            }
            meta::meta_mut(&mut new)?.remove("resourceVersion");
            match create::create(w, new, !r.owns_fields).await {
                Ok(o) => return Ok((o, true)),
                // Somebody made it in between: it is an update now.
                Err(st) if st.is_already_exists() && !w.dry_run => continue,
                Err(st) => return Err(st),
            }
        };
        let mut old = convert::from_storage(w.server, w.target, &current).await?;
        let mut new = transform.make(Some(&old)).await?;
        check_versions(w, r, &new, &current)?;
        meta::meta_mut(&mut new)?.remove("resourceVersion");
        meta::meta_mut(&mut old)?.remove("resourceVersion");

        let strategy = w.strategy();
        meta::kept(&mut new, &old)?;
        meta::split_status(w.target, w.sub, &mut new, &old)?;
        strategy.prepare_update(w.sub, &mut new, &old);
        let now = client::clock::rfc3339(client::clock::now());
        if !r.owns_fields {
            adapt::canonical(kind, &mut new);
            let m = Manager { name: &w.manager, subresource: w.sub, now: &now };
            on_write(w, &mut new, Some(&old), &m).await?;
        }
        let mut new = w.admit(Operation::Update, new, Some(&old)).await?;
        // Admission may not bring back what the rules above took out.
        meta::kept(&mut new, &old)?;
        let mut extra = Extra::default();
        adapt::canonical(kind, &mut new);
        adapt::validate_update(kind, w.sub, &new, &old)?;
        strategy.allocate(&w.context(), &mut new, Some(&old), &mut extra).await?;
        adapt::canonical(kind, &mut new);
        if w.sub != "status"
            && rules::has_generation(&kind.group, &kind.plural, kind.custom)
            && (meta::spec_changed(&new, &old)
                || (rules::annotations_count(&kind.group, &kind.plural)
                    && meta::annotations_changed(&new, &old)))
        {
            meta::bump_generation(&mut new)?;
        }
        let new = w.validated(Operation::Update, new, Some(&old)).await?;
        strategy.warnings(&new, Some(&old)).into_iter().for_each(|t| w.call.warnings.add(t));

        let gone = meta::is_finished(&new) && !strategy.held_back(&new);
        let ttl = strategy.ttl(&new);
        if gone {
            strategy.release(&w.context(), &new, &mut extra).await?;
        }
        let mut new = new;
        patch::apply::keep_times_if_unchanged(&old, &mut new);
        let encoded = Encoded::new(convert::to_storage(w.server, w.target, new).await?)?;
        if !gone && encoded.bytes == current.stored_bytes() {
            // Nothing changed: no write, no new version.
            return Ok((current, false));
        }
        if w.dry_run {
            return Ok((encoded.at(current.revision()), false));
        }
        let mut compare = vec![at_revision(&key, current.revision())];
        compare.append(&mut extra.compare);
        let mut ops: Vec<Op> =
            if gone { vec![Op::Delete { key: key.clone() }] } else { vec![encoded.put(&key, ttl)] };
        ops.append(&mut extra.ops);
        w.charge(&mut compare, &mut ops)?;
        match w.server.storage.commit(compare, ops).await? {
            Written::Done { revision, .. } => return Ok((encoded.at(revision), false)),
            Written::Lost => tracing::trace!(key, "lost a race, trying again"),
        }
    }
    Err(too_contended(w.target, &name))
}

/// The object is another one than the client has seen, in the words of upstream's storage.
fn other_uid(w: &Write<'_>, name: &str, asked: &str, is: &str) -> Status {
    let key = w.target.key(w.namespace(), name);
    w.target.conflict(
        name,
        &format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {asked}, UID in object meta: {is}"
        ),
    )
}

/// Optimistic concurrency: the version and uid that the client has seen must still be the current ones.
fn check_versions(w: &Write<'_>, r: Rules, new: &Value, current: &Object) -> Result<(), Status> {
    let kind = &w.target.kind;
    let uid = meta::text(new, "/metadata/uid");
    if !uid.is_empty() && uid != current.uid() {
        return Err(other_uid(w, current.name(), uid, current.uid()));
    }
    match meta::text(new, "/metadata/resourceVersion") {
        "" | "0" => {
            if r.unconditional || rules::unconditional_update(&kind.group, &kind.plural, kind.custom) {
                return Ok(());
            }
            // Upstream names the resource here, not the kind.
            Err(Status::invalid(
                &kind.group,
                &kind.plural,
                current.name(),
                vec![api::Cause {
                    reason: "FieldValueInvalid".into(),
                    message: "Invalid value: 0: must be specified for an update".into(),
                    field: "metadata.resourceVersion".into(),
                }],
            ))
        }
        v => match v.parse::<u64>() {
            Ok(n) if n == current.revision() => Ok(()),
            Ok(_) => Err(w.target.conflict(current.name(), MODIFIED)),
            Err(_) => Err(Status::invalid(
                &kind.group,
                &kind.kind,
                current.name(),
                vec![api::Cause {
                    reason: "FieldValueInvalid".into(),
                    message: format!("Invalid value: \"{v}\": must be a number"),
                    field: "metadata.resourceVersion".into(),
                }],
            )),
        },
    }
}
