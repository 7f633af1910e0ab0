//! The CRI log format: `<RFC 3339 with nanoseconds> <stdout|stderr> <F|P> <line>`. Pure, but for [`now_ns`].

use std::time::{SystemTime, UNIX_EPOCH};

/// A longer line is written in parts tagged P, as containerd does.
pub const MAX_LINE: usize = 16 * 1024;

pub fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|d| i64::try_from(d.as_nanos()).ok())
        .unwrap_or(0)
}

/// Appends `2026-01-02T03:04:05.000000006Z`.
pub fn push_time(out: &mut Vec<u8>, ns: i64) {
    let (secs, nanos) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, tod) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    // Days to a civil date, in eras of 400 years that begin on 1 March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let y = yoe + era * 400 + i64::from(m <= 2);
    for (n, width, after) in [
        (y, 4, b'-'),
        (m, 2, b'-'),
        (d, 2, b'T'),
        (tod / 3600, 2, b':'),
        (tod / 60 % 60, 2, b':'),
        (tod % 60, 2, b'.'),
        (nanos, 9, b'Z'),
    ] {
        let mut div = 10i64.pow(width - 1);
        while div > 0 {
            out.push(b'0' + u8::try_from(n / div % 10).unwrap_or(0));
            div /= 10;
        }
        out.push(after);
    }
}

/// Cuts one stream into log lines.
pub struct Splitter {
    stream: &'static str,
    /// The beginning of a line whose end hasn't come.
    rest: Vec<u8>,
}

impl Splitter {
    pub fn new(stream: &'static str) -> Self {
        Splitter { stream, rest: Vec::new() }
    }

    fn line(&self, out: &mut Vec<u8>, now: i64, tag: u8, parts: [&[u8]; 2]) {
        push_time(out, now);
        out.push(b' ');
        out.extend_from_slice(self.stream.as_bytes());
        out.extend_from_slice(&[b' ', tag, b' ']);
        parts.iter().for_each(|p| out.extend_from_slice(p));
        out.push(b'\n');
    }

    /// Appends the lines that `data` completes.
    pub fn feed(&mut self, mut data: &[u8], now: i64, out: &mut Vec<u8>) {
        while !data.is_empty() {
            let room = MAX_LINE - self.rest.len();
            let nl = data.iter().take(room + 1).position(|b| *b == b'\n');
            let rest = std::mem::take(&mut self.rest);
            match nl {
                Some(i) => {
                    self.line(out, now, b'F', [&rest, &data[..i]]);
                    data = &data[i + 1..];
                }
                None if data.len() > room => {
                    self.line(out, now, b'P', [&rest, &data[..room]]);
                    data = &data[room..];
                }
                None => {
                    self.rest = rest;
                    self.rest.extend_from_slice(data);
                    return;
                }
            }
        }
    }

    /// The stream has ended; what has no newline is partial.
    pub fn finish(&mut self, now: i64, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(out, now, b'P', [&rest, b""]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(ns: i64) -> String {
        let mut v = Vec::new();
        push_time(&mut v, ns);
        String::from_utf8(v).unwrap()
    }

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(time(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(time(1_795_423_724_123_456_789), "2026-11-23T08:48:44.123456789Z");
    }

    fn split(parts: &[&[u8]]) -> Vec<(char, usize, String)> {
        let (mut s, mut out) = (Splitter::new("stdout"), Vec::new());
        parts.iter().for_each(|p| s.feed(p, 0, &mut out));
        s.finish(0, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .map(|l| {
                let mut f = l.splitn(4, ' ').skip(2);
                let tag = f.next().unwrap().chars().next().unwrap();
                let body = f.next().unwrap();
                (tag, body.len(), body.chars().take(4).collect())
            })
            .collect()
    }

    #[test]
    fn lines_and_parts() {
        assert_eq!(
            split(&[b"a\nb", b"c\n\n"]),
            [('F', 1, "a".into()), ('F', 2, "bc".into()), ('F', 0, "".into())]
        );
        assert_eq!(split(&[b"no end"]), [('P', 6, "no e".into())]);
        let long = vec![b'x'; MAX_LINE];
        let exact = [&long[..], b"\n"].concat();
        assert_eq!(split(&[&exact]), [('F', MAX_LINE, "xxxx".into())]);
        let over = [&long[..], b"yz\n"].concat();
        let want = [('P', MAX_LINE, "xxxx".to_string()), ('F', 2, "yz".to_string())];
        assert_eq!(split(&[&over]), want);
        assert_eq!(split(&[&over[..5], &over[5..MAX_LINE + 1], &over[MAX_LINE + 1..]]), want);
    }
}
