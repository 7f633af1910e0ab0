//! The form of a backup: one stream of blocks, written and read with bounded memory. Knows records and named files, not
//! where they come from. Spawns nothing.
//!
//! A backup is `KELSBAKP`, then blocks of `kind u32, length u32, checksum u32, payload`, little-endian. The checksum is of
//! kind, length, the block's number and the payload, so that a block out of its place is a wrong one. The first block is
//! the header (JSON), then named files and records in key order, then the end with their counts; nothing follows it.
//! This frame stays for good; the header's `format` says what is in it.

use std::io::{self, Read, Write};
use std::sync::Arc;

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use crate::embedded::codec::{self, Entry};
use crate::{Error, Record, Revision};

pub const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"KELSBAKP";
const FRAME: usize = 12;
/// Records are gathered up to this size.
const BLOCK: usize = 256 << 10;
/// More than any record or file has.
const LONGEST: u32 = 64 << 20;

const HEADER: u32 = 1;
const FILE: u32 = 2;
const RECORDS: u32 = 3;
const END: u32 = 4;

/// What a backup is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Header {
    pub format: u32,
    /// Which cluster.
    pub cluster: String,
    /// All records are as they were at this revision.
    pub revision: Revision,
    pub records: u64,
    /// When, in Unix milliseconds.
    pub time_ms: u64,
    /// Which store, and which version of the program wrote this.
    pub engine: String,
    pub program: String,
    /// The id of the etcd that the revisions are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<u64>,
    /// What else a restored cluster needs to know; opaque here.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// A file beside the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub content: Vec<u8>,
}

/// What stands between header and end.
#[derive(Debug)]
pub enum Item {
    File(Named),
    Records(Vec<Record>),
}

fn crc(kind: u32, index: u64, payload: &[u8]) -> u32 {
    let mut h = Hasher::new();
    h.update(&kind.to_le_bytes());
    h.update(&(payload.len() as u32).to_le_bytes());
    h.update(&index.to_le_bytes());
    h.update(payload);
    h.finalize()
}

pub struct Writer<W> {
    out: W,
    index: u64,
    records: u64,
    files: u64,
    pending: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// `header.format` is filled in.
    pub fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut w = Self { out, index: 0, records: 0, files: 0, pending: Vec::with_capacity(BLOCK * 2) };
        w.out.write_all(MAGIC)?;
        w.block(HEADER, &serde_json::to_vec(&Header { format: FORMAT, ..header.clone() })?)?;
        Ok(w)
    }

    fn block(&mut self, kind: u32, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).ok().filter(|len| *len <= LONGEST);
        let len = len
            .ok_or_else(|| io::Error::other(format!("{} bytes are too many for one block", payload.len())))?;
        let mut frame = [0; FRAME];
        frame[..4].copy_from_slice(&kind.to_le_bytes());
        frame[4..8].copy_from_slice(&len.to_le_bytes());
        frame[8..].copy_from_slice(&crc(kind, self.index, payload).to_le_bytes());
        self.index += 1;
        self.out.write_all(&frame)?;
        self.out.write_all(payload)
    }

    pub fn file(&mut self, file: &Named) -> io::Result<()> {
        self.flush_records()?;
        let mut payload = (file.name.len() as u32).to_le_bytes().to_vec();
        payload.extend_from_slice(file.name.as_bytes());
        payload.extend_from_slice(&file.content);
        self.files += 1;
        self.block(FILE, &payload)
    }

    /// In key order.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        codec::put(&mut self.pending, record);
        self.records += 1;
        if self.pending.len() >= BLOCK { self.flush_records() } else { Ok(()) }
    }

    fn flush_records(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut payload = std::mem::take(&mut self.pending);
        self.block(RECORDS, &payload)?;
        payload.clear();
        payload.shrink_to(BLOCK * 2);
        self.pending = payload;
        Ok(())
    }

    /// What was written to so far.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes the end and hands the output back; making it durable is the caller's.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush_records()?;
        let mut end = self.records.to_le_bytes().to_vec();
        end.extend_from_slice(&self.files.to_le_bytes());
        self.block(END, &end)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads a backup to its end, or up to the first fault, which is told with its place.
pub struct Reader<R> {
    input: R,
    /// Where it comes from, for words.
    path: String,
    header: Header,
    at: u64,
    index: u64,
    records: u64,
    files: u64,
    last: Option<Arc<str>>,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads and judges the header.
    pub fn open(input: R, path: impl Into<String>) -> Result<Self, Error> {
        let mut r = Self {
            input,
            path: path.into(),
            header: Header::default(),
            at: 0,
            index: 0,
            records: 0,
            files: 0,
            last: None,
            ended: false,
        };
        let mut magic = Vec::new();
        r.fill(&mut magic, MAGIC.len())?;
        if magic != MAGIC {
            return Err(r.damaged(0, "this is not a backup of kelson"));
        }
        r.at = MAGIC.len() as u64;
        let (kind, payload) = r.block()?;
        let start = MAGIC.len() as u64;
        let header = serde_json::from_slice::<Header>(&payload).ok().filter(|_| kind == HEADER);
        r.header = header.ok_or_else(|| r.damaged(start, "the header can't be read"))?;
        if r.header.format > FORMAT {
            return Err(Error::Newer { path: r.path, found: r.header.format, known: FORMAT });
        }
        Ok(r)
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    fn damaged(&self, offset: u64, why: &str) -> Error {
        Error::Damaged { path: self.path.clone(), offset, why: why.to_owned() }
    }

    /// Reads up to `n` bytes: fewer only at the end. Takes no more memory than there are bytes.
    fn fill(&mut self, buffer: &mut Vec<u8>, n: usize) -> Result<(), Error> {
        let read = (&mut self.input).take(n as u64).read_to_end(buffer);
        read.map(|_| ()).map_err(|source| Error::Io { what: format!("read {}", self.path), source })
    }

    fn block(&mut self) -> Result<(u32, Vec<u8>), Error> {
        let start = self.at;
        let mut frame = Vec::with_capacity(FRAME);
        self.fill(&mut frame, FRAME)?;
        if frame.is_empty() {
            return Err(self.damaged(start, "it ends before its end marker"));
        }
        let mut r = codec::Reader::new(&frame);
        let (Some(kind), Some(len), Some(sum)) = (r.u32(), r.u32(), r.u32()) else {
            return Err(self.damaged(start, "it ends in the middle of a block"));
        };
        if len > LONGEST {
            return Err(self.damaged(start, "a block's length is wrong"));
        }
        let mut payload = Vec::new();
        self.fill(&mut payload, len as usize)?;
        if payload.len() < len as usize {
            return Err(self.damaged(start, "it ends in the middle of a block"));
        }
        if crc(kind, self.index, &payload) != sum {
            return Err(self.damaged(start, "a block's checksum is wrong"));
        }
        self.index += 1;
        self.at += (FRAME + payload.len()) as u64;
        Ok((kind, payload))
    }

    /// The next item; `None` when everything was there and right.
    pub fn item(&mut self) -> Result<Option<Item>, Error> {
        if self.ended {
            return Ok(None);
        }
        let start = self.at;
        let (kind, payload) = self.block()?;
        let mut r = codec::Reader::new(&payload);
        match kind {
            FILE => {
                self.files += 1;
                let file = r.u32().and_then(|n| {
                    let (name, content) = payload.get(4..)?.split_at_checked(n as usize)?;
                    Some(Named {
                        name: std::str::from_utf8(name).ok()?.to_owned(),
                        content: content.to_vec(),
                    })
                });
                file.map(|f| Some(Item::File(f)))
                    .ok_or_else(|| self.damaged(start, "a file's name can't be read"))
            }
            RECORDS => {
                let mut records = Vec::new();
                while !r.is_empty() {
                    let Some(Entry::Put(record)) = r.entry() else {
                        return Err(self.damaged(start, "a block holds something that is no record"));
                    };
                    if self.last.as_ref().is_some_and(|last| *last >= record.key) {
                        return Err(self.damaged(start, "keys are out of order"));
                    }
                    if record.mod_revision > self.header.revision {
                        return Err(self.damaged(start, "a record is newer than the backup"));
                    }
                    self.last = Some(record.key.clone());
                    records.extend(Arc::into_inner(record));
                }
                self.records += records.len() as u64;
                Ok(Some(Item::Records(records)))
            }
            END => {
                let counts = (r.u64(), r.u64());
                let all = self.records == self.header.records;
                if counts != (Some(self.records), Some(self.files)) || !r.is_empty() || !all {
                    return Err(self.damaged(start, "records or files are missing"));
                }
                let mut behind = Vec::new();
                self.fill(&mut behind, 1)?;
                if !behind.is_empty() {
                    return Err(self.damaged(self.at, "something stands behind the end"));
                }
                self.ended = true;
                Ok(None)
            }
            _ => Err(self.damaged(start, "a block is of no known kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    fn record(key: &str, size: usize, revision: Revision) -> Record {
        Record {
            key: key.into(),
            value: vec![b'v'; size].into(),
            create_revision: revision.min(2),
            mod_revision: revision,
            version: 3,
            expires_at_ms: (size == 3).then_some(77),
            aux: OnceLock::new(),
        }
    }

    fn header(records: u64) -> Header {
        Header {
            cluster: "c".into(),
            revision: 9,
            records,
            time_ms: 5,
            engine: "e".into(),
            ..Header::default()
        }
    }

    fn small() -> Vec<u8> {
        let mut w = Writer::new(Vec::new(), &header(3)).unwrap();
        w.file(&Named { name: "pki/ca.key".into(), content: b"secret".to_vec() }).unwrap();
        for (key, size, revision) in [("/a", 3, 4), ("/b", 40, 9), ("/c", 0, 1)] {
            w.record(&record(key, size, revision)).unwrap();
        }
        w.finish().unwrap()
    }

    type Read = (Header, Vec<Named>, Vec<Record>);

    fn read(bytes: &[u8]) -> Result<Read, Error> {
        let mut r = Reader::open(bytes, "f")?;
        let (mut files, mut records) = (Vec::new(), Vec::new());
        while let Some(item) = r.item()? {
            match item {
                Item::File(f) => files.push(f),
                Item::Records(more) => records.extend(more),
            }
        }
        assert_eq!(r.position(), bytes.len() as u64);
        assert!(r.item()?.is_none());
        Ok((r.header().clone(), files, records))
    }

    fn place(bytes: &[u8]) -> u64 {
        match read(bytes).map(|_| ()) {
            Err(Error::Damaged { path, offset, why }) => {
                assert!(path == "f" && !why.is_empty());
                offset
            }
            other => panic!("taken for good, or told otherwise: {other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let (h, files, records) = read(&small()).unwrap();
        assert_eq!(h, Header { format: FORMAT, ..header(3) });
        assert_eq!(files, [Named { name: "pki/ca.key".into(), content: b"secret".to_vec() }]);
        let seen: Vec<_> =
            records.iter().map(|r| (&*r.key, r.value.len(), r.mod_revision, r.expires_at_ms)).collect();
        assert_eq!(seen, [("/a", 3, 4, Some(77)), ("/b", 40, 9, None), ("/c", 0, 1, None)]);
        assert_eq!((records[1].create_revision, records[1].version), (2, 3));
        let none = Writer::new(Vec::new(), &header(0)).and_then(Writer::finish).unwrap();
        assert!(read(&none).unwrap().2.is_empty());
    }

    #[test]
    fn many_records_take_many_blocks_and_little_memory() {
        let mut w = Writer::new(Vec::new(), &header(1000)).unwrap();
        let mut longest = 0;
        for i in 0..1000 {
            w.record(&record(&format!("/{i:04}"), 5000, 9)).unwrap();
            longest = longest.max(std::mem::take(w.get_mut()).len());
        }
        assert!(longest < 2 * BLOCK, "{longest}");
        let mut w = Writer::new(Vec::new(), &header(1000)).unwrap();
        (0..1000).for_each(|i| w.record(&record(&format!("/{i:04}"), 5000, 9)).unwrap());
        assert_eq!(read(&w.finish().unwrap()).unwrap().2.len(), 1000);
    }

    #[test]
    fn cut_off_at_any_byte_it_is_told() {
        let good = small();
        for n in 0..good.len() {
            assert!(place(&good[..n]) <= n as u64, "{n}");
        }
    }

    #[test]
    fn any_flipped_bit_is_told_with_its_block() {
        let good = small();
        // Where blocks begin.
        let mut starts = vec![0, 8];
        while let Some(len) = good.get(starts[starts.len() - 1] + 4..starts[starts.len() - 1] + 8)
            && starts[starts.len() - 1] > 0
        {
            let len = u32::from_le_bytes(len.try_into().unwrap()) as usize;
            starts.push(starts[starts.len() - 1] + FRAME + len);
        }
        assert_eq!(starts.last(), Some(&good.len()));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let block = starts.iter().rfind(|s| **s <= bit / 8).unwrap();
            assert_eq!(place(&bad), *block as u64, "bit {bit}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(place(&longer), good.len() as u64);
    }

    #[test]
    fn what_does_not_belong_together_is_told() {
        let write = |count: u64, records: &[(&str, Revision)]| {
            let mut w = Writer::new(Vec::new(), &header(count)).unwrap();
            records.iter().for_each(|(key, revision)| w.record(&record(key, 1, *revision)).unwrap());
            w.finish().unwrap()
        };
        assert!(read(&write(2, &[("/a", 1), ("/b", 1)])).is_ok());
        for (count, records) in
            [(3, vec![("/a", 1), ("/b", 1)]), (2, vec![("/b", 1), ("/a", 1)]), (1, vec![("/a", 10)])]
        {
            assert!(place(&write(count, &records)) > 8, "{records:?}");
        }
        let newer = br#"{"format":9,"revision":1}"#;
        let mut file = MAGIC.to_vec();
        file.extend([HEADER, newer.len() as u32, crc(HEADER, 0, newer)].iter().flat_map(|n| n.to_le_bytes()));
        file.extend_from_slice(newer);
        assert!(matches!(read(&file), Err(Error::Newer { found: 9, known: FORMAT, .. })));
    }
}
