//! SPDY/3.1 as far as port-forward, exec and attach need it: frames in and out, header blocks with the protocol's dictionary. Pure.
//!
//! Inflating with a preset dictionary is done by feeding the dictionary as a stored block first; our own header blocks
//! are stored blocks after the zlib header, which every inflater reads.

use flate2::{Decompress, FlushDecompress, Status};

/// Names and values that SPDY/3 compressors start from: length-prefixed words, then plain text.
fn dictionary() -> Vec<u8> {
    const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
        accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
        content-length content-location content-md5 content-range content-type date etag expect expires from host \
        if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards \
        pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding \
        upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public \
        set-cookie keep-alive origin";
    const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
        203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized\
        403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
        Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
        chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
        text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut out = Vec::with_capacity(1423);
    for w in WORDS.split_whitespace() {
        let w = w.replace('_', " ");
        out.extend((w.len() as u32).to_be_bytes());
        out.extend(w.as_bytes());
    }
    out.extend(TEXT.as_bytes());
    out
}

fn adler32(data: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    for x in data {
        a = (a + u32::from(*x)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}

fn stored(data: &[u8], out: &mut Vec<u8>) {
    for part in data.chunks(65_535) {
        let n = part.len() as u16;
        out.push(0);
        out.extend(n.to_le_bytes());
        out.extend((!n).to_le_bytes());
        out.extend(part);
    }
}

pub type Headers = Vec<(String, String)>;

/// A header's value; empty when it is not there.
pub fn header<'a>(h: &'a Headers, name: &str) -> &'a str {
    h.iter().find(|(k, _)| k == name).map_or("", |(_, v)| v.as_str())
}

/// A frame, as far as anybody here cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    SynStream { id: u32, headers: Headers, fin: bool },
    Data { id: u32, data: Vec<u8>, fin: bool },
    Reset { id: u32 },
    Ping { id: u32 },
    GoAway,
    Other,
}

const MAX_FRAME: usize = 4 << 20;
const MAX_HEADERS: usize = 64 << 10;

/// Turns bytes into frames; keeps what is incomplete.
pub struct Reader {
    buf: Vec<u8>,
    inflate: Decompress,
    begun: bool,
}

fn be32(b: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(b.get(..4)?.try_into().ok()?))
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    pub fn new() -> Self {
        Self { buf: Vec::new(), inflate: Decompress::new(false), begun: false }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    #[expect(clippy::should_implement_trait, reason = "none yet is not the end")]
    pub fn next(&mut self) -> Result<Option<Frame>, String> {
        let Some(head) = self.buf.get(..8) else { return Ok(None) };
        let (first, second) = (be32(head).unwrap_or(0), head.get(4..).and_then(be32).unwrap_or(0));
        let (flags, len) = ((second >> 24) as u8, (second & 0xff_ffff) as usize);
        if len > MAX_FRAME {
            return Err(format!("a frame of {len} bytes is too large"));
        }
        if self.buf.len() < 8 + len {
            return Ok(None);
        }
        let rest = self.buf.split_off(8 + len);
        let body = std::mem::replace(&mut self.buf, rest).split_off(8);
        let fin = flags & 1 != 0;
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data { id: first, data: body, fin }));
        }
        let id = be32(&body).unwrap_or(0) & 0x7fff_ffff;
        Ok(Some(match first & 0xffff {
            1 => {
                let block = body.get(10..).ok_or("a SYN_STREAM is too short")?;
                Frame::SynStream { id, headers: self.headers(block)?, fin }
            }
            // The blocks of replies and later headers go through the same inflater.
            2 | 8 => {
                self.headers(body.get(4..).ok_or("a frame is too short")?)?;
                Frame::Other
            }
            3 => Frame::Reset { id },
            6 => Frame::Ping { id: be32(&body).unwrap_or(0) },
            7 => Frame::GoAway,
            _ => Frame::Other,
        }))
    }

    fn headers(&mut self, mut block: &[u8]) -> Result<Headers, String> {
        let dictionary_len = if self.begun { 0 } else { self.begin(&mut block)? };
        let plain = self.run(block, dictionary_len)?;
        let mut at = 0;
        let mut word = |plain: &[u8]| -> Option<String> {
            let n = be32(plain.get(at..)?)? as usize;
            let s = plain.get(at + 4..at + 4 + n)?;
            at += 4 + n;
            Some(String::from_utf8_lossy(s).into_owned())
        };
        let n = be32(&plain).ok_or("an empty header block")?;
        let mut out = Vec::new();
        let body = plain.get(4..).unwrap_or_default();
        for _ in 0..n.min(256) {
            let k = word(body).ok_or("a broken header block")?;
            let v = word(body).ok_or("a broken header block")?;
            out.push((k.to_lowercase(), v));
        }
        Ok(out)
    }

    /// Steps over the zlib header and primes the window.
    fn begin(&mut self, block: &mut &[u8]) -> Result<usize, String> {
        self.begun = true;
        let d = dictionary();
        let (head, rest) = block.split_at_checked(6).ok_or("a header block is too short")?;
        if head.get(1).is_none_or(|f| f & 0x20 == 0)
            || be32(head.get(2..).unwrap_or_default()) != Some(adler32(&d))
        {
            return Err("a header block with another dictionary than SPDY/3's".into());
        }
        let mut prime = Vec::new();
        stored(&d, &mut prime);
        let out = self.run(&prime, 0)?;
        if out != d {
            return Err("the dictionary could not be set".into());
        }
        *block = rest;
        Ok(0)
    }

    fn run(&mut self, mut input: &[u8], _skip: usize) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut buf = [0u8; 4096];
        loop {
            let (i, o) = (self.inflate.total_in(), self.inflate.total_out());
            let status =
                self.inflate.decompress(input, &mut buf, FlushDecompress::Sync).map_err(|e| e.to_string())?;
            let used = (self.inflate.total_in() - i) as usize;
            let made = (self.inflate.total_out() - o) as usize;
            input = input.get(used..).unwrap_or_default();
            out.extend_from_slice(buf.get(..made).unwrap_or_default());
            if out.len() > MAX_HEADERS {
                return Err("headers are too large".into());
            }
            if status == Status::StreamEnd || used == 0 && made == 0 || input.is_empty() && made < buf.len() {
                return Ok(out);
            }
        }
    }
}

/// Makes frames.
#[derive(Default)]
pub struct Writer {
    begun: bool,
}

impl Writer {
    pub fn syn_reply(&mut self, id: u32) -> Vec<u8> {
        let mut block = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            block.extend([0x78, 0xbb]);
            block.extend(adler32(&dictionary()).to_be_bytes());
        }
        stored(&0u32.to_be_bytes(), &mut block);
        // An empty block is the flush without which Go's inflater hands nothing out.
        block.extend([0, 0, 0, 0xff, 0xff]);
        control(2, 0, &[&id.to_be_bytes()[..], &block].concat())
    }
    pub fn data(id: u32, data: &[u8], fin: bool) -> Vec<u8> {
        let mut out = id.to_be_bytes().to_vec();
        out.extend((data.len() as u32 | u32::from(fin) << 24).to_be_bytes());
        out.extend_from_slice(data);
        out
    }
    pub fn ping(id: u32) -> Vec<u8> {
        control(6, 0, &id.to_be_bytes())
    }
    pub fn reset(id: u32) -> Vec<u8> {
        control(3, 0, &[id.to_be_bytes(), 5u32.to_be_bytes()].concat())
    }
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = 0x8003u16.to_be_bytes().to_vec();
    out.extend(kind.to_be_bytes());
    out.extend((body.len() as u32 | u32::from(flags) << 24).to_be_bytes());
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A SYN_STREAM with stored blocks, as our own writer would make it.
    pub fn syn(id: u32, first: bool, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for w in headers.iter().flat_map(|(k, v)| [k, v]) {
            plain.extend((w.len() as u32).to_be_bytes());
            plain.extend(w.as_bytes());
        }
        let mut block = Vec::new();
        if first {
            block.extend([0x78, 0xbb]);
            block.extend(adler32(&dictionary()).to_be_bytes());
        }
        stored(&plain, &mut block);
        let mut body = id.to_be_bytes().to_vec();
        body.extend([0; 6]);
        body.extend(block);
        control(1, 0, &body)
    }

    #[test]
    fn the_dictionary_is_spdy_3() {
        assert_eq!(dictionary().len(), 1423);
        assert_eq!(adler32(&dictionary()), 0xe3c6_a7c2);
    }

    #[test]
    fn frames_in_pieces() {
        let mut all = syn(1, true, &[("Streamtype", "error"), ("port", "80")]);
        all.extend(syn(3, false, &[("streamtype", "data")]));
        all.extend(Writer::data(3, b"hello", true));
        all.extend(Writer::ping(7));
        let mut r = Reader::new();
        let mut got = Vec::new();
        for b in all.chunks(3) {
            r.feed(b);
            while let Some(f) = r.next().expect("frame") {
                got.push(f);
            }
        }
        let h = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(
            got,
            [
                Frame::SynStream {
                    id: 1,
                    headers: vec![h("streamtype", "error"), h("port", "80")],
                    fin: false
                },
                Frame::SynStream { id: 3, headers: vec![h("streamtype", "data")], fin: false },
                Frame::Data { id: 3, data: b"hello".to_vec(), fin: true },
                Frame::Ping { id: 7 },
            ]
        );
    }

    #[test]
    fn our_replies_inflate() {
        let mut w = Writer::default();
        let mut r = Reader::new();
        for id in [1, 3] {
            let reply = w.syn_reply(id);
            assert!(reply.ends_with(&[0, 0, 0, 0xff, 0xff]));
            r.feed(&reply);
            assert_eq!(r.next(), Ok(Some(Frame::Other)));
        }
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        let mut r = Reader::new();
        r.feed(&control(1, 0, &[0; 30]));
        assert!(r.next().is_err());
        let mut r = Reader::new();
        r.feed(&[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0]);
        assert!(r.next().is_err());
    }
}
