//! The kube-apiserver-serving-clustertrustbundle-publisher loop: the authority of the API server's certificate as a
//! ClusterTrustBundle, under a name that follows from it; others of the same signer go. Owns nothing, spawns its worker.
//! https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#cluster-trust-bundles

use api::resource::CLUSTER_TRUST_BUNDLES;
use client::{DeleteOptions, Scope};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Context;
use crate::skeleton::{self, Key, Next, Queue};

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";

fn name(bundle: &str) -> String {
    let hash: String =
        Sha256::digest(bundle.as_bytes()).iter().take(12).map(|b| format!("{b:02x}")).collect();
    format!("{}:{hash}", SIGNER.replace('/', ":"))
}

pub async fn run(ctx: Context) {
    if ctx.config.root_ca.is_empty() {
        return ctx.token.cancelled().await;
    }
    let queue = Queue::default();
    let scope = Scope { field_selector: format!("spec.signerName={SIGNER}"), ..Scope::default() };
    let bundles = ctx.informers.scoped(&CLUSTER_TRUST_BUNDLES, scope);
    // One key stands for all of them.
    let q = queue.clone();
    bundles.on_change(move |_| q.add(Key::default()));
    if !skeleton::synced(&ctx.token, &[&bundles]).await {
        return;
    }
    queue.add(Key::default());
    let wanted = name(&ctx.config.root_ca);
    skeleton::work("kube-apiserver-serving-clustertrustbundle-publisher", &ctx.token, &queue, 1, |_| {
        let (ctx, bundles, wanted) = (&ctx, &bundles, &wanted);
        async move {
            let spec = json!({"signerName": SIGNER, "trustBundle": ctx.config.root_ca});
            match bundles.get("", wanted) {
                None => {
                    let body = json!({"apiVersion": CLUSTER_TRUST_BUNDLES.api_version(), "kind": CLUSTER_TRUST_BUNDLES.kind,
                        "metadata": {"name": wanted}, "spec": spec});
                    match ctx.client.create(&CLUSTER_TRUST_BUNDLES, "", &body).await {
                        Err(e) if !e.is_already_exists() => return Err(e.into()),
                        _ => {}
                    }
                }
                Some(o) => {
                    let mut v = o.value()?;
                    if v["spec"]["trustBundle"] != spec["trustBundle"] {
                        v["spec"]["trustBundle"] = spec["trustBundle"].clone();
                        ctx.client.update(&CLUSTER_TRUST_BUNDLES, "", wanted, "", &v).await?;
                    }
                }
            }
            for other in bundles.list(None).iter().filter(|o| o.name() != wanted) {
                let this_one = DeleteOptions::uid(other.uid());
                ctx.client.delete_if_there(&CLUSTER_TRUST_BUNDLES, "", other.name(), &this_one).await?;
            }
            Ok(Next::Wait)
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_from_the_bundle() {
        // The first half of what sha256sum says of nothing.
        assert_eq!(name(""), "kubernetes.io:kube-apiserver-serving:e3b0c44298fc1c149afbf4c8");
        assert_ne!(name("a"), name("b"));
    }
}
