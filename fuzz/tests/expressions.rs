//! Hostile expressions: rules and policies in CEL with what their functions are given, and regular expressions. What one
//! may cost is what a rule may.

use cel::{Env, Type, Value};
use serde_json::json;

const BUDGET: u64 = 1_000_000;

/// Long texts and lists, so that what is quadratic or grows without bounds shows.
fn object() -> serde_json::Value {
    json!({
        "name": "a", "n": 5, "yes": true, "x": 1.5, "none": null, "long": "ab".repeat(20_000),
        "words": ["a", "b", "c"], "many": (0..2000).collect::<Vec<i64>>(),
        "map": {"a": {"b": ["c"]}, "d": 1}, "ip": "10.0.0.1", "q": "1.5Gi",
    })
}

#[test]
fn cel_expressions() {
    let seeds = [
        "self.words.all(w, w.startsWith('a') || size(w) > 0) && has(self.map.a) ? self.n + 1 == 6 : !self.yes",
        "self.many.filter(x, x % 2 == 0).map(x, [x, x * 2]).exists(p, p[0] == 4u && p[1] in [8, 16])",
        "self.long.indexOf('ba') + self.long.lastIndexOf('b', 3)",
        "self.long.replace('a', 'xyz').split('x', -1).size() == self.long.matches('^(ab)+[[:alpha:]]{2,5}$') ? 1 : 2",
        "'%s has %d, %.3f %x %e %b'.format([self.map, self.n, self.x, self.name, 1.0, true])",
        "cel.bind(l, [self.many, self.many], cel.bind(m, [l, l], m == [l, l] || m + m != m))",
        "self.map.transformMap(k, v, k + 'x').all(k, v, k != v) && self.map.?d.orValue(2) < 3.0",
        "duration('1h30m') + timestamp('2026-01-02T03:04:05Z') > timestamp(0) && quantity(self.q).isGreaterThan(quantity('1k'))",
        "ip(self.ip).family() == 4 && cidr('10.0.0.0/8').containsIP(self.ip) && url('https://a:1/b?c=d').getPort() == '1'",
        "self.words.join(self.long).size() + self.words.sum() + [1, 2].max() + self.words.isSorted() + -9223372036854775808",
        "sets.contains(self.many, [1]) && sets.equivalent(self.many, self.many) && oldSelf.none == null",
        r#"r'\d' + b'\x00\377' + """tri"ple""" + "\u00e9\U0001F4A9" + '\101'"#,
        "{'a': 1, ?'b': optional.none()}.?b.hasValue() ? type(self) == map : dyn(1) == 1.0",
        "format.dns1123Label().validate(self.name).value() == [] && self.long.charAt(4) == 'a'",
    ]
    .map(str::as_bytes);
    let this = api::validation::cel_value(&object());
    let env = Env::with(
        vec![("self".into(), Type::Dyn), ("oldSelf".into(), Type::Dyn)],
        api::validation::cel_functions(),
    );
    let strict = env.clone().with_literals_checked();
    fuzz::run("cel_expressions", &seeds, 2, move |b| {
        let Ok(s) = std::str::from_utf8(b) else { return };
        let _ = strict.compile(s, None);
        match env.compile(s, None) {
            Ok(program) => {
                let mut left = BUDGET;
                let _ = program.eval(&[("self", this.clone()), ("oldSelf", this.clone())], &mut left);
                assert!(left <= BUDGET);
            }
            Err(e) => assert!(!e.show(s).is_empty()),
        }
    });
}

/// The first byte chooses an expression over two texts, which follow with a zero byte between them.
#[test]
fn cel_functions() {
    const OVER: [&str; 30] = [
        "[duration(s).getHours(), duration(t).getMilliseconds()]",
        "string(duration(s) + duration(t) - duration(s))",
        "[timestamp(s).getFullYear(t), timestamp(s).getDayOfYear(t), timestamp(s).getHours(t)]",
        "string(timestamp(s) - duration(t)) + string(timestamp(s) + duration(t))",
        "[timestamp(s) - timestamp(t) < duration('1s')]",
        "[quantity(s).add(quantity(t)).asApproximateFloat(), quantity(s).sub(quantity(t)).sign()]",
        "[quantity(s).compareTo(quantity(t)), quantity(s).isInteger() ? quantity(s).asInteger() : 1]",
        "[url(s).getHost(), url(s).getHostname(), url(s).getPort(), url(s).getEscapedPath(), url(s).getScheme()]",
        "[url(s).getQuery(), isURL(t)]",
        "[ip(s).isGlobalUnicast(), ip(s).isLoopback(), ip(s) == ip(t), ip.isCanonical(t)]",
        "[cidr(s).containsIP(t), cidr(s).containsCIDR(t), cidr(s).masked() == cidr(t)]",
        "[string(cidr(s).ip()), string(cidr(s).prefixLength())]",
        "[s.matches(t), t.matches(s)]",
        "[s.find(t), s.findAll(t).size(), s.findAll(t, 2)]",
        "[s.format([t, 1, 2.5, [t], {t: s}, b'x', true, null])]",
        "[s.replace(t, s), s.replace(t, '', 2), s.split(t), s.split(t, 3)]",
        "[s.indexOf(t), s.lastIndexOf(t), s.indexOf(t, 1), s.lastIndexOf(t, 1)]",
        "[s.substring(1), s.substring(0, size(t)), s.charAt(size(t))]",
        "[s.lowerAscii(), s.upperAscii(), s.trim(), strings.quote(t)]",
        "[int(s), int(t)]",
        "[uint(s), uint(t)]",
        "[int(double(s)), int(double(t) * 1e3)]",
        "[uint(double(s)), 1]",
        "[double(s) == double(t), double(s) < double(t)]",
        "[bool(s), bool(t)]",
        "string(bytes(s) + bytes(t))",
        "[s.split('').join(t).size(), size(s) / size(t), size(s) % size(t)]",
        "[int(s) / int(t), int(s) % int(t), int(s) * int(t), -int(s)]",
        "format.named(s).hasValue() ? format.named(s).value().validate(t).hasValue() : false",
        "[s in {t: s}, {s: t} == {t: s}, {s: t}[s], [s, t].isSorted(), [s, t].max(), sets.intersects([s], [t])]",
    ];
    let env = Env::with(
        vec![("s".into(), Type::String), ("t".into(), Type::String)],
        api::validation::cel_functions(),
    );
    let compiled = OVER.map(|o| env.compile(o, None));
    for (source, c) in OVER.iter().zip(&compiled) {
        assert!(c.is_ok(), "{source}: {c:?}");
    }
    let texts = [
        "1h1m\0-2.5s",
        "2026-01-02T03:04:05.5Z\0Europe/Berlin",
        "2026-01-02T03:04:05+02:00\0-08:30",
        "1.5Gi\0-3e5",
        "https://u:p@[::1]:80/a%20b?c=d&e\0/x",
        "10.0.0.1\0fd00::1",
        "10.0.0.0/8\0fd00::/64",
        "aabbab\0(a|b)*[^[:space:]]\\pL{2,3}$",
        "%s %d %.2f %x %e %b %o %X %%\0a",
        "aaaa\0a",
        "12\0-9223372036854775808",
        "1e400\0NaN",
        "true\0F",
        "dns1123Label\0a-b",
        "",
    ];
    let seeds: Vec<Vec<u8>> =
        (0..OVER.len()).flat_map(|i| texts.map(|t| [&[i as u8], t.as_bytes()].concat())).collect();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    fuzz::run("cel_functions", &seeds, 1, move |b| {
        let Some((which, rest)) = b.split_first() else { return };
        let Ok(rest) = std::str::from_utf8(rest) else { return };
        let (s, t) = rest.split_once('\0').unwrap_or((rest, rest));
        let Some(Ok(program)) = compiled.get(usize::from(*which) % OVER.len()) else { return };
        let _ = program.eval(&[("s", Value::from(s)), ("t", Value::from(t))], &mut BUDGET.clone());
    });
}

#[test]
fn regular_expressions() {
    let seeds = [
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        r"(?i:a|b)(?P<n>\d+)\s*[[:alpha:]_]\pL\P{Greek}\x41\x{1F4A9}\Q.*\E",
        r"(a{2,5}){3}|(?s).*?$|\bx\B|[^\]a-c&&[b]]\101\z",
        r"((((a?)*)+)?){10}",
        r"\pL{1000}",
    ]
    .map(str::as_bytes);
    fuzz::run("regular_expressions", &seeds, 2, |b| {
        let Ok(s) = std::str::from_utf8(b) else { return };
        match cel::regexp::compile(s) {
            Ok(r) => {
                let _ = (r.is_match(s), r.is_match("aaaaaaaaaaaaaaaaaaaaaaaaab\u{1F4A9}"));
            }
            Err(e) => assert!(e.starts_with("error parsing regexp: ")),
        }
    });
}
