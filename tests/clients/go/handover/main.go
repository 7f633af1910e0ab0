// A store as the original API server leaves it, and as it reads it: `put` writes objects of nearly every kind into an etcd
// with upstream's own serializers, under its keys; `served` finds them through the API of whatever server the kubeconfig
// names, and changes a label of each; `back` reads the whole etcd with upstream's own decoders and finds them again.
//
//	handover put ETCD | served KUBECONFIG | back ETCD
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	jsonser "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/runtime/serializer/recognizer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
)

const touched = "handed.example.com/over"

func must(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func check(ok bool, format string, args ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
		os.Exit(1)
	}
}

// How a value is written.
type form int

const (
	binary  form = iota // protobuf, as for all built-in kinds
	text                // typed JSON, as with --storage-media-type=application/json
	untyped             // JSON of definitions, custom resources and APIServices
)

// One stored object.
type entry struct {
	key      string
	object   runtime.Object
	resource schema.GroupVersionResource
	form     form
	// What it is served as, where that is another shape than the stored one.
	served map[string]any
}

func (e entry) value() []byte {
	var out bytes.Buffer
	switch e.form {
	case binary:
		s := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
		gv := e.object.GetObjectKind().GroupVersionKind().GroupVersion()
		must(scheme.Codecs.EncoderForVersion(s, gv).Encode(e.object, &out), "encode "+e.key)
	case text:
		s := jsonser.NewSerializerWithOptions(jsonser.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, jsonser.SerializerOptions{})
		must(s.Encode(e.object, &out), "encode "+e.key)
	case untyped:
		must(unstructured.UnstructuredJSONScheme.Encode(e.object, &out), "encode "+e.key)
	}
	return out.Bytes()
}

// The etcd's own JSON gateway.
type etcd string

func (e etcd) call(what string, body, answer any) {
	b, err := json.Marshal(body)
	must(err, what)
	r, err := http.Post(string(e)+"/v3/kv/"+what, "application/json", bytes.NewReader(b))
	must(err, what)
	defer r.Body.Close()
	check(r.StatusCode == 200, "%s: %s", what, r.Status)
	must(json.NewDecoder(r.Body).Decode(answer), what)
}

type kv struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

func (e etcd) put(key string, value []byte) {
	e.call("put", kv{[]byte(key), value}, &struct{}{})
}

func (e etcd) all(prefix string) map[string][]byte {
	end := []byte(prefix)
	end[len(end)-1]++
	var answer struct {
		Kvs []kv `json:"kvs"`
	}
	e.call("range", map[string][]byte{"key": []byte(prefix), "range_end": end}, &answer)
	out := map[string][]byte{}
	for _, kv := range answer.Kvs {
		out[string(kv.Key)] = kv.Value
	}
	return out
}

func asMap(o any) map[string]any {
	b, err := json.Marshal(o)
	must(err, "marshal")
	out := map[string]any{}
	must(json.Unmarshal(b, &out), "unmarshal")
	return out
}

// Where `want` says something that `have` does not: "" where it says nothing else.
func missing(want, have any, at string) string {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok && len(w) > 0 {
			return fmt.Sprintf("%s: %v instead of %v", at, have, want)
		}
		for k, v := range w {
			if empty(v) {
				continue
			}
			if why := missing(v, h[k], at+"."+k); why != "" {
				return why
			}
		}
		return ""
	case []any:
		h, _ := have.([]any)
		if len(h) != len(w) {
			return fmt.Sprintf("%s: %v instead of %v", at, have, want)
		}
		for i := range w {
			if why := missing(w[i], h[i], fmt.Sprintf("%s[%d]", at, i)); why != "" {
				return why
			}
		}
		return ""
	}
	if !reflect.DeepEqual(want, have) {
		return fmt.Sprintf("%s: %v instead of %v", at, have, want)
	}
	return ""
}

// What Go's types print for nothing.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, x := range v {
			if !empty(x) {
				return false
			}
		}
		return true
	}
	return false
}

func (e entry) want() map[string]any {
	if e.served != nil {
		return e.served
	}
	return asMap(e.object)
}

func put(url string) {
	for _, e := range entries() {
		etcd(url).put(e.key, e.value())
	}
	// No objects of the API's, but upstream's allocators keep them below the same prefix.
	for key, o := range ranges() {
		etcd(url).put(key, entry{key: key, object: o}.value())
	}
}

func served(kubeconfig string) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	must(err, "kubeconfig")
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	must(err, "client")
	ctx := context.Background()
	for _, e := range entries() {
		want := e.want()
		meta := want["metadata"].(map[string]any)
		ns, _ := meta["namespace"].(string)
		name := meta["name"].(string)
		of := client.Resource(e.resource).Namespace(ns)
		list, err := of.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		must(err, "list "+e.key)
		check(len(list.Items) == 1, "%s: %d in the list", e.key, len(list.Items))
		why := missing(want, asMap(list.Items[0].Object), "")
		check(why == "", "%s as it is served: %s", e.key, why)
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:"yes"}}}`, touched)
		_, err = of.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		must(err, "patch "+e.key)
	}
}

func back(url string) {
	universal := scheme.Codecs.UniversalDeserializer()
	decoder := recognizer.NewDecoder(protobuf.NewSerializer(scheme.Scheme, scheme.Scheme), universal)
	all := etcd(url).all("/registry/")
	read := map[string]map[string]any{}
	for key, value := range all {
		// What upstream never looks at.
		if strings.HasPrefix(key, "/registry/kelson/") || strings.HasPrefix(key, "/registry/ranges/servicenodeports/") {
			continue
		}
		// Definitions, custom resources and APIServices have decoders of their own, for JSON.
		if strings.Contains(strings.Split(key, "/")[2], ".") {
			o, _, err := unstructured.UnstructuredJSONScheme.Decode(value, nil, nil)
			must(err, "decode "+key)
			read[key] = asMap(o)
			continue
		}
		o, gvk, err := decoder.Decode(value, nil, nil)
		must(err, "decode "+key)
		check(scheme.Scheme.Recognizes(*gvk), "%s: %v", key, gvk)
		read[key] = asMap(o)
	}
	for _, e := range entries() {
		have, ok := read[e.key]
		check(ok, "%s is not there any more", e.key)
		meta := have["metadata"].(map[string]any)
		labels, _ := meta["labels"].(map[string]any)
		check(labels[touched] == "yes", "%s was not written", e.key)
		// Who changed the label stands there too.
		if managers, _ := meta["managedFields"].([]any); len(managers) > 0 {
			meta["managedFields"] = slices.DeleteFunc(managers, func(m any) bool { return m.(map[string]any)["manager"] == "handover" })
		}
		why := missing(e.want(), have, "")
		check(why == "", "%s as it is read back: %s", e.key, why)
	}
	fmt.Printf("%d keys, %d objects\n", len(all), len(entries()))
}

func main() {
	check(len(os.Args) == 3, "usage: handover put ETCD | served KUBECONFIG | back ETCD")
	switch os.Args[1] {
	case "put":
		put(os.Args[2])
	case "served":
		served(os.Args[2])
	case "back":
		back(os.Args[2])
	default:
		check(false, "unknown command %s", os.Args[1])
	}
	fmt.Println("ok")
}
