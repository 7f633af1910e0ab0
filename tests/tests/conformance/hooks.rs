//! Webhooks of one test: a process of their own behind a Service of the test's namespace, and configurations that see
//! nothing of other tests.

use e2e::extension::Extension;
use serde_json::{Value, json};
use testkit::wait_for;

use crate::world::World;

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";
const SERVICE: &str = "hooks";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Mutating,
    Validating,
}

impl Kind {
    pub fn collection(self) -> String {
        let kind = if self == Self::Mutating { "mutating" } else { "validating" };
        format!("{REGISTRATION}/{kind}webhookconfigurations")
    }
}

pub struct Hooks<'w> {
    w: &'w World<'w>,
    extension: Extension,
}

impl<'w> Hooks<'w> {
    pub fn start(w: &'w World<'w>) -> Self {
        let extension = Extension::start(w.cluster, &[&format!("{SERVICE}.{}.svc", w.namespace)]);
        for o in extension.service(SERVICE, 8443) {
            w.apply(&o.to_string());
        }
        Self { w, extension }
    }

    /// The way to a path of the process.
    pub fn at(&self, path: &str) -> Value {
        let service = json!({"namespace": self.w.namespace, "name": SERVICE, "path": path, "port": 8443});
        json!({"service": service, "caBundle": self.extension.ca})
    }

    /// A webhook for the test's namespace that `/admit/<how>` answers, on `resource` as `pods` or `group/plural`.
    pub fn hook(&self, how: &str, operations: &[&str], resource: &str) -> Value {
        let (group, resource) =
            resource.split_once('/').filter(|(g, _)| g.contains('.')).unwrap_or(("", resource));
        json!({
            "name": format!("{how}-{resource}.example.com").replace('/', "-"),
            "clientConfig": self.at(&format!("/admit/{how}")),
            "rules": [{
                "operations": operations, "apiGroups": [group], "apiVersions": ["*"], "resources": [resource],
            }],
            "namespaceSelector": self.own_namespace(),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1", "v1beta1"],
        })
    }

    pub fn own_namespace(&self) -> Value {
        json!({"matchLabels": {"kubernetes.io/metadata.name": self.w.namespace}})
    }

    /// Registers a configuration for the time of the test and waits until it is in force; its path and what was created.
    pub fn configure(&self, kind: Kind, name: &str, hooks: &[Value]) -> (String, Value) {
        let name = format!("{}-{name}", self.w.namespace);
        // Refuses what has the mark of this configuration.
        let mut ready = self.hook("never", &["CREATE"], "podtemplates");
        ready["objectSelector"] = json!({"matchLabels": {"mark": name}});
        let metadata = json!({"name": name, "labels": {"test": self.w.namespace}});
        let all = [hooks, &[ready]].concat();
        let body = json!({"metadata": metadata, "webhooks": all});
        let collection = kind.collection();
        let path = format!("{collection}/{name}");
        self.w.remove_at_end(&path);
        let made = self.w.create(&collection, &body);
        let template = json!({"spec": {"containers": [{"name": "none", "image": "none"}]}});
        let probe = json!({"metadata": {"name": "probe", "labels": {"mark": name}}, "template": template});
        let probes = self.w.path("api/v1", "podtemplates?dryRun=All");
        wait_for("webhooks to be called", || {
            let answer = self.w.http.json("POST", &probes, &probe);
            assert!(answer.code < 500, "{}", answer.text());
            answer.code != 201
        });
        (path, made)
    }
}
