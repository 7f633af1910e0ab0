//! The expiry thread: deletes records past their end, as ordinary revisions, when they are due. Without records that
//! end it sleeps and nothing wakes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Core;
use super::commit::Submitted;

/// Deletes in one go.
const BATCH: usize = 500;
/// The clock is a wall clock and may jump while we sleep by a steady one.
const LONGEST: u64 = 60_000;
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Expiry {
    closing: Mutex<bool>,
    changed: Condvar,
    /// When the thread wakes by itself.
    armed: AtomicU64,
}

impl Expiry {
    pub fn new() -> Self {
        Self { closing: Mutex::new(false), changed: Condvar::new(), armed: AtomicU64::new(u64::MAX) }
    }

    /// Told after every change: the earliest end there is now.
    pub fn earliest_is(&self, at: u64) {
        if at < self.armed.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    pub fn wake(&self) {
        // Taken so that a thread between looking and sleeping is not missed.
        let _guard = self.closing.lock();
        self.changed.notify_all();
    }

    pub fn close(&self) {
        *self.closing.lock() = true;
        self.changed.notify_all();
    }
}

impl Core {
    pub fn expiry_loop(self: &Arc<Self>) {
        let e = &self.expiry;
        let mut failing = false;
        let mut closing = e.closing.lock();
        while !*closing {
            e.armed.store(u64::MAX, Ordering::SeqCst);
            let now = self.clock.now_ms();
            let (first, due) = {
                let view = self.view.read();
                let due: Vec<Arc<str>> = view
                    .expiry
                    .iter()
                    .take_while(|(at, _)| *at <= now)
                    .take(BATCH)
                    .map(|(_, k)| k.clone())
                    .collect();
                (view.expiry.first().map(|(at, _)| *at), due)
            };
            match first {
                None => e.changed.wait(&mut closing),
                Some(_) if failing => {
                    e.changed.wait_for(&mut closing, RETRY);
                    failing = false;
                }
                Some(at) if due.is_empty() => {
                    e.armed.store(at, Ordering::SeqCst);
                    e.changed.wait_for(&mut closing, Duration::from_millis((at - now).clamp(1, LONGEST)));
                }
                Some(_) => {
                    // Awake and about to look again: nobody needs to wake us.
                    e.armed.store(0, Ordering::SeqCst);
                    parking_lot::MutexGuard::unlocked(&mut closing, || {
                        failing = self.expire(due, now).is_err();
                    });
                }
            }
        }
    }

    fn expire(&self, due: Vec<Arc<str>>, now: u64) -> Result<(), ()> {
        if self.pending.lock().full {
            let probe = self.maintainer.probe().blocking_recv();
            if !matches!(probe, Ok(Ok(()))) {
                return Err(());
            }
            self.pending.lock().full = false;
        }
        match self.submit_expired(due, now) {
            Ok(Some(Submitted::Later(answer))) => match answer.blocking_recv() {
                Ok(Ok(_)) => Ok(()),
                _ => Err(()),
            },
            Ok(_) => Ok(()),
            Err(_) => Err(()),
        }
    }
}
