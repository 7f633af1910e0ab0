//! What tests switch on in a program to show that they would see it: faults by name (`KELSON_PLANTED`), informers that lag
//! (`KELSON_SLOW_INFORMERS`, milliseconds for each event), a shifted clock (`KELSON_CLOCK_SHIFT`, seconds). A build for
//! release has none of it, and its compiler drops what asks for it.

use std::sync::OnceLock;
use std::time::Duration;

fn variable(name: &str) -> Option<String> {
    if cfg!(debug_assertions) { std::env::var(name).ok().filter(|v| !v.is_empty()) } else { None }
}

/// Whether this fault is the one that was planted.
pub fn is_on(fault: &str) -> bool {
    static FAULT: OnceLock<Option<String>> = OnceLock::new();
    cfg!(debug_assertions)
        && FAULT.get_or_init(|| variable("KELSON_PLANTED")).as_deref().is_some_and(|f| f == fault)
}

/// Holds an event back on its way to an informer.
pub(crate) async fn slow() {
    static DELAY: OnceLock<Option<Duration>> = OnceLock::new();
    let delay = || variable("KELSON_SLOW_INFORMERS").and_then(|v| v.parse().ok()).map(Duration::from_millis);
    if cfg!(debug_assertions)
        && let Some(delay) = DELAY.get_or_init(delay)
    {
        tokio::time::sleep(*delay).await;
    }
}

/// By how many seconds the clock is to be shifted from the start.
pub fn clock_shift() -> Option<i64> {
    variable("KELSON_CLOCK_SHIFT").and_then(|v| v.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_planted_unless_somebody_asks() {
        assert!(!is_on("expectation-forgotten"));
        assert_eq!(clock_shift(), None);
    }
}
