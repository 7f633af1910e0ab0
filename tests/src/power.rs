//! What a disk holds after a power loss, from the journal of the layer in `power_layer.c`: what was synced is there, what was
//! not may be there, missing, or torn at a sector, and the last such write always is torn. Names appear, change and go in
//! order, up to some point behind the directory's last sync.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SECTOR: usize = 512;
/// Files made while the layer was there are numbered from here.
const FRESH: u64 = 1 << 63;

/// Compiles the layer; `None` where there is no C compiler.
pub fn layer(dir: &Path) -> Option<PathBuf> {
    let (source, library) = (dir.join("power_layer.c"), dir.join("power_layer.so"));
    fs::write(&source, include_str!("power_layer.c")).expect("source");
    let gcc = Command::new("gcc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .output()
        .ok()?;
    assert!(gcc.status.success(), "{}", String::from_utf8_lossy(&gcc.stderr));
    Some(library)
}

/// Small, and the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or(0) % n.max(1)
    }
}

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

enum Name {
    Create(u64, PathBuf),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

impl Name {
    fn dir(&self) -> &Path {
        let (Name::Create(_, p) | Name::Rename(_, p) | Name::Unlink(p)) = self;
        p.parent().expect("a directory")
    }
}

#[derive(Default)]
struct Journal {
    changes: HashMap<u64, Vec<(u64, Change)>>,
    names: Vec<(u64, Name)>,
    synced: HashMap<u64, u64>,
    synced_dirs: HashMap<PathBuf, u64>,
}

fn parse(mut raw: &[u8]) -> Journal {
    let mut j = Journal::default();
    // A number that a removed file had is given out again.
    let mut files: HashMap<u64, u64> = HashMap::new();
    // The kill may have cut the last record off: then the call it tells of did not return.
    while let Some(end) = raw.iter().position(|b| *b == b'\n') {
        let line = String::from_utf8_lossy(&raw[..end]).into_owned();
        raw = &raw[end + 1..];
        let (seq, rest) = line.split_once(' ').expect("a record");
        let (what, rest) = rest.split_once(' ').expect("a record");
        let seq: u64 = seq.parse().expect("a number");
        let numbers: Vec<u64> = rest.split(' ').map_while(|n| n.parse().ok()).collect();
        let size = |n: u64| usize::try_from(n).expect("a size");
        if what == "create" {
            files.insert(numbers[0], FRESH + seq);
        }
        let file = |ino: &u64| files.get(ino).copied().unwrap_or(*ino);
        let change = match (what, &numbers[..]) {
            ("write", [ino, at, n]) => {
                if raw.len() < size(*n) {
                    break;
                }
                let (data, behind) = raw.split_at(size(*n));
                raw = behind;
                (file(ino), Change::Write(size(*at), data.to_vec()))
            }
            ("truncate", [ino, len]) => (file(ino), Change::Truncate(size(*len))),
            ("sync", [ino, upto]) => {
                let path = rest.splitn(3, ' ').nth(2).expect("a path");
                let of = j.synced.entry(file(ino)).or_default();
                *of = (*of).max(*upto);
                let of = j.synced_dirs.entry(path.into()).or_default();
                *of = (*of).max(*upto);
                continue;
            }
            _ => {
                let name = match what {
                    "create" => rest.split_once(' ').map(|(_, p)| Name::Create(file(&numbers[0]), p.into())),
                    "rename" => rest.split_once('\t').map(|(a, b)| Name::Rename(a.into(), b.into())),
                    "unlink" => Some(Name::Unlink(rest.into())),
                    _ => None,
                };
                j.names.extend(name.map(|n| (seq, n)));
                continue;
            }
        };
        j.changes.entry(change.0).or_default().push((seq, change.1));
    }
    j
}

fn apply(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    let end = at + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(data);
}

fn content(mut base: Vec<u8>, changes: &[(u64, Change)], synced: u64, dice: &mut Dice) -> Vec<u8> {
    let last = changes.iter().rposition(|(_, c)| matches!(c, Change::Write(..)));
    for (i, (seq, change)) in changes.iter().enumerate() {
        let durable = *seq <= synced;
        match change {
            Change::Truncate(len) if durable || dice.below(2) == 0 => base.resize(*len, 0),
            Change::Truncate(_) => {}
            Change::Write(at, data) if durable => apply(&mut base, *at, data),
            Change::Write(at, data) => match dice.below(3) {
                0 if Some(i) != last => {}
                1 if Some(i) != last => apply(&mut base, *at, data),
                // Some sectors came through, in no order.
                _ => {
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        if dice.below(2) == 0 {
                            apply(&mut base, at + n * SECTOR, sector);
                        }
                    }
                }
            },
        }
    }
    base
}

fn walk(dir: &Path, each: &mut impl FnMut(PathBuf)) {
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        match e.path().is_dir() {
            true => walk(&e.path(), each),
            false => each(e.path()),
        }
    }
}

/// What lay there before the layer was put over it: contents and names by inode.
#[derive(Default)]
pub struct Before {
    contents: HashMap<u64, Vec<u8>>,
    names: HashMap<PathBuf, u64>,
}

impl Before {
    pub fn of(root: &Path) -> Self {
        let mut before = Self::default();
        walk(root, &mut |path| {
            let ino = fs::metadata(&path).expect("metadata").ino();
            before.contents.insert(ino, fs::read(&path).expect("a file"));
            before.names.insert(path, ino);
        });
        before
    }
}

/// Puts into `root` what would be there after the power came back.
pub fn cut(root: &Path, journal: &Path, before: &Before, dice: &mut Dice) {
    let j = parse(&fs::read(journal).expect("the journal"));
    let mut names = before.names.clone();
    let mut given: HashMap<PathBuf, usize> = HashMap::new();
    for (seq, name) in &j.names {
        let dir = name.dir();
        let durable = j.synced_dirs.get(dir).is_some_and(|upto| seq <= upto);
        // So many more of a directory's changes came through.
        let left = given.entry(dir.to_owned()).or_insert_with(|| dice.below(6));
        if !durable && *left == 0 {
            continue;
        }
        *left -= usize::from(!durable);
        match name {
            Name::Create(ino, path) => drop(names.insert(path.clone(), *ino)),
            Name::Unlink(path) => drop(names.remove(path)),
            Name::Rename(from, to) => {
                if let Some(ino) = names.remove(from) {
                    names.insert(to.clone(), ino);
                }
            }
        }
    }
    let mut old = Vec::new();
    walk(root, &mut |path| old.push(path));
    let files: Vec<(PathBuf, Vec<u8>)> = names
        .into_iter()
        .map(|(path, ino)| {
            let base = before.contents.get(&ino).cloned().unwrap_or_default();
            let changes = j.changes.get(&ino).map(Vec::as_slice).unwrap_or_default();
            (path, content(base, changes, j.synced.get(&ino).copied().unwrap_or(0), dice))
        })
        .collect();
    for path in old {
        fs::remove_file(path).expect("remove");
    }
    for (path, content) in files {
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(path, content).expect("write");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_is_there_and_the_last_write_is_torn() {
        let changes = |n: usize| -> Vec<(u64, Change)> {
            (0..n)
                .map(|i| (i as u64 + 1, Change::Write(i * 4 * SECTOR, vec![i as u8 + 1; 4 * SECTOR])))
                .collect()
        };
        let all = content(vec![], &changes(3), 3, &mut Dice(7));
        assert!(all.len() == 12 * SECTOR && !all.contains(&0));
        let mut torn = 0;
        for seed in 1..50 {
            let some = content(vec![], &changes(3), 2, &mut Dice(seed));
            assert_eq!(some[..8 * SECTOR], all[..8 * SECTOR]);
            let sectors = some[8 * SECTOR..].chunks(SECTOR).filter(|s| s[0] == 3).count();
            torn += usize::from(sectors > 0 && sectors < 4);
        }
        assert!(torn > 10, "{torn}");
    }

    #[test]
    fn records_are_read_and_a_cut_one_is_none() {
        let j = parse(b"1 create 5 /r/a.tmp\n2 write 5 0 3\nab\n3 sync 5 2 /r/a.tmp\n4 rename /r/a.tmp\t/r/a\n5 sync 9 4 /r\n6 write 5 3 9\nxy");
        assert_eq!(
            (
                j.changes[&(FRESH + 1)].len(),
                j.names.len(),
                j.synced[&(FRESH + 1)],
                j.synced_dirs[Path::new("/r")]
            ),
            (1, 2, 2, 4)
        );
    }
}
