//! Pods that can't even be made: what the API server told their owner, and the object behind it.

use super::services;
use crate::cause::{Cause, Weight};
use crate::facts::{Facts, Lookup, Thing, event_time, names, str_of};

/// What the API server said when the owner last tried; nothing when it has succeeded since.
pub fn refusal<'a>(f: &'a Facts, owner: &'a Thing) -> Option<(String, Option<&'a Thing>)> {
    let failed = f.event(owner, &["FailedCreate"]);
    if let Some(c) =
        owner.condition("ReplicaFailure").filter(|c| c["status"] == "True" && c["reason"] == "FailedCreate")
    {
        return Some((str_of(&c["message"]).to_owned(), failed));
    }
    let e = failed?;
    let made = f.event(owner, &["SuccessfulCreate"]).map_or(0, event_time);
    (event_time(e) > made || (event_time(e) == made && f.owned("pod", owner).next().is_none()))
        .then(|| (e.text("/message").to_owned(), Some(e)))
}

/// The causes that an owner can't make its pods, read from what it was told.
pub fn causes(f: &Facts, owner: &Thing) -> Vec<Cause> {
    let Some((message, event)) = refusal(f, owner) else { return Vec::new() };
    let text = message.trim_start_matches("Error creating: ").trim();
    let c = of(f, owner, text).event(event);
    vec![if event.is_some() { c } else { c.seen(owner, "status.conditions[ReplicaFailure].message", text) }]
}

/// What stands between two words.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let rest = text.split_once(from)?.1;
    Some(rest.split_once(to).map_or(rest, |(x, _)| x))
}

fn of(f: &Facts, o: &Thing, text: &str) -> Cause {
    let ns = o.ns();
    if let Some(quota) = between(text, "exceeded quota: ", ",") {
        let requested = between(text, "requested: ", ", used:").unwrap_or_default();
        let used = between(text, "used: ", ", limited:").unwrap_or_default();
        let limited = between(text, "limited: ", "\u{0}").unwrap_or_default();
        let mut c = Cause::root(
            "quota-exceeded",
            format!(
                "the quota {quota} of {ns} allows no more pods of it: it asks for {requested}, {used} are used of {limited}"
            ),
        );
        if let Some(q) = f.find("resourcequota", ns, quota) {
            c = c.seen(q, "status.used", used).seen(q, "spec.hard", limited);
        }
        return c
            .run("raise the quota", format!("kubectl edit resourcequota {quota} -n {ns}"))
            .run("or ask for less", f.edit(o));
    }
    if let Some(quota) = between(text, "failed quota: ", ":") {
        let must = between(text, "must specify ", "\u{0}").unwrap_or_default();
        return Cause::root(
            "quota-demands",
            format!("the quota {quota} of {ns} wants every container to state {must}"),
        )
        .run("state them (resources), or give the namespace defaults by a LimitRange", f.edit(o));
    }
    if text.contains(" usage per ") || text.contains("limit to request ratio") {
        let begin = ["maximum ", "minimum ", "cpu max limit", "memory max limit"]
            .iter()
            .filter_map(|w| text.find(w))
            .min();
        let what = begin.and_then(|i| text.get(i..)).unwrap_or(text).trim_end_matches(']');
        let ranges: Vec<&Thing> = f.within("limitrange", ns).collect();
        let named: Vec<String> = ranges.iter().map(|r| r.name().to_owned()).collect();
        let mut c = Cause::root(
            "limit-range",
            format!(
                "the limit range {} of {ns} refuses its pods: {what}",
                if named.is_empty() { "there".into() } else { names(&named, 2) }
            ),
        );
        for r in ranges {
            c = c.seen(r, "spec.limits", r.at("/spec/limits").to_string());
        }
        return c
            .run("stay within it", f.edit(o))
            .run("or change it", format!("kubectl edit limitrange -n {ns}"));
    }
    if text.contains("failed calling webhook") {
        return webhook(f, text);
    }
    if let Some(hook) = between(text, "admission webhook \"", "\"") {
        let said = between(text, "denied the request: ", "\u{0}").unwrap_or("without a word");
        return Cause::root(
            "webhook-denied",
            format!("the admission webhook {hook} refuses its pods: {said}"),
        )
        .run("change what it minds", f.edit(o));
    }
    if text.contains("ValidatingAdmissionPolicy") {
        let at = text.find("ValidatingAdmissionPolicy").and_then(|i| text.get(i..)).unwrap_or(text);
        return Cause::root("policy-denied", format!("a policy refuses its pods: {at}"))
            .run("change what it minds", f.edit(o));
    }
    if let Some(sa) =
        between(text, "serviceaccount \"", "\"").or_else(|| between(text, "service account ", ":"))
    {
        let sa = sa.rsplit('/').next().unwrap_or(sa);
        return Cause::root(
            "service-account-missing",
            format!("the service account {sa} does not exist in {ns}"),
        )
        .seen(o, "spec.template.spec.serviceAccountName", sa)
        .run("make it", format!("kubectl create serviceaccount {sa} -n {ns}"))
        .run("or name another one", f.edit(o));
    }
    if let Some(class) = between(text, "no PriorityClass with name ", " was found") {
        let known: Vec<String> = f.all("priorityclass").iter().map(|c| c.name().to_owned()).collect();
        return Cause::root(
            "priority-class-missing",
            format!("the priority class {class} does not exist (there are {})", names(&known, 4)),
        )
        .seen(o, "spec.template.spec.priorityClassName", class)
        .run("make it", format!("kubectl create priorityclass {class} --value=1000"))
        .run("or name another one", f.edit(o));
    }
    if let Some(class) = between(text, "RuntimeClass \"", "\"") {
        let known: Vec<String> = f.all("runtimeclass").iter().map(|c| c.name().to_owned()).collect();
        let there =
            if known.is_empty() { "there is none".into() } else { format!("there are {}", names(&known, 4)) };
        return Cause::root(
            "runtime-class-missing",
            format!("the runtime class {class} does not exist ({there})"),
        )
        .seen(o, "spec.template.spec.runtimeClassName", class)
        .run("make it, or name no runtime class", f.edit(o));
    }
    if let Some(level) = between(text, "violates PodSecurity \"", "\"") {
        let what = between(text, &format!("\"{level}\": "), "\u{0}").unwrap_or_default();
        let level = level.split(':').next().unwrap_or(level);
        let mut c = Cause::root(
            "pod-security",
            format!("the namespace {ns} admits only {level} pods, and its pods are not: {what}"),
        );
        if let Lookup::There(n) = f.look("namespace", "", ns) {
            c = c.seen(n, "metadata.labels[pod-security.kubernetes.io/enforce]", level);
        }
        return c.run("give its containers the security context that is asked for", f.edit(o));
    }
    let short = text.split_once(" is forbidden: ").map_or(text, |(_, t)| t);
    Cause::root("create-refused", format!("its pods can't be made: {short}"))
        .run("change what is refused", f.edit(o))
}

/// A webhook that does not answer, with the service behind it.
fn webhook(f: &Facts, text: &str) -> Cause {
    let name = between(text, "failed calling webhook \"", "\"").unwrap_or_default();
    let why = between(text, "failed to call webhook: ", "\u{0}").unwrap_or(text);
    let found = ["validatingwebhookconfiguration", "mutatingwebhookconfiguration"].iter().find_map(|kind| {
        let of = |c: &&Thing| c.list("/webhooks").iter().any(|w| w["name"] == name);
        f.all(kind).iter().find(of)
    });
    let Some(config) = found else {
        return Cause::root(
            "webhook-down",
            format!("the admission webhook {name} does not answer, and pods wait for it: {why}"),
        )
        .run(
            "see its configuration",
            "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations",
        );
    };
    let hook = config.list("/webhooks").iter().find(|w| w["name"] == name);
    let client = hook.map_or(&serde_json::Value::Null, |h| &h["clientConfig"]);
    let (ns, service) = (str_of(&client["service"]["namespace"]), str_of(&client["service"]["name"]));
    let mut c = Cause::root("webhook-down", "");
    let behind = if service.is_empty() {
        format!("its address {} does not answer", str_of(&client["url"]))
    } else {
        match f.look("service", ns, service) {
            Lookup::Missing => format!("its service {service} in {ns} does not exist"),
            Lookup::There(s) => {
                let below = services::causes(f, s);
                match below.first() {
                    Some(b) => {
                        c.evidence.extend(b.evidence.iter().cloned());
                        format!("of its service {service} in {ns}: {}", b.says)
                    }
                    None => format!("its service {service} in {ns} has endpoints, and the call fails: {why}"),
                }
            }
            Lookup::Unknown => format!("its service is {service} in {ns}: {why}"),
        }
    };
    c.says = format!(
        "the admission webhook {name} does not answer, and its failurePolicy Fail lets no pod be made: {behind}"
    );
    c.weight = Weight::Root;
    let policy = hook.map_or("", |h| str_of(&h["failurePolicy"]));
    let c = c.seen(config, &format!("webhooks[{name}].failurePolicy"), policy);
    let c = if service.is_empty() {
        c
    } else {
        c.seen(config, &format!("webhooks[{name}].clientConfig.service"), format!("{ns}/{service}"))
    };
    let c = if service.is_empty() {
        c
    } else {
        c.run("bring what serves it back", format!("kelson why service/{service} -n {ns}"))
    };
    c.run(
        "or, if it is gone for good, remove it",
        format!("kubectl delete {} {}", config.kind, config.name()),
    )
}

/// Pods that an owner's selector and status say are missing, when nothing was told.
pub fn fewer(f: &Facts, owner: &Thing, want: i64) -> Option<Cause> {
    let have = i64::try_from(f.owned("pod", owner).filter(|p| !p.is_deleting()).count()).unwrap_or(i64::MAX);
    let seen = owner.int("/status/observedGeneration") >= owner.int("/metadata/generation");
    (have < want && !seen && f.knows("pod", owner.ns())).then(|| {
        Cause::state(
            "controller-silent",
            format!(
                "its controller has not looked at it since it was changed ({have} of {want} pods are there)"
            ),
        )
        .seen(owner, "metadata.generation", owner.int("/metadata/generation").to_string())
        .seen(owner, "status.observedGeneration", owner.int("/status/observedGeneration").to_string())
        .run("see who runs the controllers", "kubectl get lease -n kube-system kube-controller-manager")
    })
}
