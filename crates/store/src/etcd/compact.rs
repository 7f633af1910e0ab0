//! Compaction as upstream's API servers do it together: `compact_rev_key` holds the revision that is to be compacted next,
//! and its version is the count of compactions. Who finds the version it expects compacts; the others learn the new one.

use std::sync::Arc;
use std::time::Duration;

use super::Core;
use super::client::revision;
use super::proto::{self, Compare, Request, RequestOp, Response, Target};
use crate::{Error, Revision};

const KEY: &[u8] = b"compact_rev_key";

/// What is known from the last round.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    pub version: i64,
    /// Newest revision at that time, as etcd counts: history before it goes in the next round.
    pub revision: i64,
}

impl Core {
    pub(super) async fn compact(&self, at: Revision) -> Result<(), Error> {
        let request = proto::CompactRequest { revision: self.base.theirs(at) };
        let answer: Result<proto::Empty, Error> = self.client.call(proto::COMPACT, request).await;
        answer.map_err(|e| self.explain(e, at))?;
        self.view.write().compact(at);
        Ok(())
    }

    pub(super) async fn compact_round(&self, last: Round) -> Result<Round, Error> {
        let key = bytes::Bytes::from_static(KEY);
        let op = |request| vec![RequestOp { request: Some(request) }];
        let put = proto::PutRequest {
            key: key.clone(),
            value: last.revision.to_string().into(),
            ..proto::PutRequest::default()
        };
        let get = proto::RangeRequest { key: key.clone(), ..proto::RangeRequest::default() };
        let txn = proto::TxnRequest {
            compare: vec![Compare::new(key, Target::Version(last.version))],
            success: op(Request::Put(put)),
            failure: op(Request::Range(get)),
        };
        let answer: proto::TxnResponse = self.client.call(proto::TXN, txn).await?;
        let newest = revision(answer.header.as_ref());
        if !answer.succeeded {
            let version = answer.responses.into_iter().find_map(|r| match r.response {
                Some(Response::Range(r)) => r.kvs.first().map(|kv| kv.version),
                _ => None,
            });
            return Ok(Round { version: version.unwrap_or(0), revision: newest });
        }
        let round = Round { version: last.version + 1, revision: newest };
        if last.revision > 0 {
            match self.compact(self.base.ours(last.revision)).await {
                Ok(()) => tracing::debug!(revision = last.revision, "etcd was compacted"),
                // Somebody was there first.
                Err(Error::Compacted { .. }) => {}
                Err(e) => tracing::warn!(error = %e, "etcd was not compacted"),
            }
        }
        Ok(round)
    }
}

pub(super) async fn run(core: Arc<Core>, every: Duration) {
    let mut closed = core.closed.subscribe();
    let mut round = Round::default();
    loop {
        tokio::select! {
            _ = closed.wait_for(|c| *c) => return,
            () = tokio::time::sleep(every) => {}
        }
        match core.compact_round(round).await {
            Ok(next) => round = next,
            Err(e) => tracing::warn!(error = %e, "etcd was not compacted; the next try follows"),
        }
    }
}
