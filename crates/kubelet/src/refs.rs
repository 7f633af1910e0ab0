//! ConfigMaps and Secrets that pods of this node name: each is watched alone, as long as a pod uses it. Trust bundles, of
//! which a cluster has few, are watched together. Owns one informer for each (its task ends with the last user) and wakes
//! the users when something changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Resource, resource};
use base64::Engine;
use client::{Client, Informer, Informers, Scope};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a first read may take before the caller is told to try again.
const FIRST_READ: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefKind {
    ConfigMap,
    Secret,
    TrustBundles,
}

impl RefKind {
    fn resource(self) -> Resource {
        match self {
            RefKind::ConfigMap => resource::CONFIG_MAPS,
            RefKind::Secret => resource::SECRETS,
            RefKind::TrustBundles => resource::CLUSTER_TRUST_BUNDLES,
        }
    }
    pub fn word(self) -> &'static str {
        match self {
            RefKind::ConfigMap => "configmap",
            RefKind::Secret => "secret",
            RefKind::TrustBundles => "clustertrustbundle",
        }
    }
}

/// By the pod, who is told of changes.
pub type Users = Arc<Mutex<HashMap<String, Arc<Notify>>>>;

struct Entry {
    informer: Informer,
    users: Users,
    _stop: DropGuard,
}

pub struct Refs {
    client: Client,
    entries: Mutex<HashMap<(RefKind, String, String), Arc<Entry>>>,
}

/// Who asks: its uid, and what to wake on a change.
#[derive(Clone)]
pub struct User {
    pub uid: String,
    pub notify: Arc<Notify>,
}

impl Refs {
    pub fn new(client: Client) -> Self {
        Self { client, entries: Mutex::default() }
    }

    fn entry(&self, kind: RefKind, namespace: &str, name: &str, user: &User) -> Arc<Entry> {
        let mut entries = self.entries.lock();
        let entry = entries.entry((kind, namespace.to_owned(), name.to_owned())).or_insert_with(|| {
            let token = CancellationToken::new();
            let field_selector =
                if name.is_empty() { String::new() } else { format!("metadata.name={name}") };
            let scope = Scope { namespace: namespace.to_owned(), field_selector, ..Scope::default() };
            let informer = Informers::new(self.client.clone(), token.clone()).scoped(&kind.resource(), scope);
            let users: Users = Arc::default();
            let (told, seen) = (Arc::downgrade(&users), informer.clone());
            informer.on_change(move |_| {
                // The first list is what the first reader waits for anyway.
                if seen.is_synced()
                    && let Some(users) = told.upgrade()
                {
                    users.lock().values().for_each(|n| n.notify_one());
                }
            });
            Arc::new(Entry { informer, users, _stop: token.drop_guard() })
        });
        entry.users.lock().insert(user.uid.clone(), user.notify.clone());
        entry.clone()
    }

    /// The object, `None` when it does not exist; an error when the API does not say.
    pub async fn get(
        &self,
        kind: RefKind,
        ns: &str,
        name: &str,
        user: &User,
    ) -> Result<Option<Object>, String> {
        Ok(self.synced(kind, ns, name, user).await?.informer.get(ns, name))
    }

    async fn synced(&self, kind: RefKind, ns: &str, name: &str, user: &User) -> Result<Arc<Entry>, String> {
        let entry = self.entry(kind, ns, name, user);
        match tokio::time::timeout(FIRST_READ, entry.informer.synced()).await {
            Ok(true) => Ok(entry),
            _ => Err(format!("failed to sync {} cache: timed out waiting for the condition", kind.word())),
        }
    }

    /// All trust bundles of the cluster.
    pub async fn trust_bundles(&self, user: &User) -> Result<Vec<Object>, String> {
        Ok(self.synced(RefKind::TrustBundles, "", "", user).await?.informer.list(None))
    }

    pub async fn config_map(
        &self,
        ns: &str,
        name: &str,
        user: &User,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, String> {
        Ok(match self.get(RefKind::ConfigMap, ns, name, user).await? {
            Some(o) => Some(config_map_data(&o)?),
            None => None,
        })
    }

    pub async fn secret(&self, ns: &str, name: &str, user: &User) -> Result<Option<Secret>, String> {
        Ok(match self.get(RefKind::Secret, ns, name, user).await? {
            Some(o) => Some(secret_data(&o)?),
            None => None,
        })
    }

    /// Forgets a user; what nobody uses any more is watched no longer.
    pub fn release(&self, uid: &str) {
        self.entries.lock().retain(|_, e| {
            let mut users = e.users.lock();
            users.remove(uid);
            !users.is_empty()
        });
    }
}

fn config_map_data(o: &Object) -> Result<BTreeMap<String, Vec<u8>>, String> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct View {
        data: Option<BTreeMap<String, String>>,
        binary_data: Option<BTreeMap<String, String>>,
    }
    let v: View = o.view().map_err(|e| e.to_string())?;
    let mut out: BTreeMap<String, Vec<u8>> =
        v.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.into_bytes())).collect();
    for (k, v) in v.binary_data.unwrap_or_default() {
        out.insert(k, decode(&v)?);
    }
    Ok(out)
}

#[derive(Debug, Clone, Default)]
pub struct Secret {
    pub data: BTreeMap<String, Vec<u8>>,
}

fn secret_data(o: &Object) -> Result<Secret, String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct View {
        data: Option<BTreeMap<String, String>>,
    }
    let v: View = o.view().map_err(|e| e.to_string())?;
    let data = v.data.unwrap_or_default().into_iter().map(|(k, v)| Ok((k, decode(&v)?)));
    Ok(Secret { data: data.collect::<Result<_, String>>()? })
}

fn decode(s: &str) -> Result<Vec<u8>, String> {
    base64::engine::general_purpose::STANDARD.decode(s).map_err(|e| format!("invalid base64 data: {e}"))
}
