//! OCI archives for tests: busybox from the machine's own package, without a registry.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

fn header(size: u64, mode: u32) -> tar::Header {
    let mut h = tar::Header::new_gnu();
    h.set_size(size);
    h.set_mode(mode);
    h
}

fn file(t: &mut tar::Builder<Vec<u8>>, name: &str, data: &[u8], mode: u32) {
    let size = u64::try_from(data.len()).expect("size");
    t.append_data(&mut header(size, mode), name, data).expect("tar entry");
}

fn digest(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn rootfs() -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find_map(|p| std::fs::read(p).ok());
    let busybox = busybox.expect("busybox; install the package busybox-static");
    let list = Command::new("busybox").arg("--list").output().expect("busybox --list").stdout;
    let mut t = tar::Builder::new(Vec::new());
    for (dir, mode) in
        [("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o755), ("www", 0o755), ("var", 0o755)]
    {
        let mut h = header(0, mode);
        h.set_entry_type(tar::EntryType::Directory);
        t.append_data(&mut h, dir, &[][..]).expect("directory");
    }
    file(&mut t, "bin/busybox", &busybox, 0o755);
    for name in String::from_utf8_lossy(&list).lines().filter(|n| *n != "busybox") {
        let mut h = header(0, 0o777);
        h.set_entry_type(tar::EntryType::Symlink);
        t.append_link(&mut h, format!("bin/{name}"), "busybox").expect("link");
    }
    file(&mut t, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", 0o644);
    file(&mut t, "etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644);
    t.into_inner().expect("tar")
}

/// Writes an OCI archive of busybox under the given image name.
pub fn busybox_archive(path: &Path, name: &str) {
    let layer = rootfs();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({ "architecture": arch, "os": "linux",
        "config": { "Cmd": ["sh"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] } })
    .to_string()
    .into_bytes();
    let oci = "application/vnd.oci.image";
    let manifest = json!({ "schemaVersion": 2, "mediaType": format!("{oci}.manifest.v1+json"),
        "config": { "mediaType": format!("{oci}.config.v1+json"), "digest": digest(&config), "size": config.len() },
        "layers": [{ "mediaType": format!("{oci}.layer.v1.tar"), "digest": digest(&layer), "size": layer.len() }] })
    .to_string()
    .into_bytes();
    let index = json!({ "schemaVersion": 2, "manifests": [{ "mediaType": format!("{oci}.manifest.v1+json"),
        "digest": digest(&manifest), "size": manifest.len(),
        "annotations": { "org.opencontainers.image.ref.name": name } }] });
    let mut t = tar::Builder::new(Vec::new());
    file(&mut t, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
    file(&mut t, "index.json", index.to_string().as_bytes(), 0o644);
    for blob in [&layer, &config, &manifest] {
        file(&mut t, &format!("blobs/sha256/{}", digest(blob).trim_start_matches("sha256:")), blob, 0o644);
    }
    let bytes = t.into_inner().expect("archive");
    std::fs::File::create(path).and_then(|mut f| f.write_all(&bytes)).expect("write the archive");
}
