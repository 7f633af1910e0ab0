//! Container log files: reading parts of them, rotating and removing them.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The first `max` bytes.
pub fn head(path: &Path, max: u64) -> String {
    let mut buf = Vec::new();
    if let Ok(f) = File::open(path) {
        let _ = f.take(max).read_to_end(&mut buf);
    }
    String::from_utf8_lossy(&buf).into_owned()
}

/// The text of the last `lines` log lines, at most `bytes` of it.
pub fn last_lines(path: &Path, lines: usize, bytes: usize) -> String {
    let Ok(mut f) = File::open(path) else { return String::new() };
    let len = f.metadata().map_or(0, |m| m.len());
    let window = (bytes as u64 * 4 + (lines as u64) * 48).min(len);
    let mut raw = Vec::new();
    if f.seek(SeekFrom::End(-i64::try_from(window).unwrap_or(0))).is_err() || f.read_to_end(&mut raw).is_err()
    {
        return String::new();
    }
    let text = String::from_utf8_lossy(&raw);
    let mut all: Vec<&str> = text.split_inclusive('\n').collect();
    if window < len && !all.is_empty() {
        all.remove(0);
    }
    let from = all.len().saturating_sub(lines);
    let mut out = String::new();
    for l in all.iter().skip(from) {
        // `<time> <stream> <P|F> <text>`
        let mut parts = l.splitn(4, ' ');
        let (tag, content) = (parts.nth(2).unwrap_or_default(), parts.next().unwrap_or_default());
        out.push_str(if tag == "P" { content.trim_end_matches('\n') } else { content });
    }
    let mut cut = out.len().saturating_sub(bytes);
    while !out.is_char_boundary(cut) {
        cut += 1;
    }
    out.split_off(cut)
}

/// `0.log` and what rotation made of it.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut old: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
        .map(|e| e.path())
        .collect();
    // Names hold the time of rotation: they sort by age.
    old.sort();
    old.push(path.to_owned());
    old
}

pub fn remove(path: &Path) {
    for f in files_of(path) {
        let _ = fs::remove_file(f);
    }
}

/// Moves a log that has grown over `max_bytes` aside and keeps at most `max_files` in all. Gives whether the runtime has
/// to open it anew.
pub fn rotate(path: &Path, max_bytes: u64, max_files: usize, now: &str) -> std::io::Result<bool> {
    if fs::metadata(path).map_or(0, |m| m.len()) < max_bytes {
        return Ok(false);
    }
    let mut all = files_of(path);
    all.pop();
    let keep = max_files.saturating_sub(2);
    let drop = all.len().saturating_sub(keep);
    for f in all.iter().take(drop) {
        fs::remove_file(f)?;
    }
    let mut to = path.as_os_str().to_owned();
    to.push(format!(".{now}"));
    fs::rename(path, to)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_joins_parts() {
        let t = tempfile::tempdir().expect("dir");
        let p = t.path().join("0.log");
        fs::write(&p, "t stdout F one\nt stderr P tw\nt stderr F o\nt stdout F three\n").expect("write");
        assert_eq!(last_lines(&p, 3, 100), "two\nthree\n");
        assert_eq!(last_lines(&p, 80, 5), "hree\n");
        assert_eq!(head(&p, 4), "t st");
    }

    #[test]
    fn rotation_keeps_a_bounded_number() {
        let t = tempfile::tempdir().expect("dir");
        let p = t.path().join("0.log");
        for n in 0..5 {
            fs::write(&p, "0123456789").expect("write");
            assert!(rotate(&p, 10, 3, &format!("2026010{n}")).expect("rotate"));
        }
        fs::write(&p, "x").expect("write");
        assert!(!rotate(&p, 10, 3, "9").expect("rotate"));
        assert_eq!(files_of(&p).len(), 3);
    }
}
