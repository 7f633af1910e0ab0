//! Transactions in etcd's terms. A write is answered once the copy in memory shows it. A write whose answer was lost is
//! tried again: its conditions keep it from happening twice, and when they fail the second time, the watch has shown whether
//! the first one did it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::client::Failed;
use super::proto::{self, Request, RequestOp, Response, ResponseOp, Target};
use super::{Core, Sent};
use crate::{Compare, Error, Event, EventKind, Op, OpResult, Record, Revision, Txn, TxnResult, prefix_end};

/// No etcd takes more.
const MAX_TXN: usize = 32 << 20;
/// How long an answer waits for the copy in memory; the write itself is durable by then.
const SHOW: Duration = Duration::from_secs(10);

/// What is known of a key's state at the time of the transaction.
enum Before {
    /// A condition holds it fast.
    Known(Option<Arc<Record>>),
    /// etcd is to tell.
    Asked,
}

/// Values on their way, for as long as it lives.
struct OnTheWay<'a> {
    core: &'a Core,
    /// How often everything had been read anew by then.
    restarts: u64,
    sent: Vec<(String, Arc<Sent>)>,
}

impl Drop for OnTheWay<'_> {
    fn drop(&mut self) {
        let mut all = self.core.sent.lock();
        for (key, sent) in &self.sent {
            if let Some(list) = all.get_mut(key) {
                list.retain(|s| !Arc::ptr_eq(s, sent));
                if list.is_empty() {
                    all.remove(key);
                }
            }
        }
    }
}

fn unknown() -> Error {
    Error::Unavailable("the answer was lost, and whether the write happened is not known".into())
}

fn largest(txn: &Txn) -> (String, usize) {
    let puts = txn.then.iter().chain(&txn.otherwise).filter_map(|op| match op {
        Op::Put { key, value, .. } => Some((key.clone(), value.len())),
        _ => None,
    });
    puts.max_by_key(|(_, size)| *size).unwrap_or_default()
}

impl Core {
    pub(super) async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        let (key, size) = largest(&txn);
        if size > MAX_TXN {
            return Err(Error::TooLarge { key, size, limit: MAX_TXN });
        }
        let before: Vec<Before> = txn.then.iter().map(|op| self.before(&txn.compare, op)).collect();
        let request = self.request(&txn, &before).await?;
        let sent = self.announce(&txn);
        let unsure = AtomicBool::new(false);
        let answer = self.client.retry(|at| {
            let call = self.client.attempt(at, proto::TXN, request.clone());
            async {
                // Done by an attempt whose answer was lost, and undone since, it would be done again.
                if unsure.load(Ordering::Relaxed) && self.has_shown(&sent).await {
                    return Ok(None);
                }
                let answer: Result<proto::TxnResponse, Failed> = call.await;
                unsure.fetch_or(matches!(answer, Err(Failed::Retry(_))), Ordering::Relaxed);
                answer.map(Some)
            }
        });
        let answer = match answer.await {
            Err(Error::TooLarge { .. }) => return Err(Error::TooLarge { key, size, limit: size }),
            answer => answer?,
        };
        let mut at = answer.as_ref().map_or(self.hub.visible(), |a| self.revision_of(a.header.as_ref()));
        let mut succeeded = answer.as_ref().is_some_and(|a| a.succeeded);
        let mut results = None;
        if !succeeded && unsure.load(Ordering::Relaxed) {
            // The conditions may have failed because the lost attempt came through.
            if let Some((when, done)) = self.settle(&txn.then, &before, &sent, at).await? {
                (at, succeeded, results) = (when, true, Some(done));
            }
        }
        let results = match (results, answer) {
            (Some(results), _) => results,
            (None, None) => return Err(unknown()),
            (None, Some(answer)) => {
                let (ops, before) = if succeeded { (&txn.then, &*before) } else { (&txn.otherwise, &[][..]) };
                self.results(ops, before, answer.responses, at)
            }
        };
        if !self.reach(at, SHOW).await {
            tracing::warn!(revision = at, "a write is answered before the watch on etcd has shown it");
        }
        Ok(TxnResult { succeeded, revision: at, results })
    }

    /// Whether the watch has shown everything that was sent; a part may be somebody else's same bytes.
    async fn has_shown(&self, sent: &OnTheWay<'_>) -> bool {
        if sent.sent.is_empty() {
            return false;
        }
        match self.newest.read(self).await {
            Ok(newest) => {
                self.reach(newest, SHOW).await
                    && sent.sent.iter().all(|(_, s)| s.seen.load(Ordering::SeqCst) > 0)
            }
            Err(_) => false,
        }
    }

    fn before(&self, compare: &[Compare], op: &Op) -> Before {
        let (Op::Put { key, .. } | Op::Delete { key } | Op::Get { key }) = op;
        for c in compare {
            match c {
                Compare::ModRevision { key: k, equals: 0 }
                | Compare::CreateRevision { key: k, equals: 0 }
                    if k == key =>
                {
                    return Before::Known(None);
                }
                Compare::ModRevision { key: k, equals } if k == key => {
                    let known = self.view.read().get(key).cloned();
                    if let Some(r) = known.filter(|r| r.mod_revision == *equals) {
                        return Before::Known(Some(r));
                    }
                }
                _ => {}
            }
        }
        Before::Asked
    }

    async fn request(&self, txn: &Txn, before: &[Before]) -> Result<proto::TxnRequest, Error> {
        let compare = txn.compare.iter().map(|c| {
            Ok(match c {
                Compare::ModRevision { key, equals } => {
                    proto::Compare::new(self.outer(key)?, Target::Mod(self.base.theirs(*equals)))
                }
                Compare::CreateRevision { key, equals } => {
                    proto::Compare::new(self.outer(key)?, Target::Create(self.base.theirs(*equals)))
                }
            })
        });
        Ok(proto::TxnRequest {
            compare: compare.collect::<Result<_, Error>>()?,
            success: self.ops(&txn.then, before).await?,
            failure: self.ops(&txn.otherwise, &[]).await?,
        })
    }

    async fn ops(&self, ops: &[Op], before: &[Before]) -> Result<Vec<RequestOp>, Error> {
        let mut out = Vec::with_capacity(ops.len());
        for (i, op) in ops.iter().enumerate() {
            let prev_kv = !matches!(before.get(i), Some(Before::Known(_)));
            let request = match op {
                Op::Put { key, value, ttl, .. } => Request::Put(proto::PutRequest {
                    key: self.outer(key)?,
                    value: value.clone(),
                    lease: match ttl {
                        Some(ttl) => self.lease(*ttl).await?,
                        None => 0,
                    },
                    prev_kv,
                }),
                Op::Delete { key } => Request::Delete(proto::DeleteRequest {
                    key: self.outer(key)?,
                    prev_kv,
                    ..proto::DeleteRequest::default()
                }),
                Op::Get { key } => Request::Range(proto::RangeRequest {
                    key: self.outer(key)?,
                    ..proto::RangeRequest::default()
                }),
            };
            out.push(RequestOp { request: Some(request) });
        }
        Ok(out)
    }

    fn announce(&self, txn: &Txn) -> OnTheWay<'_> {
        let restarts = self.restarts.load(Ordering::SeqCst);
        let puts = txn.then.iter().chain(&txn.otherwise).filter_map(|op| match op {
            Op::Put { key, value, aux, .. } => {
                Some((key.clone(), Arc::new(Sent::new(value.clone(), aux.clone()))))
            }
            _ => None,
        });
        let sent: Vec<_> = puts.collect();
        let mut all = self.sent.lock();
        for (key, s) in &sent {
            all.entry(key.clone()).or_default().push(s.clone());
        }
        drop(all);
        OnTheWay { core: self, restarts, sent }
    }

    fn results(
        &self,
        ops: &[Op],
        before: &[Before],
        responses: Vec<ResponseOp>,
        at: Revision,
    ) -> Vec<OpResult> {
        let mut responses = responses.into_iter();
        let mut out = Vec::with_capacity(ops.len());
        for (i, op) in ops.iter().enumerate() {
            let response = responses.next().and_then(|r| r.response);
            let old = match (before.get(i), response) {
                (_, Some(Response::Range(r))) => r.kvs.into_iter().next().and_then(|kv| self.known(kv)),
                (Some(Before::Known(old)), _) => old.clone(),
                (_, Some(Response::Put(r))) => r.prev_kv.and_then(|kv| self.known(kv)),
                (_, Some(Response::Delete(r))) => r.prev_kvs.into_iter().next().and_then(|kv| self.known(kv)),
                (_, None) => None,
            };
            out.push(match op {
                Op::Get { .. } => OpResult::Got(old),
                Op::Delete { .. } => OpResult::Deleted(old),
                Op::Put { key, value, aux, .. } => OpResult::Put(Arc::new(Record {
                    key: old.as_ref().map_or_else(|| Arc::from(key.as_str()), |r| r.key.clone()),
                    value: value.clone(),
                    create_revision: old.as_ref().map_or(at, |r| r.create_revision),
                    mod_revision: at,
                    version: old.as_ref().map_or(0, |r| r.version) + 1,
                    expires_at_ms: None,
                    aux: aux.clone().map_or_else(OnceLock::new, OnceLock::from),
                })),
            });
        }
        out
    }

    /// Whether a write whose answer was lost happened, and when; to be asked when its conditions fail. Two writers of the
    /// very same bytes to a key at the same time can't be told apart, and need not be.
    async fn settle(
        &self,
        ops: &[Op],
        before: &[Before],
        sent: &OnTheWay<'_>,
        newest: Revision,
    ) -> Result<Option<(Revision, Vec<OpResult>)>, Error> {
        // By then the watch has shown the write, if there was one.
        if !self.reach(newest, SHOW).await {
            return Err(unknown());
        }
        let gap = self.restarts.load(Ordering::SeqCst) != sent.restarts;
        let shown = |key: &str| {
            let seen =
                sent.sent.iter().find(|(k, _)| k == key).map_or(0, |(_, s)| s.seen.load(Ordering::SeqCst));
            (seen > 0).then_some(seen)
        };
        let mut at = None;
        for (i, op) in ops.iter().enumerate() {
            match op {
                Op::Put { key, .. } => match shown(key) {
                    Some(seen) => at = Some(seen),
                    None if gap => return Err(unknown()),
                    None => return Ok(None),
                },
                Op::Delete { key } => {
                    let now = self.view.read().get(key).map_or(0, |r| r.create_revision);
                    let was = match before.get(i) {
                        Some(Before::Known(Some(r))) => r.mod_revision,
                        _ => 0,
                    };
                    if now > 0 && now <= was {
                        return Ok(None);
                    }
                    at = at.or_else(|| self.deleted_at(key, was, newest)).or(Some(newest));
                }
                Op::Get { .. } => {}
            }
        }
        let Some(at) = at else { return Ok(None) };
        let before = self.remembered(ops, before, at).ok_or_else(unknown)?;
        Ok(Some((at, self.results(ops, &before, Vec::new(), at))))
    }

    /// When a key that was there at a revision was deleted.
    fn deleted_at(&self, key: &str, was: Revision, newest: Revision) -> Option<Revision> {
        let events = self.view.read().replay(key, &prefix_end(key), was + 1, newest).ok()?;
        let gone = |e: &Event| e.kind == EventKind::Delete && *e.record.key == *key;
        events.iter().find(|e| gone(e)).map(|e| e.record.mod_revision)
    }

    /// What etcd would have told of the keys before a write that the watch has shown; `None` when that is forgotten.
    fn remembered(&self, ops: &[Op], before: &[Before], at: Revision) -> Option<Vec<Before>> {
        let view = self.view.read();
        let mut all = Vec::with_capacity(ops.len());
        for (i, op) in ops.iter().enumerate() {
            let (Op::Put { key, .. } | Op::Delete { key } | Op::Get { key }) = op;
            all.push(match before.get(i) {
                Some(Before::Known(r)) => Before::Known(r.clone()),
                _ => {
                    view.check_read(key, None, at.saturating_sub(1)).ok()?;
                    Before::Known(view.get_at(key, at.saturating_sub(1)))
                }
            });
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_value_is_named() {
        let put = |key: &str, n: usize| crate::suite::put_op(key, vec![0; n]);
        let txn =
            Txn { then: vec![put("a", 1), put("b", 3)], otherwise: vec![put("c", 2)], ..Txn::default() };
        assert_eq!(largest(&txn), ("b".to_owned(), 3));
        assert_eq!(largest(&Txn::default()), (String::new(), 0));
    }
}
