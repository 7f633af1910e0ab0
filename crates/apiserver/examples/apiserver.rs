//! A control plane without controllers, for trying the API by hand:
//! `cargo run -p apiserver --example apiserver -- DIR PORT`, then `kubectl --kubeconfig DIR/admin.kubeconfig …`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use apiserver::authn::{Anonymous, Authn, TokenAuthenticator, TokenIssuer};
use apiserver::{ApiServer, Cluster, Config, Security};
use tokio_util::sync::CancellationToken;

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().ok_or("the first argument is a directory")?);
    let port: u16 = args.next().unwrap_or_else(|| "6443".into()).parse()?;
    let now = client::clock::now().as_second();
    let me = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let options =
        pki::Options { advertise: vec![me], cluster_domain: "cluster.local".into(), ..Default::default() };
    let keys = pki::Pki::open(&dir.join("pki"), &options, now)?;
    let store = Arc::new(store::embedded::Engine::open(store::embedded::Options::new(dir.join("store")))?);
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let trust = keys.client_trust()?;
    let proxies = keys.front_proxy_trust()?;
    let signer = keys.tokens.clone();
    let stop = CancellationToken::new();
    let server = ApiServer::new(Config {
        store,
        catalog: api::catalog::builtin().clone(),
        cluster: Cluster {
            service_cidrs: vec!["10.96.0.0/16".into()],
            cluster_cidrs: vec!["10.244.0.0/16".into()],
            advertise_address: me,
            advertise_port: port,
            node_ports: 30000..=32767,
            feature_gates: Default::default(),
            shared: false,
        },
        admission: apiserver::admission::Options::default(),
        front_proxy: Some(apiserver::FrontProxy::of(&keys)),
        nodes: None,
        security: Box::new(move |reader| Security {
            authn: Authn::new(
                trust,
                TokenAuthenticator::new(signer.verifier(issuer), Vec::new()),
                reader,
                Anonymous::health(),
            )
            .with_front_proxy(proxies),
            issuer: TokenIssuer::new(signer, issuer.into(), Vec::new()),
        }),
        stop: stop.clone(),
    })?;
    server.start().await?;
    let listener = tokio::net::TcpListener::bind((me, port)).await?;
    let port = listener.local_addr()?.port();
    keys.write_admin_kubeconfig(&dir.join("admin.kubeconfig"), &format!("https://127.0.0.1:{port}"), now)?;
    println!("serving on {port}");
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    apiserver::serve::run(server, listener, Arc::new(keys.server_config()?)).await?;
    Ok(())
}
