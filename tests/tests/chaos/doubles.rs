//! Two running containers of one identity of a stateful set, looked for among the processes of the nodes, which are all here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::api::Api;

/// The word before name and UID in the command line of such a process; other runs have another.
pub fn mark() -> String {
    format!("chaos-{}", std::process::id())
}

/// Name and UID of the pod whose first process that is; one that has ended has no command line.
fn identity(pid: u32, mark: &str) -> Option<(String, String)> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split('\0').skip_while(|w| *w != mark).skip(1);
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

/// Looks until `end`.
pub fn look(api: &Api, end: &AtomicBool) {
    let mark = mark();
    while !end.load(Ordering::Relaxed) {
        let mut found: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
        for e in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = e.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            if let Some((name, uid)) = identity(pid, &mark) {
                found.entry(name).or_default().push((pid, uid));
            }
        }
        for (name, all) in found {
            let [(first, one), rest @ ..] = all.as_slice() else { continue };
            // The first may have ended before the other began: both are there when the first still is.
            let other = rest.iter().find(|(pid, uid)| {
                uid != one && identity(*pid, &mark).is_some() && identity(*first, &mark).is_some()
            });
            if let Some((_, other)) = other {
                let what =
                    format!("two containers of {name} run at the same time, of pods {one} and {other}");
                api.violated(&format!("double {name}"), &what);
            }
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}
