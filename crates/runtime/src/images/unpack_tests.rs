//! Layers as attackers and as builders write them. Needs root (owners, device nodes, trusted attributes).

use super::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let p = std::env::temp_dir().join(format!("unpack-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&p);
        fs::create_dir_all(p.join("root")).unwrap();
        Tree(p)
    }
    fn root(&self) -> PathBuf {
        self.0.join("root")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn header(path: &str, kind: tar::EntryType, len: usize) -> tar::Header {
    let mut h = tar::Header::new_gnu();
    // Not `set_path`: it refuses the paths these tests are about.
    let name = &mut h.as_gnu_mut().unwrap().name;
    name[..path.len()].copy_from_slice(path.as_bytes());
    h.set_entry_type(kind);
    h.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
    h.set_size(len as u64);
    h.set_mtime(1_000_000);
    h
}

#[derive(Default)]
struct Maker(Vec<u8>);

impl Maker {
    fn add(mut self, mut h: tar::Header, body: &[u8]) -> Self {
        h.set_cksum();
        self.0.extend_from_slice(h.as_bytes());
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    fn file(self, path: &str, body: &str) -> Self {
        self.add(header(path, tar::EntryType::Regular, body.len()), body.as_bytes())
    }
    fn dir(self, path: &str) -> Self {
        self.add(header(path, tar::EntryType::Directory, 0), b"")
    }
    fn link(self, kind: tar::EntryType, path: &str, target: &str) -> Self {
        let mut h = header(path, kind, 0);
        h.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.add(h, b"")
    }
    fn into(mut self, t: &Tree) -> Result<u64, UnpackError> {
        self.0.extend_from_slice(&[0; 1024]);
        unpack(&self.0[..], &t.root())
    }
}

#[test]
fn nothing_gets_out() {
    let t = Tree::new("out");
    let outside = t.0.join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "x").unwrap();
    let out = outside.display().to_string();
    assert!(Maker::default().file("../outside/a", "x").into(&t).is_err());
    assert!(Maker::default().file("a/../../outside/b", "x").into(&t).is_err());
    // An absolute name means the layer's root; links point inside it.
    Maker::default().file(&format!("{out}/abs"), "x").into(&t).unwrap();
    let sym = tar::EntryType::Symlink;
    Maker::default().link(sym, "lnk", &out).file("lnk/through", "x").into(&t).unwrap();
    Maker::default().link(sym, "up", "../outside").file("up/through", "x").into(&t).unwrap();
    Maker::default().link(sym, "f", &format!("{out}/secret")).file("f", "new").into(&t).unwrap();
    let hard = tar::EntryType::Link;
    assert!(Maker::default().link(hard, "h", "../outside/secret").into(&t).is_err());
    assert!(Maker::default().link(hard, "h", &format!("{out}/secret")).into(&t).is_err());
    let back = Maker::default().link(sym, "d", "../outside").link(hard, "h", "d/secret");
    assert!(back.into(&t).is_err());
    assert!(Maker::default().file(".wh...", "").into(&t).is_err());
    Maker::default().link(sym, "w", "../outside").file("w/.wh.secret", "").into(&t).unwrap();
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "x");
    let left: Vec<_> = fs::read_dir(&outside).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["secret"]);
    assert_eq!(fs::read_to_string(t.root().join("f")).unwrap(), "new");
}

#[test]
fn whiteouts_links_owners_and_times() {
    let t = Tree::new("forms");
    let mut owned = header("etc/owned", tar::EntryType::Regular, 1);
    owned.set_uid(1234);
    owned.set_gid(4321);
    owned.set_mode(0o4755);
    Maker::default()
        .dir("etc/")
        .file("etc/a", "hello")
        .link(tar::EntryType::Link, "etc/b", "etc/a")
        .link(tar::EntryType::Symlink, "etc/c", "/etc/a")
        .add(owned, b"x")
        .file("etc/.wh.gone", "")
        .file("opq/.wh..wh..opq", "")
        .file("deep/er/file", "made its parents")
        .into(&t)
        .unwrap();
    let r = t.root();
    let m = fs::metadata(r.join("etc/owned")).unwrap();
    assert_eq!((m.uid(), m.gid(), m.mode() & 0o7777), (1234, 4321, 0o4755));
    assert_eq!(fs::metadata(r.join("etc/a")).unwrap().ino(), fs::metadata(r.join("etc/b")).unwrap().ino());
    assert_eq!(fs::read_link(r.join("etc/c")).unwrap(), Path::new("/etc/a"));
    assert_eq!(fs::metadata(r.join("etc")).unwrap().mtime(), 1_000_000);
    let w = fs::symlink_metadata(r.join("etc/gone")).unwrap();
    assert!(w.file_type().is_char_device() && w.rdev() == 0);
    assert!(r.join("deep/er/file").is_file());
}

#[test]
fn later_entries_win() {
    let t = Tree::new("order");
    Maker::default()
        .dir("x/")
        .file("x/inner", "1")
        .file("x", "now a file")
        .file("y", "a file")
        .dir("y/")
        .file("y/inner", "2")
        .into(&t)
        .unwrap();
    assert_eq!(fs::read_to_string(t.root().join("x")).unwrap(), "now a file");
    assert_eq!(fs::read_to_string(t.root().join("y/inner")).unwrap(), "2");
}

#[test]
fn a_cut_layer_is_an_error() {
    let t = Tree::new("cut");
    let m = Maker::default().file("a", &"x".repeat(4000));
    assert!(unpack(&m.0[..1500], &t.root()).is_err());
}

#[test]
fn files_are_read_inside_the_root() {
    let t = Tree::new("read");
    fs::create_dir(t.root().join("etc")).unwrap();
    std::os::unix::fs::symlink("/passwd-of-image", t.root().join("etc/passwd")).unwrap();
    fs::write(t.root().join("passwd-of-image"), "inside").unwrap();
    assert_eq!(read_in_root(&t.root(), "etc/passwd", 100).unwrap().unwrap(), "inside");
    assert_eq!(read_in_root(&t.root(), "etc/group", 100).unwrap(), None);
    make_dir_in_root(&t.root(), Path::new("/work/dir"), 5, 6).unwrap();
    assert_eq!(fs::metadata(t.root().join("work/dir")).unwrap().uid(), 5);
}
