//! The client programs of `tests/clients`, each built once for a run.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use testkit::tools::{self, Lack};

pub fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Where they are built: beside the tests, so that a second run finds them.
fn built() -> PathBuf {
    tools::target().join("clients")
}

/// A Python with the client.
pub fn python() -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, Lack>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let venv = built().join("python");
        let python = venv.join("bin/python");
        let version = "import kubernetes, sys; sys.exit(kubernetes.__version__ != '37.0.2')";
        if tools::build(Command::new(&python).args(["-c", version])).is_ok() {
            return Ok(python);
        }
        // Debian's Python makes environments only with a package of its own.
        let make = tools::build(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        make.map_err(|lack| match lack {
            Lack::Ours(why) if why.contains("ensurepip") => Lack::Machine(why),
            other => other,
        })?;
        tools::fetch(Command::new(&python).args(["-m", "pip", "install", "-q", "kubernetes==37.0.2"]))?;
        Ok(python)
    });
    tools::have(made.clone(), "PyPI's kubernetes client")
}

fn go(made: &OnceLock<Result<PathBuf, Lack>>, package: &str, name: &str) -> Result<PathBuf, Lack> {
    let build = || {
        let program = built().join(name);
        tools::go(&sources().join("go"), package, &program).map(|()| program)
    };
    made.get_or_init(build).clone()
}

/// client-go's informers.
pub fn informer() -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, Lack>> = OnceLock::new();
    tools::have(go(&MADE, ".", "informer"), "client-go")
}

/// client-go's informer, held open.
pub fn hold() -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, Lack>> = OnceLock::new();
    tools::have(go(&MADE, "./hold", "hold"), "client-go")
}

/// What upstream's serializers write and its decoders read.
pub fn handover() -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, Lack>> = OnceLock::new();
    tools::have(go(&MADE, "./handover", "handover"), "the handover program")
}

/// An operator on controller-runtime.
pub fn operator() -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, Lack>> = OnceLock::new();
    tools::have(go(&MADE, "./operator", "operator"), "controller-runtime")
}

/// Helm as its own project builds it.
pub fn helm() -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, Lack>> = OnceLock::new();
    tools::have(go(&MADE, "helm.sh/helm/v4/cmd/helm", "helm"), "Helm")
}

/// kube-rs.
pub fn rust() -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, Lack>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let target = built().join("rust");
        let cargo = |args: &[&str]| {
            let mut c = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            c.current_dir(sources().join("rust")).args(args);
            c
        };
        tools::fetch(&mut cargo(&["fetch", "--locked"]))?;
        tools::build(cargo(&["build", "--locked", "--offline", "--target-dir"]).arg(&target))?;
        Ok(target.join("debug/kube-client"))
    });
    tools::have(made.clone(), "kube-rs")
}
