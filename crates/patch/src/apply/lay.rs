//! A configuration laid over an object without owners: what a mutating admission policy does.

use super::element::{PathElement, path_text};
use super::merge::merge;
use super::typed::validate;
use crate::schema::{ListOrder, Type};
use serde_json::Value;

/// The object with the configuration over it. Parts that are replaced as a whole may not be touched.
pub fn lay_over(live: &Value, config: &Value, ty: Type<'_>) -> Result<Value, String> {
    let errors = validate(config, ty);
    if !errors.is_empty() {
        return Err(format!("failed to convert patch object to typed object: {errors}"));
    }
    let mut whole = Vec::new();
    atomic(config, ty, &mut Vec::new(), &mut whole);
    if !whole.is_empty() {
        let all = whole.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {all}"
        ));
    }
    merge(live, config, ty).map_err(|e| format!("failed to merge patch: {e}"))
}

/// Paths of lists, maps and structs that merge as a whole.
fn atomic(v: &Value, ty: Type<'_>, path: &mut Vec<PathElement>, out: &mut Vec<String>) {
    let atom = ty.atom();
    match v {
        Value::Object(fields) => {
            let Some(map) = atom.map else { return };
            if map.atomic {
                out.push(path_text(path));
            }
            for (name, x) in fields {
                if let Some(t) = map.child(name) {
                    path.push(PathElement::field(name));
                    atomic(x, t, path, out);
                    path.pop();
                }
            }
        }
        Value::Array(items) => {
            let Some(list) = atom.list else { return };
            if matches!(list.order, ListOrder::Atomic) {
                out.push(path_text(path));
            }
            for (i, x) in items.iter().enumerate() {
                path.push(PathElement::Index(i as i64));
                atomic(x, list.element, path, out);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(live: Value, config: Value) -> Result<Value, String> {
        let d = api::schema::definition_for("apps", "v1", "Deployment").expect("deployment");
        lay_over(&live, &config, Type::of(d))
    }

    #[test]
    fn keyed_lists_merge_and_atomic_ones_are_refused() {
        let live = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}}});
        let config = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"replicas": 2, "template": {"spec": {"containers": [
            {"name": "a", "imagePullPolicy": "Always"}, {"name": "b", "image": "j"}]}}}});
        assert_eq!(
            deployment(live.clone(), config),
            Ok(
                json!({"metadata": {"labels": {"x": "y"}}, "spec": {"replicas": 2, "template": {"spec": {"containers": [
                {"name": "a", "image": "i", "imagePullPolicy": "Always"}, {"name": "b", "image": "j"}]}}}})
            )
        );
        let whole = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "args": ["x"]}], "nodeSelector": {"a": "b"}}}}});
        let e = deployment(live.clone(), whole).expect_err("atomic");
        assert!(e.starts_with("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.containers[0].args"), "{e}");
        assert!(e.ends_with(".spec.template.spec.nodeSelector"), "{e}");
        let e = deployment(live, json!({"spec": {"nothing": 1}})).expect_err("unknown");
        assert!(e.contains(".spec.nothing: field not declared in schema"), "{e}");
    }
}
