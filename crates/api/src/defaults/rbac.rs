//! Defaults of rbac.authorization.k8s.io.

use super::{Fields, each, ensure, plain, text};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn apply(kind: &str, o: &mut Fields) {
    if !matches!(kind, "RoleBinding" | "ClusterRoleBinding") {
        return;
    }
    if let Some(r) = ensure(o, "roleRef") {
        plain(r, "apiGroup", GROUP);
    }
    for s in each(o, "subjects") {
        if matches!(text(s, "kind"), "User" | "Group") {
            plain(s, "apiGroup", GROUP);
        }
    }
}
