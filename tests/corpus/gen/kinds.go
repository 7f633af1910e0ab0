package main

import (
	"maps"
	"slices"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apiserver"
	crdregistry "k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/admission/install"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	_ "k8s.io/kubernetes/pkg/apis/apiserverinternal/install"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	_ "k8s.io/kubernetes/pkg/apis/authentication/install"
	_ "k8s.io/kubernetes/pkg/apis/authorization/install"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/certificates/install"
	_ "k8s.io/kubernetes/pkg/apis/coordination/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	_ "k8s.io/kubernetes/pkg/apis/events/install"
	_ "k8s.io/kubernetes/pkg/apis/extensions/install"
	_ "k8s.io/kubernetes/pkg/apis/flowcontrol/install"
	_ "k8s.io/kubernetes/pkg/apis/imagepolicy/install"
	_ "k8s.io/kubernetes/pkg/apis/lifecycle/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/node/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	_ "k8s.io/kubernetes/pkg/apis/resource/install"
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"
	_ "k8s.io/kubernetes/pkg/apis/storage/install"
	_ "k8s.io/kubernetes/pkg/apis/storagemigration/install"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/mutatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicy"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingadmissionpolicybinding"
	"k8s.io/kubernetes/pkg/registry/admissionregistration/validatingwebhookconfiguration"
	"k8s.io/kubernetes/pkg/registry/apps/controllerrevision"
	"k8s.io/kubernetes/pkg/registry/apps/daemonset"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/replicaset"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/autoscaling/horizontalpodautoscaler"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	csr "k8s.io/kubernetes/pkg/registry/certificates/certificates"
	"k8s.io/kubernetes/pkg/registry/certificates/podcertificaterequest"
	"k8s.io/kubernetes/pkg/registry/coordination/lease"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/endpoint"
	"k8s.io/kubernetes/pkg/registry/core/event"
	"k8s.io/kubernetes/pkg/registry/core/limitrange"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/node"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolume"
	"k8s.io/kubernetes/pkg/registry/core/persistentvolumeclaim"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/podtemplate"
	"k8s.io/kubernetes/pkg/registry/core/replicationcontroller"
	"k8s.io/kubernetes/pkg/registry/core/resourcequota"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/kubernetes/pkg/registry/discovery/endpointslice"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/flowschema"
	"k8s.io/kubernetes/pkg/registry/flowcontrol/prioritylevelconfiguration"
	"k8s.io/kubernetes/pkg/registry/networking/ingress"
	"k8s.io/kubernetes/pkg/registry/networking/ingressclass"
	"k8s.io/kubernetes/pkg/registry/networking/ipaddress"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/networking/servicecidr"
	"k8s.io/kubernetes/pkg/registry/node/runtimeclass"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrole"
	"k8s.io/kubernetes/pkg/registry/rbac/clusterrolebinding"
	"k8s.io/kubernetes/pkg/registry/rbac/role"
	"k8s.io/kubernetes/pkg/registry/rbac/rolebinding"
	"k8s.io/kubernetes/pkg/registry/scheduling/priorityclass"
	"k8s.io/kubernetes/pkg/registry/storage/csidriver"
	"k8s.io/kubernetes/pkg/registry/storage/csinode"
	"k8s.io/kubernetes/pkg/registry/storage/csistoragecapacity"
	"k8s.io/kubernetes/pkg/registry/storage/storageclass"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattachment"
	"k8s.io/kubernetes/pkg/registry/storage/volumeattributesclass"
	"k8s.io/utils/clock"
)

type kind struct {
	gv       schema.GroupVersion
	resource string
	create   rest.RESTCreateStrategy
	update   rest.RESTUpdateStrategy
	subs     map[string]rest.RESTUpdateStrategy
	codecs   serializer.CodecFactory
}

type both interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
}

func sorted[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

func kinds() map[string]*kind {
	of := func(resource string, s both, subs ...any) *kind {
		k := &kind{resource: resource, create: s, update: s, subs: map[string]rest.RESTUpdateStrategy{}, codecs: legacyscheme.Codecs}
		for i := 0; i < len(subs); i += 2 {
			k.subs[subs[i].(string)] = subs[i+1].(rest.RESTUpdateStrategy)
		}
		return k
	}
	allow := authorizerfactory.NewAlwaysAllowAuthorizer()
	vap := validatingadmissionpolicy.NewStrategy(allow, nil)
	pcr := podcertificaterequest.NewStrategy()
	crds := crdregistry.NewStrategy(apiextensions.Scheme)
	crd := of("customresourcedefinitions", crds, "status", crdregistry.NewStatusStrategy(apiextensions.Scheme))
	crd.codecs = apiextensions.Codecs
	return map[string]*kind{
		"v1/Pod": of("pods", pod.Strategy, "status", pod.StatusStrategy, "ephemeralcontainers", pod.EphemeralContainersStrategy,
			"resize", pod.ResizeStrategy),
		"v1/PodTemplate":             of("podtemplates", podtemplate.Strategy),
		"v1/Service":                 of("services", service.Strategy, "status", service.StatusStrategy),
		"v1/ConfigMap":               of("configmaps", configmap.Strategy),
		"v1/Secret":                  of("secrets", secret.Strategy),
		"v1/Namespace":               of("namespaces", namespace.Strategy, "status", namespace.StatusStrategy, "finalize", namespace.FinalizeStrategy),
		"v1/Node":                    of("nodes", node.Strategy, "status", node.StatusStrategy),
		"v1/ServiceAccount":          of("serviceaccounts", serviceaccount.Strategy),
		"v1/PersistentVolume":        of("persistentvolumes", persistentvolume.Strategy, "status", persistentvolume.StatusStrategy),
		"v1/PersistentVolumeClaim":   of("persistentvolumeclaims", persistentvolumeclaim.Strategy, "status", persistentvolumeclaim.StatusStrategy),
		"v1/ReplicationController":   of("replicationcontrollers", replicationcontroller.Strategy, "status", replicationcontroller.StatusStrategy),
		"v1/ResourceQuota":           of("resourcequotas", resourcequota.Strategy, "status", resourcequota.StatusStrategy),
		"v1/LimitRange":              of("limitranges", limitrange.Strategy),
		"v1/Endpoints":               of("endpoints", endpoint.Strategy),
		"v1/Event":                   of("events", event.Strategy),
		"events.k8s.io/v1/Event":     of("events", event.Strategy),
		"apps/v1/Deployment":         of("deployments", deployment.Strategy, "status", deployment.StatusStrategy),
		"apps/v1/ReplicaSet":         of("replicasets", replicaset.Strategy, "status", replicaset.StatusStrategy),
		"apps/v1/StatefulSet":        of("statefulsets", statefulset.Strategy, "status", statefulset.StatusStrategy),
		"apps/v1/DaemonSet":          of("daemonsets", daemonset.Strategy, "status", daemonset.StatusStrategy),
		"apps/v1/ControllerRevision": of("controllerrevisions", controllerrevision.Strategy),
		"batch/v1/Job":               of("jobs", job.Strategy, "status", job.StatusStrategy),
		"batch/v1/CronJob":           of("cronjobs", cronjob.Strategy, "status", cronjob.StatusStrategy),
		"autoscaling/v2/HorizontalPodAutoscaler": of("horizontalpodautoscalers", horizontalpodautoscaler.Strategy,
			"status", horizontalpodautoscaler.StatusStrategy),
		"policy/v1/PodDisruptionBudget": of("poddisruptionbudgets", poddisruptionbudget.Strategy,
			"status", poddisruptionbudget.StatusStrategy),
		"coordination.k8s.io/v1/Lease":                    of("leases", lease.Strategy),
		"discovery.k8s.io/v1/EndpointSlice":               of("endpointslices", endpointslice.Strategy),
		"scheduling.k8s.io/v1/PriorityClass":              of("priorityclasses", priorityclass.Strategy),
		"node.k8s.io/v1/RuntimeClass":                     of("runtimeclasses", runtimeclass.Strategy),
		"networking.k8s.io/v1/Ingress":                    of("ingresses", ingress.Strategy, "status", ingress.StatusStrategy),
		"networking.k8s.io/v1/IngressClass":               of("ingressclasses", ingressclass.Strategy),
		"networking.k8s.io/v1/NetworkPolicy":              of("networkpolicies", networkpolicy.Strategy),
		"networking.k8s.io/v1/IPAddress":                  of("ipaddresses", ipaddress.Strategy),
		"networking.k8s.io/v1/ServiceCIDR":                of("servicecidrs", servicecidr.Strategy, "status", servicecidr.StatusStrategy),
		"storage.k8s.io/v1/StorageClass":                  of("storageclasses", storageclass.Strategy),
		"storage.k8s.io/v1/VolumeAttachment":              of("volumeattachments", volumeattachment.Strategy, "status", volumeattachment.StatusStrategy),
		"storage.k8s.io/v1/CSIDriver":                     of("csidrivers", csidriver.Strategy),
		"storage.k8s.io/v1/CSINode":                       of("csinodes", csinode.Strategy),
		"storage.k8s.io/v1/CSIStorageCapacity":            of("csistoragecapacities", csistoragecapacity.Strategy),
		"storage.k8s.io/v1/VolumeAttributesClass":         of("volumeattributesclasses", volumeattributesclass.Strategy),
		"rbac.authorization.k8s.io/v1/Role":               of("roles", role.Strategy),
		"rbac.authorization.k8s.io/v1/RoleBinding":        of("rolebindings", rolebinding.Strategy),
		"rbac.authorization.k8s.io/v1/ClusterRole":        of("clusterroles", clusterrole.Strategy),
		"rbac.authorization.k8s.io/v1/ClusterRoleBinding": of("clusterrolebindings", clusterrolebinding.Strategy),
		"certificates.k8s.io/v1/CertificateSigningRequest": of("certificatesigningrequests", csr.Strategy,
			"status", csr.StatusStrategy, "approval", csr.ApprovalStrategy),
		"certificates.k8s.io/v1/PodCertificateRequest": of("podcertificaterequests", pcr,
			"status", podcertificaterequest.NewStatusStrategy(pcr, allow, clock.RealClock{})),
		"flowcontrol.apiserver.k8s.io/v1/FlowSchema": of("flowschemas", flowschema.Strategy, "status", flowschema.StatusStrategy),
		"flowcontrol.apiserver.k8s.io/v1/PriorityLevelConfiguration": of("prioritylevelconfigurations",
			prioritylevelconfiguration.Strategy, "status", prioritylevelconfiguration.StatusStrategy),
		"admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration": of("validatingwebhookconfigurations",
			validatingwebhookconfiguration.Strategy),
		"admissionregistration.k8s.io/v1/MutatingWebhookConfiguration": of("mutatingwebhookconfigurations",
			mutatingwebhookconfiguration.Strategy),
		"admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy": of("validatingadmissionpolicies", vap,
			"status", validatingadmissionpolicy.NewStatusStrategy(vap)),
		"admissionregistration.k8s.io/v1/ValidatingAdmissionPolicyBinding": of("validatingadmissionpolicybindings",
			validatingadmissionpolicybinding.NewStrategy(allow, nil, nil)),
		"admissionregistration.k8s.io/v1/MutatingAdmissionPolicy": of("mutatingadmissionpolicies",
			mutatingadmissionpolicy.NewStrategy(allow, nil)),
		"apiextensions.k8s.io/v1/CustomResourceDefinition": crd,
	}
}
