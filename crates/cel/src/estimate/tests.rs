//! Estimates by table: expressions and the costs that cel-go's and Kubernetes' own tests name for them.

use std::collections::HashMap;

use super::{Range, Shape, run};
use crate::{Env, Type};

const LIST: &str = "[1, 2, 3, 4, 5]";
const TEXTS: &str = "['012345678901', '012345678901', '012345678901', '012345678901', '012345678901']";
const BYTES: &str = "[bytes('012345678901'), bytes('012345678901'), bytes('012345678901'), bytes('012345678901'), bytes('012345678901')]";
const DURATIONS: &str = "[duration('1s'), duration('2s'), duration('3s'), duration('4s'), duration('5s')]";

#[derive(Default)]
struct Hint {
    most: Option<u64>,
    parts: HashMap<&'static str, Hint>,
}

impl Hint {
    fn part(&self, name: &str) -> Option<&dyn Shape> {
        self.parts.get(name).map(|h| h as &dyn Shape)
    }
}

impl Shape for Hint {
    fn most(&self) -> Option<u64> {
        self.most
    }
    fn field(&self, name: &str) -> Option<&dyn Shape> {
        self.part(name)
    }
    fn items(&self) -> Option<&dyn Shape> {
        self.part("@items")
    }
    fn keys(&self) -> Option<&dyn Shape> {
        self.part("@keys")
    }
}

/// Source, variables, hints, least and most.
type Case = (&'static str, Vec<(&'static str, Type)>, Vec<(&'static str, u64)>, u64, u64);

/// `hints`: paths and sizes.
fn cost(source: &str, variables: &[(&str, Type)], hints: &[(&'static str, u64)]) -> Range {
    let mut root = Hint::default();
    for (path, most) in hints {
        let at = path.split('.').fold(&mut root, |h, name| h.parts.entry(name).or_default());
        at.most = Some(*most);
    }
    let variables = variables.iter().map(|(n, t)| ((*n).to_owned(), t.clone())).collect();
    let env = Env::new(variables);
    let p = env.compile(source, None).unwrap_or_else(|e| panic!("{source}: {e:?}"));
    run(&p.expr, &env, &|name| root.part(name))
}

fn texts() -> Type {
    Type::list(Type::String)
}

fn nested() -> Type {
    Type::map(Type::String, Type::map(Type::String, Type::String))
}

#[test]
fn literals_and_operators() {
    for (source, min, max) in [
        ("1", 0, 0),
        ("[1, 2, 3]", 10, 10),
        ("{'a': 1, 'b': 2, 'c': 3}", 30, 30),
        ("true || false", 0, 0),
        ("1 == 2", 1, 1),
        ("1 <= 2", 1, 1),
        ("2 in [1, 2, 3]", 13, 13),
        ("1 % 1", 1, 1),
        ("true ? 1 : 2", 0, 0),
        ("size('123')", 1, 1),
        ("string(1)", 1, 1),
        ("type(1)", 1, 1),
        ("type(1) == int", 3, 1_844_674_407_370_955_266),
        ("'123'.matches('[0-9]')", 2, 2),
        ("((5 != 6) == (1 == 2)) == ((3 <= 4) == (9 != 9))", 7, 7),
        ("[[1,2],[1,2],[1,2],[1,2],[1,2]][4]", 61, 61),
        ("{'a': [1,2], 'b': [1,2], 'c': [1,2], 'd': [1,2], 'e': [1,2]}.b", 81, 81),
        ("{'hello': 'hi'}['hello'] != {'hello': 'bye'}['hello']", 63, 63),
        ("['hello', 'hi'][0] != ['hello', 'bye'][1]", 23, 23),
    ] {
        assert_eq!(cost(source, &[], &[]), Range::new(min, max), "{source}");
    }
}

#[test]
fn macros() {
    for (source, min, max) in [
        ("[1, 2, 3].all(x, true)", 20, 20),
        ("[1,2,3,4,5].filter(x, x % 2 == 0)", 41, 101),
        ("[1,2,3,4,5].map(x, x)", 86, 86),
        ("[1,2,3,4,5].map(x, x).filter(x, x % 2 == 0)", 117, 177),
        ("[1,2,3,4,5].map(x, x).exists(x, x == 5) == true", 108, 118),
        ("[1,2,3,4,5].map(x, x).map(x, x)", 162, 162),
        ("[1,2,3,4,5].map(x, x)[4]", 87, 87),
        ("[[1, 1], [2, 2], [3, 3], [4, 4], [5, 5]].all(y, y.all(y, y == 1))", 76, 136),
        ("[1,2,3,4,5].map(x, [x, x]).all(y, y.all(y, y == 1))", 157, 217),
        ("['a', 'ab', 'abc', 'abcd', 'abcde'].map(x, [x, x]).all(y, y.all(y, y.startsWith('a')))", 157, 217),
        ("[1,2,3,4,5].map(x, x).map(x, x) + [1]", 173, 173),
        ("[1,2,3].all(i, i in [1,2,3].map(j, j + j))", 20, 230),
        ("dyn([1,2,3]).all(i, i in dyn([1,2,3]).map(j, j + j))", 21, 234),
        ("{'a': 1, 'b': 2}.all(k, v, v > 0)", 37, 41),
        ("{'a': 1, 'b': 2}.exists(k, v, v > 0)", 39, 43),
        ("{'a': 1, 'b': 2}.existsOne(k, v, v > 0)", 38, 40),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v + 1)", 71, 71),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v < 5, v + 1)", 67, 75),
        ("[1, 2].all(i, v, v > 0)", 17, 21),
        ("[1, 2].exists(i, v, v > 0)", 19, 23),
        ("[1, 2].existsOne(i, v, v > 0)", 18, 20),
        ("[1, 2].transformList(i, v, v + 1)", 49, 49),
        ("[1, 2].transformList(i, v, v < 5, v + 1)", 27, 53),
    ] {
        assert_eq!(cost(source, &[], &[]), Range::new(min, max), "{source}");
    }
}

#[test]
fn variables_of_known_sizes() {
    let (ints, text, whole) = (Type::list(Type::Int), Type::String, Type::Int);
    let table: Vec<Case> = vec![
        ("a", vec![("a", ints.clone())], vec![], 1, 1),
        ("a['key']", vec![("a", Type::map(Type::String, Type::String))], vec![], 2, 2),
        ("has(a.b.c)", vec![("a", nested())], vec![], 2, 2),
        ("a.all(x, true)", vec![("a", ints.clone())], vec![("a", 100)], 2, 302),
        (
            "a.all(x, x.all(y, true))",
            vec![("a", Type::list(ints.clone()))],
            vec![("a", 50), ("a.@items", 10)],
            2,
            1752,
        ),
        ("a.matches('[0-9]')", vec![("a", text.clone())], vec![("a", 500)], 3, 103),
        ("matches(a, '\\\\d+a\\\\d+b')", vec![("a", text.clone())], vec![("a", 500)], 3, 103),
        ("string(a)", vec![("a", Type::Bytes)], vec![("a", 500)], 1, 51),
        ("string(a) == string(a)", vec![("a", Type::Bytes)], vec![("a", 500)], 3, 152),
        ("bytes(a)", vec![("a", text.clone())], vec![("a", 500)], 1, 51),
        ("bytes(a) == bytes(a)", vec![("a", text.clone())], vec![("a", 500)], 3, 302),
        (
            "a.contains(b)",
            vec![("a", text.clone()), ("b", text.clone())],
            vec![("a", 500), ("b", 500)],
            2,
            2502,
        ),
        ("a.startsWith(b)", vec![("a", text.clone()), ("b", text.clone())], vec![("b", 500)], 2, 52),
        ("a.size()", vec![("a", text.clone())], vec![], 2, 2),
        (
            "(x > 2 ? a : b).all(y, true)",
            vec![("x", whole.clone()), ("a", ints.clone()), ("b", ints.clone())],
            vec![("a", 1), ("b", 1)],
            4,
            7,
        ),
        ("a.all(k, a[k].all(x, true))", vec![("a", nested())], vec![("a", 5), ("a.@items", 10)], 2, 187),
        ("a.all(k, k.contains(k))", vec![("a", nested())], vec![("a", 5), ("a.@keys", 10)], 2, 32),
        (
            "a.all(k, a[k].all(k, true) && k.contains(k))",
            vec![("a", nested())],
            vec![("a", 2), ("a.@items", 2), ("a.@keys", 5)],
            2,
            34,
        ),
        (
            "(a + b).all(x, true)",
            vec![("a", ints.clone()), ("b", ints.clone())],
            vec![("a", 10), ("b", 10)],
            4,
            64,
        ),
        (
            "'abcdefg'.contains(a + b)",
            vec![("a", text.clone()), ("b", text.clone())],
            vec![("a", 10), ("b", 10)],
            2,
            6,
        ),
        ("a.size() == b.size()", vec![("a", ints.clone()), ("b", ints.clone())], vec![], 5, 5),
        (
            "([x, x] + a + b).size()",
            vec![("x", whole), ("a", ints.clone()), ("b", ints)],
            vec![("a", 10), ("b", 20)],
            17,
            17,
        ),
        (
            "[a, b].exists(l, l.exists(v, v.startsWith('hi')))",
            vec![("a", texts()), ("b", texts())],
            vec![("a", 10), ("a.@items", 64), ("b", 20), ("b.@items", 128)],
            21,
            265,
        ),
        (
            "string(a) == string(b)",
            vec![("a", Type::Timestamp), ("b", Type::Timestamp)],
            vec![],
            5,
            1_844_674_407_370_955_268,
        ),
        ("a != b", vec![("a", Type::Duration), ("b", Type::Duration)], vec![], 3, 3),
        (
            "a.map(x, [x, x]).all(y, y.all(y, y.startsWith('a')))",
            vec![("a", texts())],
            vec![("a", 5), ("a.@items", 10)],
            13,
            208,
        ),
        ("a.b == 1.0", vec![("a.b", Type::Double)], vec![], 2, 2),
        ("a.b == 1.0", vec![("a", Type::map(Type::String, Type::Double))], vec![], 3, 3),
        ("a && b && c && d", ["a", "b", "c", "d"].map(|n| (n, Type::Bool)).to_vec(), vec![], 1, 4),
        (
            "a.x == timestamp('2011-08-18T00:00:00.000+01:00') + duration('19h3m37s10ms')",
            vec![("a", Type::map(Type::String, Type::Timestamp))],
            vec![],
            6,
            6,
        ),
    ];
    for (source, variables, hints, min, max) in table {
        assert_eq!(cost(source, &variables, &hints), Range::new(min, max), "{source}");
    }
}

#[test]
fn functions_of_kubernetes() {
    let long = "'01234567890123456789012345678901234567890123456789'.indexOf('123')";
    let letters = "['aa', 'bb', 'cc', 'd', 'e', 'f', 'g', 'h', 'i', 'j']";
    let table = [
        (format!("{LIST}.sum()"), 15, 15),
        (format!("{DURATIONS}.sum()"), 20, 20),
        (format!("{LIST}.isSorted()"), 15, 15),
        (format!("{LIST}.indexOf(3)"), 15, 15),
        (long.into(), 5, 5),
        ("url('https:://kubernetes.io/').getHost()".into(), 4, 4),
        ("url('https:://kubernetes.io/') == url('https:://kubernetes.io/')".into(), 7, 9),
        ("ip('2001:db8:3333:4444:5555:6666:7777:8888').family()".into(), 5, 5),
        ("ip('192.168.0.1') == ip('192.168.0.1')".into(), 5, 5),
        ("cidr('192.168.0.0/16').masked()".into(), 3, 3),
        ("cidr('192.168.0.0/16').containsCIDR(cidr('192.0.0.0/30'))".into(), 7, 11),
        ("'ABCDEFGHIJ abcdefghij'.lowerAscii()".into(), 3, 3),
        ("'ABCDEFGHIJ abcdefghij'.lowerAscii() == 'abcdefghij ABCDEFGHIJ'.lowerAscii()".into(), 7, 9),
        ("strings.quote('ABCDEFGHIJ abcdefghij') == strings.quote('ABCDEFGHIJ abcdefghij')".into(), 7, 11),
        ("'abc 123 def 123'.replace('', 'x')".into(), 3, 3),
        ("'abc 123 def 123'.split(' ', 1)".into(), 3, 3),
        ("'abc 123 def 123'.substring(5, 8)".into(), 2, 2),
        ("'abc 123 def 123'.find('123')".into(), 2, 2),
        ("sets.contains([], [])".into(), 21, 21),
        ("sets.contains([1, 2, 3, 4], [2, 3])".into(), 29, 29),
        ("!sets.intersects([1], [2])".into(), 23, 23),
        ("sets.equivalent([1, 2], [1])".into(), 25, 25),
        // Upstream's tests of these know more of their items.
        (format!("{TEXTS}.max()"), 15, u64::MAX),
        (format!("{BYTES}.max()"), 25, u64::MAX),
        (format!("{letters}.join(' ')"), 11, u64::MAX),
    ];
    for (source, min, max) in table {
        let got = cost(&source, &[], &[]);
        let max = if max == u64::MAX { got.max.max(1 << 60) } else { max };
        assert_eq!(got, Range::new(min, max), "{source}");
    }
}

#[test]
fn what_is_replaced() {
    let r = Range::new;
    for (text, from, to, wanted) in [
        (r(3, 3), r(0, 0), r(1, 1), r(7, 7)),
        (r(3, 3), r(1, 1), r(0, 0), r(0, 3)),
        (r(4, 4), r(2, 2), r(4, 4), r(4, 8)),
        (r(4, 4), r(0, 1), r(0, 2), r(0, 14)),
        (r(4, 4), r(1, 1), r(1, 2), r(4, 8)),
        (r(4, 4), r(1, 2), r(1, 1), r(2, 4)),
    ] {
        assert_eq!(super::calls::replaced(text, from, to), wanted, "{text:?} {from:?} {to:?}");
    }
}

#[test]
fn nothing_overflows_and_names_are_forgotten() {
    let deep = format!("a{}", ".map(x, [x, x])".repeat(50));
    assert!(cost(&deep, &[("a", texts())], &[]).max > u64::MAX / 2);
    // A bound value keeps its size inside, and loses it where it is all there is.
    assert_eq!(cost("cel.bind(v, 'abc' + 'def', v.contains(v))", &[], &[]), Range::of(14));
    assert!(cost("cel.bind(v, 'abc' + 'def', v) == 'abc' + 'def'", &[], &[]).max < 20);
    assert!(cost("cel.bind(v, 'abc' + 'def', v).contains('x')", &[], &[]).max > 1 << 60);
    let read = cost("cel.bind(v, a, v).contains('x')", &[("a", Type::String)], &[("a", 100)]);
    assert_eq!(read, Range::new(12, 22));
}

#[test]
fn lists_versions_and_optional_values() {
    let (ints, dynamic, whole) = (Type::list(Type::Int), Type::list(Type::Dyn), Type::Int);
    let three = || vec![("x", whole.clone()), ("y", whole.clone()), ("z", ints.clone())];
    let maps = Type::list(Type::map(Type::String, Type::String));
    let table: Vec<Case> = vec![
        ("lists.range(4) == [0, 1, 2, 3]", vec![], vec![], 26, 26),
        ("lists.range(4 / 2) == [0, 1]", vec![], vec![], u64::MAX, u64::MAX),
        ("lists.range(x) == [0, 1]", vec![("x", whole.clone())], vec![("x", 10)], u64::MAX, u64::MAX),
        ("[[1, 2], 3].flatten(1) == [1, 2, 3]", vec![], vec![], 44, 44),
        ("[[1, 2], 3].flatten(2) == [1, 2, 3]", vec![], vec![], 46, 46),
        ("[[1, 2], 3].flatten(3) == [1, 2, 3]", vec![], vec![], 48, 48),
        ("[[1], [2], [3]].flatten() == [1, 2, 3]", vec![], vec![], 65, 65),
        ("x.flatten() == [1, 2, 3]", vec![("x", dynamic.clone())], vec![("x", 3)], 23, 26),
        (
            "[[1, 2], 3].flatten(x) == [1, 2, 3]",
            vec![("x", whole.clone())],
            vec![("x", 10)],
            u64::MAX,
            u64::MAX,
        ),
        ("[1, 2, 3].distinct() == [1, 2, 3]", vec![], vec![], 50, 50),
        ("x.distinct() == ['hello']", vec![("x", texts())], vec![("x", 3)], 23, 41),
        ("[1, 2, 3, 4, 5].slice(x, y) == [2, 3]", three(), vec![], 39, 39),
        ("z.slice(1, 3) == [2, 3]", three(), vec![("z", 10)], 25, 25),
        ("z.slice(x, y) == [2, 3]", three(), vec![("z", 10)], 35, 35),
        ("[1, 2, 3].slice(1, 3) == [2, 3]", vec![], vec![], 34, 34),
        ("[3, 2, 1].reverse() == [1, 2, 3]", vec![], vec![], 35, 35),
        ("x.reverse() == [1, 2, 3]", vec![("x", ints.clone())], vec![("x", 5)], 23, 28),
        ("[2, 3, 1].sort() == [1, 2, 3]", vec![], vec![], 50, 50),
        ("x.sort() == [1, 2, 3]", vec![("x", ints.clone())], vec![("x", 5)], 23, 73),
        ("x.sort() == ['a', 'a', 'b', 'b', 'c', 'c']", vec![("x", texts())], vec![("x", 10)], 23, 233),
        ("x.sort() == []", vec![("x", ints)], vec![("x", 10)], 22, 222),
        ("[{'x':4}, {'x':3}].sortBy(m, m['x']) == [{'x':3}, {'x':4}]", vec![], vec![], 211, 211),
        // 226 there, where the key counts as a number since nothing is known of it.
        ("x.sortBy(m, m['x']) == [{'x':3}, {'x':4}]", vec![("x", dynamic)], vec![("x", 5)], 106, 229),
        (
            "x.sortBy(m, m['x']) == [{'x': 'a'}, {'x': 'b'}, {'x': 'c'}]",
            vec![("x", maps)],
            vec![("x", 3)],
            136,
            197,
        ),
        ("optional.of(1).optMap(v, v + 1)", vec![], vec![], 3, 17),
        (
            "m[?'a'].optFlatMap(v, optional.of(v))",
            vec![("m", Type::map(Type::String, Type::String))],
            vec![("m", 4)],
            4,
            18,
        ),
        ("optional.of(x).optMap(v, v.size()).value() == 1", vec![("x", texts())], vec![("x", 5)], 6, 21),
        ("{'a': 1}.transformMapEntry(k, v, {v: k})", vec![], vec![], 95, 95),
        ("[1, 1].transformMapEntry(i, v, {v: i})", vec![], vec![], 109, 109),
        ("semver('1.0.0')", vec![], vec![], 1, 1),
        ("semver('1234.56789012345.67890123456789')", vec![], vec![], 4, 4),
        ("isSemver('1234.56789012345.67890123456789')", vec![], vec![], 4, 4),
        ("semver('1.2.3').major()", vec![], vec![], 2, 2),
        ("semver('1.0.0').isLessThan(semver('1.1.0'))", vec![], vec![], 3, 3),
        ("semver('1.0.0').compareTo(semver('1.2.3'))", vec![], vec![], 3, 3),
    ];
    for (source, variables, hints, min, max) in table {
        assert_eq!(cost(source, &variables, &hints), Range::new(min, max), "{source}");
    }
}
