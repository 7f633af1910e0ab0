//! The kinds that can be asked about and read, and how a person names a thing: `pod NAME`, `pods/NAME`, `deploy/NAME`.

use api::Resource;
use api::resource::{
    CONFIG_MAPS, CRON_JOBS, CSI_NODES, DAEMON_SETS, DEPLOYMENTS, ENDPOINT_SLICES, EVENTS, JOBS, LEASES,
    LIMIT_RANGES, NAMESPACES, NETWORK_POLICIES, NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS, PODS, PRIORITY_CLASSES, REPLICA_SETS, REPLICATION_CONTROLLERS, RESOURCE_QUOTAS,
    RUNTIME_CLASSES, SECRETS, SERVICE_ACCOUNTS, SERVICES, STATEFUL_SETS, STORAGE_CLASSES,
};

/// One kind of thing.
#[derive(Debug)]
pub struct Kind {
    /// As it stands before the slash in `pod/web`.
    pub name: &'static str,
    /// Other words for it, as kubectl has them.
    also: &'static [&'static str],
    pub resource: Resource,
    /// Whether one can ask about it by name.
    pub askable: bool,
}

const fn new(name: &'static str, also: &'static [&'static str], resource: Resource, askable: bool) -> Kind {
    Kind { name, also, resource, askable }
}

const CSI_DRIVERS: Resource = Resource::new("storage.k8s.io", "v1", "csidrivers", "CSIDriver", false);
const VALIDATING: Resource = Resource::new(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    false,
);
const MUTATING: Resource = Resource::new(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    false,
);

pub static KINDS: [Kind; 30] = [
    new("pod", &["po"], PODS, true),
    new("deployment", &["deploy"], DEPLOYMENTS, true),
    new("replicaset", &["rs"], REPLICA_SETS, true),
    new("replicationcontroller", &["rc"], REPLICATION_CONTROLLERS, true),
    new("statefulset", &["sts"], STATEFUL_SETS, true),
    new("daemonset", &["ds"], DAEMON_SETS, true),
    new("job", &[], JOBS, true),
    new("cronjob", &["cj"], CRON_JOBS, true),
    new("service", &["svc"], SERVICES, true),
    new("persistentvolumeclaim", &["pvc"], PERSISTENT_VOLUME_CLAIMS, true),
    new("persistentvolume", &["pv"], PERSISTENT_VOLUMES, true),
    new("node", &["no"], NODES, true),
    new("namespace", &["ns"], NAMESPACES, true),
    new("poddisruptionbudget", &["pdb"], POD_DISRUPTION_BUDGETS, true),
    new("networkpolicy", &["netpol"], NETWORK_POLICIES, true),
    new("endpointslice", &[], ENDPOINT_SLICES, false),
    new("event", &["ev"], EVENTS, false),
    new("lease", &[], LEASES, false),
    new("configmap", &["cm"], CONFIG_MAPS, false),
    new("secret", &[], SECRETS, false),
    new("serviceaccount", &["sa"], SERVICE_ACCOUNTS, false),
    new("limitrange", &["limits"], LIMIT_RANGES, false),
    new("resourcequota", &["quota"], RESOURCE_QUOTAS, false),
    new("storageclass", &["sc"], STORAGE_CLASSES, false),
    new("priorityclass", &["pc"], PRIORITY_CLASSES, false),
    new("runtimeclass", &[], RUNTIME_CLASSES, false),
    new("csinode", &[], CSI_NODES, false),
    new("csidriver", &[], CSI_DRIVERS, false),
    new("validatingwebhookconfiguration", &[], VALIDATING, false),
    new("mutatingwebhookconfiguration", &[], MUTATING, false),
];

/// The kind that a word stands for: its name, a short name, the plural, with or without a group.
pub fn kind(word: &str) -> Option<&'static Kind> {
    let word = word.to_lowercase();
    let (word, group) = word.split_once('.').map_or((word.as_str(), None), |(w, g)| (w, Some(g)));
    KINDS.iter().find(|k| {
        (k.name == word || k.resource.plural == word || k.also.contains(&word))
            && group.is_none_or(|g| {
                g == k.resource.group || g == format!("{}.{}", k.resource.version, k.resource.group)
            })
    })
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("{0:?} is no kind that can be asked about; there are {1}")]
    Kind(String, String),
    #[error(
        "a name is missing: ask for pod NAME or deployment/NAME, or for nothing at all to hear of everything"
    )]
    Name,
    #[error("{0:?} is one word too many")]
    More(String),
}

/// What the words of a command line ask about; `None`: everything.
pub fn target(words: &[String]) -> Result<Option<(&'static Kind, String)>, TargetError> {
    let Some(first) = words.first() else { return Ok(None) };
    let (word, name, rest) = match (first.split_once('/'), words.get(1)) {
        (Some((k, n)), _) => (k, n, words.get(1..).unwrap_or_default()),
        (None, Some(n)) => (first.as_str(), n.as_str(), words.get(2..).unwrap_or_default()),
        (None, None) => (first.as_str(), "", &[][..]),
    };
    let Some(k) = kind(word).filter(|k| k.askable) else {
        let names: Vec<&str> = KINDS.iter().filter(|k| k.askable).map(|k| k.name).collect();
        return Err(TargetError::Kind(word.to_owned(), names.join(", ")));
    };
    if name.is_empty() {
        return Err(TargetError::Name);
    }
    match rest.first() {
        Some(more) => Err(TargetError::More(more.clone())),
        None => Ok(Some((k, name.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_named_as_kubectl_has_them() {
        let ask = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            target(&words).map(|t| t.map(|(k, n)| format!("{}/{n}", k.name)))
        };
        for (line, want) in [
            ("pod web", "pod/web"),
            ("pods/web", "pod/web"),
            ("po web", "pod/web"),
            ("deploy/web", "deployment/web"),
            ("deployments.apps/web", "deployment/web"),
            ("deployments.v1.apps web", "deployment/web"),
            ("PVC data", "persistentvolumeclaim/data"),
            ("node node-1", "node/node-1"),
        ] {
            assert_eq!(ask(line), Ok(Some(want.to_owned())), "{line}");
        }
        assert_eq!(ask(""), Ok(None));
        assert_eq!(ask("pod"), Err(TargetError::Name));
        assert_eq!(ask("pod/"), Err(TargetError::Name));
        assert_eq!(ask("pod a b"), Err(TargetError::More("b".into())));
        assert!(matches!(ask("ingress/x"), Err(TargetError::Kind(k, _)) if k == "ingress"));
        assert!(matches!(ask("secret/x"), Err(TargetError::Kind(..))));
        assert!(matches!(ask("pods.apps/x"), Err(TargetError::Kind(..))));
    }
}
