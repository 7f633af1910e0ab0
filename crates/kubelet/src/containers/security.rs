//! Security contexts of pod and container merged into what CRI asks for. Pure.

use cri::{
    Capability, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    ProfileType, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy,
};

use crate::pod::{Container, Pod, Profile, SeLinux};

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub struct Defaults<'a> {
    /// RuntimeDefault for what says nothing.
    pub seccomp: bool,
    pub seccomp_dir: &'a str,
}

fn profile(p: Option<&Profile>, privileged: bool, d: &Defaults<'_>) -> SecurityProfile {
    let of = |profile_type, localhost_ref: String| SecurityProfile { profile_type, localhost_ref };
    if privileged {
        return of(ProfileType::Unconfined, String::new());
    }
    match p.map(|p| (p.kind.as_str(), p.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => of(ProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", Some(file))) => of(ProfileType::Localhost, format!("{}/{file}", d.seccomp_dir)),
        Some(_) => of(ProfileType::Unconfined, String::new()),
        None if d.seccomp => of(ProfileType::RuntimeDefault, String::new()),
        None => of(ProfileType::Unconfined, String::new()),
    }
}

fn selinux(s: &SeLinux) -> SeLinuxOption {
    SeLinuxOption {
        user: s.user.clone(),
        role: s.role.clone(),
        r#type: s.kind.clone(),
        level: s.level.clone(),
    }
}

pub fn namespaces(pod: &Pod, target_id: Option<&str>) -> NamespaceOption {
    let s = &pod.spec;
    NamespaceOption {
        network: if s.host_network { NamespaceMode::Node } else { NamespaceMode::Pod },
        pid: match target_id {
            Some(_) => NamespaceMode::Target,
            None if s.host_pid => NamespaceMode::Node,
            None if s.share_process_namespace => NamespaceMode::Pod,
            None => NamespaceMode::Container,
        },
        ipc: if s.host_ipc { NamespaceMode::Node } else { NamespaceMode::Pod },
        target_id: target_id.unwrap_or_default().to_owned(),
        userns_options: None,
    }
}

fn groups(pod: &Pod, extra: &[i64]) -> Vec<i64> {
    let sc = &pod.spec.security_context;
    let mut g: Vec<i64> =
        sc.supplemental_groups.iter().copied().chain(sc.fs_group).chain(extra.iter().copied()).collect();
    g.sort_unstable();
    g.dedup();
    g
}

fn policy(pod: &Pod) -> SupplementalGroupsPolicy {
    match pod.spec.security_context.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict,
        _ => SupplementalGroupsPolicy::Merge,
    }
}

pub fn sandbox(pod: &Pod, d: &Defaults<'_>) -> LinuxSandboxSecurityContext {
    let sc = &pod.spec.security_context;
    let privileged = pod.all().any(|(_, c)| c.security_context.privileged == Some(true));
    LinuxSandboxSecurityContext {
        namespace_options: namespaces(pod, None),
        selinux_options: sc.se_linux_options.as_ref().map(selinux),
        run_as_user: sc.run_as_user,
        run_as_group: sc.run_as_group,
        readonly_rootfs: false,
        supplemental_groups: groups(pod, &[]),
        supplemental_groups_policy: policy(pod),
        privileged,
        seccomp: Some(profile(sc.seccomp_profile.as_ref(), privileged, d)),
        apparmor: None,
    }
}

pub fn container(
    pod: &Pod,
    c: &Container,
    target_id: Option<&str>,
    d: &Defaults<'_>,
) -> LinuxContainerSecurityContext {
    let (psc, sc) = (&pod.spec.security_context, &c.security_context);
    let privileged = sc.privileged == Some(true);
    let unmasked = privileged || sc.proc_mount.as_deref() == Some("Unmasked");
    let list = |l: &[&str]| if unmasked { Vec::new() } else { l.iter().map(|s| (*s).to_owned()).collect() };
    let caps = &sc.capabilities;
    LinuxContainerSecurityContext {
        capabilities: (!caps.add.is_empty() || !caps.drop.is_empty()).then(|| Capability {
            add_capabilities: caps.add.clone(),
            drop_capabilities: caps.drop.clone(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: namespaces(pod, target_id),
        selinux_options: sc.se_linux_options.as_ref().or(psc.se_linux_options.as_ref()).map(selinux),
        run_as_user: sc.run_as_user.or(psc.run_as_user),
        run_as_group: sc.run_as_group.or(psc.run_as_group),
        run_as_username: String::new(),
        readonly_rootfs: sc.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(pod, &[]),
        supplemental_groups_policy: policy(pod),
        no_new_privs: sc.allow_privilege_escalation == Some(false) && !privileged,
        masked_paths: list(&MASKED),
        readonly_paths: list(&READ_ONLY),
        seccomp: Some(profile(sc.seccomp_profile.as_ref().or(psc.seccomp_profile.as_ref()), privileged, d)),
        apparmor: None,
    }
}

/// Holds `runAsNonRoot` against the user the image would run as.
pub fn verify_non_root(pod: &Pod, c: &Container, image: Option<&cri::Image>) -> Result<(), String> {
    let (psc, sc) = (&pod.spec.security_context, &c.security_context);
    if sc.run_as_non_root.or(psc.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let about = format!(
        "(pod: \"{}_{}({})\", container: {})",
        pod.metadata.name, pod.metadata.namespace, pod.metadata.uid, c.name
    );
    match sc.run_as_user.or(psc.run_as_user) {
        Some(0) => Err(format!("container's runAsUser breaks non-root policy {about}")),
        Some(_) => Ok(()),
        None => match image {
            Some(i) if i.uid.is_some_and(|u| u != 0) => Ok(()),
            Some(i) if i.uid.is_none() && !i.username.is_empty() => Err(format!(
                "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {about}",
                i.username
            )),
            _ => Err(format!("container has runAsNonRoot and image will run as root {about}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn container_overrides_pod() {
        let p: Pod = serde_json::from_value(json!({"spec": {
            "securityContext": {"runAsUser": 5, "fsGroup": 9, "supplementalGroups": [3, 9]}, "shareProcessNamespace": true,
            "containers": [{"name": "a", "securityContext": {"runAsUser": 7, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}}}, {"name": "b", "securityContext": {"privileged": true}}]}}))
        .expect("pod");
        let d = Defaults { seccomp: true, seccomp_dir: "/s" };
        let a = container(&p, &p.spec.containers[0], None, &d);
        assert_eq!((a.run_as_user, a.no_new_privs), (Some(7), true));
        assert_eq!(a.supplemental_groups, [3, 9]);
        assert_eq!(a.namespace_options.pid, NamespaceMode::Pod);
        assert_eq!(a.seccomp.as_ref().map(|s| s.profile_type), Some(ProfileType::RuntimeDefault));
        let b = container(&p, &p.spec.containers[1], None, &d);
        assert!(b.privileged && b.masked_paths.is_empty());
        assert_eq!(b.seccomp.as_ref().map(|s| s.profile_type), Some(ProfileType::Unconfined));
    }

    #[test]
    fn non_root() {
        let p: Pod = serde_json::from_value(json!({"spec": {"securityContext": {"runAsNonRoot": true},
            "containers": [{"name": "a"}, {"name": "b", "securityContext": {"runAsUser": 1}}]}}))
        .expect("pod");
        let root = cri::Image { uid: Some(0), ..Default::default() };
        let user = cri::Image { uid: Some(33), ..Default::default() };
        let named = cri::Image { username: "www".into(), ..Default::default() };
        let a = &p.spec.containers[0];
        assert!(verify_non_root(&p, a, Some(&root)).is_err());
        assert!(verify_non_root(&p, a, Some(&user)).is_ok());
        assert!(verify_non_root(&p, a, Some(&named)).is_err_and(|e| e.contains("non-numeric user (www)")));
        assert!(verify_non_root(&p, &p.spec.containers[1], Some(&root)).is_ok());
    }
}
