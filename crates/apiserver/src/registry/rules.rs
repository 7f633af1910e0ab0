//! Small facts about kinds that the generic engine asks for. Pure tables.

/// Kinds whose `metadata.generation` counts changes of the specification.
pub fn has_generation(group: &str, plural: &str, custom: bool) -> bool {
    custom
        || matches!(
            (group, plural),
            ("", "pods" | "replicationcontrollers")
                | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
                | ("batch", "jobs" | "cronjobs")
                | ("policy", "poddisruptionbudgets")
                | ("autoscaling", "horizontalpodautoscalers")
                | ("networking.k8s.io", "ingresses" | "networkpolicies" | "ingressclasses")
                | ("discovery.k8s.io", "endpointslices")
                | ("flowcontrol.apiserver.k8s.io", _)
                | ("admissionregistration.k8s.io", _)
                | ("apiextensions.k8s.io", _)
                | ("scheduling.k8s.io", "priorityclasses")
                | ("resource.k8s.io", "deviceclasses" | "resourceslices")
        )
}

/// Kinds whose generation counts changes of annotations too.
pub fn annotations_count(group: &str, plural: &str) -> bool {
    (group, plural) == ("apps", "deployments")
}

/// PUT of a missing object makes it.
pub fn create_on_update(group: &str, plural: &str) -> bool {
    matches!(
        (group, plural),
        ("", "endpoints" | "events" | "limitranges" | "services")
            | ("events.k8s.io", "events")
            | ("coordination.k8s.io", "leases")
            | ("rbac.authorization.k8s.io", _)
    )
}

/// An update may leave the resourceVersion out.
pub fn unconditional_update(group: &str, plural: &str, custom: bool) -> bool {
    !custom
        && !matches!(
            (group, plural),
            ("coordination.k8s.io", _)
                | ("apiextensions.k8s.io" | "apiregistration.k8s.io", _)
                | ("admissionregistration.k8s.io", _)
                | ("flowcontrol.apiserver.k8s.io", _)
                | ("policy", "poddisruptionbudgets")
                | ("certificates.k8s.io", "podcertificaterequests")
                | ("node.k8s.io", "runtimeclasses")
                | ("storage.k8s.io", "volumeattachments" | "csidrivers" | "csinodes")
        )
}

/// A new object keeps the status that it came with: a kubelet registers its node whole.
pub fn keeps_status(group: &str, plural: &str) -> bool {
    matches!((group, plural), ("", "nodes"))
}

/// Deleting it without a policy leaves its dependents alone.
pub fn orphans_by_default(group: &str, plural: &str) -> bool {
    matches!((group, plural), ("", "replicationcontrollers") | ("batch", "jobs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        assert!(has_generation("apps", "deployments", false));
        assert!(!has_generation("", "configmaps", false));
        assert!(has_generation("example.com", "widgets", true));
        assert!(create_on_update("rbac.authorization.k8s.io", "roles"));
        assert!(!create_on_update("", "pods"));
        assert!(!unconditional_update("coordination.k8s.io", "leases", false));
    }
}
