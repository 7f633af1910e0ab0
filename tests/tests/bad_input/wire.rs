//! Clients that are slow, vanish, flood, or speak something else.

use std::io::{Read, Write};

use testkit::http::read_answer;

use super::*;

#[test]
fn clients_that_misbehave_on_the_wire() {
    let mut b = Bench::start();
    // Many headers are fine; a megabyte and more of them is not.
    let many: Vec<(String, String)> = (0..200).map(|i| (format!("x-some-{i}"), "v".repeat(20))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(b.http.send("GET", "/readyz", &many, b"").code, 200);
    let flood = vec![("x-flood", "f".repeat(1000)); 3000];
    let flood: Vec<(&str, &str)> = flood.iter().map(|(n, v)| (*n, v.as_str())).collect();
    match b.http.try_send("GET", "/readyz", &flood, b"") {
        Ok(a) => assert_eq!(a.code, 431),
        Err(e) => eprintln!("the flood was cut off: {e}"),
    }
    let long = format!("/api/v1/namespaces/default/pods?labelSelector={}", "x".repeat(2_000_000));
    match b.http.try_send("GET", &long, &[], b"") {
        Ok(a) => assert!(matches!(a.code, 400 | 414 | 431), "{}", a.code),
        Err(e) => eprintln!("the long path was cut off: {e}"),
    }
    for garbage in [
        &b"\x16\x03\x01 nonsense\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
    ] {
        if let Ok(a) = b.http.raw(garbage) {
            assert_eq!(a.code, 400, "{garbage:?}");
        }
    }
    // Two lengths, or a length and chunks, are how requests are smuggled.
    for smuggled in ["content-length: 5\r\ncontent-length: 6", "content-length: x", "content-length: -1"] {
        let a = b.http.raw(
            format!(
                "POST {CMS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{smuggled}\r\n\r\n{{}}"
            )
            .as_bytes(),
        );
        if let Ok(a) = a {
            assert_eq!(a.code, 400, "{smuggled}");
        }
    }

    // A body that never comes is not waited for beyond the request's own time.
    let mut slow = b.http.connect().expect("connect");
    let head = format!(
        "POST {CMS}?timeout=1s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"meta"
    );
    slow.write_all(head.as_bytes()).and_then(|()| slow.flush()).expect("send");
    let a = read_answer(&mut slow).expect("an answer");
    b.check(
        "slow body",
        &a,
        504,
        "Timeout",
        "Timeout: request did not complete within the allotted timeout…",
    );
    // Half-open connections, before and after the handshake, hold nobody else up.
    let idle: Vec<_> = (0..200)
        .map(|_| std::net::TcpStream::connect(("127.0.0.1", b.cluster.port())).expect("connect"))
        .collect();
    let mut half: Vec<_> = (0..50).map(|_| b.http.connect().expect("connect")).collect();
    for s in &mut half {
        s.write_all(b"GET /api/v1/pods HTTP/1.1\r\nhost:").and_then(|()| s.flush()).expect("half a request");
    }
    assert_eq!(b.http.get("/api/v1/pods").code, 200);
    // Watchers that go away without a word.
    for _ in 0..20 {
        let mut w = b.http.lines(&format!("{CMS}?watch=1"), &[]);
        assert!(w.event().is_some());
        drop(w);
    }
    // Requests that are given up in the middle of their body.
    for _ in 0..20 {
        let mut s = b.http.connect().expect("connect");
        let head = format!(
            "POST {CMS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{{"
        );
        s.write_all(head.as_bytes()).and_then(|()| s.flush()).expect("send");
    }
    drop((idle, half));

    // Asking for an upgrade where there is none to be had.
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let request = |path: &str, method: &str| {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n");
        for (n, v) in upgrade {
            text.push_str(&format!("{n}: {v}\r\n"));
        }
        text.push_str("\r\n");
        let mut s = b.http.connect().expect("connect");
        s.write_all(text.as_bytes()).and_then(|()| s.flush()).expect("send");
        read_answer(&mut s).expect("an answer")
    };
    assert_eq!(request(CMS, "GET").code, 200);
    assert_eq!(request("/version", "GET").code, 200);
    assert_eq!(request(&format!("{CMS}/none"), "GET").code, 404);
    let a = request("/api/v1/namespaces/default/pods/none/exec?command=sh", "GET");
    b.check("exec into nothing", &a, 404, "NotFound", "pods \"none\" not found");
    let pod = serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    assert_eq!(b.http.json("POST", "/api/v1/namespaces/default/pods", &pod).code, 201);
    let a = b.http.send("POST", "/api/v1/namespaces/default/pods/p/exec?command=sh&stdout=1", &[], b"");
    b.check("exec before the pod has a node", &a, 400, "BadRequest", "pod p does not have a host assigned");
    let a = b.http.send("POST", "/api/v1/namespaces/default/pods/p/exec?command=sh", &[], b"");
    b.check("exec without streams", &a, 400, "BadRequest", "…");
    let a = b.http.get("/api/v1/namespaces/default/pods/p/log?container=x");
    b.check("log of no container", &a, 400, "BadRequest", "container x is not valid for pod p");
    let a = b.http.get("/api/v1/namespaces/default/pods/p/log?tailLines=-1");
    b.check(
        "log of minus one line",
        &a,
        422,
        "Invalid",
        "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
    );

    // Plain HTTP on the TLS port.
    let mut plain = std::net::TcpStream::connect(("127.0.0.1", b.cluster.port())).expect("connect");
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").expect("send");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    b.end();
}
