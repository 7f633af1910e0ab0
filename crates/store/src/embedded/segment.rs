//! The form of a log segment, and the judgement of one that is read back. Pure.
//!
//! A segment is a row of 512-byte sectors. Sector 0 is the header; then groups, each beginning on a sector and
//! answered by one fdatasync. The last four bytes of a sector are a tag made of the segment's seed and the sector's
//! number. Sectors never written in this life of the file hold zeroes or another seed's tags, so a group that was torn
//! by a crash shows sectors that are provably not written, while a group that was whole and then damaged does not.
//! Only the former may be dropped: a group is begun after the one before it is on disk, so it is the last.

use crc32fast::Hasher;

use crate::Error;

pub(super) const SECTOR: usize = 512;
const BODY: usize = SECTOR - 4;
const GROUP_HEADER: usize = 20;
const GROUP_MAGIC: u32 = 0x5047_534b;
const SEGMENT_MAGIC: &[u8; 8] = b"KELSLOG1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupKind {
    Data,
    /// Nothing follows in this segment; the log goes on in the next one.
    Seal,
    /// Written once at opening, before the first write: carries the new reserve of revisions.
    Open,
    Close,
}

impl GroupKind {
    fn from_u32(n: u32) -> Option<Self> {
        [Self::Data, Self::Seal, Self::Open, Self::Close].get(n as usize).copied()
    }
}

/// Sectors that a payload takes.
pub(super) fn sectors(payload: usize) -> usize {
    (GROUP_HEADER + payload).div_ceil(BODY)
}

fn tag(seed: u32, sector: usize) -> u32 {
    // A finalizer from splitmix64: every input bit reaches every output bit.
    let mut x = (u64::from(seed) << 32) ^ (sector as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // Some bits are fixed, so that zeroes are never near a tag.
    (x >> 32) as u32 | 0x0101_8181
}

fn crc(seed: u32, parts: &[&[u8]]) -> u32 {
    let mut h = Hasher::new_with_initial(seed);
    parts.iter().for_each(|p| h.update(p));
    h.finalize()
}

/// The first sector of a segment file.
pub(super) fn header(seq: u64, seed: u32) -> [u8; SECTOR] {
    let mut out = [0u8; SECTOR];
    out[..8].copy_from_slice(SEGMENT_MAGIC);
    out[8..16].copy_from_slice(&seq.to_le_bytes());
    out[16..20].copy_from_slice(&seed.to_le_bytes());
    let sum = crc(0, &[&out[..BODY]]);
    out[BODY..].copy_from_slice(&sum.to_le_bytes());
    out
}

/// The seed out of a header sector that is whole and belongs to `seq`.
pub(super) fn read_header(data: &[u8], seq: u64) -> Result<u32, &'static str> {
    let sector = data.get(..SECTOR).ok_or("the file is too short for its header")?;
    if le32(sector, BODY) != Some(crc(0, &[&sector[..BODY]])) {
        return Err("the segment header's checksum is wrong");
    }
    if &sector[..8] != SEGMENT_MAGIC || sector[8..16] != seq.to_le_bytes() {
        return Err("the segment header belongs to another file");
    }
    le32(sector, 16).ok_or("the file is too short for its header")
}

/// Lays a group out in sectors, to be written at sector number `first`.
pub(super) fn frame(out: &mut Vec<u8>, kind: GroupKind, payload: &[u8], seed: u32, first: usize) {
    let count = sectors(payload.len());
    let padding = [0u8; BODY];
    let pad = count * BODY - GROUP_HEADER - payload.len();
    let body_crc = crc(seed, &[payload, &padding[..pad]]);
    let head = group_header(kind, payload.len() as u32, body_crc, seed, first);
    out.clear();
    out.reserve(count * SECTOR);
    let mut rest = payload;
    for i in 0..count {
        let start = out.len();
        if i == 0 {
            out.extend_from_slice(&head);
        }
        let (now, later) = rest.split_at(rest.len().min(BODY - (out.len() - start)));
        rest = later;
        out.extend_from_slice(now);
        out.resize(start + BODY, 0);
        out.extend_from_slice(&tag(seed, first + i).to_le_bytes());
    }
}

fn group_header(kind: GroupKind, len: u32, body_crc: u32, seed: u32, first: usize) -> [u8; GROUP_HEADER] {
    let mut head = [0u8; GROUP_HEADER];
    head[..4].copy_from_slice(&GROUP_MAGIC.to_le_bytes());
    head[4..8].copy_from_slice(&len.to_le_bytes());
    head[8..12].copy_from_slice(&(kind as u32).to_le_bytes());
    head[12..16].copy_from_slice(&body_crc.to_le_bytes());
    let sum = crc(seed, &[&(first as u64).to_le_bytes(), &head[..16]]);
    head[16..].copy_from_slice(&sum.to_le_bytes());
    head
}

fn le32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// How a segment ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    pub groups: usize,
    /// The sector after the last good group.
    pub end: usize,
    pub tail: Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    Sealed,
    /// Unwritten sectors follow.
    Clean,
    /// An unanswered write was torn there.
    Torn,
}

enum Place {
    /// Its payload is in the scratch buffer.
    Group {
        kind: GroupKind,
        count: usize,
    },
    /// Nothing whole begins here and what is there was provably never finished.
    Nothing,
    Damaged(&'static str),
}

struct Sectors<'a> {
    data: &'a [u8],
    seed: u32,
}

impl Sectors<'_> {
    /// How many bits a sector's tag is away from its own.
    fn distance(&self, sector: usize) -> u32 {
        match le32(self.data, sector * SECTOR + BODY) {
            Some(found) => (found ^ tag(self.seed, sector)).count_ones(),
            None => 32,
        }
    }

    fn header(&self, sector: usize) -> Option<(GroupKind, usize, u32)> {
        let at = sector * SECTOR;
        let head = self.data.get(at..at + GROUP_HEADER)?;
        let (len, kind, body_crc) = (le32(head, 4)?, GroupKind::from_u32(le32(head, 8)?)?, le32(head, 12)?);
        (head == group_header(kind, len, body_crc, self.seed, sector)).then_some((
            kind,
            len as usize,
            body_crc,
        ))
    }

    fn look(&self, sector: usize, payload: &mut Vec<u8>) -> Place {
        const NEAR: u32 = 3;
        let distance = self.distance(sector);
        let Some((kind, len, body_crc)) = self.header(sector) else {
            return if distance == 0 {
                Place::Damaged("a group header's checksum is wrong")
            } else {
                Place::Nothing
            };
        };
        let count = sectors(len);
        if (sector + count) * SECTOR > self.data.len() {
            return Place::Damaged("a group reaches past the end of the file");
        }
        payload.clear();
        for i in sector..sector + count {
            let skip = if i == sector { GROUP_HEADER } else { 0 };
            payload.extend_from_slice(&self.data[i * SECTOR + skip..i * SECTOR + BODY]);
        }
        let tags = (sector..sector + count).map(|i| self.distance(i));
        if crc(self.seed, &[payload]) == body_crc {
            // Right to the last byte, whatever became of the tags (a write can be torn inside its last one).
            payload.truncate(len);
            return Place::Group { kind, count };
        }
        if tags.max().is_some_and(|far| far > NEAR) {
            Place::Nothing
        } else {
            Place::Damaged("a group's checksum is wrong")
        }
    }
}

/// Reads a whole segment file and hands out its groups with the sector they begin at. `Err` is Damaged with the place.
pub(super) fn scan(
    data: &[u8],
    seq: u64,
    path: &str,
    mut visit: impl FnMut(GroupKind, usize, &[u8]) -> Result<(), &'static str>,
) -> Result<Scan, Error> {
    let damaged = |sector: usize, why: &str| Error::Damaged {
        path: path.to_owned(),
        offset: (sector * SECTOR) as u64,
        why: why.to_owned(),
    };
    let seed = read_header(data, seq).map_err(|why| damaged(0, why))?;
    let sectors = Sectors { data, seed };
    let total = data.len() / SECTOR;
    let mut scan = Scan { groups: 0, end: 1, tail: Tail::Clean };
    let mut payload = Vec::new();
    while scan.end < total {
        match sectors.look(scan.end, &mut payload) {
            Place::Group { kind, count } => {
                visit(kind, scan.end, &payload).map_err(|why| damaged(scan.end, why))?;
                scan.end += count;
                scan.groups += 1;
                if kind == GroupKind::Seal {
                    scan.tail = Tail::Sealed;
                    return Ok(scan);
                }
            }
            Place::Damaged(why) => return Err(damaged(scan.end, why)),
            Place::Nothing => {
                // A whole group further on was begun after this place had been answered.
                for later in scan.end + 1..total {
                    if sectors.distance(later) != 0 {
                        continue;
                    }
                    scan.tail = Tail::Torn;
                    if sectors.header(later).is_some()
                        && !matches!(sectors.look(later, &mut payload), Place::Nothing)
                    {
                        return Err(damaged(scan.end, "an answered group is missing before a later one"));
                    }
                }
                if sectors.distance(scan.end) == 0 || sectors.header(scan.end).is_some() {
                    scan.tail = Tail::Torn;
                }
                return Ok(scan);
            }
        }
    }
    Ok(scan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(groups: &[&[u8]]) -> Vec<u8> {
        let mut data = header(7, 99).to_vec();
        let mut framed = Vec::new();
        for g in groups {
            let first = data.len() / SECTOR;
            frame(&mut framed, GroupKind::Data, g, 99, first);
            data.extend_from_slice(&framed);
        }
        data.resize(data.len() + 8 * SECTOR, 0);
        data
    }

    fn read(data: &[u8]) -> Result<(Vec<Vec<u8>>, Scan), Error> {
        let mut groups = Vec::new();
        let scan = scan(data, 7, "f", |_, _, payload| {
            groups.push(payload.to_vec());
            Ok(())
        })?;
        Ok((groups, scan))
    }

    #[test]
    fn reads_back_what_was_framed() {
        let big = vec![0u8; 3000];
        let (groups, scan) = read(&file(&[b"one", &big, b""])).unwrap();
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3000, 0]);
        assert_eq!(scan.tail, Tail::Clean);
    }

    #[test]
    fn a_flipped_bit_is_found_or_harmless() {
        let good = file(&[b"one", &[7u8; 1200], b"three"]);
        let written = good.len() - 8 * SECTOR;
        for bit in (0..written * 8).step_by(7) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            match read(&bad) {
                Err(Error::Damaged { .. }) => {}
                Ok((groups, _)) => assert_eq!(groups, [b"one".to_vec(), vec![7u8; 1200], b"three".to_vec()]),
                Err(e) => panic!("{e}"),
            }
        }
    }

    #[test]
    fn a_write_torn_at_any_byte_is_dropped_and_nothing_else() {
        let before = file(&[b"one"]);
        let after = file(&[b"one", &[7u8; 1200]]);
        let start = 2 * SECTOR;
        let end = after.len() - 8 * SECTOR;
        for cut in start..end {
            let mut torn = after.clone();
            torn[cut..].fill(0);
            let (_, scan) = read(&torn).unwrap();
            // From the padding on nothing of the group is missing any more: wholly there, or wholly absent.
            assert!(scan.groups == 1 || cut > end - SECTOR, "cut {cut}");
            assert_eq!(scan.end, if scan.groups == 1 { 2 } else { 5 });
        }
        assert_eq!(read(&before).unwrap().1.groups, 1);
    }
}
