//! The transport against a small server: what comes over, what a lost connection and a new identity do.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Full, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use pki::{Authority, CertKey, RequestClientCert, Subject, Usage};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::transport::WatchEvent;
use crate::verbs::{Client, ListParams, WatchParams};

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

struct Host {
    ca: Authority,
    url: String,
    connections: Arc<AtomicUsize>,
    /// Cuts all connections.
    cut: watch::Sender<u32>,
    /// Lines for whoever watches.
    lines: mpsc::UnboundedSender<&'static str>,
}

fn now() -> i64 {
    crate::clock::now().as_second()
}

/// Answers who asked (the certificate's name, the token) as the name of an object.
async fn host(protocols: &[&[u8]]) -> Host {
    let ca = Authority::create("test", now()).expect("authority");
    let usage = Usage::Server { dns: vec![], ips: vec![[127, 0, 0, 1].into()], both: false };
    let cert = ca.issue(&Subject::new("server"), &usage, now()).expect("certificate");
    let verifier = RequestClientCert::new(ca.cert_pem()).expect("verifier");
    let mut tls = pki::dir::server_config(&cert, verifier).expect("TLS");
    tls.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let url = format!("https://{}", listener.local_addr().expect("address"));
    let connections = Arc::new(AtomicUsize::new(0));
    let (cut, cuts) = watch::channel(0);
    let (lines, said) = mpsc::unbounded_channel();
    let said = Arc::new(tokio::sync::Mutex::new(said));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            count.fetch_add(1, Ordering::SeqCst);
            let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
            let who = chain.first().and_then(|c| pki::trust::parse_identity(c).ok()).map(|c| c.user);
            let (said, mut cuts) = (said.clone(), cuts.clone());
            cuts.mark_unchanged();
            tokio::spawn(async move {
                let service = service_fn(move |r| {
                    let (who, said) = (who.clone(), said.clone());
                    async move { Ok::<_, std::convert::Infallible>(answer(who, said, &r)) }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                let serving = builder.serve_connection(TokioIo::new(tls), service);
                tokio::select! { _ = serving => {}, _ = cuts.changed() => {} }
            });
        }
    });
    Host { ca, url, connections, cut, lines }
}

fn answer(
    who: Option<String>,
    said: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<&'static str>>>,
    r: &Request<Incoming>,
) -> Response<Body> {
    let text = |code: u16, body: String| {
        let mut r = Response::new(Full::from(body).boxed_unsync());
        *r.status_mut() = http::StatusCode::from_u16(code).expect("code");
        r
    };
    let token = r.headers().get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name = format!("{}{token}", who.unwrap_or_default());
    let object = format!(r#"{{"metadata":{{"name":"{name}","resourceVersion":"3"}}}}"#);
    match (r.uri().path(), r.uri().query().unwrap_or_default()) {
        (path, _) if path.ends_with("/missing") => {
            text(404, Status::not_found("", "pods", "missing").to_value().to_string())
        }
        (_, query) if query.contains("watch=true") => {
            let lines = futures::stream::unfold(said, |said| async move {
                let line = said.lock().await.recv().await?;
                Some((Ok(hyper::body::Frame::data(Bytes::from(line))), said))
            });
            let body = StreamBody::new(lines);
            Response::new(body.boxed_unsync())
        }
        (path, _) if path.ends_with("/pods") => {
            text(200, format!(r#"{{"metadata":{{"resourceVersion":"5"}},"items":[{object}]}}"#))
        }
        _ => text(200, object),
    }
}

impl Host {
    fn access(&self, own: Option<&CertKey>, token: Option<&str>) -> Access {
        let bundle = pki::trust::certificates(self.ca.cert_pem()).expect("bundle");
        let tls = pki::dir::client_config(pki::authorities::verifier(bundle).expect("verifier"), own);
        Access { tls: Arc::new(tls.expect("TLS")), token: token.map(str::to_owned) }
    }
    fn certificate(&self, name: &str) -> CertKey {
        self.ca.issue(&Subject::new(name), &Usage::Client, now()).expect("certificate")
    }
    fn client(&self, access: Access) -> (Client, RemoteTransport) {
        let transport = RemoteTransport::new(self.url.parse().expect("address"), access);
        (Client::new(Arc::new(transport.clone()), "test"), transport)
    }
}

async fn whoami(client: &Client) -> String {
    client.get(&api::resource::PODS, "ns", "me").await.expect("an object").name().to_owned()
}

#[tokio::test]
async fn verbs_go_over_both_protocols() {
    for protocols in [&[b"h2".as_slice()][..], &[b"http/1.1".as_slice()][..], &[][..]] {
        let host = host(protocols).await;
        let me = host.certificate("me");
        let (client, _) = host.client(host.access(Some(&me), None));
        assert_eq!(whoami(&client).await, "me");
        let list = client.list(&api::resource::PODS, "ns", &ListParams::default()).await.expect("a list");
        assert_eq!((list.revision, list.items.len(), list.items[0].revision()), (5, 1, 3));
        let missing = client.get(&api::resource::PODS, "ns", "missing").await.expect_err("404");
        assert!(missing.is_not_found() && missing.message == "pods \"missing\" not found");
        let (client, _) = host.client(host.access(None, Some("t")));
        assert_eq!(whoami(&client).await, "Bearer t");
    }
}

#[tokio::test]
async fn watches_go_on_where_an_identity_is_exchanged_and_end_where_the_connection_does() {
    let host = host(&[b"h2"]).await;
    let (old, new) = (host.certificate("old"), host.certificate("new"));
    let (client, transport) = host.client(host.access(Some(&old), None));
    let params = WatchParams::default();
    let mut watch = client.watch(&api::resource::PODS, "ns", &params).await.expect("a watch");
    // A line in two pieces, and two lines in one.
    host.lines.send(r#"{"type":"ADDED","object":{"metadata":{"name":"a","resou"#).expect("line");
    host.lines.send("rceVersion\":\"7\"}}}\n\n{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"b\",\"resourceVersion\":\"8\"}}}\n").expect("line");
    assert!(matches!(watch.next().await, Some(WatchEvent::Added(o)) if o.name() == "a" && o.revision() == 7));
    assert!(matches!(watch.next().await, Some(WatchEvent::Deleted(o)) if o.name() == "b"));
    transport.exchange(host.access(Some(&new), None));
    assert_eq!(whoami(&client).await, "new");
    assert_eq!(host.connections.load(Ordering::SeqCst), 2);
    host.lines
        .send("{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"c\"}}}\n{\"type\":\"ADD")
        .expect("line");
    assert!(matches!(watch.next().await, Some(WatchEvent::Modified(o)) if o.name() == "c"));
    host.cut.send_modify(|n| *n += 1);
    assert!(watch.next().await.is_none());
    assert_eq!(whoami(&client).await, "new", "over a new connection");
}

#[tokio::test]
async fn many_share_one_connection() {
    let host = host(&[b"h2"]).await;
    let (client, _) = host.client(host.access(None, Some("t")));
    let all = futures::future::join_all((0..20).map(|_| whoami(&client))).await;
    assert!(all.iter().all(|n| n == "Bearer t"));
    assert_eq!(host.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stranger_is_not_believed_and_an_absent_server_is_told() {
    let (host, other) = (host(&[b"h2"]).await, host(&[b"h2"]).await);
    let (client, _) = host.client(other.access(None, None));
    let refused = client.get(&api::resource::PODS, "ns", "me").await.expect_err("a stranger");
    assert!(refused.code == 503 && refused.message.contains(&host.url), "{refused}");
    assert!(refused.message.contains("certificate"), "{refused}");
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("listener").local_addr().expect("address");
    let server: Server = format!("https://{closed}").parse().expect("address");
    let client = Client::new(Arc::new(RemoteTransport::new(server, host.access(None, None))), "test");
    let refused = client.get(&api::resource::PODS, "ns", "me").await.expect_err("nobody there");
    assert!(refused.message.to_lowercase().contains("refused"), "{refused}");
}

#[test]
fn addresses_of_servers() {
    for (url, shown) in [
        ("https://10.0.0.1:6443", "https://10.0.0.1:6443"),
        ("https://example.test/", "https://example.test:443"),
        ("https://[fd00::1]:6443", "https://[fd00::1]:6443"),
    ] {
        assert_eq!(url.parse::<Server>().expect(url).to_string(), shown);
    }
    for url in ["http://10.0.0.1:6443", "10.0.0.1:6443", "https://", "https://a_b c", "https://a/b", ""] {
        assert!(url.parse::<Server>().is_err(), "{url}");
    }
}
