//! Helm, as its own project builds it, with a chart of definitions, their objects, workloads and hooks: installed, upgraded,
//! rolled back, tested and uninstalled, with updates made by the server and with updates made by the client.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::programs;
use serde_json::Value;
use testkit::{Cluster, Output, run};

/// Updates by server-side apply, and by three-way merges in the client.
const WAYS: [(&str, &str); 2] = [("server", "--server-side=true"), ("client", "--server-side=false")];

struct Helm<'a> {
    c: &'a Cluster,
    program: PathBuf,
    namespace: String,
    /// What each install and upgrade sets beside what it is about.
    pods: bool,
}

impl<'a> Helm<'a> {
    fn new(c: &'a Cluster, program: &Path, way: &str, pods: bool) -> Self {
        Self { c, program: program.to_owned(), namespace: format!("shop-{way}"), pods }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .args(["--namespace", &self.namespace, "--kubeconfig", &self.c.kubeconfig()])
            .env("HOME", self.c.dir());
        run(&mut command, None)
    }

    fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.ok, "helm {args:?} failed: {}\n{}", out.stderr, out.stdout);
        out.stdout
    }

    fn fails(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(!out.ok, "helm {args:?} should have failed: {}", out.stdout);
        out.stderr
    }

    /// `install` or `upgrade` of the chart with more flags.
    fn chart<'b>(&self, verb: &'b str, chart: &'b str, more: &[&'b str]) -> Vec<&'b str> {
        let pods = if self.pods { "pods=true" } else { "pods=false" };
        [&[verb, "shop", chart, "--wait", "--wait-for-jobs", "--timeout=80s", "--set", pods], more].concat()
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("helm {args:?}: {e} in {text}"))
    }

    /// The states of all revisions, oldest first.
    fn history(&self) -> Vec<String> {
        let all = self.json(&["history", "shop"]);
        let all = all.as_array().expect("a list").iter();
        all.map(|r| r["status"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn kubectl(&self, args: &[&str]) -> String {
        self.c.kubectl(&[&["-n", &self.namespace], args].concat())
    }

    fn is_there(&self, object: &str) -> bool {
        !self.kubectl(&["get", object, "--ignore-not-found", "-o", "name"]).is_empty()
    }

    /// One field of an object.
    fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={path}")])
    }

    /// How often the hook's object was made, by the uid of the one that is there.
    fn hook(&self, name: &str) -> String {
        let object = format!("{}/shop-{name}", if self.pods { "job" } else { "configmap" });
        match self.is_there(&object) {
            true => self.field(&object, "{.metadata.uid}"),
            false => String::new(),
        }
    }

    /// What the edition of the chart looks like.
    fn looks(&self, edition: u32) {
        let (this, other) =
            (format!("configmap/shop-only-{edition}"), format!("configmap/shop-only-{}", 3 - edition));
        assert!(self.is_there(&this) && !self.is_there(&other), "edition {edition}");
        assert_eq!(self.field("configmap/shop-config", "{.data.edition}"), edition.to_string());
        let keg = self.field("vessel/shop-keg", "{.spec.litres} {.spec.colour}");
        assert_eq!(keg, format!("{} brown", 10 * edition));
        if self.pods {
            let env = "{.spec.template.spec.containers[0].env[0].value} {.status.readyReplicas} {.status.updatedReplicas}";
            assert_eq!(self.field("deployment/shop", env), format!("{edition} 2 2"));
        }
    }
}

fn chart() -> String {
    programs::sources().join("chart").to_string_lossy().into_owned()
}

/// A release from its first day to its last.
fn whole_life(h: &Helm<'_>, way: &str) {
    let chart = chart();
    let installed = h.ok(&h.chart("install", &chart, &["--create-namespace", way]));
    assert!(
        installed.contains("STATUS: deployed") && installed.contains("shop has edition 1."),
        "{installed}"
    );
    h.looks(1);
    let seen = h.field("configmap/shop-config", "{.data.kubernetes} {.data.vessels}");
    // The definition was there before the templates were read.
    assert_eq!(seen, "1.37 true");
    let before = h.hook("before");
    assert!(!before.is_empty() && h.hook("passing").is_empty() && h.hook("after").is_empty());
    if h.pods {
        let succeeded = h.field("job/shop-before", "{.status.succeeded}");
        assert_eq!(succeeded, "1", "the hook has run");
        assert!(h.kubectl(&["logs", "job/shop-before"]).contains("prepared"));
        let tested = h.ok(&["test", "shop", "--logs", "--timeout=80s"]);
        assert!(tested.contains("edition 1"), "{tested}");
    }
    assert_eq!(h.json(&["list"])[0]["status"], "deployed");

    // What others have added stays.
    h.kubectl(&["annotate", "configmap/shop-config", "by=others"]);
    let upgraded = h.ok(&h.chart("upgrade", &chart, &["--set", "edition=2"]));
    assert!(upgraded.contains("REVISION: 2"), "{upgraded}");
    h.looks(2);
    assert_eq!(h.field("configmap/shop-config", "{.metadata.annotations.by}"), "others");
    // `lookup` finds nothing but in a cluster.
    assert_eq!(h.field("configmap/shop-config", "{.data.namespace}"), h.namespace);
    assert!(h.hook("before") != before, "the hook was made anew");
    assert!(!h.hook("after").is_empty());
    assert_eq!(h.history(), ["superseded", "deployed"]);

    let after = h.hook("after");
    h.ok(&["rollback", "shop", "1", "--wait", "--timeout=80s"]);
    h.looks(1);
    assert!(h.hook("after") != after, "the hook was made anew");
    assert_eq!(h.history(), ["superseded", "superseded", "deployed"]);

    // An object that the server refuses fails the upgrade, and a rollback mends it.
    let refused = h.fails(&h.chart("upgrade", &chart, &["--set", "edition=0", "--rollback-on-failure"]));
    assert!(refused.contains("spec.litres") && refused.contains("greater than or equal to 1"), "{refused}");
    h.looks(1);
    let end = h.history();
    assert_eq!(end[end.len() - 2..], ["failed", "deployed"], "{end:?}");

    let removed = h.ok(&["uninstall", "shop", "--wait", "--timeout=80s"]);
    assert!(removed.contains("shop-kept") && removed.contains("uninstalled"), "{removed}");
    for gone in
        ["configmap/shop-config", "vessel/shop-keg", "service/shop", "role/shop", "secret/shop-secret"]
    {
        assert!(!h.is_there(gone), "{gone}");
    }
    assert!(h.hook("last").is_empty() && h.is_there("configmap/shop-kept"));
    assert_eq!(h.kubectl(&["get", "secrets", "-l", "owner=helm", "-o", "name"]), "");
    assert_eq!(h.json(&["list"]), serde_json::json!([]));
    assert!(h.is_there("crd/vessels.shop.example.com"), "definitions stay");
}

#[test]
fn a_chart_lives_on_a_control_plane() {
    let Some(helm) = programs::helm() else { return };
    let c = Cluster::control_plane();
    for (name, way) in WAYS {
        whole_life(&Helm::new(&c, &helm, name, false), way);
    }
}

#[test]
fn a_chart_lives_on_a_cluster_with_a_node() {
    let Some(helm) = programs::helm() else { return };
    let Some(c) = Cluster::with_node() else { return };
    for (name, way) in WAYS {
        whole_life(&Helm::new(&c, &helm, name, true), way);
    }
    // A hook that fails fails the upgrade.
    let h = Helm::new(&c, &helm, "broken", true);
    let chart = chart();
    h.ok(&h.chart("install", &chart, &["--create-namespace"]));
    let failed = h.fails(&h.chart("upgrade", &chart, &["--set", "edition=2,broken=true"]));
    assert!(failed.contains("post-upgrade hooks failed") && failed.contains("shop-after"), "{failed}");
    assert_eq!(h.history(), ["deployed", "failed"]);
    assert!(h.kubectl(&["logs", "job/shop-after"]).contains("broken"));
    h.ok(&h.chart("upgrade", &chart, &["--set", "edition=2"]));
    h.looks(2);
    h.ok(&["uninstall", "shop", "--cascade=foreground", "--wait", "--timeout=80s"]);
    assert_eq!(h.kubectl(&["get", "pods", "-l", "app=shop", "-o", "name"]), "");
}

#[test]
fn fields_of_others_are_conflicts() {
    let Some(helm) = programs::helm() else { return };
    let c = Cluster::control_plane();
    let h = Helm::new(&c, &helm, "shared", false);
    let chart = chart();
    h.ok(&h.chart("install", &chart, &["--create-namespace", "--server-side=true"]));
    h.kubectl(&["patch", "configmap/shop-config", "--type=merge", "-p", r#"{"data":{"edition":"mine"}}"#]);
    let upgrade = h.chart("upgrade", &chart, &["--set", "edition=2"]);
    let refused = h.fails(&upgrade);
    assert!(
        refused.contains("conflict with \"kubectl-patch\"") && refused.contains(".data.edition"),
        "{refused}"
    );
    h.ok(&[&upgrade[..], &["--force-conflicts"]].concat());
    h.looks(2);
    // A release of the client's is taken over by the server's way.
    let t = Helm::new(&c, &helm, "taken", false);
    t.ok(&t.chart("install", &chart, &["--create-namespace", "--server-side=false"]));
    t.ok(&t.chart("upgrade", &chart, &["--set", "edition=2", "--server-side=true", "--force-conflicts"]));
    t.looks(2);
    t.ok(&["rollback", "shop", "1", "--wait", "--server-side=true", "--force-conflicts"]);
    t.looks(1);
}
