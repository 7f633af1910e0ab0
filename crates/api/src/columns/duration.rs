//! Ages for people (`5m32s`, `3h`, `2y45d`), as upstream shortens them.

/// An elapsed time in at most two parts, truncated.
pub fn human(seconds: i64) -> String {
    let (m, h, d) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, u: char, small: i64, v: char| {
        if small == 0 { format!("{big}{u}") } else { format!("{big}{u}{small}{v}") }
    };
    match seconds {
        s if s < -1 => "<invalid>".into(),
        s if s < 0 => "0s".into(),
        s if s < 120 => format!("{s}s"),
        s if s < 600 => two(m, 'm', s % 60, 's'),
        s if s < 180 * 60 => format!("{m}m"),
        s if s < 8 * 3600 => two(h, 'h', m % 60, 'm'),
        s if s < 48 * 3600 => format!("{h}h"),
        s if s < 8 * 86_400 => two(d, 'd', h % 24, 'h'),
        s if s < 730 * 86_400 => format!("{d}d"),
        s if s < 8 * 365 * 86_400 => two(d / 365, 'y', d % 365, 'd'),
        _ => format!("{}y", d / 365),
    }
}

/// Seconds since the epoch of an RFC 3339 time.
pub fn parse_time(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|t| t.as_second())
}

/// How long ago the time was; `<unknown>` for what is no time.
pub fn since(text: &str, now: i64) -> String {
    parse_time(text).map_or_else(|| "<unknown>".into(), |t| human(now - t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (179 * 60, "179m"),
            (180 * 60, "3h"),
            (8 * 3600 - 60, "7h59m"),
            (8 * 3600, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (49 * 3600, "2d1h"),
            (8 * 86_400, "8d"),
            (729 * 86_400, "729d"),
            (730 * 86_400, "2y"),
            (731 * 86_400, "2y1d"),
            (8 * 365 * 86_400, "8y"),
        ];
        for (s, want) in cases {
            assert_eq!(human(s), want, "{s}");
        }
        assert_eq!(since("1970-01-01T00:01:00Z", 65), "5s");
        assert_eq!(since("", 65), "<unknown>");
    }
}
