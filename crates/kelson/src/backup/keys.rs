//! The cluster's keys: read into a backup, and put in place by a restore. Without them a restored cluster would be a new
//! one to its clients, and the tokens of its pods would be worth nothing.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use store::backup::Named;

const LEAD: &str = "pki/";
/// No key or certificate is longer.
const LONGEST: u64 = 1 << 20;

/// All files of the directory, by name.
pub fn read(dir: &Path) -> anyhow::Result<Vec<Named>> {
    let failed = || format!("failed to read the cluster's keys in {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(failed),
    };
    let mut files = Vec::new();
    for e in entries {
        let e = e.with_context(failed)?;
        let (name, meta) = (e.file_name(), e.metadata().with_context(failed)?);
        let Some(name) = name.to_str().filter(|n| !n.ends_with(".tmp")) else { continue };
        if !meta.is_file() || meta.len() > LONGEST {
            continue;
        }
        files
            .push(Named { name: format!("{LEAD}{name}"), content: fs::read(e.path()).with_context(failed)? });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The file's name in the directory; an error for one that would land elsewhere.
fn name(file: &Named) -> anyhow::Result<&str> {
    let name =
        file.name.strip_prefix(LEAD).filter(|n| !n.is_empty() && !n.contains('/') && !n.starts_with('.'));
    name.with_context(|| format!("the backup holds a file {:?}, which is none of a cluster's", file.name))
}

/// Refuses a backup with files that do not belong there.
pub fn check(files: &[Named]) -> anyhow::Result<()> {
    files.iter().try_for_each(|f| name(f).map(|_| ()))
}

/// Whether the directory has keys that a restore would replace.
pub fn present(dir: &Path) -> bool {
    dir.join("ca.key").exists() || dir.join("sa.key").exists()
}

/// Puts them in place, durably, each whole or not at all.
pub fn write(dir: &Path, files: &[Named]) -> anyhow::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let write = || -> anyhow::Result<()> {
        pki::make_dir(dir)?;
        files.iter().try_for_each(|f| Ok(pki::write_durable(&dir.join(name(f)?), &f.content)?))
    };
    write().with_context(|| format!("failed to write the cluster's keys into {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_directory_itself_is_written_to() {
        let at = |name: &str| Named { name: name.into(), content: vec![] };
        assert!(check(&[at("pki/ca.key"), at("pki/kubelet-node-1.crt")]).is_ok());
        for bad in ["ca.key", "pki/", "pki/../x", "pki/..", "pki/a/b", "/etc/passwd", "pki/.hidden", ""] {
            assert!(check(&[at(bad)]).is_err(), "{bad}");
        }
    }
}
