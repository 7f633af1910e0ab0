//! Round trips, and bytes as the original writes them.

use super::*;
use crate::schema::{Definition, Type as SchemaType, all_ids, definition};
use proptest::prelude::*;
use serde_json::json;

/// A value with every field of a definition set, a few levels deep.
fn sample(d: &Definition, depth: usize) -> Value {
    let mut o = Map::new();
    // Schemas hold themselves in a dozen places.
    let depth = if d.go_name() == "JSONSchemaProps" { depth.min(1) } else { depth };
    for f in &d.fields {
        let mut inner = &f.ty;
        while let Some(e) = inner.element() {
            inner = e;
        }
        if depth == 0 && inner.definition().is_some() {
            continue;
        }
        o.insert(f.name.to_string(), sample_of(&f.ty, depth));
    }
    Value::Object(o)
}

fn sample_of(ty: &SchemaType, depth: usize) -> Value {
    match ty {
        SchemaType::Ref(r) => sample(r.get(), depth.saturating_sub(1)),
        SchemaType::String => json!("text"),
        SchemaType::Bytes => json!("aGk="),
        SchemaType::Int32 | SchemaType::Int64 => json!(-7),
        SchemaType::Number => json!(1.5),
        SchemaType::Boolean => json!(true),
        SchemaType::Quantity => json!("1500m"),
        SchemaType::IntOrString => json!("25%"),
        SchemaType::Time => json!("2026-01-02T03:04:05Z"),
        SchemaType::MicroTime => json!("2026-01-02T03:04:05.000006Z"),
        SchemaType::Array(t) => json!([sample_of(t, depth), sample_of(t, depth)]),
        SchemaType::Map(t) => json!({"k": sample_of(t, depth), "l": sample_of(t, depth)}),
        SchemaType::SchemaOrArray => json!([{"type": "string"}]),
        SchemaType::SchemaOrBool => json!(true),
        SchemaType::SchemaOrStrings => json!(["a"]),
        _ => json!({"a": [1, null, "b"]}),
    }
}

/// Newer than the numbers at hand, so they do not travel.
fn without_number(v: &mut Value) {
    match v {
        Value::Object(o) => {
            for key in ["runningInUserNamespace", "derivedAttributes", "compatibilityGroups"] {
                o.remove(key);
            }
            o.values_mut().for_each(without_number);
        }
        Value::Array(a) => a.iter_mut().for_each(without_number),
        _ => {}
    }
}

#[test]
fn every_ga_kind_round_trips() {
    assert!(asset::count_parsed() > 3000);
    let mut kinds = 0;
    for id in all_ids() {
        let d = definition(&id).expect("definition");
        for (group, version, kind) in &d.gvks {
            let api = api_version(group, version);
            if version.contains("alpha") || version.contains("beta") || kind.as_ref() == "APIVersions" {
                continue;
            }
            if kind.ends_with("List") && group.is_empty() && id.contains("meta.v1") {
                continue;
            }
            assert!(supports(group, version, kind), "{id}");
            let mut v = sample(d, 7);
            without_number(&mut v);
            v["apiVersion"] = json!(api);
            v["kind"] = json!(kind);
            let bytes = encode(&v).unwrap_or_else(|e| panic!("{id}: {e}"));
            let mut back = decode(&bytes).unwrap_or_else(|e| panic!("{id}: {e}"));
            // Items of a list do not carry their type on the wire.
            for v in [&mut v, &mut back] {
                for item in v.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(o) = item.as_object_mut() {
                        o.remove("apiVersion");
                        o.remove("kind");
                    }
                }
            }
            strip_template_type(&mut v);
            assert_eq!(back, v, "{id}");
            kinds += 1;
        }
    }
    assert!(kinds > 100, "{kinds}");
}

/// Claim templates have a type in JSON and none on the wire.
fn strip_template_type(v: &mut Value) {
    if v["kind"] == "StatefulSetList" {
        v["items"].as_array_mut().into_iter().flatten().for_each(strip_templates);
    }
    if let Some(o) = v.get_mut("deleteOptions").and_then(Value::as_object_mut) {
        o.remove("apiVersion");
        o.remove("kind");
    }
    strip_templates(v);
}

fn strip_templates(v: &mut Value) {
    for t in v.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(o) = t.as_object_mut() {
            o.remove("apiVersion");
            o.remove("kind");
        }
    }
}

#[test]
fn the_bytes_are_the_originals() {
    let v = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let expected = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d\x0a\x03\x0a\x01a\x12\x06\x0a\x01k\x12\x01v\x1a\x00\x22\x00";
    assert_eq!(encode(&v).expect("encode"), expected);
    // As a Go client sends it: zero values of plain fields are there.
    let pod = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x17\x0a\x11\x0a\x01p\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00\x12\x00\x1a\x00\x1a\x00\x22\x00";
    let back = decode(pod).expect("decode");
    assert_eq!(back["metadata"]["name"], "p");
    assert_eq!(back["metadata"]["creationTimestamp"], Value::Null);
    assert_eq!(decode(b"{}"), Err(ProtobufError::NoMagic));
    assert!(matches!(
        encode(&json!({"apiVersion": "e.com/v1", "kind": "W"})),
        Err(ProtobufError::UnknownKind(_))
    ));
    assert!(decode_as(b"k8s\0\x12\x00", "", "v1", "Pod").is_ok());
    assert_eq!(watch_frame("ADDED", b"x")[..4], [0, 0, 0, 12]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(mut b in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut data = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12".to_vec();
        b.truncate(127);
        data.push(b.len() as u8);
        data.append(&mut b);
        let _ = decode(&data);
    }
}

#[test]
fn metrics_travel() {
    let v = json!({"kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {"name": "p"},
        "timestamp": "2026-01-02T03:04:05Z", "window": "15.034s",
        "containers": [{"name": "c", "usage": {"cpu": "5m", "memory": "1Mi"}}]});
    let back = decode(&encode(&v).expect("encoded")).expect("decoded");
    for field in ["timestamp", "window", "containers"] {
        assert_eq!(back[field], v[field]);
    }
}
