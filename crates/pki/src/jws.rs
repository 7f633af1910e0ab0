//! Detached JSON web signatures (RFC 7515, appendix F) by which the bearer of a bootstrap token knows that what it was told
//! comes from somebody who knows the token as well: HS256, the token's id as `kid`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as URL;
use ring::hmac;

fn parts(content: &str, id: &str, secret: &str) -> (String, hmac::Key, String) {
    let header = URL.encode(serde_json::json!({ "alg": "HS256", "kid": id }).to_string());
    let signed = format!("{header}.{}", URL.encode(content));
    (header, hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed)
}

/// `<header>..<signature>`: the content itself is left out.
pub fn sign(content: &str, id: &str, secret: &str) -> String {
    let (header, key, signed) = parts(content, id, secret);
    format!("{header}..{}", URL.encode(hmac::sign(&key, signed.as_bytes())))
}

/// Whether the signature is that of the token for this content.
pub fn verify(signature: &str, content: &str, id: &str, secret: &str) -> bool {
    let (header, key, signed) = parts(content, id, secret);
    let Some((head, tag)) = signature.split_once("..") else { return false };
    let Ok(tag) = URL.decode(tag) else { return false };
    head == header && hmac::verify(&key, signed.as_bytes(), &tag).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_upstreams() {
        let (id, secret) = ("joshua", "my voice is my passcode");
        // Of upstream's own test.
        let known = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk";
        assert_eq!(sign("", id, secret), known);
        let s = sign("content", id, secret);
        assert!(verify(&s, "content", id, secret));
        for (signature, content, id, secret) in [
            (s.as_str(), "other", id, secret),
            (&s, "content", "josh", secret),
            (&s, "content", id, "mine"),
            ("..", "content", id, secret),
            ("", "", "", ""),
        ] {
            assert!(!verify(signature, content, id, secret), "{signature} {content} {id}");
        }
    }
}
