package main

import (
	"context"
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const finalizer = group + "/clean"

// reconciler keeps a ConfigMap for each name of a Greeting, and leaves a note when a Greeting goes.
type reconciler struct {
	client client.Client
	events events.EventRecorder
	by     string
}

func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	g := &Greeting{}
	if err := r.client.Get(ctx, request.NamespacedName, g); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !g.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, r.clean(ctx, g)
	}
	if controllerutil.AddFinalizer(g, finalizer) {
		// The update is seen, and brings us back.
		return reconcile.Result{}, r.client.Update(ctx, g)
	}
	for _, name := range g.Spec.Names {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: g.Name + "-" + name}}
		done, err := controllerutil.CreateOrUpdate(ctx, r.client, m, func() error {
			m.Data = map[string]string{"text": g.Spec.Tone + " greetings, " + name}
			return controllerutil.SetControllerReference(g, m, r.client.Scheme())
		})
		if err != nil {
			return reconcile.Result{}, err
		}
		if done == controllerutil.OperationResultCreated {
			r.events.Eventf(g, m, corev1.EventTypeNormal, "Greeted", "Greet", "greeted %s", name)
		}
	}
	before := g.copy()
	g.Status.Greeted, g.Status.ObservedGeneration = int32(len(g.Spec.Names)), g.Generation
	meta.SetStatusCondition(&g.Status.Conditions, metav1.Condition{
		Type: "Ready", Status: metav1.ConditionTrue, Reason: "Greeted", Message: "by " + r.by, ObservedGeneration: g.Generation,
	})
	return reconcile.Result{}, r.client.Status().Patch(ctx, g, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

func (r *reconciler) clean(ctx context.Context, g *Greeting) error {
	if !controllerutil.ContainsFinalizer(g, finalizer) {
		return nil
	}
	note := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: g.Namespace, Name: "gone-" + g.Name}}
	if err := r.client.Create(ctx, note); client.IgnoreAlreadyExists(err) != nil {
		return err
	}
	controllerutil.RemoveFinalizer(g, finalizer)
	return client.IgnoreNotFound(r.client.Update(ctx, g))
}

// webhooks: what every Greeting gets, and what none may be.
type webhooks struct{}

func (webhooks) Default(_ context.Context, g *Greeting) error {
	if g.Spec.Tone == "" {
		g.Spec.Tone = "friendly"
	}
	if g.Labels == nil {
		g.Labels = map[string]string{}
	}
	g.Labels["tone"] = g.Spec.Tone
	return nil
}

func (webhooks) ValidateCreate(_ context.Context, g *Greeting) (admission.Warnings, error) {
	if len(g.Spec.Names) == 0 {
		path := field.NewPath("spec", "names")
		return nil, apierrors.NewInvalid(newVersion.WithKind("Greeting").GroupKind(), g.Name,
			field.ErrorList{field.Required(path, "somebody must be greeted")})
	}
	if strings.Contains(strings.Join(g.Spec.Names, " "), "nobody") {
		return nil, errors.New("nobody can't be greeted")
	}
	if len(g.Spec.Names) > 2 {
		return admission.Warnings{"this is a crowd"}, nil
	}
	return nil, nil
}

func (w webhooks) ValidateUpdate(ctx context.Context, old, g *Greeting) (admission.Warnings, error) {
	if old.Spec.Tone != g.Spec.Tone {
		return nil, errors.New("the tone stays what it was")
	}
	return w.ValidateCreate(ctx, g)
}

func (webhooks) ValidateDelete(_ context.Context, g *Greeting) (admission.Warnings, error) {
	if g.Spec.Keep {
		return nil, errors.New("it is to be kept")
	}
	return nil, nil
}
