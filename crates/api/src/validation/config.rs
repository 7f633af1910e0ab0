//! ConfigMap and Secret: keys, size, types, and that an immutable one stays.

use super::at::At;
use super::errors::{ErrorList, same};
use super::path::Path;
use super::{go_json, names};
use base64::Engine;
use serde_json::Value;

/// One MiB of values.
const MAX: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

/// Bytes that a base64 text stands for.
fn decoded_len(s: &str) -> usize {
    let padding = s.bytes().rev().take_while(|b| *b == b'=').count();
    (s.len() / 4 * 3).saturating_sub(padding)
}

fn keys(m: &At, e: &mut ErrorList) {
    for (k, v) in m.entries() {
        e.each(&v, k, names::config_key(k));
    }
}

/// ConfigMap.
pub fn config_map(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let (data, binary) = (root.get("data"), root.get("binaryData"));
    keys(&data, e);
    for (k, v) in data.entries() {
        if binary.v.get(k).is_some() {
            e.invalid(&v, k, "duplicate of key present in binaryData");
        }
    }
    keys(&binary, e);
    let total: usize = data.entries().map(|(_, v)| v.str().len()).sum::<usize>()
        + binary.entries().map(|(_, v)| decoded_len(v.str())).sum::<usize>();
    if total > MAX {
        // Upstream has a field without a name here, which prints like this.
        e.too_long(&Path::ROOT.key(""), MAX);
    }
}

fn frozen(n: &Value, o: &Value, fields: &[&str], e: &mut ErrorList) {
    let (new, old) = (At::root(n), At::root(o));
    if !old.b("immutable") {
        return;
    }
    if !new.b("immutable") {
        e.forbidden(&new.at("immutable"), FROZEN);
    }
    for f in fields {
        if !same(new.raw(f), old.raw(f)) {
            e.forbidden(&new.at(f), FROZEN);
        }
    }
}

pub fn config_map_update(n: &Value, o: &Value, e: &mut ErrorList) {
    frozen(n, o, &["data", "binaryData"], e);
    config_map(n, e);
}

/// Secret.
pub fn secret(o: &Value, e: &mut ErrorList) {
    let root = At::root(o);
    let data = root.get("data");
    keys(&data, e);
    if data.entries().map(|(_, v)| decoded_len(v.str())).sum::<usize>() > MAX {
        e.too_long(&data, MAX);
    }
    let need = |key: &str, e: &mut ErrorList| {
        if data.v.get(key).is_none() {
            e.required(&data.p.key(key), "");
        }
    };
    match root.s("type") {
        "kubernetes.io/service-account-token" => {
            let meta = root.get("metadata");
            let notes = meta.get("annotations");
            let key = "kubernetes.io/service-account.name";
            if notes.s(key).is_empty() {
                e.required(&notes.p.key(key), "");
            }
        }
        "kubernetes.io/dockercfg" => docker(&data, ".dockercfg", e),
        "kubernetes.io/dockerconfigjson" => docker(&data, ".dockerconfigjson", e),
        "kubernetes.io/basic-auth"
            if data.v.get("username").is_none() && data.v.get("password").is_none() =>
        {
            need("username", e);
            need("password", e);
        }
        "kubernetes.io/ssh-auth" if data.s("ssh-privatekey").is_empty() => {
            e.required(&data.p.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            need("tls.crt", e);
            need("tls.key", e);
        }
        _ => {}
    }
}

fn docker(data: &At, key: &str, e: &mut ErrorList) {
    let at = data.p.key(key);
    let Some(text) = data.v.get(key).and_then(Value::as_str) else {
        e.required(&at, "");
        return;
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    if let Err(why) = go_json::object(&bytes, "map[string]interface {}") {
        e.invalid(&at, "<secret contents redacted>", &why);
    }
}

pub fn secret_update(n: &Value, o: &Value, e: &mut ErrorList) {
    e.immutable(&At::root(n).get("type"), At::root(o).raw("type"));
    frozen(n, o, &["data"], e);
    secret(n, e);
}
