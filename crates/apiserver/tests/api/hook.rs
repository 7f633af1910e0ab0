//! A webhook over TLS on loopback, for admission and conversion.

use std::sync::{Arc, Mutex};

use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// From the `request` of a review to its `response`.
pub type Answer = fn(&Value) -> Value;

/// A webhook server; every review it saw stands in `seen`.
pub struct Hook {
    pub port: u16,
    pub ca: String,
    pub seen: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    pub async fn start(answer: Answer) -> Self {
        let made =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "hook.default.svc".to_owned()])
                .expect("certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("config");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let port = listener.local_addr().expect("address").port();
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, log) = (acceptor.clone(), log.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let serve = service_fn(move |r: http::Request<hyper::body::Incoming>| {
                        let log = log.clone();
                        async move {
                            let body = r.into_body().collect().await.expect("body").to_bytes();
                            let v: Value = serde_json::from_slice(&body).expect("json");
                            let mut response = answer(&v["request"]);
                            if response.is_object() && response["uid"].is_null() {
                                response["uid"] = v["request"]["uid"].clone();
                            }
                            log.lock().expect("log").push(v.clone());
                            let out = json!({"apiVersion": v["apiVersion"], "kind": v["kind"], "response": response});
                            Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(
                                out.to_string(),
                            ))))
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(tls), serve)
                        .await;
                });
            }
        });
        let ca = base64::engine::general_purpose::STANDARD.encode(made.cert.pem());
        Self { port, ca, seen }
    }

    pub fn client(&self) -> Value {
        json!({"url": format!("https://127.0.0.1:{}/check", self.port), "caBundle": self.ca})
    }

    pub fn count(&self) -> usize {
        self.seen.lock().expect("log").len()
    }
}
