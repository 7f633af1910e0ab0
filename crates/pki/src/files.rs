//! Files of the pki directory: written whole or not at all, readable by their owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::Error;

/// Whether a file must survive a power loss. What can be issued again needs no fsync: start-up time counts, and a
/// torn leaf certificate is simply replaced at the next start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Durable,
    Replaceable,
}

/// A directory that only its owner may enter, and those above it.
pub fn make_dir(dir: &Path) -> Result<(), Error> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(dir) {
        Ok(()) => Ok(()),
        Err(source) => Err(Error::Io { what: "make directory", path: dir.display().to_string(), source }),
    }
}

/// `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(s) => Ok(Some(s)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { what: "read", path: path.display().to_string(), source }),
    }
}

/// Writes a file that has to survive a power loss; whole or not at all, readable by its owner only.
pub fn write_durable(path: &Path, content: &[u8]) -> Result<(), Error> {
    write(path, content, Keep::Durable)
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>, keep: Keep) -> Result<(), Error> {
    let run = || -> io::Result<()> {
        let tmp = path.with_extension("tmp");
        match fs::remove_file(&tmp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut f = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp)?;
        f.write_all(content.as_ref())?;
        if keep == Keep::Durable {
            f.sync_all()?;
        }
        drop(f);
        fs::rename(&tmp, path)?;
        if keep == Keep::Durable
            && let Some(dir) = path.parent()
        {
            fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    run().map_err(|source| Error::Io { what: "write", path: path.display().to_string(), source })
}
