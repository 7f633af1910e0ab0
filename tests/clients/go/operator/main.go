// An operator on controller-runtime and its user, in one program: a definition with two versions and a conversion webhook,
// mutating and validating webhooks, a reconciler with finalizer, owned objects, status and events, and leader election.
// Prints "ok" and ends with 0 when everything was as controller-runtime expects it.
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"kelson.test/clients/tell"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/yaml"
)

const namespace = "operator"

//go:embed crd.yaml
var definition []byte

// warnings that the server has sent.
type warnings struct {
	mu  sync.Mutex
	all []string
}

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

func (w *warnings) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.all, text)
}

// certificate for the webhooks; also as PEM, which is its own authority.
func certificate() (tls.Certificate, []byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tell.Must(err, "key")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "operator"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	tell.Must(err, "certificate")
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// freePort of the loopback address.
func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	tell.Must(err, "free port")
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// manager whose reconciler signs with a name; with a webhook server or without one.
func manager(config *rest.Config, scheme *runtime.Scheme, name string, hooks webhook.Server) ctrl.Manager {
	lease, renew, retry := 3*time.Second, 2*time.Second, 500*time.Millisecond
	m, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, WebhookServer: hooks, Metrics: metricsserver.Options{BindAddress: "0"},
		LeaderElection: true, LeaderElectionID: "greetings", LeaderElectionNamespace: namespace, LeaderElectionReleaseOnCancel: true,
		LeaseDuration: &lease, RenewDeadline: &renew, RetryPeriod: &retry,
	})
	tell.Must(err, "manager")
	skip := true
	err = ctrl.NewControllerManagedBy(m).For(&Greeting{}).Owns(&corev1.ConfigMap{}).
		WithOptions(controller.Options{SkipNameValidation: &skip}).
		Complete(&reconciler{client: m.GetClient(), events: m.GetEventRecorder(name), by: name})
	tell.Must(err, "controller")
	return m
}

// start a manager; the function that comes back stops it and waits for its end.
func start(ctx context.Context, m ctrl.Manager) func() {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.Start(ctx) }()
	return func() {
		cancel()
		tell.Must(<-ended, "the manager's end")
	}
}

func main() {
	// controller-runtime brings -kubeconfig along.
	verbose := flag.Bool("verbose", false, "the operator's log on standard error")
	flag.Parse()
	if *verbose {
		ctrl.SetLogger(klog.Background())
	} else {
		ctrl.SetLogger(klog.Logger{})
	}
	config, err := ctrl.GetConfig()
	tell.Must(err, "kubeconfig")
	config.QPS, config.Burst = 1000, 1000
	said := &warnings{}
	config.WarningHandler = said
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, addTypes} {
		tell.Must(add(scheme), "scheme")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	user, err := client.New(config, client.Options{Scheme: scheme})
	tell.Must(err, "client")
	tell.Must(user.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}), "namespace")

	pair, authority := certificate()
	port := freePort()
	crd := define(ctx, user, port, authority)
	hooks := webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	}}})
	first := manager(config, scheme, "first", hooks)
	tell.Must(ctrl.NewWebhookManagedBy(first, &Greeting{}).WithDefaulter(webhooks{}).WithValidator(webhooks{}).Complete(), "webhooks")
	stopFirst := start(ctx, first)
	tell.Wait("the webhook server", func() bool { return hooks.StartedChecker()(nil) == nil })
	configurations := intercept(ctx, user, port, authority)

	judged(ctx, user, said)
	versions(ctx, user, said)
	lifecycle(ctx, user)
	// The webhooks end with the first manager, so the second works without them.
	for _, c := range configurations {
		tell.Must(user.Delete(ctx, c), "delete a webhook configuration")
	}
	succession(ctx, config, scheme, user, stopFirst)

	// In one version only there is nothing to convert any more.
	tell.Must(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if err := user.Get(ctx, client.ObjectKeyFromObject(crd), crd); err != nil {
			return err
		}
		crd.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.NoneConverter}
		return user.Update(ctx, crd)
	}), "end of the conversion")
	tell.Must(user.Delete(ctx, crd), "delete the definition")
	tell.Must(user.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}), "delete the namespace")
	tell.Wait("everything to go", func() bool {
		return apierrors.IsNotFound(user.Get(ctx, client.ObjectKeyFromObject(crd), crd)) &&
			apierrors.IsNotFound(user.Get(ctx, client.ObjectKey{Name: namespace}, &corev1.Namespace{}))
	})
	fmt.Println("ok")
}

func define(ctx context.Context, user client.Client, port int, authority []byte) *apiextensionsv1.CustomResourceDefinition {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	tell.Must(yaml.UnmarshalStrict(definition, crd), "definition")
	url := fmt.Sprintf("https://127.0.0.1:%d/convert", port)
	crd.Spec.Conversion.Webhook.ClientConfig = &apiextensionsv1.WebhookClientConfig{URL: &url, CABundle: authority}
	tell.Must(user.Create(ctx, crd), "create the definition")
	tell.Wait("the definition to be established", func() bool {
		tell.Must(user.Get(ctx, client.ObjectKeyFromObject(crd), crd), "definition")
		return slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
		})
	})
	tell.Check(bytes.Equal(crd.Spec.Conversion.Webhook.ClientConfig.CABundle, authority), "the authority has changed")
	return crd
}

// intercept registers the webhooks for one version; requests in the other reach them converted.
func intercept(ctx context.Context, user client.Client, port int, authority []byte) []client.Object {
	none, fail, all := admissionv1.SideEffectClassNone, admissionv1.Fail, admissionv1.NamespacedScope
	at := func(verb string) admissionv1.WebhookClientConfig {
		url := fmt.Sprintf("https://127.0.0.1:%d/%s-greetings-example-com-v1-greeting", port, verb)
		return admissionv1.WebhookClientConfig{URL: &url, CABundle: authority}
	}
	rules := func(operations ...admissionv1.OperationType) []admissionv1.RuleWithOperations {
		return []admissionv1.RuleWithOperations{{Operations: operations, Rule: admissionv1.Rule{
			APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: []string{"greetings"}, Scope: &all}}}
	}
	mutating := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "greetings"},
		Webhooks: []admissionv1.MutatingWebhook{{Name: "mutate.greetings.example.com", ClientConfig: at("mutate"),
			Rules: rules(admissionv1.Create, admissionv1.Update), SideEffects: &none, FailurePolicy: &fail, AdmissionReviewVersions: []string{"v1"}}}}
	validating := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "greetings"},
		Webhooks: []admissionv1.ValidatingWebhook{{Name: "validate.greetings.example.com", ClientConfig: at("validate"),
			Rules: rules(admissionv1.Create, admissionv1.Update, admissionv1.Delete), SideEffects: &none, FailurePolicy: &fail, AdmissionReviewVersions: []string{"v1"}}}}
	tell.Must(user.Create(ctx, mutating), "mutating webhook")
	tell.Must(user.Create(ctx, validating), "validating webhook")
	// They act a moment after they are stored.
	tell.Wait("the webhooks to act", func() bool {
		probe := greeting("probe", "nobody")
		probe.Spec.Tone = "friendly"
		err := user.Create(ctx, probe, client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), "nobody can't be greeted")
	})
	tell.Wait("the mutating webhook to act", func() bool {
		probe := greeting("probe", "one")
		tell.Must(user.Create(ctx, probe, client.DryRunAll), "dry run")
		return probe.Spec.Tone == "friendly"
	})
	return []client.Object{mutating, validating}
}

func greeting(name string, names ...string) *Greeting {
	return &Greeting{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: GreetingSpec{Names: names}}
}

// judged: what the webhooks change, refuse and warn of.
func judged(ctx context.Context, user client.Client, said *warnings) {
	g := greeting("admitted", "ann", "bob", "cid")
	tell.Must(user.Create(ctx, g), "create")
	tell.Check(g.Spec.Tone == "friendly" && g.Labels["tone"] == "friendly", "not mutated: %+v", g)
	tell.Check(said.has("this is a crowd"), "no warning: %v", said.all)
	err := user.Create(ctx, &Greeting{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "empty"}, Spec: GreetingSpec{Names: []string{}}})
	want := `admission webhook "validate.greetings.example.com" denied the request: Greeting.greetings.example.com "empty" is invalid: ` +
		`spec.names: Required value: somebody must be greeted`
	tell.Check(apierrors.IsInvalid(err) && err.Error() == want, "no names: %v", err)
	err = user.Create(ctx, greeting("refused", "nobody"))
	want = `admission webhook "validate.greetings.example.com" denied the request: nobody can't be greeted`
	tell.Check(apierrors.IsForbidden(err) && err.Error() == want, "nobody: %v", err)
	// The schema is asked behind the mutating webhook.
	err = user.Create(ctx, greeting("long", strings.Repeat("x", 21)))
	tell.Check(apierrors.IsInvalid(err) && strings.Contains(err.Error(), "spec.names[0]: Too long"), "schema: %v", err)
	err = user.Patch(ctx, greeting("admitted"), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"tone":"stern"}}`)))
	tell.Check(apierrors.IsForbidden(err) && strings.Contains(err.Error(), "the tone stays what it was"), "tone: %v", err)
	keep := func(value string) {
		err := user.Patch(ctx, g, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"keep":`+value+`}}`)))
		tell.Must(err, "keep")
	}
	keep("true")
	err = user.Delete(ctx, g)
	tell.Check(apierrors.IsForbidden(err) && strings.Contains(err.Error(), "it is to be kept"), "delete: %v", err)
	keep("false")
}

// versions: the old one is read and written through the conversion, also by server-side apply.
func versions(ctx context.Context, user client.Client, said *warnings) {
	old := &OldGreeting{}
	tell.Must(user.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "admitted"}, old), "old version")
	tell.Check(old.Spec.Names == "ann,bob,cid" && old.Spec.Tone == "friendly", "converted: %+v", old.Spec)
	tell.Check(said.has("greetings.example.com/v1alpha1 Greeting is deprecated"), "no warning: %v", said.all)
	made := &OldGreeting{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "old"}, Spec: OldGreetingSpec{Names: "dan,eve"}}
	tell.Must(user.Create(ctx, made), "create in the old version")
	tell.Check(made.Spec.Tone == "friendly" && made.Labels["tone"] == "friendly", "not mutated through the other version: %+v", made)
	g := &Greeting{}
	tell.Must(user.Get(ctx, client.ObjectKeyFromObject(made), g), "new version")
	tell.Check(slices.Equal(g.Spec.Names, []string{"dan", "eve"}), "converted: %+v", g.Spec)

	apply := func(version, manager string, spec map[string]any) (*unstructured.Unstructured, error) {
		u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
		u.SetAPIVersion(group + "/" + version)
		u.SetKind("Greeting")
		u.SetNamespace(namespace)
		u.SetName("applied")
		err := user.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(manager))
		return u, err
	}
	_, err := apply("v1", "one", map[string]any{"names": []any{"fay"}, "keep": false})
	tell.Must(err, "apply")
	_, err = apply("v1", "two", map[string]any{"names": []any{"gus"}})
	tell.Check(apierrors.IsConflict(err) && strings.Contains(err.Error(), "one"), "a conflict was expected: %v", err)
	u, err := apply("v1", "one", map[string]any{"names": []any{"gus"}})
	tell.Must(err, "apply again")
	_, found, _ := unstructured.NestedBool(u.Object, "spec", "keep")
	tell.Check(!found, "what is no longer applied goes: %v", u.Object["spec"])
	u, err = apply("v1alpha1", "three", map[string]any{"names": "gus"})
	tell.Must(err, "apply in the old version")
	names, _, _ := unstructured.NestedString(u.Object, "spec", "names")
	tell.Check(names == "gus", "applied: %v", u.Object["spec"])
	tell.Must(user.DeleteAllOf(ctx, &Greeting{}, client.InNamespace(namespace), client.MatchingFields{"metadata.name": "applied"}), "delete")
}

func ready(g *Greeting, by string) bool {
	c := meta.FindStatusCondition(g.Status.Conditions, "Ready")
	return c != nil && c.Status == metav1.ConditionTrue && c.Message == "by "+by && g.Status.ObservedGeneration == g.Generation
}

// lifecycle: reconciled, repaired, with a status of its own, finalized and collected.
func lifecycle(ctx context.Context, user client.Client) {
	g := greeting("life", "kim", "lou")
	g.Status.Greeted = 99
	tell.Must(user.Create(ctx, g), "create")
	tell.Check(g.Generation == 1 && g.Status.Greeted == 0, "a status was taken at creation: %+v", g)
	key := client.ObjectKeyFromObject(g)
	tell.Wait("the first reconciliation", func() bool {
		tell.Must(user.Get(ctx, key, g), "get")
		return ready(g, "first") && g.Status.Greeted == 2
	})
	tell.Check(g.Generation == 1 && slices.Contains(g.Finalizers, finalizer), "finalizer and status are not the spec: %+v", g.ObjectMeta)
	owned := &corev1.ConfigMap{}
	ownedKey := client.ObjectKey{Namespace: namespace, Name: "life-kim"}
	tell.Must(user.Get(ctx, ownedKey, owned), "owned")
	tell.Check(owned.Data["text"] == "friendly greetings, kim" && metav1.IsControlledBy(owned, g), "owned: %+v", owned)
	tell.Must(user.Delete(ctx, owned), "delete what is owned")
	uid := owned.UID
	tell.Wait("the repair", func() bool { return user.Get(ctx, ownedKey, owned) == nil && owned.UID != uid })
	tell.Wait("an event", func() bool {
		all := &eventsv1.EventList{}
		tell.Must(user.List(ctx, all, client.InNamespace(namespace)), "events")
		return slices.ContainsFunc(all.Items, func(e eventsv1.Event) bool {
			return e.Reason == "Greeted" && e.Regarding.Name == "life" && e.ReportingController == "first" && e.Note == "greeted kim"
		})
	})

	// A status is written by its own subresource and by nothing else.
	base := g.copy()
	g.Status.Greeted = 77
	tell.Must(user.Patch(ctx, g, client.MergeFrom(base)), "patch")
	tell.Check(g.Status.Greeted == 2, "the status was written beside: %+v", g.Status)
	stale := g.copy()
	tell.Must(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		tell.Must(user.Get(ctx, key, g), "get")
		g.Spec.Names = append(g.Spec.Names, "max")
		return user.Update(ctx, g)
	}), "update")
	tell.Check(g.Generation == 2, "generation %d", g.Generation)
	stale.Status.Greeted = 1
	err := user.Status().Update(ctx, stale)
	tell.Check(apierrors.IsConflict(err), "a stale status: %v", err)
	tell.Wait("the second reconciliation", func() bool {
		tell.Must(user.Get(ctx, key, g), "get")
		return ready(g, "first") && g.Status.Greeted == 3
	})
	tell.Check(len(g.Spec.Names) == 3 && g.Generation == 2, "after the second reconciliation: %+v", g)

	tell.Must(user.Delete(ctx, g, client.PropagationPolicy(metav1.DeletePropagationForeground)), "delete")
	tell.Wait("the end", func() bool { return apierrors.IsNotFound(user.Get(ctx, key, g)) })
	tell.Must(user.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "gone-life"}, owned), "the note of its end")
	tell.Check(apierrors.IsNotFound(user.Get(ctx, ownedKey, owned)), "what it owned is still there")
}

// succession: a second manager waits, and takes over when the first one leaves.
func succession(ctx context.Context, config *rest.Config, scheme *runtime.Scheme, user client.Client, stopFirst func()) {
	second := manager(config, scheme, "second", nil)
	stopSecond := start(ctx, second)
	defer stopSecond()
	tell.Check(second.GetCache().WaitForCacheSync(ctx), "the second manager's cache")
	select {
	case <-second.Elected():
		tell.Check(false, "two managers lead at once")
	default:
	}
	stopFirst()
	select {
	case <-second.Elected():
	case <-time.After(60 * time.Second):
		tell.Check(false, "the second manager was not elected")
	}
	g := greeting("heir", "ned")
	tell.Must(user.Create(ctx, g), "create")
	tell.Wait("the heir's work", func() bool {
		tell.Must(user.Get(ctx, client.ObjectKeyFromObject(g), g), "get")
		return ready(g, "second")
	})
	tell.Must(user.DeleteAllOf(ctx, &Greeting{}, client.InNamespace(namespace)), "delete all")
	tell.Wait("all to go", func() bool {
		all := &GreetingList{}
		tell.Must(user.List(ctx, all, client.InNamespace(namespace)), "list")
		return len(all.Items) == 0
	})
}
