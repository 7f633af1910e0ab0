// A program as operators are: typed, dynamic and metadata informers with WatchList, JSON or protobuf, against whatever
// cluster the kubeconfig names. Prints "ok" and ends with 0 when everything was as client-go expects it.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"kelson.test/clients/tell"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	metaac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/pager"
	"k8s.io/client-go/util/retry"
)

const objects = 50

// requests remembers what was asked for and in which form it came.
type requests struct {
	next  http.RoundTripper
	mu    sync.Mutex
	urls  []string
	types map[string]int
}

func (r *requests) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(q)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.urls = append(r.urls, q.Method+" "+q.URL.RequestURI())
	if err == nil {
		r.types[resp.Header.Get("Content-Type")]++
	}
	return resp, err
}

func (r *requests) find(parts ...string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
next:
	for _, u := range r.urls {
		for _, p := range parts {
			if strings.HasPrefix(p, "!") == strings.Contains(u, strings.TrimPrefix(p, "!")) {
				continue next
			}
		}
		n++
	}
	return n
}

// history is what an informer has told, by object.
type history struct {
	mu     sync.Mutex
	events map[string][]string
}

func (h *history) handler() cache.ResourceEventHandler {
	note := func(word string, obj any) {
		if d, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = d.Obj
		}
		m := obj.(metav1.Object)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.events[m.GetName()] = append(h.events[m.GetName()], word)
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { note("add", o) },
		UpdateFunc: func(_, o any) { note("update", o) },
		DeleteFunc: func(o any) { note("delete", o) },
	}
}

func (h *history) of(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.events[name], " ")
}

func newHistory() *history { return &history{events: map[string][]string{}} }

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path")
	form := flag.String("form", "json", "json or protobuf")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	tell.Must(err, "kubeconfig")
	config.QPS, config.Burst = 1000, 1000
	config.UserAgent = "informer/1"
	protobuf := *form == "protobuf"
	if protobuf {
		config.ContentType = runtime.ContentTypeProtobuf
		config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	} else {
		// Left alone, typed clients ask for protobuf.
		config.ContentType = runtime.ContentTypeJSON
		config.AcceptContentTypes = runtime.ContentTypeJSON
	}
	seen := &requests{types: map[string]int{}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { seen.next = next; return seen })

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	clients, err := kubernetes.NewForConfig(config)
	tell.Must(err, "client")
	namespace := "go-" + *form
	_, err = clients.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	tell.Must(err, "namespace")
	tell.Wait("the default service account", func() bool {
		_, err := clients.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil
	})

	discover(config)
	informer(ctx, clients, seen, namespace)
	others(ctx, config, clients, seen, namespace)
	writes(ctx, clients, namespace)
	pages(ctx, clients, namespace)
	failures(ctx, clients, namespace)
	if protobuf {
		tell.Check(seen.types[runtime.ContentTypeProtobuf] > objects, "protobuf was asked for but seldom came: %v", seen.types)
		tell.Check(seen.types[runtime.ContentTypeProtobuf+";stream=watch"] > 0, "no watch came in protobuf: %v", seen.types)
	} else {
		tell.Check(seen.types[runtime.ContentTypeProtobuf] == 0, "protobuf was not asked for: %v", seen.types)
	}
	tell.Must(clients.CoreV1().Namespaces().Delete(ctx, namespace, metav1.DeleteOptions{}), "delete the namespace")
	tell.Wait("the namespace to go", func() bool {
		_, err := clients.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	fmt.Println("ok")
}

// discover reads what kubectl, Helm and controllers read first.
func discover(config *rest.Config) {
	d, err := discovery.NewDiscoveryClientForConfig(config)
	tell.Must(err, "discovery client")
	version, err := d.ServerVersion()
	tell.Must(err, "version")
	tell.Check(version.Major == "1", "version %v", version)
	groups, resources, err := d.ServerGroupsAndResources()
	tell.Must(err, "groups and resources")
	tell.Check(len(groups) > 15 && len(resources) > 15, "%d groups, %d resources", len(groups), len(resources))
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))
	for short, kind := range map[string]string{"deploy": "Deployment", "po": "Pod", "cm": "ConfigMap", "sts": "StatefulSet", "hpa": "HorizontalPodAutoscaler"} {
		gvk, err := restmapper.NewShortcutExpander(mapper, memory.NewMemCacheClient(d), nil).KindFor(schema.GroupVersionResource{Resource: short})
		tell.Must(err, "short name "+short)
		tell.Check(gvk.Kind == kind, "%s is %s", short, gvk.Kind)
	}
	document, err := d.OpenAPISchema()
	tell.Must(err, "openapi v2 in protobuf")
	tell.Check(document.Swagger == "2.0" && len(document.Definitions.AdditionalProperties) > 300 && len(document.Paths.Path) > 200,
		"openapi v2: %d definitions, %d paths", len(document.Definitions.AdditionalProperties), len(document.Paths.Path))
	for _, named := range document.Definitions.AdditionalProperties {
		if named.Name == "io.k8s.api.apps.v1.Deployment" {
			properties := map[string]string{}
			for _, p := range named.Value.Properties.AdditionalProperties {
				properties[p.Name] = p.Value.XRef
			}
			tell.Check(properties["spec"] == "#/definitions/io.k8s.api.apps.v1.DeploymentSpec", "Deployment: %v", properties)
			tell.Check(len(named.Value.VendorExtension) == 1 && strings.Contains(named.Value.VendorExtension[0].Value.Yaml, "Deployment"),
				"Deployment's extension: %v", named.Value.VendorExtension)
		}
	}
	paths, err := d.OpenAPIV3().Paths()
	tell.Must(err, "openapi v3")
	apps, err := paths["apis/apps/v1"].Schema(runtime.ContentTypeJSON)
	tell.Must(err, "openapi v3 of apps")
	tell.Check(strings.Contains(string(apps), "io.k8s.api.apps.v1.Deployment"), "openapi v3 of apps: %.200s", apps)
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"set": value}},
		Data:       map[string]string{"value": value},
		BinaryData: map[string][]byte{"bytes": {0, 1, 254, 255}},
	}
}

// informer lists by WatchList, then sees every change once and in order.
func informer(ctx context.Context, clients kubernetes.Interface, seen *requests, namespace string) {
	maps := clients.CoreV1().ConfigMaps(namespace)
	for i := range objects {
		_, err := maps.Create(ctx, configMap(fmt.Sprintf("before-%d", i), "a"), metav1.CreateOptions{})
		tell.Must(err, "create")
	}
	factory := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(namespace))
	h := newHistory()
	shared := factory.Core().V1().ConfigMaps()
	_, err := shared.Informer().AddEventHandler(h.handler())
	tell.Must(err, "handler")
	deployments := factory.Apps().V1().Deployments().Informer()
	pods := factory.Core().V1().Pods().Informer()
	stop, end := context.WithCancel(ctx)
	factory.StartWithContext(stop)
	for kind, ok := range factory.WaitForCacheSync(stop.Done()) {
		tell.Check(ok, "no sync of %v", kind)
	}
	tell.Check(deployments.HasSynced() && pods.HasSynced(), "not synced")
	tell.Check(seen.find("/configmaps?", "sendInitialEvents=true", "watch=true") == 1, "no WatchList: %v", seen.urls)
	tell.Check(seen.find("GET /api/v1/namespaces/"+namespace+"/configmaps?", "!watch=true") == 0, "the informer has listed: %v", seen.urls)

	for i := range objects {
		name := fmt.Sprintf("before-%d", i)
		o, err := maps.Get(ctx, name, metav1.GetOptions{})
		tell.Must(err, "get")
		tell.Check(string(o.BinaryData["bytes"]) == "\x00\x01\xfe\xff" && o.UID != "" && !o.CreationTimestamp.IsZero(), "misread: %v", o)
		o.Data["value"] = "b"
		_, err = maps.Update(ctx, o, metav1.UpdateOptions{})
		tell.Must(err, "update")
		tell.Must(maps.Delete(ctx, name, metav1.DeleteOptions{}), "delete")
		_, err = maps.Create(ctx, configMap(fmt.Sprintf("after-%d", i), "a"), metav1.CreateOptions{})
		tell.Must(err, "create")
	}
	for i := range objects {
		before, after := fmt.Sprintf("before-%d", i), fmt.Sprintf("after-%d", i)
		tell.Wait("the informer", func() bool { return h.of(before) == "add update delete" && h.of(after) == "add" })
	}
	cached, err := shared.Lister().ConfigMaps(namespace).Get("after-0")
	tell.Must(err, "lister")
	live, err := maps.Get(ctx, "after-0", metav1.GetOptions{})
	tell.Must(err, "get")
	tell.Check(cached.ResourceVersion == live.ResourceVersion && cached.Data["value"] == "a", "cache %v, live %v", cached, live)
	end()
	factory.Shutdown()
}

// others: the dynamic and the metadata informer, and a field-selected one.
func others(ctx context.Context, config *rest.Config, clients kubernetes.Interface, seen *requests, namespace string) {
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	dyn, err := dynamic.NewForConfig(config)
	tell.Must(err, "dynamic client")
	meta, err := metadata.NewForConfig(config)
	tell.Must(err, "metadata client")
	stop, end := context.WithCancel(ctx)
	defer end()
	df := dynamicinformer.NewFilteredDynamicSharedInformerFactory(dyn, 0, namespace, nil)
	mf := metadatainformer.NewFilteredSharedInformerFactory(meta, 0, namespace, nil)
	sf := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = "metadata.name=dynamic" }))
	dh, mh, sh := newHistory(), newHistory(), newHistory()
	for informer, h := range map[cache.SharedIndexInformer]*history{
		df.ForResource(gvr).Informer(): dh, mf.ForResource(gvr).Informer(): mh, sf.Core().V1().ConfigMaps().Informer(): sh,
	} {
		_, err := informer.AddEventHandler(h.handler())
		tell.Must(err, "handler")
	}
	df.Start(stop.Done())
	mf.Start(stop.Done())
	sf.Start(stop.Done())
	df.WaitForCacheSync(stop.Done())
	mf.WaitForCacheSync(stop.Done())
	sf.WaitForCacheSync(stop.Done())
	resource := dyn.Resource(gvr).Namespace(namespace)
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "dynamic"}, "data": map[string]any{"a": "1"}}}
	_, err = resource.Create(ctx, o, metav1.CreateOptions{})
	tell.Must(err, "dynamic create")
	_, err = resource.Patch(ctx, "dynamic", types.MergePatchType, []byte(`{"data":{"a":"2"}}`), metav1.PatchOptions{})
	tell.Must(err, "dynamic patch")
	o.Object["data"] = map[string]any{"b": "1"}
	applied, err := resource.Apply(ctx, "dynamic", o, metav1.ApplyOptions{FieldManager: "dyn", Force: true})
	tell.Must(err, "dynamic apply")
	data, _, _ := unstructured.NestedStringMap(applied.Object, "data")
	tell.Check(data["a"] == "2" && data["b"] == "1", "applied: %v", data)
	tell.Must(resource.Delete(ctx, "dynamic", metav1.DeleteOptions{}), "dynamic delete")
	for _, h := range []*history{dh, mh, sh} {
		tell.Wait("all informers", func() bool { return h.of("dynamic") == "add update update delete" })
	}
	tell.Check(sh.of("after-0") == "" && dh.of("after-0") == "add", "selected: %q, all: %q", sh.of("after-0"), dh.of("after-0"))
	tell.Check(seen.find("/apis/apps/v1", "nonsense") == 0, "impossible")
}

// writes: typed apply, scale, status, conflicts.
func writes(ctx context.Context, clients kubernetes.Interface, namespace string) {
	deployments := clients.AppsV1().Deployments(namespace)
	labels := map[string]string{"app": "web"}
	config := appsac.Deployment("web", namespace).WithLabels(labels).WithSpec(appsac.DeploymentSpec().WithReplicas(0).
		WithSelector(metaac.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(coreac.PodTemplateSpec().WithLabels(labels).WithSpec(coreac.PodSpec().
			WithContainers(coreac.Container().WithName("c").WithImage("i:1").WithEnv(coreac.EnvVar().WithName("A").WithValue("1"))))))
	_, err := deployments.Apply(ctx, config, metav1.ApplyOptions{FieldManager: "one"})
	tell.Must(err, "apply")
	config.Spec.Template.Spec.Containers[0].WithImage("i:2")
	_, err = deployments.Apply(ctx, config, metav1.ApplyOptions{FieldManager: "two"})
	tell.Check(apierrors.IsConflict(err), "a conflict was expected: %v", err)
	_, err = deployments.Apply(ctx, config, metav1.ApplyOptions{FieldManager: "two", Force: true})
	tell.Must(err, "forced apply")
	patched, err := deployments.Patch(ctx, "web", types.StrategicMergePatchType,
		[]byte(`{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"B","value":"2"}]}]}}}}`), metav1.PatchOptions{})
	tell.Must(err, "strategic patch")
	c := patched.Spec.Template.Spec.Containers[0]
	tell.Check(c.Image == "i:2" && len(c.Env) == 2 && c.ImagePullPolicy == corev1.PullIfNotPresent, "patched: %+v", c)
	tell.Must(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		scale, err := deployments.GetScale(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		scale.Spec.Replicas = 1
		scale, err = deployments.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{})
		if err == nil {
			tell.Check(scale.Spec.Replicas == 1 && scale.Status.Selector == "app=web", "scale: %+v", scale)
		}
		return err
	}), "scale")
	stale := patched.DeepCopy()
	stale.Labels["x"] = "y"
	_, err = deployments.Update(ctx, stale, metav1.UpdateOptions{})
	tell.Check(apierrors.IsConflict(err), "a stale update: %v", err)
	tell.Must(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		d, err := deployments.Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 0}
		_, err = deployments.UpdateStatus(ctx, d, metav1.UpdateOptions{})
		return err
	}), "status")
	background := metav1.DeletePropagationBackground
	tell.Must(deployments.Delete(ctx, "web", metav1.DeleteOptions{PropagationPolicy: &background}), "delete")
}

// pages reads a list in chunks.
func pages(ctx context.Context, clients kubernetes.Interface, namespace string) {
	p := pager.New(func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return clients.CoreV1().ConfigMaps(namespace).List(ctx, o)
	})
	p.PageSize = 7
	n := 0
	tell.Must(p.EachListItem(ctx, metav1.ListOptions{LabelSelector: "set=a"}, func(runtime.Object) error { n++; return nil }), "pages")
	tell.Check(n == objects, "%d objects in pages", n)
	list, err := clients.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{Limit: 7})
	tell.Must(err, "list")
	tell.Check(len(list.Items) == 7 && list.Continue != "" && *list.RemainingItemCount == objects-6, "page: %d items, %v", len(list.Items), list.ListMeta)
}

// failures arrive as the errors that client-go's predicates know, in either form.
func failures(ctx context.Context, clients kubernetes.Interface, namespace string) {
	maps := clients.CoreV1().ConfigMaps(namespace)
	_, err := maps.Get(ctx, "none", metav1.GetOptions{})
	tell.Check(apierrors.IsNotFound(err) && err.Error() == `configmaps "none" not found`, "not found: %v", err)
	_, err = maps.Create(ctx, configMap("after-0", "a"), metav1.CreateOptions{})
	tell.Check(apierrors.IsAlreadyExists(err), "exists: %v", err)
	_, err = maps.Create(ctx, configMap("Bad_Name", "a"), metav1.CreateOptions{})
	tell.Check(apierrors.IsInvalid(err), "invalid: %v", err)
	_, err = maps.List(ctx, metav1.ListOptions{ResourceVersion: "999999999", ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, TimeoutSeconds: new(int64)})
	tell.Check(apierrors.IsTimeout(err) && apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge), "too large: %v", err)
	_, err = clients.CoreV1().ConfigMaps("nowhere").Create(ctx, configMap("a", "a"), metav1.CreateOptions{})
	tell.Check(apierrors.IsNotFound(err), "no namespace: %v", err)
	uid := types.UID("other")
	err = maps.Delete(ctx, "after-0", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	tell.Check(apierrors.IsConflict(err), "precondition: %v", err)
	w, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: "1"})
	if err == nil {
		// Either the history reaches back that far, or the stream says that it does not.
		if e, open := <-w.ResultChan(); open && e.Type == "ERROR" {
			err := apierrors.FromObject(e.Object)
			tell.Check(apierrors.IsResourceExpired(err) || apierrors.IsGone(err), "old watch: %v", err)
		}
		w.Stop()
	}
}
