//! Failed daemon pods wait before they are replaced, per node: 1 s doubling to 15 min, forgotten after twice that without
//! a failure. Pure but for the times handed in.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

const FIRST: SignedDuration = SignedDuration::from_secs(1);
const MAX: SignedDuration = SignedDuration::from_mins(15);

/// Set uid and node.
type Key = (String, String);

#[derive(Default)]
pub struct Backoff {
    entries: HashMap<Key, (SignedDuration, Timestamp)>,
}

impl Backoff {
    /// `None` when the pod may be replaced now (which starts the next wait), else how long it has to wait.
    pub fn wait(&mut self, uid: &str, node: &str, now: Timestamp) -> Option<SignedDuration> {
        self.entries.retain(|_, (_, at)| now.duration_since(*at) < MAX * 2);
        let key = (uid.to_owned(), node.to_owned());
        match self.entries.get_mut(&key) {
            Some((wait, at)) => {
                let left = *wait - now.duration_since(*at);
                if left > SignedDuration::ZERO {
                    return Some(left);
                }
                *wait = (*wait * 2).min(MAX);
                *at = now;
            }
            None => {
                self.entries.insert(key, (FIRST, now));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_forgotten() {
        let mut b = Backoff::default();
        let at = |s: i64| Timestamp::from_second(s).expect("timestamp");
        let mut ask = |s: i64| b.wait("u", "n", at(s)).map(|d| d.as_secs());
        assert_eq!(ask(0), None);
        assert_eq!(ask(0), Some(1));
        assert_eq!(ask(1), None);
        assert_eq!(ask(2), Some(1));
        assert_eq!(ask(3), None);
        assert_eq!(ask(6), Some(1));
        assert_eq!(ask(5000), None);
        assert_eq!(ask(5000), Some(1));
    }
}
