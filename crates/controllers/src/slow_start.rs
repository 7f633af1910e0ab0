//! Many writes of one kind in batches that double, so that a write that can't succeed (quota, a bad template) costs one
//! failed request, not hundreds.

use std::future::Future;

use api::Status;
use futures::future::join_all;

/// Writes at once at most.
pub const BURST: usize = 500;

/// Runs `act` over all items; stops after the first batch with a failure and tells that failure.
pub async fn slow_start<I, F, Fut>(items: Vec<I>, act: F) -> Result<(), Status>
where
    F: Fn(I) -> Fut,
    Fut: Future<Output = Result<(), Status>>,
{
    let mut items = items.into_iter().peekable();
    let mut size = 1;
    while items.peek().is_some() {
        let batch: Vec<Fut> = items.by_ref().take(size).map(&act).collect();
        if let Some(failed) = join_all(batch).await.into_iter().find_map(Result::err) {
            return Err(failed);
        }
        size = (size * 2).min(BURST);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[tokio::test]
    async fn batches_double_and_stop_after_a_failure() {
        let seen = Mutex::new(Vec::new());
        let seen = &seen;
        let act = |i: usize| async move {
            seen.lock().push(i);
            if i == 2 { Err(Status::bad_request("no")) } else { Ok(()) }
        };
        assert!(slow_start((0..10).collect(), act).await.is_err());
        assert_eq!(*seen.lock(), [0, 1, 2]);
        seen.lock().clear();
        assert!(slow_start(vec![5, 6, 7], act).await.is_ok());
        assert_eq!(seen.lock().len(), 3);
    }
}
