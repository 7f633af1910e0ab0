//! RBAC rules: whether one allows a request, and whether a set of them covers another. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

use super::Attributes;

/// `PolicyRule`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub non_resource_urls: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
}

pub(super) fn nullable<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

fn has(list: &[String], x: &str) -> bool {
    list.iter().any(|l| l == x)
}

fn star_or(list: &[String], x: &str) -> bool {
    list.iter().any(|l| l == "*" || l == x)
}

fn resource_matches(rule: &[String], resource: &str, subresource: &str) -> bool {
    rule.iter().any(|r| {
        if r == "*" {
            return true;
        }
        if subresource.is_empty() {
            return r == resource;
        }
        match r.split_once('/') {
            Some((res, sub)) => sub == subresource && (res == resource || res == "*"),
            None => false,
        }
    })
}

fn url_matches(rule: &[String], path: &str) -> bool {
    rule.iter().any(|u| {
        u == "*"
            || u == path
            || u.strip_suffix('*').is_some_and(|p| path.starts_with(p.trim_end_matches('*')))
    })
}

impl Rule {
    pub fn allows(&self, a: &Attributes<'_>) -> bool {
        if !star_or(&self.verbs, a.verb) {
            return false;
        }
        if !a.is_resource {
            return url_matches(&self.non_resource_urls, a.path);
        }
        star_or(&self.api_groups, a.group)
            && resource_matches(&self.resources, a.resource, a.subresource)
            && (self.resource_names.is_empty() || has(&self.resource_names, a.name))
    }

    /// As upstream prints a rule in messages.
    pub fn compact(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, v)| !v.is_empty())
        .map(|(k, v)| format!("{k}:{}", quoted_list(v)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }

    /// Rules of one verb, one group, one resource, one name (or one URL) that say the same together.
    fn split(&self) -> Vec<Rule> {
        let mut out = Vec::new();
        let one = |s: &str| vec![s.to_owned()];
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let base = Rule {
                        api_groups: one(group),
                        resources: one(resource),
                        verbs: one(verb),
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        out.push(base);
                    } else {
                        out.extend(
                            self.resource_names
                                .iter()
                                .map(|n| Rule { resource_names: one(n), ..base.clone() }),
                        );
                    }
                }
            }
        }
        for url in &self.non_resource_urls {
            for verb in &self.verbs {
                out.push(Rule { non_resource_urls: one(url), verbs: one(verb), ..Rule::default() });
            }
        }
        out
    }

    fn covers_simple(&self, s: &Rule) -> bool {
        let all = |mine: &[String], wanted: &[String]| wanted.iter().all(|w| star_or(mine, w));
        if !all(&self.verbs, &s.verbs) {
            return false;
        }
        if !s.non_resource_urls.is_empty() {
            return s.non_resource_urls.iter().all(|u| url_matches(&self.non_resource_urls, u));
        }
        let names = self.resource_names.is_empty()
            || (!s.resource_names.is_empty()
                && s.resource_names.iter().all(|n| has(&self.resource_names, n)));
        let resources = s.resources.iter().all(|r| {
            if star_or(&self.resources, r) {
                return true;
            }
            // `*/scale` covers `deployments/scale`.
            r.split_once('/').is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
        });
        all(&self.api_groups, &s.api_groups) && resources && names
    }
}

/// Go's `%q` of a string slice.
pub(super) fn quoted_list(v: &[String]) -> String {
    let q: Vec<String> = v.iter().map(|s| format!("{s:?}")).collect();
    format!("[{}]", q.join(" "))
}

/// What of `wanted` nobody in `owned` grants, put together again by resource; empty: all is covered.
pub fn missing(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut left: Vec<Rule> = Vec::new();
    for simple in wanted.iter().flat_map(Rule::split) {
        if !owned.iter().any(|o| o.covers_simple(&simple)) && !left.contains(&simple) {
            left.push(simple);
        }
    }
    let mut out: Vec<Rule> = Vec::new();
    for rule in left {
        let same = |o: &&mut Rule| {
            rule.non_resource_urls.is_empty()
                && o.api_groups == rule.api_groups
                && o.resources == rule.resources
                && o.resource_names == rule.resource_names
                && o.non_resource_urls.is_empty()
        };
        match out.iter_mut().find(same) {
            Some(o) => o.verbs.extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out
}

/// The message of a refused grant.
pub fn escalation_message(user: &crate::User, missing: &[Rule]) -> String {
    let lines: BTreeSet<String> = missing.iter().map(Rule::compact).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted_list(&user.groups),
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        let l =
            |s: &str| s.split(',').map(|x| if x == "core" { String::new() } else { x.to_owned() }).collect();
        Rule {
            verbs: l(verbs),
            api_groups: l(groups),
            resources: l(resources),
            resource_names: if names.is_empty() { vec![] } else { l(names) },
            non_resource_urls: vec![],
        }
    }

    #[test]
    fn resource_rules() {
        let u = User::default();
        // verbs, groups, resources, names | verb, group, resource, subresource, name | allowed
        let t = [
            (("get", "core", "pods", ""), ("get", "", "pods", "", "a"), true),
            (("get", "core", "pods", ""), ("get", "", "pods", "log", "a"), false),
            (("get", "core", "pods/log", ""), ("get", "", "pods", "log", "a"), true),
            (("*", "*", "*", ""), ("x", "y", "z", "s", ""), true),
            (("update", "*", "*/scale", ""), ("update", "apps", "deployments", "scale", "d"), true),
            (("update", "*", "*/scale", ""), ("update", "apps", "deployments", "status", "d"), false),
            (("get", "core", "secrets", "one"), ("get", "", "secrets", "", "one"), true),
            (("get", "core", "secrets", "one"), ("get", "", "secrets", "", "two"), false),
            (("list", "core", "secrets", "one"), ("list", "", "secrets", "", ""), false),
            (("get", "apps", "pods", ""), ("get", "", "pods", "", "a"), false),
        ];
        for (r, q, want) in t {
            let a = Attributes {
                user: &u,
                verb: q.0,
                group: q.1,
                resource: q.2,
                subresource: q.3,
                name: q.4,
                is_resource: true,
                ..Attributes::of(&u)
            };
            assert_eq!(rule(r.0, r.1, r.2, r.3).allows(&a), want, "{r:?} {q:?}");
        }
    }

    #[test]
    fn url_rules() {
        let u = User::default();
        for (url, path, want) in [
            ("/healthz", "/healthz", true),
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz/*", "/healthz", false),
            ("*", "/metrics", true),
            ("/api", "/apis", false),
        ] {
            let r =
                Rule { verbs: vec!["get".into()], non_resource_urls: vec![url.into()], ..Rule::default() };
            let a = Attributes { verb: "get", path, ..Attributes::of(&u) };
            assert_eq!(r.allows(&a), want, "{url} {path}");
        }
    }

    #[test]
    fn missing_rights_are_told_by_resource() {
        let owned = [rule("get,list", "core", "pods", ""), rule("*", "apps", "*/scale", "")];
        let wanted = [
            rule("get,delete,update", "core", "pods", ""),
            rule("get", "apps", "deployments/scale", ""),
            rule("get", "core", "secrets", "x"),
        ];
        let m = missing(&owned, &wanted);
        let user = User::new("bob", &["a", "b"]);
        assert_eq!(
            escalation_message(&user, &m),
            "user \"bob\" (groups=[\"a\" \"b\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"update\"]}\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], ResourceNames:[\"x\"], Verbs:[\"get\"]}"
        );
        assert!(missing(&[rule("*", "*", "*", "")], &wanted).is_empty());
    }
}
