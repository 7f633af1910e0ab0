//! Starting where it can't be done, or only with less: one clear sentence and a non-zero exit, or a warning; and several
//! clusters beside each other.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testkit::{Cluster, Output, kelson, kelson_path, node_possible, run, wait_for};

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kelson-e2e-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("test directory");
        Self(path)
    }
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(&path, text).expect("file");
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that starts after all would run for ever: it is ended, which is no refusal.
fn server(args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", "60"]).arg(kelson_path()).arg("server").args(args);
    run(&mut command, None)
}

/// One sentence on standard error, exit code 1, nothing on standard output.
fn sentence(out: &Output) -> &str {
    let told: Vec<&str> = out.stderr.lines().filter(|l| l.starts_with("kelson: ")).collect();
    assert!(out.code == Some(1) && told.len() == 1 && out.stdout.is_empty(), "{out:?}");
    assert!(!out.stderr.contains("panicked"), "{out:?}");
    told[0]
}

fn refused(args: &[&str], words: &[&str]) {
    let out = server(args);
    let told = sentence(&out);
    assert!(words.iter().all(|w| told.contains(w)), "{words:?} expected in: {told}");
}

#[test]
fn bad_flags_and_files_are_told_before_anything_is_written() {
    let d = Dir::new("flags");
    let data = d.path("data");
    let with = |more: &[&str], words: &[&str]| {
        let mut args = vec!["--no-node", "--listen", "127.0.0.1:0", "--data-dir", &data];
        args.extend(more);
        refused(&args, words);
    };
    with(&["--service-cidr", "ten"], &["--service-cidr", "ten"]);
    with(&["--service-cidr", "10.9.8.7/16"], &["--service-cidr", "write 10.9.0.0/16"]);
    with(&["--service-cidr", "10.9.0.0/30"], &["--service-cidr", "too small"]);
    with(&["--service-cidr", "10.9.0.0/16,10.10.0.0/16"], &["at most one IPv4"]);
    with(&["--service-cidr", "10.9.0.0/16", "--cluster-cidr", "10.9.128.0/20"], &["overlap"]);
    with(&["--advertise-address", "10.9.0.1", "--service-cidr", "10.9.0.0/16"], &["own address 10.9.0.1"]);
    with(&["--disable", "nonsense"], &["--disable nonsense", "no such part"]);
    with(&["--feature-gates", "Some=perhaps"], &["--feature-gates", "true or false"]);
    with(&["--runtime-config", "nonsense"], &["--runtime-config", "nonsense"]);
    with(&["--log", "a=b=c"], &["--log"]);
    with(&["--node-name", "Not_A_Name"], &["--node-name", "RFC 1123"]);
    let head = "apiVersion: kelson.dev/v1\nkind: ServerConfiguration\n";
    let unknown = d.file("unknown.yaml", &format!("{head}listne: 127.0.0.1:0\n"));
    with(&["--config", &unknown], &["unknown.yaml", "unknown field `listne`"]);
    let kind = d.file("kind.yaml", "apiVersion: v1\nkind: Pod\n");
    with(&["--config", &kind], &["kind.yaml", "ServerConfiguration"]);
    let broken = d.file("broken.yaml", &format!("{head}disable: [proxy\n"));
    with(&["--config", &broken], &["broken.yaml"]);
    with(&["--config", &d.path("none.yaml")], &["none.yaml", "No such file"]);
    assert!(!Path::new(&data).exists(), "a refused start leaves nothing behind");
    for args in [&["--listen", "nowhere"][..], &["--nonsense"], &["--kubelet-port", "70000"]] {
        let out = server(args);
        assert!(
            out.code == Some(2) && out.stderr.starts_with("error: ") && out.stderr.contains(args[0]),
            "{out:?}"
        );
    }
    let out = kelson(&["nonsense"]);
    assert!(
        out.code == Some(2) && out.stderr.contains("nonsense") && out.stderr.contains("Usage"),
        "{out:?}"
    );
}

#[test]
fn a_place_that_can_not_be_used_is_left_as_it_is() {
    let d = Dir::new("place");
    let data = d.path("data");
    let start = |data: &str, words: &[&str]| {
        refused(&["--no-node", "--listen", "127.0.0.1:0", "--data-dir", data], words)
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("address").to_string();
    refused(&["--no-node", "--listen", &port, "--data-dir", &data], &[&port, "--listen"]);
    start(&d.file("file", ""), &["file"]);
    d.file("foreign/passwd", "root");
    start(&d.path("foreign"), &["foreign", "\"passwd\"", "--data-dir"]);
    assert_eq!(fs::read_dir(d.path("foreign")).expect("directory").count(), 1);
    start(
        &{
            d.file("newer/kelson.cluster", r#"{"format": 7, "instance": "x"}"#);
            d.path("newer")
        },
        &["newer version", "format 7"],
    );

    let mut c = Cluster::control_plane();
    c.kubectl(&["create", "configmap", "kept"]);
    c.stop();
    let store = PathBuf::from(c.data()).join("store");
    let swap = |name: &str, text: &[u8], words: &[&str]| {
        let path = store.join(name);
        let before = fs::read(&path).expect("file of the store");
        fs::write(&path, text).expect("write");
        start(&c.data(), words);
        fs::write(&path, before).expect("write");
    };
    swap("FORMAT", b"kelson-store 99\n", &["newer version", "format 99"]);
    swap("FORMAT", b"nonsense", &["damaged file", "FORMAT"]);
    let log = "0000000000000001.log";
    let mut bytes = fs::read(store.join(log)).expect("the first segment of the log");
    let key = bytes.windows(10).position(|w| w == b"/registry/").expect("a key");
    bytes[key] ^= 0x40;
    swap(log, &bytes, &["damaged file", log, "at byte"]);
    c.run();
    c.kubectl(&["get", "configmap", "kept"]);
}

#[test]
fn a_full_disk_is_told_and_reads_go_on() {
    if !node_possible() {
        testkit::skip("a small file system needs root");
        return;
    }
    let d = Dir::new("full");
    let small = d.path("small");
    fs::create_dir_all(&small).expect("directory");
    let _tiny = Mounted::tmpfs(&small, "256k");
    refused(
        &["--no-node", "--listen", "127.0.0.1:0", "--data-dir", &format!("{small}/data")],
        &["o space left on", "small"],
    );

    let mut mounts = Vec::new();
    let mut c = Cluster::control_plane();
    c.kubectl(&["create", "configmap", "early"]);
    c.stop();
    let (data, aside) = (c.data(), c.dir().join("aside"));
    fs::rename(&data, &aside).expect("move the data");
    fs::create_dir(&data).expect("directory");
    mounts.push(Mounted::tmpfs(&data, "64m"));
    let out = run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&data), None);
    assert!(out.ok, "{out:?}");
    c.run();
    // All but what the store has set aside for its log.
    let filler = Path::new(&data).join("filler");
    let out = run(
        Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())),
        None,
    );
    assert!(out.stderr.contains("No space left"), "{out:?}");
    let big = |n: usize| serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("big{n}") }, "data": { "k": "x".repeat(900_000) } });
    for n in 0..45 {
        d.file(&format!("big/{n}.json"), &big(n).to_string());
    }
    let out = c.try_kubectl(&["create", "-f", &d.path("big")], None);
    assert!(!out.ok && out.stderr.contains("no space left on the device"), "{}", out.stderr);
    let made = out.stdout.lines().filter(|l| l.ends_with(" created")).count();
    c.kubectl(&["get", "configmap", "early"]);
    fs::remove_file(&filler).expect("make room");
    wait_for("writes to go on", || c.try_kubectl(&["create", "configmap", "late"], None).ok);
    c.crash();
    c.run();
    let names = c.kubectl(&["get", "configmaps", "-o", "name"]);
    assert_eq!(names.lines().filter(|l| l.contains("/big")).count(), made, "{names}");
    assert!(names.contains("/early") && names.contains("/late"), "{names}");
}

struct Mounted(String);

impl Mounted {
    fn tmpfs(at: &str, size: &str) -> Self {
        let out = run(
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", at]),
            None,
        );
        assert!(out.ok, "{out:?}");
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The program that writes there may still run when a test has failed.
        let _ = Command::new("umount").args(["-l", &self.0]).status();
        if let Some(test) = Path::new(&self.0).parent() {
            let _ = fs::remove_dir_all(test);
        }
    }
}

#[test]
fn a_node_that_can_not_run_here_is_told() {
    if !node_possible() {
        testkit::skip("needs root to hide parts of the machine");
        return;
    }
    let d = Dir::new("kernel");
    let data = d.path("data");
    let program = kelson_path().to_string_lossy().into_owned();
    let node = |prepare: &str, words: &[&str]| {
        let script = format!(
            "{prepare}\nexec timeout --kill-after=10 60 {program} server --listen 127.0.0.1:0 --data-dir {data}"
        );
        let out = run(Command::new("unshare").args(["--mount", "sh", "-c", &script]), None);
        if out.stderr.contains("unshare failed") {
            testkit::skip("no mount namespaces");
            return;
        }
        let told = sentence(&out);
        assert!(words.iter().all(|w| told.contains(w)), "{words:?} expected in: {told}");
    };
    let few = d.file("filesystems", "nodev\tproc\n");
    let modprobe = d.file("bin/modprobe", "#!/bin/sh\nexit 1\n");
    fs::set_permissions(&modprobe, fs::Permissions::from_mode(0o755)).expect("mode");
    let hide = format!("mount --bind {few} /proc/filesystems; PATH={}:$PATH", d.path("bin"));
    node(&hide, &["overlay", "--no-node"]);
    node("umount -R /sys/fs/cgroup", &["control groups", "--no-node"]);
    // `timeout` is needed, `nft` must not be found.
    let tools =
        "mkdir -p DIR; ln -sf $(command -v timeout) DIR/timeout; PATH=DIR".replace("DIR", &d.path("tools"));
    node(&tools, &["nft", "nftables"]);
    assert!(!Path::new(&data).exists(), "a refused start leaves nothing behind");

    // A copy, since nobody may not read where the program was built.
    let copy = d.path("kelson");
    fs::copy(&program, &copy).expect("copy");
    fs::set_permissions(&d.0, fs::Permissions::from_mode(0o777)).expect("mode");
    let mut nobody = Command::new(&copy);
    nobody.args(["server", "--listen", "127.0.0.1:0", "--data-dir", &data]).uid(65534).gid(65534);
    let out = run(&mut nobody, None);
    assert!(sentence(&out).contains("needs root") && out.stderr.contains("--no-node"), "{out:?}");
}

#[test]
fn what_only_limits_is_a_warning() {
    if !node_possible() {
        testkit::skip("a node needs root");
        return;
    }
    let taken = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = taken.local_addr().expect("address").port().to_string();
    let c = Cluster::with_flags(true, &["--kubelet-port", &port]);
    assert!(c.log().contains("the kubelet's port is taken"), "{}", c.log());
    c.kubectl(&["get", "node", "node-1"]);
}

const PAGE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: page, labels: {app: page}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1.36
    command: [sh, -c, "echo NAME > /www/index.html; exec httpd -f -p 8080 -h /www"]
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: page}
spec: {selector: {app: page}, ports: [{port: 80, targetPort: 8080}]}
"#;

fn fetch(address: &SocketAddr) -> std::io::Result<String> {
    let patience = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

#[test]
fn clusters_live_side_by_side() {
    let Some(one) = Cluster::with_node() else { return };
    let Some(two) = Cluster::with_node() else { return };
    let alone = Cluster::control_plane();
    alone.kubectl(&["create", "configmap", "mine"]);
    let address = |c: &Cluster| c.kubectl(&["get", "service", "page", "-o", "jsonpath={.spec.clusterIP}"]);
    for (c, name) in [(&one, "one"), (&two, "two")] {
        c.apply(&PAGE.replace("NAME", name));
    }
    let answers = |c: &Cluster, name: &str| {
        wait_for(&format!("the page of cluster {name}"), || {
            let address = format!("{}:80", address(c)).parse().expect("an address");
            fetch(&address).is_ok_and(|page| page.ends_with(&format!("\r\n\r\n{name}\n")))
        });
    };
    answers(&one, "one");
    answers(&two, "two");
    assert!(!one.try_kubectl(&["get", "configmap", "mine"], None).ok);
    // What one takes down is its own.
    drop(two);
    answers(&one, "one");
}
