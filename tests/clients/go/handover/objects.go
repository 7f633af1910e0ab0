package main

import (
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	flowv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
)

const space = "upstream"

var (
	made  = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	micro = metav1.NewMicroTime(time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC))
)

func ptr[T any](v T) *T { return &v }

// Metadata as upstream's server writes it.
func meta(ns, name string) metav1.ObjectMeta {
	fields := &metav1.FieldsV1{Raw: []byte(`{"f:metadata":{"f:annotations":{".":{},"f:note":{}}}}`)}
	return metav1.ObjectMeta{
		Name: name, Namespace: ns, Generation: 1, CreationTimestamp: made,
		UID:         types.UID("0b5d6e10-0000-4000-8000-" + pad(name+ns)),
		Annotations: map[string]string{"note": "quotes \" and ünïcode\n"},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "upstream", Operation: metav1.ManagedFieldsOperationUpdate,
			APIVersion: "v1", Time: &made, FieldsType: "FieldsV1", FieldsV1: fields}},
	}
}

// Twelve hexadecimal digits that follow from a name.
func pad(s string) string {
	const digits = "0123456789abcdef"
	out := []byte("000000000000")
	for i, c := range []byte(s) {
		out[i%12] = digits[(int(c)+int(out[i%12]))%16]
	}
	return string(out)
}

var labels = map[string]string{"app": "web"}
var selector = &metav1.LabelSelector{MatchLabels: labels}

func podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, SchedulerName: "default-scheduler",
		TerminationGracePeriodSeconds: ptr(int64(30)), SecurityContext: &corev1.PodSecurityContext{FSGroup: ptr(int64(0))},
		ServiceAccountName: "default", DeprecatedServiceAccount: "default", EnableServiceLinks: ptr(true),
		Tolerations: []corev1.Toleration{
			{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr(int64(300))},
			{Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr(int64(300))},
		},
		Volumes: []corev1.Volume{
			{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, DefaultMode: ptr(int32(0o644))}}},
			{Name: "e", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr(resource.MustParse("1Gi"))}}},
		},
		Containers: []corev1.Container{{
			Name: "c", Image: "registry.example.com/web:1", ImagePullPolicy: corev1.PullIfNotPresent,
			TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			Ports:        []corev1.ContainerPort{{Name: "http", ContainerPort: 80, Protocol: corev1.ProtocolTCP}},
			Env:          []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "P", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}}},
			Resources:    corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m")}, Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")}},
			VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v", ReadOnly: true}, {Name: "e", MountPath: "/e"}},
			LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}},
				TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3},
		}},
	}
}

func template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec()}
}

// Adds type and place. The key follows from the kind, with upstream's exceptions.
func builtIn(o runtime.Object, f form) entry {
	kinds, _, err := scheme.Scheme.ObjectKinds(o)
	must(err, "kind")
	gvk := kinds[0]
	o.GetObjectKind().SetGroupVersionKind(gvk)
	if m, ok := o.(metav1.Object); ok && len(m.GetManagedFields()) > 0 {
		m.GetManagedFields()[0].APIVersion = gvk.GroupVersion().String()
	}
	plural := plurals[gvk.Kind]
	if plural == "" {
		plural = strings.ToLower(gvk.Kind) + "s"
	}
	place := plural
	if special := places[plural]; special != "" {
		place = special
	}
	m := asMap(o)["metadata"].(map[string]any)
	ns, _ := m["namespace"].(string)
	key := "/registry/" + place + "/"
	if ns != "" {
		key += ns + "/"
	}
	return entry{key: key + m["name"].(string), object: o, form: f, resource: gvk.GroupVersion().WithResource(plural)}
}

var plurals = map[string]string{
	"Endpoints": "endpoints", "NetworkPolicy": "networkpolicies", "Ingress": "ingresses", "IngressClass": "ingressclasses",
	"IPAddress": "ipaddresses", "StorageClass": "storageclasses", "PriorityClass": "priorityclasses", "RuntimeClass": "runtimeclasses",
	"CSIStorageCapacity": "csistoragecapacities", "VolumeAttributesClass": "volumeattributesclasses", "DeviceClass": "deviceclasses",
	"ValidatingAdmissionPolicy": "validatingadmissionpolicies",
}

var places = map[string]string{
	"services": "services/specs", "endpoints": "services/endpoints", "nodes": "minions", "replicationcontrollers": "controllers",
	"ingresses": "ingress",
}

// What the allocators of upstream write.
func ranges() map[string]runtime.Object {
	of := func(kind string) runtime.Object {
		return &corev1.RangeAllocation{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "RangeAllocation"}, Range: kind, Data: []byte{1, 2, 3}}
	}
	return map[string]runtime.Object{
		"/registry/ranges/servicenodeports": of("30000-32767"),
		"/registry/ranges/serviceips":       of("10.96.0.0/16"),
	}
}

func entries() []entry {
	service := func(ns, name, ip string) *corev1.Service {
		return &corev1.Service{ObjectMeta: meta(ns, name), Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			IPFamilyPolicy: ptr(corev1.IPFamilyPolicySingleStack), SessionAffinity: corev1.ServiceAffinityNone, Selector: labels,
			InternalTrafficPolicy: ptr(corev1.ServiceInternalTrafficPolicyCluster), ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyCluster,
			Ports: []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromString("http"), NodePort: 30080}},
		}}
	}
	address := func(ip, ns, name string) *networkingv1.IPAddress {
		m := meta("", ip)
		m.Labels = map[string]string{"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
		return &networkingv1.IPAddress{ObjectMeta: m, Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: ns, Name: name}}}
	}
	namespace := &corev1.Namespace{ObjectMeta: meta("", space), Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}}
	namespace.Labels = map[string]string{"kubernetes.io/metadata.name": space}
	claim := corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr("fast"), VolumeMode: ptr(corev1.PersistentVolumeFilesystem),
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}
	job := batchv1.JobSpec{Parallelism: ptr(int32(1)), Completions: ptr(int32(1)), BackoffLimit: ptr(int32(6)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"batch.kubernetes.io/controller-uid": "u"}},
		ManualSelector: ptr(true), CompletionMode: ptr(batchv1.NonIndexedCompletion), Suspend: ptr(false), PodReplacementPolicy: ptr(batchv1.TerminatingOrFailed), Template: template()}
	job.Template.Labels = map[string]string{"batch.kubernetes.io/controller-uid": "u"}
	job.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	cron := *job.DeepCopy()
	cron.Selector, cron.ManualSelector, cron.Template.Labels = nil, nil, nil
	small := template()
	rules := []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"a"}}}
	subjects := []rbacv1.Subject{{Kind: "User", APIGroup: "rbac.authorization.k8s.io", Name: "ann"}}
	// Of a group that is nobody's, so that they stand in nobody's way.
	nothing := admissionv1.RuleWithOperations{Operations: []admissionv1.OperationType{admissionv1.Create},
		Rule: admissionv1.Rule{APIGroups: []string{"none.example.com"}, APIVersions: []string{"v1"}, Resources: []string{"things"}, Scope: ptr(admissionv1.AllScopes)}}
	hook := admissionv1.WebhookClientConfig{URL: ptr("https://hook.example.com/")}
	none := &metav1.LabelSelector{}
	hpa := meta(space, "new")
	old := meta(space, "old")
	lease := coordinationv1.LeaseSpec{HolderIdentity: ptr("somebody"), LeaseDurationSeconds: ptr(int32(15)), AcquireTime: &micro, RenewTime: &micro, LeaseTransitions: ptr(int32(3))}

	objects := []runtime.Object{
		namespace,
		&corev1.ConfigMap{ObjectMeta: meta(space, "c"), Data: map[string]string{"k": "v\n", "long": strings.Repeat("x", 5000)}, BinaryData: map[string][]byte{"b": {0, 255, 10}}},
		&corev1.Secret{ObjectMeta: meta(space, "s"), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"p": []byte("secret")}},
		&corev1.ServiceAccount{ObjectMeta: meta(space, "default"), AutomountServiceAccountToken: ptr(false)},
		&corev1.Node{ObjectMeta: meta("", "worker"), Spec: corev1.NodeSpec{PodCIDR: "10.244.9.0/24", PodCIDRs: []string{"10.244.9.0/24"}},
			Status: corev1.NodeStatus{Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8131408Ki")},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: made, LastTransitionTime: made, Reason: "KubeletReady"}},
				Images:     []corev1.ContainerImage{{Names: []string{"a@sha256:b"}, SizeBytes: 1 << 40}}}},
		&corev1.Pod{ObjectMeta: meta(space, "p"), Spec: podSpec(), Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable,
			Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", LastTransitionTime: made}}}},
		&corev1.PodTemplate{ObjectMeta: meta(space, "t"), Template: template()},
		&corev1.ReplicationController{ObjectMeta: meta(space, "rc"), Spec: corev1.ReplicationControllerSpec{Replicas: ptr(int32(0)), Selector: labels, Template: &small}},
		service(space, "web", "10.96.7.7"),
		&corev1.Endpoints{ObjectMeta: meta(space, "hand"), Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.7"}}, Ports: []corev1.EndpointPort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}}},
		&corev1.PersistentVolume{ObjectMeta: meta("", "pv"), Spec: corev1.PersistentVolumeSpec{Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: claim.AccessModes,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain, VolumeMode: claim.VolumeMode, PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x", Type: ptr(corev1.HostPathUnset)}}},
			Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable}},
		&corev1.PersistentVolumeClaim{ObjectMeta: meta(space, "pvc"), Spec: claim, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}},
		&corev1.LimitRange{ObjectMeta: meta(space, "l"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypePod, Max: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}}}},
		&corev1.ResourceQuota{ObjectMeta: meta(space, "q"), Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("100")}}},
		&corev1.Event{ObjectMeta: meta(space, "e.1"), InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: space, Name: "p"}, Reason: "Pulled", Message: "m", Type: "Normal", FirstTimestamp: made, LastTimestamp: made, Count: 3, Source: corev1.EventSource{Component: "kubelet"}},
		&appsv1.Deployment{ObjectMeta: meta(space, "d"), Spec: appsv1.DeploymentSpec{Replicas: ptr(int32(2)), Selector: selector, Template: template(), RevisionHistoryLimit: ptr(int32(10)), ProgressDeadlineSeconds: ptr(int32(600)),
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: ptr(intstr.FromString("25%")), MaxUnavailable: ptr(intstr.FromInt32(1))}}}},
		&appsv1.ReplicaSet{ObjectMeta: meta(space, "r"), Spec: appsv1.ReplicaSetSpec{Replicas: ptr(int32(0)), Selector: selector, Template: template()}},
		&appsv1.StatefulSet{ObjectMeta: meta(space, "ss"), Spec: appsv1.StatefulSetSpec{Replicas: ptr(int32(0)), Selector: selector, Template: template(), ServiceName: "web", PodManagementPolicy: appsv1.OrderedReadyPodManagement, RevisionHistoryLimit: ptr(int32(10)),
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr(int32(0))}}}},
		&appsv1.DaemonSet{ObjectMeta: meta(space, "ds"), Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template(), RevisionHistoryLimit: ptr(int32(10)),
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}}},
		&appsv1.ControllerRevision{ObjectMeta: meta(space, "cr"), Revision: 7, Data: runtime.RawExtension{Raw: []byte(`{"spec":{"a":[1,"x"]}}`)}},
		&batchv1.Job{ObjectMeta: meta(space, "j"), Spec: job},
		&batchv1.CronJob{ObjectMeta: meta(space, "cj"), Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *", ConcurrencyPolicy: batchv1.AllowConcurrent, Suspend: ptr(true), SuccessfulJobsHistoryLimit: ptr(int32(3)), FailedJobsHistoryLimit: ptr(int32(1)), JobTemplate: batchv1.JobTemplateSpec{Spec: cron}}},
		&autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: hpa, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"}, MinReplicas: ptr(int32(1)), MaxReplicas: 5,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr(int32(80))}}}}}},
		&networkingv1.Ingress{ObjectMeta: meta(space, "i"), Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{Host: "a.example.com", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: ptr(networkingv1.PathTypePrefix), Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}}}}}}}}}},
		&networkingv1.IngressClass{ObjectMeta: meta("", "ic"), Spec: networkingv1.IngressClassSpec{Controller: "example.com/c"}},
		&networkingv1.NetworkPolicy{ObjectMeta: meta(space, "np"), Spec: networkingv1.NetworkPolicySpec{PodSelector: *selector, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}}}}}}},
		address("10.96.7.7", space, "web"),
		&networkingv1.ServiceCIDR{ObjectMeta: meta("", "kubernetes"), Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}},
		&policyv1.PodDisruptionBudget{ObjectMeta: meta(space, "b"), Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr(intstr.FromString("50%")), Selector: selector}},
		&discoveryv1.EndpointSlice{ObjectMeta: meta(space, "sl"), AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.8"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)}, NodeName: ptr("worker")}}, Ports: []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(80)), Protocol: ptr(corev1.ProtocolTCP)}}},
		&coordinationv1.Lease{ObjectMeta: meta(space, "l"), Spec: lease},
		&rbacv1.Role{ObjectMeta: meta(space, "r"), Rules: rules},
		&rbacv1.RoleBinding{ObjectMeta: meta(space, "rb"), Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: "r"}},
		&rbacv1.ClusterRole{ObjectMeta: meta("", "upstream-role"), Rules: rules},
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta("", "upstream-binding"), Subjects: subjects, RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "upstream-role"}},
		&storagev1.StorageClass{ObjectMeta: meta("", "fast"), Provisioner: "example.com/p", Parameters: map[string]string{"a": "b"}, ReclaimPolicy: ptr(corev1.PersistentVolumeReclaimDelete), VolumeBindingMode: ptr(storagev1.VolumeBindingWaitForFirstConsumer), AllowVolumeExpansion: ptr(true)},
		&storagev1.CSIDriver{ObjectMeta: meta("", "csi.example.com"), Spec: storagev1.CSIDriverSpec{AttachRequired: ptr(true), PodInfoOnMount: ptr(false), StorageCapacity: ptr(false), RequiresRepublish: ptr(false), SELinuxMount: ptr(false), FSGroupPolicy: ptr(storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy), VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}}},
		&storagev1.CSINode{ObjectMeta: meta("", "worker"), Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "csi.example.com", NodeID: "n", TopologyKeys: []string{"zone"}, Allocatable: &storagev1.VolumeNodeResources{Count: ptr(int32(9))}}}}},
		&storagev1.VolumeAttachment{ObjectMeta: meta("", "va"), Spec: storagev1.VolumeAttachmentSpec{Attacher: "csi.example.com", NodeName: "worker", Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr("pv")}}, Status: storagev1.VolumeAttachmentStatus{Attached: true}},
		&storagev1.CSIStorageCapacity{ObjectMeta: meta(space, "sc"), StorageClassName: "fast", Capacity: ptr(resource.MustParse("5Gi")), NodeTopology: none},
		&storagev1.VolumeAttributesClass{ObjectMeta: meta("", "gold"), DriverName: "csi.example.com", Parameters: map[string]string{"iops": "9"}},
		&schedulingv1.PriorityClass{ObjectMeta: meta("", "high"), Value: 1000, PreemptionPolicy: ptr(corev1.PreemptLowerPriority), Description: "d"},
		&nodev1.RuntimeClass{ObjectMeta: meta("", "sandboxed"), Handler: "runsc", Overhead: &nodev1.Overhead{PodFixed: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("10Mi")}}},
		&certificatesv1.CertificateSigningRequest{ObjectMeta: meta("", "csr"), Spec: certificatesv1.CertificateSigningRequestSpec{Request: []byte(request), SignerName: "example.com/s", Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature}, Username: "ann", Groups: []string{"g"}, Extra: map[string]certificatesv1.ExtraValue{"k": {"v"}}}},
		&admissionv1.ValidatingWebhookConfiguration{ObjectMeta: meta("", "vw"), Webhooks: []admissionv1.ValidatingWebhook{{Name: "v.example.com", ClientConfig: hook, Rules: []admissionv1.RuleWithOperations{nothing}, FailurePolicy: ptr(admissionv1.Fail), MatchPolicy: ptr(admissionv1.Equivalent), NamespaceSelector: none, ObjectSelector: none, SideEffects: ptr(admissionv1.SideEffectClassNone), TimeoutSeconds: ptr(int32(5)), AdmissionReviewVersions: []string{"v1"}}}},
		&admissionv1.MutatingWebhookConfiguration{ObjectMeta: meta("", "mw"), Webhooks: []admissionv1.MutatingWebhook{{Name: "m.example.com", ClientConfig: hook, Rules: []admissionv1.RuleWithOperations{nothing}, FailurePolicy: ptr(admissionv1.Ignore), MatchPolicy: ptr(admissionv1.Exact), NamespaceSelector: none, ObjectSelector: none, SideEffects: ptr(admissionv1.SideEffectClassNone), TimeoutSeconds: ptr(int32(5)), AdmissionReviewVersions: []string{"v1"}, ReinvocationPolicy: ptr(admissionv1.NeverReinvocationPolicy)}}},
		&admissionv1.ValidatingAdmissionPolicy{ObjectMeta: meta("", "vap"), Spec: admissionv1.ValidatingAdmissionPolicySpec{FailurePolicy: ptr(admissionv1.Fail), MatchConstraints: &admissionv1.MatchResources{NamespaceSelector: none, ObjectSelector: none, MatchPolicy: ptr(admissionv1.Equivalent), ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: nothing}}}, Validations: []admissionv1.Validation{{Expression: "object.metadata.name != 'x'", Message: "m"}}}},
		&admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: meta("", "vapb"), Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: "vap", ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}}},
		&flowv1.FlowSchema{ObjectMeta: meta("", "fs"), Spec: flowv1.FlowSchemaSpec{PriorityLevelConfiguration: flowv1.PriorityLevelConfigurationReference{Name: "pl"}, MatchingPrecedence: 900, DistinguisherMethod: &flowv1.FlowDistinguisherMethod{Type: flowv1.FlowDistinguisherMethodByUserType}}},
		&flowv1.PriorityLevelConfiguration{ObjectMeta: meta("", "pl"), Spec: flowv1.PriorityLevelConfigurationSpec{Type: flowv1.PriorityLevelEnablementLimited, Limited: &flowv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: ptr(int32(5)), LendablePercent: ptr(int32(0)), LimitResponse: flowv1.LimitResponse{Type: flowv1.LimitResponseTypeReject}}}},
		&resourcev1.DeviceClass{ObjectMeta: meta("", "gpu"), Spec: resourcev1.DeviceClassSpec{Selectors: []resourcev1.DeviceSelector{{CEL: &resourcev1.CELDeviceSelector{Expression: "device.driver == 'd.example.com'"}}}}},
		&resourcev1.ResourceClaim{ObjectMeta: meta(space, "rc"), Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{{Name: "r", Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", AllocationMode: resourcev1.DeviceAllocationModeExactCount, Count: 1}}}}}},
		&resourcev1.ResourceSlice{ObjectMeta: meta("", "rs"), Spec: resourcev1.ResourceSliceSpec{Driver: "d.example.com", NodeName: ptr("worker"), Pool: resourcev1.ResourcePool{Name: "p", Generation: 1, ResourceSliceCount: 1}, Devices: []resourcev1.Device{{Name: "g0", Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"model": {StringValue: ptr("x")}}, Capacity: map[resourcev1.QualifiedName]resourcev1.DeviceCapacity{"mem": {Value: resource.MustParse("16Gi")}}}}}},
	}
	var out []entry
	for _, o := range objects {
		out = append(out, builtIn(o, binary))
	}

	// Stored long ago, in a version that is not the stored one any more.
	e := builtIn(&autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: old, Spec: autoscalingv1.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"}, MinReplicas: ptr(int32(1)), MaxReplicas: 5, TargetCPUUtilizationPercentage: ptr(int32(70))}}, binary)
	e.resource.Version = "v2"
	e.served = asMap(&autoscalingv2.HorizontalPodAutoscaler{TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"}, ObjectMeta: old, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d"}, MinReplicas: ptr(int32(1)), MaxReplicas: 5,
		Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr(int32(70))}}}}}})
	out = append(out, e)

	out = append(out, builtIn(&corev1.ConfigMap{ObjectMeta: meta(space, "json"), Data: map[string]string{"k": "v"}}, text))

	raw := func(key string, gvr schema.GroupVersionResource, o map[string]any) {
		out = append(out, entry{key: key, object: &unstructured.Unstructured{Object: o}, resource: gvr, form: untyped})
	}
	raw("/registry/apiextensions.k8s.io/customresourcedefinitions/things.old.example.com",
		schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}, map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": "things.old.example.com", "uid": "0b5d6e10-0000-4000-8000-0000000000c1", "generation": int64(1), "creationTimestamp": "2026-01-02T03:04:05Z"},
			"spec": map[string]any{
				"group": "old.example.com", "scope": "Namespaced", "conversion": map[string]any{"strategy": "None"},
				"names": map[string]any{"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
				"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "schema": map[string]any{
					"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
			},
			"status": map[string]any{"storedVersions": []any{"v1"}},
		})
	raw("/registry/old.example.com/things/"+space+"/t",
		schema.GroupVersionResource{Group: "old.example.com", Version: "v1", Resource: "things"}, map[string]any{
			"apiVersion": "old.example.com/v1", "kind": "Thing",
			"metadata": map[string]any{"name": "t", "namespace": space, "uid": "0b5d6e10-0000-4000-8000-0000000000c2", "generation": int64(1), "creationTimestamp": "2026-01-02T03:04:05Z"},
			"spec":     map[string]any{"size": int64(3), "tags": []any{"a", "b"}},
		})
	raw("/registry/apiregistration.k8s.io/apiservices/v1.metrics.example.com",
		schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}, map[string]any{
			"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
			"metadata": map[string]any{"name": "v1.metrics.example.com", "uid": "0b5d6e10-0000-4000-8000-0000000000c3", "creationTimestamp": "2026-01-02T03:04:05Z"},
			"spec": map[string]any{"group": "metrics.example.com", "version": "v1", "groupPriorityMinimum": int64(100), "versionPriority": int64(100),
				"insecureSkipTLSVerify": true, "service": map[string]any{"namespace": space, "name": "web", "port": int64(443)}},
		})
	return out
}

// A request for a certificate, of a key that is not kept.
const request = `-----BEGIN CERTIFICATE REQUEST-----
MIHIMHACAQAwDjEMMAoGA1UEAwwDYW5uMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAEm7atFGJjRM7skFPmwDNZG0ksO9AGwCHNrbEXyclagKjzvmxJZQgaUZ3IL2Bv
Kq6YgjM9Tp6hzVB/ZuGBcPD1K6AAMAoGCCqGSM49BAMCA0gAMEUCIDbL6Bc7sCjz
k54JMtPV0/78qR4/uKCtOxLWSnx5H7M3AiEArQDBPiJryBuUo+gLCcb0ihkfOf9r
ZJO+Pkp7uPdeSr0=
-----END CERTIFICATE REQUEST-----
`
