//! The engine on real files: a first look; the suite goes further.

use bytes::Bytes;

use super::*;

pub(super) fn put(key: &str, value: impl Into<Bytes>) -> Txn {
    let op = Op::Put { key: key.into(), value: value.into(), ttl: None, aux: None };
    Txn { then: vec![op], ..Txn::default() }
}

#[tokio::test]
async fn what_was_put_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(Options::new(dir.path())).unwrap();
    for i in 0..100 {
        engine.txn(put(&format!("/registry/pods/default/{i:03}"), format!("value {i}"))).await.unwrap();
    }
    engine.snapshot().await;
    engine.txn(put("/registry/pods/default/000", "changed")).await.unwrap();
    let revision = engine.revision();
    engine.close().await.unwrap();
    drop(engine);
    let engine = Engine::open(Options::new(dir.path())).unwrap();
    assert_eq!(engine.revision(), revision);
    let all = engine.range(Range::prefix("/registry/pods/")).await.unwrap();
    assert_eq!((all.count, all.records.len()), (100, 100));
    assert_eq!(all.records[0].value, "changed");
    assert_eq!(all.records[0].version, 2);
    assert!(matches!(Engine::open(Options::new(dir.path())), Err(Error::Locked { .. })));
}
