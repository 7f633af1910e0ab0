//! The shim as a program of its own, for this crate's tests; the product has it as `kelson shim`.

fn main() {
    let args = std::env::args_os().skip(1).skip_while(|a| a == "shim");
    std::process::exit(shim::main(args));
}
