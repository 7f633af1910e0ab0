//! The protobuf wire format: varints, tags, lengths.

use super::{ProtobufError, Result};

pub(super) fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push((v as u8) | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    varint(out, u64::from(number) << 3 | u64::from(wire));
}

pub(crate) fn int(out: &mut Vec<u8>, number: u32, v: i64) {
    tag(out, number, 0);
    varint(out, v as u64);
}

pub(crate) fn double(out: &mut Vec<u8>, number: u32, v: f64) {
    tag(out, number, 1);
    out.extend_from_slice(&v.to_le_bytes());
}

pub(crate) fn bytes(out: &mut Vec<u8>, number: u32, v: &[u8]) {
    tag(out, number, 2);
    varint(out, v.len() as u64);
    out.extend_from_slice(v);
}

/// The value of one field.
#[derive(Clone, Copy)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Field<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Field::Bytes(b) => Ok(b),
            _ => Err(ProtobufError::Invalid("a length-delimited field was expected")),
        }
    }
    pub(super) fn text(self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtobufError::Invalid("text is not UTF-8"))
    }
    pub(super) fn int(self) -> Result<i64> {
        match self {
            Field::Varint(v) => Ok(v as i64),
            _ => Err(ProtobufError::Invalid("a number was expected")),
        }
    }
    pub(super) fn double(self) -> Result<f64> {
        match self {
            Field::Fixed64(v) => Ok(f64::from_bits(v)),
            Field::Fixed32(v) => Ok(f64::from(f32::from_bits(v))),
            _ => Err(ProtobufError::Invalid("a floating-point number was expected")),
        }
    }
}

/// Walks the fields of one message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn varint(&mut self) -> Result<u64> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let (&b, rest) = self.rest.split_first().ok_or(ProtobufError::Truncated)?;
            self.rest = rest;
            v |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(v);
            }
        }
        Err(ProtobufError::Invalid("a number is longer than 64 bits"))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next field, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number =
            u32::try_from(tag >> 3).map_err(|_| ProtobufError::Invalid("a field number is too large"))?;
        let value = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let n = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
                Field::Bytes(self.take(n)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(ProtobufError::Invalid("groups are not supported")),
        };
        Ok(Some((number, value)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| ProtobufError::Truncated)
    }
}
