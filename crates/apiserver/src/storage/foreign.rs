//! Values in etcd that the original API server wrote, as this one would have: protobuf in the `k8s\0` envelope, and JSON of
//! Go's encoder, in whatever version they were stored in. Pure. What is written back is JSON, which the original reads from
//! its store as well.

use std::sync::Arc;

use api::decode::{Expect, FieldValidation, decode_value};
use api::protobuf;
use bytes::Bytes;
use serde_json::Value;

use super::Encoded;
use crate::adapt;

/// Where upstream's allocators keep bit maps of their own; nobody reads them here.
pub const RANGES: &str = "/registry/ranges/";
/// What upstream's encryption of values begins with.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// For the etcd engine.
pub fn decoder() -> store::etcd::Decode {
    Arc::new(|key, value| Ok(ours(key, &value)?.unwrap_or(value)))
}

/// The stored form of a foreign value; `None`: it is in that form, or no object.
fn ours(key: &str, value: &[u8]) -> Result<Option<Bytes>, String> {
    if key.starts_with(RANGES) {
        return Ok(None);
    }
    if value.starts_with(ENCRYPTED) {
        return Err(
            "it is encrypted; before another server can read it, the original must write it anew with the provider `identity` first in its encryption configuration".into(),
        );
    }
    let v = if value.starts_with(protobuf::MAGIC) {
        protobuf::decode(value).map_err(|e| e.to_string())?
    } else if value.ends_with(b"\n") {
        // Go's encoder ends each value so, and nothing here does.
        serde_json::from_slice(value).map_err(|e| format!("it is no JSON: {e}"))?
    } else {
        return Ok(None);
    };
    let v = settle(v)?;
    Encoded::new(v).map(|e| Some(e.bytes)).map_err(|e| e.to_string())
}

/// A built-in kind in its stored version, with the defaults that upstream fills in on its way out of the store. Others stay
/// as they are.
fn settle(v: Value) -> Result<Value, String> {
    let text = |k: &str| v[k].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let Some(kind) = api::catalog::builtin().by_kind(group, &kind) else { return Ok(v) };
    let Some(definition) = kind.version(version).and_then(|v| v.schema.definition()) else {
        return Err(format!(
            "{} in {api_version} is not known; the original must store it in {} first",
            kind.kind,
            kind.hub_api_version()
        ));
    };
    let expect = Expect { group, version, kind: &kind.kind, definition };
    let mut v = decode_value(v, expect, FieldValidation::Ignore).map_err(|e| e.to_string())?.value;
    adapt::default(kind, version, &mut v);
    kind.to_hub(version, &mut v).map_err(|e| e.to_string())?;
    adapt::canonical(kind, &mut v);
    Ok(v)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(key: &str, value: &[u8]) -> Value {
        let bytes = ours(key, value).expect("readable").expect("foreign");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn protobuf_becomes_the_stored_form() {
        let v = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
            "spec": {"ports": [{"port": 80}], "clusterIP": "10.0.0.1"}});
        let stored = protobuf::encode(&v).expect("protobuf");
        let got = read("/registry/services/specs/n/s", &stored);
        // As an old object without them is read by upstream.
        assert_eq!(
            (&got["spec"]["sessionAffinity"], &got["spec"]["ports"][0]["protocol"]),
            (&json!("None"), &json!("TCP"))
        );
        assert_eq!(got["spec"]["ports"][0]["targetPort"], 80);
        assert!(got["metadata"].get("resourceVersion").is_none());
    }

    #[test]
    fn an_old_version_is_converted() {
        let v = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "namespace": "n"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 70, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
        let stored = protobuf::encode(&v).expect("protobuf");
        let got = read("/registry/horizontalpodautoscalers/n/h", &stored);
        assert_eq!(got["apiVersion"], "autoscaling/v2");
        assert_eq!(got["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
    }

    #[test]
    fn json_of_gos_encoder_is_known_by_its_end() {
        let thing = b"{\"apiVersion\":\"a.example.com/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"t\"},\"x\":[1]}";
        let go = [&thing[..], b"\n"].concat();
        assert_eq!(
            ours("/registry/a.example.com/things/t", &go).expect("readable").as_deref(),
            Some(&thing[..])
        );
        assert_eq!(ours("/registry/a.example.com/things/t", thing), Ok(None), "our own is left alone");
        let map = b"{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"c\"},\"data\":{\"a\":\"b\"}}\n";
        assert_eq!(read("/registry/configmaps/n/c", map)["data"]["a"], "b");
    }

    #[test]
    fn what_cant_be_read_is_told() {
        assert_eq!(ours("/registry/ranges/servicenodeports", b"k8s\0\x0a"), Ok(None));
        let why = |value: &[u8]| ours("/registry/secrets/n/s", value).expect_err("refused");
        assert!(why(b"k8s:enc:aescbc:v1:key1:xyz").contains("identity"));
        assert!(why(b"k8s\0\x12\xff").contains("protobuf"));
        assert!(why(b"{\n").contains("JSON"));
        let gone = b"{\"apiVersion\":\"batch/v1beta1\",\"kind\":\"CronJob\",\"metadata\":{}}\n";
        assert!(why(gone).contains("batch/v1 first"));
    }
}
