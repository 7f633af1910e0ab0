//! Where built-in groups and versions stand in discovery: upstream's priorities. Pure.

/// Of a group version of a custom resource.
pub const CUSTOM: (i64, i64) = (1000, 100);
/// Of the group that holds APIServices; it has none itself and always comes first.
pub const OWN: i64 = 20_000;

/// Group, its priority, and the priorities of its versions.
type Row = (&'static str, i64, &'static [(&'static str, i64)]);

const TABLE: &[Row] = &[
    ("", 18_000, &[("v1", 1)]),
    ("apps", 17_800, &[("v1", 15)]),
    ("events.k8s.io", 17_750, &[("v1", 15), ("v1beta1", 5)]),
    ("authentication.k8s.io", 17_700, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("authorization.k8s.io", 17_600, &[("v1", 15)]),
    ("autoscaling", 17_500, &[("v1", 15), ("v2", 30), ("v2beta1", 9), ("v2beta2", 1)]),
    ("batch", 17_400, &[("v1", 15), ("v1beta1", 9), ("v2alpha1", 9)]),
    ("certificates.k8s.io", 17_300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("networking.k8s.io", 17_200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17_100, &[("v1", 15), ("v1beta1", 9)]),
    ("rbac.authorization.k8s.io", 17_000, &[("v1", 15)]),
    ("storage.k8s.io", 16_800, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("apiextensions.k8s.io", 16_700, &[("v1", 15)]),
    ("admissionregistration.k8s.io", 16_700, &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)]),
    ("scheduling.k8s.io", 16_600, &[("v1", 15), ("v1beta1", 9), ("v1alpha3", 3)]),
    ("coordination.k8s.io", 16_500, &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)]),
    ("node.k8s.io", 16_300, &[("v1", 15), ("v1alpha1", 1), ("v1beta1", 9)]),
    ("discovery.k8s.io", 16_200, &[("v1", 15), ("v1beta1", 12)]),
    ("resource.k8s.io", 16_200, &[("v1", 21), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)]),
    (
        "flowcontrol.apiserver.k8s.io",
        16_100,
        &[("v1", 21), ("v1beta3", 18), ("v1beta2", 15), ("v1beta1", 12)],
    ),
    ("internal.apiserver.k8s.io", 16_000, &[("v1alpha1", 9)]),
    ("storagemigration.k8s.io", 15_800, &[("v1", 15), ("v1beta1", 9)]),
    ("lifecycle.k8s.io", 15_700, &[("v1alpha1", 1)]),
    // As the metrics-server registers it.
    ("metrics.k8s.io", 100, &[("v1beta1", 100)]),
];

/// Of the group and of the version; `None` for what is not built in.
pub fn of(group: &str, version: &str) -> Option<(i64, i64)> {
    let (_, priority, versions) = TABLE.iter().find(|(g, ..)| *g == group)?;
    let (_, v) = versions.iter().find(|(v, _)| *v == version)?;
    Some((*priority, *v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_group_version_has_a_place() {
        let c = api::catalog::builtin();
        for g in c.groups().into_iter().filter(|g| *g != "apiregistration.k8s.io") {
            for v in c.group_versions(g) {
                assert!(of(g, v).is_some(), "{g}/{v}");
            }
        }
        assert_eq!(of("apps", "v9"), None);
    }
}
