//! How many pods the controllers of some pods want together: from the informers for the kinds that we know, from the
//! `scale` subresource for any other.

use std::collections::HashMap;

use api::resource::{DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS};
use api::{Object, OwnerReference, Resource, Status};
use bytes::Bytes;
use client::{Client, Informer, Informers};
use serde_json::Value;

use crate::discovery;
use crate::pods::Pod;

pub struct Scales {
    client: Client,
    known: Vec<(Resource, Informer)>,
}

/// The sum, and the pods that no controller stands behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub replicas: i64,
    pub unmanaged: Vec<String>,
}

#[derive(Debug)]
pub enum Error {
    /// Nothing is wrong with the API: the pods can't be counted that way.
    Uncountable(String),
    Api(Status),
}

impl From<Status> for Error {
    fn from(s: Status) -> Self {
        Error::Api(s)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Uncountable(why) => f.write_str(why),
            Error::Api(s) => s.fmt(f),
        }
    }
}

fn replicas(o: &Object) -> i64 {
    o.view::<Value>().ok().and_then(|v| v["spec"]["replicas"].as_i64()).unwrap_or(1)
}

fn group(r: &OwnerReference) -> &str {
    r.api_version.split_once('/').map_or("", |(g, _)| g)
}

impl Scales {
    pub fn new(client: Client, informers: &Informers) -> Self {
        let known = [REPLICA_SETS, REPLICATION_CONTROLLERS, DEPLOYMENTS, STATEFUL_SETS];
        Self { client, known: known.into_iter().map(|r| (r.clone(), informers.get(&r))).collect() }
    }

    pub fn informers(&self) -> Vec<&Informer> {
        self.known.iter().map(|(_, i)| i).collect()
    }

    pub async fn of(&self, namespace: &str, pods: &[Pod]) -> Result<Sum, Error> {
        let mut scales: HashMap<String, i64> = HashMap::new();
        let mut seen: HashMap<String, ()> = HashMap::new();
        let mut out = Sum::default();
        for pod in pods {
            let Some(owner) = pod.object.meta().controller() else {
                out.unmanaged.push(pod.object.name().to_owned());
                continue;
            };
            if seen.insert(owner.uid.clone(), ()).is_some() {
                continue;
            }
            let Some((uid, n)) = self.find(namespace, owner).await? else {
                return Err(Error::Uncountable(format!(
                    "found no controllers for pod \"{}\"",
                    pod.object.name()
                )));
            };
            scales.insert(uid, n);
        }
        out.replicas = scales.values().sum();
        Ok(out)
    }

    fn known(&self, namespace: &str, owner: &OwnerReference) -> Option<Object> {
        let (_, informer) =
            self.known.iter().find(|(r, _)| r.kind == owner.kind.as_str() && r.group == group(owner))?;
        informer.get(namespace, &owner.name).filter(|o| o.uid() == owner.uid)
    }

    /// Uid and scale of what decides on the number: of a ReplicaSet its deployment, when it has one.
    async fn find(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i64)>, Error> {
        if self.known.iter().any(|(r, _)| r.kind == owner.kind.as_str() && r.group == group(owner)) {
            let Some(o) = self.known(namespace, owner) else { return Ok(None) };
            let above =
                o.meta().controller().filter(|c| owner.kind == "ReplicaSet" && c.kind == "Deployment");
            return Ok(match above {
                Some(c) => self.known(namespace, c).map(|d| (d.uid().to_owned(), replicas(&d))),
                None => Some((o.uid().to_owned(), replicas(&o))),
            });
        }
        let kinds = discovery::resources(&self.client, &["get"]).await?;
        let Some(r) = kinds.into_iter().find(|k| k.kind == owner.kind.as_str() && k.group == group(owner))
        else {
            return Ok(None);
        };
        let path = r.path(namespace, Some(&owner.name), Some("scale"));
        let request = http::Request::get(path).body(Bytes::new()).map_err(Status::internal)?;
        match self.client.raw(request).await {
            Ok(answer) => {
                let scale: Value = serde_json::from_slice(answer.body()).map_err(Status::internal)?;
                let same = scale["metadata"]["uid"] == owner.uid.as_str();
                Ok(same.then(|| (owner.uid.clone(), scale["spec"]["replicas"].as_i64().unwrap_or(0))))
            }
            Err(s) if s.is_not_found() || s.code == 405 => {
                let there = self.client.find(&r, namespace, &owner.name).await.unwrap_or(None);
                // What is there but does not scale can't be counted; what is not there has no say.
                if there.is_none() {
                    return Ok(None);
                }
                let name = if r.group.is_empty() {
                    r.plural.to_string()
                } else {
                    format!("{}.{}", r.plural, r.group)
                };
                Err(Error::Uncountable(format!("{name} does not implement the scale subresource")))
            }
            Err(s) => Err(s.into()),
        }
    }
}
