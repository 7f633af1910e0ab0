//! Security contexts of pods and containers.

use super::super::at::At;
use super::super::common::{local_path, optional_one_of, required};
use super::super::errors::ErrorList;
use super::super::internal::Internal;
use super::super::names;
use super::windows;
use std::collections::HashSet;

fn id(a: &At, e: &mut ErrorList) {
    let max = i64::from(i32::MAX);
    if a.int().is_some_and(|n| !(0..=max).contains(&n)) {
        e.bad(a, &names::between(0, max));
    }
}

/// `spec.securityContext`, with the host namespaces beside it.
pub fn pod(spec: &At, e: &mut ErrorList) {
    let sc = spec.get("securityContext");
    for f in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&sc.get(f), e);
    }
    for g in sc.get("supplementalGroups").iter() {
        id(&g, e);
    }
    if spec.b("shareProcessNamespace") && spec.b("hostPID") {
        e.invalid(
            &spec.at("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    sysctls(&sc.get("sysctls"), spec, e);
    optional_one_of(&sc.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"], e);
    seccomp(&sc.get("seccompProfile"), e);
    windows::options(&sc.get("windowsOptions"), e);
    app_armor(&sc.get("appArmorProfile"), e);
    optional_one_of(&sc.get("supplementalGroupsPolicy"), &["Merge", "Strict"], e);
    optional_one_of(&sc.get("seLinuxChangePolicy"), &["MountOption", "Recursive"], e);
}

/// A container's.
pub fn container(sc: &At, host_users: bool, e: &mut ErrorList) {
    if sc.is_null() {
        return;
    }
    id(&sc.get("runAsUser"), e);
    id(&sc.get("runAsGroup"), e);
    let mount = sc.get("procMount");
    optional_one_of(&mount, &["Default", "Unmasked"], e);
    if host_users && mount.str() == "Unmasked" {
        e.bad(&mount, "`hostUsers` must be false to use `Unmasked`");
    }
    seccomp(&sc.get("seccompProfile"), e);
    if sc.raw("allowPrivilegeEscalation").as_bool() == Some(false) {
        if sc.b("privileged") {
            e.bad_as(
                "SecurityContext",
                sc,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        let caps = sc.get("capabilities");
        if caps.get("add").list().iter().any(|c| c == "CAP_SYS_ADMIN") {
            e.bad_as(
                "SecurityContext",
                sc,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    windows::options(&sc.get("windowsOptions"), e);
    app_armor(&sc.get("appArmorProfile"), e);
}

fn seccomp(p: &At, e: &mut ErrorList) {
    if p.is_null() {
        return;
    }
    let kind = p.get("type");
    if kind.str().is_empty() {
        e.required(&kind, "type is required when seccompProfile is set");
    } else {
        optional_one_of(&kind, &["Localhost", "RuntimeDefault", "Unconfined"], e);
    }
    let file = p.get("localhostProfile");
    match (kind.str() == "Localhost", file.is_null()) {
        (true, true) => e.required(&file, "must be set when seccomp type is Localhost"),
        (true, false) => local_path(&file, file.str(), e),
        (false, false) => e.invalid(
            &file,
            Internal("SeccompProfile", p.v),
            "can only be set when seccomp type is Localhost",
        ),
        (false, true) => {}
    }
}

fn app_armor(p: &At, e: &mut ErrorList) {
    if p.is_null() {
        return;
    }
    let file = p.get("localhostProfile");
    match p.s("type") {
        "Localhost" => {
            let name = file.str();
            if name.trim() != name {
                e.bad(&file, "must not be padded with whitespace");
            } else if name.is_empty() {
                e.required(&file, "must be set when AppArmor type is Localhost");
            }
            if name.len() > 4095 {
                e.too_long(&file, 4095);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if !file.is_null() {
                e.bad(&file, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => e.required(&p.at("type"), "type is required when appArmorProfile is set"),
        other => e.not_supported(&p.at("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

const SYSCTL_FMT: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn sysctl_name_ok(s: &str) -> bool {
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    s.len() <= 253
        && s.split(['.', '/']).all(|p| {
            let b = p.as_bytes();
            b.first().is_some_and(edge)
                && b.last().is_some_and(edge)
                && b.iter().all(|c| edge(c) || *c == b'-' || *c == b'_')
        })
}

fn sysctls(list: &At, spec: &At, e: &mut ErrorList) {
    let mut seen = HashSet::new();
    for s in list.iter() {
        let name = s.get("name");
        if required(&name, e) {
            if !sysctl_name_ok(name.str()) {
                e.bad(&name, &format!("must have at most 253 characters and match regex {SYSCTL_FMT}"));
            } else if !seen.insert(name.str()) {
                e.duplicate(&name, name.str());
            }
        }
        // Slashes and dots may stand for each other.
        let dotted = name.str().replacen('/', ".", 1);
        let ipc = matches!(dotted.as_str(), "kernel.sem" | "kernel.shm_rmid_forced")
            || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p));
        if spec.b("hostNetwork") && dotted.starts_with("net.") {
            e.bad(&name, "may not be specified when 'hostNetwork' is true");
        } else if spec.b("hostIPC") && ipc {
            e.bad(&name, "may not be specified when 'hostIPC' is true");
        }
    }
}
