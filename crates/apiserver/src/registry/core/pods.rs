//! Pods: first status, QoS class, grace of a deletion, and what each subresource may change.

use api::quantity::Quantity;
use serde_json::{Value, json};

use crate::registry::{Grace, Strategy};

pub struct Pods;

/// `Guaranteed`, `Burstable` or `BestEffort`, from the requests and limits of CPU and memory.
pub fn qos_class(spec: &Value) -> &'static str {
    let nonzero = |v: &Value| {
        let s = match v {
            Value::String(s) => s.clone(),
            Value::Number(n) => n.to_string(),
            _ => return false,
        };
        Quantity::parse(&s).is_ok_and(|q| !q.is_zero())
    };
    let resources: Vec<&Value> =
        if spec["resources"]["requests"].is_object() || spec["resources"]["limits"].is_object() {
            vec![&spec["resources"]]
        } else {
            ["containers", "initContainers"]
                .iter()
                .filter_map(|k| spec[*k].as_array())
                .flatten()
                .map(|c| &c["resources"])
                .collect()
        };
    let (mut any, mut guaranteed) = (false, true);
    for r in &resources {
        for kind in ["cpu", "memory"] {
            let (req, lim) = (&r["requests"][kind], &r["limits"][kind]);
            any |= nonzero(req) || nonzero(lim);
            // A request that is left out is the limit.
            guaranteed &= nonzero(lim) && (req.is_null() || same(req, lim));
        }
    }
    match (any, guaranteed && !resources.is_empty()) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn same(a: &Value, b: &Value) -> bool {
    let q = |v: &Value| match v {
        Value::String(s) => Quantity::parse(s).ok(),
        Value::Number(n) => Quantity::parse(&n.to_string()).ok(),
        _ => None,
    };
    match (q(a), q(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

impl Strategy for Pods {
    fn prepare_create(&self, new: &mut Value) {
        let qos = qos_class(&new["spec"]);
        let gates = new["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty());
        if let Some(o) = new.as_object_mut() {
            let mut status = json!({"phase": "Pending", "qosClass": qos});
            if gates {
                status["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates"}]);
            }
            o.insert("status".into(), status);
        }
    }

    fn prepare_update(&self, sub: &str, new: &mut Value, old: &Value) {
        match sub {
            "ephemeralcontainers" => {
                let ec = new["spec"]["ephemeralContainers"].take();
                let meta = new["metadata"].take();
                *new = old.clone();
                new["metadata"] = with_old(meta, &old["metadata"]);
                if !ec.is_null() {
                    new["spec"]["ephemeralContainers"] = ec;
                }
            }
            "resize" => {
                let sent = new["spec"].take();
                let meta = new["metadata"].take();
                *new = old.clone();
                new["metadata"] = with_old(meta, &old["metadata"]);
                for list in ["containers", "initContainers"] {
                    new["spec"][list] = resized(&sent[list], &old["spec"][list]);
                    if new["spec"][list].is_null() {
                        new["spec"].as_object_mut().map(|s| s.remove(list));
                    }
                }
                if sent.get("resources").is_some() {
                    new["spec"]["resources"] = sent["resources"].clone();
                }
            }
            // The class is decided once.
            "status" => {
                if let (Some(s), Some(q)) = (new["status"].as_object_mut(), old["status"].get("qosClass")) {
                    s.entry("qosClass").or_insert_with(|| q.clone());
                }
            }
            _ => {}
        }
    }

    fn grace(&self, pod: &Value, asked: Option<i64>) -> Grace {
        let mut period = match asked {
            Some(s) => s,
            None => pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0),
        };
        if period < 0 {
            period = 1;
        }
        // Nothing runs before it is bound, and nothing runs any more after the end.
        let unbound = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
        let over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        Grace::Seconds(if unbound || over { 0 } else { period })
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() {
            return Vec::new();
        }
        let mut out = Vec::new();
        let deprecated = [
            ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
            ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ];
        for (k, instead) in deprecated {
            if new["spec"]["nodeSelector"].get(k).is_some() {
                out.push(format!(
                    "spec.nodeSelector[{k}]: deprecated since v1.14; use \"{instead}\" instead"
                ));
            }
        }
        out
    }
}

/// The old containers with the sizes that were sent; what is not the same list is left for validation to refuse.
fn resized(sent: &Value, old: &Value) -> Value {
    let (Some(theirs), Some(own)) = (sent.as_array(), old.as_array()) else { return sent.clone() };
    let same = theirs.len() == own.len() && theirs.iter().zip(own).all(|(a, b)| a["name"] == b["name"]);
    if !same {
        return sent.clone();
    }
    let mut out = own.clone();
    for (c, t) in out.iter_mut().zip(theirs) {
        let Some(c) = c.as_object_mut() else { continue };
        for k in ["resources", "resizePolicy"] {
            match t.get(k) {
                Some(v) => c.insert(k.into(), v.clone()),
                None => c.remove(k),
            };
        }
    }
    Value::Array(out)
}

/// Metadata as sent, except managedFields bookkeeping and system fields, which `meta::kept` has set already.
fn with_old(sent: Value, old: &Value) -> Value {
    let mut m = old.clone();
    for k in ["managedFields", "resourceVersion"] {
        match sent.get(k) {
            Some(v) => m[k] = v.clone(),
            None => {
                m.as_object_mut().map(|m| m.remove(k));
            }
        }
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let c = |r: Value| json!({"containers": [{"name": "a", "resources": r}]});
        assert_eq!(qos_class(&c(json!({}))), "BestEffort");
        assert_eq!(qos_class(&c(json!({"requests": {"cpu": "1"}}))), "Burstable");
        assert_eq!(qos_class(&c(json!({"limits": {"cpu": "1", "memory": "1Gi"}}))), "Guaranteed");
        let same = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
        assert_eq!(qos_class(&c(same)), "Guaranteed");
        assert_eq!(
            qos_class(&c(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}))),
            "Burstable"
        );
    }

    #[test]
    fn grace_periods() {
        let p = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
        assert_eq!(Pods.grace(&p("n", "Running"), None), Grace::Seconds(30));
        assert_eq!(Pods.grace(&p("n", "Running"), Some(5)), Grace::Seconds(5));
        assert_eq!(Pods.grace(&p("n", "Running"), Some(-1)), Grace::Seconds(1));
        assert_eq!(Pods.grace(&p("", "Pending"), None), Grace::Seconds(0));
        assert_eq!(Pods.grace(&p("n", "Succeeded"), None), Grace::Seconds(0));
    }

    #[test]
    fn a_resize_changes_sizes_only() {
        let c = |name: &str, image: &str, cpu: &str| json!({"name": name, "image": image, "resources": {"requests": {"cpu": cpu}}});
        let old = json!({"metadata": {}, "spec": {"nodeName": "n", "containers": [c("a", "i", "1")]}});
        let mut new = json!({"metadata": {}, "spec": {"nodeName": "m", "containers": [c("a", "j", "2")]}});
        Pods.prepare_update("resize", &mut new, &old);
        assert_eq!(new["spec"], json!({"nodeName": "n", "containers": [c("a", "i", "2")]}));
        let mut new = json!({"metadata": {}, "spec": {"containers": [c("b", "i", "2")]}});
        Pods.prepare_update("resize", &mut new, &old);
        assert_eq!(new["spec"]["containers"][0]["name"], "b");
    }

    #[test]
    fn ephemeral_containers_change_nothing_else() {
        let old =
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        let mut new = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "m", "ephemeralContainers": [{"name": "d"}]}});
        Pods.prepare_update("ephemeralcontainers", &mut new, &old);
        assert_eq!(new["spec"], json!({"nodeName": "n", "ephemeralContainers": [{"name": "d"}]}));
        assert_eq!(new["status"]["phase"], "Running");
    }
}
