//! Formats of names, labels, keys, ports and addresses, with upstream's messages. Each check returns what is wrong;
//! an empty list means nothing is. Hand-written matchers: no regular expression runs on the hot path.

use std::net::IpAddr;

pub type Messages = Vec<String>;

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_WORDS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
pub const NON_NEGATIVE: &str = "must be greater than or equal to 0";
pub const POSITIVE: &str = "must be greater than 0";

/// `message (e.g. 'a', or 'b', regex used for validation is 're')`.
pub fn format_error(message: &str, format: &str, examples: &[&str]) -> String {
    let mut out = String::from(message);
    out.push_str(" (");
    for (i, e) in examples.iter().enumerate() {
        out.push_str(if i == 0 { "e.g. " } else { " or " });
        out.push_str(&format!("'{e}', "));
    }
    out.push_str(&format!("regex used for validation is '{format}')"));
    out
}

/// Upstream's older formats count characters; those of labels count bytes.
pub fn max_len(n: usize) -> String {
    format!("must be no more than {n} characters")
}
fn max_bytes(n: usize) -> String {
    format!("must be no more than {n} bytes")
}
pub fn between(lo: i64, hi: i64) -> String {
    format!("must be between {lo} and {hi}, inclusive")
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}
fn framed(s: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    match s.as_bytes() {
        [] => false,
        b => edge(b[0]) && edge(b[b.len() - 1]) && b.iter().all(|&c| edge(c) || inner(c)),
    }
}
fn label_ok(s: &str) -> bool {
    framed(s, lower_alnum, |c| c == b'-')
}
fn qualified_ok(s: &str) -> bool {
    framed(s, |c| c.is_ascii_alphanumeric(), |c| matches!(c, b'-' | b'_' | b'.'))
}

/// RFC 1123 label, up to 63 bytes.
pub fn dns1123_label(s: &str) -> Messages {
    let mut m = Messages::new();
    if s.len() > 63 {
        m.push(max_len(63));
    }
    if !label_ok(s) && s.split('.').all(label_ok) {
        m.push("must not contain dots".into());
    } else if !label_ok(s) {
        m.push(format_error(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            LABEL_FMT,
            &["my-name", "123-abc"],
        ));
    }
    m
}

/// RFC 1123 subdomain, up to 253 bytes.
pub fn dns1123_subdomain(s: &str) -> Messages {
    let mut m = Messages::new();
    if s.len() > 253 {
        m.push(max_len(253));
    }
    if !s.split('.').all(label_ok) {
        m.push(format_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_FMT,
            &["example.com"],
        ));
    }
    m
}

/// Subdomain whose labels may hold underscores (DNS search paths).
pub fn dns1123_subdomain_underscore(s: &str) -> Messages {
    let mut m = Messages::new();
    if s.len() > 253 {
        m.push(max_len(253));
    }
    let label = |l: &str| framed(l.strip_prefix('_').unwrap_or(l), lower_alnum, |c| matches!(c, b'-' | b'_'));
    if !s.split('.').all(label) {
        m.push(format_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    m
}

/// `*.` and a subdomain.
pub fn wildcard_dns1123_subdomain(s: &str) -> Messages {
    let mut m = Messages::new();
    if s.len() > 253 {
        m.push(max_len(253));
    }
    if !s.strip_prefix("*.").is_some_and(|r| r.split('.').all(label_ok)) {
        m.push(format_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!("\\*\\.{SUBDOMAIN_FMT}"),
            &["*.example.com"],
        ));
    }
    m
}

/// DNS-1035 label: starts with a letter.
pub fn dns1035_label(s: &str) -> Messages {
    let mut m = Messages::new();
    if s.len() > 63 {
        m.push(max_len(63));
    }
    if !label_ok(s) || !s.starts_with(|c: char| c.is_ascii_lowercase()) {
        m.push(format_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    m
}

/// `name` or `prefix/name`, as label keys are.
pub fn qualified_name(s: &str) -> Messages {
    let mut m = Messages::new();
    let name = match s.split_once('/') {
        None => s,
        Some((prefix, name)) if !name.contains('/') => {
            if prefix.is_empty() {
                m.push("prefix part must be non-empty".into());
            } else {
                m.extend(dns1123_subdomain(prefix).into_iter().map(|x| format!("prefix part {x}")));
            }
            name
        }
        Some(_) => {
            let e = format_error(QUALIFIED_WORDS, QUALIFIED_FMT, &["MyName", "my.name", "123-abc"]);
            m.push(format!(
                "a valid label key {e} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return m;
        }
    };
    if name.is_empty() {
        m.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        m.push(format!("name part {}", max_bytes(63)));
    }
    if !qualified_ok(name) {
        let e = format_error(QUALIFIED_WORDS, QUALIFIED_FMT, &["MyName", "my.name", "123-abc"]);
        m.push(format!("name part {e}"));
    }
    m
}

/// The value of a label.
pub fn label_value(s: &str) -> Messages {
    let mut m = Messages::new();
    if s.len() > 63 {
        m.push(max_bytes(63));
    }
    if !s.is_empty() && !qualified_ok(s) {
        m.push(format_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    m
}

/// Why a condition is as it is: one word.
pub fn condition_reason(s: &str) -> Messages {
    let edge = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let starts = s.starts_with(|c: char| c.is_ascii_alphabetic());
    if starts && framed(s, edge, |c| matches!(c, b',' | b':')) {
        return Messages::new();
    }
    vec![format_error(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

/// A name that becomes one segment of a URL path (RBAC objects).
pub fn path_segment(s: &str, prefix: bool) -> Messages {
    if !prefix && (s == "." || s == "..") {
        return vec![format!("may not be '{s}'")];
    }
    ["/", "%"].iter().filter(|x| s.contains(**x)).map(|x| format!("may not contain '{x}'")).collect()
}

/// Names of environment variables: printable ASCII but `=`.
pub fn env_var_name(s: &str) -> Messages {
    if s.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    if s.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        return Messages::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .into(),
    ]
}

/// Keys of ConfigMaps and Secrets.
pub fn config_key(s: &str) -> Messages {
    let mut m = Messages::new();
    if s.len() > 253 {
        m.push(max_len(253));
    }
    if s.is_empty() || !s.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.')) {
        m.push(format_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match s {
        "." => m.push("must not be '.'".into()),
        ".." => m.push("must not be '..'".into()),
        s if s.starts_with("..") => m.push("must not start with '..'".into()),
        _ => {}
    }
    m
}

/// Names of container ports (IANA service names).
pub fn port_name(s: &str) -> Messages {
    let mut m = Messages::new();
    if s.len() > 15 {
        m.push(max_len(15));
    }
    if s.is_empty() || !s.bytes().all(|c| lower_alnum(c) || c == b'-') {
        m.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !s.bytes().any(|c| c.is_ascii_lowercase()) {
        m.push("must contain at least one letter (a-z)".into());
    }
    if s.contains("--") {
        m.push("must not contain consecutive hyphens".into());
    }
    if s.starts_with('-') || s.ends_with('-') {
        m.push("must not begin or end with a hyphen".into());
    }
    m
}

pub fn port_number(n: i64) -> Messages {
    if (1..=65535).contains(&n) { Messages::new() } else { vec![between(1, 65535)] }
}

pub fn http_header_name(s: &str) -> Messages {
    if !s.is_empty() && s.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return Messages::new();
    }
    vec![format_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// `25%`.
pub fn percent(s: &str) -> Messages {
    if percent_value(s).is_some() {
        return Messages::new();
    }
    vec![format_error(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}
/// The number of a percent string.
pub fn percent_value(s: &str) -> Option<i64> {
    let digits = s.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(i64::MAX))
}

/// Strict parsing: no leading zeros, no IPv4-mapped IPv6.
pub fn parse_ip(s: &str) -> Option<IpAddr> {
    let ip: IpAddr = s.parse().ok()?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        ip => Some(ip),
    }
}
pub fn ip(s: &str) -> Messages {
    if parse_ip(s).is_some() {
        return Messages::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()]
}

/// Address and prefix length.
pub fn parse_cidr(s: &str) -> Option<(IpAddr, u8)> {
    let (ip, len) = s.split_once('/')?;
    let ip = parse_ip(ip)?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    if len.is_empty() || (len.len() > 1 && len.starts_with('0')) || !len.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let n: u8 = len.parse().ok()?;
    (n <= max).then_some((ip, n))
}
pub fn cidr(s: &str) -> Messages {
    if parse_cidr(s).is_some() {
        return Messages::new();
    }
    vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()]
}
/// The network address of `ip/len`.
pub fn mask(ip: IpAddr, len: u8) -> IpAddr {
    match ip {
        IpAddr::V4(a) => {
            let m = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            IpAddr::V4((u32::from(a) & m).into())
        }
        IpAddr::V6(a) => {
            let m = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            IpAddr::V6((u128::from(a) & m).into())
        }
    }
}

/// A name that gets a suffix may end in a dash.
pub fn with_prefix(s: &str, prefix: bool, rule: fn(&str) -> Messages) -> Messages {
    if prefix && s.len() > 1 && s.ends_with('-') {
        let mut t = s[..s.len() - 1].to_owned();
        t.push('a');
        return rule(&t);
    }
    rule(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        type Case = (fn(&str) -> Messages, &'static [&'static str], &'static [&'static str]);
        let long = "a".repeat(64);
        let cases: [Case; 9] = [
            (dns1123_label, &["a", "a-b", "1a"], &["", "-a", "a-", "A", "a.b", "a_b"]),
            (dns1123_subdomain, &["a", "a.b-c.d"], &["", ".", "a..b", "a.-b", "A.b"]),
            (dns1035_label, &["a", "a1"], &["1a", "", "a-"]),
            (qualified_name, &["a", "A_b.c", "x.io/Y"], &["", "/a", "a/", "a/b/c", "_a", "X.io/a"]),
            (label_value, &["", "a", "A_b"], &["-a", "a b"]),
            (config_key, &["a", "a.b", ".a", "A_B"], &["", ".", "..", "..a", "a/b"]),
            (port_name, &["a", "http-2"], &["", "1", "a--b", "-a", "abcdefghijklmnop"]),
            (ip, &["1.2.3.4", "::1"], &["", "01.2.3.4", "::ffff:1.2.3.4", "a"]),
            (cidr, &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "a/1", "10.0.0.0/08"]),
        ];
        for (rule, good, bad) in cases {
            for g in good {
                assert!(rule(g).is_empty(), "{g:?} {:?}", rule(g));
            }
            for b in bad {
                assert!(!rule(b).is_empty(), "{b:?}");
            }
        }
        assert_eq!(dns1123_label(&long), ["must be no more than 63 characters"]);
        assert_eq!(
            dns1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert!(with_prefix("a-", true, dns1123_label).is_empty());
        assert!(!with_prefix("a-", false, dns1123_label).is_empty());
    }
}
