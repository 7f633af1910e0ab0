//! Images from a file: `oci-archive` and `docker-archive` tars, plain or compressed, and OCI layout directories.
//! The file is read in place: one pass finds where the members are, then each is streamed from there. Nothing that an
//! archive says is believed before its digest is seen.

use super::model::*;
use super::reference::Reference;
use super::store::{ImageError, ImageStore, Result, digest_of, io_err};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAX_DOCUMENT: u64 = 8 << 20;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const FULL_NAME: &str = "io.containerd.image.name";

/// A part of a file.
struct Slice {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Slice {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let n = self.file.read_at(buf.get_mut(..n).unwrap_or_default(), self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

enum Source {
    Tar { file: Arc<File>, members: BTreeMap<String, (u64, u64)>, links: BTreeMap<String, String> },
    Dir(PathBuf),
}

impl Source {
    fn open(path: &Path, spool: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Source::Dir(path.to_path_buf()));
        }
        let mut file = File::open(path).map_err(io_err(format!("open {}", path.display())))?;
        let mut magic = [0; 4];
        let n = file.read_at(&mut magic, 0).map_err(io_err(format!("read {}", path.display())))?;
        let magic = magic.get(..n).unwrap_or_default();
        let packed = magic.starts_with(&[0x1f, 0x8b]) || magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        if packed || !file.metadata().is_ok_and(|m| m.is_file()) {
            // Not seekable as it is: unpack into a nameless file.
            let mut plain = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(spool)
                .map_err(io_err(format!("make {}", spool.display())))?;
            std::fs::remove_file(spool).map_err(io_err(format!("unlink {}", spool.display())))?;
            let copied = match magic.first() {
                Some(0x1f) => io::copy(&mut flate2::read::MultiGzDecoder::new(&mut file), &mut plain),
                Some(0x28) => {
                    zstd::stream::read::Decoder::new(&mut file).and_then(|mut d| io::copy(&mut d, &mut plain))
                }
                _ => io::copy(&mut file, &mut plain),
            };
            copied.map_err(io_err(format!("unpack {}", path.display())))?;
            file = plain;
        }
        let file = Arc::new(file);
        let (mut members, mut links) = (BTreeMap::new(), BTreeMap::new());
        let len = file.metadata().map_err(io_err("stat the archive"))?.len();
        let not_tar =
            |e: io::Error| ImageError::Invalid(format!("{} is no image archive: {e}", path.display()));
        let reader = std::io::BufReader::new(Slice { file: file.clone(), at: 0, left: len });
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().map_err(not_tar)? {
            let e = entry.map_err(not_tar)?;
            let name = String::from_utf8_lossy(&e.path_bytes()).trim_start_matches("./").to_string();
            let kind = e.header().entry_type();
            if kind.is_file() {
                members.insert(name, (e.raw_file_position(), e.size()));
            } else if let (true, Some(l)) = (kind.is_symlink() || kind.is_hard_link(), e.link_name_bytes()) {
                let target = String::from_utf8_lossy(&l).to_string();
                let base = name.rsplit_once('/').map(|(d, _)| d).unwrap_or("");
                let target = if kind.is_symlink() { resolve(base, &target) } else { target };
                links.insert(name, target);
            }
        }
        Ok(Source::Tar { file, members, links })
    }

    fn reader(&self, name: &str) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        match self {
            Source::Tar { file, members, links } => {
                let name = links.get(name).map(String::as_str).unwrap_or(name);
                Ok(members.get(name).map(|(at, len)| {
                    let s = Slice { file: file.clone(), at: *at, left: *len };
                    (Box::new(s) as Box<dyn Read + Send>, *len)
                }))
            }
            Source::Dir(d) => match File::open(d.join(name)) {
                Ok(f) => {
                    let len = f.metadata().map_err(io_err(format!("stat {name}")))?.len();
                    Ok(Some((Box::new(f), len)))
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(io_err(format!("open {name}"))(e)),
            },
        }
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((r, len)) = self.reader(name)? else { return Ok(None) };
        if len > MAX_DOCUMENT {
            return Err(ImageError::Invalid(format!("{name} has {len} bytes, more than any manifest")));
        }
        let mut out = Vec::new();
        r.take(MAX_DOCUMENT).read_to_end(&mut out).map_err(io_err(format!("read {name}")))?;
        Ok(Some(out))
    }

    fn blob(&self, d: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.document(&blob_name(&d.digest)?)?;
        let bytes =
            bytes.ok_or_else(|| ImageError::Invalid(format!("the archive lacks blob {}", d.digest)))?;
        let got = digest_of(&bytes);
        match got == d.digest {
            true => Ok(bytes),
            false => {
                Err(ImageError::Digest { what: "a blob of the archive".into(), want: d.digest.clone(), got })
            }
        }
    }
}

fn blob_name(digest: &str) -> Result<String> {
    match super::reference::is_digest(digest) {
        true => Ok(format!("blobs/{}", digest.replacen(':', "/", 1))),
        false => Err(ImageError::Invalid(format!("{digest:?} is no sha256 digest"))),
    }
}

fn resolve(base: &str, target: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').filter(|p| !p.is_empty()).collect();
    for p in target.split('/') {
        match p {
            "" | "." => {}
            ".." => drop(parts.pop()),
            p => parts.push(p),
        }
    }
    parts.join("/")
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| ImageError::Invalid(format!("{what} is no valid JSON of its kind: {e}")))
}

/// Imports every image of the archive. `name` overrides what the archive says (it must then hold one image).
pub fn import(store: &ImageStore, path: &Path, name: Option<&str>) -> Result<Vec<ImageRecord>> {
    let spool = store.root().join("ingest").join(format!("spool-{}", uuid::Uuid::new_v4()));
    let src = Source::open(path, &spool)?;
    let given = name.map(Reference::parse).transpose()?;
    if let Some(b) = src.document("index.json")? {
        return import_oci(store, &src, &parse("index.json", &b)?, given, path);
    }
    if let Some(b) = src.document("manifest.json")? {
        return import_docker(store, &src, &parse::<Vec<DockerEntry>>("manifest.json", &b)?, given);
    }
    Err(ImageError::Invalid(format!(
        "{} holds neither index.json (OCI) nor manifest.json (docker save)",
        path.display()
    )))
}

fn import_oci(
    store: &ImageStore,
    src: &Source,
    index: &Manifest,
    given: Option<Reference>,
    path: &Path,
) -> Result<Vec<ImageRecord>> {
    let entries = index.manifests.clone().unwrap_or_default();
    let named = |d: &Descriptor| {
        let a = d.annotations.as_ref();
        a.and_then(|a| a.get(FULL_NAME).or_else(|| a.get(REF_NAME))).cloned()
    };
    if given.is_some() && entries.len() > 1 {
        let many = entries.len();
        return Err(ImageError::Invalid(format!(
            "the archive holds {many} images; a single name doesn't fit them"
        )));
    }
    let mut out = Vec::new();
    for d in &entries {
        let name = match (&given, named(d)) {
            (Some(g), _) => g.clone(),
            (None, Some(n)) => Reference::parse(&n)?,
            (None, None) => {
                return Err(ImageError::Invalid(format!(
                    "an image in {} has no name (annotation {REF_NAME}); give one",
                    path.display()
                )));
            }
        };
        out.push(import_manifest(store, src, d, &name)?);
    }
    match out.is_empty() {
        true => Err(ImageError::Invalid(format!("{} holds no image", path.display()))),
        false => Ok(out),
    }
}

fn import_manifest(
    store: &ImageStore,
    src: &Source,
    top: &Descriptor,
    name: &Reference,
) -> Result<ImageRecord> {
    let mut manifests = BTreeSet::new();
    let mut desc = top.clone();
    let mut depth = 0;
    let manifest = loop {
        let bytes = src.blob(&desc)?;
        store.put_blob(&desc.digest, &bytes)?;
        manifests.insert(desc.digest.clone());
        let m: Manifest = parse("the manifest", &bytes)?;
        if !is_index(&desc.media_type, &m) {
            break m;
        }
        depth += 1;
        let next = choose(m.manifests.as_deref().unwrap_or_default()).filter(|_| depth < 4);
        desc = next.cloned().ok_or_else(|| {
            ImageError::Invalid(format!("{name} has no image for linux/{}", host_architecture()))
        })?;
    };
    let config_bytes = src.blob(&manifest.config)?;
    store.put_blob(&manifest.config.digest, &config_bytes)?;
    let config: ConfigFile = parse("the image config", &config_bytes)?;
    let diff_ids = config.rootfs.diff_ids.clone();
    if diff_ids.len() != manifest.layers.len() {
        return Err(ImageError::Invalid(format!(
            "{name}: manifest and config name different numbers of layers"
        )));
    }
    let _held = store.hold(&diff_ids);
    for (layer, diff_id) in manifest.layers.iter().zip(&diff_ids) {
        let lacks = || ImageError::Invalid(format!("the archive lacks layer {}", layer.digest));
        if !store.has_layer(diff_id) {
            let (r, _) = src.reader(&blob_name(&layer.digest)?)?.ok_or_else(lacks)?;
            store.put_layer(diff_id, r, Some((&layer.digest, layer.size)))?;
        }
    }
    store.commit(ImageRecord {
        id: manifest.config.digest.clone(),
        manifests,
        diff_ids,
        size: manifest.config.size + manifest.layers.iter().map(|l| l.size).sum::<u64>(),
        tags: name.digest.is_none().then(|| name.to_string()).into_iter().collect(),
        digests: BTreeSet::from([format!("{}@{}", name.name(), top.digest)]),
        run: config.config.unwrap_or_default().into(),
        added_at: now(),
    })
}

pub(super) fn now() -> i64 {
    shim::log::now_ns() / 1_000_000_000
}

fn import_docker(
    store: &ImageStore,
    src: &Source,
    entries: &[DockerEntry],
    given: Option<Reference>,
) -> Result<Vec<ImageRecord>> {
    if given.is_some() && entries.len() > 1 {
        return Err(ImageError::Invalid(
            "the archive holds several images; a single name doesn't fit them".into(),
        ));
    }
    let mut out = Vec::new();
    for e in entries {
        let lacks = |what: &str| ImageError::Invalid(format!("the archive lacks {what}"));
        let bytes = src.document(&e.config)?.ok_or_else(|| lacks(&e.config))?;
        let id = digest_of(&bytes);
        // Docker names the file by its digest; a wrong name is a damaged file.
        let hex = e.config.trim_end_matches(".json").rsplit('/').next().unwrap_or_default();
        let claimed = format!("sha256:{hex}");
        if super::reference::is_digest(&claimed) && claimed != id {
            return Err(ImageError::Digest { what: "the image config".into(), want: claimed, got: id });
        }
        store.put_blob(&id, &bytes)?;
        let config: ConfigFile = parse("the image config", &bytes)?;
        let diff_ids = config.rootfs.diff_ids.clone();
        if diff_ids.len() != e.layers.len() {
            return Err(ImageError::Invalid(
                "manifest.json and config name different numbers of layers".into(),
            ));
        }
        let _held = store.hold(&diff_ids);
        let mut size = bytes.len() as u64;
        for (layer, diff_id) in e.layers.iter().zip(&diff_ids) {
            let (r, len) = src.reader(layer)?.ok_or_else(|| lacks(layer))?;
            size += len;
            store.put_layer(diff_id, r, None)?;
        }
        let mut tags = BTreeSet::new();
        match &given {
            Some(g) => drop(tags.insert(g.to_string())),
            None => {
                for t in e.repo_tags.iter().flatten() {
                    tags.insert(Reference::parse(t)?.to_string());
                }
            }
        }
        if tags.is_empty() {
            return Err(ImageError::Invalid("an image in the archive has no name; give one".into()));
        }
        out.push(store.commit(ImageRecord {
            id,
            diff_ids,
            size,
            tags,
            run: config.config.unwrap_or_default().into(),
            added_at: now(),
            ..Default::default()
        })?);
    }
    Ok(out)
}
