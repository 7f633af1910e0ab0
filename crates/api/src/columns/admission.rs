//! Kinds of admissionregistration.k8s.io.

use super::row::{Row, selector, text};

pub fn kind(kind: &str) -> Option<super::Kind> {
    Some(match kind {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => ("Name:n,Webhooks:i,Age", |r| {
            r.name();
            r.count_at("webhooks");
            r.age();
        }),
        "ValidatingAdmissionPolicy" => {
            ("Name:n,Validations:i,ParamKind,Age", |r| policy(r, "spec.validations"))
        }
        "MutatingAdmissionPolicy" => ("Name:n,Mutations:i,ParamKind,Age", |r| policy(r, "spec.mutations")),
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            ("Name:n,PolicyName,ParamRef,Age", binding)
        }
        _ => return None,
    })
}

fn policy(r: &mut Row, rules: &str) {
    r.name();
    r.count_at(rules);
    let p = r.at("spec.paramKind");
    r.text(if p.is_null() {
        "<unset>".to_owned()
    } else {
        format!("{}/{}", text(p, "apiVersion"), text(p, "kind"))
    });
    r.age();
}

fn binding(r: &mut Row) {
    r.name();
    r.text_at("spec.policyName", "");
    let p = r.at("spec.paramRef");
    let shown = match (p.is_null(), text(p, "name"), text(p, "namespace")) {
        (true, _, _) => "<unset>".to_owned(),
        (_, "", _) if !p["selector"].is_null() => selector(&p["selector"]),
        (_, "", _) => "<unset>".to_owned(),
        (_, n, "") => format!("*/{n}"),
        (_, n, ns) => format!("{ns}/{n}"),
    };
    r.text(shown);
    r.age();
}
