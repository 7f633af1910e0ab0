//! The program as it is called. (That a test needs the program also makes `cargo test` build it, in the same run and with
//! the same features as everything else.)

use std::process::{Command, Output};

fn kelson(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kelson")).args(args).output().expect("the program starts")
}

#[test]
fn version_is_told() {
    let out = kelson(&["version"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success() && text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}

#[test]
fn a_wrong_call_is_told_with_what_is_right() {
    let out = kelson(&["server", "--lisen", "0.0.0.0:6443"]);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(text.contains("--listen"), "{text}");
}
