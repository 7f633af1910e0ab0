//! `kelson image` against a registry on loopback that the test plays itself: progress where a terminal watches, and
//! errors in words.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::{Cluster, Output, busybox_archive, kelson, kelson_path, node_possible, wait_for};

/// What an archive holds, by path.
fn contents(archive: &Path) -> HashMap<String, Vec<u8>> {
    let mut tar = tar::Archive::new(fs::File::open(archive).expect("archive"));
    let read = |e: std::io::Result<tar::Entry<'_, fs::File>>| {
        let mut e = e.expect("entry");
        let name = e.path().expect("path").to_string_lossy().into_owned();
        let mut data = Vec::new();
        e.read_to_end(&mut data).expect("read");
        (name, data)
    };
    tar.entries().expect("entries").map(read).collect()
}

/// A registry of one image. It sends half of every layer, and the rest when told to.
struct Registry {
    address: String,
    go_on: Sender<()>,
}

fn serve(
    mut stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    wait: &Mutex<Receiver<()>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut request = String::new();
    while let Some(line) = lines.next().transpose()?.filter(|l| !l.is_empty()) {
        if request.is_empty() {
            request = line;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let index: serde_json::Value = serde_json::from_slice(&files["index.json"])?;
    let top = &index["manifests"][0];
    let digest = match path.rsplit_once('/') {
        Some(("/v2/test/busybox/manifests", "1.36")) => top["digest"].as_str().unwrap_or_default(),
        Some((_, digest)) => digest,
        None => "",
    };
    let Some(body) = files.get(&format!("blobs/{}", digest.replace(':', "/"))) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let kind = if path.contains("/manifests/") {
        top["mediaType"].as_str().unwrap_or_default()
    } else {
        "application/octet-stream"
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    let (first, rest) = body.split_at(body.len() / 2);
    stream.write_all(first)?;
    if body.len() > 100_000 {
        let _ = wait.lock().expect("lock").recv_timeout(Duration::from_secs(50));
    }
    stream.write_all(rest)
}

impl Registry {
    fn start(archive: &Path) -> Self {
        let files = Arc::new(contents(archive));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("address").to_string();
        let (go_on, wait) = channel();
        let wait = Arc::new(Mutex::new(wait));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, wait) = (files.clone(), wait.clone());
                std::thread::spawn(move || serve(stream, &files, &wait));
            }
        });
        Self { address, go_on }
    }
}

fn refused(out: &Output, words: &[&str]) {
    assert!(
        out.code == Some(1) && out.stderr.starts_with("kelson: ") && out.stderr.lines().count() == 1,
        "{out:?}"
    );
    assert!(words.iter().all(|w| out.stderr.contains(w)), "{words:?} expected in: {}", out.stderr);
}

#[test]
fn a_pull_shows_how_far_it_is_where_a_terminal_watches() {
    if !node_possible() {
        testkit::skip("a node needs root");
        return;
    }
    let c = Cluster::with_flags(true, &[]);
    let archive = c.dir().join("busybox.tar");
    busybox_archive(&archive, "docker.io/library/busybox:1.36");
    let registry = Registry::start(&archive);
    let name = format!("{}/test/busybox:1.36", registry.address);
    let image = |args: &[&str]| kelson(&[&["image", "--data-dir", &c.data()], args].concat());

    // `script` gives the command a terminal and passes on what it shows.
    let line = format!("{} image --data-dir {} pull {name}", kelson_path().display(), c.data());
    let mut child = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script, of the package bsdutils");
    let mut out = child.stdout.take().expect("output");
    let (mut shown, mut buffer) = (String::new(), [0; 4096]);
    let mut told = false;
    loop {
        let n = out.read(&mut buffer).unwrap_or(0);
        if n == 0 {
            break;
        }
        shown.push_str(&String::from_utf8_lossy(&buffer[..n]));
        if !told && shown.contains("] ") && shown.contains(" MB") {
            told = true;
            registry.go_on.send(()).expect("the registry waits");
        }
    }
    assert!(child.wait().expect("end").success() && told, "{shown:?}");
    assert!(
        shown.contains(&format!("pulling {name} [####")) && shown.contains(&format!("pulled {name}")),
        "{shown:?}"
    );

    // Nobody watches: nothing but the result. The layer is there already.
    let again = image(&["pull", &name]);
    assert!(again.ok && again.stderr.is_empty() && again.stdout == format!("pulled {name}\n"), "{again:?}");
    assert!(image(&["ls"]).stdout.contains(&name));

    refused(&image(&["pull", &format!("{}/test/busybox:9", registry.address)]), &["busybox:9", "not found"]);
    refused(&image(&["pull", "127.0.0.1:1/test/busybox"]), &["127.0.0.1:1/test/busybox"]);
    refused(&image(&["pull", "Not A Name"]), &["Not A Name"]);
    refused(&image(&["import", "/nowhere.tar"]), &["there is no archive /nowhere.tar"]);
    let text = c.dir().join("text.tar");
    fs::write(&text, "no archive").expect("file");
    refused(&image(&["import", &text.to_string_lossy()]), &["failed to import", "text.tar"]);
    refused(&image(&["rm", "docker.io/library/none:1"]), &["there is no image", "none:1"]);
    let removed = image(&["rm", &name]);
    assert!(
        removed.ok && removed.stdout.contains("removed") && !image(&["ls"]).stdout.contains(&name),
        "{removed:?}"
    );
}

#[test]
fn images_are_kept_only_where_a_cluster_may_be() {
    if !node_possible() {
        testkit::skip("working on images without a daemon needs root");
        return;
    }
    let dir = std::env::temp_dir().join(format!("kelson-e2e-{}-images", std::process::id()));
    let (foreign, own) = (dir.join("foreign"), dir.join("own"));
    fs::create_dir_all(&foreign).expect("directory");
    fs::write(foreign.join("passwd"), "root").expect("file");
    let at =
        |d: &Path, args: &[&str]| kelson(&[&["image", "--data-dir", &d.to_string_lossy()], args].concat());
    refused(&at(&foreign, &["ls"]), &["passwd", "--data-dir"]);
    assert_eq!(fs::read_dir(&foreign).expect("directory").count(), 1);
    // Before the first start of a server: the images wait for it.
    let archive = dir.join("busybox.tar");
    busybox_archive(&archive, "docker.io/library/busybox:1.36");
    let out = at(&own, &["import", &archive.to_string_lossy()]);
    assert!(out.ok && out.stdout.contains("imported docker.io/library/busybox:1.36"), "{out:?}");
    assert!(at(&own, &["ls"]).stdout.contains("busybox:1.36"));
    let out = kelson(&["clean", "--data-dir", &own.to_string_lossy()]);
    assert!(out.ok && !own.exists(), "{out:?}");
    fs::remove_dir_all(&dir).expect("clean up");
}

/// A server has its directory before it listens; a command of that moment waits for it, and takes nothing from it.
#[test]
fn images_may_be_asked_for_while_a_server_starts() {
    let Some(mut c) = Cluster::with_node() else { return };
    c.import_busybox();
    let data = c.data();
    for _ in 0..5 {
        c.stop();
        let begun = c.log().matches("Kelson is ready").count();
        c.spawn();
        wait_for("the server", || {
            let out = kelson(&["image", "ls", "--data-dir", &data]);
            assert!(out.ok && out.stdout.contains("busybox"), "{out:?}");
            c.log().matches("Kelson is ready").count() > begun
        });
        c.wait_ready();
    }
}
