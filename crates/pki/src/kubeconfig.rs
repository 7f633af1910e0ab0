//! A kubeconfig with certificates embedded, so that one file is all a user needs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How the user of a kubeconfig proves who it is.
pub enum Credentials<'a> {
    Certificate { cert_pem: &'a str, key_pem: &'a str },
    Token(&'a str),
}

/// Renders the file. `cluster` and `user` name the entries; the context is `user@cluster`.
pub fn render(
    cluster: &str,
    server: &str,
    ca_pem: &str,
    user: &str,
    credentials: &Credentials<'_>,
) -> String {
    // A JSON string is a YAML string.
    let q = |s: &str| serde_json::Value::String(s.to_owned()).to_string();
    let context = q(&format!("{user}@{cluster}"));
    let auth = match credentials {
        Credentials::Certificate { cert_pem, key_pem } => format!(
            "    client-certificate-data: {}\n    client-key-data: {}\n",
            STANDARD.encode(cert_pem),
            STANDARD.encode(key_pem)
        ),
        Credentials::Token(t) => format!("    token: {}\n", q(t)),
    };
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {c}\n  cluster:\n    certificate-authority-data: {ca}\n    \
         server: {s}\ncontexts:\n- name: {context}\n  context:\n    cluster: {c}\n    user: {u}\n\
         current-context: {context}\npreferences: {{}}\nusers:\n- name: {u}\n  user:\n{auth}",
        c = q(cluster),
        ca = STANDARD.encode(ca_pem),
        s = q(server),
        u = q(user),
    )
}
