//! PodSecurity: a namespace's label says which of the Pod Security Standards its pods must meet. All checks are at their
//! latest version.

use api::Status;
use async_trait::async_trait;
use serde_json::Value;

use super::json::{containers, items, text};
use super::{Context, Operation, Plugin, Request};

const PREFIX: &str = "pod-security.kubernetes.io/";

pub struct PodSecurity;

/// Where a kind keeps its pods' template; only a warning comes of it.
fn template<'a>(r: &'a Request<'_>) -> Option<&'a Value> {
    let o = &r.object;
    let t = match (r.group, r.resource) {
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs")
        | ("", "replicationcontrollers") => &o["spec"]["template"],
        ("batch", "cronjobs") => &o["spec"]["jobTemplate"]["spec"]["template"],
        ("", "podtemplates") => &o["template"],
        _ => return None,
    };
    t.is_object().then_some(t)
}

/// The level that a namespace's label asks for, as `level:version`, and whether it is the strict one.
fn level(labels: &api::LabelSet, mode: &str) -> Option<(String, bool)> {
    let version = labels.get(&format!("{PREFIX}{mode}-version")).unwrap_or("latest");
    let (name, strict) = match labels.get(&format!("{PREFIX}{mode}")) {
        None | Some("privileged") => return None,
        Some("baseline") => ("baseline", false),
        // What can't be read is taken for the strictest, as upstream does.
        Some(_) => ("restricted", true),
    };
    Some((format!("{name}:{version}"), strict))
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, r: &Request<'_>) -> bool {
        match r.operation {
            Operation::Create => r.subresource.is_empty() && (r.is_pod() || template(r).is_some()),
            Operation::Update if r.is_pod() => matches!(r.subresource, "" | "ephemeralcontainers"),
            Operation::Update => r.subresource.is_empty() && template(r).is_some(),
            _ => false,
        }
    }

    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        let Some(ns) = cx.reader.get("", "namespaces", "", r.namespace).await? else { return Ok(()) };
        let labels = &ns.meta().labels;
        let warn = level(labels, "warn");
        if let Some(pod) = template(r) {
            say(r, warn, pod);
            return Ok(());
        }
        let enforce = level(labels, "enforce");
        if enforce.is_none() && warn.is_none() {
            return Ok(());
        }
        let significant = r.old.is_none_or(|old| {
            let images = |v: &Value| -> Vec<String> {
                containers(&v["spec"]).map(|c| text(c, "image").to_owned()).collect()
            };
            images(old) != images(&r.object)
        });
        if !significant {
            return Ok(());
        }
        if let Some((level, strict)) = enforce {
            let found = violations(&r.object, strict);
            if !found.is_empty() {
                return Err(r.forbidden(format!("violates PodSecurity {level:?}: {}", found.join(", "))));
            }
        }
        say(r, warn, &r.object);
        Ok(())
    }
}

fn say(r: &Request<'_>, warn: Option<(String, bool)>, pod: &Value) {
    let Some((level, strict)) = warn else { return };
    let found = violations(pod, strict);
    if !found.is_empty() {
        r.warn(format!("would violate PodSecurity {level:?}: {}", found.join(", ")));
    }
}

/// What a check found: reason and detail, as upstream prints them.
fn violations(pod: &Value, restricted: bool) -> Vec<String> {
    let spec = &pod["spec"];
    let mut out: Vec<String> = Vec::new();
    let mut say = |reason: &str, detail: String| out.push(format!("{reason} ({detail})"));
    baseline(spec, pod, restricted, &mut say);
    if restricted {
        strict(spec, &mut say);
    }
    out
}

type Say<'a> = dyn FnMut(&str, String) + 'a;

/// `container "a"` or `containers "a", "b"`, of those that `bad` picks.
fn named(spec: &Value, bad: impl Fn(&Value) -> bool) -> Option<String> {
    let names: Vec<String> =
        containers(spec).filter(|c| bad(c)).map(|c| format!("{:?}", text(c, "name"))).collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("container {one}")),
        many => Some(format!("containers {}", many.join(", "))),
    }
}

fn quoted(mut v: Vec<String>) -> String {
    v.sort();
    v.dedup();
    v.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", ")
}

fn baseline(spec: &Value, pod: &Value, restricted: bool, say: &mut Say<'_>) {
    const CAPS: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let context = |c: &Value| c["securityContext"].clone();
    // The strict levels have their own check of capabilities, seccomp and volumes.
    if !restricted {
        let added = |c: &Value| -> Vec<String> {
            items(&context(c)["capabilities"], "add")
                .iter()
                .filter_map(Value::as_str)
                .filter(|a| !CAPS.contains(a))
                .map(str::to_owned)
                .collect()
        };
        if let Some(who) = named(spec, |c| !added(c).is_empty()) {
            let caps = quoted(containers(spec).flat_map(added).collect());
            say(
                "non-default capabilities",
                format!("{who} must not include {caps} in securityContext.capabilities.add"),
            );
        }
    }
    let host: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|h| spec[**h] == true)
        .map(|h| format!("{h}=true"))
        .collect();
    if !host.is_empty() {
        say("host namespaces", host.join(", "));
    }
    if !restricted {
        let paths: Vec<String> = items(spec, "volumes")
            .iter()
            .filter(|v| v["hostPath"].is_object())
            .map(|v| format!("{:?}", text(v, "name")))
            .collect();
        if !paths.is_empty() {
            let word = if paths.len() == 1 { "volume" } else { "volumes" };
            say("hostPath volumes", format!("{word} {}", paths.join(", ")));
        }
    }
    let ports = |c: &Value| {
        items(c, "ports")
            .iter()
            .filter_map(|p| p["hostPort"].as_i64())
            .filter(|p| *p != 0)
            .collect::<Vec<_>>()
    };
    if let Some(who) = named(spec, |c| !ports(c).is_empty()) {
        let mut all: Vec<i64> = containers(spec).flat_map(ports).collect();
        all.sort_unstable();
        all.dedup();
        let word = if all.len() == 1 { "hostPort" } else { "hostPorts" };
        let all: Vec<String> = all.iter().map(i64::to_string).collect();
        say("hostPort", format!("{who} uses {word} {}", all.join(", ")));
    }
    if let Some(who) = named(spec, |c| context(c)["privileged"] == true) {
        say("privileged", format!("{who} must not set securityContext.privileged=true"));
    }
    let mount = |c: &Value| context(c)["procMount"].as_str().is_some_and(|m| m != "Default");
    if let Some(who) = named(spec, mount) {
        say("procMount", format!("{who} must not set securityContext.procMount to \"Unmasked\""));
    }
    let unconfined = |v: &Value| v["securityContext"]["seccompProfile"]["type"] == "Unconfined";
    if !restricted && (unconfined(spec) || containers(spec).any(unconfined)) {
        let who =
            if unconfined(spec) { "pod".to_owned() } else { named(spec, unconfined).unwrap_or_default() };
        say(
            "seccompProfile",
            format!("{who} must not set securityContext.seccompProfile.type to \"Unconfined\""),
        );
    }
    let apparmor = |v: &Value| v["securityContext"]["appArmorProfile"]["type"] == "Unconfined";
    if apparmor(spec) || containers(spec).any(apparmor) {
        let who = if apparmor(spec) { "pod".to_owned() } else { named(spec, apparmor).unwrap_or_default() };
        say(
            "forbidden AppArmor profile",
            format!("{who} must not set AppArmor profile type to \"Unconfined\""),
        );
    }
    let annotated = pod["metadata"]["annotations"].as_object().into_iter().flatten().find(|(k, v)| {
        k.starts_with("container.apparmor.security.beta.kubernetes.io/") && *v == "unconfined"
    });
    if let Some((k, _)) = annotated {
        say("forbidden AppArmor profile", format!("annotation \"{k}\"=\"unconfined\""));
    }
    let selinux = |v: &Value| {
        let o = &v["securityContext"]["seLinuxOptions"];
        let kind = text(o, "type");
        !matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t" | "container_engine_t")
            || !text(o, "user").is_empty()
            || !text(o, "role").is_empty()
    };
    if selinux(spec) || containers(spec).any(selinux) {
        let who = if selinux(spec) { "pod".to_owned() } else { named(spec, selinux).unwrap_or_default() };
        say("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions"));
    }
    const SYSCTLS: [&str; 11] = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
    ];
    let bad: Vec<&str> = items(&spec["securityContext"], "sysctls")
        .iter()
        .map(|s| text(s, "name"))
        .filter(|n| !SYSCTLS.contains(n) && *n != "net.ipv4.tcp_wmem")
        .collect();
    if !bad.is_empty() {
        say("forbidden sysctls", bad.join(", "));
    }
    let probes = |c: &Value| {
        ["livenessProbe", "readinessProbe", "startupProbe"].iter().any(|p| {
            !text(&c[*p]["httpGet"], "host").is_empty() || !text(&c[*p]["tcpSocket"], "host").is_empty()
        }) || ["postStart", "preStop"].iter().any(|h| {
            let h = &c["lifecycle"][*h];
            !text(&h["httpGet"], "host").is_empty() || !text(&h["tcpSocket"], "host").is_empty()
        })
    };
    if let Some(who) = named(spec, probes) {
        say("probe or lifecycle host", format!("{who} uses probe or lifecycle host"));
    }
}

fn strict(spec: &Value, say: &mut Say<'_>) {
    if let Some(who) = named(spec, |c| c["securityContext"]["allowPrivilegeEscalation"] != false) {
        say(
            "allowPrivilegeEscalation != false",
            format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
        );
    }
    let caps = |c: &Value, f: &str| -> Vec<String> {
        items(&c["securityContext"]["capabilities"], f)
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let undropped = named(spec, |c| !caps(c, "drop").iter().any(|d| d == "ALL"));
    let added =
        |c: &Value| caps(c, "add").into_iter().filter(|a| a != "NET_BIND_SERVICE").collect::<Vec<_>>();
    let adding = named(spec, |c| !added(c).is_empty());
    let mut parts = Vec::new();
    if let Some(who) = undropped {
        parts.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if let Some(who) = adding {
        let all = quoted(containers(spec).flat_map(added).collect());
        parts.push(format!("{who} must not include {all} in securityContext.capabilities.add"));
    }
    if !parts.is_empty() {
        say("unrestricted capabilities", parts.join("; "));
    }
    const KINDS: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "image",
    ];
    let odd: Vec<(String, String)> = items(spec, "volumes")
        .iter()
        .filter_map(|v| {
            let kind = v.as_object()?.keys().find(|k| *k != "name")?;
            (!KINDS.contains(&kind.as_str())).then(|| (text(v, "name").to_owned(), kind.clone()))
        })
        .collect();
    if !odd.is_empty() {
        let names: Vec<String> = odd.iter().map(|(n, _)| format!("{n:?}")).collect();
        let kinds = quoted(odd.into_iter().map(|(_, k)| k).collect());
        let (word, verb, noun) =
            if names.len() == 1 { ("volume", "uses", "type") } else { ("volumes", "use", "types") };
        say(
            "restricted volume types",
            format!("{word} {} {verb} restricted volume {noun} {kinds}", names.join(", ")),
        );
    }
    let pod_non_root = &spec["securityContext"]["runAsNonRoot"];
    let explicit_root = |c: &Value| c["securityContext"]["runAsNonRoot"] == false;
    let unset = |c: &Value| c["securityContext"]["runAsNonRoot"].is_null();
    if let Some(who) = named(spec, explicit_root) {
        say("runAsNonRoot != true", format!("{who} must not set securityContext.runAsNonRoot=false"));
    } else if *pod_non_root == false {
        say("runAsNonRoot != true", "pod must not set securityContext.runAsNonRoot=false".into());
    } else if pod_non_root.is_null()
        && let Some(who) = named(spec, unset)
    {
        say("runAsNonRoot != true", format!("pod or {who} must set securityContext.runAsNonRoot=true"));
    }
    let zero = |v: &Value| v["securityContext"]["runAsUser"] == 0;
    let roots: Vec<String> =
        zero(spec).then(|| "pod".to_owned()).into_iter().chain(named(spec, zero)).collect();
    if !roots.is_empty() {
        say("runAsUser=0", format!("{} must not set runAsUser=0", roots.join(" and ")));
    }
    let profile = |v: &Value| v["securityContext"]["seccompProfile"]["type"].as_str().map(str::to_owned);
    let fine = |p: &str| matches!(p, "RuntimeDefault" | "Localhost");
    let pod_profile = profile(spec);
    let bad = |c: &Value| match profile(c) {
        Some(p) => !fine(&p),
        None => false,
    };
    if let Some(who) = named(spec, bad) {
        say(
            "seccompProfile",
            format!("{who} must not set securityContext.seccompProfile.type to \"Unconfined\""),
        );
    } else if pod_profile.as_deref().is_none_or(|p| !fine(p))
        && let Some(who) = named(spec, |c| profile(c).is_none())
    {
        let detail = format!(
            "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        );
        say("seccompProfile", detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn levels() {
        let plain = json!({"spec": {"containers": [{"name": "a"}]}});
        assert!(violations(&plain, false).is_empty());
        assert_eq!(
            violations(&plain, true).join(", "),
            "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
        let good = json!({"spec": {"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}});
        assert!(violations(&good, true).is_empty());
        let bad = json!({"spec": {"hostNetwork": true, "containers": [{"name": "a", "securityContext": {"privileged": true}},
            {"name": "b", "securityContext": {"privileged": true}}], "volumes": [{"name": "h", "hostPath": {}}]}});
        assert_eq!(
            violations(&bad, false).join(", "),
            "host namespaces (hostNetwork=true), hostPath volumes (volume \"h\"), \
             privileged (containers \"a\", \"b\" must not set securityContext.privileged=true)"
        );
    }
}
