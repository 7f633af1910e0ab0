//! Defaults of flowcontrol.apiserver.k8s.io.

use super::{Fields, ensure, get, plain, pointer, text};

pub(super) fn apply(kind: &str, o: &mut Fields) {
    let Some(s) = ensure(o, "spec") else { return };
    match kind {
        "FlowSchema" => plain(s, "matchingPrecedence", 1000),
        "PriorityLevelConfiguration" => {
            if let Some(e) = get(s, "exempt") {
                pointer(e, "nominalConcurrencyShares", 0);
                pointer(e, "lendablePercent", 0);
            }
            let Some(l) = get(s, "limited") else { return };
            pointer(l, "nominalConcurrencyShares", 30);
            pointer(l, "lendablePercent", 0);
            if let Some(r) = ensure(l, "limitResponse")
                && text(r, "type") == "Queue"
                && let Some(q) = get(r, "queuing")
            {
                plain(q, "queues", 64);
                plain(q, "handSize", 8);
                plain(q, "queueLengthLimit", 50);
            }
        }
        _ => {}
    }
}
