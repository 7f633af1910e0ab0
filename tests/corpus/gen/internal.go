package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"

	v1apps "k8s.io/api/apps/v1"
	v1batch "k8s.io/api/batch/v1"
	v1beta1certificates "k8s.io/api/certificates/v1beta1"
	v1core "k8s.io/api/core/v1"
	v1flow "k8s.io/api/flowcontrol/v1"
	v1policy "k8s.io/api/policy/v1"
	v1rbac "k8s.io/api/rbac/v1"
	crd "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	v1crd "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/apis/apps"
	"k8s.io/kubernetes/pkg/apis/batch"
	"k8s.io/kubernetes/pkg/apis/certificates"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/flowcontrol"
	"k8s.io/kubernetes/pkg/apis/policy"
	"k8s.io/kubernetes/pkg/apis/rbac"
)

// Error texts print upstream's internal types. Their fields, in order, beside the names that the v1 form has.
type table struct {
	lines []string
	seen  map[string]reflect.Type
}

var marshaler = reflect.TypeOf((*json.Marshaler)(nil)).Elem()

// flat lists a struct's fields with those of embedded ones in their place.
func flat(t reflect.Type) []reflect.StructField {
	var out []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			out = append(out, flat(f.Type)...)
		} else if f.IsExported() {
			out = append(out, f)
		}
	}
	return out
}

func elem(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t
}

func (tb *table) shape(t, v reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return "*" + tb.shape(t.Elem(), v)
	case t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler) || t.Kind() == reflect.Interface ||
		t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		// As on the wire; beside it what is printed when nothing is there.
		return "=" + compact(reflect.New(t).Interface())
	case t.Kind() == reflect.Slice:
		return "[]" + tb.shape(t.Elem(), v)
	case t.Kind() == reflect.Map:
		return "{}" + tb.shape(t.Elem(), v)
	case t.Kind() == reflect.Struct:
		tb.add(t, v)
		return t.Name()
	case t.Kind() == reflect.String:
		return "string"
	case t.Kind() == reflect.Bool:
		return "bool"
	default:
		return "number"
	}
}

func (tb *table) add(t, v reflect.Type) {
	if had, ok := tb.seen[t.Name()]; ok {
		if had != t {
			must(fmt.Errorf("two types %s: %v, %v", t.Name(), had, t))
		}
		return
	}
	tb.seen[t.Name()] = t
	at := len(tb.lines)
	tb.lines = append(tb.lines, t.Name())
	wire := map[string]reflect.StructField{}
	if v.Kind() == reflect.Struct {
		for _, f := range flat(v) {
			wire[f.Name] = f
		}
	}
	var own []string
	for _, f := range flat(t) {
		shown, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if shown == "-" {
			continue
		}
		if shown == "" {
			shown = f.Name
		}
		if strings.Contains(options, "omitempty") {
			shown += "?"
		}
		from, of := "-", f.Type
		// Kind and version are left behind when a type is converted.
		if w, ok := wire[f.Name]; ok && !(embeds(t, "TypeMeta") && (f.Name == "Kind" || f.Name == "APIVersion")) {
			from, _, _ = strings.Cut(w.Tag.Get("json"), ",")
			of = w.Type
			if from == "" {
				// Either of two on the wire.
				from = f.Name
			}
		} else if _, ok := metadata[f.Name]; ok && v.Kind() == reflect.Struct && embeds(t, "ObjectMeta") {
			from = "metadata." + strings.TrimSuffix(shown, "?")
		} else if t.Name() == "PodSecurityContext" {
			// These stand in the pod's spec on the wire.
			w, ok := reflect.TypeOf(v1core.PodSpec{}).FieldByName(f.Name)
			if ok {
				from, _, _ = strings.Cut(w.Tag.Get("json"), ",")
				from = "^" + from
			}
		}
		own = append(own, fmt.Sprintf(" %s %s %s", from, shown, tb.shape(f.Type, elem(of))))
	}
	tb.lines[at] += "\n" + strings.Join(own, "\n")
}

// Metadata that an internal type embeds stands in a field of its own on the wire.
var metadata = func() map[string]bool {
	names := map[string]bool{}
	for _, f := range flat(reflect.TypeOf(metav1.ObjectMeta{})) {
		names[f.Name] = true
	}
	return names
}()

func embeds(t reflect.Type, name string) bool {
	f, ok := t.FieldByName(name)
	return ok && f.Anonymous
}

func internal() {
	tb := &table{seen: map[string]reflect.Type{}}
	for _, pair := range [][2]any{
		{core.PodSpec{}, v1core.PodSpec{}},
		{core.PersistentVolumeSource{}, v1core.PersistentVolumeSource{}},
		{core.PersistentVolumeClaim{}, v1core.PersistentVolumeClaim{}},
		{core.VolumeNodeAffinity{}, v1core.VolumeNodeAffinity{}},
		{core.PodIP{}, v1core.PodIP{}},
		{core.HostIP{}, v1core.HostIP{}},
		{core.Taint{}, v1core.Taint{}},
		{core.NodeAddress{}, v1core.NodeAddress{}},
		{core.ServicePort{}, v1core.ServicePort{}},
		{core.ObjectReference{}, v1core.ObjectReference{}},
		{apps.StatefulSetUpdateStrategy{}, v1apps.StatefulSetUpdateStrategy{}},
		{apps.DaemonSetUpdateStrategy{}, v1apps.DaemonSetUpdateStrategy{}},
		{apps.DeploymentStrategy{}, v1apps.DeploymentStrategy{}},
		{batch.PodFailurePolicy{}, v1batch.PodFailurePolicy{}},
		{batch.SuccessPolicy{}, v1batch.SuccessPolicy{}},
		{policy.PodDisruptionBudgetSpec{}, v1policy.PodDisruptionBudgetSpec{}},
		{rbac.RoleRef{}, v1rbac.RoleRef{}},
		{certificates.PodCertificateRequestSpec{}, v1beta1certificates.PodCertificateRequestSpec{}},
		{flowcontrol.FlowDistinguisherMethod{}, v1flow.FlowDistinguisherMethod{}},
		{crd.CustomResourceDefinitionVersion{}, v1crd.CustomResourceDefinitionVersion{}},
		{metav1.OwnerReference{}, metav1.OwnerReference{}},
	} {
		tb.add(reflect.TypeOf(pair[0]), reflect.TypeOf(pair[1]))
	}
	must(os.WriteFile("../../../crates/api/data/internal.txt", []byte(strings.Join(tb.lines, "\n")+"\n"), 0o644))
}
