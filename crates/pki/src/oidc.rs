//! The discovery documents of the service-account issuer.

use serde_json::{Value, json};

use crate::token::Verifier;

/// `/.well-known/openid-configuration`
pub fn configuration(issuer: &str, jwks_uri: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

/// `/openid/v1/jwks`
pub fn jwks(verifier: &Verifier) -> Value {
    json!({ "keys": verifier.jwks() })
}
