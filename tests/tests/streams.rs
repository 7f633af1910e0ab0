//! Streams between kubectl and a container: logs, exec, cp, attach, port-forward, run, debug; over WebSockets and over
//! SPDY.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use testkit::http::Http;
use testkit::websocket::Frame;
use testkit::{Background, Cluster, Output, run, wait_for};

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: busybox:1.36
    command: [sh, -c, 'mkdir -p /d/e; echo deep > /d/e/f; echo ready; exec sleep 100000']
  - name: h
    image: busybox:1.36
    command: [sh, -c, 'echo serving; echo page > /www/index.html; exec httpd -f -p 8080 -h /www']
    ports: [{containerPort: 8080, name: http}]
    readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: 'busybox:1.36', stdin: true, command: [sh, -c, 'while read x; do echo "got $x"; done; exec sleep 100000']}
"#;

/// The ways kubectl can carry streams: WebSockets, and SPDY for servers and clients of before.
const CARRIERS: [(&str, &str); 2] = [("WebSocket", "true"), ("SPDY", "false")];

fn carried(c: &Cluster, websockets: &str, args: &[&str]) -> Command {
    let mut command = c.command(args);
    command
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
    command
}

/// kubectl in a terminal of 33 lines and 99 columns.
fn in_terminal(c: &Cluster, websockets: &str, args: &[&str]) -> Command {
    let words: Vec<String> = args.iter().map(|a| format!("'{}'", a.replace('\'', r"'\''"))).collect();
    let kubectl = c.command(&[]).get_program().to_string_lossy().into_owned();
    let mut command = carried(c, websockets, &[]);
    let line = format!("stty rows 33 cols 99; exec {kubectl} {}", words.join(" "));
    let env: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
    command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]).envs(env);
    command
}

/// Presses enter until the shell shows its prompt: what it printed before an attach is not shown again.
fn prompt(shell: &mut Background) {
    wait_for("a prompt", || {
        let there = shell.text().contains("# ");
        if !there {
            shell.write("\n");
        }
        there
    });
}

fn holds(text: &str, parts: &[&str]) {
    for p in parts {
        assert!(text.contains(p), "no {p:?} in:\n{text}");
    }
}

fn started() -> Option<Cluster> {
    let c = Cluster::with_node()?;
    c.apply(PODS);
    c.kubectl(&["wait", "--for=condition=ready", "pod/web", "pod/echo", "--timeout=90s"]);
    Some(c)
}

#[test]
fn exec_copies_and_attaches_over_both_carriers() {
    let Some(c) = started() else { return };
    for (carrier, ws) in CARRIERS {
        let kubectl =
            |args: &[&str], input: Option<&str>| -> Output { run(&mut carried(&c, ws, args), input) };
        let out = kubectl(
            &["exec", "-i", "web", "-c", "c", "--", "sh", "-c", "cat; echo problem >&2; exit 5"],
            Some("hello"),
        );
        assert!(!out.ok && out.stdout == "hello", "{carrier}: {out:?}");
        holds(&out.stderr, &["problem", "command terminated with exit code 5"]);
        let big = kubectl(
            &["exec", "web", "-c", "c", "--", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"],
            None,
        );
        assert_eq!((big.ok, big.stdout.len()), (true, 3_000_000), "{carrier}");
        let missing = kubectl(&["exec", "web", "-c", "c", "--", "no-such-program"], None);
        assert!(!missing.ok && missing.stderr.contains("no-such-program"), "{carrier}: {missing:?}");

        let mut shell =
            Background::start(in_terminal(&c, ws, &["exec", "-it", "web", "-c", "c", "--", "sh"]));
        prompt(&mut shell);
        // The size arrives beside the first input.
        wait_for("the size of the terminal", || {
            shell.write("stty size\n");
            shell.text().contains("33 99")
        });
        shell.write("tty; exit 6\n");
        shell.wait_text("/dev/pts/");
        assert_eq!(shell.wait().code(), Some(6), "{carrier}");

        let dir = c.dir().join(carrier);
        std::fs::create_dir_all(dir.join("up/sub")).expect("directory");
        std::fs::write(dir.join("up/sub/file"), carrier).expect("file");
        let (up, there) = (dir.join("up").to_string_lossy().into_owned(), format!("web:/tmp/{carrier}"));
        let copied = kubectl(&["cp", "-c", "c", &up, &there], None);
        assert!(copied.ok, "{carrier}: {copied:?}");
        assert_eq!(
            c.kubectl(&["exec", "web", "-c", "c", "--", "cat", &format!("/tmp/{carrier}/sub/file")]),
            carrier
        );
        let down = dir.join("down").to_string_lossy().into_owned();
        let copied = kubectl(&["cp", "-c", "c", "web:/d", &down], None);
        assert!(copied.ok, "{carrier}: {copied:?}");
        assert_eq!(std::fs::read_to_string(dir.join("down/e/f")).expect("the copied file"), "deep\n");

        let mut attached = Background::start(carried(&c, ws, &["attach", "-i", "echo"]));
        attached.write(&format!("line by {carrier}\n"));
        attached.wait_text(&format!("got line by {carrier}"));
    }
}

fn fetch(address: &str) -> std::io::Result<String> {
    let mut answer = String::new();
    let mut s = TcpStream::connect(address)?;
    s.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    s.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn ports_are_forwarded_over_both_carriers() {
    let Some(c) = started() else { return };
    for (carrier, ws) in CARRIERS {
        for target in ["pod/web", "service/web"] {
            let ports = if target == "pod/web" { ":8080" } else { ":80" };
            let mut forward =
                Background::start(carried(&c, ws, &["port-forward", "--address=127.0.0.1", target, ports]));
            forward.wait_text("-> 8080");
            let text = forward.text();
            let address =
                text.trim_start_matches("Forwarding from ").split(' ').next().expect("an address").to_owned();
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    let address = address.clone();
                    std::thread::spawn(move || fetch(&address))
                })
                .collect();
            for w in workers {
                let answer = w.join().expect("thread").expect("an answer");
                holds(&answer, &["200 OK", "page"]);
            }
            holds(&fetch(&address).expect("one more connection"), &["page"]);
            assert!(
                forward.text().matches("Handling connection").count() >= 5,
                "{carrier} {target}: {}",
                forward.text()
            );
        }
        let mut closed = Background::start(carried(&c, ws, &["port-forward", "pod/web", ":9"]));
        closed.wait_text("-> 9");
        let text = closed.text();
        let address =
            text.trim_start_matches("Forwarding from ").split(' ').next().expect("an address").to_owned();
        let _ = fetch(&address);
        closed.wait_text("failed to connect to localhost:9 inside");
    }
    let mut proxy = Background::start(c.command(&["proxy", "--port=0"]));
    proxy.wait_text("Starting to serve on ");
    let text = proxy.text();
    let address = text.trim().rsplit(' ').next().expect("an address");
    for path in ["pods/web:8080", "services/web:80", "services/http:web:80"] {
        let mut s = TcpStream::connect(address).expect("connect to the proxy");
        let mut answer = String::new();
        write!(s, "GET /api/v1/namespaces/default/{path}/proxy/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .expect("ask");
        s.read_to_string(&mut answer).expect("answer");
        holds(&answer, &["200 OK", "page"]);
    }
}

#[test]
fn logs_follow_select_and_remember() {
    let Some(c) = started() else { return };
    wait_for("both logs", || {
        let logs = c.kubectl(&["logs", "web", "--all-containers", "--prefix"]);
        logs.contains("[pod/web/c] ready") && logs.contains("[pod/web/h] serving")
    });
    holds(
        &c.kubectl(&["logs", "-l", "app in (web,echo)", "--all-containers", "--prefix"]),
        &["[pod/web/h] serving"],
    );
    let stamped = c.kubectl(&["logs", "web", "-c", "c", "--timestamps"]);
    assert!(stamped.starts_with("20") && stamped.trim().ends_with("Z ready"), "{stamped}");
    assert_eq!(c.kubectl(&["logs", "web", "-c", "c", "--since-time=2999-01-01T00:00:00Z"]), "");
    assert_eq!(c.kubectl(&["logs", "web", "-c", "c", "--limit-bytes=3"]), "rea");
    holds(
        &c.kubectl_fails(&["logs", "web", "-c", "none"], None),
        &["container none is not valid for pod web"],
    );
    holds(
        &c.kubectl_fails(&["logs", "web", "-c", "c", "-p"], None),
        &["previous terminated container \"c\" in pod \"web\" not found"],
    );

    // Two lives, told apart by their first line; the first ends when the file is there.
    let lives = "apiVersion: v1\nkind: Pod\nmetadata: {name: lives}\nspec:\n  terminationGracePeriodSeconds: 1\n  volumes: [{name: v, emptyDir: {}}]\n  containers:\n  - name: c\n    image: busybox:1.36\n    volumeMounts: [{name: v, mountPath: /v}]\n    command: [sh, -c, 'if [ -e /v/go ]; then echo second; exec sleep 100000; fi; echo first; until [ -e /v/go ]; do sleep 0.1; done; echo last']\n";
    c.apply(lives);
    c.kubectl(&["wait", "--for=condition=ready", "pod/lives", "--timeout=90s"]);
    let mut follow = Background::start(c.command(&["logs", "-f", "lives"]));
    follow.wait_text("first");
    // The file may end the container, and with it this command, before it is answered.
    c.try_kubectl(&["exec", "lives", "--", "touch", "/v/go"], None);
    follow.wait_text("last");
    assert!(follow.wait().success(), "the follower ends with its container");
    wait_for("the second life", || c.try_kubectl(&["logs", "lives"], None).stdout == "second\n");
    assert_eq!(c.kubectl(&["logs", "lives", "-p"]), "first\nlast\n");
    assert_eq!(c.kubectl(&["logs", "lives", "-p", "--tail=1"]), "last\n");
}

#[test]
fn logs_come_over_websockets() {
    let Some(c) = started() else { return };
    let http = Http::admin(&c);
    let path = "/api/v1/namespaces/default/pods/web/log?container=c";
    wait_for("the log", || http.get(path).text() == "ready\n");
    // A first message without content says that the stream has begun.
    let binary = |b: &[u8]| Frame::Binary(b.to_vec());
    let text = |t: &str| Frame::Text(t.to_owned());
    for (asked, agreed, want) in [
        (&["binary.k8s.io"][..], "binary.k8s.io", [binary(b""), binary(b"ready\n")]),
        (&["x", "base64.binary.k8s.io"], "base64.binary.k8s.io", [text(""), text("cmVhZHkK")]),
        (&[], "", [binary(b""), binary(b"ready\n")]),
    ] {
        let mut socket = http.websocket(path, asked).expect("a socket");
        assert_eq!(socket.protocol, agreed);
        let frames: Vec<Frame> = (0..3).filter_map(|_| socket.frame()).collect();
        assert_eq!(frames, [&want[..], &[Frame::Close(Some(1000))]].concat(), "{asked:?}");
        socket.close();
        assert_eq!(socket.frame(), None);
    }
    let refused = http.websocket(path, &["v5.channel.k8s.io"]).err().expect("refused");
    assert_eq!(refused.code, 403, "{}", refused.text());
    assert!(refused.message().contains("unable to negotiate protocol"), "{}", refused.text());
    let missing = http.websocket("/api/v1/namespaces/default/pods/web/log?container=none", &[]);
    assert_eq!(missing.err().map(|a| a.code), Some(400));

    // A log that is followed ends with the client.
    let mut follow = http.websocket(&format!("{path}&follow=true"), &["binary.k8s.io"]).expect("a socket");
    assert_eq!((follow.frame(), follow.frame()), (Some(binary(b"")), Some(binary(b"ready\n"))));
    follow.close();
    assert!(matches!(follow.frame(), Some(Frame::Close(_)) | None));
    assert_eq!(follow.frame(), None);
}

#[test]
fn a_watch_comes_over_a_websocket() {
    let c = Cluster::control_plane();
    let http = Http::admin(&c);
    let list = http.get("/api/v1/namespaces/default/configmaps").json();
    let since = list["metadata"]["resourceVersion"].as_str().expect("a version");
    let path = format!("/api/v1/namespaces/default/configmaps?watch=true&resourceVersion={since}");
    let mut socket = http.websocket(&path, &["base64.binary.k8s.io"]).expect("a socket");
    c.kubectl(&["create", "configmap", "one"]);
    c.kubectl(&["delete", "configmap", "one"]);
    for want in ["ADDED", "DELETED"] {
        let Some(Frame::Text(event)) = socket.frame() else { panic!("no event {want}") };
        let event: serde_json::Value = serde_json::from_str(&event).expect("an event is a message");
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&want.into(), &"one".into()));
    }
    socket.close();
    assert!(matches!(socket.frame(), Some(Frame::Close(_)) | None));
    let timed = http.websocket(&format!("{path}&timeoutSeconds=1"), &[]);
    let mut timed = timed.expect("a socket");
    let frames: Vec<Frame> = (0..3).filter_map(|_| timed.frame()).collect();
    assert_eq!(frames.last(), Some(&Frame::Close(Some(1000))), "a watch ends as it should: {frames:?}");
}

#[test]
fn pages_behind_the_proxy_keep_their_links() {
    let Some(c) = started() else { return };
    let http = Http::admin(&c);
    let page = "echo '<!-- <a href=/no> --><a href=\"/there\">x</a><img src=pic>' > /www/page.html; mkdir -p /www/dir; cp /www/page.html /www/dir/page.txt";
    c.kubectl(&["exec", "web", "-c", "h", "--", "sh", "-c", page]);
    for place in ["pods/web:8080", "services/web:80"] {
        let proxy = format!("/api/v1/namespaces/default/{place}/proxy");
        let got = http.get(&format!("{proxy}/page.html"));
        assert_eq!(got.code, 200, "{}", got.text());
        let want = format!("<!-- <a href=/no> --><a href=\"{proxy}/there\">x</a><img src=pic>\n");
        assert_eq!(got.text(), want, "{place}");
        // What is no page is left alone; a redirect stays behind the proxy.
        assert!(http.get(&format!("{proxy}/dir/page.txt")).text().contains("href=\"/there\""));
        let moved = http.get(&format!("{proxy}/dir"));
        assert_eq!((moved.code, moved.header("location")), (302, &format!("{proxy}/dir/")[..]));
        let slash = http.get(&proxy);
        assert_eq!((slash.code, slash.header("location")), (301, &format!("{proxy}/")[..]));
    }
}

#[test]
fn run_and_debug_make_pods_to_talk_to() {
    let Some(c) = started() else { return };
    let image = "--image=busybox:1.36";
    let mut shell = Background::start(in_terminal(
        &c,
        "true",
        &["run", "shell", image, "-it", "--rm", "--restart=Never", "--", "sh"],
    ));
    prompt(&mut shell);
    shell.write("echo from-$((40 + 2)); exit 0\n");
    shell.wait_text("from-42");
    assert!(shell.wait().success(), "{}", shell.text());
    assert!(!c.try_kubectl(&["get", "pod", "shell"], None).ok, "--rm removes the pod");
    let piped = c.try_kubectl(
        &["run", "piped", image, "-i", "--rm", "--restart=Never", "--quiet", "--", "sh", "-c", "cat; exit 0"],
        Some("through\n"),
    );
    assert!(piped.ok && piped.stdout.contains("through"), "{piped:?}");

    let debug = ["debug", "web", image, "--target=h", "--container=look", "-it", "--", "sh"];
    let mut shell = Background::start(in_terminal(&c, "true", &debug));
    prompt(&mut shell);
    shell.write("ps; wget -qO- http://127.0.0.1:8080\n");
    shell.wait_text("httpd -f -p 8080");
    shell.wait_text("page");
    shell.write("exit\n");
    shell.wait();
    wait_for("the ephemeral container's end", || {
        let path =
            "jsonpath={.status.ephemeralContainerStatuses[?(@.name==\"look\")].state.terminated.reason}";
        c.kubectl(&["get", "pod", "web", "-o", path]) == "Completed"
    });
    holds(&c.kubectl(&["describe", "pod", "web"]), &["Ephemeral Containers:", "look:"]);

    let copy =
        ["debug", "web", "--copy-to=copy", "--share-processes", image, "--container=look", "-it", "--", "sh"];
    let mut shell = Background::start(in_terminal(&c, "true", &copy));
    prompt(&mut shell);
    wait_for("the other container's process", || {
        shell.write("ps\n");
        shell.text().contains("httpd -f -p 8080")
    });
    drop(shell);

    let mut shell =
        Background::start(in_terminal(&c, "true", &["debug", "node/node-1", image, "-it", "--", "sh"]));
    prompt(&mut shell);
    shell.write("ls /host/proc/1/comm && echo the-host\n");
    shell.wait_text("\nthe-host");
    shell.write("exit\n");
    shell.wait();
    holds(&c.kubectl(&["get", "pods", "-o", "name"]), &["pod/node-debugger-node-1-"]);
}
