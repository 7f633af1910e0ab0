//! Hostile input for every parser, without nightly compilers: a target is a test of the same name that gives [`run`] a
//! function over bytes, fed with its seeds, with the files of `corpus/<target>/` (inputs that once did harm or reach far,
//! replayed for ever) and with mutations of both. The same rounds give the same inputs. It must not panic, must not hang,
//! and memory stays bounded.
//!
//! `FUZZ_ROUNDS` sets the number of mutations per target; `FUZZ_SEED` begins elsewhere. Those are blind; `make soak` hands
//! the same targets to libFuzzer (`guided.rs`).

#[cfg(feature = "guided")]
mod guided;
mod mutate;

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

pub use mutate::{Random, bytes, value};

/// What one input may take; only a hang comes near, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a target may add to this process.
const MEMORY: u64 = 768 << 20;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// The largest memory so far, in bytes.
fn peak() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        text.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map_or(0, |k: u64| k << 10)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    files.iter().filter_map(|f| std::fs::read(f).ok()).collect()
}

/// Runs a target over its seeds, its corpus and mutations of both. `cost` divides the rounds of a slow target.
pub fn run<F>(target: &'static str, seeds: &[&[u8]], cost: u64, work: F)
where
    F: Fn(&[u8]) + Send + 'static,
{
    // libtest names its threads by the tests, or runs a lone one in the main thread.
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    assert!(test == target || test == "main", "the test of the target {target} is named {test}");
    let mut inputs: Vec<Vec<u8>> = seeds.iter().map(|s| s.to_vec()).collect();
    inputs.extend(corpus(target));
    #[cfg(feature = "guided")]
    if let Ok(arguments) = std::env::var("FUZZ_GUIDED") {
        guided::run(target, &inputs, &arguments, work);
    }
    let rounds = number("FUZZ_ROUNDS", 1500) / cost.max(1);
    let mut random = Random::new(number("FUZZ_SEED", 1));
    let (to, inbox) = channel::<Vec<u8>>();
    let (done, answers) = channel();
    // One thread does the work, this one watches it.
    let worker = std::thread::Builder::new().name(target.into()).stack_size(4 << 20).spawn(move || {
        for input in inbox {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&input)));
            if done.send(result.is_ok()).is_err() {
                return;
            }
        }
    });
    assert!(worker.is_ok(), "no thread for {target}");
    let before = peak();
    let known = inputs.len();
    for round in 0..known as u64 + rounds {
        let input = match inputs.get(round as usize) {
            Some(i) => i.clone(),
            None => bytes(&mut random, &inputs),
        };
        let _ = to.send(input.clone());
        let shown =
            || format!("{target}, {} bytes: {}", input.len(), String::from_utf8_lossy(&input).escape_debug());
        match answers.recv_timeout(PATIENCE) {
            Ok(true) => {}
            Ok(false) => panic!("panicked on {}", keep(target, &input, shown())),
            Err(RecvTimeoutError::Timeout) => panic!("hangs on {}", keep(target, &input, shown())),
            Err(RecvTimeoutError::Disconnected) => panic!("ended on {}", keep(target, &input, shown())),
        }
        let added = peak().saturating_sub(before);
        assert!(added < MEMORY, "{} MiB more at {}", added >> 20, keep(target, &input, shown()));
    }
}

/// Leaves the input where a person can take it into the corpus.
fn keep(target: &str, input: &[u8], shown: String) -> String {
    let path = std::env::temp_dir().join(format!("fuzz-{target}-{}", std::process::id()));
    match std::fs::write(&path, input) {
        Ok(()) => format!("{}\nkept in {}: copy it to fuzz/corpus/{target}/", clip(&shown), path.display()),
        Err(_) => clip(&shown).to_owned(),
    }
}

fn clip(s: &str) -> &str {
    s.get(..4000).unwrap_or(s)
}
