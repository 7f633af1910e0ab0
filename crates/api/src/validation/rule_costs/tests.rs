//! Costs by table, with the numbers that upstream's tests expect of the same rules and schemas; how often rules run; what
//! a schema costs as a whole.

use super::super::rules::{Site, check_programs};
use super::*;
use serde_json::json;

/// `"MAX"` is the limit, or nothing.
fn limited(s: &Value, max: Option<i64>) -> Value {
    match s {
        Value::Object(o) => {
            let all = o.iter().filter(|(_, v)| max.is_some() || **v != "MAX");
            Value::Object(all.map(|(k, v)| (k.clone(), limited(v, max))).collect())
        }
        v if *v == "MAX" => json!(max),
        v => v.clone(),
    }
}

fn cost(s: &Value, whole: bool, rule: &str) -> u64 {
    let mut s = s.clone();
    s["x-kubernetes-validations"] = json!([{"rule": rule}]);
    let (mut total, mut e) = (Total::default(), ErrorList::new());
    let site = Site { whole, alone: None, sizes: None, times: Some(1), tolerated: true, newer: false };
    check_programs(&At::root(&s), site, &mut total, &mut e);
    assert!(e.is_empty(), "{rule}: {:?}", e.iter().map(ToString::to_string).collect::<Vec<_>>());
    total.cost
}

fn typed(kind: &str) -> Value {
    match kind {
        "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
        "duration" | "date" | "date-time" => json!({"type": "string", "format": kind}),
        _ => json!({"type": kind}),
    }
}

fn list(items: Value) -> Value {
    json!({"type": "array", "maxItems": "MAX", "items": items})
}

fn map(values: Value) -> Value {
    json!({"type": "object", "maxProperties": "MAX", "additionalProperties": values})
}

fn object() -> Value {
    json!({"type": "object", "required": ["required"], "properties": {"required": {"type": "string"}, "optional": {"type": "string"}}})
}

/// Rule, cost without a limit, limit, cost with it.
type Case = (Value, &'static str, u64, i64, u64);

fn hold(table: Vec<Case>) {
    for (schema, rule, free, max, bound) in table {
        let got = [None, Some(max)].map(|m| cost(&limited(&schema, m), false, rule));
        // What is over the largest limit by far may be any number there.
        let got =
            if free == u64::MAX { [if got[0] > PER_SCHEMA { free } else { got[0] }, got[1]] } else { got };
        assert_eq!(got, [free, bound], "{rule} {schema}");
    }
}

#[test]
fn lists_and_maps() {
    const ALL: &str = "self.all(x, true)";
    let of = typed;
    hold(vec![
        (list(of("number")), ALL, 4_718_591, 10, 32),
        (list(of("string")), ALL, 3_145_727, 20, 62),
        (list(of("boolean")), ALL, 1_887_437, 5, 17),
        (list(of("int-or-string")), ALL, 4_718_591, 10, 32),
        (list(of("duration")), ALL, 2_359_295, 5, 17),
        (list(of("date")), ALL, 725_936, 15, 47),
        (list(of("date-time")), ALL, 428_963, 25, 77),
        (list(json!({"type": "array", "items": {"type": "number"}})), ALL, 3_145_727, 100, 302),
        (list(object()), ALL, 555_128, 50, 152),
        (map(of("number")), ALL, 1_348_169, 10, 32),
        (map(of("string")), ALL, 1_179_647, 3, 11),
        (map(of("boolean")), ALL, 943_718, 100, 302),
        (map(of("int-or-string")), ALL, 1_348_169, 15, 47),
        (map(of("duration")), ALL, 1_048_577, 5, 17),
        (map(of("date")), ALL, 524_288, 10, 32),
        (map(of("date-time")), ALL, 349_526, 25, 77),
        (map(object()), ALL, 428_963, 20, 62),
        (map(json!({"type": "object", "additionalProperties": {"type": "number"}})), ALL, 1_179_647, 10, 32),
        (map(json!({"type": "array", "items": {"type": "number"}})), ALL, 1_179_647, 25, 77),
        (list(of("number")), "self.all(x, self.all(y, true))", u64::MAX, 10, 352),
        (list(of("number")), "self.all(x, self.all(y, self.all(z, true)))", u64::MAX, 10, 3552),
        (list(of("number")), "self.all(x, x == 0.0)", 6_291_454, 3 * 1024 * 2048, 25_165_826),
        (
            list(json!({"type": "object", "additionalProperties": {"type": "number"}})),
            "self.all(x, x.y == 25.2)",
            6_291_452,
            12,
            74,
        ),
        (
            map(json!({"type": "string", "maxLength": "MAX"})),
            "self.all(x, x.contains(self[x]))",
            2_752_507,
            10,
            72,
        ),
        (list(map(object())), "self.all(x, x['y'].required == 'z')", 7_340_027, 10, 72),
        (
            json!({"type": "array", "items": map(object())}),
            "self.all(x, x['y'].required == 'z')",
            7_340_027,
            10,
            7_340_027,
        ),
    ]);
}

#[test]
fn items_texts_and_functions() {
    let text = |format: &str| json!({"type": "string", "format": format, "maxLength": "MAX"});
    let plain = || json!({"type": "string", "maxLength": "MAX"});
    let of = typed;
    hold(vec![
        (list(of("number")), "self[1] == 0.0", 2, 5000, 2),
        (list(of("string")), "self[1] == self[1]", 314_577, 8, 314_577),
        (list(of("int-or-string")), "self[0] == 5", 3, 10, 3),
        (list(of("boolean")), "self[0] == false", 2, 25, 2),
        (list(object()), "self[0] == null", 2, 422, 2),
        (list(json!({"type": "array", "items": {"type": "number"}})), "self[0][0] == -1.0", 3, 51, 3),
        (
            list(json!({"type": "object", "additionalProperties": {"type": "number"}})),
            "self[0].x > 2.0",
            4,
            3000,
            4,
        ),
        (list(of("duration")), "self[0].getHours() == 2", 4, 525, 4),
        (list(of("date")), "self[2].getDayOfMonth() == 13", 4, 42, 4),
        (list(of("number")), "self[3] == 0.0", 2, 0, 2),
        (map(of("number")), "self['x'] == 0.0", 2, 0, 2),
        (map(of("number")), "has(self.x)", 1, 100, 1),
        (map(of("integer")), "oldSelf.size() == self.size()", 5, 10, 5),
        (map(of("date-time")), "self['a'] == self['b']", 8, 7, 8),
        (map(of("duration")), "self['c'] == self['d']", 8, 42, 8),
        (plain(), "self.contains('test')", 314_574, 10, 5),
        (plain(), "self.startsWith('test')", 2, 15, 2),
        (plain(), "size(self + 'hello') > size('hello')", 314_578, 4, 7),
        (plain(), "self.matches('x')", 314_574, 50, 22),
        (plain(), "''.matches('(((((((((())))))))))[0-9]')", 7, 10, 7),
        (plain(), "self.matches('')", 1, 100, 1),
        (plain(), "self == 'x'", 2, 0, 1),
        (text("byte"), "self == b'x'", 2, 0, 1),
        (plain(), "self.find('[0-9]+') == ''", 629_147, 10, 11),
        (plain(), "self.lowerAscii() == 'lower!'", 314_575, 10, 6),
        (list(plain()), "self.join(' ') == 'aa bb'", 329_853_068_905, 10, 43),
        (list(plain()), "self.isSorted() == true", 329_854_432_052, 10, 52),
        (
            json!({"type": "object", "properties": {"str": plain(),
                "before": {"type": "string", "maxLength": 2}, "after": {"type": "string", "maxLength": 4}}}),
            "self.str.replace(self.before, self.after) == 'does not matter'",
            629_154,
            4,
            12,
        ),
        (
            json!({"type": "object", "properties": {"str": plain(), "separator": plain()}}),
            "self.str.split(self.separator) == []",
            629_160,
            10,
            22,
        ),
        (
            json!({"type": "string", "maxLength": "MAX", "enum": ["A", "B", "C", "LongValue"]}),
            "self.contains('A')",
            2,
            1000,
            401,
        ),
        (json!({"x-kubernetes-int-or-string": true, "maxLength": "MAX"}), "isQuantity(self)", 314_574, 20, 9),
    ]);
}

#[test]
fn names_are_short() {
    let s = json!({"type": "object"});
    for field in ["name", "generateName"] {
        let got = cost(&s, true, &format!("self.metadata.{field}.contains('x')"));
        assert!(got > 0 && got <= 10_000, "{field}: {got}");
    }
    // A schema that says all of it itself is taken at its word.
    let text = json!({"type": "string"});
    let names = json!({"type": "object", "properties": {"name": text, "generateName": text}});
    let s = json!({"type": "object", "properties": {"kind": text, "apiVersion": text, "metadata": names}});
    assert!(cost(&s, true, "self.metadata.name.contains('x')") > 300_000);
}

#[test]
fn paths_share_their_room_as_upstream() {
    // What `o.k` says is read where `o.l` was, once the rule has come by it.
    let item = json!({"type": "object", "properties": {"k": {"type": "string", "maxLength": 5}, "l": {"type": "array", "items": {"type": "string"}}}});
    let s = json!({"type": "object", "properties": {"few": {"type": "array", "maxItems": 7, "items": item}}});
    assert_eq!(cost(&s, false, "self.few.all(o, o.l.all(i, i != o.k))"), 1165);
    assert_eq!(cost(&s, false, "self.few.all(o, o.l.all(i, i != ''))"), 29_360_145);
}

#[test]
fn how_often_a_rule_runs() {
    let (object, list, map) = (
        json!({"type": "object"}),
        |n: Value| json!({"type": "array", "maxItems": n}),
        |n: Value| json!({"type": "object", "additionalProperties": {}, "maxProperties": n}),
    );
    let table = [
        (vec![object.clone()], Some(1)),
        (vec![list(json!(5))], Some(5)),
        (vec![list(json!(null))], None),
        (vec![map(json!(10))], Some(10)),
        (vec![map(json!(null))], None),
        (vec![map(json!(5)), list(json!(5))], Some(25)),
        (vec![map(json!(5)), list(json!(null))], None),
        (vec![list(json!(2)), object, map(json!(4))], Some(8)),
        (vec![list(json!(i64::MAX)), list(json!(100))], Some(u64::MAX)),
    ];
    for (schemas, wanted) in table {
        let times = |n: Option<u64>, s: &Value| n.zip(parts(s)).map(|(n, m)| n.saturating_mul(m));
        assert_eq!(schemas.iter().fold(Some(1), times), wanted, "{schemas:?}");
    }
}

#[test]
fn the_most_expensive_are_named() {
    let half = u64::MAX / 2;
    let table: [(&[u64], &[u64], u64); 7] = [
        (&[], &[], 0),
        (&[1_000_000], &[1_000_000], 1_000_000),
        (&[900_000], &[], 900_000),
        (&[5_000_000, 25_000_000, 900_000], &[25_000_000, 5_000_000], 30_900_000),
        (
            &[16_000_000, 50_000_000, 34_000_000, 50_000_000],
            &[50_000_000, 50_000_000, 34_000_000, 16_000_000],
            150_000_000,
        ),
        (
            &[16_000_000, 50_000_000, 900_000, 34_000_000, 50_000_000, 50_000_001],
            &[50_000_001, 50_000_000, 50_000_000, 34_000_000],
            200_900_001,
        ),
        (&[half, half, 1, 10, 100, 1000], &[half, half], u64::MAX),
    ];
    for (costs, worst, all) in table {
        let mut total = Total::default();
        for c in costs {
            total.observe(&Path::new("p"), "rule", *c, true, &mut ErrorList::new());
        }
        let named: Vec<u64> = total.worst.iter().map(|(_, c)| *c).collect();
        assert_eq!((named.as_slice(), total.cost), (worst, all), "{costs:?}");
    }
}

#[test]
fn factors_are_told_as_upstream_tells_them() {
    for (cost, wanted) in [
        (12_000_000, "1.200000x"),
        (15_000_000, "1.5x"),
        (999_900_000, "100.0x"),
        (1_000_000_001, "more than 100x"),
    ] {
        let told = over("estimated rule cost", cost, PER_EXPRESSION);
        assert!(
            told.starts_with(&format!("estimated rule cost exceeds budget by factor of {wanted} (try")),
            "{told}"
        );
    }
}
