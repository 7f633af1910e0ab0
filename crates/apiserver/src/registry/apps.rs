//! DaemonSets: the API counts the changes of their template in an annotation, which nobody else may write.

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Context, Extra, Strategy, status};

const GENERATION: &str = "deprecated.daemonset.template.generation";

pub struct DaemonSets;

fn set(o: &mut Value, generation: i64) {
    let Some(meta) = o.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let notes = meta.entry("annotations").or_insert_with(|| json!({}));
    if !notes.is_object() {
        *notes = json!({});
    }
    notes[GENERATION] = json!(generation.to_string());
}

fn generation(o: &Value) -> i64 {
    o["metadata"]["annotations"][GENERATION].as_str().and_then(|g| g.parse().ok()).unwrap_or(1)
}

/// Once both are in canonical form, so that another spelling of the same template is no change.
fn count(new: &mut Value, old: &Value) {
    if new["spec"]["template"] != old["spec"]["template"] {
        set(new, generation(old) + 1);
    }
}

#[async_trait]
impl Strategy for DaemonSets {
    fn prepare_create(&self, new: &mut Value) {
        status::clear_status(new);
        set(new, 1);
    }

    fn prepare_update(&self, sub: &str, new: &mut Value, old: &Value) {
        if sub.is_empty() {
            set(new, generation(old));
        }
    }

    async fn allocate(
        &self,
        _c: &Context<'_>,
        new: &mut Value,
        old: Option<&Value>,
        _extra: &mut Extra,
    ) -> Result<(), Status> {
        if let Some(old) = old {
            count(new, old);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_the_template_are_counted() {
        let mut a = json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"x": 1}}}});
        DaemonSets.prepare_create(&mut a);
        assert_eq!(generation(&a), 1);
        let mut b = a.clone();
        b["metadata"]["annotations"][GENERATION] = json!("77");
        b["spec"]["minReadySeconds"] = json!(3);
        DaemonSets.prepare_update("", &mut b, &a);
        count(&mut b, &a);
        assert_eq!(generation(&b), 1);
        let mut c = b.clone();
        c["spec"]["template"]["spec"]["x"] = json!(2);
        DaemonSets.prepare_update("", &mut c, &b);
        count(&mut c, &b);
        assert_eq!(generation(&c), 2);
    }
}
