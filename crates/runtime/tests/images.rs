//! Images from archives and registries, honest and not.

mod common;
use common::*;
use cri::*;
use serde_json::json;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

fn layers_on_disk(root: &Path) -> usize {
    std::fs::read_dir(root.join("layers")).unwrap().count()
}

fn small(text: &str) -> Vec<u8> {
    tar_of(&[("etc/", b"", 0o755), ("etc/small", text.as_bytes(), 0o644)], &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn archives() {
    let m = Machine::new();
    let rt = m.open().await;
    let tar = m.dir.join("a.tar");
    let (base, top) = (busybox_layer(), small("top"));
    oci_archive(&tar, "one:v1", &[base.clone(), top.clone()], json!({"Cmd": ["sh"], "User": "web"}));
    // Compressed as a whole as well.
    let packed = m.dir.join("a.tar.gz");
    std::fs::write(&packed, gzip(&std::fs::read(&tar).unwrap())).unwrap();
    let got = rt.import_image(&packed, None).await.unwrap();
    assert_eq!(got[0].repo_tags, ["docker.io/library/one:v1"]);
    assert_eq!(got[0].username, "web");
    let again = rt.import_image(&tar, Some("other/name:2")).await.unwrap();
    assert_eq!(again[0].id, got[0].id);
    assert_eq!(again[0].repo_tags.len(), 2);
    assert_eq!(layers_on_disk(&m.cfg.root), 2);
    for name in [
        "one:v1",
        "docker.io/library/one:v1",
        "other/name:2",
        &got[0].id,
        &got[0].id[7..20],
        &got[0].repo_digests[0],
    ] {
        assert!(rt.image_status(&ImageSpec::new(name)).await.unwrap().is_some(), "{name}");
    }
    assert!(rt.image_status(&ImageSpec::new("one:v2")).await.unwrap().is_none());

    // docker save: another config, the base layer shared.
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Env": null, "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&base)]}});
    let config = serde_json::to_vec(&config).unwrap();
    let name = format!("{}.json", &digest(&config)[7..]);
    let manifest =
        json!([{"Config": name, "RepoTags": ["docker:1", "docker:2"], "Layers": ["base/layer.tar"]}]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let docker = m.dir.join("docker.tar");
    let files: [(&str, &[u8], u32); 3] =
        [("manifest.json", &manifest, 0o644), (&name, &config, 0o644), ("base/layer.tar", &base, 0o644)];
    std::fs::write(&docker, tar_of(&files, &[])).unwrap();
    let d = rt.import_image(&docker, None).await.unwrap();
    assert_eq!(d[0].repo_tags, ["docker.io/library/docker:1", "docker.io/library/docker:2"]);
    assert_eq!(layers_on_disk(&m.cfg.root), 2);

    // A tag moves; a removed image takes only its own layers; what a container stands on stays.
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let c = pod.run("a", &["sleep", "1000"], |c| c.image = ImageSpec::new("one:v1")).await;
    rt.remove_image(&ImageSpec::new("one:v1")).await.unwrap();
    assert_eq!(layers_on_disk(&m.cfg.root), 2);
    rt.remove_container(&c).await.unwrap();
    rt.remove_image(&ImageSpec::new("never-there")).await.unwrap();
    drop(pod);
    drop(rt);
    let rt = m.open().await;
    assert_eq!(layers_on_disk(&m.cfg.root), 1);
    assert_eq!(rt.list_images(None).await.unwrap().len(), 1);
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_archives() {
    let m = Machine::new();
    let rt = m.open().await;
    let tar = m.dir.join("bad.tar");
    let fails = |what: &'static str| {
        let (rt, tar) = (rt.clone(), tar.clone());
        async move {
            let e = rt.import_image(&tar, None).await.unwrap_err().to_string();
            assert!(e.contains(what), "{e}");
        }
    };
    std::fs::write(&tar, b"this is no tar, and it isn't short enough to be taken for an empty one").unwrap();
    fails("no image archive").await;
    oci_archive(&tar, "x:1", &[busybox_layer()], json!({}));
    let whole = std::fs::read(&tar).unwrap();
    std::fs::write(&tar, &whole[..whole.len() / 3]).unwrap();
    fails("no image archive").await;
    // One changed byte in a layer, where its file's content is.
    let mut bent = whole.clone();
    bent[200_000] ^= 1;
    std::fs::write(&tar, &bent).unwrap();
    fails("digest").await;
    oci_archive(&tar, "Not A Name", &[small("x")], json!({}));
    fails("invalid image name").await;
    // An entry that tries to leave.
    let mut h = tar::Header::new_gnu();
    let evil = "../../evil";
    h.as_gnu_mut().unwrap().name[..evil.len()].copy_from_slice(evil.as_bytes());
    h.set_size(0);
    h.set_mode(0o644);
    h.set_cksum();
    let mut b = tar::Builder::new(Vec::new());
    b.append(&h, &b""[..]).unwrap();
    oci_archive(&tar, "x:1", &[b.into_inner().unwrap()], json!({}));
    fails("leads out of the layer").await;
    assert!(rt.list_images(None).await.unwrap().is_empty());
    assert_eq!(layers_on_disk(&m.cfg.root), 0);
    assert_eq!(std::fs::read_dir(m.cfg.root.join("ingest")).unwrap().count(), 0);
    m.finish(rt).await;
}

#[derive(Default)]
struct Registry {
    port: u16,
    files: HashMap<String, (String, Vec<u8>)>,
    /// Wants this bearer token, given out by /token.
    token: Option<String>,
    basic: Option<String>,
    /// Cuts the first so many blob answers in half.
    cuts: AtomicU32,
    redirect: bool,
    requests: AtomicU32,
}

impl Registry {
    async fn answer(&self, path: &str, auth: &str) -> Vec<u8> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let head = |status: &str, extra: &str, len: usize| {
            format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n{extra}\r\n")
                .into_bytes()
        };
        let port = self.port;
        if path.starts_with("/token") {
            if self.basic.as_deref().is_some_and(|b| b != auth) {
                return head("401 Unauthorized", "", 0);
            }
            assert!(path.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{path}");
            let body = json!({"token": self.token}).to_string();
            return [head("200 OK", "", body.len()), body.into_bytes()].concat();
        }
        let storage = path.strip_prefix("/storage");
        if let (Some(t), None) = (&self.token, storage)
            && auth != format!("Bearer {t}")
        {
            let ask = format!(
                "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"reg\"\r\n"
            );
            return head("401 Unauthorized", &ask, 0);
        }
        if self.redirect && storage.is_none() && path.contains("/blobs/") {
            return head("307 Temporary Redirect", &format!("Location: /storage{path}\r\n"), 0);
        }
        let Some((kind, body)) = self.files.get(storage.unwrap_or(path)) else {
            return head("404 Not Found", "", 0);
        };
        let full = [head("200 OK", &format!("Content-Type: {kind}\r\n"), body.len()), body.clone()].concat();
        let cut = body.len() > 100_000
            && self.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if cut { full[..full.len() / 2].to_vec() } else { full }
    }

    async fn serve(self, listener: tokio::net::TcpListener) -> Arc<Self> {
        let me = Arc::new(self);
        let r = me.clone();
        tokio::spawn(async move {
            while let Ok((mut s, _)) = listener.accept().await {
                let r = r.clone();
                tokio::spawn(async move {
                    let (mut text, mut buf) = (String::new(), [0; 4096]);
                    while !text.contains("\r\n\r\n") {
                        match s.read(&mut buf).await {
                            Ok(n) if n > 0 => text.push_str(&String::from_utf8_lossy(&buf[..n])),
                            _ => return,
                        }
                    }
                    let path = text.split(' ').nth(1).unwrap_or_default().to_string();
                    let auth =
                        text.lines().find_map(|l| l.strip_prefix("authorization: ")).unwrap_or_default();
                    let _ = s.write_all(&r.answer(&path, auth).await).await;
                    let _ = s.shutdown().await;
                });
            }
        });
        me
    }
}

/// team/app:v1 as an index for two architectures, gzip and zstd layers.
async fn registry(f: impl FnOnce(&mut Registry)) -> (Arc<Registry>, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = [busybox_layer(), small("from the registry")];
    let blobs = [gzip(&plain[0]), zstd::encode_all(&plain[1][..], 1).unwrap()];
    let mut r = Registry { port, ..Default::default() };
    let diff_ids: Vec<String> = plain.iter().map(|l| digest(l)).collect();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({"architecture": arch, "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = serde_json::to_vec(&config).unwrap();
    let desc = |t: &str, b: &[u8]| json!({"mediaType": t, "digest": digest(b), "size": b.len()});
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let layer_descs: Vec<_> =
        blobs.iter().map(|b| desc("application/vnd.oci.image.layer.v1.tar", b)).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "layers": layer_descs,
        "config": desc("application/vnd.oci.image.config.v1+json", &config)});
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut ours = desc(kind, &manifest);
    ours["platform"] = json!({"architecture": arch, "os": "linux"});
    let mut others = desc(kind, b"{}");
    others["platform"] = json!({"architecture": "s390x", "os": "linux"});
    let index_kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": index_kind, "manifests": [others, ours]});
    let index = serde_json::to_vec(&index).unwrap();
    let mut put = |path: String, kind: &str, body: &[u8]| {
        r.files.insert(format!("/v2/team/app/{path}"), (kind.to_string(), body.to_vec()));
    };
    put("manifests/v1".into(), index_kind, &index);
    put(format!("manifests/{}", digest(&index)), index_kind, &index);
    put(format!("manifests/{}", digest(&manifest)), kind, &manifest);
    for b in blobs.iter().chain([&config]) {
        put(format!("blobs/{}", digest(b)), "application/octet-stream", b);
    }
    f(&mut r);
    (r.serve(listener).await, format!("127.0.0.1:{port}/team/app"))
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first() {
    let mut m = Machine::new();
    let (_r, name) = registry(|_| {}).await;
    let host = name.split('/').next().unwrap();
    let mirrors = vec!["http://127.0.0.1:1".to_string(), format!("http://{host}/")];
    m.cfg.registry_mirrors = [("registry.invalid".to_string(), mirrors)].into();
    let rt = m.open().await;
    rt.pull_image(&ImageSpec::new("registry.invalid/team/app:v1"), None, None).await.unwrap();
    let there = rt.image_status(&ImageSpec::new("registry.invalid/team/app:v1")).await.unwrap();
    assert_eq!(there.unwrap().repo_tags, ["registry.invalid/team/app:v1"]);
    assert!(rt.pull_image(&ImageSpec::new("registry.invalid/team/none:v1"), None, None).await.is_err());
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls() {
    let m = Machine::new();
    let rt = m.open().await;
    let (r, name) = registry(|r| {
        r.token = Some("t0ken".into());
        r.basic = Some("Basic dTpw".into());
        r.redirect = true;
        r.cuts = AtomicU32::new(1);
    })
    .await;
    let image = ImageSpec::new(format!("{name}:v1"));
    let e = rt.pull_image(&image, None, None).await.unwrap_err();
    assert!(
        matches!(&e, CriError::ImagePull { reason: PullReason::ErrImagePull, .. })
            && e.to_string().contains("denied")
    );
    let auth = AuthConfig { username: "u".into(), password: "p".into(), ..Default::default() };
    let (a, b) =
        tokio::join!(rt.pull_image(&image, Some(&auth), None), rt.pull_image(&image, Some(&auth), None));
    let id = a.unwrap();
    assert_eq!(b.unwrap(), id);
    let before = r.requests.load(Ordering::SeqCst);
    // Same content by digest: the layers are there.
    let st = rt.image_status(&image).await.unwrap().unwrap();
    let by_digest = ImageSpec::new(st.repo_digests[0].clone());
    let encoded = AuthConfig { auth: "dTpw".into(), ..Default::default() };
    assert_eq!(rt.pull_image(&by_digest, Some(&encoded), None).await.unwrap(), id);
    assert!(r.requests.load(Ordering::SeqCst) - before < 10);
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let c = pod.run("a", &["cat", "/etc/small"], |c| c.image = ImageSpec::new(id.clone())).await;
    assert_eq!(exited(&rt, &c).await.exit_code, 0);
    assert!(pod.log("a").ends_with("from the registry\n"));
    assert_eq!(rt.container_status(&c).await.unwrap().image_ref, st.repo_digests[0]);
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_that_lie_or_are_not_there() {
    let m = Machine::new();
    let rt = m.open().await;
    let failing = |spec: String| {
        let rt = rt.clone();
        async move {
            match rt.pull_image(&ImageSpec::new(spec), None, None).await {
                Err(CriError::ImagePull { reason, message }) => (reason, message),
                other => panic!("{other:?}"),
            }
        }
    };
    let (_r, name) = registry(|r| {
        // A layer of the right size with other content.
        let blob = r
            .files
            .iter_mut()
            .filter(|(k, _)| k.contains("blobs"))
            .max_by_key(|(_, (_, b))| b.len())
            .unwrap();
        let body = &mut blob.1.1;
        let n = body.len();
        body[n / 2..n / 2 + 8].copy_from_slice(b"BENTBENT");
    })
    .await;
    let (reason, _) = failing(format!("{name}:v1")).await;
    assert_eq!(reason, PullReason::ErrImagePull);
    assert!(rt.list_images(None).await.unwrap().is_empty());

    let (_r, name) = registry(|r| {
        for (k, (_, body)) in &mut r.files {
            if k.contains("manifests/sha256") {
                body.push(b' ');
            }
        }
    })
    .await;
    let (_, e) = failing(format!("{name}:v1")).await;
    assert!(e.contains("digest"), "{e}");

    // More bytes than promised, though the first ones are right.
    let (_r, name) = registry(|r| {
        for (k, (_, body)) in &mut r.files {
            if k.contains("blobs") && body.len() > 10_000 {
                body.extend_from_slice(&[0; 4096]);
            }
        }
    })
    .await;
    failing(format!("{name}:v1")).await;

    let (_r, name) = registry(|r| r.cuts = AtomicU32::new(100)).await;
    let (reason, e) = failing(format!("{name}:v1")).await;
    assert_eq!(reason, PullReason::ErrImagePull, "{e}");
    let (_, e) = failing(format!("{name}:v2")).await;
    assert!(e.contains("not found"), "{e}");
    let (reason, e) = failing("127.0.0.1:1/x:1".into()).await;
    assert_eq!(reason, PullReason::ErrImagePull);
    assert!(e.contains("failed to reach 127.0.0.1:1"), "{e}");
    let (reason, _) = failing("Bad Name".into()).await;
    assert_eq!(reason, PullReason::InvalidImageName);
    assert_eq!(std::fs::read_dir(m.cfg.root.join("ingest")).unwrap().count(), 0);
    m.finish(rt).await;
}
