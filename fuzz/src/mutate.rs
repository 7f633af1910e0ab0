//! Mutations: of bytes as any format has them, and of JSON trees, where a value becomes another one of the wrong kind.
//! Deterministic for a seed.

use serde_json::{Map, Value, json};

/// splitmix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[expect(clippy::should_implement_trait, reason = "never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 for none.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() % n as u64) as usize }
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

/// What parsers stumble over.
const TOKENS: [&[u8]; 36] = [
    b"",
    b"0",
    b"-1",
    b"1e400",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"0x7f",
    b"1.5",
    b"1e-9",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\xf0\x9f\x92\xa9",
    b"\0",
    b"\r\n",
    b"/",
    b"../",
    b"~1",
    b"~0",
    b"*",
    b"&a",
    b"*a",
    b"!!binary ",
    b"---\n",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x80",
    b",,,",
    b"=!()",
];

const LONGEST: usize = 1 << 16;

/// A mutation of one of the inputs, sometimes of two.
pub fn bytes(r: &mut Random, from: &[Vec<u8>]) -> Vec<u8> {
    let mut out = r.pick(from).cloned().unwrap_or_default();
    if r.below(4) == 0
        && let Ok(v) = serde_json::from_slice::<Value>(&out)
    {
        let mut v = v;
        for _ in 0..=r.below(3) {
            value(r, &mut v);
        }
        return serde_json::to_vec(&v).unwrap_or_default();
    }
    for _ in 0..=r.below(6) {
        let at = r.below(out.len() + 1);
        let end = (at + r.below(1 + out.len().min(64))).min(out.len());
        match r.below(9) {
            0 => {
                if let Some(b) = out.get_mut(at) {
                    *b ^= 1 << r.below(8);
                }
            }
            1 => {
                if let Some(b) = out.get_mut(at) {
                    *b = r.next() as u8;
                }
            }
            2 => drop(out.drain(at..end)),
            3 => {
                let piece: Vec<u8> = out.get(at..end).unwrap_or_default().to_vec();
                let times = 1 + r.below(8);
                for _ in 0..times {
                    out.splice(at..at, piece.iter().copied());
                }
            }
            4 => {
                let token = r.pick(&TOKENS).copied().unwrap_or_default();
                out.splice(at..at, token.iter().copied());
            }
            5 => {
                let token = r.pick(&TOKENS).copied().unwrap_or_default();
                out.splice(at..end, token.iter().copied());
            }
            6 => out.truncate(at),
            7 => {
                // Deep nesting.
                let open =
                    r.pick(&[b"[".as_slice(), b"{\"a\":", b"(", b"\x0a\xff"]).copied().unwrap_or_default();
                let many: Vec<u8> = open.repeat(1 + r.below(2000));
                out.splice(at..at, many);
            }
            _ => {
                let other = r.pick(from).cloned().unwrap_or_default();
                let cut = r.below(other.len() + 1);
                out.truncate(at);
                out.extend_from_slice(other.get(cut..).unwrap_or_default());
            }
        }
        out.truncate(LONGEST);
    }
    out
}

fn odd(r: &mut Random) -> Value {
    match r.below(14) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(i64::MAX),
        4 => json!(u64::MAX),
        5 => json!(1.5e300),
        6 => json!(""),
        7 => json!("\u{0}\u{fffd}é"),
        8 => json!("x".repeat(300)),
        9 => json!([]),
        10 => json!({}),
        11 => json!([null]),
        12 => json!({"": {"a": [1, "b"]}}),
        _ => json!("2147483648"),
    }
}

/// Changes one place of the tree.
pub fn value(r: &mut Random, v: &mut Value) {
    let down = r.below(5) > 0;
    match v {
        Value::Object(m) if down && !m.is_empty() => object(r, m),
        Value::Array(a) if down && !a.is_empty() => {
            let i = r.below(a.len());
            match r.below(6) {
                0 => drop(a.remove(i)),
                1 => {
                    let copy = a.get(i).cloned().unwrap_or_default();
                    a.insert(i, copy);
                }
                _ => {
                    if let Some(x) = a.get_mut(i) {
                        value(r, x);
                    }
                }
            }
        }
        other => *other = odd(r),
    }
}

fn object(r: &mut Random, m: &mut Map<String, Value>) {
    let Some(key) = m.keys().nth(r.below(m.len())).cloned() else { return };
    match r.below(8) {
        0 => drop(m.remove(&key)),
        1 => {
            let moved = m.remove(&key).unwrap_or_default();
            m.insert(format!("{key}X"), moved);
        }
        2 => {
            let v = odd(r);
            m.insert(key, v);
        }
        _ => {
            if let Some(x) = m.get_mut(&key) {
                value(r, x);
            }
        }
    }
}
