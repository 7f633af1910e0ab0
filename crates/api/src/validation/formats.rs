//! String formats that a schema may name and that are checked; unknown formats hold always.

use super::names;

/// Whether the text is of the format.
pub fn holds(format: &str, t: &str) -> bool {
    match format {
        "date-time" | "datetime" => t.parse::<jiff::Timestamp>().is_ok(),
        "date" => t.len() == 10 && t.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => t.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => t.parse::<std::net::Ipv6Addr>().is_ok(),
        "cidr" => names::parse_cidr(t).is_some(),
        "byte" => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.decode(t).is_ok()
        }
        "uuid" | "uuid3" | "uuid4" | "uuid5" => uuid(t),
        "hostname" => !t.is_empty() && t.len() <= 253 && t.split('.').all(host_label),
        "email" => t.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty() && host.split('.').all(host_label) && !t.contains(char::is_whitespace)
        }),
        "uri" => uri(t),
        "mac" => {
            let parts: Vec<&str> = t.split([':', '-']).collect();
            parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
        }
        "hexcolor" => {
            let digits = t.strip_prefix('#').unwrap_or(t);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        }
        "duration" => duration(t),
        "k8s-short-name" => names::dns1123_label(t).is_empty(),
        "k8s-long-name" => names::dns1123_subdomain(t).is_empty(),
        _ => true,
    }
}

fn host_label(l: &str) -> bool {
    let b = l.as_bytes();
    !b.is_empty()
        && b.len() <= 63
        && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
        && b.first() != Some(&b'-')
        && b.last() != Some(&b'-')
}

fn uuid(t: &str) -> bool {
    let hex: usize = t.bytes().filter(u8::is_ascii_hexdigit).count();
    hex == 32 && t.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && matches!(t.len(), 32 | 36)
}

/// A request URI: absolute, or a path from the root.
fn uri(t: &str) -> bool {
    if t.is_empty() || t.contains(char::is_whitespace) {
        return false;
    }
    if t.starts_with('/') {
        return true;
    }
    t.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
            && !rest.is_empty()
    })
}

/// A Go duration, or `3 days`.
fn duration(t: &str) -> bool {
    let t = t.trim_start_matches(['+', '-']);
    if t == "0" {
        return true;
    }
    let mut rest = t;
    while !rest.is_empty() {
        let n = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(n);
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let known = matches!(
            unit.trim(),
            "ns" | "us"
                | "µs"
                | "ms"
                | "s"
                | "m"
                | "h"
                | "d"
                | "w"
                | "sec"
                | "secs"
                | "second"
                | "seconds"
                | "min"
                | "mins"
                | "minute"
                | "minutes"
                | "hr"
                | "hour"
                | "hours"
                | "day"
                | "days"
                | "week"
                | "weeks"
        );
        if number.is_empty() || !known {
            return false;
        }
        rest = tail;
    }
    !t.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let cases = [
            ("date-time", "2024-01-01T00:00:00Z", "2024-01-01"),
            ("date", "2024-01-01", "2024-13-01"),
            ("ipv4", "1.2.3.4", "::1"),
            ("ipv6", "::1", "1.2.3.4"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("byte", "YQ==", "?"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
            ("hostname", "a.b", "a_b"),
            ("email", "a@b.c", "a"),
            ("uri", "https://a/b", "a b"),
            ("mac", "01:23:45:67:89:ab", "01:23"),
            ("duration", "1h30m", "x"),
        ];
        for (format, good, bad) in cases {
            assert!(holds(format, good), "{format} {good}");
            assert!(!holds(format, bad), "{format} {bad}");
        }
        assert!(holds("int32", "anything"));
    }
}
