//! Hostile files: what a store's directory, an image archive and its layers may hold.

use std::io::Cursor;
use std::path::Path;

use bytes::Bytes;
use store::{Op, Store, Txn};

fn put(key: &str, value: &[u8]) -> Txn {
    let op = Op::Put { key: key.into(), value: Bytes::copy_from_slice(value), ttl: None, aux: None };
    Txn { compare: vec![], then: vec![op], otherwise: vec![] }
}

fn options(dir: &Path) -> store::embedded::Options {
    store::embedded::Options {
        segment_bytes: 16 << 10,
        realtime: false,
        ..store::embedded::Options::new(dir)
    }
}

/// A store with a log and a snapshot, as (name, content).
fn made() -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let e = store::embedded::Engine::open(options(dir.path())).expect("a store");
        for i in 0..40 {
            e.txn(put(&format!("/registry/pods/{i}"), &[b'x'; 300])).await.expect("a write");
        }
        e.snapshot().await;
        for i in 0..40 {
            e.txn(put(&format!("/registry/pods/{i}"), b"new")).await.expect("a write");
        }
        e.close().await.expect("closed");
    });
    let files = std::fs::read_dir(dir.path()).expect("files").flatten();
    let mut all: Vec<(String, Vec<u8>)> = files
        .filter_map(|f| Some((f.file_name().into_string().ok()?, std::fs::read(f.path()).ok()?)))
        .filter(|(name, _)| name != "LOCK")
        .collect();
    all.sort();
    all
}

/// The first byte chooses the file, the rest is its content.
#[test]
fn store_files() {
    let all = made();
    assert!(all.len() >= 3, "{:?}", all.iter().map(|(n, _)| n).collect::<Vec<_>>());
    let seeds: Vec<Vec<u8>> =
        all.iter().enumerate().map(|(i, (_, b))| [&[i as u8], b.as_slice()].concat()).collect();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    fuzz::run("store_files", &seeds, 12, move |b| {
        let Some((which, content)) = b.split_first() else { return };
        let dir = tempfile::tempdir().expect("a directory");
        for (i, (name, good)) in all.iter().enumerate() {
            let bytes = if i == usize::from(*which) % all.len() { content } else { good };
            std::fs::write(dir.path().join(name), bytes).expect("a file");
        }
        // Opens with what was answered, or says where the damage is.
        match store::embedded::Engine::open(options(dir.path())) {
            Ok(e) => {
                let stats = e.stats();
                assert!(stats.keys <= 40, "{} keys out of nowhere", stats.keys);
            }
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    });
}

/// Reads a backup to its end, or to where it is told to be damaged.
#[test]
fn backups() {
    use store::backup::{Header, Item, Named, Reader, Writer};
    let header = Header { revision: 9, records: 2, ..Header::default() };
    let mut w = Writer::new(Vec::new(), &header).expect("a header");
    w.file(&Named { name: "pki/ca.key".into(), content: vec![b'k'; 100] }).expect("a file");
    for key in ["/registry/pods/a", "/registry/pods/b"] {
        let record = store::Record {
            key: key.into(),
            value: vec![b'x'; 100].into(),
            create_revision: 1,
            mod_revision: 9,
            version: 2,
            expires_at_ms: None,
            aux: std::sync::OnceLock::new(),
        };
        w.record(&record).expect("a record");
    }
    let good = w.finish().expect("a backup");
    fuzz::run("backups", &[&good], 1, |b| {
        let Ok(mut r) = Reader::open(b, "input") else { return };
        let mut records = 0;
        loop {
            match r.item() {
                Ok(Some(Item::Records(more))) => records += more.len() as u64,
                Ok(Some(Item::File(_))) => {}
                Ok(None) => break assert_eq!(records, r.header().records),
                Err(e) => break assert!(e.to_string().contains("input")),
            }
        }
    });
}

fn layer(entries: &[(&str, u8, &str)]) -> Vec<u8> {
    let mut t = tar::Builder::new(Vec::new());
    for (name, kind, data) in entries {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(tar::EntryType::new(*kind));
        h.set_mode(0o755);
        h.set_size(if *kind == b'0' { data.len() as u64 } else { 0 });
        // Names are set raw: `append_data` would refuse the hostile ones.
        if let Some(field) = h.as_gnu_mut() {
            for (to, from) in field.name.iter_mut().zip(name.as_bytes()) {
                *to = *from;
            }
            for (to, from) in
                field.linkname.iter_mut().zip(data.as_bytes()).take(if *kind == b'0' { 0 } else { 100 })
            {
                *to = *from;
            }
        }
        h.set_cksum();
        t.append(&h, Cursor::new(if *kind == b'0' { data.as_bytes() } else { b"" })).expect("an entry");
    }
    t.into_inner().expect("a tar")
}

#[test]
fn image_layers() {
    let seeds = [
        layer(&[
            ("bin", b'5', ""),
            ("bin/sh", b'0', "x"),
            ("bin/ln", b'2', "sh"),
            ("bin/hard", b'1', "bin/sh"),
        ]),
        layer(&[("../../evil", b'0', "x"), ("/abs", b'0', "y"), ("a/../../b", b'0', "z")]),
        layer(&[
            ("out", b'2', "/tmp"),
            ("out/evil", b'0', "x"),
            ("up", b'2', "../../.."),
            ("up/evil", b'0', "x"),
        ]),
        layer(&[("d", b'5', ""), ("d/.wh..wh..opq", b'0', ""), (".wh.gone", b'0', ""), (".wh...", b'0', "")]),
        layer(&[("loop", b'2', "loop"), ("loop/x", b'0', "x"), ("hard", b'1', "../../etc/passwd")]),
    ];
    let packed: Vec<Vec<u8>> = seeds.iter().map(|s| s.to_vec()).collect();
    let seeds: Vec<&[u8]> = packed.iter().map(Vec::as_slice).collect();
    // Whatever a layer says, nothing may appear beside the directory it is unpacked into.
    fuzz::run("image_layers", &seeds, 4, |b| {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("a/b/root");
        std::fs::create_dir_all(&root).expect("a root");
        let _ = runtime::images::unpack::unpack(Cursor::new(b), &root);
        let names = |p: &Path| -> Vec<String> {
            std::fs::read_dir(p)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(names(dir.path()), ["a"], "something got out");
        assert_eq!(names(&dir.path().join("a")), ["b"], "something got out");
        assert_eq!(names(&dir.path().join("a/b")), ["root"], "something got out");
    });
}

#[test]
fn image_archives() {
    let manifest = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":
"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"platform":{"os":"linux","architecture":"amd64"},
"annotations":{"org.opencontainers.image.ref.name":"a:1"}}]}"#;
    let docker = r#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["../l.tar","l/layer.tar"]}]"#;
    let config = r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"Env":["A=b"],"User":"1:2"},"rootfs":{"type":"layers","diff_ids":["sha256:00"]}}"#;
    let empty = "blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let seeds = [
        layer(&[
            ("oci-layout", b'0', r#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", b'0', manifest),
            (empty, b'0', ""),
        ]),
        layer(&[("manifest.json", b'0', docker), ("c.json", b'0', config), ("l/layer.tar", b'0', "")]),
        layer(&[("manifest.json", b'2', "manifest.json"), ("c.json", b'1', "/etc/passwd")]),
        manifest.as_bytes().to_vec(),
        config.as_bytes().to_vec(),
    ];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    fuzz::run("image_archives", &seeds, 6, |b| {
        use runtime::images::model::{ConfigFile, Manifest, choose, is_index};
        if let Ok(m) = serde_json::from_slice::<Manifest>(b) {
            let _ = (is_index("", &m), choose(m.manifests.as_deref().unwrap_or_default()));
        }
        let _ = serde_json::from_slice::<ConfigFile>(b);
        let dir = tempfile::tempdir().expect("a directory");
        let archive = dir.path().join("image.tar");
        std::fs::write(&archive, b).expect("the archive");
        let store = runtime::images::ImageStore::open(&dir.path().join("store")).expect("an image store");
        let _ = runtime::images::archive::import(&store, &archive, Some("x:1"));
    });
}
