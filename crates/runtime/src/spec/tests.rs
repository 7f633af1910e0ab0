//! What pods ask for, as OCI JSON.

use super::*;
use cri::*;

fn spec_of(f: impl FnOnce(&mut ContainerConfig, &mut RunConfig)) -> Result<Value, String> {
    let mut config = ContainerConfig { command: vec!["/bin/x".into()], ..Default::default() };
    let mut image = RunConfig { env: vec!["A=image".into(), "B=image".into()], ..Default::default() };
    f(&mut config, &mut image);
    let caps = caps::ALL.map(String::from);
    let i = SpecInput {
        config: &config,
        sandbox: &PodSandboxConfig::default(),
        image: &image,
        user: &users::User { uid: 1, gid: 2, groups: vec![2, 3] },
        rootfs: "/r",
        cgroup: "/kubepods/pod1/c1",
        hostname: "web-0",
        pid: PidNamespace::Private,
        pod_mounts: &[Mount {
            container_path: "/etc/hosts".into(),
            host_path: "/pod/hosts".into(),
            ..Default::default()
        }],
        devices: &[],
        unified: false,
        own_cgroups: &[],
        own_caps: &caps,
        local_seccomp: None,
    };
    let v = build(&i)?;
    serde_json::from_value::<oci_spec::runtime::Spec>(v.clone()).map_err(|e| e.to_string())?;
    Ok(v)
}

fn mount<'a>(v: &'a Value, dest: &str) -> Option<&'a Value> {
    v["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == dest)
}

#[test]
fn plain() {
    let v = spec_of(|c, _| {
        c.envs = vec![KeyValue { key: "B".into(), value: "pod".into() }];
        c.linux.resources = LinuxContainerResources {
            cpu_shares: 102,
            memory_limit_in_bytes: 64 << 20,
            pids_limit: 100,
            ..Default::default()
        };
    })
    .unwrap();
    assert_eq!(v["process"]["user"], json!({"uid": 1, "gid": 2, "additionalGids": [2, 3]}));
    let env = json!([format!("PATH={DEFAULT_PATH}"), "HOSTNAME=web-0", "A=image", "B=pod"]);
    assert_eq!(v["process"]["env"], env);
    assert_eq!(v["process"]["cwd"], "/");
    assert!(v["process"].get("noNewPrivileges").is_none());
    assert_eq!(v["linux"]["namespaces"], json!([{"type": "mount"}, {"type": "pid"}]));
    assert_eq!(v["linux"]["resources"]["cpu"], json!({"shares": 102}));
    assert_eq!(v["linux"]["resources"]["memory"], json!({"limit": 67_108_864}));
    assert_eq!(v["linux"]["resources"]["devices"][0], json!({"allow": false, "access": "rwm"}));
    assert_eq!(mount(&v, "/etc/hosts").unwrap()["source"], "/pod/hosts");
    assert!(v["linux"].get("seccomp").is_none());
}

#[test]
fn commands() {
    let s = |l: &[&str]| l.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let image = RunConfig { entrypoint: s(&["e"]), cmd: s(&["c"]), ..Default::default() };
    for (command, args, want) in [
        (&[][..], &[][..], &["e", "c"][..]),
        (&["x"], &[], &["x"]),
        (&[], &["y"], &["e", "y"]),
        (&["x"], &["y"], &["x", "y"]),
    ] {
        let c = ContainerConfig { command: s(command), args: s(args), ..Default::default() };
        assert_eq!(process_args(&c, &image).unwrap(), s(want));
    }
    assert!(process_args(&ContainerConfig::default(), &RunConfig::default()).is_err());
}

#[test]
fn privileged_and_confined() {
    let v = spec_of(|c, _| {
        c.linux.security_context.privileged = true;
        c.linux.security_context.seccomp =
            Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault, ..Default::default() });
    })
    .unwrap();
    assert!(v["linux"].get("seccomp").is_none());
    assert_eq!(v["linux"]["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
    assert_eq!(v["process"]["capabilities"]["bounding"].as_array().unwrap().len(), caps::ALL.len());
    let v = spec_of(|c, _| {
        c.linux.security_context.seccomp =
            Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault, ..Default::default() });
        c.linux.security_context.no_new_privs = true;
        c.linux.security_context.readonly_rootfs = true;
        c.linux.security_context.masked_paths = vec!["/proc/kcore".into()];
    })
    .unwrap();
    assert_eq!(v["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(v["process"]["noNewPrivileges"], true);
    assert_eq!(v["root"]["readonly"], true);
    assert_eq!(v["linux"]["maskedPaths"], json!(["/proc/kcore"]));
}

#[test]
fn mounts_in_order_and_precedence() {
    let m = |p: &str, h: &str| Mount { container_path: p.into(), host_path: h.into(), ..Default::default() };
    let v = spec_of(|c, _| {
        c.mounts = vec![m("/data/deep/er", "/h1"), m("/data/", "/h2"), m("/etc/hosts", "/own")];
        c.mounts[0].readonly = true;
        c.mounts[0].recursive_read_only = true;
        c.mounts[1].propagation = MountPropagation::HostToContainer;
    })
    .unwrap();
    assert_eq!(mount(&v, "/etc/hosts").unwrap()["source"], "/own");
    let dests: Vec<_> =
        v["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap()).collect();
    let at = |d: &str| dests.iter().position(|x| *x == d).unwrap();
    assert!(at("/data") < at("/data/deep/er") && at("/dev") < at("/dev/pts"));
    assert_eq!(mount(&v, "/data/deep/er").unwrap()["options"], json!(["rbind", "rprivate", "rro"]));
    assert_eq!(v["linux"]["rootfsPropagation"], "rslave");
}

#[test]
fn nonsense_is_refused() {
    assert!(spec_of(|c, _| c.working_dir = "relative".into()).is_err());
    let bad = Capability { add_capabilities: vec!["NOPE".into()], ..Default::default() };
    assert!(spec_of(|c, _| c.linux.security_context.capabilities = Some(bad)).is_err());
}
