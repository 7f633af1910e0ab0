//! Conditions in the status of objects whose status the server writes itself: CustomResourceDefinitions, APIServices. Pure.

use serde_json::{Value, json};

pub struct Condition<'a> {
    pub kind: &'static str,
    pub status: bool,
    pub reason: &'static str,
    pub message: &'a str,
}

pub fn list(v: &Value) -> &[Value] {
    v.pointer("/status/conditions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub fn is_true(v: &Value, kind: &str) -> bool {
    list(v).iter().any(|c| c["type"] == kind && c["status"] == "True")
}

/// Puts a condition in place; its time moves only when its status does.
pub fn set(v: &mut Value, c: Condition<'_>, now: &str) {
    let status = if c.status { "True" } else { "False" };
    let before = list(v).iter().find(|o| o["type"] == c.kind && o["status"] == status);
    let since = before.and_then(|o| o["lastTransitionTime"].as_str()).unwrap_or(now);
    let new = json!({"type": c.kind, "status": status, "reason": c.reason, "message": c.message,
        "lastTransitionTime": since});
    let Some(o) = v.as_object_mut() else { return };
    let st = o.entry("status").or_insert_with(|| json!({}));
    if !st.is_object() {
        *st = json!({});
    }
    if !st["conditions"].is_array() {
        st["conditions"] = json!([]);
    }
    let Some(all) = st["conditions"].as_array_mut() else { return };
    match all.iter_mut().find(|o| o["type"] == c.kind) {
        Some(old) => *old = new,
        None => all.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_with_the_status() {
        let c = |status| Condition { kind: "Established", status, reason: "R", message: "m" };
        let mut v = json!({});
        set(&mut v, c(false), "t1");
        set(&mut v, c(false), "t2");
        assert_eq!(v["status"]["conditions"][0]["lastTransitionTime"], "t1");
        assert!(!is_true(&v, "Established"));
        set(&mut v, c(true), "t3");
        assert_eq!(v["status"]["conditions"][0]["lastTransitionTime"], "t3");
        assert!(is_true(&v, "Established") && list(&v).len() == 1);
    }

    #[test]
    fn all_else_is_told_anew() {
        let c = |status, reason, message| Condition { kind: "Available", status, reason, message };
        let mut v = json!({});
        set(&mut v, c(false, "A", "a"), "t1");
        set(&mut v, c(false, "B", "b"), "t2");
        assert_eq!(
            (&v["status"]["conditions"][0]["lastTransitionTime"], &v["status"]["conditions"][0]["reason"]),
            (&json!("t1"), &json!("B"))
        );
        set(&mut v, c(true, "Passed", ""), "t3");
        assert_eq!(
            v["status"]["conditions"],
            json!([{"type": "Available", "status": "True", "reason": "Passed", "message": "", "lastTransitionTime": "t3"}])
        );
    }
}
