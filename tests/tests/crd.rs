//! Custom resources through kubectl: what an operator's user does.

use testkit::{Cluster, wait_for};

const CRD: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              cronSpec: {type: string, pattern: '^\S+ \S+ \S+ \S+ \S+$', description: When to run.}
              image: {type: string}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
          status:
            type: object
            properties: {replicas: {type: integer}}
"#;

const TAB: &str = "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {name: my-tab}\nspec: {cronSpec: '* * * * */5', image: i}\n";

#[test]
fn a_definition_is_used_like_any_kind() {
    let c = Cluster::control_plane();
    c.apply(CRD);
    c.kubectl(&["wait", "--for=condition=Established", "crd/crontabs.stable.example.com", "--timeout=60s"]);
    // kubectl caches discovery; a new kind is found by asking anew.
    wait_for("the first object", || c.try_kubectl(&["apply", "-f", "-"], Some(TAB)).ok);
    let table = c.kubectl(&["get", "ct"]);
    assert!(table.contains("SPEC") && table.contains("* * * * */5") && table.contains("REPLICAS"), "{table}");
    assert!(c.kubectl(&["get", "all"]).contains("crontab.stable.example.com/my-tab"));
    assert!(c.kubectl(&["explain", "ct.spec.cronSpec"]).contains("When to run."));
    c.kubectl(&["scale", "ct/my-tab", "--replicas=3"]);
    assert_eq!(c.kubectl(&["get", "ct", "my-tab", "-o", "jsonpath={.spec.replicas}"]), "3");
    let bad = TAB.replace("*/5'", "*/5', replicas: 11").replace("my-tab", "bad");
    let said = c.kubectl_fails(&["apply", "-f", "-"], Some(&bad));
    assert!(said.contains("spec.replicas in body should be less than or equal to 10"), "{said}");
    let said = c.kubectl_fails(&["apply", "-f", "-"], Some(&TAB.replace("image: i", "imagee: i")));
    assert!(said.contains("unknown field \"spec.imagee\""), "{said}");
    c.kubectl(&["patch", "ct", "my-tab", "--type=merge", "-p", r#"{"spec":{"cronSpec":"1 * * * *"}}"#]);
    let out = c.try_kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], Some(TAB));
    assert!(out.ok, "{}", out.stderr);
    // Owner references and namespaces work across built-in and custom kinds.
    let uid = c.kubectl(&["get", "ct", "my-tab", "-o", "jsonpath={.metadata.uid}"]);
    c.apply(&format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: owned\n  ownerReferences: [{{apiVersion: stable.example.com/v1, kind: CronTab, name: my-tab, uid: {uid}}}]\n"
    ));
    c.kubectl(&["delete", "ct", "my-tab", "--timeout=60s"]);
    wait_for("what it owned to go", || !c.try_kubectl(&["get", "configmap", "owned"], None).ok);
    c.kubectl(&["create", "namespace", "other"]);
    let out = c.try_kubectl(&["-n", "other", "apply", "-f", "-"], Some(TAB));
    assert!(out.ok, "{}", out.stderr);
    c.kubectl(&["delete", "namespace", "other", "--timeout=90s"]);
    assert_eq!(c.kubectl(&["get", "ct", "-A", "-o", "name"]).trim(), "");
    c.kubectl(&["delete", "crd", "crontabs.stable.example.com", "--timeout=60s"]);
    wait_for("the kind to be gone", || !c.kubectl(&["api-resources"]).contains("crontabs"));
}

/// A rule compares every item with every other, and nothing says how many there are.
const COSTLY: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: teams.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: teams, singular: team, kind: Team}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              members:
                type: array
                items: {type: string}
                x-kubernetes-validations:
                - {rule: 'self.all(x, self.exists_one(y, x == y))', message: everybody is a member once}
"#;

#[test]
fn a_rule_that_could_cost_too_much_is_refused_until_its_lists_are_bounded() {
    let c = Cluster::control_plane();
    let said = c.kubectl_fails(&["apply", "-f", "-"], Some(COSTLY));
    let rule = "spec.validation.openAPIV3Schema.properties[spec].properties[members].x-kubernetes-validations[0].rule: Forbidden: ";
    let try_this = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
    for text in [
        format!("{rule}estimated rule cost exceeds budget by factor of more than 100x {try_this}"),
        format!(
            "{rule}contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        ),
        format!(
            "spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x {try_this}"
        ),
    ] {
        assert!(said.contains(&text), "{said}");
    }
    let bounded = COSTLY
        .replace("type: array", "type: array\n                maxItems: 50")
        .replace("{type: string}", "{type: string, maxLength: 40}");
    c.apply(&bounded);
    c.kubectl(&["wait", "--for=condition=Established", "crd/teams.stable.example.com", "--timeout=60s"]);
    let team = |members: &str| {
        format!(
            "apiVersion: stable.example.com/v1\nkind: Team\nmetadata: {{name: a}}\nspec: {{members: [{members}]}}\n"
        )
    };
    wait_for("the first object", || c.try_kubectl(&["apply", "-f", "-"], Some(&team("ann, bob"))).ok);
    let said = c.kubectl_fails(&["apply", "-f", "-"], Some(&team("ann, ann")));
    assert!(said.contains("everybody is a member once"), "{said}");
}
