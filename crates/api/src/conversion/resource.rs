//! resource.k8s.io/v1beta1 <-> v1: requests were flat (`exactly` did not exist), devices had their content in `basic`.

use serde_json::{Map, Value};

/// The fields of an exact request, which stand beside its name in v1beta1.
const EXACT: &[&str] = &[
    "adminAccess",
    "allocationMode",
    "capacity",
    "count",
    "derivedAttributes",
    "deviceClassName",
    "selectors",
    "tolerations",
];

fn requests(o: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    // A claim has spec.devices, a template spec.spec.devices.
    let path = if o.pointer("/spec/spec").is_some() {
        "/spec/spec/devices/requests"
    } else {
        "/spec/devices/requests"
    };
    o.pointer_mut(path).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

pub fn claim_to_v1(v: &mut Value) {
    for r in requests(v) {
        let exact: Map<String, Value> =
            EXACT.iter().filter_map(|k| Some((k.to_string(), r.remove(*k)?))).collect();
        // A request with alternatives has no exact part, but for empty fields.
        if r.get("firstAvailable").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            r.insert("exactly".into(), Value::Object(exact));
        }
    }
}

pub fn claim_from_v1(v: &mut Value) {
    for r in requests(v) {
        if let Some(Value::Object(exact)) = r.remove("exactly") {
            r.extend(exact);
        }
    }
}

fn devices(v: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    v.pointer_mut("/spec/devices")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

pub fn slice_to_v1(v: &mut Value) {
    for d in devices(v) {
        if let Some(Value::Object(basic)) = d.remove("basic") {
            d.extend(basic);
        }
    }
}

pub fn slice_from_v1(v: &mut Value) {
    for d in devices(v) {
        let name = d.remove("name");
        let basic = std::mem::take(d);
        d.extend(name.map(|n| ("name".to_string(), n)));
        d.insert("basic".into(), Value::Object(basic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_and_slices_round_trip() {
        let beta = json!({"spec": {"devices": {"requests": [
            {"name": "a", "deviceClassName": "c", "count": 1, "allocationMode": "ExactCount"},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "d"}]}]}}});
        let mut v = beta.clone();
        claim_to_v1(&mut v);
        let r = &v["spec"]["devices"]["requests"];
        assert_eq!(
            r[0],
            json!({"name": "a", "exactly": {"deviceClassName": "c", "count": 1, "allocationMode": "ExactCount"}})
        );
        assert!(r[1].get("exactly").is_none());
        claim_from_v1(&mut v);
        assert_eq!(v, beta);
        let template = json!({"spec": {"spec": beta["spec"]}});
        let mut v = template.clone();
        claim_to_v1(&mut v);
        assert!(v.pointer("/spec/spec/devices/requests/0/exactly").is_some());
        claim_from_v1(&mut v);
        assert_eq!(v, template);
        let beta = json!({"spec": {"devices": [{"name": "d", "basic": {"attributes": {"a": {"int": 1}}}}]}});
        let mut v = beta.clone();
        slice_to_v1(&mut v);
        assert_eq!(v["spec"]["devices"][0], json!({"name": "d", "attributes": {"a": {"int": 1}}}));
        slice_from_v1(&mut v);
        assert_eq!(v, beta);
    }
}
