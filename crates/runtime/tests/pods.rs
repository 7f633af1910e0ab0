//! Real pods with real containers: the life of each, and that nothing stays behind.

mod common;
use common::*;
use cri::*;
use runtime::{EmbeddedRuntime, NetRequest, PodNetwork};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn strings(l: &[&str]) -> Vec<String> {
    l.iter().map(|s| s.to_string()).collect()
}

async fn out(rt: &EmbeddedRuntime, id: &str, script: &str) -> String {
    let r = rt.exec_sync(id, &strings(&["sh", "-c", script]), 20).await.unwrap();
    String::from_utf8_lossy(&[r.stdout, r.stderr].concat()).trim().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_logs_execs_and_ends() {
    let m = Machine::new();
    let rt = m.with_busybox().await;
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let st = rt.pod_sandbox_status(&pod.id).await.unwrap().status;
    assert_eq!(st.state, PodSandboxState::Ready);
    let script = "echo out; echo err >&2; printf partial; exec sleep 1000";
    let c = pod.run("a", &["sh", "-c", script], |_| ()).await;
    let st = rt.container_status(&c).await.unwrap();
    assert_eq!(st.state, ContainerState::Running);
    assert!(st.pid > 0 && st.started_at > st.created_at);
    wait_for("the log", || async { (pod.log("a").lines().count() >= 2).then_some(()) }).await;
    let script = "echo $FROM; hostname; cat /etc/hostname; ls -d /dev/null /dev/shm; exit 7";
    let r = rt.exec_sync(&c, &strings(&["sh", "-c", script]), 10).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&r.stdout), "image\npod-host\npod-host\n/dev/null\n/dev/shm\n");
    assert_eq!(r.exit_code, 7);
    rt.stop_container(&c, 1).await.unwrap();
    let st = exited(&rt, &c).await;
    // PID 1 without a handler ignores SIGTERM.
    assert_eq!((st.exit_code, st.reason.as_str()), (137, "Error"));
    let mut got = lines(&pod.log("a"));
    got.sort();
    let want = [("stderr", "F", "err"), ("stdout", "F", "out"), ("stdout", "P", "partial")];
    assert_eq!(got, want.map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string())));
    rt.remove_container(&c).await.unwrap();
    assert!(rt.container_status(&c).await.unwrap_err().is_not_found());
    rt.stop_pod_sandbox(&pod.id).await.unwrap();
    assert_eq!(rt.pod_sandbox_status(&pod.id).await.unwrap().status.state, PodSandboxState::NotReady);
    rt.remove_pod_sandbox(&pod.id).await.unwrap();
    assert!(rt.list_pod_sandbox(None).await.unwrap().is_empty());
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_with_streams_and_terminals() {
    let m = Machine::new();
    let rt = m.with_busybox().await;
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let c = pod.run("a", &["sleep", "1000"], |_| ()).await;
    let req = |cmd: &[&str], tty: bool| ExecRequest {
        container_id: c.clone(),
        cmd: strings(cmd),
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    };
    let mut s = rt.exec(&req(&["sh", "-c", "cat; echo bad >&2; exit 3"], false)).await.unwrap();
    let mut stdin = s.stdin.take().unwrap();
    let big = "x".repeat(300_000);
    let writer = tokio::spawn(async move {
        stdin.write_all(big.as_bytes()).await.unwrap();
        drop(stdin);
    });
    let (mut o, mut e) = (String::new(), String::new());
    s.stdout.take().unwrap().read_to_string(&mut o).await.unwrap();
    s.stderr.take().unwrap().read_to_string(&mut e).await.unwrap();
    writer.await.unwrap();
    assert_eq!((o.len(), e.as_str()), (300_000, "bad\n"));
    assert_eq!(s.exit.await.unwrap().unwrap(), 3);

    let mut s = rt.exec(&req(&["sh", "-c", "read x; stty size; tty; echo got $x"], true)).await.unwrap();
    s.resize.send(TerminalSize { width: 101, height: 37 }).await.unwrap();
    let (mut i, mut o) = (s.stdin.take().unwrap(), s.stdout.take().unwrap());
    // The resize and the input take different ways; the size is asked for until it has arrived.
    i.write_all(b"hello\n").await.unwrap();
    let mut text = String::new();
    o.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("/dev/pts/") && text.contains("got hello"), "{text:?}");
    assert_eq!(s.exit.await.unwrap().unwrap(), 0);

    let e = rt.exec_sync(&c, &strings(&["nope"]), 5).await.unwrap_err();
    assert_eq!(e, CriError::Start { message: "exec: \"nope\": executable file not found in $PATH".into() });
    let e = rt.exec_sync(&c, &strings(&["sleep", "100"]), 1).await.unwrap_err();
    assert!(matches!(e, CriError::DeadlineExceeded(_)), "{e:?}");
    wait_for("the end of the timed-out command", || async {
        let ps = out(&rt, &c, "ps").await;
        (!ps.contains("sleep 100\n")).then_some(())
    })
    .await;
    rt.stop_container(&c, 0).await.unwrap();
    let e = rt.exec_sync(&c, &strings(&["true"]), 5).await.unwrap_err();
    assert!(matches!(e, CriError::FailedPrecondition(_)));
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching() {
    let m = Machine::new();
    let rt = m.with_busybox().await;
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let c = pod
        .run("cat", &["cat"], |c| {
            c.stdin = true;
            c.stdin_once = true;
        })
        .await;
    let req = AttachRequest { container_id: c.clone(), stdin: true, stdout: true, stderr: true, tty: false };
    let mut s = rt.attach(&req).await.unwrap();
    let mut i = s.stdin.take().unwrap();
    i.write_all(b"one\ntwo\n").await.unwrap();
    drop(i);
    let mut text = String::new();
    s.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "one\ntwo\n");
    assert_eq!(s.exit.await.unwrap().unwrap(), 0);
    assert_eq!(exited(&rt, &c).await.reason, "Completed");
    assert_eq!(lines(&pod.log("cat")).len(), 2);

    let t = pod.run("tty", &["sh"], |c| {
        c.tty = true;
        c.stdin = true;
    });
    let t = t.await;
    let req = AttachRequest { container_id: t.clone(), stdin: true, stdout: true, stderr: false, tty: true };
    let mut s = rt.attach(&req).await.unwrap();
    let mut i = s.stdin.take().unwrap();
    i.write_all(b"tty; exit 4\n").await.unwrap();
    let mut text = String::new();
    s.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("/dev/console") || text.contains("/dev/pts/0"), "{text:?}");
    assert_eq!(exited(&rt, &t).await.exit_code, 4);
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_all_kinds() {
    let m = Machine::new();
    let rt = m.with_busybox().await;
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let mut events = rt.container_events().await.unwrap();
    let script = "trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.05; done";
    let c = pod.run("polite", &["sh", "-c", script], |_| ()).await;
    wait_for("its trap", || async { pod.log("polite").contains("up").then_some(()) }).await;
    rt.stop_container(&c, 60).await.unwrap();
    let st = exited(&rt, &c).await;
    assert_eq!((st.exit_code, st.reason.as_str()), (3, "Error"));
    assert!(st.finished_at >= st.started_at);
    // The last words are in the log when the end is known.
    assert!(pod.log("polite").contains("bye"));

    let oom = pod
        .run("oom", &["sh", "-c", "tail /dev/zero; exit $?"], |c| {
            c.linux.resources.memory_limit_in_bytes = 24 << 20;
        })
        .await;
    let st = exited(&rt, &oom).await;
    assert_eq!((st.exit_code, st.reason.as_str()), (137, "OOMKilled"));

    for (cmd, message) in [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/nope", "exec: \"/nope\": stat /nope: no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ] {
        let bad = pod.create("bad", &[cmd], |_| ()).await.unwrap();
        let e = rt.start_container(&bad).await.unwrap_err();
        assert_eq!(e, CriError::Start { message: message.into() });
        let st = rt.container_status(&bad).await.unwrap();
        assert_eq!((st.state, st.exit_code, st.reason.as_str()), (ContainerState::Exited, 128, "StartError"));
        assert_eq!(st.message, message);
        rt.remove_container(&bad).await.unwrap();
    }
    let e = pod.create("x", &["sh"], |c| c.image = ImageSpec::new("no-such-image")).await.unwrap_err();
    assert!(e.is_not_found());
    let e = pod
        .create("x", &["sh"], |c| c.linux.security_context.run_as_username = "ghost".into())
        .await
        .unwrap_err();
    assert!(e.to_string().contains("no matching entries in passwd file"), "{e}");
    use futures::StreamExt;
    let mut kinds = Vec::new();
    while kinds.last() != Some(&ContainerEventType::Stopped) {
        kinds.push(events.next().await.unwrap().container_event_type);
    }
    assert_eq!(kinds.len(), 3);
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_the_daemon() {
    let m = Machine::new();
    let rt = m.with_busybox().await;
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let script = "n=0; while true; do n=$((n+1)); echo line $n; sleep 0.02; done";
    let stays = pod.run("stays", &["sh", "-c", script], |_| ()).await;
    let goes =
        pod.run("goes", &["sh", "-c", "while ! [ -e /tmp/go ]; do sleep 0.02; done; exit 9"], |_| ()).await;
    let made = pod.create("made", &["sleep", "1"], |_| ()).await.unwrap();
    let pid = rt.container_status(&stays).await.unwrap().pid;
    out(&rt, &goes, "(sleep 0.5; touch /tmp/go) >/dev/null 2>&1 </dev/null &").await;
    let (logs, sandbox) = (pod.config.log_directory.clone(), pod.id.clone());
    drop(pod);
    // What a kill -9 leaves: nothing is told to anybody. A second daemon on the root is refused until then.
    assert!(matches!(EmbeddedRuntime::open(m.cfg.clone()).await, Err(CriError::Unavailable(_))));
    drop(rt);
    let read = || std::fs::read_to_string(format!("{logs}/stays.log")).unwrap().lines().count();
    let before = read();
    wait_for("the log to go on without a daemon", || async { (read() > before + 5).then_some(()) }).await;
    let state = m.cfg.root.join("sandboxes").join(&sandbox).join(shim::protocol::STATE);
    wait_for("the other's end", || async {
        let s: shim::protocol::ShimState = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
        s.containers.iter().any(|c| c.exit_code == 9).then_some(())
    })
    .await;
    let rt = m.open().await;
    let st = rt.container_status(&stays).await.unwrap();
    assert_eq!((st.state, st.pid), (ContainerState::Running, pid));
    let st = rt.container_status(&goes).await.unwrap();
    assert_eq!((st.state, st.exit_code), (ContainerState::Exited, 9));
    assert_eq!(rt.container_status(&made).await.unwrap().state, ContainerState::Created);
    assert_eq!(out(&rt, &stays, "echo hello").await, "hello");
    rt.start_container(&made).await.unwrap();
    assert_eq!(rt.pod_sandbox_status(&sandbox).await.unwrap().status.state, PodSandboxState::Ready);
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_and_a_dead_shim() {
    let m = Machine::new();
    let rt = m.with_busybox().await;
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let c = pod.run("a", &["sleep", "1000"], |_| ()).await;
    let pid = rt.container_status(&c).await.unwrap().pid;
    let state = m.cfg.root.join("sandboxes").join(&pod.id).join(shim::protocol::STATE);
    let shim_pid = || -> i32 {
        let s: shim::protocol::ShimState = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
        s.pid
    };
    let kill =
        |p: i32| nix::sys::signal::kill(nix::unistd::Pid::from_raw(p), nix::sys::signal::SIGKILL).unwrap();
    kill(shim_pid());
    let st = exited(&rt, &c).await;
    assert_eq!(st.exit_code, 137);
    wait_for("the process's end", || async {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z")).then_some(())
    })
    .await;
    assert_eq!(rt.pod_sandbox_status(&pod.id).await.unwrap().status.state, PodSandboxState::NotReady);
    let e = pod.create("b", &["sh"], |_| ()).await.unwrap_err();
    assert!(matches!(e, CriError::FailedPrecondition(_)));
    rt.remove_pod_sandbox(&pod.id).await.unwrap();

    drop(pod);

    // The same while no daemon is there, and half-made things beside it.
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let c = pod.run("a", &["sleep", "1000"], |_| ()).await;
    let state = m.cfg.root.join("sandboxes").join(&pod.id).join(shim::protocol::STATE);
    let s: shim::protocol::ShimState = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    let id = pod.id.clone();
    drop(pod);
    drop(rt);
    kill(s.pid);
    for d in ["sandboxes/half", "containers/half", "containers/torn", "ingest/layer-9"] {
        std::fs::create_dir_all(m.cfg.root.join(d)).unwrap();
    }
    std::fs::write(m.cfg.root.join("containers/torn/container.json"), "{\"id\":").unwrap();
    std::fs::write(m.cfg.netns_dir.join("stray"), "").unwrap();
    let rt = m.open().await;
    let st = rt.container_status(&c).await.unwrap();
    assert_eq!((st.state, st.exit_code, st.reason.as_str()), (ContainerState::Exited, 255, "Unknown"));
    assert_eq!(rt.pod_sandbox_status(&id).await.unwrap().status.state, PodSandboxState::NotReady);
    for d in ["sandboxes/half", "containers/half", "containers/torn", "ingest/layer-9"] {
        assert!(!m.cfg.root.join(d).exists(), "{d}");
    }
    assert!(!m.cfg.netns_dir.join("stray").exists());
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_it_is_and_what_it_may() {
    let m = Machine::new();
    let rt = m.with_busybox().await;
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let c = pod
        .run(
            "tight",
            &["sh", "-c", "grep -E 'Seccomp:|NoNewPrivs|CapEff|CapBnd' /proc/self/status; exec sleep 1000"],
            |c| {
                c.working_dir = "/srv/work".into();
                let s = &mut c.linux.security_context;
                s.run_as_username = "web".into();
                s.readonly_rootfs = true;
                s.no_new_privs = true;
                s.capabilities =
                    Some(Capability { drop_capabilities: vec!["ALL".into()], ..Default::default() });
                s.seccomp =
                    Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault, ..Default::default() });
                s.masked_paths = DEFAULT_MASKED_PATHS.map(String::from).to_vec();
                s.readonly_paths = DEFAULT_READONLY_PATHS.map(String::from).to_vec();
            },
        )
        .await;
    wait_for("its status", || async { (pod.log("tight").lines().count() >= 4).then_some(()) }).await;
    let status = "grep -E 'Seccomp:|NoNewPrivs|CapEff|CapBnd' /proc/self/status";
    for text in [pod.log("tight"), out(&rt, &c, status).await] {
        for want in
            ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"]
        {
            assert!(text.contains(want), "{want} in {text}");
        }
    }
    assert_eq!(out(&rt, &c, "id; pwd").await, "uid=33(web) gid=44(www) groups=44(www),50(logs)\n/srv/work");
    assert!(out(&rt, &c, "touch /x").await.contains("Read-only"));
    assert!(
        out(&rt, &c, "cat /proc/kcore | head -c1 | wc -c; echo 1 > /proc/sys/kernel/pid_max")
            .await
            .contains("ead-only")
    );
    assert!(out(&rt, &c, "mount -t tmpfs x /tmp").await.contains("ermi"));

    let d = pod
        .run("plain", &["sleep", "1000"], |c| {
            c.linux.security_context.seccomp =
                Some(SecurityProfile { profile_type: ProfileType::RuntimeDefault, ..Default::default() });
        })
        .await;
    assert!(out(&rt, &d, status).await.contains("Seccomp:\t2"));
    assert_eq!(out(&rt, &d, "id -u; touch /x && echo ok").await, "0\nok");
    assert!(out(&rt, &d, "touch /sys/fs/cgroup/memory/x").await.contains("ead-only"));
    assert!(!out(&rt, &d, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes").await.is_empty());

    let host = m.dir.join("data");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("f"), "host").unwrap();
    let mount = |p: &str, readonly: bool| Mount {
        container_path: p.into(),
        host_path: host.display().to_string(),
        readonly,
        ..Default::default()
    };
    let v = pod
        .run("mounts", &["sleep", "1000"], |c| {
            c.linux.security_context.privileged = true;
            c.mounts = vec![mount("/rw", false), mount("/ro", true)];
            c.mounts.push(Mount {
                container_path: "/img".into(),
                image: Some(ImageSpec::new(IMAGE)),
                image_sub_path: "etc".into(),
                ..Default::default()
            });
        })
        .await;
    assert_eq!(
        out(&rt, &v, "cat /rw/f /ro/f; echo new > /rw/g; cat /ro/g; head -1 /img/group").await,
        "hosthostnew\nroot:x:0:"
    );
    assert!(out(&rt, &v, "touch /ro/x").await.contains("ead-only"));
    assert!(out(&rt, &v, "touch /img/x").await.contains("ead-only"));
    assert!(out(&rt, &v, status).await.contains("Seccomp:\t0"));
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_process_namespace() {
    let m = Machine::new();
    let rt = m.with_busybox().await;
    let pod = Pod::new(&rt, &m.dir, |c| {
        c.linux.security_context.namespace_options.pid = NamespaceMode::Pod;
        c.linux.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
    })
    .await;
    let a = pod.run("a", &["sleep", "4711"], |_| ()).await;
    let b = pod.run("b", &["sh", "-c", "sleep 4712 & exec sleep 4713"], |_| ()).await;
    let ps = out(&rt, &a, "ps").await;
    assert!(ps.contains("4711") && ps.contains("4712") && ps.contains("4713"), "{ps}");
    assert_eq!(out(&rt, &a, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await, "80");
    rt.stop_container(&b, 0).await.unwrap();
    wait_for("the child's end", || async { (!out(&rt, &a, "ps").await.contains("4712")).then_some(()) })
        .await;
    assert_eq!(rt.container_status(&a).await.unwrap().state, ContainerState::Running);
    let t = pod
        .run("debug", &["sh", "-c", "ps; exec sleep 1000"], |c| {
            c.linux.security_context.namespace_options.pid = NamespaceMode::Target;
            c.linux.security_context.namespace_options.target_id = a.clone();
        })
        .await;
    wait_for("what it sees", || async { pod.log("debug").contains("4711").then_some(()) }).await;
    rt.stop_container(&t, 0).await.unwrap();
    m.finish(rt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_logs_stats_and_limits() {
    let m = Machine::new();
    let rt = m.with_busybox().await;
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let script = "echo pong > /tmp/ping; httpd -p 8080 -h /tmp; echo first; while ! [ -e /tmp/more ]; do sleep 0.02; done; echo second; exec sleep 1000";
    let c =
        pod.run("web", &["sh", "-c", script], |c| c.linux.resources.memory_limit_in_bytes = 64 << 20).await;
    wait_for("the server", || async { pod.log("web").contains("first").then_some(()) }).await;
    let mut s = rt.port_forward(&pod.id, 8080).await.unwrap();
    s.write_all(b"GET /ping HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    s.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("pong\n"), "{text}");
    assert!(rt.port_forward(&pod.id, 81).await.is_err());

    let log = format!("{}/web.log", pod.config.log_directory);
    std::fs::rename(&log, format!("{log}.1")).unwrap();
    rt.reopen_container_log(&c).await.unwrap();
    out(&rt, &c, "touch /tmp/more").await;
    wait_for("the new log", || async { pod.log("web").contains("second").then_some(()) }).await;
    assert!(!pod.log("web").contains("first"));

    let st = rt.container_stats(&c).await.unwrap();
    assert!(st.memory.working_set_bytes.unwrap() > 0 && st.cpu.usage_core_nano_seconds.unwrap() > 0);
    assert!(st.memory.available_bytes.unwrap() <= 64 << 20);
    let ps = rt.pod_sandbox_stats(&pod.id).await.unwrap();
    assert_eq!(ps.containers.len(), 1);
    let new =
        LinuxContainerResources { memory_limit_in_bytes: 96 << 20, cpu_shares: 200, ..Default::default() };
    rt.update_container_resources(&c, &new).await.unwrap();
    let st = rt.container_status(&c).await.unwrap();
    assert_eq!(st.resources.unwrap().memory_limit_in_bytes, 96 << 20);
    assert_eq!(out(&rt, &c, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes").await, (96 << 20).to_string());
    m.finish(rt).await;
}

#[derive(Default)]
struct Counting {
    up: AtomicU32,
    down: AtomicU32,
    fail: AtomicU32,
}

#[derive(Clone, Default)]
struct Shared(Arc<Counting>);

#[async_trait::async_trait]
impl PodNetwork for Shared {
    async fn setup(&self, req: &NetRequest) -> Result<Vec<std::net::IpAddr>, String> {
        assert!(req.netns.exists());
        self.0.up.fetch_add(1, Ordering::SeqCst);
        match self.0.fail.load(Ordering::SeqCst) {
            0 => Ok(vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()]),
            _ => Err("no addresses left".into()),
        }
    }
    async fn teardown(&self, _: &NetRequest) -> Result<(), String> {
        self.0.down.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_given_back() {
    let mut m = Machine::new();
    let shared = Shared::default();
    let net = shared.0.clone();
    m.cfg.network = Arc::new(shared);
    let rt = m.with_busybox().await;
    let pod = Pod::new(&rt, &m.dir, |_| ()).await;
    let st = rt.pod_sandbox_status(&pod.id).await.unwrap().status;
    assert_eq!(st.network.ip, "10.1.2.3");
    assert_eq!(st.network.additional_ips, [PodIp { ip: "fd00::3".into() }]);
    let c = pod.run("a", &["sleep", "1000"], |_| ()).await;
    assert!(out(&rt, &c, "cat /etc/hosts").await.contains("10.1.2.3\tpod-host"));
    rt.remove_pod_sandbox(&pod.id).await.unwrap();
    assert_eq!((net.up.load(Ordering::SeqCst), net.down.load(Ordering::SeqCst)), (1, 1));
    net.fail.store(1, Ordering::SeqCst);
    let e = rt.run_pod_sandbox(&pod.config, "").await.unwrap_err();
    assert!(e.to_string().contains("no addresses left"), "{e}");
    assert_eq!(net.down.load(Ordering::SeqCst), 2);
    assert!(std::fs::read_dir(m.cfg.root.join("sandboxes")).unwrap().next().is_none());
    m.finish(rt).await;
}

/// Not an assertion but a measurement, to be run by hand: `cargo test -p runtime --test pods latency -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn latency() {
    let m = Machine::new();
    let rt = m.with_busybox().await;
    for round in 0..8 {
        let t = std::time::Instant::now();
        let pod = Pod::new(&rt, &m.dir, |_| ()).await;
        let sandbox = t.elapsed();
        let t = std::time::Instant::now();
        let c = pod
            .create("a", &["sleep", "1000"], |c| {
                if round % 2 == 1 {
                    c.linux.security_context.seccomp = Some(SecurityProfile {
                        profile_type: ProfileType::RuntimeDefault,
                        ..Default::default()
                    });
                }
            })
            .await
            .unwrap();
        let create = t.elapsed();
        let t = std::time::Instant::now();
        rt.start_container(&c).await.unwrap();
        let start = t.elapsed();
        let t = std::time::Instant::now();
        rt.exec_sync(&c, &strings(&["true"]), 5).await.unwrap();
        let exec = t.elapsed();
        let state = m.cfg.root.join("sandboxes").join(&pod.id).join(shim::protocol::STATE);
        let s: shim::protocol::ShimState = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
        let smaps = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", s.pid)).unwrap();
        let get = |k: &str| {
            smaps.lines().find(|l| l.starts_with(k)).unwrap().split_whitespace().nth(1).unwrap().to_string()
        };
        let t = std::time::Instant::now();
        rt.remove_pod_sandbox(&pod.id).await.unwrap();
        let remove = t.elapsed();
        println!(
            "seccomp {} sandbox {sandbox:.1?} create {create:.1?} start {start:.1?} exec {exec:.1?} remove {remove:.1?}; shim pss {} KiB, private dirty {} KiB",
            round % 2,
            get("Pss:"),
            get("Private_Dirty:")
        );
    }
    m.finish(rt).await;
}
