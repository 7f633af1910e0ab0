//! What a failed pod means by the pod failure policy, and when the success policy is met. Pure.

use api::indexes::Indexes;
use serde::Deserialize;

use crate::pods::{ContainerStatus, Pod};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FailurePolicy {
    pub rules: Vec<FailureRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailureRule {
    pub action: String,
    pub on_exit_codes: Option<ExitCodes>,
    pub on_pod_conditions: Vec<ConditionPattern>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExitCodes {
    pub container_name: Option<String>,
    pub operator: String,
    pub values: Vec<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ConditionPattern {
    pub r#type: String,
    pub status: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SuccessPolicy {
    pub rules: Vec<SuccessRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SuccessRule {
    pub succeeded_indexes: Option<String>,
    pub succeeded_count: Option<i64>,
}

/// What to make of one failed pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Counts towards the back-off limits.
    Count,
    /// As if it had not happened.
    Ignore,
    FailIndex,
    /// The job fails, with this message.
    FailJob(String),
}

impl FailurePolicy {
    /// The first rule that matches decides; none means that the failure counts.
    pub fn judge(&self, pod: &Pod) -> Verdict {
        for (at, rule) in self.rules.iter().enumerate() {
            let Some(what) = rule.matches(pod) else { continue };
            match rule.action.as_str() {
                "Ignore" => return Verdict::Ignore,
                "FailIndex" => return Verdict::FailIndex,
                "Count" => return Verdict::Count,
                "FailJob" => return Verdict::FailJob(format!("{what} matching FailJob rule at index {at}")),
                _ => {}
            }
        }
        Verdict::Count
    }
}

/// Without a policy every failure counts.
pub fn judge(policy: Option<&FailurePolicy>, pod: &Pod) -> Verdict {
    policy.map_or(Verdict::Count, |p| p.judge(pod))
}

impl FailureRule {
    /// What it was that matched, in words.
    fn matches(&self, pod: &Pod) -> Option<String> {
        let (ns, name) = (pod.object.namespace(), pod.object.name());
        let status = &pod.view.status;
        if let Some(codes) = &self.on_exit_codes {
            let (container, code) = status
                .container_statuses
                .iter()
                .chain(&status.init_container_statuses)
                .find_map(|c| codes.matches(c).map(|code| (&c.name, code)))?;
            return Some(format!("Container {container} for pod {ns}/{name} failed with exit code {code}"));
        }
        let c = status
            .conditions
            .iter()
            .find(|c| self.on_pod_conditions.iter().any(|p| p.r#type == c.r#type && p.status == c.status))?;
        Some(format!("Pod {ns}/{name} has condition {}", c.r#type))
    }
}

impl ExitCodes {
    fn matches(&self, c: &ContainerStatus) -> Option<i64> {
        let code = c.state.terminated.as_ref()?.exit_code;
        if code == 0 || self.container_name.as_ref().is_some_and(|n| *n != c.name) {
            return None;
        }
        let listed = self.values.contains(&code);
        match self.operator.as_str() {
            "In" => listed.then_some(code),
            "NotIn" => (!listed).then_some(code),
            _ => None,
        }
    }
}

impl SuccessPolicy {
    /// The message of the first rule that is met.
    pub fn met(&self, done: &Indexes, completions: i64) -> Option<String> {
        if done.is_empty() {
            return None;
        }
        let at = self.rules.iter().position(|r| match (&r.succeeded_indexes, r.succeeded_count) {
            (Some(text), count) => {
                let wanted = Indexes::read(text, completions);
                let have = done.common(&wanted).total();
                !wanted.is_empty() && (have == wanted.total() || count.is_some_and(|n| have >= n))
            }
            (None, Some(n)) => done.total() >= n,
            (None, None) => false,
        })?;
        Some(format!("Matched rules at index {at}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Object;
    use serde_json::{Value, json};

    fn pod(status: Value) -> Pod {
        let v = json!({"metadata": {"name": "p", "namespace": "n"}, "status": status});
        Pod::of(Object::from_value(v, 1).expect("object")).expect("pod")
    }

    fn exited(code: i64) -> Value {
        json!({"containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": code}}}]})
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let policy: FailurePolicy = serde_json::from_value(json!({"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [7]}},
            {"action": "FailJob", "onExitCodes": {"containerName": "other", "operator": "NotIn", "values": [1]}},
            {"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue", "status": "True"}]},
        ]}))
        .expect("policy");
        let mut disrupted = exited(42);
        disrupted["conditions"] = json!([{"type": "DisruptionTarget", "status": "True"}]);
        let init =
            json!({"initContainerStatuses": [{"name": "other", "state": {"terminated": {"exitCode": 3}}}]});
        let told = |s: &str| Verdict::FailJob(s.into());
        for (status, want) in [
            (disrupted, Verdict::Ignore),
            (
                exited(42),
                told("Container main for pod n/p failed with exit code 42 matching FailJob rule at index 1"),
            ),
            (exited(7), Verdict::FailIndex),
            (exited(1), Verdict::Count),
            (exited(0), Verdict::Count),
            (
                init,
                told("Container other for pod n/p failed with exit code 3 matching FailJob rule at index 3"),
            ),
            (
                json!({"conditions": [{"type": "ConfigIssue", "status": "True"}]}),
                told("Pod n/p has condition ConfigIssue matching FailJob rule at index 4"),
            ),
        ] {
            assert_eq!(policy.judge(&pod(status.clone())), want, "{status}");
        }
        assert_eq!(judge(None, &pod(exited(42))), Verdict::Count);
    }

    #[test]
    fn success_by_indexes_and_count() {
        let met = |rules: Value, done: &str| {
            let p: SuccessPolicy = serde_json::from_value(json!({ "rules": rules })).expect("policy");
            p.met(&Indexes::read(done, 10), 10)
        };
        for (rules, done, want) in [
            (json!([{"succeededIndexes": "0"}]), "0", Some(0)),
            (json!([{"succeededIndexes": "0-2"}]), "0,2", None),
            (json!([{"succeededIndexes": "0-4", "succeededCount": 2}]), "1,3,7", Some(0)),
            (json!([{"succeededIndexes": "0"}, {"succeededCount": 3}]), "1-3", Some(1)),
            (json!([{"succeededCount": 0}]), "", None),
            (json!([{"succeededIndexes": "20"}]), "1", None),
        ] {
            let want = want.map(|at| format!("Matched rules at index {at}"));
            assert_eq!(met(rules.clone(), done), want, "{rules} {done}");
        }
    }
}
