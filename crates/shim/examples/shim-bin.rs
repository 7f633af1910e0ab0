//! The shim as a program of its own, for tests of the crates that drive it.

fn main() {
    let args = std::env::args_os().skip(1).skip_while(|a| a == "shim");
    std::process::exit(shim::main(args));
}
