//! Tests of the whole crate: a directory's life, tokens, and who a certificate belongs to.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::token::{BoundRef, Claims, Private, TokenError, check};

const NOW: i64 = 1_800_000_000;

fn options() -> Options {
    Options {
        hostname: "box".into(),
        advertise: vec![IpAddr::from([192, 168, 7, 1])],
        service_ips: vec![IpAddr::from([10, 96, 0, 1])],
        cluster_domain: "cluster.local".into(),
        extra_dns: vec![],
    }
}

#[test]
fn a_directory_is_made_once_and_renewed_near_its_end() {
    let tmp = tempfile::tempdir().expect("tmp");
    let dir = tmp.path().join("pki");
    let a = Pki::open(&dir, &options(), NOW).expect("open");
    for e in std::fs::read_dir(&dir).expect("dir") {
        let m = e.expect("entry").metadata().expect("meta");
        assert_eq!(m.permissions().mode() & 0o777, 0o600);
    }
    let b = Pki::open(&dir, &options(), NOW + 1000).expect("again");
    assert_eq!(a.serving, b.serving);
    assert_eq!(a.ca.cert_pem(), b.ca.cert_pem());
    let mut more = options();
    more.advertise.push(IpAddr::from([10, 1, 1, 1]));
    let c = Pki::open(&dir, &more, NOW).expect("more names");
    assert_ne!(b.serving, c.serving);
    let d = Pki::open(&dir, &more, NOW + 330 * 86_400).expect("near the end");
    assert_ne!(c.serving, d.serving);
    assert_eq!(a.ca.cert_pem(), d.ca.cert_pem());
    std::fs::write(dir.join("apiserver.crt"), "torn").expect("write");
    Pki::open(&dir, &more, NOW).expect("a torn leaf is replaced");
    std::fs::remove_file(dir.join("ca.key")).expect("rm");
    let e = Pki::open(&dir, &more, NOW).expect_err("a lost key is told");
    assert!(e.to_string().contains("ca.key"), "{e}");
}

#[test]
fn certificates_name_their_owner() {
    let tmp = tempfile::tempdir().expect("tmp");
    let p = Pki::open(tmp.path(), &options(), NOW).expect("open");
    let other = Authority::create("other", NOW).expect("ca");
    let t = p.client_trust().expect("trust");
    let admin = p.admin(NOW).expect("admin");
    let chain = trust::certificates(&admin.cert).expect("pem");
    let who = t.identify(&chain, NOW).expect("admin");
    assert_eq!(
        (who.user.as_str(), who.groups.as_slice()),
        ("kubernetes-admin", &["system:masters".to_owned()][..])
    );
    assert!(t.identify(&chain, NOW + 400 * 86_400).is_err(), "expired");
    let forged = other
        .issue(&Subject::new("kubernetes-admin").in_group("system:masters"), &Usage::Client, NOW)
        .expect("issue");
    assert!(t.identify(&trust::certificates(&forged.cert).expect("pem"), NOW).is_err(), "another authority");
    let node = p.kubelet_client("n1", NOW).expect("node");
    let who = t.identify(&trust::certificates(&node.cert).expect("pem"), NOW).expect("node");
    assert_eq!(
        (who.user.as_str(), who.groups.as_slice()),
        ("system:node:n1", &["system:nodes".to_owned()][..])
    );
    let srv = trust::certificates(&p.serving.cert).expect("pem");
    assert!(t.identify(&srv, NOW).is_err(), "a serving certificate is no client");
    p.server_config().expect("tls");
}

#[test]
fn tokens_are_verified() {
    let tmp = tempfile::tempdir().expect("tmp");
    let p = Pki::open(tmp.path(), &options(), NOW).expect("open");
    let v = p.tokens.verifier("https://kubernetes.default.svc.cluster.local");
    let claims = Claims {
        aud: vec!["a".into(), "b".into()],
        exp: NOW + 3600,
        iat: NOW,
        nbf: NOW,
        iss: v.issuer().into(),
        jti: "j".into(),
        sub: "system:serviceaccount:default:x".into(),
        kubernetes: Private {
            namespace: "default".into(),
            serviceaccount: BoundRef { name: "x".into(), uid: "u".into() },
            pod: Some(BoundRef { name: "p".into(), uid: "pu".into() }),
            ..Private::default()
        },
    };
    let t = p.tokens.mint(&claims).expect("mint");
    assert_eq!(v.verify(&t), Ok(claims.clone()));
    let (rest, sig) = t.rsplit_once('.').expect("dots");
    let mut forged = claims.clone();
    forged.sub = "system:serviceaccount:kube-system:root".into();
    let other = p.tokens.mint(&forged).expect("mint");
    let (other_rest, _) = other.rsplit_once('.').expect("dots");
    assert_eq!(v.verify(&format!("{other_rest}.{sig}")), Err(TokenError::Signature));
    assert_eq!(v.verify(rest), Err(TokenError::Foreign));
    assert_eq!(v.verify("x"), Err(TokenError::Foreign));
    assert_eq!(p.tokens.verifier("other").verify(&t), Err(TokenError::Foreign));
    let a = |s: &str| vec![s.to_owned()];
    assert_eq!(check(&claims, &a("b"), NOW), Ok(a("b")));
    assert!(matches!(check(&claims, &a("c"), NOW), Err(TokenError::Audience { .. })));
    assert_eq!(check(&claims, &a("a"), NOW + 3600), Err(TokenError::Expired));
    assert_eq!(check(&claims, &a("a"), NOW - 60), Err(TokenError::NotYet));
    let keys = crate::oidc::jwks(&v);
    assert_eq!(keys["keys"][0]["kty"], "EC");
}

#[test]
fn a_kubeconfig_is_yaml_with_everything_inside() {
    let tmp = tempfile::tempdir().expect("tmp");
    let p = Pki::open(tmp.path(), &options(), NOW).expect("open");
    let f = tmp.path().join("admin.kubeconfig");
    p.write_admin_kubeconfig(&f, "https://127.0.0.1:6443", NOW).expect("write");
    let text = std::fs::read_to_string(&f).expect("read");
    assert!(text.contains("server: \"https://127.0.0.1:6443\"") && text.contains("client-key-data: LS0t"));
}
