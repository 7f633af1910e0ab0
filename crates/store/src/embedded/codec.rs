//! What stands inside a log group and a snapshot chunk: records, deletes and compactions in a flat little-endian
//! form. Pure.
//!
//! A group's payload is `reserve u64, time u64`, then entries. A transaction's entries share a revision and never
//! leave their group, so a group that is whole holds whole transactions.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{Record, Revision};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const COMPACT: u8 = 3;

/// One decoded change.
pub(crate) enum Entry {
    Put(Arc<Record>),
    Delete { key: Arc<str>, revision: Revision },
    Compact(Revision),
}

pub(crate) fn put(out: &mut Vec<u8>, r: &Record) {
    out.reserve(41 + r.key.len() + r.value.len());
    out.push(PUT);
    for n in [r.mod_revision, r.create_revision, r.version, r.expires_at_ms.unwrap_or(0)] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(&(r.key.len() as u32).to_le_bytes());
    out.extend_from_slice(&(r.value.len() as u32).to_le_bytes());
    out.extend_from_slice(r.key.as_bytes());
    out.extend_from_slice(&r.value);
}

pub(super) fn delete(out: &mut Vec<u8>, key: &str, revision: Revision) {
    out.push(DELETE);
    out.extend_from_slice(&revision.to_le_bytes());
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(key.as_bytes());
}

pub(super) fn compact(out: &mut Vec<u8>, revision: Revision) {
    out.push(COMPACT);
    out.extend_from_slice(&revision.to_le_bytes());
}

/// Reads forward over a payload; every getter is `None` past the end.
pub(crate) struct Reader<'a> {
    data: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data }
    }
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.data.split_at_checked(n)?;
        self.data = rest;
        Some(head)
    }
    pub fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_le_bytes)
    }
    pub fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_le_bytes)
    }
    fn key(&mut self, n: usize) -> Option<Arc<str>> {
        std::str::from_utf8(self.bytes(n)?).ok().map(Arc::from)
    }
    pub fn entry(&mut self) -> Option<Entry> {
        match *self.bytes(1)?.first()? {
            PUT => {
                let (mod_revision, create_revision, version) = (self.u64()?, self.u64()?, self.u64()?);
                let expires = self.u64()?;
                let (key_len, value_len) = (self.u32()? as usize, self.u32()? as usize);
                let key = self.key(key_len)?;
                let value = Bytes::copy_from_slice(self.bytes(value_len)?);
                Some(Entry::Put(Arc::new(Record {
                    key,
                    value,
                    create_revision,
                    mod_revision,
                    version,
                    expires_at_ms: (expires != 0).then_some(expires),
                    aux: OnceLock::new(),
                })))
            }
            DELETE => {
                let revision = self.u64()?;
                let key_len = self.u32()? as usize;
                Some(Entry::Delete { key: self.key(key_len)?, revision })
            }
            COMPACT => Some(Entry::Compact(self.u64()?)),
            _ => None,
        }
    }
}
