//! events.k8s.io/v1 <-> core/v1 Event: the same object under other field names.

use serde_json::Value;

/// events.k8s.io name, core name.
const RENAMES: &[(&str, &str)] = &[
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn rename<'a>(v: &mut Value, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(o) = v.as_object_mut() else { return };
    for (from, to) in pairs {
        o.remove(to);
        if let Some(x) = o.remove(from) {
            o.insert(to.to_string(), x);
        }
    }
}

pub fn events_to_core(v: &mut Value) {
    rename(v, RENAMES.iter().copied());
}

pub fn core_to_events(v: &mut Value) {
    rename(v, RENAMES.iter().map(|(e, c)| (*c, *e)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_round_trips() {
        let core = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"}, "message": "m", "count": 2,
            "reportingComponent": "c", "source": {"component": "k"}, "firstTimestamp": null, "type": "Normal"});
        let mut v = core.clone();
        core_to_events(&mut v);
        assert_eq!(v["note"], "m");
        assert_eq!(v["regarding"]["kind"], "Pod");
        assert!(v.get("message").is_none());
        events_to_core(&mut v);
        assert_eq!(v, core);
    }
}
