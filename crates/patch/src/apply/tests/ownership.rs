//! Who owns what after applies and updates: leaves, structs, maps, atomic parts.

use super::Op::*;
use super::*;

#[test]
fn leaves() {
    check(vec![
        (
            "apply twice",
            vec![
                Apply("d", json!({"numeric": 1, "string": "s"})),
                Apply("d", json!({"numeric": 2, "string": "s", "bool": false})),
            ],
            json!({"numeric": 2, "string": "s", "bool": false}),
            json!({"d": {"f:numeric": {}, "f:string": {}, "f:bool": {}}}),
        ),
        (
            "an update beside an apply",
            vec![
                Apply("d", json!({"numeric": 1, "string": "s"})),
                Update("c", json!({"numeric": 1, "string": "s", "bool": true})),
                Apply("d", json!({"numeric": 2, "string": "s"})),
            ],
            json!({"numeric": 2, "string": "s", "bool": true}),
            json!({"d": {"f:numeric": {}, "f:string": {}}, "c": {"f:bool": {}}}),
        ),
        (
            "a conflict, then by force",
            vec![
                Apply("d", json!({"numeric": 1, "string": "s"})),
                Update("c", json!({"numeric": 1, "string": "controller", "bool": true})),
                Conflict("d", json!({"numeric": 2, "string": "user"}), vec![("c", ".string")]),
                Force("d", json!({"numeric": 2, "string": "user"})),
            ],
            json!({"numeric": 2, "string": "user", "bool": true}),
            json!({"d": {"f:numeric": {}, "f:string": {}}, "c": {"f:bool": {}}}),
        ),
        (
            "what is no longer applied goes",
            vec![
                Apply("d", json!({"numeric": 1, "string": "s", "bool": false})),
                Apply("d", json!({"string": "new"})),
            ],
            json!({"string": "new"}),
            json!({"d": {"f:string": {}}}),
        ),
        (
            "an update takes a field and the applier's entry goes",
            vec![Apply("d", json!({"string": "s"})), Update("c", json!({"string": "new"}))],
            json!({"string": "new"}),
            json!({"c": {"f:string": {}}}),
        ),
        (
            "an update removes a field",
            vec![Apply("d", json!({"string": "s", "numeric": 1})), Update("c", json!({"numeric": 1}))],
            json!({"numeric": 1}),
            json!({"d": {"f:numeric": {}}}),
        ),
        (
            "applying nothing removes all and the entry",
            vec![Apply("d", json!({"string": "s"})), Apply("d", json!({}))],
            json!({}),
            json!({}),
        ),
        (
            "an update that changes nothing owns nothing",
            vec![Apply("d", json!({"string": "s"})), Update("c", json!({"string": "s"}))],
            json!({"string": "s"}),
            json!({"d": {"f:string": {}}}),
        ),
        (
            "numbers are equal by value",
            vec![
                Apply("d", json!({"nums": [1], "numeric": 1})),
                Apply("e", json!({"nums": [1.0], "numeric": 1.0})),
            ],
            json!({"nums": [1], "numeric": 1}),
            json!({"d": {"f:nums": {"v:1": {}}, "f:numeric": {}}, "e": {"f:nums": {"v:1.0": {}}, "f:numeric": {}}}),
        ),
        (
            "the same manager by update and by apply is two",
            vec![
                Update("m", json!({"string": "a"})),
                Conflict("m", json!({"string": "b"}), vec![("m", ".string")]),
                Force("m", json!({"string": "b"})),
            ],
            json!({"string": "b"}),
            json!({"m": {"f:string": {}}}),
        ),
    ]);
}

#[test]
fn several_appliers() {
    check(vec![
        (
            "the same value is shared",
            vec![Apply("a", json!({"string": "s"})), Apply("b", json!({"string": "s"}))],
            json!({"string": "s"}),
            json!({"a": {"f:string": {}}, "b": {"f:string": {}}}),
        ),
        (
            "a shared value stays while somebody owns it",
            vec![
                Apply("a", json!({"string": "s", "numeric": 1})),
                Apply("b", json!({"string": "s"})),
                Apply("a", json!({"numeric": 1})),
            ],
            json!({"string": "s", "numeric": 1}),
            json!({"a": {"f:numeric": {}}, "b": {"f:string": {}}}),
        ),
        (
            "and goes with the last owner",
            vec![
                Apply("a", json!({"string": "s", "numeric": 1})),
                Apply("b", json!({"string": "s"})),
                Apply("a", json!({"numeric": 1})),
                Apply("b", json!({})),
            ],
            json!({"numeric": 1}),
            json!({"a": {"f:numeric": {}}}),
        ),
        (
            "another value conflicts with every owner",
            vec![
                Apply("a", json!({"string": "s"})),
                Apply("b", json!({"string": "s"})),
                Conflict("c", json!({"string": "t"}), vec![("a", ".string"), ("b", ".string")]),
                Force("c", json!({"string": "t"})),
            ],
            json!({"string": "t"}),
            json!({"c": {"f:string": {}}}),
        ),
        (
            "changing a shared value conflicts too",
            vec![
                Apply("a", json!({"string": "s"})),
                Apply("b", json!({"string": "s"})),
                Conflict("a", json!({"string": "t"}), vec![("b", ".string")]),
            ],
            json!({"string": "s"}),
            json!({"a": {"f:string": {}}, "b": {"f:string": {}}}),
        ),
        (
            "an updater's field survives the applier's leaving",
            vec![
                Apply("a", json!({"string": "s", "numeric": 1})),
                Update("u", json!({"string": "t", "numeric": 1})),
                Force("a", json!({"string": "t", "numeric": 1})),
                Apply("a", json!({"numeric": 1})),
            ],
            json!({"string": "t", "numeric": 1}),
            json!({"a": {"f:numeric": {}}, "u": {"f:string": {}}}),
        ),
    ]);
}

#[test]
fn structs_and_maps() {
    check(vec![
        (
            "a struct goes with its last field",
            vec![Apply("d", json!({"struct": {"name": "a", "value": 1}})), Apply("d", json!({}))],
            json!({}),
            json!({}),
        ),
        (
            "but not if somebody else has a field in it",
            vec![
                Apply("d", json!({"struct": {"name": "a"}})),
                Update("c", json!({"struct": {"name": "a", "value": 1}})),
                Apply("d", json!({})),
            ],
            json!({"struct": {"value": 1}}),
            json!({"c": {"f:struct": {"f:value": {}}}}),
        ),
        (
            "an empty struct owns itself",
            vec![
                Apply("d", json!({"struct": {"name": "a"}})),
                Update("c", json!({"struct": {"name": "a", "value": 1}})),
                Apply("d", json!({"struct": {}})),
            ],
            json!({"struct": {"value": 1}}),
            json!({"d": {"f:struct": {}}, "c": {"f:struct": {"f:value": {}}}}),
        ),
        (
            "an applied null over a struct with others' fields changes nothing of theirs",
            vec![
                Apply("d", json!({"struct": {"name": "a"}})),
                Update("c", json!({"struct": {"name": "b", "value": 1}})),
                Apply("d", json!({"struct": null})),
            ],
            json!({"struct": {"name": "b", "value": 1}}),
            json!({"d": {"f:struct": {}}, "c": {"f:struct": {"f:name": {}, "f:value": {}}}}),
        ),
        (
            "maps merge by key",
            vec![Apply("a", json!({"map": {"x": "1"}})), Apply("b", json!({"map": {"y": "2"}}))],
            json!({"map": {"x": "1", "y": "2"}}),
            json!({"a": {"f:map": {"f:x": {}}}, "b": {"f:map": {"f:y": {}}}}),
        ),
        (
            "and lose keys one by one",
            vec![
                Apply("a", json!({"map": {"x": "1", "z": "3"}})),
                Apply("b", json!({"map": {"y": "2"}})),
                Apply("a", json!({"map": {"z": "3"}})),
            ],
            json!({"map": {"y": "2", "z": "3"}}),
            json!({"a": {"f:map": {"f:z": {}}}, "b": {"f:map": {"f:y": {}}}}),
        ),
        (
            "an update that makes a map owns it as well as its keys",
            vec![Update("u", json!({"map": {"x": "1"}}))],
            json!({"map": {"x": "1"}}),
            json!({"u": {"f:map": {".": {}, "f:x": {}}}}),
        ),
        (
            "atomic maps are owned whole",
            vec![
                Apply("a", json!({"atomic": {"x": "1"}})),
                Conflict("b", json!({"atomic": {"y": "2"}}), vec![("a", ".atomic")]),
                Force("b", json!({"atomic": {"y": "2"}})),
            ],
            json!({"atomic": {"y": "2"}}),
            json!({"b": {"f:atomic": {}}}),
        ),
        (
            "lists in maps are atomic",
            vec![
                Apply("a", json!({"mapOfLists": {"x": ["1"]}})),
                Apply("b", json!({"mapOfLists": {"y": ["1"]}})),
                Conflict(
                    "b",
                    json!({"mapOfLists": {"x": ["1", "2"], "y": ["1"]}}),
                    vec![("a", ".mapOfLists.x")],
                ),
                Apply("a", json!({"mapOfLists": {"z": ["3"]}})),
            ],
            json!({"mapOfLists": {"y": ["1"], "z": ["3"]}}),
            json!({"a": {"f:mapOfLists": {"f:z": {}}}, "b": {"f:mapOfLists": {"f:y": {}}}}),
        ),
        (
            "maps of maps change a key in the middle",
            vec![
                Apply("d", json!({"mapOfMaps": {"a": {"b": "x"}}})),
                Apply("d", json!({"mapOfMaps": {"a": {"c": "y"}, "z": {}}})),
            ],
            json!({"mapOfMaps": {"a": {"c": "y"}, "z": {}}}),
            json!({"d": {"f:mapOfMaps": {"f:a": {".": {}, "f:c": {}}, "f:z": {}}}}),
        ),
        (
            "deep structs",
            vec![
                Apply("a", json!({"struct": {"inner": {"a": "1"}}})),
                Apply("b", json!({"struct": {"inner": {"b": "2"}}})),
                Apply("a", json!({"string": "s"})),
            ],
            json!({"struct": {"inner": {"b": "2"}}, "string": "s"}),
            json!({"a": {"f:string": {}}, "b": {"f:struct": {"f:inner": {"f:b": {}}}}}),
        ),
        (
            "a field that nobody owns stays when its neighbours go",
            vec![
                Update("u", json!({"struct": {"name": "a", "inner": {"a": "1"}}})),
                Apply("d", json!({"struct": {"name": "a"}})),
                Apply("d", json!({})),
            ],
            json!({"struct": {"name": "a", "inner": {"a": "1"}}}),
            json!({"u": {"f:struct": {".": {}, "f:name": {}, "f:inner": {".": {}, "f:a": {}}}}}),
        ),
    ]);
}

#[test]
fn free_form() {
    check(vec![
        (
            "maps merge, lists are atomic",
            vec![
                Apply("a", json!({"free": {"a": 1, "b": {"c": {"d": 2, "e": [1, 2]}}}})),
                Update("u", json!({"free": {"a": 1, "b": {"c": {"d": 3, "e": [1, 2, 3]}}, "g": 5}})),
                Conflict(
                    "a",
                    json!({"free": {"a": 2, "b": {"c": {"d": 2, "e": [2, 1]}}}}),
                    vec![("u", ".free.b.c.d"), ("u", ".free.b.c.e")],
                ),
                Force("a", json!({"free": {"a": 2, "b": {"c": {"d": 2, "e": [2, 1]}}}})),
            ],
            json!({"free": {"a": 2, "b": {"c": {"d": 2, "e": [2, 1]}}, "g": 5}}),
            json!({"a": {"f:free": {"f:a": {}, "f:b": {".": {}, "f:c": {".": {}, "f:d": {}, "f:e": {}}}}},
                   "u": {"f:free": {"f:g": {}}}}),
        ),
        (
            "a scalar becomes a map and back",
            vec![
                Apply("a", json!({"any": 1})),
                Conflict("b", json!({"any": {"x": 1}}), vec![("a", ".any")]),
                Force("b", json!({"any": {"x": 1}})),
                Force("a", json!({"any": 2})),
            ],
            json!({"any": 2}),
            json!({"a": {"f:any": {}}}),
        ),
    ]);
}

#[test]
fn wrong_configurations() {
    for (fields, want) in [
        (
            json!({"nope": 1}),
            "failed to create typed patch object (/x; /v1, Kind=Thing): .nope: field not declared in schema",
        ),
        (json!({"struct": {"nope": 1}}), ".struct.nope: field not declared in schema"),
        (json!({"string": 1}), ".string: expected string, got &value.valueUnstructured{Value:1}"),
        (json!({"numeric": "x"}), ".numeric: expected numeric (int or float), got string"),
        (json!({"bool": "x"}), ".bool: expected boolean, got &{x}"),
        (json!({"struct": "x"}), ".struct: expected map, got &{x}"),
        (json!({"list": {"a": 1}}), ".list: expected list, got &{map[a:1]}"),
        (json!({"set": ["a", "a"]}), ".set: duplicate entries for key [=\"a\"]"),
        (json!({"items": [{"name": "a"}, {"name": "a"}]}), ".items: duplicate entries for key [name=\"a\"]"),
        (
            json!({"items": [{"value": 1}]}),
            ".items: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and \
             doesn't have default values for any key fields)",
        ),
        (
            json!({"items": ["x"]}),
            ".items: element 0: associative list with keys may not have non-map elements",
        ),
        (
            json!({"items": [null]}),
            ".items: element 0: associative list with keys may not have a null element",
        ),
        (json!({"set": [null]}), "associative list without keys has an element that's an explicit null"),
        (json!({"set": [["a"]]}), "not supported: associative list with lists as elements"),
        (json!({"set": [{}]}), "associative list without keys has an element that's a map type"),
        (
            json!({"string": 1, "bool": 2}),
            "errors:\n  .bool: expected boolean, got &{2}\n  .string: expected string",
        ),
    ] {
        run("wrong", &one(), vec![Fails("d", fields, want)]);
    }
}
