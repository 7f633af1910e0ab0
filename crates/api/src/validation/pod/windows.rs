//! Rules that hang on the pod's operating system.

use super::super::at::At;
use super::super::common::optional_format;
use super::super::errors::ErrorList;
use super::super::names;
use super::each_container;

/// `windowsOptions` of a pod or a container.
pub fn options(w: &At, e: &mut ErrorList) {
    if w.is_null() {
        return;
    }
    optional_format(&w.get("gmsaCredentialSpecName"), names::dns1123_subdomain, e);
    let spec = w.get("gmsaCredentialSpec");
    if !spec.is_null() {
        match spec.str().len() {
            0 => e.bad(&spec, "gmsaCredentialSpec cannot be an empty string"),
            n if n > 64 * 1024 => e.bad(&spec, "gmsaCredentialSpec size must be under 64 KiB"),
            _ => {}
        }
    }
    let user = w.get("runAsUserName");
    if user.is_null() {
        return;
    }
    let text = user.str();
    if text.is_empty() {
        e.bad(&user, "runAsUserName cannot be an empty string");
    } else if text.chars().any(char::is_control) {
        e.bad(&user, "runAsUserName cannot contain control characters");
    } else if text.matches('\\').count() > 1 {
        e.bad(&user, "runAsUserName cannot contain more than one backslash");
    } else {
        let (domain, name) = text.split_once('\\').map_or((None, text), |(d, n)| (Some(d), n));
        if domain.is_some_and(|d| d.len() >= 256) {
            e.bad(&user, "runAsUserName's Domain length must be under 256 characters");
        }
        if domain.is_some_and(|d| {
            d.is_empty() || d.starts_with('.') || d.contains(['/', ':', '*', '?', '"', '<', '>', '|'])
        }) {
            e.bad(&user, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
        }
        if name.is_empty() {
            e.bad(&user, "runAsUserName's User cannot be empty");
        } else if name.len() > 104 {
            e.bad(&user, "runAsUserName's User length must not be longer than 104 characters");
        }
        if !name.is_empty() && name.chars().all(|c| c == '.' || c == ' ') {
            e.bad(&user, "runAsUserName's User cannot contain only periods or spaces");
        }
        if name.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
            e.bad(&user, "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
        }
    }
}

/// All containers are HostProcess containers, or none is.
pub fn host_process(spec: &At, e: &mut ErrorList) {
    let host = |sc: &At| -> Option<bool> { sc.get("windowsOptions").raw("hostProcess").as_bool() };
    let pod = host(&spec.get("securityContext"));
    let (mut total, mut hosts) = (0, 0);
    each_container(spec, |c| {
        total += 1;
        let sc = c.get("securityContext");
        let own = host(&sc);
        if let (Some(p), Some(o)) = (pod, own)
            && p != o
        {
            let w = sc.get("windowsOptions");
            let why = format!("pod hostProcess value must be identical if both are specified, was {p}");
            e.invalid(&w.at("hostProcess"), o, &why);
        }
        hosts += usize::from(own.or(pod) == Some(true));
    });
    if hosts == 0 {
        return;
    }
    if hosts != total {
        e.invalid(
            spec,
            "",
            "If pod contains any hostProcess containers then all containers must be HostProcess containers",
        );
    }
    if !spec.b("hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        e.invalid(&spec.at("hostNetwork"), false, why);
    }
}

/// `os.name: linux`.
pub fn only_linux(spec: &At, e: &mut ErrorList) {
    let why = "windows options cannot be set for a linux pod";
    let sc = spec.get("securityContext");
    if sc.has("windowsOptions") {
        e.forbidden(&sc.at("windowsOptions"), why);
    }
    each_container(spec, |c| {
        let sc = c.get("securityContext");
        if sc.has("windowsOptions") {
            e.forbidden(&sc.at("windowsOptions"), why);
        }
    });
}

/// `os.name: windows`.
pub fn only_windows(spec: &At, e: &mut ErrorList) {
    let why = "cannot be set for a windows pod";
    let sc = spec.get("securityContext");
    for f in [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ] {
        if sc.has(f) {
            e.forbidden(&sc.at(f), why);
        }
    }
    for (f, set) in [
        ("hostUsers", spec.has("hostUsers")),
        ("hostPID", spec.b("hostPID")),
        ("hostIPC", spec.b("hostIPC")),
        ("shareProcessNamespace", spec.has("shareProcessNamespace")),
    ] {
        if set {
            e.forbidden(&spec.at(f), why);
        }
    }
    each_container(spec, |c| {
        let sc = c.get("securityContext");
        for f in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            if sc.has(f) {
                e.forbidden(&sc.at(f), why);
            }
        }
    });
}
