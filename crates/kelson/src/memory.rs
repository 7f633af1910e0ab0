//! Keeps memory small after bursts: a big list or a start with many objects leaves free pages in the allocator, which
//! are given back once memory has grown by more than a little. Spawns one task that looks twice a minute.

use std::time::Duration;

use runtime::memory;

const LOOK: Duration = Duration::from_secs(30);
/// Growth since the last time that is worth a look through the heap.
const GROWTH: u64 = 4 << 20;

/// To be called before any thread exists.
pub fn prepare() {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    memory::limit_arenas(cores.clamp(2, 8));
}

/// Until the process ends.
pub async fn tend() {
    let mut least = 0;
    // What starting took comes first.
    tokio::time::sleep(Duration::from_secs(5)).await;
    loop {
        let now = memory::resident();
        if now > least + GROWTH {
            // Off the threads that answer: a large heap takes some milliseconds.
            let _ = tokio::task::spawn_blocking(memory::give_back).await;
            least = memory::resident();
        } else {
            least = least.min(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}
