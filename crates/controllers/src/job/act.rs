//! What the job loop does to pods: makes and deletes them, and takes their finalizer off. Counts what went well.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use api::resource::{JOBS, PODS};
use api::{Object, Status};
use client::{Client, DeleteOptions, ObjectRef, Patch, clock};
use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Loop;
use super::children::{NewPod, TRACKING, is_tracked};
use super::plan::{Action, Done};
use crate::pods::Pod;
use crate::skeleton::Key;
use crate::slow_start::slow_start;

/// Pods whose finalizer was taken off and whose informer has not seen that yet, per job.
#[derive(Default)]
pub struct Released {
    pods: Mutex<HashMap<Key, HashSet<String>>>,
}

impl Released {
    fn add(&self, key: &Key, uid: &str) {
        self.pods.lock().entry(key.clone()).or_default().insert(uid.to_owned());
    }

    fn take_back(&self, key: &Key, uid: &str) {
        if let Some(set) = self.pods.lock().get_mut(key) {
            set.remove(uid);
        }
    }

    /// Those that still show the finalizer here.
    pub fn among(&self, key: &Key, pods: &[Pod]) -> HashSet<String> {
        let mut all = self.pods.lock();
        let Some(set) = all.get_mut(key) else { return HashSet::new() };
        let shown: HashSet<&str> =
            pods.iter().filter(|p| is_tracked(&p.object)).map(|p| p.object.uid()).collect();
        set.retain(|uid| shown.contains(uid.as_str()));
        let left = set.clone();
        if left.is_empty() {
            all.remove(key);
        }
        left
    }

    pub fn forget(&self, key: &Key) {
        self.pods.lock().remove(key);
    }
}

/// Takes the finalizer off; a pod that is gone is fine.
pub async fn release(client: &Client, pod: &Object) -> Result<(), Status> {
    let patch = Patch::Strategic(
        json!({ "metadata": { "uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [TRACKING] } }),
    );
    match client.patch(&PODS, pod.namespace(), pod.name(), "", &patch).await {
        // Another pod of that name: ours is gone.
        Err(s) if s.is_not_found() || s.is_conflict() => Ok(()),
        other => other.map(|_| ()),
    }
}

/// The first error, and what went well beside it.
pub struct Outcome {
    pub done: Done,
    pub error: Option<Status>,
}

impl Loop {
    pub(super) async fn act(
        &self,
        key: &Key,
        job: &Object,
        template: &Value,
        pods: &[Pod],
        action: Action<'_>,
    ) -> Outcome {
        match action {
            Action::None => Outcome { done: Done::default(), error: None },
            Action::Stop(uids) => self.delete(key, job, pods, &uids, false).await,
            Action::Remove(uids) => self.delete(key, job, pods, &uids, true).await,
            Action::Create(new) => self.create(key, job, template, new).await,
        }
    }

    async fn delete(&self, key: &Key, job: &Object, pods: &[Pod], uids: &[&str], let_go: bool) -> Outcome {
        let client = &self.ctx.client;
        let now = clock::now();
        let doomed: Vec<&Pod> = pods.iter().filter(|p| uids.contains(&p.object.uid())).collect();
        let one = |pod: Object| async move {
            if let_go {
                self.expected.deleting(key, &pod, now);
                if is_tracked(&pod) {
                    release(client, &pod).await?;
                }
            }
            client.delete_if_there(&PODS, &key.0, pod.name(), &DeleteOptions::uid(pod.uid())).await
        };
        let results = join_all(doomed.iter().map(|p| one(p.object.clone()))).await;
        let mut outcome = Outcome { done: Done::default(), error: None };
        for (pod, result) in doomed.into_iter().zip(results) {
            let about = ObjectRef::of(&JOBS, job);
            match result {
                Ok(()) => {
                    outcome.done.deleted += 1;
                    // The informer may have seen the end before it was asked to look out for it.
                    let seen = self.pods.get(&key.0, pod.object.name());
                    if seen.is_none_or(|p| p.uid() != pod.object.uid() || p.meta().is_deleting()) {
                        self.expected.not_deleted(key, &pod.object);
                    }
                    outcome.done.ready += usize::from(pod.is_ready());
                    self.ctx.events.normal(
                        about,
                        "SuccessfulDelete",
                        format!("Deleted pod: {}", pod.object.name()),
                    );
                }
                Err(s) => {
                    self.expected.not_deleted(key, &pod.object);
                    self.ctx.events.warning(about, "FailedDelete", format!("Error deleting: {s}"));
                    outcome.error = Some(s);
                }
            }
        }
        outcome
    }

    async fn create(&self, key: &Key, job: &Object, template: &Value, new: Vec<NewPod>) -> Outcome {
        let created = &AtomicUsize::new(0);
        let one = |n: NewPod| async move {
            let about = ObjectRef::of(&JOBS, job);
            match self.ctx.client.create(&PODS, &key.0, &n.body(template, job)).await {
                Ok(pod) => {
                    self.expected.created(key, &pod, &self.pods, clock::now());
                    created.fetch_add(1, Ordering::Relaxed);
                    self.ctx.events.normal(about, "SuccessfulCreate", format!("Created pod: {}", pod.name()));
                    Ok(())
                }
                // Nothing can be made there any more; the job goes with its namespace.
                Err(s) if s.causes.iter().any(|c| c.reason == "NamespaceTerminating") => Ok(()),
                Err(s) => {
                    self.ctx.events.warning(about, "FailedCreate", format!("Error creating: {s}"));
                    Err(s)
                }
            }
        };
        let error = slow_start(new, one).await.err();
        Outcome { done: Done { created: created.load(Ordering::Relaxed), ..Done::default() }, error }
    }

    /// Answers the uids that are free now, and the first error.
    pub(super) async fn release_all<'p>(
        &self,
        key: &Key,
        pods: &[&'p Pod],
    ) -> (Vec<&'p str>, Option<Status>) {
        let one = |pod: &'p Pod| async move {
            let uid = pod.object.uid();
            self.released.add(key, uid);
            let result = release(&self.ctx.client, &pod.object).await;
            if result.is_err() {
                self.released.take_back(key, uid);
            }
            result.map(|()| uid)
        };
        let (mut free, mut error) = (Vec::new(), None);
        for result in join_all(pods.iter().map(|p| one(p))).await {
            match result {
                Ok(uid) => free.push(uid),
                Err(s) => error = Some(s),
            }
        }
        (free, error)
    }
}
