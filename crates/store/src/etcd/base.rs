//! Where revisions begin. A restore can't set an etcd's revision, and must hand out none that was handed out before: it
//! keeps a number under `kelson/base<prefix>` that is added to each of etcd's revisions. Without the key it is 0.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::proto;
use crate::{Error, Revision};

const LEAD: &str = "kelson/base";
const FORMAT: u32 = 1;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Base {
    format: u32,
    /// Added to what etcd says.
    pub offset: Revision,
    /// A restore has begun and not come to its end.
    pub restoring: bool,
}

impl Base {
    pub fn new(offset: Revision, restoring: bool) -> Self {
        Self { format: FORMAT, offset, restoring }
    }

    /// A revision of etcd, as told above.
    pub fn ours(self, theirs: i64) -> Revision {
        match u64::try_from(theirs) {
            Ok(0) | Err(_) => 0,
            Ok(n) => n.saturating_add(self.offset),
        }
    }

    /// A revision from above, as etcd knows it; -1 for one from before the restore.
    pub fn theirs(self, ours: Revision) -> i64 {
        match ours.checked_sub(self.offset) {
            _ if ours == 0 => 0,
            None | Some(0) => -1,
            Some(n) => i64::try_from(n).unwrap_or(i64::MAX),
        }
    }
}

fn key(prefix: &str) -> Bytes {
    format!("{LEAD}{prefix}").into()
}

fn parse(prefix: &str, value: &[u8]) -> Result<Base, Error> {
    let path = format!("the key {LEAD}{prefix} of etcd");
    match serde_json::from_slice::<Base>(value) {
        Ok(base) if base.format > FORMAT => Err(Error::Newer { path, found: base.format, known: FORMAT }),
        Ok(base) => Ok(base),
        Err(e) => Err(Error::Damaged { path, offset: 0, why: e.to_string() }),
    }
}

pub(super) async fn read(client: &Client, prefix: &str) -> Result<Base, Error> {
    let request = proto::RangeRequest { key: key(prefix), ..proto::RangeRequest::default() };
    let answer: proto::RangeResponse = client.call(proto::RANGE, request).await?;
    answer.kvs.first().map_or(Ok(Base::default()), |kv| parse(prefix, &kv.value))
}

/// What an engine is opened with: an unfinished restore has left half a cluster.
pub(super) async fn settled(client: &Client, prefix: &str) -> Result<Base, Error> {
    let base = read(client, prefix).await?;
    match base.restoring {
        false => Ok(base),
        true => Err(Error::Unavailable(format!(
            "a restore into etcd below {prefix} has not come to its end; run it again, with --force"
        ))),
    }
}

pub(super) async fn write(client: &Client, prefix: &str, base: Base) -> Result<(), Error> {
    let value = serde_json::to_vec(&base).map_err(|e| Error::Unavailable(e.to_string()))?;
    let request = proto::PutRequest { key: key(prefix), value: value.into(), ..proto::PutRequest::default() };
    client.call(proto::PUT, request).await.map(|_: proto::PutResponse| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_moved_and_moved_back() {
        for (offset, theirs, ours) in [(0, 0, 0), (0, 7, 7), (100, 0, 0), (100, 1, 101), (100, 7, 107)] {
            let base = Base::new(offset, false);
            assert_eq!((base.ours(theirs), base.theirs(ours)), (ours, theirs));
        }
        let base = Base::new(100, false);
        assert_eq!((base.theirs(1), base.theirs(99), base.theirs(100)), (-1, -1, -1));
        assert_eq!((base.ours(-1), base.theirs(u64::MAX)), (0, i64::MAX));
    }

    #[test]
    fn what_can_not_be_read_is_told() {
        assert_eq!(parse("/p", br#"{"format":1,"offset":5,"restoring":true}"#).unwrap(), Base::new(5, true));
        assert!(matches!(
            parse("/p", br#"{"format":2,"offset":5,"restoring":true}"#),
            Err(Error::Newer { .. })
        ));
        assert!(parse("/p", b"5").unwrap_err().to_string().contains("kelson/base/p"));
    }
}
