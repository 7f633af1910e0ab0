//! Real pods with real containers: the life of each, and that nothing stays behind.

mod common;
use common::*;
use cri::*;

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
    let cmd = ["sh", "-c", "echo $FROM; hostname; cat /etc/hostname; ls -d /dev/null /dev/shm; exit 7"].map(String::from);
    let r = rt.exec_sync(&c, &cmd, 10).await.unwrap();
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
