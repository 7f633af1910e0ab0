//! The one clock of everything above the store. Tests and a hidden flag can shift it; pure code is handed a time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

static OFFSET_SECONDS: AtomicI64 = AtomicI64::new(0);

/// Now, shifted by what `shift` added.
pub fn now() -> Timestamp {
    let offset = OFFSET_SECONDS.load(Ordering::Relaxed);
    let now = Timestamp::now();
    if offset == 0 {
        return now;
    }
    now.checked_add(jiff::SignedDuration::from_secs(offset)).unwrap_or(now)
}

/// Moves the clock forward (or back) for the whole process.
pub fn shift(seconds: i64) {
    OFFSET_SECONDS.fetch_add(seconds, Ordering::Relaxed);
}

/// `2026-01-02T03:04:05Z`: what `metav1.Time` carries.
pub fn rfc3339(t: Timestamp) -> String {
    const WHOLE_SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));
    WHOLE_SECONDS.timestamp_to_string(&t)
}

/// `2026-01-02T03:04:05.000006Z`: what `metav1.MicroTime` carries.
pub fn rfc3339_micro(t: Timestamp) -> String {
    t.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Parses either form; `None` for what is no timestamp.
pub fn parse(s: &str) -> Option<Timestamp> {
    s.parse().ok()
}

/// From `earlier` to `later`, zero when it would be negative.
pub fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_time() {
        let t = parse("2026-01-02T03:04:05.000006789Z").expect("time");
        assert_eq!(rfc3339(t), "2026-01-02T03:04:05Z");
        assert_eq!(rfc3339_micro(t), "2026-01-02T03:04:05.000006Z");
    }
}
