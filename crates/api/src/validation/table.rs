//! Which rules a kind has. Metadata is checked before these. A kind that is not listed is checked against its schema.

use super::errors::ErrorList;
use super::{
    admission, autoscaling, batch, certificates, config, core, crd, endpoints, events, extensions, flow,
    networking, pod, pod_certificates, policy, rbac, service, storage, storage_migration, structural,
    workloads,
};
use serde_json::Value;

const CORE: &str = "";
const ADMISSION: &str = "admissionregistration.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const EVENTS: &str = "events.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const MIGRATION: &str = "storagemigration.k8s.io";

pub fn create(group: &str, kind: &str, o: &Value, e: &mut ErrorList) {
    match (group, kind) {
        (CORE, "Pod") => pod::create(o, e),
        (CORE, "Event") => events::event(o, e),
        (CORE, "ConfigMap") => config::config_map(o, e),
        (CORE, "Secret") => config::secret(o, e),
        (CORE, "Service") => service::create(o, e),
        (CORE, "Endpoints") => endpoints::endpoints(o, e),
        (CORE, "Node") => core::node(o, e),
        (CORE, "Namespace") => core::namespace(o, e),
        (CORE, "ServiceAccount") => {}
        (CORE, "ResourceQuota") => core::quota(o, e),
        (CORE, "LimitRange") => core::limit_range(o, e),
        (CORE, "Binding") => core::binding(o, e),
        (CORE, "PodTemplate") => workloads::pod_template(o, e),
        (CORE, "ReplicationController") => workloads::replication_controller(o, e),
        (CORE, "PersistentVolume") => storage::volume(o, e),
        (CORE, "PersistentVolumeClaim") => storage::claim(o, e),
        ("apps", "Deployment") => workloads::deployment(o, e),
        ("apps", "ReplicaSet") => workloads::replica_set(o, e),
        ("apps", "StatefulSet") => workloads::stateful_set(o, e),
        ("apps", "DaemonSet") => workloads::daemon_set(o, e),
        ("apps", "ControllerRevision") => workloads::controller_revision(o, e),
        ("batch", "Job") => batch::job(o, e),
        ("batch", "CronJob") => batch::cron_job(o, e),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::autoscaler(o, e),
        ("autoscaling", "Scale") => autoscaling::scale(o, e),
        ("policy", "PodDisruptionBudget") => policy::budget(o, e),
        ("coordination.k8s.io", "Lease") => core::lease(o, e),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::slice(o, e),
        ("scheduling.k8s.io", "PriorityClass") => policy::priority_class(o, e),
        ("node.k8s.io", "RuntimeClass") => policy::runtime_class(o, e),
        (EVENTS, "Event") => events::new_event(o, e),
        (NETWORKING, "NetworkPolicy") => networking::policy(o, e),
        (NETWORKING, "Ingress") => networking::ingress(o, e),
        (NETWORKING, "IngressClass") => networking::ingress_class(o, e),
        (NETWORKING, "IPAddress") => networking::ip_address(o, e),
        (NETWORKING, "ServiceCIDR") => networking::service_cidr(o, e),
        (RBAC, "Role" | "ClusterRole") => rbac::role(o, kind == "ClusterRole", e),
        (RBAC, "RoleBinding" | "ClusterRoleBinding") => rbac::binding(o, kind == "ClusterRoleBinding", e),
        (STORAGE, "StorageClass") => storage::storage_class(o, e),
        (STORAGE, "VolumeAttachment") => storage::attachment(o, e),
        (STORAGE, "CSIDriver") => storage::csi_driver(o, e),
        (STORAGE, "CSINode") => storage::csi_node(o, e),
        (STORAGE, "CSIStorageCapacity") => storage::capacity(o, e),
        (STORAGE, "VolumeAttributesClass") => storage::attributes_class(o, e),
        (MIGRATION, "StorageVersionMigration") => storage_migration::migration(o, e),
        (CERTIFICATES, "CertificateSigningRequest") => certificates::csr(o, e),
        (CERTIFICATES, "ClusterTrustBundle") => certificates::trust_bundle(o, e),
        (CERTIFICATES, "PodCertificateRequest") => pod_certificates::create(o, e),
        (ADMISSION, "ValidatingWebhookConfiguration") => admission::webhooks(o, false, e),
        (ADMISSION, "MutatingWebhookConfiguration") => admission::webhooks(o, true, e),
        (ADMISSION, "ValidatingAdmissionPolicy") => admission::policy(o, false, e),
        (ADMISSION, "MutatingAdmissionPolicy") => admission::policy(o, true, e),
        (ADMISSION, "ValidatingAdmissionPolicyBinding") => admission::binding(o, false, e),
        (ADMISSION, "MutatingAdmissionPolicyBinding") => admission::binding(o, true, e),
        (FLOW, "FlowSchema") => flow::schema(o, e),
        (FLOW, "PriorityLevelConfiguration") => flow::level(o, e),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crd::definition(o, e),
        ("apiregistration.k8s.io", "APIService") => extensions::api_service(o, e),
        // Reviews and token requests are questions; whoever answers checks them.
        ("authentication.k8s.io" | "authorization.k8s.io", _) => {}
        _ => structural::check(group, kind, o, e),
    }
}

pub fn update(group: &str, kind: &str, n: &Value, o: &Value, e: &mut ErrorList) {
    match (group, kind) {
        (CORE, "Pod") => pod::update(n, o, e),
        (CORE, "ConfigMap") => config::config_map_update(n, o, e),
        (CORE, "Secret") => config::secret_update(n, o, e),
        (CORE, "Service") => service::update(n, o, e),
        (CORE, "Node") => core::node_update(n, o, e),
        (CORE, "Namespace") => {}
        (CORE, "ResourceQuota") => core::quota_update(n, o, e),
        (CORE, "PersistentVolume") => storage::volume_update(n, o, e),
        (CORE, "PersistentVolumeClaim") => storage::claim_update(n, o, e),
        ("apps", "Deployment") => workloads::deployment_update(n, o, e),
        ("apps", "ReplicaSet") => workloads::replica_set_update(n, o, e),
        ("apps", "StatefulSet") => workloads::stateful_set_update(n, o, e),
        ("apps", "DaemonSet") => workloads::daemon_set_update(n, o, e),
        ("apps", "ControllerRevision") => workloads::controller_revision_update(n, o, e),
        ("batch", "Job") => batch::job_update(n, o, e),
        ("batch", "CronJob") => batch::cron_job_update(n, o, e),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::autoscaler_update(n, o, e),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::slice_update(n, o, e),
        ("scheduling.k8s.io", "PriorityClass") => policy::priority_class_update(n, o, e),
        ("node.k8s.io", "RuntimeClass") => policy::runtime_class_update(n, o, e),
        (EVENTS, "Event") => events::new_event_update(n, o, e),
        (NETWORKING, "Ingress") => networking::ingress_update(n, o, e),
        (NETWORKING, "IngressClass") => networking::ingress_class_update(n, o, e),
        (NETWORKING, "IPAddress") => networking::ip_address_update(n, o, e),
        (NETWORKING, "ServiceCIDR") => networking::service_cidr_update(n, o, e),
        (RBAC, "RoleBinding" | "ClusterRoleBinding") => {
            rbac::binding_update(n, o, kind == "ClusterRoleBinding", e);
        }
        (STORAGE, "StorageClass") => storage::storage_class_update(n, o, e),
        (STORAGE, "VolumeAttachment") => storage::attachment_update(n, o, e),
        (STORAGE, "CSIDriver") => storage::csi_driver_update(n, o, e),
        (STORAGE, "CSIStorageCapacity") => storage::capacity_update(n, o, e),
        (STORAGE, "VolumeAttributesClass") => storage::attributes_class_update(n, o, e),
        (MIGRATION, "StorageVersionMigration") => storage_migration::migration_update(n, o, e),
        (CERTIFICATES, "CertificateSigningRequest") => certificates::csr_update(n, o, "", e),
        (CERTIFICATES, "ClusterTrustBundle") => certificates::trust_bundle_update(n, o, e),
        (CERTIFICATES, "PodCertificateRequest") => pod_certificates::update(n, o, e),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crd::definition_update(n, o, e),
        _ => create(group, kind, n, e),
    }
}

pub fn update_subresource(group: &str, kind: &str, sub: &str, n: &Value, o: &Value, e: &mut ErrorList) {
    match (group, kind, sub) {
        (CORE, "Pod", "status") => pod::update_status(n, o, e),
        (CORE, "Pod", "ephemeralcontainers") => pod::ephemeral_containers(n, o, e),
        (CORE, "Pod", "resize") => pod::resize(n, o, e),
        (CORE, "Namespace", "status") => core::namespace_status(n, e),
        (CORE, "Namespace", "finalize") => core::namespace_finalize(n, e),
        (CORE, "Node", "status") => core::node_update(n, o, e),
        (CORE, "Service", "status") => service::load_balancer_status(n, true, e),
        (NETWORKING, "Ingress", "status") => service::load_balancer_status(n, false, e),
        (CORE, "ResourceQuota", "status") => core::quota_status(n, e),
        (CORE, "PersistentVolumeClaim", "status") => storage::claim_status(n, e),
        (CORE, "ReplicationController", "status") | ("apps", "ReplicaSet", "status") => {
            let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
            workloads::replica_status(n, o, &parts, e);
        }
        ("apps", "Deployment", "status") => {
            let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
            workloads::replica_status(n, o, &parts, e);
        }
        ("apps", "StatefulSet", "status") => {
            let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
            workloads::replica_status(n, o, &parts, e);
        }
        ("apps", "DaemonSet", "status") => workloads::daemon_set_status(n, o, e),
        ("batch", "Job", "status") => batch::job_status(n, o, e),
        ("autoscaling", "HorizontalPodAutoscaler", "status") => autoscaling::status(n, e),
        (FLOW, _, "status") => flow::status(n, e),
        ("policy", "PodDisruptionBudget", "status") => policy::budget_status(n, e),
        (MIGRATION, "StorageVersionMigration", "status") => storage_migration::migration_status(n, o, e),
        (CERTIFICATES, "PodCertificateRequest", "status") => pod_certificates::status(n, o, e),
        (CERTIFICATES, "CertificateSigningRequest", sub) => certificates::csr_update(n, o, sub, e),
        ("apiextensions.k8s.io", "CustomResourceDefinition", "status") => crd::definition_status(n, e),
        _ => {}
    }
}
