//! Sets and keyed lists: order, removal, default keys, duplicates.

use super::Op::*;
use super::*;

fn named(fields: Value) -> Value {
    let mut m = Map::new();
    for (k, v) in fields.as_object().into_iter().flatten() {
        m.insert(format!("k:{{\"name\":\"{k}\"}}"), v.clone());
    }
    json!({"f:items": m})
}

#[test]
fn sets() {
    check(vec![
        (
            "apply twice",
            vec![Apply("d", json!({"set": ["a", "c"]})), Apply("d", json!({"set": ["a", "b", "c", "d"]}))],
            json!({"set": ["a", "b", "c", "d"]}),
            json!({"d": {"f:set": {"v:\"a\"": {}, "v:\"b\"": {}, "v:\"c\"": {}, "v:\"d\"": {}}}}),
        ),
        (
            "others' elements stay and keep their place",
            vec![
                Apply("d", json!({"set": ["a", "c"]})),
                Update("u", json!({"set": ["a", "b", "c", "d"]})),
                Apply("d", json!({"set": ["a", "aprime", "c", "cprime"]})),
            ],
            json!({"set": ["a", "b", "aprime", "c", "d", "cprime"]}),
            json!({"d": {"f:set": {"v:\"a\"": {}, "v:\"aprime\"": {}, "v:\"c\"": {}, "v:\"cprime\"": {}}},
                   "u": {"f:set": {"v:\"b\"": {}, "v:\"d\"": {}}}}),
        ),
        (
            "overlap is shared",
            vec![
                Apply("d", json!({"set": ["a", "c"]})),
                Update("u", json!({"set": ["a", "b", "c", "d"]})),
                Apply("d", json!({"set": ["a", "b", "c"]})),
            ],
            json!({"set": ["a", "b", "c", "d"]}),
            json!({"d": {"f:set": {"v:\"a\"": {}, "v:\"b\"": {}, "v:\"c\"": {}}},
                   "u": {"f:set": {"v:\"b\"": {}, "v:\"d\"": {}}}}),
        ),
        (
            "the applier's order wins",
            vec![
                Apply("d", json!({"set": ["a", "b", "c", "d"]})),
                Update("u", json!({"set": ["a", "d", "c", "b"]})),
                Apply("d", json!({"set": ["a", "b", "c", "d"]})),
            ],
            json!({"set": ["a", "b", "c", "d"]}),
            json!({"d": {"f:set": {"v:\"a\"": {}, "v:\"b\"": {}, "v:\"c\"": {}, "v:\"d\"": {}}}}),
        ),
        (
            "elements go with their owner",
            vec![
                Apply("a", json!({"set": ["a", "b"]})),
                Apply("b", json!({"set": ["b", "c"]})),
                Apply("a", json!({"set": ["a"]})),
                Apply("b", json!({"set": ["c"]})),
            ],
            json!({"set": ["a", "c"]}),
            json!({"a": {"f:set": {"v:\"a\"": {}}}, "b": {"f:set": {"v:\"c\"": {}}}}),
        ),
        (
            "the list goes with its last element",
            vec![Apply("a", json!({"set": ["a"], "string": "s"})), Apply("a", json!({"string": "s"}))],
            json!({"string": "s"}),
            json!({"a": {"f:string": {}}}),
        ),
        (
            "atomic lists are replaced",
            vec![
                Apply("d", json!({"list": ["a", "c"]})),
                Update("u", json!({"list": ["a", "b"]})),
                Conflict("d", json!({"list": ["a"]}), vec![("u", ".list")]),
                Force("d", json!({"list": ["a"]})),
            ],
            json!({"list": ["a"]}),
            json!({"d": {"f:list": {}}}),
        ),
        (
            "numbers and booleans",
            vec![
                Apply("d", json!({"nums": [1, 2.5], "flags": [true]})),
                Apply("e", json!({"flags": [false]})),
            ],
            json!({"nums": [1, 2.5], "flags": [true, false]}),
            json!({"d": {"f:nums": {"v:1": {}, "v:2.5": {}}, "f:flags": {"v:true": {}}},
                   "e": {"f:flags": {"v:false": {}}}}),
        ),
    ]);
}

#[test]
fn keyed_lists() {
    let whole = || json!({".": {}, "f:name": {}, "f:value": {}});
    check(vec![
        (
            "what is no longer applied goes",
            vec![
                Apply("d", json!({"items": [{"name": "a", "value": 1}]})),
                Apply("d", json!({"items": [{"name": "b", "value": 2}]})),
            ],
            json!({"items": [{"name": "b", "value": 2}]}),
            json!({"d": named(json!({"b": whole()}))}),
        ),
        (
            "an element is shared field by field",
            vec![
                Apply("a", json!({"items": [{"name": "x", "value": 1}]})),
                Apply("b", json!({"items": [{"name": "x", "tags": ["t"]}]})),
                Apply("a", json!({"items": [{"name": "y"}]})),
            ],
            json!({"items": [{"name": "x", "tags": ["t"]}, {"name": "y"}]}),
            json!({"a": named(json!({"y": {".": {}, "f:name": {}}})),
                   "b": named(json!({"x": {".": {}, "f:name": {}, "f:tags": {"v:\"t\"": {}}}}))}),
        ),
        (
            "an element goes with its only applier, whatever an updater put into it",
            vec![
                Apply("a", json!({"items": [{"name": "x"}, {"name": "y", "value": 1}]})),
                Update("u", json!({"items": [{"name": "x"}, {"name": "y", "value": 1, "tags": ["t"]}]})),
                Apply("a", json!({"items": [{"name": "x"}]})),
            ],
            json!({"items": [{"name": "x"}]}),
            json!({"a": named(json!({"x": {".": {}, "f:name": {}}}))}),
        ),
        (
            "an element stays with its other applier, and so does what an updater put into it",
            vec![
                Apply("a", json!({"items": [{"name": "x"}, {"name": "y", "tags": ["c"]}]})),
                Apply("b", json!({"items": [{"name": "y", "tags": ["d"]}]})),
                Update("u", json!({"items": [{"name": "x"}, {"name": "y", "tags": ["c", "d", "e"]}]})),
                Apply("a", json!({"items": [{"name": "x"}]})),
            ],
            json!({"items": [{"name": "x"}, {"name": "y", "tags": ["d", "e"]}]}),
            json!({"a": named(json!({"x": {".": {}, "f:name": {}}})),
                   "b": named(json!({"y": {".": {}, "f:name": {}, "f:tags": {"v:\"d\"": {}}}})),
                   "u": named(json!({"y": {"f:tags": {"v:\"e\"": {}}}}))}),
        ),
        (
            "a conflict names the element",
            vec![
                Apply("a", json!({"items": [{"name": "x", "value": 1}]})),
                Conflict(
                    "b",
                    json!({"items": [{"name": "x", "value": 2}]}),
                    vec![("a", ".items[name=\"x\"].value")],
                ),
                Force("b", json!({"items": [{"name": "x", "value": 2}]})),
            ],
            json!({"items": [{"name": "x", "value": 2}]}),
            json!({"a": named(json!({"x": {".": {}, "f:name": {}}})), "b": named(json!({"x": whole()}))}),
        ),
        (
            "an updater that removes an element takes it from the applier",
            vec![
                Apply("a", json!({"items": [{"name": "x", "value": 1}, {"name": "y", "value": 1}]})),
                Update("u", json!({"items": [{"name": "y", "value": 1}]})),
            ],
            json!({"items": [{"name": "y", "value": 1}]}),
            json!({"a": named(json!({"y": whole()}))}),
        ),
        (
            "and comes back with the next apply",
            vec![
                Apply("a", json!({"items": [{"name": "x", "value": 1}, {"name": "y", "value": 1}]})),
                Update("u", json!({"items": [{"name": "y", "value": 1}]})),
                Apply("a", json!({"items": [{"name": "x", "value": 1}, {"name": "y", "value": 1}]})),
            ],
            json!({"items": [{"name": "x", "value": 1}, {"name": "y", "value": 1}]}),
            json!({"a": named(json!({"x": whole(), "y": whole()}))}),
        ),
    ]);
}

#[test]
fn default_keys() {
    let port = |n: u16, p: &str| format!("k:{{\"port\":{n},\"protocol\":\"{p}\"}}");
    let tcp = || port(80, "TCP");
    check(vec![
        (
            "a missing key has its default",
            vec![Apply("d", json!({"ports": [{"port": 80}]}))],
            json!({"ports": [{"port": 80}]}),
            json!({"d": {"f:ports": {tcp(): {".": {}, "f:port": {}}}}}),
        ),
        (
            "beside another value of the key",
            vec![Apply("d", json!({"ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}]}))],
            json!({"ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}]}),
            json!({"d": {"f:ports": {tcp(): {".": {}, "f:port": {}},
                port(80, "UDP"): {".": {}, "f:port": {}, "f:protocol": {}}}}}),
        ),
        (
            "conflicts through the default",
            vec![
                Apply("a", json!({"ports": [{"port": 80, "protocol": "TCP", "name": "foo"}]})),
                Conflict(
                    "b",
                    json!({"ports": [{"port": 80, "name": "bar"}]}),
                    vec![("a", ".ports[port=80,protocol=\"TCP\"].name")],
                ),
            ],
            json!({"ports": [{"port": 80, "protocol": "TCP", "name": "foo"}]}),
            json!({"a": {"f:ports": {tcp(): {".": {}, "f:port": {}, "f:protocol": {}, "f:name": {}}}}}),
        ),
        (
            "only the defaulted key",
            vec![Apply("d", json!({"ports": [{"protocol": "TCP", "name": "A"}]}))],
            json!({"ports": [{"protocol": "TCP", "name": "A"}]}),
            json!({"d": {"f:ports": {"k:{\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:protocol": {}}}}}),
        ),
        (
            "the server writes the default out: it is the same element still",
            vec![
                Apply("d", json!({"ports": [{"port": 80}]})),
                Update("defaulter", json!({"ports": [{"port": 80, "protocol": "TCP"}]})),
                Apply("d", json!({"ports": [{"port": 81}]})),
            ],
            json!({"ports": [{"port": 81}]}),
            json!({"d": {"f:ports": {port(81, "TCP"): {".": {}, "f:port": {}}}}}),
        ),
    ]);
    for ports in [json!([{"port": 80}, {"port": 80}]), json!([{"port": 80}, {"port": 80, "protocol": "TCP"}])]
    {
        run("ambiguous", &one(), vec![Fails("d", json!({"ports": ports}), "duplicate entries for key")]);
    }
}

#[test]
fn duplicates_from_before() {
    check(vec![
        (
            "are owned as one",
            vec![Update("u", json!({"nums": [1, 1, 3, 4]}))],
            json!({"nums": [1, 1, 3, 4]}),
            json!({"u": {"f:nums": {".": {}, "v:1": {}, "v:3": {}, "v:4": {}}}}),
        ),
        (
            "are added",
            vec![Update("u", json!({"nums": [1, 3]})), Update("w", json!({"nums": [1, 1, 3]}))],
            json!({"nums": [1, 1, 3]}),
            json!({"u": {"f:nums": {".": {}, "v:3": {}}}, "w": {"f:nums": {"v:1": {}}}}),
        ),
        (
            "survive an apply of other elements",
            vec![Update("u", json!({"nums": [1, 1, 3, 4]})), Apply("a", json!({"nums": [5]}))],
            json!({"nums": [1, 1, 3, 4, 5]}),
            json!({"u": {"f:nums": {".": {}, "v:1": {}, "v:3": {}, "v:4": {}}}, "a": {"f:nums": {"v:5": {}}}}),
        ),
        (
            "in keyed lists too",
            vec![Update(
                "u",
                json!({"items": [{"name": "a", "value": 1}, {"name": "a", "value": 2}, {"name": "b"}]}),
            )],
            json!({"items": [{"name": "a", "value": 1}, {"name": "a", "value": 2}, {"name": "b"}]}),
            json!({"u": {"f:items": {".": {}, "k:{\"name\":\"a\"}": {},
                "k:{\"name\":\"b\"}": {".": {}, "f:name": {}}}}}),
        ),
    ]);
}
