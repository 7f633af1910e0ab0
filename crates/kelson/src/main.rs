//! `kelson`: all of Kubernetes in one program. This file dispatches; `args` holds the command line, `config` what a
//! cluster on this machine is made of, `server` and `agent` wire and run the roles, `node` is what
//! both of them run of a node, the other files are one command each.
#![forbid(unsafe_code)]

mod admin;
mod agent;
mod args;
mod autoscaling;
mod backup;
mod bar;
mod clean;
mod config;
mod duration;
mod etcd;
mod image;
mod kubeconfig;
mod leader;
mod logging;
mod machine;
mod mark;
mod memory;
mod networks;
mod node;
mod process;
mod remote;
mod server;
mod shared;
mod token;
mod why;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

/// What `kelson version` and `/version` tell.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    // The shim is a single-threaded process: it is dispatched before any thread or runtime exists.
    let mut raw = std::env::args_os();
    if raw.nth(1).is_some_and(|a| a == "shim") {
        let code = shim::main(raw);
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let args = Args::parse();
    if let Some(seconds) = client::planted::clock_shift() {
        client::clock::shift(seconds);
    }
    let result = match args.command {
        Command::Server(a) => server::main(a),
        Command::Image(a) => image::main(a),
        Command::Backup(a) => backup::save::main(a),
        Command::Restore(a) => backup::restore::main(a),
        Command::Store(a) => backup::inspect::main(a),
        Command::Agent(a) => agent::main(a),
        Command::Token(a) => token::main(a),
        Command::Why(a) => why::main(a),
        Command::Clean(a) => clean::main(a),
        Command::Version => {
            println!("kelson {VERSION} (Kubernetes v1.37.0)");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("kelson: {e:#}");
            ExitCode::FAILURE
        }
    }
}
