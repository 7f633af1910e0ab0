//! What changed in the cache, in order, for evaluations that were made before. Bounded: one that lags too far starts anew.

use std::collections::VecDeque;
use std::sync::Arc;

use super::PodInfo;
use super::node::NodeChange;

/// Older changes are forgotten.
const KEPT: usize = 4096;

#[derive(Debug, Clone)]
pub enum Entry {
    /// A pod came to the node (1) or left it (-1).
    Pod {
        node: usize,
        pod: Arc<PodInfo>,
        by: i32,
    },
    Node {
        node: usize,
        change: NodeChange,
    },
    /// A node at the end of the list.
    Added {
        node: usize,
    },
}

/// A place in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    epoch: u64,
    next: u64,
}

#[derive(Debug, Default)]
pub struct Journal {
    epoch: u64,
    first: u64,
    entries: VecDeque<Entry>,
}

impl Journal {
    pub fn push(&mut self, entry: Entry) {
        if self.entries.len() == KEPT {
            self.entries.pop_front();
            self.first += 1;
        }
        self.entries.push_back(entry);
    }

    /// Nothing that was made before can be mended.
    pub fn start_anew(&mut self) {
        self.epoch += 1;
        self.first += self.entries.len() as u64;
        self.entries.clear();
    }

    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, next: self.first + self.entries.len() as u64 }
    }

    /// What came since, or none when that is not known.
    pub fn since(&self, p: Position) -> Option<impl Iterator<Item = &Entry>> {
        let skip = p.next.checked_sub(self.first).filter(|_| p.epoch == self.epoch)?;
        Some(self.entries.iter().skip(usize::try_from(skip).ok()?))
    }
}
