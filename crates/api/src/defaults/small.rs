//! Defaults of groups with a line or two: authentication, certificates, discovery, scheduling, apiregistration.

use super::{Fields, each, ensure, get, pointer};

pub(super) fn apply(group: &str, kind: &str, o: &mut Fields) {
    match (group, kind) {
        ("authentication.k8s.io", "TokenRequest") => {
            if let Some(s) = ensure(o, "spec") {
                pointer(s, "expirationSeconds", 3600);
            }
        }
        ("certificates.k8s.io", "PodCertificateRequest") => {
            if let Some(s) = ensure(o, "spec") {
                pointer(s, "maxExpirationSeconds", 86400);
            }
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            for p in each(o, "ports") {
                pointer(p, "name", "");
                pointer(p, "protocol", "TCP");
            }
        }
        ("scheduling.k8s.io", "PriorityClass") => pointer(o, "preemptionPolicy", "PreemptLowerPriority"),
        ("apiregistration.k8s.io", "APIService") => {
            if let Some(s) = get(o, "spec").and_then(|s| get(s, "service")) {
                pointer(s, "port", 443);
            }
        }
        _ => {}
    }
}
