//! Back-off as upstream counts it: by container, growing from ten seconds to five minutes, forgotten after ten quiet
//! minutes. Pure; times are milliseconds since the epoch.

use std::collections::HashMap;

pub const INITIAL: i64 = 10_000;
pub const MAX: i64 = 300_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    delay: i64,
    updated: i64,
}

#[derive(Debug, Clone, Default)]
pub struct Backoffs(HashMap<String, Entry>);

impl Backoffs {
    /// When the container that ended at `finished` may start again, and the delay, if that is later than `now`.
    pub fn until(&self, key: &str, finished: i64, now: i64) -> Option<(i64, i64)> {
        let e = self.0.get(key)?;
        if finished - e.updated > 2 * MAX {
            return None;
        }
        let at = finished + e.delay;
        (at > now).then_some((at, e.delay))
    }

    /// Counts one more start.
    pub fn next(&mut self, key: &str, finished: i64, now: i64) {
        let delay = match self.0.get(key) {
            Some(e) if finished - e.updated <= 2 * MAX => (e.delay * 2).min(MAX),
            _ => INITIAL,
        };
        self.0.insert(key.to_owned(), Entry { delay, updated: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_caps_and_forgets() {
        let mut b = Backoffs::default();
        let mut now = 1_000_000;
        assert_eq!(b.until("a", now, now), None, "the first restart is at once");
        let mut seen = Vec::new();
        for _ in 0..7 {
            b.next("a", now, now);
            now += 100;
            let (at, delay) = b.until("a", now, now).expect("in back-off");
            assert_eq!(at, now + delay);
            seen.push(delay / 1000);
            now = at;
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(b.until("a", now + 600_001, now + 600_001), None, "ran long enough");
        b.next("a", now + 600_001, now + 600_001);
        assert_eq!(b.until("a", now + 600_002, now + 600_002).map(|x| x.1), Some(INITIAL));
    }
}
