//! The FORMAT file: which version of the on-disk form a data directory has. Newer is refused, older is migrated.

use std::io;
use std::path::Path;

use super::fs::Fs;
use crate::Error;

pub(super) const NAME: &str = "FORMAT";
const LEAD: &str = "kelson-store ";

/// Brings a directory from the version at its index (plus one) to the next.
pub(super) type Migration = fn(&dyn Fs, &Path) -> io::Result<()>;

/// One step for each version that was ever released, oldest first. Version 1 is the first.
pub(super) const MIGRATIONS: &[Migration] = &[];

pub(super) fn known(migrations: &[Migration]) -> u32 {
    migrations.len() as u32 + 1
}

/// The version in the file, `None` when there is no file.
pub(super) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<u32>, Error> {
    let path = dir.join(NAME);
    let name = path.display().to_string();
    let file = match fs.open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { what: format!("open {name}"), source }),
    };
    let len = file.len().map_err(|source| Error::Io { what: format!("read {name}"), source })?.min(64);
    let mut text = vec![0; len as usize];
    file.read_at(&mut text, 0).map_err(|source| Error::Io { what: format!("read {name}"), source })?;
    let version = std::str::from_utf8(&text).ok().and_then(|t| t.strip_prefix(LEAD)?.trim_end().parse().ok());
    match version {
        Some(version) if version > 0 => Ok(Some(version)),
        _ => Err(Error::Damaged { path: name, offset: 0, why: "it does not name a format version".into() }),
    }
}

pub(super) fn write(fs: &dyn Fs, dir: &Path, version: u32) -> io::Result<()> {
    let tmp = dir.join("FORMAT.tmp");
    let file = fs.create(&tmp)?;
    file.write_at(format!("{LEAD}{version}\n").as_bytes(), 0)?;
    file.sync()?;
    fs.rename(&tmp, &dir.join(NAME))?;
    fs.sync_dir(dir)
}

/// Refuses a newer version and migrates an older one, a durable step at a time.
pub(super) fn settle(fs: &dyn Fs, dir: &Path, found: u32, migrations: &[Migration]) -> Result<(), Error> {
    let known = known(migrations);
    if found > known {
        return Err(Error::Newer { path: dir.display().to_string(), found, known });
    }
    for version in found..known {
        let step =
            |source| Error::Io { what: format!("migrate {} from format {version}", dir.display()), source };
        if let Some(migrate) = migrations.get(version as usize - 1) {
            migrate(fs, dir).map_err(step)?;
        }
        write(fs, dir, version + 1).map_err(step)?;
        tracing::info!(dir = %dir.display(), from = version, to = version + 1, "migrated the store");
    }
    Ok(())
}
