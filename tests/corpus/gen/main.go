// Asks upstream's own registry strategies what they say of every object under cases/, and writes it to golden/.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/capabilities"
	"sigs.k8s.io/yaml"
)

// file is one kind's cases. A patch maps JSON pointers to values; null removes, "-" appends, missing parents are made.
type file struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Base       map[string]any `json:"base"`
	// Cases by what is asked for: create, update, or a subresource.
	Cases map[string][]map[string]any `json:"cases"`
}

type cause struct {
	Type    string `json:"type"`
	Field   string `json:"field"`
	Message string `json:"message"`
}

type answer struct {
	Case    string  `json:"case"`
	Code    int32   `json:"code"`
	Reason  string  `json:"reason,omitempty"`
	Message string  `json:"message,omitempty"`
	Causes  []cause `json:"causes,omitempty"`
}

func set(doc any, pointer string, value any) any {
	if pointer == "" {
		return value
	}
	head, rest, _ := strings.Cut(pointer[1:], "/")
	if rest != "" {
		rest = "/" + rest
	}
	head = strings.NewReplacer("~1", "/", "~0", "~").Replace(head)
	index, err := strconv.Atoi(head)
	if list, ok := doc.([]any); ok || (doc == nil && (err == nil || head == "-")) {
		if head == "-" || index == len(list) {
			return append(list, set(nil, rest, value))
		}
		if rest == "" && value == nil {
			return append(append([]any{}, list[:index]...), list[index+1:]...)
		}
		list[index] = set(list[index], rest, value)
		return list
	}
	m, _ := doc.(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	if rest == "" && value == nil {
		delete(m, head)
	} else {
		m[head] = set(m[head], rest, value)
	}
	return m
}

func patch(doc map[string]any, p map[string]any) map[string]any {
	copied := clone(doc)
	for _, k := range sorted(p) {
		copied = set(copied, k, p[k]).(map[string]any)
	}
	return copied
}

func clone(doc map[string]any) map[string]any {
	b, err := json.Marshal(doc)
	must(err)
	var out map[string]any
	must(json.Unmarshal(b, &out))
	return out
}

// compact is JSON with sorted keys on one line.
func compact(v any) string {
	b := &bytes.Buffer{}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	must(e.Encode(v))
	return strings.TrimSpace(b.String())
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// split tells a case's patch of the old object from that of the new one.
func split(c map[string]any) (was, now map[string]any) {
	now = map[string]any{}
	for k, v := range c {
		switch {
		case k == "was":
			was = v.(map[string]any)
		default:
			now[k] = v
		}
	}
	return was, now
}

func (k *kind) context(sub string) context.Context {
	ctx := request.WithUser(context.Background(), &user.DefaultInfo{Name: "admin", Groups: []string{"system:masters", "system:authenticated"}})
	ns := ""
	if k.create.NamespaceScoped() {
		ns = "default"
	}
	ctx = request.WithNamespace(ctx, ns)
	return request.WithRequestInfo(ctx, &request.RequestInfo{
		IsResourceRequest: true, APIGroup: k.gv.Group, APIVersion: k.gv.Version, Resource: k.resource, Subresource: sub, Namespace: ns,
	})
}

func (k *kind) decode(doc map[string]any) (runtime.Object, error) {
	b, err := json.Marshal(doc)
	must(err)
	obj, _, err := k.codecs.UniversalDecoder().Decode(b, nil, nil)
	return obj, err
}

// made is the stored form of a document: created, and its status written.
func (k *kind) made(doc map[string]any) (runtime.Object, error) {
	obj, err := k.created(doc)
	if err != nil || doc["status"] == nil || k.subs["status"] == nil {
		return obj, err
	}
	next, err := k.decode(doc)
	must(err)
	identify(next)
	return next, rest.BeforeUpdate(k.subs["status"], k.context("status"), next, obj)
}

func identify(obj runtime.Object) {
	m, err := meta.Accessor(obj)
	must(err)
	m.SetUID("11111111-2222-3333-4444-555555555555")
	m.SetCreationTimestamp(metav1.NewTime(time.Unix(1700000000, 0)))
	m.SetResourceVersion("1")
}

func (k *kind) created(doc map[string]any) (runtime.Object, error) {
	obj, err := k.decode(doc)
	if err != nil {
		return nil, err
	}
	m, err := meta.Accessor(obj)
	must(err)
	if k.create.NamespaceScoped() && m.GetNamespace() == "" {
		m.SetNamespace("default")
	}
	rest.FillObjectMetaSystemFields(m)
	if err := rest.BeforeCreate(k.create, k.context(""), obj); err != nil {
		return nil, err
	}
	identify(obj)
	return obj, nil
}

func (k *kind) updated(sub string, old runtime.Object, now map[string]any) error {
	b, err := runtime.Encode(k.codecs.LegacyCodec(k.gv), old)
	must(err)
	var doc map[string]any
	must(json.Unmarshal(b, &doc))
	next, err := k.decode(patch(doc, now))
	if err != nil {
		return err
	}
	strategy := k.update
	if sub != "update" {
		if strategy = k.subs[sub]; strategy == nil {
			return fmt.Errorf("no subresource %s", sub)
		}
	} else {
		sub = ""
	}
	// What the caller answers for, read from the store again.
	fresh, err := k.decode(doc)
	must(err)
	if m, _ := meta.Accessor(fresh); m.GetNamespace() == "" && k.create.NamespaceScoped() {
		must(fmt.Errorf("no namespace"))
	}
	return rest.BeforeUpdate(strategy, k.context(sub), next, fresh)
}

func told(name string, err error) answer {
	if err == nil {
		return answer{Case: name, Code: 200}
	}
	status, ok := err.(apierrors.APIStatus)
	if !ok {
		must(fmt.Errorf("%s: %w", name, err))
	}
	s := status.Status()
	a := answer{Case: name, Code: s.Code, Reason: string(s.Reason), Message: s.Message}
	if s.Details != nil {
		for _, c := range s.Details.Causes {
			a.Causes = append(a.Causes, cause{string(c.Type), c.Field, c.Message})
		}
	}
	return a
}

func one(path string) {
	text, err := os.ReadFile(path)
	must(err)
	var f file
	must(yaml.UnmarshalStrict(text, &f))
	gv, err := schema.ParseGroupVersion(f.APIVersion)
	must(err)
	k := kinds()[gv.String()+"/"+f.Kind]
	if k == nil {
		must(fmt.Errorf("%s: no such kind", path))
	}
	k.gv = gv
	f.Base["apiVersion"], f.Base["kind"] = f.APIVersion, f.Kind
	out := &bytes.Buffer{}
	seen := map[string]bool{}
	count, accepted := 0, 0
	for _, op := range sorted(f.Cases) {
		for _, c := range f.Cases[op] {
			was, now := split(c)
			name := op + " " + compact(c)
			if seen[name] {
				must(fmt.Errorf("%s: %s: twice", path, name))
			}
			seen[name] = true
			var a answer
			if op == "create" {
				_, err := k.created(patch(f.Base, now))
				a = told(name, err)
			} else {
				old, err := k.made(patch(f.Base, was))
				if err != nil {
					must(fmt.Errorf("%s: %s: the old object: %w", path, name, err))
				}
				a = told(name, k.updated(op, old, now))
			}
			// Maps are walked in any order; an answer that depends on it can't be compared.
			for range 4 {
				var b answer
				if op == "create" {
					_, err := k.created(patch(f.Base, now))
					b = told(name, err)
				} else {
					old, _ := k.made(patch(f.Base, was))
					b = told(name, k.updated(op, old, now))
				}
				if !reflect.DeepEqual(a, b) {
					must(fmt.Errorf("%s: %s: not the same each time:\n%s\n%s", path, name, a.Message, b.Message))
				}
			}
			out.WriteString(compact(a) + "\n")
			count++
			if a.Code == 200 {
				accepted++
				fmt.Printf("  accepted: %s %s\n", f.Kind, name)
			}
		}
	}
	golden := filepath.Join(filepath.Dir(filepath.Dir(path)), "golden", strings.TrimSuffix(filepath.Base(path), ".yaml")+".jsonl")
	must(os.WriteFile(golden, out.Bytes(), 0o644))
	fmt.Printf("%s: %d cases, %d accepted\n", f.Kind, count, accepted)
}

func main() {
	klog.SetLogger(klog.Logger{})
	// As everybody starts kube-apiserver: --allow-privileged.
	capabilities.Setup(true, 0)
	paths := os.Args[1:]
	if len(paths) == 1 && paths[0] == "internal" {
		internal()
		return
	}
	if len(paths) == 0 {
		var err error
		paths, err = filepath.Glob("../cases/*.yaml")
		must(err)
	}
	for _, p := range paths {
		one(p)
	}
}
