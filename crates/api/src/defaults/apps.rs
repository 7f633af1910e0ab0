//! Defaults of the apps group.

use serde_json::json;

use super::{Fields, core, each, ensure, get, plain, pod, pointer, text, unset};

pub(super) fn apply(kind: &str, o: &mut Fields) {
    let Some(s) = (match kind {
        "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet" => ensure(o, "spec"),
        _ => None,
    }) else {
        return;
    };
    pod::template(s);
    match kind {
        "Deployment" => deployment(s),
        "DaemonSet" => daemon_set(s),
        "StatefulSet" => stateful_set(s),
        _ => pointer(s, "replicas", 1),
    }
}

fn deployment(s: &mut Fields) {
    pointer(s, "replicas", 1);
    pointer(s, "revisionHistoryLimit", 10);
    pointer(s, "progressDeadlineSeconds", 600);
    let Some(st) = ensure(s, "strategy") else { return };
    plain(st, "type", "RollingUpdate");
    if text(st, "type") == "RollingUpdate"
        && let Some(r) = ensure(st, "rollingUpdate")
    {
        pointer(r, "maxUnavailable", "25%");
        pointer(r, "maxSurge", "25%");
    }
}

fn daemon_set(s: &mut Fields) {
    pointer(s, "revisionHistoryLimit", 10);
    let Some(st) = ensure(s, "updateStrategy") else { return };
    plain(st, "type", "RollingUpdate");
    if text(st, "type") == "RollingUpdate"
        && let Some(r) = ensure(st, "rollingUpdate")
    {
        pointer(r, "maxUnavailable", 1);
        pointer(r, "maxSurge", 0);
    }
}

fn stateful_set(s: &mut Fields) {
    plain(s, "podManagementPolicy", "OrderedReady");
    pointer(s, "replicas", 1);
    pointer(s, "revisionHistoryLimit", 10);
    if unset(s, "persistentVolumeClaimRetentionPolicy") {
        s.insert("persistentVolumeClaimRetentionPolicy".into(), json!({}));
    }
    if let Some(p) = get(s, "persistentVolumeClaimRetentionPolicy") {
        plain(p, "whenDeleted", "Retain");
        plain(p, "whenScaled", "Retain");
    }
    for c in each(s, "volumeClaimTemplates") {
        core::claim_type(c);
        core::claim(c);
    }
    let Some(st) = ensure(s, "updateStrategy") else { return };
    if text(st, "type").is_empty() {
        st.insert("type".into(), "RollingUpdate".into());
        ensure(st, "rollingUpdate");
    }
    if text(st, "type") == "RollingUpdate"
        && let Some(r) = get(st, "rollingUpdate")
    {
        pointer(r, "partition", 0);
    }
}
