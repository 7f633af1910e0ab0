//! Clients as people use them, against a control plane alone and against a cluster with a node: PyPI's `kubernetes`,
//! Go's client-go with its informers, and kube-rs. Their programs stand in `tests/clients`; what a machine lacks to build them is said.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use testkit::Cluster;

fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Where the programs are built: beside the tests, so that a second run finds them.
fn built() -> PathBuf {
    let exe = std::env::current_exe().expect("the test's own path");
    let target = exe.ancestors().nth(3).expect("the target directory").join("clients");
    std::fs::create_dir_all(&target).expect("directory");
    target
}

/// Runs a command; why it failed, if it did.
fn run(command: &mut Command) -> Result<String, String> {
    let name = format!("{command:?}");
    let out = command.output().map_err(|e| format!("failed to start {name}: {e}"))?;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    if out.status.success() {
        return Ok(text(&out.stdout));
    }
    let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
    let tail: Vec<&str> = said.lines().rev().take(30).collect();
    Err(format!(
        "{name} ended with {}:\n{}",
        out.status,
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    ))
}

/// A Python with the client, or why there is none.
fn python() -> Result<PathBuf, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(|| {
        let venv = built().join("python");
        let python = venv.join("bin/python");
        let version = "import kubernetes, sys; sys.exit(kubernetes.__version__ != '37.0.2')";
        if run(Command::new(&python).args(["-c", version])).is_ok() {
            return Ok(python);
        }
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        run(Command::new(&python).args(["-m", "pip", "install", "-q", "kubernetes==37.0.2"]))?;
        Ok(python)
    })
    .clone()
}

/// The Go program, or why there is none.
fn go() -> Result<PathBuf, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(|| {
        let program = built().join("informer");
        let mut build = Command::new("go");
        build.current_dir(sources().join("go")).args(["build", "-mod=readonly", "-o"]).arg(&program).arg(".");
        run(&mut build)?;
        Ok(program)
    })
    .clone()
}

/// The Rust program, or why there is none.
fn rust() -> Result<PathBuf, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(|| {
        let target = built().join("rust");
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.current_dir(sources().join("rust")).args(["build", "--locked", "--target-dir"]).arg(&target);
        run(&mut build)?;
        Ok(target.join("debug/kube-client"))
    })
    .clone()
}

fn clusters() -> Vec<(Cluster, &'static str)> {
    let mut all = vec![(Cluster::control_plane(), "no-node")];
    all.extend(Cluster::with_node().map(|c| (c, "node")));
    all
}

/// Missing tools and a missing network are the machine's; what does not compile is ours.
fn is_missing(why: &str) -> bool {
    [
        "failed to start",
        "dial tcp",
        "no such host",
        "i/o timeout",
        "No matching distribution",
        "ensurepip",
        "connection",
        "failed to download",
        "failed to fetch",
        "Could not resolve host",
    ]
    .iter()
    .any(|s| why.contains(s))
}

#[test]
fn python_client() {
    let python = match python() {
        Ok(p) => p,
        Err(why) if is_missing(&why) => return testkit::skip("PyPI's kubernetes client cannot be had"),
        Err(why) => panic!("{why}"),
    };
    for (c, shape) in clusters() {
        let script = sources().join("python/client.py");
        let out = run(Command::new(&python).arg(script).arg(c.kubeconfig()).arg(shape));
        assert_eq!(out.as_deref().map(str::trim), Ok("ok"), "{shape}: {out:?}");
    }
}

#[test]
fn go_client_with_informers() {
    let program = match go() {
        Ok(p) => p,
        Err(why) if is_missing(&why) => return testkit::skip("Go or its modules cannot be had"),
        Err(why) => panic!("{why}"),
    };
    for (c, shape) in clusters() {
        for form in ["json", "protobuf"] {
            let out = run(Command::new(&program).args(["-kubeconfig", &c.kubeconfig(), "-form", form]));
            assert_eq!(out.as_deref().map(str::trim), Ok("ok"), "{shape}, {form}: {out:?}");
        }
    }
}

#[test]
fn rust_client() {
    let program = match rust() {
        Ok(p) => p,
        Err(why) if is_missing(&why) => return testkit::skip("kube-rs cannot be had"),
        Err(why) => panic!("{why}"),
    };
    for (c, shape) in clusters() {
        let out = run(Command::new(&program).args([&c.kubeconfig(), shape]));
        assert_eq!(out.as_deref().map(str::trim), Ok("ok"), "{shape}: {out:?}");
    }
}
