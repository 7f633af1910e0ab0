//! The shim as a program of its own, for this crate's tests; the product has it as `kelson shim`.

#[expect(clippy::disallowed_methods, reason = "the shim's code is its exit code; there is nothing to drain")]
fn main() {
    let args = std::env::args_os().skip(1).skip_while(|a| a == "shim");
    std::process::exit(shim::main(args));
}
