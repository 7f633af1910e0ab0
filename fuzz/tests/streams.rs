//! Hostile streams: WebSockets of exec, events of watches, answers of other name servers, pages behind a proxy, manifests of static pods, keys
//! that stand twice.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};

/// A client's frame, its mask all zero.
fn frame(kind: u8, data: &[u8]) -> Vec<u8> {
    [&[0x80 | kind, 0x80 | data.len() as u8, 0, 0, 0, 0], data].concat()
}

#[test]
fn websockets() {
    let seeds = [
        [
            frame(2, b"\0ls\n"),
            frame(2, b"\x04{\"Width\":80,\"Height\":25}"),
            frame(9, b"ping"),
            frame(2, b"\xff\0"),
            frame(8, b"\x03\xe8"),
        ]
        .concat(),
        frame(1, "\0é".as_bytes()),
        // In pieces, and a length that is a lie.
        [&[0x02, 0x81, 0, 0, 0, 0, 0][..], &[0x80, 0x81, 0, 0, 0, 0, b'x']].concat(),
        vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
    ];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    fuzz::run("websockets", &seeds, 1, move |b| {
        runtime.block_on(async {
            let (to, mut inputs) = tokio::sync::mpsc::channel(4);
            let heard = async {
                let mut bytes = 0;
                while let Some(i) = inputs.recv().await {
                    if let kubelet::Input::Stdin(data) = i {
                        bytes += data.len();
                    }
                }
                bytes
            };
            let io = tokio::io::join(b, tokio::io::sink());
            let ((), bytes) = tokio::join!(kubelet::listen_on_websocket(io, to), heard);
            assert!(bytes <= b.len(), "{bytes} bytes of {}", b.len());
        });
    });
}

#[test]
fn dns_answers() {
    let name = Name::from_ascii("www.example.com.").expect("a name");
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name, RecordType::A));
    let asked = question.to_vec().expect("a question");
    // The same with a record, whose name points to the question's.
    let mut answer = asked.clone();
    answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
    fuzz::run("dns_answers", &[&answer, &asked], 1, move |b| {
        let Ok(m) = Message::from_vec(b) else { return };
        let cache = dns::Cache::default();
        for q in [&question, &m] {
            cache.put(q, m.clone(), i64::from(u32::MAX));
            if let Some(kept) = cache.get(q, i64::from(u32::MAX) + 5) {
                assert_eq!(kept.metadata.id, q.metadata.id);
                let _ = kept.to_vec();
            }
        }
    });
}

#[test]
fn watch_events() {
    let seeds = [
        r#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"a","namespace":"b","resourceVersion":"7"}}}"#,
        r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"18446744073709551616","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
        r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","details":{"causes":[{}]}}}"#,
        r#"{"type":"DELETED","object":[{"metadata":null}]}"#,
    ]
    .map(str::as_bytes);
    fuzz::run("watch_events", &seeds, 1, |b| {
        let _ = client::remote::watch_event(b);
    });
}

#[test]
fn html_pages() {
    let seeds = [
        "<!doctype html><html manifest=/m><!-- <a href='/no'> --><a href='/x' class=y>t</a><img src=\"/i\" usemap=#m/>",
        "<script src=/s>if (a < b) '<a href=\"/no\">'</script ><textarea><a href=/no></textarea><plaintext><a href=/no>",
        "<a\nhref = /x / ><? php ?></a><a href><a href=\"<\"><<a href=''>",
    ]
    .map(str::as_bytes);
    fuzz::run("html_pages", &seeds, 1, |b| {
        let page = |piece: usize, to: Option<&'static [u8]>| {
            let mut seen = 0;
            let mut p = apiserver::streaming::Page::new(|_: &[u8]| {
                seen += 1;
                to.map(<[u8]>::to_vec)
            });
            let mut out = Vec::new();
            b.chunks(piece).for_each(|c| p.push(c, &mut out));
            p.finish(&mut out);
            drop(p);
            (out, seen)
        };
        let (whole, addresses) = page(b.len().max(1), None);
        assert!(whole == b, "a page is changed in which no address is");
        assert!(page(3, None) == (whole, addresses), "pieces make a difference");
        assert!(page(1, Some(b"/p")) == page(7, Some(b"/p")), "pieces make a difference");
    });
}

#[test]
fn static_pods() {
    let seeds = [
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {x: y}}\nspec:\n  containers: [{name: c, image: i}]\n  tolerations: []\n",
        r#"{"kind": "Pod", "metadata": {"name": "A"}, "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 1}]}]}}"#,
        "kind: Pod\nmetadata: {name: a, annotations: no}\nspec: no\n",
        "[a, b]",
    ]
    .map(str::as_bytes);
    fuzz::run("static_pods", &seeds, 1, |b| {
        let Ok(s) = std::str::from_utf8(b) else { return };
        if let Err(e) = kubelet::parse_static_pod(s, "file.yaml", "node-1") {
            assert!(e.contains("file.yaml"), "{e}");
        }
    });
}

#[test]
fn duplicate_keys() {
    use apiserver::handlers::duplicates::{in_json, in_yaml};
    let seeds = [r#"{"a":{"b":[{"c":1,"c":2}]},"a":null}"#, "a: 1\nb: {c: 1, c: 2}\n", "&a a: *a\n*a : 1\n"];
    fuzz::run("duplicate_keys", &seeds.map(str::as_bytes), 1, |b| {
        let _ = (in_json(b), in_yaml(b));
    });
}
