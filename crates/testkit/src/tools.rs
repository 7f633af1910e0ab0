//! Programs that tests build or install. What a machine lacks for them (a compiler, a package registry) is told apart from
//! what is wrong with them: only the first lets a test be skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip;

/// Why a program is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// The machine has no compiler or no way to a registry.
    Machine(String),
    /// It does not build.
    Ours(String),
}

/// `target` of the running test: programs are built there, so that a second run finds them.
pub fn target() -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    // target/debug/deps/test-…
    exe.ancestors().nth(3).expect("the target directory").to_owned()
}

/// The last lines of what a command said.
const TAIL: usize = 30;

/// Runs a command to its end; its standard output, or whether it ran at all and what it said.
fn run(command: &mut Command) -> Result<String, (bool, String)> {
    let name = format!("{command:?}");
    let out = command.output().map_err(|e| (false, format!("failed to start {name}: {e}")))?;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    if out.status.success() {
        return Ok(text(&out.stdout));
    }
    let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
    let lines: Vec<&str> = said.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n");
    Err((true, format!("{name} ended with {}:\n{tail}", out.status)))
}

/// Runs a command of the machine's tools that needs no registry.
pub fn build(command: &mut Command) -> Result<String, Lack> {
    run(command).map_err(|(ran, why)| if ran { Lack::Ours(why) } else { Lack::Machine(why) })
}

/// Runs a command that gets packages and compiles nothing, so that what it says of a network is about the network.
pub fn fetch(command: &mut Command) -> Result<String, Lack> {
    const NETWORK: [&str; 14] = [
        "dial tcp",
        "no such host",
        "i/o timeout",
        "TLS handshake timeout",
        "disabled by GOPROXY=off",
        "connection refused",
        "Connection refused",
        "onnection reset",
        "etwork is unreachable",
        "ould not resolve host",
        "name resolution",
        "to establish a new connection",
        "No matching distribution found",
        "failed to download from",
    ];
    run(command).map_err(|(ran, why)| {
        let machine = !ran || NETWORK.iter().any(|n| why.contains(n));
        if machine { Lack::Machine(why) } else { Lack::Ours(why) }
    })
}

/// Builds a package of the Go module in `module` as `program`.
pub fn go(module: &Path, package: &str, program: &Path) -> Result<(), Lack> {
    let path = format!("{}:/usr/local/go/bin", std::env::var("PATH").unwrap_or_default());
    let command = |args: &[&str]| {
        let mut c = Command::new("go");
        c.current_dir(module).env("PATH", &path).args(args);
        c
    };
    fetch(&mut command(&["list", "-mod=readonly", "-deps", package]))?;
    if let Some(dir) = program.parent() {
        std::fs::create_dir_all(dir).map_err(|e| Lack::Machine(e.to_string()))?;
    }
    // Another test may run what is there.
    let fresh = program.with_extension(std::process::id().to_string());
    build(command(&["build", "-mod=readonly", "-trimpath", "-o"]).arg(&fresh).arg(package))?;
    std::fs::rename(&fresh, program).map_err(|e| Lack::Ours(e.to_string()))
}

/// The program; `None`, said as a skip, where the machine lacks what it needs. What is ours to mend fails the test.
pub fn have<T>(program: Result<T, Lack>, name: &str) -> Option<T> {
    match program {
        Ok(p) => Some(p),
        Err(Lack::Machine(why)) => {
            eprintln!("{why}");
            skip(&format!("{name} can't be had here"));
            None
        }
        Err(Lack::Ours(why)) => panic!("{name}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut c = Command::new("sh");
        c.args(["-c", script]);
        c
    }

    #[test]
    fn only_a_missing_tool_or_registry_is_the_machines() {
        let refused = "echo 'go: x@v1: Get y: dial tcp 1.2.3.4:443: connect: connection refused' >&2; exit 1";
        // A compiler may speak of connections as well.
        let broken = "echo './main.go:3: undefined: connection: dial tcp'; exit 1";
        assert!(matches!(fetch(&mut sh(refused)), Err(Lack::Machine(_))));
        assert!(matches!(fetch(&mut sh("echo missing go.sum entry; exit 1")), Err(Lack::Ours(_))));
        assert!(matches!(build(&mut sh(broken)), Err(Lack::Ours(why)) if why.contains("undefined")));
        assert!(matches!(build(&mut Command::new("/no/such/tool")), Err(Lack::Machine(_))));
        assert!(matches!(fetch(&mut Command::new("/no/such/tool")), Err(Lack::Machine(_))));
        assert_eq!(build(&mut sh("echo ok")), Ok("ok\n".to_owned()));
    }

    #[test]
    fn the_end_of_what_was_said_is_kept() {
        let Err(Lack::Ours(why)) = build(&mut sh("seq 100; exit 2")) else { panic!("it should fail") };
        assert!(why.contains("\n71\n") && why.ends_with("\n100") && !why.contains("\n70\n"), "{why}");
    }
}
