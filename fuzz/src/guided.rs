//! The same targets under libFuzzer, which keeps what reaches new code (feature `guided`; `scripts/soak-fuzz` runs it). A
//! process does one target and never comes back from it: libFuzzer ends it, with the input in a file when it did harm.
//!
//! Works in the current directory: `seeds/` is written, the rest is in the arguments in `FUZZ_GUIDED`.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::mutate::{self, Random};

/// Of the signal handlers: after a stack overflow they still write the input down, for which std's own few KiB are too small.
const HANDLERS: usize = 256 << 10;
/// CPU time, not a clock: a busy machine makes no finding.
const LONGEST: Duration = Duration::from_secs(3);

static WORK: Mutex<Option<Box<dyn Fn(&[u8]) + Send>>> = Mutex::new(None);

unsafe extern "C" {
    fn LLVMFuzzerRunDriver(
        argc: *mut c_int,
        argv: *mut *mut *mut c_char,
        one: unsafe extern "C" fn(*const u8, usize) -> c_int,
    ) -> c_int;
    /// libfuzzer-sys', which calls what `fuzz_target!` is given below.
    fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> c_int;
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| one(input));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // One in four is our own, which knows tokens, nesting and JSON trees.
    if seed % 4 != 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let made = mutate::bytes(&mut Random::new(seed.into()), &[data[..size].to_vec()]);
    let n = made.len().min(max_size);
    data[..n].copy_from_slice(&made[..n]);
    n
});

fn spent() -> Duration {
    let Ok(u) = getrusage(UsageWho::RUSAGE_THREAD) else { return Duration::ZERO };
    let micros = |t: nix::sys::time::TimeVal| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64;
    Duration::from_micros(micros(u.user_time()) + micros(u.system_time()))
}

fn one(input: &[u8]) {
    let Ok(work) = WORK.lock() else { return };
    let Some(work) = work.as_ref() else { return };
    let before = spent();
    work(input);
    let took = spent().saturating_sub(before);
    assert!(took < LONGEST, "{took:?} of CPU time for {} bytes", input.len());
}

/// Runs a target under libFuzzer with these arguments.
pub(crate) fn run<F>(target: &'static str, inputs: &[Vec<u8>], arguments: &str, work: F) -> !
where
    F: Fn(&[u8]) + Send + 'static,
{
    *WORK.lock().expect("nobody else works") = Some(Box::new(work));
    std::fs::create_dir_all("seeds").expect("seeds/ here");
    for (i, input) in inputs.iter().enumerate() {
        std::fs::write(format!("seeds/{i}"), input).expect("a seed");
    }
    let stack = Box::leak(vec![0u8; HANDLERS].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: HANDLERS };
    // SAFETY: the memory is of the size that is told, nobody else has it, and it is never freed.
    assert_eq!(unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) }, 0, "a stack for the handlers");
    let words = std::iter::once(target).chain(arguments.split_whitespace());
    let mut words: Vec<*mut c_char> =
        words.map(|w| CString::new(w).expect("no zero bytes").into_raw()).collect();
    let mut argc = words.len() as c_int;
    words.push(std::ptr::null_mut());
    let mut argv = words.as_mut_ptr();
    // SAFETY: `argv` has `argc` strings and a null, which live as long as the process; both functions have libFuzzer's types.
    let code = unsafe { LLVMFuzzerRunDriver(&mut argc, &mut argv, LLVMFuzzerTestOneInput) };
    std::process::exit(code)
}
