//! Which webhook wants to see which request. Pure.

use super::config::Rule;

/// A resource in one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|s| s == "*" || s == wanted)
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*` (no subresources), `*/*`.
fn resource(pattern: &str, s: &Seen<'_>) -> bool {
    let (r, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
    (r == "*" || r == s.resource) && (sub == "*" || sub == s.subresource)
}

pub fn rule(r: &Rule, operation: &str, namespaced: bool, s: &Seen<'_>) -> bool {
    let scope = match r.scope.as_str() {
        "Namespaced" => namespaced,
        "Cluster" => !namespaced,
        _ => true,
    };
    scope
        && any(&r.operations, operation)
        && any(&r.groups, s.group)
        && any(&r.versions, s.version)
        && r.resources.iter().any(|p| resource(p, s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let texts = |s: &[&str]| s.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let make = |resources: &[&str], scope: &str| Rule {
            operations: texts(&["CREATE"]),
            groups: texts(&["", "apps"]),
            versions: texts(&["v1"]),
            resources: texts(resources),
            scope: scope.into(),
        };
        let pod = Seen { group: "", version: "v1", resource: "pods", subresource: "" };
        let log = Seen { subresource: "log", ..pod };
        let cases = [
            (make(&["pods"], "*"), "CREATE", true, pod, true),
            (make(&["pods"], "*"), "UPDATE", true, pod, false),
            (make(&["pods"], "Cluster"), "CREATE", true, pod, false),
            (make(&["pods"], "*"), "CREATE", true, log, false),
            (make(&["pods/*"], "*"), "CREATE", true, log, true),
            (make(&["*/log"], "Namespaced"), "CREATE", true, log, true),
            (make(&["*"], "*"), "CREATE", true, pod, true),
            (make(&["*"], "*"), "CREATE", true, log, false),
            (make(&["*/*"], "*"), "CREATE", true, log, true),
            (make(&["pods"], "*"), "CREATE", true, Seen { version: "v2", ..pod }, false),
            (make(&["pods"], "*"), "CREATE", true, Seen { group: "batch", ..pod }, false),
        ];
        for (i, (r, op, namespaced, seen, wanted)) in cases.into_iter().enumerate() {
            assert_eq!(rule(&r, op, namespaced, &seen), wanted, "case {i}");
        }
    }
}
