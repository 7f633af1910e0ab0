//! Expressions against what cel-go makes of them.

mod common;

use cel::{Env, Type, Value};
use common::{eval, holds};

#[test]
fn what_is_true() {
    let all = [
        "1 + 2 * 3 == 7 && 7 % 4 == 3 && -3 / 2 == -1",
        "dyn(1) == 1.0 && dyn(1u) == 1 && 2.5 > 2 && 1 < 2u",
        "'a' + 'b' == \"ab\" && r'\\n' == '\\\\n' && '''a\nb''' == 'a\\nb' && b'\\xff' != b'a' && '\\u00e9' == 'é'",
        "x.a == 1 && has(x.a) && !has(x.b) && x['a'] == 1 && 'a' in x && !('b' in x)",
        "true || x.b == 1",
        "x.b == 1 || true",
        "!(false && x.b == 1) && !(x.b == 1 && false)",
        "[1, 2, 3].all(i, i > 0) && [1, 2].exists(i, i == 2) && [1, 2, 2].exists_one(i, i == 1)",
        "[1, 2, 3].filter(i, i > 1) == [2, 3] && [1, 2].map(i, i * 2) == [2, 4] && [1, 2, 3].map(i, i > 1, i + 1) == [3, 4]",
        "{'a': 1, 'b': 2}.all(k, k != 'c') && size({'a': 1}) == 1 && {1: 'x'}[1] == 'x'",
        "[1, 2].all(i, v, i + 1 == v) && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2} && ['q'].transformList(i, v, v + string(i)) == ['q0']",
        "n > 5 ? true : x.b",
        "type(1) == int && type('a') == string && type([]) == list && type(null) == null_type",
        "'hello'.startsWith('he') && 'hello'.endsWith('lo') && 'hello'.contains('ell') && 'abc'.matches('^a.c$')",
        "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && 'tacocat'.substring(4) == 'cat' && 'abc'.substring(0, 1) == 'a'",
        "'abc'.indexOf('c') == 2 && 'abcabc'.lastIndexOf('b') == 4 && ' a '.trim() == 'a' && 'aXa'.replace('a', 'b', 1) == 'bXa'",
        "'AbC'.lowerAscii() == 'abc' && 'x1y22'.findAll('[0-9]+') == ['1', '22'] && 'x1'.find('[0-9]') == '1' && 'é'.size() == 1",
        "'%s-%d-%.2f'.format(['a', 3, 1.5]) == 'a-3-1.50'",
        "[3, 1].min() == 1 && [3, 1].max() == 3 && [1, 2].sum() == 3 && [1, 2].isSorted() && ![2, 1].isSorted() && [1, 2].indexOf(2) == 1",
        "sets.contains([1, 2], [2]) && sets.intersects([1], [1, 2]) && sets.equivalent([1, 1], [1])",
        "duration('1h30m').getMinutes() == 90 && duration('1s') < duration('2s')",
        "timestamp('2024-02-29T12:30:00Z').getDate() == 29 && timestamp('2024-01-01T00:00:00Z').getMonth() == 0 && timestamp('2024-01-01T00:00:00Z').getHours('+02:00') == 2",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "isIP('10.0.0.1') && !isIP('10.0.0') && ip('::1').family() == 6 && ip('127.0.0.1').isLoopback() && ip.isCanonical('::1')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP('11.0.0.1') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')",
        "url('https://a.example:80/p?q=1').getHost() == 'a.example:80' && url('https://a/p?q=1').getQuery() == {'q': ['1']} && !isURL('a b')",
        "x.?a.orValue(9) == 1 && x.?b.orValue(9) == 9 && !x.?b.hasValue() && optional.of(1).value() == 1 && x[?'b'].or(optional.of(3)).value() == 3",
        "[?x.?a, ?x.?b] == [1] && {?'k': x.?b} == {}",
        "cel.bind(v, n + 1, v * v == 64)",
        "int('42') == 42 && double('1.5') == 1.5 && string(1) == '1' && int(3.9) == 3 && uint(1) == 1u && bool('true')",
        "-9223372036854775808 < 0 && 0x10 == 16 && 1e3 == 1000.0",
        "// a remark\n true",
    ];
    holds(&all);
}

/// A small expression whose value, or whose work, would be huge.
#[test]
fn nothing_grows_without_end() {
    let env = Env::new(vec![("s".into(), Type::String), ("l".into(), Type::Dyn)]);
    let s = Value::from("ab".repeat(50_000));
    let l = Value::from((0..3000).map(Value::Int).collect::<Vec<_>>());
    let eval = |source: &str| {
        let p = env.compile(source, None).expect(source);
        p.eval(&[("s", s.clone()), ("l", l.clone())], &mut 1_000_000)
    };
    // Ten of the one before, forty times.
    let nested = |tail: &str| {
        let binds =
            (1..40).map(|i| format!("cel.bind(v{i}, [{}],", vec![format!("v{}", i - 1); 10].join(",")));
        format!("cel.bind(v0, [1], {}{tail}{})", binds.collect::<String>(), ")".repeat(39))
    };
    let started = std::time::Instant::now();
    for (source, want) in [
        (nested("dyn(v39) == dyn(v38)"), Ok(Value::Bool(false))),
        (nested("v39.map(x, x) == v39.map(x, x)"), Ok(Value::Bool(true))),
        ("s.indexOf(s.substring(0, 49999) + 'c')".into(), Ok(Value::Int(-1))),
        ("s.lastIndexOf('c' + s.substring(0, 49999))".into(), Ok(Value::Int(-1))),
    ] {
        match (eval(&source), want) {
            (Ok(got), Ok(want)) => assert!(got.equals(&want), "{source}: {got:?}"),
            (got, want) => assert_eq!(got.err(), want.err(), "{source}"),
        }
    }
    for source in [
        "s.replace('a', s)",
        "s.replace('', s)",
        "l.map(x, '').join(s)",
        "l.map(x, s.split(''))",
        "l.map(x, s.findAll('.'))",
        "l.all(x, s.matches(string(x) + '\\\\pL{1000}') || true)",
        "l.all(x, sets.contains(l, l))",
    ] {
        assert!(eval(source).is_err(), "{source}");
    }
    assert!(eval(&nested("'%s'.format([v39])")).is_err());
    assert!(started.elapsed() < std::time::Duration::from_secs(30), "{:?}", started.elapsed());
}

#[test]
fn places_are_those_of_characters() {
    for (source, want) in [
        ("'aéaéa'.indexOf('é')", 1),
        ("'aéaéa'.indexOf('é', 2)", 3),
        ("'aéaéa'.indexOf('', 5)", 5),
        ("'aéaéa'.indexOf('x', 5)", -1),
        ("'aéaéa'.lastIndexOf('é')", 3),
        ("'aéaéa'.lastIndexOf('é', 2)", 1),
        ("'aéaéa'.lastIndexOf('éa', 3)", 3),
        ("'aéaéa'.lastIndexOf('aé', 1)", 0),
        ("'aéaéa'.lastIndexOf('', 2)", 2),
        ("'aéaéa'.lastIndexOf('a', 99)", 4),
    ] {
        assert!(eval(source).is_ok_and(|v| v.equals(&Value::Int(want))), "{source}: {:?}", eval(source));
    }
    assert!(eval("'aéaéa'.indexOf('a', 6)").is_err());
}

#[test]
fn what_fails_when_it_runs() {
    let all = [
        ("x.b == 1", "no such key: b"),
        ("[1][n] == 1", "index out of bounds: 7"),
        ("1 / (n - 7) == 0", "division by zero"),
        ("9223372036854775807 + n > 0", "integer overflow"),
        ("x.a.startsWith('a')", "no such overload"),
        ("int('x') == 1", "type conversion error from 'string' to 'int': \"x\""),
        ("[1, 2].all(i, x.b == i)", "no such key: b"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("'a'.matches('(')", "error parsing regexp: missing closing ): `(`"),
    ];
    for (source, why) in all {
        let e = eval(source).expect_err(source);
        assert!(e.starts_with(why), "{source}: {e}");
    }
}

#[test]
fn what_does_not_compile() {
    let deep = format!("{}1{}", "(".repeat(100), ")".repeat(100));
    let long = vec!["1"; 1000].join("+");
    let all = [
        ("y", "undeclared reference to 'y' (in container '')"),
        ("n + 'a'", "found no matching overload for '_+_' applied to '(int, string)'"),
        ("n.foo()", "undeclared reference to 'foo' (in container '')"),
        ("n.startsWith('a')", "found no matching overload for 'startsWith' applied to 'int.(string)'"),
        ("n.field", "type 'int' does not support field selection"),
        ("n > 1 &&", "Syntax error: mismatched input '<EOF>'"),
        ("1 ++ 2", "Syntax error: mismatched input '+'"),
        ("'abc", "Syntax error: unterminated string"),
        (
            "n.all(i, true)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("has(n)", "invalid argument to has() macro"),
        ("for", "reserved identifier: for"),
        ("1 && true", "found no matching overload for '_&&_' applied to '(int, bool)'"),
        (deep.as_str(), "expression is nested too deeply"),
        (long.as_str(), "expression is nested too deeply"),
        ("", "Syntax error: mismatched input '<EOF>'"),
    ];
    for (source, why) in all {
        assert_eq!(eval(source).expect_err(source), why, "{source}");
    }
    let env = Env::new(vec![("n".into(), Type::Int)]);
    let e = env.compile("true &&\n n + ''", None).expect_err("an error");
    assert_eq!(
        e.show("true &&\n n + ''").lines().next(),
        Some("ERROR: <input>:2:4: found no matching overload for '_+_' applied to '(int, string)'")
    );
    assert!(env.compile("n", Some(&Type::Bool)).is_err());
    assert!(env.compile("[n].exists(i, i == n) && i == 1", None).is_err(), "a macro's variable ends with it");
}

static PATCH: [(&str, Type); 2] = [("op", Type::String), ("value", Type::Dyn)];

#[test]
fn messages() {
    let env =
        Env::new(vec![("n".into(), Type::Int), ("a.b".into(), Type::Int)]).with_messages(|name| match name {
            "Patch" => Some(Some(&PATCH)),
            n if n == "Object" || n.starts_with("Object.") => Some(None),
            _ => None,
        });
    let eval = |source: &str| {
        let p = env.compile(source, None).map_err(|e| e.message)?;
        p.eval(&[("n", Value::Int(7)), ("a.b", Value::Int(3))], &mut 1000).map_err(|e| e.to_string())
    };
    for source in [
        "Object{spec: Object.spec{replicas: n}}.spec.replicas == 7",
        "has(Object{a: 1}.a) && !has(Object{a: 1}.b) && !has(Object{?a: optional.none()}.a)",
        "Object{a: 1} == Object{a: 1} && Object{a: 1} != Object{a: 2}",
        "[Patch{op: 'add', value: Object{}}, Patch{op: 'test',}].map(p, p.op) == ['add', 'test']",
        "(n > 5 ? Object{a: 1} : Object{a: 2}).a == 1",
        "a.b == 3",
    ] {
        assert!(matches!(eval(source), Ok(Value::Bool(true))), "{source}: {:?}", eval(source));
    }
    for (source, why) in [
        ("Other{a: 1}", "undeclared reference to 'Other' (in container '')"),
        ("Patch{path: 'x'}", "undefined field 'path'"),
        ("Patch{op: 1}", "expected type of field 'op' is 'string' but provided type is 'int'"),
        ("Object{a: 1", "Syntax error: mismatched input '<EOF>' expecting ','"),
        ("Object{1: 1}", "Syntax error: mismatched input 'Int(1)'"),
        ("Object{a: 1}.b", "no such key: b"),
    ] {
        assert_eq!(eval(source).expect_err(source), why, "{source}");
    }
}

#[test]
fn fields_are_worked_out_when_asked_for() {
    #[derive(Debug)]
    struct Doubles(std::sync::atomic::AtomicU32);
    impl cel::Fields for Doubles {
        fn field(&self, name: &str, budget: &mut u64) -> Option<Result<Value, cel::EvalError>> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            *budget = budget.saturating_sub(10);
            Some(Ok(Value::Int(name.parse::<i64>().ok()? * 2)))
        }
    }
    let lazy = std::sync::Arc::new(Doubles(0.into()));
    let env = Env::new(vec![("v".into(), Type::Dyn)]);
    let p = env.compile("true || v.`4` == 8", None).expect("program");
    assert!(matches!(p.eval(&[("v", Value::Lazy(lazy.clone()))], &mut 1000), Ok(Value::Bool(true))));
    assert_eq!(lazy.0.load(std::sync::atomic::Ordering::Relaxed), 0);
    let p = env.compile("v.`4` == 8 && !has(v.x)", None).expect("program");
    let mut budget = 1000;
    assert!(matches!(p.eval(&[("v", Value::Lazy(lazy))], &mut budget), Ok(Value::Bool(true))));
    assert!(budget < 985);
}

#[test]
fn an_expression_ends() {
    let env = Env::new(vec![("l".into(), Type::list(Type::Int))]);
    let list: Vec<Value> = (0..1000).map(Value::Int).collect();
    let p = env.compile("l.all(a, l.all(b, l.all(c, a + b + c >= 0)))", Some(&Type::Bool)).expect("program");
    let mut budget = 1_000_000;
    assert_eq!(p.eval(&[("l", list.into())], &mut budget).expect_err("too dear"), cel::EvalError::CostLimit);
    assert_eq!(budget, 0);
    assert!(p.uses("l") && !p.uses("a"));
}

mod random {
    use cel::{Env, Type};
    use proptest::prelude::*;

    proptest! {
        /// Whatever is typed: an answer, no panic.
        #[test]
        fn any_text(s in "\\PC{0,60}") {
            let _ = Env::new(Vec::new()).compile(&s, None);
        }

        /// Likewise for what looks like an expression, which is also run.
        #[test]
        fn pieces(parts in proptest::collection::vec(prop::sample::select(vec![
            "x", "1", "-1", "2u", "1.5", "'a'", "[", "]", "{", "}", "(", ")", ".", "?", ":", ",", "&&", "||", "==", "+", "-", "/", "%", "in",
            "x.all(i, ", "x.map(i, ", "has(x.a)", "size(", "string(", "'%s'.format([", "duration('1h')", "timestamp('2024-01-01T00:00:00Z')", "optional.none()", "x[?", "!",
        ]), 0..12)) {
            let source = parts.join(" ");
            let env = Env::new(vec![("x".into(), Type::Dyn)]);
            if let Ok(p) = env.compile(&source, None) {
                let list = cel::Value::from(vec![cel::Value::Int(i64::MIN), cel::Value::from("é")]);
                let _ = p.eval(&[("x", list)], &mut 100_000);
            }
        }
    }
}

/// As upstream's validators of literals say it, which look at what compiles otherwise.
#[test]
fn literals_are_looked_at_before_they_are_used() {
    let env = Env::new(vec![("x".into(), Type::Dyn)]).with_literals_checked();
    let compiled = |source: &str| env.compile(source, None).map_err(|e| e.message);
    for (source, why) in [
        ("'a'.matches('[')", "invalid matches argument"),
        ("x.all(k, k.matches('(a'))", "invalid matches argument"),
        ("duration('1 hour') == duration('1h')", "invalid duration argument"),
        ("timestamp('yesterday').getFullYear() == 1", "invalid timestamp argument"),
        ("[1, 'a'] == []", "expected type 'int' but found 'string'"),
        ("[[1], ['a']].size() == 2", "expected type 'list(int)' but found 'list(string)'"),
        ("{'a': 1, 'b': 'c'}.size() == 2", "expected type 'int' but found 'string'"),
        ("{'a': 1, 2: 1}.size() == 2", "expected type 'string' but found 'int'"),
        ("['a', null].size() == 2", "expected type 'string' but found 'null'"),
    ] {
        assert_eq!(compiled(source).expect_err(source), why, "{source}");
    }
    for source in [
        "'a1'.matches('^[a-z][0-9]$')",
        "duration('1h') > duration('1s')",
        "timestamp('2026-01-01T00:00:00Z').getFullYear() == 2026",
        "'%d of %s'.format([1, 'a']) == '1 of a'",
        "[[], [1]].size() == 2",
        "[1, x.a].size() == 2",
        "[1, 2][0] == 1",
    ] {
        assert!(compiled(source).is_ok(), "{source}");
    }
}
