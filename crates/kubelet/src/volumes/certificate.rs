//! Certificates of pods: a key is made on the node, a signer is asked through the API, and what it issued is kept in memory
//! and asked for again in time (`issuance` says when). After a restart everything is asked for anew. Owns what is held, and
//! one informer of this node's requests once a pod needs it; spawns nothing else.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::resource::{POD_CERTIFICATE_REQUESTS, SERVICE_ACCOUNTS};
use base64::Engine;
use client::{Client, Informer, Informers, Scope, clock};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node_ctx::Node;
use crate::pod::{CertificateSource, Pod};
use crate::refs::{User, Users};
use crate::volumes::issuance::{Bundle, JITTER, Request, State};

/// How long a signer may take before the pod's other volumes go on, and the pod is told to wait.
const PATIENCE: Duration = Duration::from_secs(3);
/// When a new certificate could not be asked for, and the old one holds.
const RETRY: i64 = 10_000;

/// Pod uid, volume, index of the source.
type Key = (String, String, usize);

struct Entry {
    signer: String,
    state: tokio::sync::Mutex<State>,
}

/// By volume and index of the source.
#[derive(Default)]
pub struct Certificates {
    pub bundles: HashMap<(String, usize), Result<Arc<Bundle>, String>>,
    /// When to look again (ms), while all are there.
    pub look_again: Option<i64>,
}

pub struct Issuer {
    client: Client,
    informers: Informers,
    node_name: String,
    requests: OnceLock<Informer>,
    users: Users,
    changed: Arc<Notify>,
    held: Mutex<HashMap<Key, Arc<Entry>>>,
}

impl Issuer {
    pub fn new(client: Client, informers: Informers, node_name: &str) -> Self {
        Self {
            client,
            informers,
            node_name: node_name.to_owned(),
            requests: OnceLock::new(),
            users: Arc::default(),
            changed: Arc::default(),
            held: Mutex::default(),
        }
    }

    /// Those of all volumes of the pod; all signers are asked at once.
    pub async fn of(&self, node: &Node, pod: &Pod, user: &User) -> Certificates {
        let wanted = pod.spec.volumes.iter().flat_map(|v| {
            let sources = v.projected.iter().flat_map(|p| p.sources.iter().enumerate());
            sources.filter_map(|(i, s)| Some((v.name.clone(), i, s.pod_certificate.as_ref()?)))
        });
        let wanted: Vec<_> = wanted.collect();
        let mut out = Certificates::default();
        if wanted.is_empty() {
            return out;
        }
        self.users.lock().insert(user.uid.clone(), user.notify.clone());
        let all = wanted.into_iter().map(|(volume, i, source)| async move {
            let (bundle, again) = self.one(node, pod, &volume, i, source).await;
            ((volume, i), bundle, again)
        });
        for (at, bundle, again) in futures::future::join_all(all).await {
            out.bundles.insert(at, bundle);
            out.look_again = [out.look_again, again].into_iter().flatten().min();
        }
        out
    }

    async fn one(
        &self,
        node: &Node,
        pod: &Pod,
        volume: &str,
        index: usize,
        source: &CertificateSource,
    ) -> (Result<Arc<Bundle>, String>, Option<i64>) {
        let key = (pod.metadata.uid.clone(), volume.to_owned(), index);
        let fresh = || Entry { signer: source.signer_name.clone(), state: tokio::sync::Mutex::default() };
        let entry = self.held.lock().entry(key).or_insert_with(|| Arc::new(fresh())).clone();
        let mut state = entry.state.lock().await;
        let until = Instant::now() + PATIENCE;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = clock::now().as_millisecond();
            let name = state.request().unwrap_or_default().to_owned();
            let seen = match name.is_empty() {
                true => None,
                false => self.requests().get(&pod.metadata.namespace, &name),
            };
            let seen: Option<Request> = seen.and_then(|o| o.view().ok());
            let place = format!("{}/{name}", pod.metadata.namespace);
            let turn = state.turn(seen.as_ref(), &place, now, jitter());
            for t in turn.told {
                node.recorder.warning(node.about_pod(pod), t.reason, t.message);
            }
            if turn.ask {
                match self.ask(node, pod, source).await {
                    Ok((key, name)) => state.asked(key, name, now, jitter()),
                    Err(e) => match state.bundle() {
                        // What is held is better than a pod that does not start.
                        Ok(b) => {
                            tracing::warn!(pod = %pod.key(), volume, error = %e, "failed to ask for a pod's next certificate");
                            return (Ok(b), Some(now + RETRY));
                        }
                        Err(why) => return (Err(format!("{why}: {e}")), None),
                    },
                }
                continue;
            }
            if !state.waits() || tokio::time::timeout_at(until, changed).await.is_err() {
                return (state.bundle(), state.look_again(now));
            }
        }
    }

    /// Makes a key and a request that a signer may answer: the key, and the request's name.
    async fn ask(
        &self,
        node: &Node,
        pod: &Pod,
        source: &CertificateSource,
    ) -> Result<(String, String), String> {
        let made = pki::request::key_and_request(&source.key_type)
            .map_err(|e| format!("while generating keypair: {e}"))?;
        let (ns, account) = (&pod.metadata.namespace, pod.spec.service_account());
        let sa = self.client.get(&SERVICE_ACCOUNTS, ns, account).await;
        let sa = sa.map_err(|e| format!("while fetching service account: {e}"))?;
        let own = node.itself.get("", &self.node_name);
        let own = own.ok_or_else(|| {
            format!("while getting node object from local cache: node {:?} not found", self.node_name)
        })?;
        self.requests();
        let mut body = json!({
            "apiVersion": POD_CERTIFICATE_REQUESTS.api_version(), "kind": "PodCertificateRequest",
            "metadata": {"generateName": "req-", "namespace": ns, "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid}]},
            "spec": {
                "signerName": source.signer_name,
                "podName": pod.metadata.name, "podUID": pod.metadata.uid,
                "serviceAccountName": account, "serviceAccountUID": sa.uid(),
                "nodeName": self.node_name, "nodeUID": own.uid(),
                "stubPKCS10Request": base64::engine::general_purpose::STANDARD.encode(&made.request),
            },
        });
        if let Some(s) = source.max_expiration_seconds {
            body["spec"]["maxExpirationSeconds"] = json!(s);
        }
        if !source.user_annotations.is_empty() {
            body["spec"]["unverifiedUserAnnotations"] = json!(source.user_annotations);
        }
        let answer = self.client.create::<Value>(&POD_CERTIFICATE_REQUESTS, ns, &body).await;
        let request = answer.map_err(|e| format!("while creating on API: {e}"))?;
        Ok((made.key, request.name().to_owned()))
    }

    /// This node's requests; whoever waits for one is woken when it is decided or gone.
    fn requests(&self) -> &Informer {
        self.requests.get_or_init(|| {
            let scope =
                Scope { field_selector: format!("spec.nodeName={}", self.node_name), ..Scope::default() };
            let informer = self.informers.scoped(&POD_CERTIFICATE_REQUESTS, scope);
            let (users, changed) = (self.users.clone(), self.changed.clone());
            informer.on_change(move |c| {
                let Some(Ok(r)) = c.object().map(|o| o.view::<Request>()) else { return };
                changed.notify_waiters();
                if (c.new.is_none() || !r.status.conditions.is_empty())
                    && let Some(n) = users.lock().get(&r.spec.pod_uid)
                {
                    n.notify_one();
                }
            });
            informer
        })
    }

    pub fn release(&self, uid: &str) {
        self.held.lock().retain(|(u, ..), _| u != uid);
        self.users.lock().remove(uid);
    }

    /// How many there are, by signer and state; what is being worked on is left out.
    pub fn states(&self) -> BTreeMap<(String, &'static str), usize> {
        let now = clock::now().as_millisecond();
        let mut out = BTreeMap::new();
        for e in self.held.lock().values() {
            if let Ok(state) = e.state.try_lock() {
                *out.entry((e.signer.clone(), state.word(now))).or_insert(0) += 1;
            }
        }
        out
    }
}

fn jitter() -> i64 {
    rand::random_range(0..JITTER)
}
