//! `kelson backup`: one revision of a cluster's store, and its keys, into a file that is whole or not there.

use std::fs;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use store::backup::{Header, Writer};

use super::place::{self, Place};
use super::{block_on, keys, size};
use crate::args::BackupArgs;
use crate::bar::Bar;
use crate::config::Instance;
use crate::mark;

/// The key in a header under which the cluster's networks stand.
pub const NETWORKS: &str = "networks";

pub fn main(args: BackupArgs) -> anyhow::Result<()> {
    block_on(run(args))
}

fn absent(file: &Path, force: bool) -> anyhow::Result<()> {
    match file.exists() && !force {
        true => bail!("{} is there already; name another file, or replace it with --force", file.display()),
        false => Ok(()),
    }
}

/// Goes with the backup unless that got its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

async fn run(args: BackupArgs) -> anyhow::Result<()> {
    let file = std::path::absolute(&args.file)?;
    let failed = || format!("failed to write {}", file.display());
    absent(&file, args.force)?;
    let place = place::find(&args.place).await?;
    if let Place::Server(server) = &place {
        let facts = server.facts()?;
        if facts.engine == "etcd" {
            let urls: Vec<String> = facts.parts.into_iter().map(|(url, _)| url).collect();
            bail!(
                "the cluster of {} is kept in an etcd, which is backed up directly: add --etcd-servers={}",
                args.place.data_dir.display(),
                urls.join(",")
            );
        }
    }
    let pki = if args.without_keys { Vec::new() } else { keys::read(&place::pki_dir(&args.place))? };
    if pki.is_empty() && !args.without_keys {
        bail!(
            "there are no keys in {}; name the cluster's data directory with --data-dir, or leave them out with --without-keys",
            place::pki_dir(&args.place).display()
        );
    }
    let mut more = serde_json::Map::new();
    if let Ok(mark::Place::Marked(m)) = mark::look(&Instance::of(&args.place.data_dir).data_dir)
        && let Some(networks) = m.networks
    {
        more.insert(NETWORKS.into(), serde_json::to_value(networks)?);
    }

    let tmp = PathBuf::from(format!("{}.partial", file.display()));
    // A new file, of our own and no link, whatever is left there: all of the cluster's secrets go into it.
    match fs::remove_file(&tmp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).with_context(failed),
        _ => {}
    }
    let out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp);
    let out = BufWriter::with_capacity(1 << 20, out.with_context(failed)?);
    let tmp = Unfinished(tmp);
    // Borrowed by both closures in turn.
    let (writer, header) = (std::cell::RefCell::new(None), std::cell::RefCell::new(Header::default()));
    let mut bar = Bar::counting(&format!("backing up into {}", file.display()), "objects");
    let mut out = Some(out);
    let mut done = 0;
    let begin = |h: Header| {
        let h = Header { more, ..h };
        let mut w = Writer::new(out.take().context("begun twice")?, &h).with_context(failed)?;
        pki.iter().try_for_each(|f| w.file(f)).with_context(failed)?;
        *header.borrow_mut() = h;
        *writer.borrow_mut() = Some(w);
        Ok(())
    };
    let visit = |r: &store::Record| {
        if let Some(w) = writer.borrow_mut().as_mut() {
            w.record(r).with_context(failed)?;
        }
        done += 1;
        if done % 500 == 0 {
            bar.show(done, header.borrow().records);
        }
        Ok(())
    };
    place.records("", false, begin, visit).await?;
    drop(bar);
    let (writer, header) = (writer.into_inner().context("nothing was read")?, header.into_inner());
    let out = writer
        .finish()
        .with_context(failed)?
        .into_inner()
        .map_err(|e| e.into_error())
        .with_context(failed)?;
    out.sync_all().with_context(failed)?;
    let bytes = out.metadata().with_context(failed)?.len();
    absent(&file, args.force)?;
    fs::rename(&tmp.0, &file).with_context(failed)?;
    if let Some(dir) = file.parent() {
        fs::File::open(dir).and_then(|d| d.sync_all()).with_context(failed)?;
    }
    println!(
        "{}: {} objects at revision {}, {}, {}",
        file.display(),
        header.records,
        header.revision,
        if pki.is_empty() { "without keys" } else { "with the cluster's keys" },
        size(bytes)
    );
    Ok(())
}
