//! Rules of custom resources: where they run, what they say, what does not compile.

use super::*;
use serde_json::json;

fn run(schema: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut e = ErrorList::new();
    Rules::compile(schema, true).run(new, old, &mut e);
    e.iter().map(ToString::to_string).collect()
}

fn schema(rules: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": rules, "properties": {
        "min": {"type": "integer"}, "max": {"type": "integer"}, "mode": {"type": "string", "x-kubernetes-validations": [
            {"rule": "self == oldSelf", "message": "mode is immutable"}]},
        "my-list": {"type": "array", "items": {"type": "string"}}, "any": {"x-kubernetes-int-or-string": true},
        "when": {"type": "string", "format": "date-time"},
        "by": {"type": "object", "additionalProperties": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object",
            "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "fieldPath": ".v", "reason": "FieldValueForbidden", "message": "v only grows"}],
            "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}}}}}})
}

#[test]
fn rules_run_where_they_stand() {
    let s = schema(json!([
        {"rule": "self.min <= self.max", "messageExpression": "'min %d is above max %d'.format([self.min, self.max])"},
        {"rule": "!has(self.my__dash__list) || self.my__dash__list.all(x, x.size() < 3)"}]));
    let cases = [
        (json!({"min": 1, "max": 2}), vec![]),
        (json!({"min": 3, "max": 2}), vec!["spec: Invalid value: \"object\": min 3 is above max 2"]),
        (
            json!({"min": 1}),
            vec!["spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max"],
        ),
        (
            json!({"min": 1, "max": 1, "my-list": ["abc"], "by": {"x": 0}}),
            vec![
                "spec: Invalid value: \"object\": failed rule: !has(self.my__dash__list) || self.my__dash__list.all(x, x.size() < 3)",
                "spec.by[x]: Invalid value: \"integer\": failed rule: self > 0",
            ],
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(run(&s, &json!({"spec": spec}), None), wanted, "{spec}");
    }
}

#[test]
fn rules_about_changes_need_an_old_value() {
    let s = schema(json!([]));
    let old = json!({"spec": {"mode": "a", "keyed": [{"k": "x", "v": 2}]}});
    assert_eq!(run(&s, &old, None), [""; 0]);
    let new = json!({"spec": {"mode": "b", "keyed": [{"k": "y", "v": 0}, {"k": "x", "v": 1}]}});
    assert_eq!(
        run(&s, &new, Some(&old)),
        [
            "spec.keyed[1].v: Forbidden: v only grows",
            "spec.mode: Invalid value: \"string\": mode is immutable",
        ]
    );
    let s = schema(
        json!([{"rule": "oldSelf.hasValue() || self.min == 1", "optionalOldSelf": true, "message": "starts at 1"}]),
    );
    assert_eq!(run(&s, &json!({"spec": {"min": 2}}), None), ["spec: Invalid value: \"object\": starts at 1"]);
    assert_eq!(run(&s, &json!({"spec": {"min": 3}}), Some(&json!({"spec": {"min": 2}}))), [""; 0]);
}

#[test]
fn what_does_not_compile_is_told_with_the_definition() {
    let told = |rule: Value, alone: Option<&Path>| {
        let s = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": [rule]});
        let mut e = ErrorList::new();
        check_texts(&At::root(&s), &mut e);
        if e.is_empty() {
            let site =
                Site { whole: true, alone, sizes: None, times: Some(1), tolerated: false, newer: false };
            check_programs(&At::root(&s), site, &mut Total::default(), &mut e);
        }
        e.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(told(json!({"rule": "self.n > 1 && self.metadata.name != 'x'", "fieldPath": ".n"}), None), "");
    let e = told(json!({"rule": "self.m > 1"}), None);
    assert!(e.starts_with(r#"x-kubernetes-validations[0].rule: Invalid value: {"Rule":"self.m \u003e 1","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}: compilation failed: ERROR: <input>:1:5: undefined field 'm'"#), "{e}");
    let all = [
        (
            json!({"rule": "self.n"}),
            "rule: Invalid value: {\"Rule\":\"self.n\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: cel expression must evaluate to a bool",
        ),
        (
            json!({"rule": "[1].includes(self.n)"}),
            ": compilation failed: ERROR: <input>:1:13: undeclared reference to 'includes' (in container '')",
        ),
        (
            json!({"rule": "cel.bind(v, 1, v > 0)"}),
            ": compilation failed: ERROR: <input>:1:1: undeclared reference to 'cel' (in container '')",
        ),
        (
            json!({"rule": "true", "messageExpression": "self.m"}),
            ": messageExpression compilation failed: ERROR: <input>:1:5: undefined field 'm'",
        ),
        (json!({"rule": ""}), "rule: Required value: rule is not specified"),
        (json!({"rule": "true", "messageExpression": "1"}), ": messageExpression must evaluate to a string"),
        (
            json!({"rule": "true", "message": " "}),
            "message: Invalid value: \" \": must be non-empty if specified",
        ),
        (json!({"rule": "true\n||false"}), "message must be specified if rule contains line breaks"),
        (
            json!({"rule": "true", "fieldPath": ".m"}),
            "fieldPath: Invalid value: \".m\": must be a valid path",
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            "Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
        (
            json!({"rule": "self == oldSelf"}),
            "oldSelf cannot be used on the uncorrelatable portion of the schema within a.b",
        ),
    ];
    let (a, alone) = (Path::new("a"), "b");
    for (rule, why) in all {
        let e = told(rule.clone(), Some(&a.child(alone)));
        assert!(e.contains(why), "{rule}: {e}");
    }
}

#[test]
fn names_are_escaped() {
    let all = [
        ("a-b", Some("a__dash__b")),
        ("namespace", Some("__namespace__")),
        ("a.b/c", Some("a__dot__b__slash__c")),
        ("a__b", Some("a__underscores__b")),
        ("1a", None),
        ("a b", None),
    ];
    for (name, wanted) in all {
        assert_eq!(escape(name).as_deref(), wanted);
    }
}
