//! ConversionReview: objects to a webhook and back, and what of the answer counts. Only `convert` does IO.
//! https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#webhook-conversion

use std::time::Duration;

use api::catalog::custom::Converter;
use api::validation::at::At;
use api::validation::{ErrorList, meta};
use patch::go_type;
use serde_json::{Map, Value, json};

use crate::{Reader, webhook};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Objects in one review, and their bytes beyond which no more are added: the answer has a limit too.
const OBJECTS: usize = 500;
const BYTES: usize = 1 << 20;

fn text<'a>(v: &'a Value, pointer: &str) -> &'a str {
    v.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `example.com/v1, Kind=Widget`
fn gvk(v: &Value) -> String {
    format!("{}, Kind={}", text(v, "/apiVersion"), text(v, "/kind"))
}

/// Objects as `wanted` (an apiVersion) has them, in the same order.
pub async fn convert(
    reader: &dyn Reader,
    converter: &Converter,
    wanted: &str,
    objects: Vec<Value>,
) -> Result<Vec<Value>, String> {
    let Some(review) = converter.review else { return Err("no supported conversion review versions".into()) };
    let mut out = Vec::with_capacity(objects.len());
    let mut batch = Vec::new();
    let mut bytes = 0;
    for o in objects {
        let size = o.to_string().len();
        if !batch.is_empty() && (batch.len() >= OBJECTS || bytes + size > BYTES) {
            out.append(&mut ask(reader, converter, review, wanted, std::mem::take(&mut batch)).await?);
            bytes = 0;
        }
        bytes += size;
        batch.push(o);
    }
    if !batch.is_empty() {
        out.append(&mut ask(reader, converter, review, wanted, batch).await?);
    }
    Ok(out)
}

async fn ask(
    reader: &dyn Reader,
    converter: &Converter,
    review: &str,
    wanted: &str,
    objects: Vec<Value>,
) -> Result<Vec<Value>, String> {
    let uid = uuid::Uuid::new_v4().to_string();
    let api_version = format!("apiextensions.k8s.io/{review}");
    let mut body = json!({"apiVersion": api_version, "kind": "ConversionReview",
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": objects}});
    let answer = webhook::post_review(reader, &converter.client, &body, TIMEOUT).await;
    let sent = match body["request"]["objects"].take() {
        Value::Array(a) => a,
        _ => Vec::new(),
    };
    judged(review, &uid, wanted, &sent, answer)
}

/// What an answer's objects are, if they may be: the same ones as `sent`, in the same order.
pub fn judged(
    review: &str,
    uid: &str,
    wanted: &str,
    sent: &[Value],
    answer: Result<Value, String>,
) -> Result<Vec<Value>, String> {
    let what = format!("conversion webhook for {}", sent.first().map(gvk).unwrap_or_default());
    let answer = answer.map_err(|e| format!("{what} failed: {e}"))?;
    let converted = read(review, uid, answer).map_err(|e| format!("{what} failed: {e}"))?;
    if converted.len() != sent.len() {
        return Err(format!("{what} returned {} objects, expected {}", converted.len(), sent.len()));
    }
    let several = sent.len() > 1;
    let pairs = sent.iter().zip(converted).enumerate();
    let accepted = pairs.map(|(i, (original, v))| accept(wanted, original, v, several.then_some(i)));
    accepted.map(|r| r.map_err(|e| format!("{what} returned {e}"))).collect()
}

/// The converted objects of an answer.
fn read(review: &str, uid: &str, mut answer: Value) -> Result<Vec<Value>, String> {
    let expected = format!("apiextensions.k8s.io/{review}, Kind=ConversionReview");
    if review == "v1" && gvk(&answer) != expected {
        return Err(format!("expected webhook response of {expected}, got {}", gvk(&answer)));
    }
    // An index into what is no object would panic.
    let Some(response) = answer.get_mut("response").filter(|r| r.is_object()) else {
        return Err("no response provided".into());
    };
    let got = text(response, "/uid");
    if review == "v1" && got != uid {
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    let status = text(response, "/result/status");
    if status != "Success" {
        return Err(match text(response, "/result/message") {
            "" => format!("response.result.status was '{status}', not 'Success'"),
            m => m.to_owned(),
        });
    }
    Ok(match response.get_mut("convertedObjects").map(Value::take) {
        Some(Value::Array(a)) => a,
        _ => Vec::new(),
    })
}

/// One converted object, if it is the same one in the right version. `at` is its place, when it is one of several.
fn accept(wanted: &str, original: &Value, mut v: Value, at: Option<usize>) -> Result<Value, String> {
    let at = at.map(|i| format!(" at index {i}")).unwrap_or_default();
    let (invalid, what) = match at.is_empty() {
        true => ("invalid object".to_owned(), "invalid metadata".to_owned()),
        false => (format!("invalid converted object{at}"), format!("invalid metadata in object{at}")),
    };
    let version = text(&v, "/apiVersion");
    if version != wanted {
        let place = if at.is_empty() { " at index 0" } else { "" };
        return Err(format!(
            "{invalid}{place}: invalid groupVersion (expected {wanted}, received {version})"
        ));
    }
    let (want, got) = (text(original, "/kind"), text(&v, "/kind"));
    if want != got {
        let place = if at.is_empty() { " at index 0" } else { "" };
        return Err(format!("{invalid}{place}: invalid kind (expected {want}, received {got})"));
    }
    for (name, pointer) in
        [("name", "/metadata/name"), ("namespace", "/metadata/namespace"), ("UID", "/metadata/uid")]
    {
        let (want, got) = (text(original, pointer), text(&v, pointer));
        if want != got {
            return Err(format!("{invalid}: must have the same {name}: {want} != {got}"));
        }
    }
    restore_meta(original, &mut v).map_err(|e| format!("{what}: {e}"))?;
    Ok(v)
}

/// Metadata stays what it was; a webhook may change labels and annotations only.
fn restore_meta(original: &Value, converted: &mut Value) -> Result<(), String> {
    let answered = match converted.get_mut("metadata") {
        None => return Err("missing metadata in converted object".into()),
        Some(Value::Object(m)) => std::mem::take(m),
        Some(other) => {
            return Err(format!("invalid metadata of type {} in converted object", go_type(other)));
        }
    };
    let mut meta = original["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let new = match answered.get(field) {
            None | Some(Value::Null) => {
                meta.remove(field);
                continue;
            }
            Some(Value::Object(m)) => m,
            Some(other) => {
                return Err(format!(
                    "invalid metadata.{field} of type {} in converted object",
                    go_type(other)
                ));
            }
        };
        if let Some((k, v)) = new.iter().find(|(_, v)| !v.is_string()) {
            return Err(format!(
                "metadata.{field}[{k}] must be a string, but is {} in converted object",
                go_type(v)
            ));
        }
        if meta.get(field).and_then(Value::as_object) != Some(new) {
            check(field, new)?;
        }
        meta.insert(field.into(), Value::Object(new.clone()));
    }
    converted["metadata"] = Value::Object(meta);
    Ok(())
}

fn check(field: &str, new: &Map<String, Value>) -> Result<(), String> {
    let v = json!({"metadata": {field: new}});
    let root = At::root(&v);
    let meta = root.get("metadata");
    let mut e = ErrorList::new();
    match field {
        "labels" => meta::labels(&meta.get(field), &mut e),
        _ => meta::annotations(&meta.get(field), &mut e),
    }
    let all: Vec<String> = e.iter().map(ToString::to_string).collect();
    match all.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, name: &str) -> Value {
        json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget",
            "metadata": {"name": name, "namespace": "n", "uid": "u", "labels": {"a": "b"}, "generation": 3}, "spec": {"x": 1}})
    }

    fn answer(result: Value, objects: Vec<Value>) -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "response": {"uid": "id", "result": result, "convertedObjects": objects}})
    }

    #[test]
    fn answers() {
        let ok = answer(json!({"status": "Success"}), vec![json!(1)]);
        assert_eq!(read("v1", "id", ok.clone()), Ok(vec![json!(1)]));
        let beta = json!({"response": {"result": {"status": "Success"}, "convertedObjects": []}});
        assert_eq!(read("v1beta1", "id", beta.clone()), Ok(vec![]));
        let cases = [
            (
                beta,
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got , Kind=",
            ),
            (
                json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview"}),
                "no response provided",
            ),
            (answer(json!({"status": "Failure", "message": "no way"}), vec![]), "no way"),
            (
                answer(json!({"status": "Failure"}), vec![]),
                "response.result.status was 'Failure', not 'Success'",
            ),
            (
                json!("text"),
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got , Kind=",
            ),
        ];
        for (v, why) in cases {
            assert_eq!(read("v1", "id", v), Err(why.to_owned()));
        }
        for v in [json!("text"), json!([1]), json!({"response": 1}), Value::Null] {
            assert_eq!(read("v1beta1", "id", v), Err("no response provided".into()));
        }
        assert_eq!(read("v1", "other", ok).expect_err("uid"), "expected response.uid=\"other\", got \"id\"");
    }

    #[test]
    fn only_labels_and_annotations_may_change() {
        let old = object("v1", "a");
        let mut new = object("v2", "a");
        new["metadata"] = json!({"name": "a", "namespace": "n", "uid": "u", "annotations": {"x": "y"}, "generation": 9, "finalizers": ["f"]});
        let got = accept("example.com/v2", &old, new.clone(), None).expect("accepted");
        assert_eq!(
            got["metadata"],
            json!({"name": "a", "namespace": "n", "uid": "u", "generation": 3, "annotations": {"x": "y"}})
        );
        let with = |pointer: &str, v: Value| {
            let mut new = object("v2", "a");
            if let Some(p) = new.pointer_mut(pointer) {
                *p = v;
            }
            accept("example.com/v2", &old, new, Some(2)).expect_err("refused")
        };
        for (pointer, v, why) in [
            (
                "/apiVersion",
                json!("example.com/v3"),
                "invalid converted object at index 2: invalid groupVersion (expected example.com/v2, received example.com/v3)",
            ),
            (
                "/kind",
                json!("Other"),
                "invalid converted object at index 2: invalid kind (expected Widget, received Other)",
            ),
            (
                "/metadata/name",
                json!("b"),
                "invalid converted object at index 2: must have the same name: a != b",
            ),
            (
                "/metadata/uid",
                json!("w"),
                "invalid converted object at index 2: must have the same UID: u != w",
            ),
            (
                "/metadata/labels",
                json!({"a": 1}),
                "invalid metadata in object at index 2: metadata.labels[a] must be a string, but is int64 in converted object",
            ),
            (
                "/metadata/labels",
                json!([]),
                "invalid metadata in object at index 2: invalid metadata.labels of type []interface {} in converted object",
            ),
        ] {
            assert_eq!(with(pointer, v), why);
        }
        assert!(
            with("/metadata/labels", json!({"a b": "c"})).contains("metadata.labels: Invalid value: \"a b\"")
        );
        let mut bare = object("v2", "a");
        bare["metadata"] = json!(1);
        assert!(accept("example.com/v2", &old, bare, None).is_err());
    }
}
