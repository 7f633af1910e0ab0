//! Every loop, in one table: what it is called, whom it acts as, what it watches and writes.

use futures::FutureExt;

use crate::{
    Loop, daemonset, deployment, endpoints, garbage, job, namespace, replicaset, resourcequota,
    serviceaccount, statefulset, volumes,
};

pub const LOOPS: &[Loop] = &[
    Loop {
        name: "deployment",
        account: "deployment-controller",
        watches: &["deployments", "replicasets", "pods"],
        writes: &["replicasets", "deployments/status"],
        run: |c| deployment::run(c).boxed(),
    },
    Loop {
        name: "replicaset",
        account: "replicaset-controller",
        watches: &["replicasets", "pods"],
        writes: &["pods", "replicasets/status"],
        run: |c| replicaset::replica_sets(c).boxed(),
    },
    Loop {
        name: "replicationcontroller",
        account: "replication-controller",
        watches: &["replicationcontrollers", "pods"],
        writes: &["pods", "replicationcontrollers/status"],
        run: |c| replicaset::replication_controllers(c).boxed(),
    },
    Loop {
        name: "job",
        account: "job-controller",
        watches: &["jobs", "pods"],
        writes: &["pods", "jobs/status"],
        run: |c| job::run(c).boxed(),
    },
    Loop {
        name: "statefulset",
        account: "statefulset-controller",
        watches: &["statefulsets", "pods", "persistentvolumeclaims", "controllerrevisions"],
        writes: &["pods", "persistentvolumeclaims", "controllerrevisions", "statefulsets/status"],
        run: |c| statefulset::run(c).boxed(),
    },
    Loop {
        name: "daemonset",
        account: "daemon-set-controller",
        watches: &["daemonsets", "pods", "nodes", "controllerrevisions"],
        writes: &["pods", "controllerrevisions", "daemonsets/status"],
        run: |c| daemonset::run(c).boxed(),
    },
    Loop {
        name: "persistentvolume-binder",
        account: "persistent-volume-binder",
        watches: &["persistentvolumeclaims", "persistentvolumes", "storageclasses"],
        writes: &["persistentvolumeclaims", "persistentvolumes", "their status"],
        run: |c| volumes::binder::run(c).boxed(),
    },
    Loop {
        name: "ephemeral-volume",
        account: "ephemeral-volume-controller",
        watches: &["pods", "persistentvolumeclaims"],
        writes: &["persistentvolumeclaims"],
        run: |c| volumes::ephemeral::run(c).boxed(),
    },
    Loop {
        name: "pvc-protection",
        account: "pvc-protection-controller",
        watches: &["persistentvolumeclaims", "pods"],
        writes: &["finalizers of persistentvolumeclaims"],
        run: |c| volumes::protection::claims(c).boxed(),
    },
    Loop {
        name: "pv-protection",
        account: "pv-protection-controller",
        watches: &["persistentvolumes"],
        writes: &["finalizers of persistentvolumes"],
        run: |c| volumes::protection::volumes(c).boxed(),
    },
    Loop {
        name: "volumeattributesclass-protection",
        account: "volumeattributesclass-protection-controller",
        watches: &["volumeattributesclasses", "persistentvolumeclaims", "persistentvolumes"],
        writes: &["finalizers of volumeattributesclasses"],
        run: |c| volumes::protection::attribute_classes(c).boxed(),
    },
    Loop {
        name: "namespace",
        account: "namespace-controller",
        watches: &["namespaces"],
        writes: &[
            "namespaces/finalize",
            "namespaces/status",
            "everything inside a namespace that is being deleted",
        ],
        run: |c| namespace::run(c).boxed(),
    },
    Loop {
        name: "garbage-collector",
        account: "generic-garbage-collector",
        watches: &["every kind that can be deleted"],
        writes: &["deletes, ownerReferences and finalizers of every kind"],
        run: |c| garbage::run(c).boxed(),
    },
    Loop {
        name: "resourcequota",
        account: "resourcequota-controller",
        watches: &["resourcequotas", "what quotas count"],
        writes: &["resourcequotas/status"],
        run: |c| resourcequota::run(c).boxed(),
    },
    Loop {
        name: "serviceaccount",
        account: "service-account-controller",
        watches: &["namespaces", "serviceaccounts"],
        writes: &["serviceaccounts"],
        run: |c| serviceaccount::default_accounts(c).boxed(),
    },
    Loop {
        name: "root-ca",
        account: "root-ca-cert-publisher",
        watches: &["namespaces", "configmaps"],
        writes: &["configmaps"],
        run: |c| serviceaccount::root_ca(c).boxed(),
    },
    Loop {
        name: "endpointslice",
        account: "endpointslice-controller",
        watches: &["services", "pods", "nodes", "endpointslices"],
        writes: &["endpointslices"],
        run: |c| endpoints::run(c).boxed(),
    },
    Loop {
        name: "endpoints",
        account: "endpoint-controller",
        watches: &["services", "pods", "endpoints"],
        writes: &["endpoints"],
        run: |c| endpoints::endpoints(c).boxed(),
    },
];
