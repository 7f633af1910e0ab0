package main

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/conversion"
)

const group = "greetings.example.com"

var (
	newVersion = schema.GroupVersion{Group: group, Version: "v1"}
	oldVersion = schema.GroupVersion{Group: group, Version: "v1alpha1"}
)

// Status is the same in both versions.
type Status struct {
	Greeted            int32              `json:"greeted"`
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

func (s Status) copy() Status {
	s.Conditions = slices.Clone(s.Conditions)
	return s
}

// Greeting is the version that is stored.
type Greeting struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              GreetingSpec `json:"spec"`
	Status            Status       `json:"status,omitempty"`
}

type GreetingSpec struct {
	Names []string `json:"names"`
	Tone  string   `json:"tone,omitempty"`
	Keep  bool     `json:"keep,omitempty"`
}

// Hub says that the other versions are converted to and from this one.
func (*Greeting) Hub() {}

func (g *Greeting) DeepCopyObject() runtime.Object { return g.copy() }

func (g *Greeting) copy() *Greeting {
	out := *g
	out.ObjectMeta = *g.ObjectMeta.DeepCopy()
	out.Spec.Names = slices.Clone(g.Spec.Names)
	out.Status = g.Status.copy()
	return &out
}

type GreetingList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Greeting `json:"items"`
}

func (l *GreetingList) DeepCopyObject() runtime.Object {
	out := *l
	out.Items = nil
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].copy())
	}
	return &out
}

// OldGreeting is what came before: its names are one string.
type OldGreeting struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              OldGreetingSpec `json:"spec"`
	Status            Status          `json:"status,omitempty"`
}

type OldGreetingSpec struct {
	Names string `json:"names"`
	Tone  string `json:"tone,omitempty"`
	Keep  bool   `json:"keep,omitempty"`
}

func (o *OldGreeting) DeepCopyObject() runtime.Object {
	out := *o
	out.ObjectMeta = *o.ObjectMeta.DeepCopy()
	out.Status = o.Status.copy()
	return &out
}

func (o *OldGreeting) ConvertTo(hub conversion.Hub) error {
	g := hub.(*Greeting)
	g.ObjectMeta, g.Status = o.ObjectMeta, o.Status
	g.Spec = GreetingSpec{Names: strings.Split(o.Spec.Names, ","), Tone: o.Spec.Tone, Keep: o.Spec.Keep}
	return nil
}

func (o *OldGreeting) ConvertFrom(hub conversion.Hub) error {
	g := hub.(*Greeting)
	o.ObjectMeta, o.Status = g.ObjectMeta, g.Status
	o.Spec = OldGreetingSpec{Names: strings.Join(g.Spec.Names, ","), Tone: g.Spec.Tone, Keep: g.Spec.Keep}
	return nil
}

func addTypes(s *runtime.Scheme) error {
	s.AddKnownTypes(newVersion, &Greeting{}, &GreetingList{})
	s.AddKnownTypeWithName(oldVersion.WithKind("Greeting"), &OldGreeting{})
	metav1.AddToGroupVersion(s, newVersion)
	metav1.AddToGroupVersion(s, oldVersion)
	return nil
}
