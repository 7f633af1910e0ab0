//! Images on disk: an index file, unpacked layers by uncompressed digest, manifests and configs as blobs.
//!
//! ```text
//! <root>/images.json              the index; replaced atomically, synced
//! <root>/blobs/sha256/<hex>       manifests, indexes, configs
//! <root>/layers/<32 hex>/         one layer unpacked; short names, since overlay options are limited to a page
//! <root>/ingest/                  what is being written; emptied at start
//! ```
//! A layer is verified while it streams through (both digests, the size), and only then gets its name; its compressed
//! form isn't kept. Spawns nothing; callers run the blocking parts on blocking threads.

use super::model::ImageRecord;
use super::reference::Reference;
use super::unpack::unpack;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{0}")]
    Unpack(#[from] super::unpack::UnpackError),
    #[error("{what} has digest {got}, {want} was promised: it is damaged or not what it claims to be")]
    Digest { what: String, want: String, got: String },
    #[error("{what} has {got} bytes, {want} were promised")]
    Size { what: String, want: u64, got: u64 },
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Name(#[from] super::reference::InvalidReference),
    /// The registry can't be reached or fails.
    #[error("{0}")]
    Unavailable(String),
    /// The registry says no: missing, or not allowed.
    #[error("{0}")]
    Refused(String),
}

pub(crate) fn io_err(what: impl Into<String>) -> impl FnOnce(io::Error) -> ImageError {
    let what = what.into();
    move |source| ImageError::Io { what, source }
}

pub type Result<T, E = ImageError> = std::result::Result<T, E>;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Index {
    version: u32,
    images: BTreeMap<String, ImageRecord>,
}

const VERSION: u32 = 1;

pub struct ImageStore {
    root: PathBuf,
    index: Mutex<Index>,
    counter: AtomicU64,
    /// Layers being written or about to be referenced: garbage collection leaves them alone.
    busy: Mutex<Vec<String>>,
}

/// Counts and hashes what is read through it.
pub struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    pub count: u64,
    progress: Option<std::sync::Arc<AtomicU64>>,
}

impl<R> Hashing<R> {
    pub fn new(inner: R) -> Self {
        Hashing { inner, hasher: Sha256::new(), count: 0, progress: None }
    }

    pub fn with_progress(mut self, p: std::sync::Arc<AtomicU64>) -> Self {
        self.progress = Some(p);
        self
    }

    pub fn digest(self) -> String {
        hex_digest(&self.hasher.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(buf.get(..n).unwrap_or_default());
        self.count += n as u64;
        if let Some(p) = &self.progress {
            p.fetch_add(n as u64, Ordering::Relaxed);
        }
        Ok(n)
    }
}

fn hex_digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::from("sha256:"), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

pub fn digest_of(bytes: &[u8]) -> String {
    hex_digest(&Sha256::digest(bytes))
}

/// Writes so that a crash leaves the old or the new content, never a mixture.
pub fn write_atomic(path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a path without a directory"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let tmp = dir.join(format!(".{name}.tmp"));
    let mut f = fs::File::create(&tmp)?;
    f.write_all(bytes)?;
    if sync {
        f.sync_data()?;
    }
    fs::rename(&tmp, path)?;
    if sync {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

impl ImageStore {
    pub fn open(root: &Path) -> Result<Self> {
        for d in ["blobs/sha256", "layers"] {
            fs::create_dir_all(root.join(d)).map_err(io_err(format!("make {}/{d}", root.display())))?;
        }
        let ingest = root.join("ingest");
        if ingest.exists() {
            fs::remove_dir_all(&ingest).map_err(io_err(format!("empty {}", ingest.display())))?;
        }
        fs::create_dir_all(&ingest).map_err(io_err(format!("make {}", ingest.display())))?;
        let path = root.join("images.json");
        let mut index = match fs::read(&path) {
            Ok(b) => serde_json::from_slice::<Index>(&b)
                .map_err(|e| ImageError::Invalid(format!("{} is damaged: {e}", path.display())))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Index::default(),
            Err(e) => return Err(io_err(format!("read {}", path.display()))(e)),
        };
        if index.version > VERSION {
            let v = index.version;
            return Err(ImageError::Invalid(format!(
                "{} has format version {v}; this program knows {VERSION}: use the newer program",
                path.display()
            )));
        }
        index.version = VERSION;
        let store = ImageStore {
            root: root.to_path_buf(),
            index: Mutex::new(index),
            counter: AtomicU64::new(0),
            busy: Mutex::new(Vec::new()),
        };
        // An image whose layers are not all there can't run; it is pulled again when it is wanted.
        let broken: Vec<String> = {
            let i = store.index.lock();
            let whole = |r: &ImageRecord| r.diff_ids.iter().all(|d| store.layer_dir(d).is_dir());
            i.images.values().filter(|r| !whole(r)).map(|r| r.id.clone()).collect()
        };
        for id in broken {
            tracing::warn!(image = %id, "layers of an image are missing; forgetting it");
            store.index.lock().images.remove(&id);
        }
        Ok(store)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn layer_dir(&self, diff_id: &str) -> PathBuf {
        let hex = diff_id.strip_prefix("sha256:").unwrap_or(diff_id);
        self.root.join("layers").join(hex.get(..32).unwrap_or(hex))
    }

    fn blob_path(&self, digest: &str) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap_or(digest))
    }

    pub fn has_layer(&self, diff_id: &str) -> bool {
        self.layer_dir(diff_id).is_dir()
    }

    /// Keeps layers from being collected until the returned guard goes.
    pub fn hold(&self, diff_ids: &[String]) -> Held<'_> {
        self.busy.lock().extend_from_slice(diff_ids);
        Held { store: self, ids: diff_ids.to_vec() }
    }

    /// A manifest or config; `want` is verified.
    pub fn put_blob(&self, want: &str, bytes: &[u8]) -> Result<()> {
        let got = digest_of(bytes);
        if got != want {
            return Err(ImageError::Digest { what: "a manifest or config".into(), want: want.into(), got });
        }
        let path = self.blob_path(want);
        if path.exists() {
            return Ok(());
        }
        write_atomic(&path, bytes, false).map_err(io_err(format!("write {}", path.display())))
    }

    pub fn blob(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        fs::read(&path).map_err(io_err(format!("read {}", path.display())))
    }

    /// Streams one layer into its place. `blob` is the promised digest and size of the bytes as they come.
    pub fn put_layer(&self, diff_id: &str, reader: impl Read, blob: Option<(&str, u64)>) -> Result<()> {
        if !super::reference::is_digest(diff_id) {
            return Err(ImageError::Invalid(format!("layer id {diff_id:?} is no sha256 digest")));
        }
        if self.has_layer(diff_id) {
            return Ok(());
        }
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let tmp = self.root.join("ingest").join(format!("layer-{n}"));
        fs::create_dir(&tmp).map_err(io_err(format!("make {}", tmp.display())))?;
        let result = self.fill_layer(&tmp, diff_id, reader, blob);
        if result.is_err() {
            let _ = fs::remove_dir_all(&tmp);
        }
        result
    }

    fn fill_layer(
        &self,
        tmp: &Path,
        diff_id: &str,
        reader: impl Read,
        blob: Option<(&str, u64)>,
    ) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(tmp, fs::Permissions::from_mode(0o755)).map_err(io_err("set a mode"))?;
        let mut outer = BufReader::with_capacity(64 * 1024, Hashing::new(reader));
        // A cut connection or a damaged stream, not our disk.
        let read = |e: io::Error| ImageError::Io { what: format!("read layer {diff_id}"), source: e };
        let magic = outer.fill_buf().map_err(read)?;
        let got = if magic.starts_with(&[0x1f, 0x8b]) {
            untar(flate2::bufread::MultiGzDecoder::new(&mut outer), tmp)?
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let d = zstd::stream::read::Decoder::with_buffer(&mut outer).map_err(read)?;
            untar(d, tmp)?
        } else {
            untar(&mut outer, tmp)?
        };
        // What follows the archive's end counts for the digest as well.
        io::copy(&mut outer, &mut io::sink()).map_err(read)?;
        let outer = outer.into_inner();
        if let Some((want, size)) = blob {
            if outer.count != size {
                return Err(ImageError::Size { what: format!("layer {want}"), want: size, got: outer.count });
            }
            let have = outer.digest();
            if have != want {
                return Err(ImageError::Digest { what: "a layer".into(), want: want.into(), got: have });
            }
        }
        if got != diff_id {
            return Err(ImageError::Digest { what: "an unpacked layer".into(), want: diff_id.into(), got });
        }
        let dest = self.layer_dir(diff_id);
        match fs::rename(tmp, &dest) {
            Ok(()) => Ok(()),
            // Somebody else was faster with the same layer.
            Err(_) if dest.is_dir() => fs::remove_dir_all(tmp).map_err(io_err("remove a double")),
            Err(e) => Err(io_err(format!("move a layer to {}", dest.display()))(e)),
        }
    }

    /// Adds an image; names it takes leave the images that had them. The files are on disk before the index says so.
    pub fn commit(&self, mut rec: ImageRecord) -> Result<ImageRecord> {
        if let Err(e) = sync_fs(&self.root) {
            tracing::warn!(error = %e, "sync of the image store failed");
        }
        let mut index = self.index.lock();
        for other in index.images.values_mut().filter(|o| o.id != rec.id) {
            other.tags.retain(|t| !rec.tags.contains(t));
        }
        if let Some(old) = index.images.get(&rec.id) {
            rec.tags.extend(old.tags.iter().cloned());
            rec.digests.extend(old.digests.iter().cloned());
            rec.manifests.extend(old.manifests.iter().cloned());
            rec.added_at = old.added_at;
        }
        index.images.insert(rec.id.clone(), rec.clone());
        self.save(&index)?;
        Ok(rec)
    }

    fn save(&self, index: &Index) -> Result<()> {
        let bytes = serde_json::to_vec(index).map_err(|e| ImageError::Invalid(e.to_string()))?;
        let path = self.root.join("images.json");
        write_atomic(&path, &bytes, true).map_err(io_err(format!("write {}", path.display())))
    }

    pub fn list(&self) -> Vec<ImageRecord> {
        self.index.lock().images.values().cloned().collect()
    }

    /// By id, by a unique prefix of it (12 digits or more), or by name.
    pub fn find(&self, name: &str) -> Option<ImageRecord> {
        let index = self.index.lock();
        if let Some(r) = index.images.get(name).or_else(|| index.images.get(&format!("sha256:{name}"))) {
            return Some(r.clone());
        }
        let normal = Reference::parse(name).ok().map(|r| r.to_string());
        if let Some(n) = normal {
            let named = |r: &&ImageRecord| r.tags.contains(&n) || r.digests.contains(&n);
            if let Some(r) = index.images.values().find(named) {
                return Some(r.clone());
            }
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.len() >= 12 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            let mut it = index.images.values().filter(|r| r.id.get(7..).is_some_and(|h| h.starts_with(hex)));
            return match (it.next(), it.next()) {
                (Some(r), None) => Some(r.clone()),
                _ => None,
            };
        }
        None
    }

    /// Removes the image with all its names. `in_use`: layers that containers stand on.
    pub fn remove(&self, name: &str, in_use: &HashSet<String>) -> Result<bool> {
        let Some(rec) = self.find(name) else { return Ok(false) };
        {
            let mut index = self.index.lock();
            index.images.remove(&rec.id);
            self.save(&index)?;
        }
        self.collect(in_use)?;
        Ok(true)
    }

    /// Removes layers and blobs that no image and no container needs.
    pub fn collect(&self, in_use: &HashSet<String>) -> Result<()> {
        let index = self.index.lock();
        let mut layers: BTreeSet<PathBuf> = in_use.iter().map(|d| self.layer_dir(d)).collect();
        layers.extend(self.busy.lock().iter().map(|d| self.layer_dir(d)));
        let mut blobs: BTreeSet<PathBuf> = BTreeSet::new();
        for r in index.images.values() {
            layers.extend(r.diff_ids.iter().map(|d| self.layer_dir(d)));
            blobs.extend(r.manifests.iter().chain([&r.id]).map(|d| self.blob_path(d)));
        }
        let busy = !self.busy.lock().is_empty();
        for e in read_dir(&self.root.join("layers"))? {
            if !layers.contains(&e) {
                // Out of sight first: a half-removed layer must not look whole.
                let n = self.counter.fetch_add(1, Ordering::Relaxed);
                let grave = self.root.join("ingest").join(format!("gone-{n}"));
                fs::rename(&e, &grave).map_err(io_err(format!("remove {}", e.display())))?;
                fs::remove_dir_all(&grave).map_err(io_err(format!("remove {}", grave.display())))?;
            }
        }
        for e in read_dir(&self.root.join("blobs/sha256"))? {
            if !busy && !blobs.contains(&e) {
                fs::remove_file(&e).map_err(io_err(format!("remove {}", e.display())))?;
            }
        }
        Ok(())
    }
}

pub struct Held<'a> {
    store: &'a ImageStore,
    ids: Vec<String>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut busy = self.store.busy.lock();
        for id in &self.ids {
            if let Some(i) = busy.iter().position(|b| b == id) {
                busy.swap_remove(i);
            }
        }
    }
}

fn untar(reader: impl Read, tmp: &Path) -> Result<String> {
    let mut h = Hashing::new(reader);
    unpack(&mut h, tmp)?;
    // The tar reader stops at the end mark; the digest covers the padding too.
    io::copy(&mut h, &mut io::sink()).map_err(io_err("read a layer's end"))?;
    Ok(h.digest())
}

fn read_dir(dir: &Path) -> Result<Vec<PathBuf>> {
    let rd = fs::read_dir(dir).map_err(io_err(format!("read {}", dir.display())))?;
    Ok(rd.flatten().map(|e| e.path()).collect())
}

/// One sync for a whole image instead of one per file.
fn sync_fs(dir: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let f = fs::File::open(dir)?;
    // SAFETY: a system call on an open descriptor.
    match unsafe { libc::syncfs(f.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
