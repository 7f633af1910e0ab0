// An informer on the ConfigMaps of a namespace that is held open for as long as its input is: it prints every event with
// revisions, and every request with the code of its answer. The test around it judges.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

var out sync.Mutex

func say(format string, args ...any) {
	out.Lock()
	defer out.Unlock()
	fmt.Printf(format+"\n", args...)
}

type told struct{ next http.RoundTripper }

func (t told) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(q)
	code := 0
	if err == nil {
		code = resp.StatusCode
	}
	say("request %d %s", code, q.URL.RequestURI())
	return resp, err
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path")
	namespace := flag.String("namespace", "default", "of the ConfigMaps")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	must(err)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return told{next} })
	clients, err := kubernetes.NewForConfig(config)
	must(err)
	factory := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(*namespace))
	informer := factory.Core().V1().ConfigMaps().Informer()
	rv := func(o any) string { return o.(metav1.Object).GetResourceVersion() }
	name := func(o any) string { return o.(metav1.Object).GetName() }
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { say("add %s %s", name(o), rv(o)) },
		UpdateFunc: func(_, o any) { say("update %s %s", name(o), rv(o)) },
		DeleteFunc: func(o any) {
			if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = d.Obj
			}
			say("delete %s %s", name(o), rv(o))
		},
	})
	must(err)
	ctx, end := context.WithCancel(context.Background())
	factory.StartWithContext(ctx)
	factory.WaitForCacheSync(ctx.Done())
	say("synced")
	_, _ = io.Copy(io.Discard, os.Stdin)
	end()
	factory.Shutdown()
}
