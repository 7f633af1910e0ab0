//! Consistent reads from memory: etcd is asked for its newest revision, and the reader waits until the watch has come that
//! far. Readers share both the question and the request for progress that makes a quiet watch say where it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::{Core, proto};
use crate::{Error, Revision};

/// How long a reader waits for the watch, as upstream.
const WAIT: Duration = Duration::from_secs(3);
/// The same where the watch can't be asked; etcd itself is read then.
const WAIT_UNASKED: Duration = Duration::from_millis(50);

/// Asks for the newest revision, one question at a time: who comes while one is under way shares the next.
#[derive(Default)]
pub(super) struct Newest {
    asked: AtomicU64,
    answered: Mutex<Answer>,
}

struct Answer {
    /// To which question.
    number: u64,
    revision: Result<Revision, String>,
}

impl Default for Answer {
    fn default() -> Self {
        Self { number: 0, revision: Ok(0) }
    }
}

impl Newest {
    pub async fn read(&self, core: &Core) -> Result<Revision, Error> {
        // One that was asked before we came may know too little.
        let needed = self.asked.load(Ordering::SeqCst) + 1;
        let mut answer = self.answered.lock().await;
        if answer.number < needed {
            let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            let request =
                proto::RangeRequest { key: core.prefix.clone().into(), ..proto::RangeRequest::default() };
            let got: Result<proto::RangeResponse, Error> = core.client.call(proto::RANGE, request).await;
            let revision = match got {
                Ok(r) => Ok(core.revision_of(r.header.as_ref())),
                Err(Error::Unavailable(why)) => Err(why),
                Err(e) => Err(e.to_string()),
            };
            *answer = Answer { number, revision };
        }
        answer.revision.clone().map_err(Error::Unavailable)
    }
}

/// Counts a reader that waits, for as long as it does.
struct Waiting<'a>(&'a Core);

impl<'a> Waiting<'a> {
    fn new(core: &'a Core) -> Self {
        core.waiting.fetch_add(1, Ordering::Relaxed);
        core.wanted.notify_one();
        Self(core)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Core {
    /// Waits for the view; answers whether it got there.
    pub(super) async fn reach(&self, revision: Revision, longest: Duration) -> bool {
        if *self.reached.borrow() >= revision {
            return true;
        }
        let _waiting = Waiting::new(self);
        let mut reached = self.reached.subscribe();
        let mut closed = self.closed.subscribe();
        tokio::select! {
            got = tokio::time::timeout(longest, reached.wait_for(|r| *r >= revision)) => matches!(got, Ok(Ok(_))),
            _ = closed.wait_for(|c| *c) => false,
        }
    }

    fn patience(&self) -> Duration {
        if self.progress.load(Ordering::Relaxed) { WAIT } else { WAIT_UNASKED }
    }

    /// Whether memory shows everything that was answered by anybody before.
    pub(super) async fn catch_up(&self) -> Result<bool, Error> {
        let newest = self.newest.read(self).await?;
        Ok(self.reach(newest, self.patience()).await)
    }

    /// Whether memory has come to a revision that exists.
    pub(super) async fn at_least(&self, asked: Revision) -> Result<bool, Error> {
        if *self.reached.borrow() >= asked {
            return Ok(true);
        }
        match self.newest.read(self).await {
            Ok(newest) if asked > newest => Err(Error::Future { asked, newest }),
            Ok(_) => Ok(self.reach(asked, self.patience()).await),
            Err(_) => Err(Error::Future { asked, newest: self.hub.visible() }),
        }
    }
}
