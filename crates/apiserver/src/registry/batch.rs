//! Jobs: selector and pod labels are made from the job's uid, unless its author does that.

use serde_json::{Map, Value, json};

use super::{Strategy, status};

pub struct Jobs;

fn labels(v: &mut Value) -> Option<&mut Map<String, Value>> {
    let meta =
        v.pointer_mut("/spec/template")?.as_object_mut()?.entry("metadata").or_insert_with(|| json!({}));
    if meta.is_null() {
        *meta = json!({});
    }
    let l = meta.as_object_mut()?.entry("labels").or_insert_with(|| json!({}));
    if l.is_null() {
        *l = json!({});
    }
    l.as_object_mut()
}

impl Strategy for Jobs {
    fn prepare_create(&self, new: &mut Value) {
        status::clear_status(new);
        if new.pointer("/spec/manualSelector").and_then(Value::as_bool) == Some(true) {
            return;
        }
        let uid = new["metadata"]["uid"].clone();
        let name = new["metadata"]["name"].clone();
        if let Some(l) = labels(new) {
            for key in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
                l.insert(key.into(), uid.clone());
            }
            for key in ["batch.kubernetes.io/job-name", "job-name"] {
                l.insert(key.into(), name.clone());
            }
        }
        if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut)
            && spec.get("selector").is_none_or(Value::is_null)
        {
            spec.insert(
                "selector".into(),
                json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_selects_its_own_pods() {
        let mut v = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {}}}, "status": {"active": 1}});
        Jobs.prepare_create(&mut v);
        assert_eq!(v["spec"]["selector"]["matchLabels"], json!({"batch.kubernetes.io/controller-uid": "u"}));
        assert_eq!(v["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
        assert_eq!(v["status"], json!({}));
        let mut v =
            json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"manualSelector": true, "template": {}}});
        Jobs.prepare_create(&mut v);
        assert!(v["spec"].get("selector").is_none());
    }
}
