//! create of any kind. The order of the steps is upstream's: decode, default, ownership, mutating admission, system
//! fields and the kind's own rules, validation, validating admission, allocation, write.

use api::{Object, Reason, Status};
use http::StatusCode;
use serde_json::{Value, json};
use store::Op;

use super::managed::{Manager, on_write};
use super::write::{TRIES, Write, too_contended};
use super::{Target, convert, decode, meta, output};
use crate::adapt;
use crate::admission::Operation;
use crate::body::Reply;
use crate::call::Call;
use crate::registry::{Extra, rules};
use crate::server::ApiServer;
use crate::storage::{Encoded, Written, at_revision};

/// How often a generated name may be taken already.
const NAME_TRIES: usize = 8;

pub async fn handle(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    output::Wanted::of(call, target)?;
    let w = Write::new(s, call, target, "")?;
    let mut v = decode::object(call, target)?;
    meta::agree(&mut v, target, call.namespace_or_own(target), "")?;
    decode::to_hub(target, &mut v)?;
    let o = create(&w, v, true).await?;
    output::object(s, call, target, o, StatusCode::CREATED).await
}

/// Makes an object of the stored version. `own`: ownership of fields is tracked here (an apply has done it).
pub async fn create(w: &Write<'_>, mut v: Value, own: bool) -> Result<Object, Status> {
    let kind = &w.target.kind;
    if !meta::text(&v, "/metadata/resourceVersion").is_empty() {
        return Err(Status::new(
            Reason::Unknown,
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let now = client::clock::rfc3339(client::clock::now());
    if own {
        // Nobody owns a field that was sent empty: protobuf bodies carry such.
        adapt::canonical(kind, &mut v);
        let m = Manager { name: &w.manager, subresource: w.sub, now: &now };
        on_write(w, &mut v, None, &m).await?;
    }
    let mut base = w.admit(Operation::Create, v, None).await?;
    let has_generation = rules::has_generation(&kind.group, &kind.plural, kind.custom);
    let strategy = w.strategy();
    let generated = meta::name(&base).is_empty();
    let prefix = meta::text(&base, "/metadata/generateName").to_owned();
    let (mut names, mut tries) = (0, 0);
    // Where hooks, a new name or a conversion make something of it, each try begins with what was admitted.
    let again = generated || !strategy.is_plain() || kind.custom;
    loop {
        let mut new = if again { base.clone() } else { base.take() };
        if generated && !prefix.is_empty() {
            meta::meta_mut(&mut new)?.insert("name".into(), json!(meta::generate_name(&prefix)));
        }
        meta::born(&mut new, &uuid::Uuid::new_v4().to_string(), &now, has_generation)?;
        if w.target.has_subresource("status") && !rules::keeps_status(&kind.group, &kind.plural) {
            meta::object_mut(&mut new)?.insert("status".into(), json!({}));
        }
        strategy.prepare_create(&mut new);
        adapt::canonical(kind, &mut new);
        adapt::validate_create(kind, &new)?;
        let mut new = w.validated(Operation::Create, new, None).await?;
        strategy.warnings(&new, None).into_iter().for_each(|t| w.call.warnings.add(t));
        let mut extra = Extra::default();
        strategy.allocate(&w.context(), &mut new, None, &mut extra).await?;
        if !strategy.is_plain() {
            adapt::canonical(kind, &mut new);
        }
        let name = meta::name(&new).to_owned();
        let ttl = strategy.ttl(&new);
        let encoded = Encoded::new(convert::to_storage(w.server, w.target, new).await?)?;
        let key = w.target.key(w.namespace(), &name);
        if w.dry_run {
            if w.server.storage.get(&key).await?.is_some() {
                return Err(Status::already_exists(&kind.group, &kind.plural, &name));
            }
            return Ok(encoded.at(0));
        }
        let mut compare = vec![at_revision(&key, 0)];
        compare.append(&mut extra.compare);
        let mut ops: Vec<Op> = vec![encoded.put(&key, ttl)];
        ops.append(&mut extra.ops);
        w.charge(&mut compare, &mut ops)?;
        if let Written::Done { revision, .. } = w.server.storage.commit(compare, ops).await? {
            return Ok(encoded.at(revision));
        }
        if let Some(there) = w.server.storage.get(&key).await? {
            names += 1;
            if !generated || prefix.is_empty() {
                let mut st = Status::already_exists(&kind.group, &kind.plural, &name);
                if there.meta().is_deleting() {
                    st.message = format!("object is being deleted: {}", st.message);
                }
                return Err(st);
            }
            if names >= NAME_TRIES {
                let mut st = Status::already_exists(&kind.group, &kind.plural, &name);
                st.message = format!(
                    "{} \"{name}\" already exists, the server was not able to generate a unique name for the object",
                    kind.group_resource()
                );
                st.retry_after_seconds = 1;
                return Err(st);
            }
        }
        // Somebody else took the address or port that was to be allocated, or charged the quota.
        if !again {
            base = encoded.at(0).value().map_err(Status::internal)?;
        }
        tries += 1;
        if tries >= TRIES {
            return Err(too_contended(w.target, &name));
        }
    }
}
