//! Kinds of resource.k8s.io.

use super::row::{Row, len, since};

pub fn kind(kind: &str) -> Option<super::Kind> {
    Some(match kind {
        "DeviceClass" | "ResourceClaimTemplate" => ("Name:n,Age", |r| {
            r.name();
            r.age();
        }),
        "ResourceClaim" => ("Name:n,State,Age", |r| {
            r.name();
            r.text(state(r));
            r.age();
        }),
        "ResourceSlice" => ("Name:n,Node,Driver,Pool,Age", |r| {
            r.name();
            r.text_at("spec.nodeName", "");
            r.text_at("spec.driver", "");
            r.text_at("spec.pool.name", "");
            r.age();
        }),
        "DeviceTaintRule" => ("Name:n,Key,Value,Effect,TimeAdded,Age", |r| {
            r.name();
            for f in ["key", "value", "effect"] {
                r.text_at(&format!("spec.taint.{f}"), "");
            }
            let added = since(r.str("spec.taint.timeAdded"), r.now);
            r.text(added);
            r.age();
        }),
        _ => return None,
    })
}

fn state(r: &Row) -> String {
    let mut all = Vec::new();
    if r.deleting() {
        all.push("deleted");
    }
    if r.at("status.allocation").is_null() {
        if !r.deleting() {
            all.push("pending");
        }
    } else {
        all.push("allocated");
        if len(r.at("status.reservedFor")) > 0 {
            all.push("reserved");
        }
    }
    all.join(",")
}
