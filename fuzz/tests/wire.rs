//! Hostile bytes on a wire: URLs and headers, tokens, certificates, SPDY frames, DNS messages, frames of the shim, logs,
//! metrics of kubelets.

use std::net::IpAddr;

use apiserver::request_info::Query;
use apiserver::storage::paging::Page;
use dns::{ServiceView, SliceView, Source, Zone};
use hickory_proto::op::Message;
use http::{HeaderMap, HeaderValue, Method};

#[test]
fn urls_and_headers() {
    let seeds = [
        "/api/v1/namespaces/default/pods/x/log?follow=true&tailLines=-1&limit=500&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ",
        "/apis/apps/v1/watch/deployments?resourceVersion=18446744073709551616&resourceVersionMatch=Exact&timeoutSeconds=1e9",
        "/api/v1/nodes/n/proxy/../%2e%2e/%00?fieldSelector=a%3Db&labelSelector=%zz",
        "application/json;as=Table;g=meta.k8s.io;v=v1,application/vnd.kubernetes.protobuf;q=0.9,*/*;q=x",
        "gzip;q=0,identity;q=1,*;q=0.5",
    ]
    .map(str::as_bytes);
    fuzz::run("urls_and_headers", &seeds, 1, |b| {
        let Ok(s) = std::str::from_utf8(b) else { return };
        let (path, query) = s.split_once('?').unwrap_or((s, s));
        for m in [Method::GET, Method::POST, Method::DELETE] {
            let _ = apiserver::RequestInfo::parse(&m, path, query);
        }
        let _ = Page::parse(&Query::parse(query));
        if let Ok(v) = HeaderValue::from_str(s) {
            let mut h = HeaderMap::new();
            for name in ["accept", "content-type", "accept-encoding"] {
                h.insert(name, v.clone());
            }
            let _ = (
                apiserver::negotiate::accept(
                    &h,
                    apiserver::negotiate::Offer { protobuf: true, transforms: true },
                ),
                apiserver::negotiate::body_encoding(&h),
            );
            let _ = (apiserver::negotiate::patch_type(&h), apiserver::negotiate::accepts_gzip(&h));
        }
    });
}

#[test]
fn credentials() {
    let dir = tempfile::tempdir().expect("a directory");
    let p = pki::Pki::open(&dir.path().join("pki"), &pki::Options::default(), 1_800_000_000).expect("keys");
    let token =
        p.tokens.mint(&pki::Claims { sub: "system:serviceaccount:a:b".into(), ..pki::Claims::default() });
    let token = token.expect("a token");
    let held = p.tokens.mint(&pki::token::LegacyClaims::new("a", "b", "u", "s")).expect("a token");
    let admin = p.admin(1_800_000_000).expect("a certificate");
    let der = pki::trust::certificates(&admin.cert).expect("pem").remove(0);
    let seeds = [
        token.as_bytes(),
        held.as_bytes(),
        admin.cert.as_bytes(),
        der.as_ref(),
        b"a.b.c",
        b"..",
        b"eyJhbGciOiJub25lIn0.e30.",
    ];
    let (verifier, trust) = (p.tokens.verifier("issuer"), p.client_trust().expect("trust"));
    let (good, held) = (token.clone(), held.clone());
    fuzz::run("credentials", &seeds, 2, move |b| {
        if let Ok(s) = std::str::from_utf8(b) {
            // Signatures cover every byte: only the token itself may pass.
            let ok = verifier.verify(s).is_ok();
            assert!(!ok || s == good, "a changed token passes");
            assert!(verifier.verify_legacy(s).is_err() || s == held, "a changed token of a secret passes");
            for c in pki::trust::certificates(s).unwrap_or_default() {
                let _ = trust.identify(&[c], 1_800_000_000);
            }
        }
        let _ = pki::trust::parse_identity(b);
    });
}

#[test]
fn spdy_frames() {
    use kubelet::spdy::{Frame, Reader, Writer};
    let mut all = Writer::default().syn_reply(1);
    all.extend(Writer::data(1, b"hello", true));
    all.extend(Writer::ping(7));
    // A SYN_STREAM whose header block is no zlib stream, one that claims 16 MiB, and a reset.
    let syn = [0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2];
    let huge = [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff, 0, 0];
    let seeds = [all.as_slice(), &syn, &huge, &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 5]];
    fuzz::run("spdy_frames", &seeds, 1, |b| {
        for piece in [1, 7, usize::MAX] {
            let mut r = Reader::new();
            for part in b.chunks(piece.min(b.len().max(1))) {
                r.feed(part);
                while let Ok(Some(f)) = r.next() {
                    if let Frame::Data { data, .. } = f {
                        assert!(data.len() <= b.len());
                    }
                }
            }
        }
    });
}

struct Nothing;
impl Source for Nothing {
    fn namespace(&self, name: &str) -> bool {
        name == "default"
    }
    fn service(&self, _: &str, _: &str) -> Option<ServiceView> {
        None
    }
    fn slices(&self, _: &str, _: &str) -> Vec<SliceView> {
        Vec::new()
    }
    fn services_by_ip(&self, _: IpAddr) -> Vec<(String, String)> {
        vec![("a".into(), "default".into())]
    }
    fn endpoints_by_ip(&self, _: IpAddr) -> Vec<(String, String)> {
        Vec::new()
    }
}

#[test]
fn dns_messages() {
    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut m = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            m.push(label.len() as u8);
            m.extend(label.as_bytes());
        }
        m.push(0);
        m.extend(kind.to_be_bytes());
        m.extend([0, 1]);
        m
    }
    let seeds = [
        question("a.default.svc.cluster.local", 1),
        question("_http._tcp.a.default.svc.cluster.local", 33),
        question("1.0.96.10.in-addr.arpa", 12),
        question("10-1-2-3.default.pod.cluster.local", 28),
        // A name that points at itself.
        vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1],
    ];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let zone = Zone::new("cluster.local", Nothing);
    fuzz::run("dns_messages", &seeds, 1, move |b| {
        let Ok(m) = Message::from_vec(b) else { return };
        for q in &m.queries {
            let _ = zone.answer(&q.name, q.query_type);
        }
        let _ = m.to_vec();
    });
}

#[test]
fn shim_frames() {
    use shim::protocol::{ReplyFrame, Request, RequestFrame, encode, take_frame};
    let frame = encode(&RequestFrame { seq: 1, req: Request::Hello { version: 1 }, fds: 0 });
    let seeds = [
        frame.as_slice(),
        &[0xff, 0xff, 0xff, 0xff],
        b"2026-01-01T00:00:00.000000000Z stdout F hello\n",
        b"2026-01-01T00:00:00Z stderr P part",
        b"line\nline\n\xff\xff\0",
    ];
    fuzz::run("shim_frames", &seeds, 1, |b| {
        let mut buf = b.to_vec();
        while let Ok(Some(body)) = take_frame(&mut buf) {
            let _ = serde_json::from_slice::<RequestFrame>(&body);
            let _ = serde_json::from_slice::<ReplyFrame>(&body);
        }
        let (mut split, mut out) = (shim::log::Splitter::new("stdout"), Vec::new());
        for part in b.chunks(5) {
            split.feed(part, 1_700_000_000_123_456_789, &mut out);
        }
        split.finish(i64::MIN, &mut out);
        split.finish(i64::MAX, &mut out);
        for line in out.split_inclusive(|c| *c == b'\n') {
            let line = String::from_utf8_lossy(line);
            assert!(
                kubelet::decode_log_line(&line).is_some(),
                "a line that we wrote can't be read: {line:?}"
            );
        }
        let _ = kubelet::decode_log_line(&String::from_utf8_lossy(b));
    });
}

/// What an agent's kubelet says its pods use, twice, as two scrapes.
#[test]
fn kubelet_metrics() {
    let seeds = [
        "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total 357.35 1633253809720\nnode_memory_working_set_bytes 1.6e+09 1633253809720\n",
        "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 4.7 1\ncontainer_memory_working_set_bytes{pod=\"p\",namespace=\"n\",container=\"c\"} 1e300 -9223372036854775808\ncontainer_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1.6e+30\n",
        "a{b=\"}\",c} NaN 9223372036854775807\nx 1e999\n{} 1\n",
    ]
    .map(str::as_bytes);
    fuzz::run("kubelet_metrics", &seeds, 1, |b| {
        use apiserver::resource_metrics::{parse, points};
        let text = String::from_utf8_lossy(b);
        let (first, second) = text.split_at(text.floor_char_boundary(text.len() / 2));
        let mut points = points::Points::new(15_000);
        for (i, text) in [first, second, &text, &text].into_iter().enumerate() {
            let scrape = parse::parse(text, i64::MAX - 4 + i as i64);
            let keys: Vec<_> = scrape.pods.keys().cloned().collect();
            points.put("n", scrape);
            let _ = points.node("n");
            for key in keys {
                let _ = points.pod(&key);
            }
        }
    });
}
