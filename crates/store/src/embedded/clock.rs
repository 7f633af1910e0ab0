//! Where an engine's time comes from. Spawns nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

pub type Wake = Arc<dyn Fn() + Send + Sync>;

pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
    /// `wake` is to be called when time has moved other than by passing.
    fn on_jump(&self, _wake: Wake) {}
}

#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }
}

/// Time that stands still until it is moved; for tests.
#[derive(Default)]
pub struct ManualClock {
    now: AtomicU64,
    wakes: Mutex<Vec<Wake>>,
}

impl ManualClock {
    pub fn new(now_ms: u64) -> Self {
        Self { now: AtomicU64::new(now_ms), wakes: Mutex::default() }
    }
    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        let wakes = self.wakes.lock().clone();
        wakes.iter().for_each(|wake| wake());
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }
    fn on_jump(&self, wake: Wake) {
        self.wakes.lock().push(wake);
    }
}
