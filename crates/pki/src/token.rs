//! Bound service-account tokens: JWTs signed with ES256 by one key of the cluster. `ring` does the signing, for it is
//! here already and a signature is one call; the claims are upstream's.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// Tokens longer than this are not looked at.
const MAX_TOKEN: usize = 16 * 1024;
/// SubjectPublicKeyInfo of an uncompressed P-256 point, up to the point.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// An object that a token names, by name and uid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BoundRef {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The claim `kubernetes.io`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Private {
    pub namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<BoundRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<BoundRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<BoundRef>,
    pub serviceaccount: BoundRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// What a token says. Times are Unix seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Private,
    pub nbf: i64,
    pub sub: String,
}

/// Issuer of the tokens that stand in secrets.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// What a token in a secret says: it has no end, and counts as long as the secret holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LegacyClaims {
    pub iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
    pub sub: String,
}

impl LegacyClaims {
    pub fn new(namespace: &str, account: &str, account_uid: &str, secret: &str) -> Self {
        Self {
            iss: LEGACY_ISSUER.into(),
            namespace: namespace.into(),
            secret: secret.into(),
            account: account.into(),
            account_uid: account_uid.into(),
            sub: format!("system:serviceaccount:{namespace}:{account}"),
        }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(d)? {
        Either::One(s) => vec![s],
        Either::Many(v) => v,
    })
}

/// Why a token doesn't count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this cluster: another authenticator may know it.
    #[error("the token is not one of this cluster's service-account tokens")]
    Foreign,
    #[error("invalid bearer token")]
    Signature,
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYet,
    #[error("token audiences {got:?} is invalid for the target audiences {want:?}")]
    Audience { got: Vec<String>, want: Vec<String> },
    #[error("failed to sign a token")]
    Sign,
}

/// Mints tokens.
pub struct Signer {
    key: EcdsaKeyPair,
    kid: String,
    header: String,
    random: SystemRandom,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.kid)
    }
}

fn key_id(point: &[u8]) -> String {
    let mut spki = SPKI_PREFIX.to_vec();
    spki.extend_from_slice(point);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &spki))
}

impl Signer {
    /// From a PKCS#8 PEM text of a P-256 key.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
            .map_err(|e| format!("not an ECDSA P-256 key in PKCS#8 ({e})"))?;
        let kid = key_id(key.public_key().as_ref());
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": kid}).to_string());
        Ok(Self { key, kid, header, random })
    }

    /// Names the key; follows from its public half.
    pub fn key_id(&self) -> &str {
        &self.kid
    }

    pub fn mint<T: Serialize>(&self, claims: &T) -> Result<String, TokenError> {
        let body = serde_json::to_vec(claims).map_err(|_| TokenError::Sign)?;
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(body));
        let sig = self.key.sign(&self.random, token.as_bytes()).map_err(|_| TokenError::Sign)?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(sig.as_ref()));
        Ok(token)
    }

    pub fn verifier(&self, issuer: impl Into<String>) -> Verifier {
        Verifier {
            issuer: issuer.into(),
            keys: vec![(self.kid.clone(), self.key.public_key().as_ref().to_vec())],
        }
    }
}

/// Verifies tokens of one issuer; holds public keys only.
#[derive(Debug, Clone)]
pub struct Verifier {
    issuer: String,
    keys: Vec<(String, Vec<u8>)>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

#[derive(Deserialize)]
struct IssuerOnly {
    #[serde(default)]
    iss: String,
}

impl Verifier {
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The claims of a token with a good signature; times and audiences are for [`check`] to judge.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify_of(token, &self.issuer)
    }

    /// The claims of a token that stands in a secret; whether it still does is for others to judge.
    pub fn verify_legacy(&self, token: &str) -> Result<LegacyClaims, TokenError> {
        self.verify_of(token, LEGACY_ISSUER)
    }

    fn verify_of<T: serde::de::DeserializeOwned>(&self, token: &str, wanted: &str) -> Result<T, TokenError> {
        let mut parts = token.splitn(3, '.');
        let (Some(head), Some(body), Some(sig)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TokenError::Foreign);
        };
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Foreign);
        }
        let decode = |s: &str| URL_SAFE_NO_PAD.decode(s).map_err(|_| TokenError::Foreign);
        let header: Header = serde_json::from_slice(&decode(head)?).map_err(|_| TokenError::Foreign)?;
        let body = decode(body)?;
        let issuer: IssuerOnly = serde_json::from_slice(&body).map_err(|_| TokenError::Foreign)?;
        if issuer.iss != wanted {
            return Err(TokenError::Foreign);
        }
        if header.alg != "ES256" {
            return Err(TokenError::Signature);
        }
        let sig = decode(sig)?;
        let signed = token.rsplit_once('.').map_or("", |(s, _)| s);
        let good = self.keys.iter().filter(|(kid, _)| header.kid.is_empty() || *kid == header.kid).any(
            |(_, key)| {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(signed.as_bytes(), &sig).is_ok()
            },
        );
        if !good {
            return Err(TokenError::Signature);
        }
        serde_json::from_slice(&body).map_err(|_| TokenError::Signature)
    }

    pub(crate) fn jwks(&self) -> Vec<Value> {
        self.keys
            .iter()
            .filter_map(|(kid, point)| {
                // 0x04, then x and y.
                let (x, y) = point.get(1..)?.split_at_checked(32)?;
                Some(json!({"use": "sig", "kty": "EC", "kid": kid, "crv": "P-256", "alg": "ES256",
                    "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}))
            })
            .collect()
    }
}

/// Judges times, and the audiences of which one has to match. Returns those that did.
pub fn check(claims: &Claims, audiences: &[String], now: i64) -> Result<Vec<String>, TokenError> {
    if now >= claims.exp {
        return Err(TokenError::Expired);
    }
    // Ten seconds for clocks that differ.
    if now + 10 < claims.nbf {
        return Err(TokenError::NotYet);
    }
    let matching: Vec<String> = claims.aud.iter().filter(|a| audiences.contains(a)).cloned().collect();
    if matching.is_empty() {
        return Err(TokenError::Audience { got: claims.aud.clone(), want: audiences.to_vec() });
    }
    Ok(matching)
}
