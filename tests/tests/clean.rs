//! `kelson clean` takes what is a cluster's, and nothing else.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use testkit::{Cluster, Output, kelson, node_possible, run};

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kelson-e2e-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("test directory");
        Self(path)
    }
    fn with(&self, name: &str, files: &[&str]) -> String {
        let dir = self.0.join(name);
        for f in files {
            let path = dir.join(f);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, "precious").expect("file");
        }
        dir.to_string_lossy().into_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn clean(dir: &str) -> Output {
    kelson(&["clean", "--data-dir", dir])
}

fn refused(dir: &str, words: &[&str]) {
    let out = clean(dir);
    assert!(
        out.code == Some(1) && out.stderr.starts_with("kelson: ") && out.stderr.lines().count() == 1,
        "{out:?}"
    );
    assert!(words.iter().all(|w| out.stderr.contains(w)), "{words:?} expected in: {}", out.stderr);
}

#[test]
fn a_directory_without_a_clusters_mark_is_left_alone() {
    let d = Dir::new("foreign");
    let files = ["passwd", "network/interfaces", "pki/ca.crt", "kubelet/config", "logs/pods/x"];
    let foreign = d.with("foreign", &files);
    refused(&foreign, &["no cluster's mark", "left alone"]);
    refused(&format!("{foreign}/../foreign/"), &["left alone"]);
    std::os::unix::fs::symlink(&foreign, d.0.join("link")).expect("link");
    refused(&d.0.join("link").to_string_lossy(), &["left alone"]);
    let alike = d.with("alike", &["store/FORMAT", "pki/ca.crt"]);
    refused(&alike, &["no cluster's mark"]);
    let broken = d.with("broken", &["kelson.cluster", "data"]);
    refused(&broken, &["kelson.cluster is damaged"]);
    let file = d.with("", &["file"]);
    refused(&format!("{file}file"), &["file"]);
    for f in files {
        assert_eq!(
            fs::read_to_string(PathBuf::from(&foreign).join(f)).expect("the file is there"),
            "precious",
            "{f}"
        );
    }
    assert!(
        PathBuf::from(&alike).join("store/FORMAT").exists() && PathBuf::from(&broken).join("data").exists()
    );
    // Nothing there is nothing to refuse.
    let out = clean(&d.0.join("none").to_string_lossy());
    assert!(out.ok, "{out:?}");
}

#[test]
fn a_running_cluster_is_left_alone_and_a_stopped_one_goes_wholly() {
    let mut c = Cluster::control_plane();
    let data = c.data();
    c.kubectl(&["create", "configmap", "kept"]);
    refused(&data, &["is running", "stop it first"]);
    c.kubectl(&["get", "configmap", "kept"]);
    c.stop();
    let out = kelson(&["clean", "--keep-data", "--data-dir", &data]);
    assert!(out.ok, "{out:?}");
    c.run();
    c.kubectl(&["get", "configmap", "kept"]);
    c.stop();
    let out = clean(&data);
    assert!(out.ok && out.stdout.contains("removed every trace"), "{out:?}");
    assert!(!PathBuf::from(&data).exists());
}

#[test]
fn what_is_mounted_below_is_not_reached_into() {
    if !node_possible() {
        testkit::skip("mounting needs root");
        return;
    }
    let d = Dir::new("mounted");
    let precious = d.with("precious", &["file"]);
    let mut c = Cluster::control_plane();
    c.stop();
    let point = PathBuf::from(c.data()).join("elsewhere");
    fs::create_dir(&point).expect("directory");
    let out = run(Command::new("mount").arg("--bind").arg(&precious).arg(&point), None);
    assert!(out.ok, "{out:?}");
    let refusal = clean(&c.data());
    let unmounted = run(Command::new("umount").arg(&point), None);
    assert!(refusal.code == Some(1) && refusal.stderr.contains("is still mounted"), "{refusal:?}");
    assert!(unmounted.ok, "{unmounted:?}");
    assert_eq!(
        fs::read_to_string(PathBuf::from(&precious).join("file")).expect("the file is there"),
        "precious"
    );
}
