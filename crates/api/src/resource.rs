//! Names of the resources that Kelson's own components use: the one place where a loop or plugin takes them from.

use std::borrow::Cow;

/// A group, version and resource as they stand in a URL path, with the kind that a body carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group, empty for the core group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    /// Plural, lower-case name, as in the URL.
    pub plural: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub namespaced: bool,
}

impl Resource {
    pub const fn new(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
        kind: &'static str,
        namespaced: bool,
    ) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            plural: Cow::Borrowed(plural),
            kind: Cow::Borrowed(kind),
            namespaced,
        }
    }

    /// `v1` for the core group, `group/version` otherwise.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The URL path of the collection, or of one object, or of a subresource of it. `namespace` empty means all
    /// namespaces (or a cluster-scoped resource).
    pub fn path(&self, namespace: &str, name: Option<&str>, subresource: Option<&str>) -> String {
        let mut p = String::with_capacity(96);
        if self.group.is_empty() {
            p.push_str("/api/");
        } else {
            p.push_str("/apis/");
            p.push_str(&self.group);
            p.push('/');
        }
        p.push_str(&self.version);
        if self.namespaced && !namespace.is_empty() {
            p.push_str("/namespaces/");
            p.push_str(namespace);
        }
        p.push('/');
        p.push_str(&self.plural);
        for part in [name, subresource].into_iter().flatten() {
            p.push('/');
            p.push_str(part);
        }
        p
    }
}

macro_rules! resources {
    ($($konst:ident = $group:literal / $version:literal, $plural:literal, $kind:literal, $ns:literal;)*) => {
        $(pub const $konst: Resource = Resource::new($group, $version, $plural, $kind, $ns);)*
    };
}

resources! {
    PODS = "" / "v1", "pods", "Pod", true;
    NODES = "" / "v1", "nodes", "Node", false;
    NAMESPACES = "" / "v1", "namespaces", "Namespace", false;
    SERVICES = "" / "v1", "services", "Service", true;
    ENDPOINTS = "" / "v1", "endpoints", "Endpoints", true;
    CONFIG_MAPS = "" / "v1", "configmaps", "ConfigMap", true;
    SECRETS = "" / "v1", "secrets", "Secret", true;
    CLUSTER_TRUST_BUNDLES = "certificates.k8s.io" / "v1", "clustertrustbundles", "ClusterTrustBundle", false;
    CERTIFICATE_REQUESTS = "certificates.k8s.io" / "v1", "certificatesigningrequests", "CertificateSigningRequest", false;
    SUBJECT_ACCESS_REVIEWS = "authorization.k8s.io" / "v1", "subjectaccessreviews", "SubjectAccessReview", false;
    POD_CERTIFICATE_REQUESTS = "certificates.k8s.io" / "v1", "podcertificaterequests", "PodCertificateRequest", true;
    EVENTS = "" / "v1", "events", "Event", true;
    SERVICE_ACCOUNTS = "" / "v1", "serviceaccounts", "ServiceAccount", true;
    RESOURCE_QUOTAS = "" / "v1", "resourcequotas", "ResourceQuota", true;
    LIMIT_RANGES = "" / "v1", "limitranges", "LimitRange", true;
    PERSISTENT_VOLUMES = "" / "v1", "persistentvolumes", "PersistentVolume", false;
    PERSISTENT_VOLUME_CLAIMS = "" / "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true;
    REPLICATION_CONTROLLERS = "" / "v1", "replicationcontrollers", "ReplicationController", true;
    POD_TEMPLATES = "" / "v1", "podtemplates", "PodTemplate", true;
    DEPLOYMENTS = "apps" / "v1", "deployments", "Deployment", true;
    REPLICA_SETS = "apps" / "v1", "replicasets", "ReplicaSet", true;
    STATEFUL_SETS = "apps" / "v1", "statefulsets", "StatefulSet", true;
    DAEMON_SETS = "apps" / "v1", "daemonsets", "DaemonSet", true;
    CONTROLLER_REVISIONS = "apps" / "v1", "controllerrevisions", "ControllerRevision", true;
    JOBS = "batch" / "v1", "jobs", "Job", true;
    CRON_JOBS = "batch" / "v1", "cronjobs", "CronJob", true;
    LEASES = "coordination.k8s.io" / "v1", "leases", "Lease", true;
    ENDPOINT_SLICES = "discovery.k8s.io" / "v1", "endpointslices", "EndpointSlice", true;
    EVENTS_V1 = "events.k8s.io" / "v1", "events", "Event", true;
    PRIORITY_CLASSES = "scheduling.k8s.io" / "v1", "priorityclasses", "PriorityClass", false;
    POD_DISRUPTION_BUDGETS = "policy" / "v1", "poddisruptionbudgets", "PodDisruptionBudget", true;
    ROLES = "rbac.authorization.k8s.io" / "v1", "roles", "Role", true;
    ROLE_BINDINGS = "rbac.authorization.k8s.io" / "v1", "rolebindings", "RoleBinding", true;
    CLUSTER_ROLES = "rbac.authorization.k8s.io" / "v1", "clusterroles", "ClusterRole", false;
    CLUSTER_ROLE_BINDINGS = "rbac.authorization.k8s.io" / "v1", "clusterrolebindings", "ClusterRoleBinding", false;
    NETWORK_POLICIES = "networking.k8s.io" / "v1", "networkpolicies", "NetworkPolicy", true;
    HORIZONTAL_POD_AUTOSCALERS = "autoscaling" / "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true;
    POD_METRICS = "metrics.k8s.io" / "v1beta1", "pods", "PodMetrics", true;
    IP_ADDRESSES = "networking.k8s.io" / "v1", "ipaddresses", "IPAddress", false;
    SERVICE_CIDRS = "networking.k8s.io" / "v1", "servicecidrs", "ServiceCIDR", false;
    STORAGE_CLASSES = "storage.k8s.io" / "v1", "storageclasses", "StorageClass", false;
    CSI_NODES = "storage.k8s.io" / "v1", "csinodes", "CSINode", false;
    VOLUME_ATTACHMENTS = "storage.k8s.io" / "v1", "volumeattachments", "VolumeAttachment", false;
    CUSTOM_RESOURCE_DEFINITIONS = "apiextensions.k8s.io" / "v1", "customresourcedefinitions", "CustomResourceDefinition", false;
    RUNTIME_CLASSES = "node.k8s.io" / "v1", "runtimeclasses", "RuntimeClass", false;
}
