//! The shim: one small single-threaded process per pod. It makes and holds the pod's containers, writes their logs,
//! and outlives the daemon. It owns the pod's IPC, UTS and (shared) PID namespaces, its containers' streams and
//! terminals, and the state file; it spawns a short-lived helper process per start and exec ([`launch`]), never a
//! thread. The daemon talks to it in [`protocol`].
#![allow(unsafe_code)]

pub mod cgroup;
pub mod log;
pub mod protocol;
pub mod seccomp;
pub mod sys;

mod conn;
mod container;
mod launch;
mod server;
mod setup;

/// `kelson shim --dir <sandbox dir>`; to be called before any thread exists. Returns in the caller's process when the
/// shim is ready (0) or couldn't be (1, with the reason on stderr); the shim itself goes on as an orphan.
pub fn main(args: impl IntoIterator<Item = std::ffi::OsString>) -> i32 {
    let mut dir = None;
    let mut args = args.into_iter();
    while let Some(a) = args.next() {
        match a.to_str() {
            Some("--dir") => dir = args.next(),
            _ => {
                eprintln!("kelson shim: unknown argument {a:?}; usage: kelson shim --dir DIR");
                return 2;
            }
        }
    }
    let Some(dir) = dir else {
        eprintln!("kelson shim: --dir is required; this command is for the daemon, not for people");
        return 2;
    };
    match setup::start(std::path::Path::new(&dir)) {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("{e}");
            1
        }
    }
}
