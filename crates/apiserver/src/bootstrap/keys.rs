//! Servers on one store must hold the same keys, or what one of them signs is refused by the others. The first one writes
//! down how its keys are told from others, the rest are held to that. The keys themselves never reach the store.

use std::sync::Arc;

use serde_json::{Value, json};
use store::{Compare, Error, Op, OpResult, Store, Txn};

/// No kind of upstream's, and no group, has such a name.
pub const KEY: &str = "/registry/kelson/keys";

/// Why a server may not join.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(
        "the servers on this etcd hold other keys than this one: copy the files ca.crt, ca.key, front-proxy-ca.crt, front-proxy-ca.key, sa.key and sa.pub of one of them here. If those are lost, remove the key {KEY} from etcd (below --etcd-prefix, where it is not /registry): tokens and certificates made with them then end"
    )]
    Others,
    #[error(transparent)]
    Store(#[from] Error),
}

/// `fingerprint`: see `pki::Pki::fingerprint`.
pub async fn check(store: &Arc<dyn Store>, fingerprint: &str) -> Result<(), Refused> {
    let value = json!({"sha256": fingerprint}).to_string().into();
    let txn = Txn {
        compare: vec![Compare::ModRevision { key: KEY.into(), equals: 0 }],
        then: vec![Op::Put { key: KEY.into(), value, ttl: None, aux: None }],
        otherwise: vec![Op::Get { key: KEY.into() }],
    };
    let answer = store.txn(txn).await?;
    if answer.succeeded {
        return Ok(());
    }
    let Some(OpResult::Got(Some(there))) = answer.results.first() else { return Ok(()) };
    let v: Value = serde_json::from_slice(&there.value).unwrap_or_default();
    if v["sha256"] == fingerprint { Ok(()) } else { Err(Refused::Others) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_one_decides() {
        let dir = tempfile::tempdir().expect("directory");
        let engine = store::embedded::Engine::open(store::embedded::Options::new(dir.path().join("s")));
        let store: Arc<dyn Store> = Arc::new(engine.expect("store"));
        check(&store, "a").await.expect("the first");
        check(&store, "a").await.expect("the same again");
        let why = check(&store, "b").await.expect_err("others").to_string();
        assert!(why.contains("sa.key") && why.contains(KEY), "{why}");
        store.close().await.expect("close");
    }
}
