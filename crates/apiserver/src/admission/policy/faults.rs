//! Expressions that do not compile, by where they stand in a policy or webhook configuration. Pure.

use serde_json::Value;

use super::config::policy;
use crate::admission::matching::{Condition, conditions, environment, list};
use crate::admission::webhooks::VARIABLES;

/// Field, expression, and what is wrong with it.
pub type Fault = (String, String, String);

fn add<T>(out: &mut Vec<Fault>, field: String, source: &Value, result: &Result<T, String>) {
    if let Err(why) = result {
        out.push((field, source.as_str().unwrap_or_default().to_owned(), why.clone()));
    }
}

fn all_conditions(out: &mut Vec<Fault>, at: &str, written: &Value, compiled: &[Condition]) {
    for (i, (c, v)) in compiled.iter().zip(list(written)).enumerate() {
        add(out, format!("{at}[{i}].expression"), &v["expression"], &c.program);
    }
}

/// `kind` is one of the four of admissionregistration.k8s.io that hold expressions.
pub fn expression_faults(kind: &str, v: &Value) -> Vec<Fault> {
    let mut out = Vec::new();
    match kind {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
            let env = environment(&VARIABLES);
            for (i, w) in list(&v["webhooks"]).iter().enumerate() {
                let written = &w["matchConditions"];
                let at = format!("webhooks[{i}].matchConditions");
                all_conditions(&mut out, &at, written, &conditions(written, &env));
            }
        }
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => {
            let (p, spec) = (policy("", v), &v["spec"]);
            all_conditions(&mut out, "spec.matchConditions", &spec["matchConditions"], &p.conditions);
            for (i, ((_, r), v)) in p.variables.0.iter().zip(list(&spec["variables"])).enumerate() {
                add(&mut out, format!("spec.variables[{i}].expression"), &v["expression"], r);
            }
            for (i, (x, v)) in p.validations.iter().zip(list(&spec["validations"])).enumerate() {
                let at = format!("spec.validations[{i}]");
                add(&mut out, format!("{at}.expression"), &v["expression"], &x.program);
                if let Some(r) = &x.message_expression {
                    add(&mut out, format!("{at}.messageExpression"), &v["messageExpression"], r);
                }
            }
            for (i, (x, v)) in p.audits.iter().zip(list(&spec["auditAnnotations"])).enumerate() {
                let at = format!("spec.auditAnnotations[{i}].valueExpression");
                add(&mut out, at, &v["valueExpression"], &x.program);
            }
            for (i, (x, v)) in p.mutations.iter().zip(list(&spec["mutations"])).enumerate() {
                let field = if x.json_patch { "jsonPatch" } else { "applyConfiguration" };
                let at = format!("spec.mutations[{i}].{field}.expression");
                add(&mut out, at, &v[field]["expression"], &x.program);
            }
        }
        _ => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_are_found_where_they_stand() {
        let v = json!({"spec": {
            "matchConditions": [{"name": "a", "expression": "true"}, {"name": "b", "expression": "nothing"}],
            "variables": [{"name": "x", "expression": "1 +"}],
            "validations": [{"expression": "variables.x == 1"}, {"expression": "1", "messageExpression": "2"}],
            "auditAnnotations": [{"key": "k", "valueExpression": "variables.y"}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[Object{}]"}},
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{}}"}}]}});
        let fields: Vec<String> =
            expression_faults("ValidatingAdmissionPolicy", &v).into_iter().map(|f| f.0).collect();
        assert_eq!(
            fields,
            [
                "spec.matchConditions[1].expression",
                "spec.variables[0].expression",
                "spec.validations[1].expression",
                "spec.validations[1].messageExpression",
                "spec.auditAnnotations[0].valueExpression",
                "spec.mutations[0].jsonPatch.expression"
            ]
        );
        let v = json!({"webhooks": [{}, {"matchConditions": [{"name": "a", "expression": "object."}]}]});
        let all = expression_faults("MutatingWebhookConfiguration", &v);
        assert_eq!((all.len(), all[0].0.as_str()), (1, "webhooks[1].matchConditions[0].expression"));
        assert!(all[0].2.starts_with("compilation failed: ERROR: <input>:1:8: Syntax error"), "{}", all[0].2);
    }
}
