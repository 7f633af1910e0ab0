//! From the cluster's trust bundles to the anchors that a volume shows: one bundle by its name, or those of a signer that a
//! selector picks, each anchor once. Pure.

use std::collections::BTreeSet;

use api::Object;
use api::selector::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use crate::pod::TrustSource;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Bundle {
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    signer_name: String,
    trust_bundle: String,
}

/// The anchors as PEM text. What is missing is an empty file where the source is optional.
pub fn anchors(bundles: &[Object], source: &TrustSource) -> Result<String, String> {
    let mut found: Vec<Spec> = Vec::new();
    let spec = |o: &Object| o.view::<Bundle>().map(|b| b.spec).map_err(|e| e.to_string());
    let missing = if let Some(name) = &source.name {
        if let Some(o) = bundles.iter().find(|o| o.name() == name) {
            found.push(spec(o)?);
        }
        format!("clustertrustbundle.certificates.k8s.io \"{name}\" not found")
    } else {
        let signer = source.signer_name.as_deref().unwrap_or_default();
        let wanted = source.label_selector.as_ref().unwrap_or(&Value::Null);
        let wanted =
            LabelSelector::from_value(wanted).map_err(|e| format!("while parsing label selector: {e}"))?;
        for o in bundles.iter().filter(|o| wanted.matches(&o.meta().labels)) {
            found.push(spec(o)?);
        }
        found.retain(|s| s.signer_name == signer);
        format!("combination of signerName and labelSelector matched zero ClusterTrustBundles of {signer}")
    };
    if found.is_empty() {
        return if source.optional == Some(true) { Ok(String::new()) } else { Err(missing) };
    }
    let mut all = BTreeSet::new();
    for s in &found {
        let anchors = pki::trust::certificates(&s.trust_bundle).map_err(|e| e.to_string())?;
        all.extend(anchors.into_iter().map(|c| c.to_vec()));
    }
    Ok(pki::trust::to_pem(all.iter().map(Vec::as_slice)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A bundle whose anchors are the given bytes; nobody here looks into certificates.
    fn bundle(name: &str, signer: &str, alive: &str, anchors: &[&[u8]]) -> Object {
        let pem = pki::trust::to_pem(anchors.iter().copied());
        let v = json!({"metadata": {"name": name, "labels": {"alive": alive}}, "spec": {"signerName": signer, "trustBundle": pem}});
        Object::from_value(v, 1).expect("object")
    }

    #[test]
    fn bundles_are_named_or_picked() {
        let all = [
            bundle("x.y:a:1", "x.y/a", "true", &[b"one", b"two"]),
            bundle("x.y:a:2", "x.y/a", "true", &[b"two"]),
            bundle("x.y:a:3", "x.y/a", "false", &[b"three"]),
            bundle("x.y:b:1", "x.y/b", "true", &[b"four"]),
        ];
        let pem = |parts: &[&[u8]]| Ok(pki::trust::to_pem(parts.iter().copied()));
        let alive = json!({"matchLabels": {"alive": "true"}});
        for (source, want) in [
            (json!({"name": "x.y:b:1"}), pem(&[b"four"])),
            (json!({"name": "none"}), Err("clustertrustbundle.certificates.k8s.io \"none\" not found")),
            (json!({"name": "none", "optional": true}), pem(&[])),
            (json!({"signerName": "x.y/a", "labelSelector": alive}), pem(&[b"one", b"two"])),
            (json!({"signerName": "x.y/a", "labelSelector": {}}), pem(&[b"one", b"three", b"two"])),
            // No selector picks nothing.
            (json!({"signerName": "x.y/a"}), Err("matched zero ClusterTrustBundles")),
            (json!({"signerName": "x.y/a", "optional": true}), pem(&[])),
            (
                json!({"signerName": "x.y/c", "labelSelector": alive}),
                Err("matched zero ClusterTrustBundles of x.y/c"),
            ),
        ] {
            let got = anchors(&all, &serde_json::from_value(source.clone()).expect("source"));
            match (got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{source}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{source}: {got}"),
                (got, _) => panic!("{source}: {got:?}"),
            }
        }
    }

    #[test]
    fn pem_is_broken_into_lines() {
        let long = [7u8; 100];
        let text = pki::trust::to_pem([&long[..]]);
        assert_eq!(text.lines().map(str::len).max(), Some(64));
        assert_eq!(pki::trust::certificates(&text).expect("pem")[0].as_ref(), long);
    }
}
