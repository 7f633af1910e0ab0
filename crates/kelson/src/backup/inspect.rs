//! `kelson store`: what is in a cluster's store, how big it is, whether it is whole.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Context, bail};
use apiserver::storage::foreign::RANGES;
use serde_json::Value;
use store::embedded::{self, offline};
use store::{Record, Store as _};

use super::place::{self, Place};
use super::{block_on, forget, size};
use crate::args::{StoreArgs, StoreCommand};
use crate::bar::Bar;

pub fn main(args: StoreArgs) -> anyhow::Result<()> {
    block_on(async {
        match args.command {
            StoreCommand::Status { place } => status(&place::find(&place).await?).await,
            StoreCommand::Ls { below, place } => list(&place::find(&place).await?, &below).await,
            StoreCommand::Get { key, place, output } => get(&place::find(&place).await?, &key, &output).await,
            StoreCommand::Compact { revision, place } => compact(place::find(&place).await?, revision).await,
            StoreCommand::Check { place } => check(&place::find(&place).await?).await,
        }
    })
}

/// What a key is of: `pods`, `services/specs`, `example.com/things`.
fn kind(key: &str) -> &str {
    let rest = key.strip_prefix("/registry/").unwrap_or(key);
    let mut slashes = rest.match_indices('/').map(|(i, _)| i);
    let (first, second) = (slashes.next(), slashes.next());
    let head = &rest[..first.unwrap_or(rest.len())];
    // Of these the second segment tells more.
    match second {
        Some(second) if head.contains('.') || head == "services" || head == "ranges" => &rest[..second],
        _ => head,
    }
}

async fn status(place: &Place) -> anyhow::Result<()> {
    let facts = place.facts().await?;
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let count = |r: &Record| {
        let kind = kinds.entry(kind(&r.key).to_owned()).or_default();
        kind.0 += 1;
        kind.1 += (r.key.len() + r.value.len()) as u64;
        Ok(())
    };
    place.records("", false, |_| Ok(()), count).await?;
    let server = match place {
        Place::Server(_) => ", read through its server",
        Place::Files(..) => ", no server runs",
        Place::Etcd(_) => "",
    };
    println!("store      {}{server}", facts.engine);
    println!("revision   {}", facts.revision);
    if facts.compacted > 0 {
        println!("compacted  {}", facts.compacted);
    }
    println!("keys       {}", facts.keys);
    if facts.bytes_in_memory > 0 {
        println!("in memory  {}", size(facts.bytes_in_memory));
    }
    if facts.bytes_on_disk > 0 {
        println!("on disk    {}", size(facts.bytes_on_disk));
    }
    for (part, bytes) in &facts.parts {
        match bytes {
            0 => println!("           {part}"),
            n => println!("           {part}  {}", size(*n)),
        }
    }
    println!("\n{:<50} {:>8} {:>12}", "KIND", "KEYS", "BYTES");
    for (kind, (keys, bytes)) in kinds {
        println!("{kind:<50} {keys:>8} {:>12}", size(bytes));
    }
    Ok(())
}

async fn list(place: &Place, prefix: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let print = |r: &Record| {
        writeln!(out, "{:>12} {:>9}  {}", r.mod_revision, r.value.len(), r.key).map_err(anyhow::Error::from)
    };
    let listed = place.records(prefix, false, |_| Ok(()), print).await;
    match listed.and_then(|()| Ok(out.flush()?)) {
        // Whoever reads has seen enough.
        Err(e)
            if e.downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// A record's object, as it is stored.
fn object(r: &Record) -> Result<Value, String> {
    if r.value.starts_with(api::protobuf::MAGIC) {
        return Err("it is protobuf, as upstream writes it, and not JSON".into());
    }
    serde_json::from_slice(&r.value).map_err(|e| format!("it is not JSON: {e}"))
}

async fn get(place: &Place, key: &str, form: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let found = RefCell::new(None);
    let keep = |r: &Record| {
        *found.borrow_mut() = Some((r.value.clone(), r.mod_revision, r.version, object(r)));
        Ok(())
    };
    place.records(key, true, |_| Ok(()), keep).await?;
    let Some((value, revision, version, object)) = found.into_inner() else {
        bail!("there is no key {key}; kelson store ls lists them");
    };
    let mut out = std::io::stdout().lock();
    if form == "raw" {
        return Ok(out.write_all(&value)?);
    }
    let mut object =
        object.map_err(anyhow::Error::msg).with_context(|| format!("{key} can't be shown; try -o raw"))?;
    // As the API shows it: a revision exists only once it is stored.
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert("resourceVersion".into(), revision.to_string().into());
    }
    match form {
        "json" => writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?,
        _ => write!(
            out,
            "# {key}, revision {revision}, change {version}\n{}",
            serde_norway::to_string(&object)?
        )?,
    }
    Ok(())
}

async fn compact(place: Place, revision: Option<u64>) -> anyhow::Result<()> {
    let before = place.facts().await?;
    let revision = revision.unwrap_or(before.revision);
    if revision > before.revision {
        bail!("revision {revision} lies in the future; the newest one is {}", before.revision);
    }
    match &place {
        Place::Server(server) => server.compact(revision)?,
        Place::Etcd(direct) => direct.compact(revision).await?,
        Place::Files(instance, _) => {
            let engine = embedded::Engine::open(embedded::Options::new(instance.store_dir()))?;
            let done = forget(&engine, revision).await;
            engine.close().await?;
            done?;
        }
    }
    let after = place.facts().await?;
    println!(
        "history before revision {revision} is gone; on disk {} before, {} now",
        size(before.bytes_on_disk),
        size(after.bytes_on_disk)
    );
    Ok(())
}

/// What is wrong with a record; `None`: nothing.
fn fault(r: &Record) -> Option<String> {
    // What Kelson keeps for itself is no object, and neither is who has which address or port.
    if r.key.starts_with("/registry/kelson/") || r.key.starts_with(RANGES) {
        return None;
    }
    let object = match object(r) {
        Ok(object) => object,
        Err(why) => return Some(why),
    };
    let text = |v: &Value| v.as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    for field in ["apiVersion", "kind"] {
        if text(&object[field]).is_none() {
            return Some(format!("it has no {field}"));
        }
    }
    if !object["metadata"].is_object() {
        return Some("it has no metadata".into());
    }
    let mut path = r.key.rsplit('/');
    let (last, before) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
    if let Some(name) = text(&object["metadata"]["name"])
        && name != last
    {
        return Some(format!("its name is {name:?}, its key says {last:?}"));
    }
    match text(&object["metadata"]["namespace"]) {
        Some(ns) if ns != before => Some(format!("its namespace is {ns:?}, its key says {before:?}")),
        _ => None,
    }
}

async fn check(place: &Place) -> anyhow::Result<()> {
    let mut faults = 0;
    if let Place::Files(instance, _) = place {
        let dir = instance.store_dir();
        let Some(found) = offline::check(&dir)? else {
            bail!(
                "{} holds no store; if the cluster is kept in an etcd, name it with --etcd-servers",
                dir.display()
            );
        };
        println!("{} files, {} of log and snapshots", found.files, size(found.bytes));
        found.faults.iter().for_each(|e| println!("fault: {e}"));
        if !found.faults.is_empty() {
            bail!(
                "{} faults in the files of {}; what is told can be restored from a backup only",
                found.faults.len(),
                dir.display()
            );
        }
    }
    let mut bar = Bar::counting("checking", "objects");
    let (total, mut done) = (RefCell::new(0), 0);
    let mut told = Vec::new();
    let begin = |h: store::backup::Header| {
        *total.borrow_mut() = h.records;
        Ok(())
    };
    let visit = |r: &Record| {
        done += 1;
        if done % 500 == 0 {
            bar.show(done, *total.borrow());
        }
        if let Some(why) = fault(r) {
            faults += 1;
            // Bounded, however bad it is.
            if told.len() < 100 {
                told.push(format!("{}: {why}", r.key));
            }
        }
        Ok(())
    };
    place.records("", false, begin, visit).await?;
    drop(bar);
    told.iter().for_each(|t| println!("fault: {t}"));
    println!("{done} objects were read");
    if matches!(place, Place::Server(_)) {
        println!("the files are verified when the server is stopped");
    }
    match faults {
        0 => {
            println!("no fault was found");
            Ok(())
        }
        n => bail!("{n} objects are damaged"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    #[test]
    fn kinds_are_told_by_keys() {
        for (key, want) in [
            ("/registry/pods/default/web", "pods"),
            ("/registry/namespaces/default", "namespaces"),
            ("/registry/services/specs/default/web", "services/specs"),
            ("/registry/example.com/things/default/t", "example.com/things"),
            (
                "/registry/apiextensions.k8s.io/customresourcedefinitions/x.y",
                "apiextensions.k8s.io/customresourcedefinitions",
            ),
            ("/registry/x", "x"),
            ("other", "other"),
            ("", ""),
        ] {
            assert_eq!(kind(key), want, "{key}");
        }
    }

    #[test]
    fn faults_of_objects_are_told() {
        let record = |key: &str, value: &str| Record {
            key: key.into(),
            value: value.to_owned().into(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            expires_at_ms: None,
            aux: OnceLock::new(),
        };
        let key = "/registry/pods/default/web";
        let good = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"default"}}"#;
        assert_eq!(fault(&record(key, good)), None);
        for (value, part) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("k8s\0x", "protobuf"),
            ("[]", "apiVersion"),
            (r#"{"apiVersion":"v1"}"#, "no kind"),
            (r#"{"apiVersion":"v1","kind":"Pod"}"#, "no metadata"),
            (&good.replace("\"web\"", "\"wob\""), "its name"),
            (&good.replace("\"default\"", "\"other\""), "its namespace"),
        ] {
            let told = fault(&record(key, value)).expect(value);
            assert!(told.contains(part), "{told}");
        }
    }
}
