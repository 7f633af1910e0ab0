//! Certificates and requests for them inside of objects: PEM blocks as Go reads them, and what is in them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a block holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    pub label: String,
    pub headers: bool,
    pub bytes: Vec<u8>,
}

/// All well-formed blocks; what stands between them is passed over. Each byte is looked at a few times, whatever lines
/// are repeated: from each END, the last BEGIN before it is sought, behind the END before.
pub fn blocks(text: &str) -> Vec<Block> {
    const BEGIN: &str = "-----BEGIN ";
    let (mut out, mut rest) = (Vec::new(), text);
    while let Some((head, tail)) = rest.split_once("\n-----END ") {
        rest = tail;
        let Some(i) = head.rfind(BEGIN).filter(|i| *i == 0 || head.as_bytes()[i - 1] == b'\n') else {
            continue;
        };
        let block = &head[i + BEGIN.len()..];
        let (line, inner) = block.split_once('\n').unwrap_or((block, ""));
        let Some(label) = line.trim_end().strip_suffix("-----") else { continue };
        let Some(after) = tail.strip_prefix(label).and_then(|t| t.strip_prefix("-----")) else { continue };
        let (end, after) = after.split_once('\n').unwrap_or((after, ""));
        if !end.trim().is_empty() {
            continue;
        }
        // Headers end at the first line without a colon.
        let headers = inner.trim_start().lines().take_while(|l| l.contains(':')).count();
        let lines = inner.trim_start().lines().skip(headers);
        let data: String = lines.flat_map(str::chars).filter(|c| !c.is_ascii_whitespace()).collect();
        let Ok(bytes) = STANDARD.decode(data) else { continue };
        out.push(Block { label: label.to_owned(), headers: headers > 0, bytes });
        rest = after;
    }
    out
}

/// The text under a base64 field.
pub fn decoded(base64: &str) -> String {
    String::from_utf8_lossy(&STANDARD.decode(base64).unwrap_or_default()).into_owned()
}

/// Whether the bytes are one certificate after another, and at least one.
pub fn certificates(der: &[u8]) -> Result<(), &'static str> {
    let mut rest = der;
    while !rest.is_empty() {
        rest = X509Certificate::from_der(rest).map_err(|_| "x509: malformed certificate")?.0;
    }
    if der.is_empty() { Err("found CERTIFICATE PEM block containing 0 certificates") } else { Ok(()) }
}

/// The bytes as one certificate.
pub fn certificate(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, c)| c)
}

/// Whether the bytes are one certificate; then whether it is one of an authority.
pub fn authority(der: &[u8]) -> Option<bool> {
    certificate(der).map(|c| c.is_ca())
}

/// A certificate request that is signed with the key it names.
pub fn signing_request(text: &str) -> Result<(), String> {
    let first = blocks(text).into_iter().next().filter(|b| b.label == "CERTIFICATE REQUEST");
    let block = first.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (rest, csr) = X509CertificationRequest::from_der(&block.bytes)
        .map_err(|e| format!("asn1: structure error: not a certificate request: {e}"))?;
    if !rest.is_empty() {
        return Err("asn1: syntax error: trailing data".into());
    }
    csr.verify_signature().map_err(|e| match e {
        X509Error::SignatureUnsupportedAlgorithm => {
            "x509: cannot verify signature: algorithm unimplemented".to_owned()
        }
        _ => match csr.signature_algorithm.algorithm.to_id_string().as_str() {
            oid if oid.starts_with("1.2.840.113549.1.1") => "crypto/rsa: verification error".into(),
            "1.3.101.112" => "x509: Ed25519 verification failure".into(),
            _ => "x509: ECDSA verification failure".into(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_as_go_finds_them() {
        let text = "junk\n-----BEGIN A B-----\nYWI=\n-----END A B-----\n x -----BEGIN C-----\n-----BEGIN D-----\nk: v\n\nYQ==\n-----END D-----\n-----BEGIN E-----\n!\n-----END E-----\n";
        let got: Vec<(String, bool, Vec<u8>)> =
            blocks(text).into_iter().map(|b| (b.label, b.headers, b.bytes)).collect();
        assert_eq!(got, [("A B".into(), false, b"ab".to_vec()), ("D".into(), true, b"a".to_vec())]);
        assert!(blocks("").is_empty());
        // A million lines that begin or end what is not there: done at once, or not within the hour.
        for line in ["-----BEGIN A-----\n", "-----END A-----\n", "-----BEGIN A-----\n-----END B-----\n"] {
            assert!(blocks(&line.repeat(1_000_000)).is_empty());
        }
    }

    #[test]
    fn a_request_is_signed_with_its_own_key() {
        let good = decoded(include_str!("testdata/request.txt").trim());
        assert_eq!(signing_request(&good), Ok(()));
        // Another byte of the signature.
        let mut b = blocks(&good).remove(0);
        let last = b.bytes.len() - 1;
        b.bytes[last] ^= 1;
        let forged = |bytes: &[u8]| {
            format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
                STANDARD.encode(bytes)
            )
        };
        assert_eq!(signing_request(&forged(&b.bytes)), Err("x509: ECDSA verification failure".into()));
        assert!(signing_request(&forged(b"a")).is_err_and(|e| e.starts_with("asn1: ")));
        assert_eq!(signing_request("x"), Err("PEM block type must be CERTIFICATE REQUEST".into()));
    }

    #[test]
    fn certificates_come_one_after_another() {
        let pem = decoded(include_str!("testdata/certificate.txt").trim());
        let der = blocks(&pem).remove(0).bytes;
        assert_eq!(certificates(&der), Ok(()));
        assert_eq!(certificates(&[der.clone(), der.clone()].concat()), Ok(()));
        assert_eq!(certificates(b"a"), Err("x509: malformed certificate"));
        assert!(certificates(b"").is_err());
        assert_eq!((authority(&der), authority(b"a")), (Some(true), None));
    }
}
