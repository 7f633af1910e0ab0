//! Defaults of resource.k8s.io. A taint's `timeAdded` needs a clock and is set by the API server.

use super::{Fields, each, empty, ensure, get, plain, text};

pub(super) fn apply(version: &str, kind: &str, o: &mut Fields) {
    let spec = match kind {
        "ResourceClaim" => ensure(o, "spec"),
        "ResourceClaimTemplate" => ensure(o, "spec").and_then(|s| ensure(s, "spec")),
        _ => None,
    };
    if let Some(d) = spec.and_then(|s| get(s, "devices")) {
        for r in each(d, "requests") {
            // In v1beta1 an exact request's fields stand beside its name.
            if version == "v1beta1" && empty(r, "firstAvailable") {
                request(r);
            }
            if let Some(e) = get(r, "exactly") {
                request(e);
            }
            each(r, "firstAvailable").for_each(request);
        }
    }
    if let Some(a) = get(o, "status").and_then(|s| get(s, "allocation")).and_then(|a| get(a, "devices")) {
        each(a, "results").for_each(tolerations);
    }
}

fn request(r: &mut Fields) {
    plain(r, "allocationMode", "ExactCount");
    if text(r, "allocationMode") == "ExactCount" {
        plain(r, "count", 1);
    }
    tolerations(r);
}

fn tolerations(o: &mut Fields) {
    for t in each(o, "tolerations") {
        plain(t, "operator", "Equal");
    }
}
