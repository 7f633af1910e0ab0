//! certificates.k8s.io/v1beta1 -> v1: a request's key and its proof stood in fields of their own, which v1 does not know.

use serde_json::Value;

pub fn request_to_v1(v: &mut Value) {
    if let Some(spec) = v.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("pkixPublicKey");
        spec.remove("proofOfPossession");
    }
}
