//! Leader election by a Lease in kube-system, as upstream's components hold it, so that of several servers on one store only
//! one runs a set of loops. `candidate` decides, `fence` keeps a former leader from the API, this file carries it out.
//!
//! `run` spawns an informer of the one Lease and, for each term, the role itself. When a term ends (it could not be renewed
//! in time, or somebody else took the Lease) the role is stopped and awaited, and the next term starts it anew. When `run`
//! is stopped the Lease is given back, so that another takes over at once.

mod candidate;
mod fence;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::resource::LEASES;
use api::{Object, Status};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use self::candidate::Timing;
use self::candidate::{Candidate, Record, Step};
use self::fence::Fence;
use crate::informer::Informer;
use crate::{Client, EventRecorder, Informers, LocalServer, ObjectRef, Scope, clock};

const NAMESPACE: &str = "kube-system";
/// How long loops get to end once they were told to; then they are dropped.
const WIND_DOWN: Duration = Duration::from_secs(10);
/// For giving the Lease back.
const RELEASE: Duration = Duration::from_secs(3);

/// One office and who stands for it.
pub struct Election {
    /// May read and write Leases in kube-system.
    pub client: Client,
    /// Name of the Lease.
    pub name: &'static str,
    /// Differs for each process.
    pub identity: String,
    pub timing: Timing,
}

/// What runs for one term.
struct Term {
    fence: Arc<Fence>,
    token: CancellationToken,
    role: JoinHandle<()>,
}

impl Election {
    /// Runs until `stop`: `role` is started on `on` at the beginning of each term, with the API as it may use it in that
    /// term, and must end when its token is cancelled.
    pub async fn run<R, F>(self, server: Arc<dyn LocalServer>, on: Handle, stop: CancellationToken, role: R)
    where
        R: Fn(Arc<dyn LocalServer>, CancellationToken) -> F + Send,
        F: Future<Output = ()> + Send + 'static,
    {
        let watching = CancellationToken::new();
        let _ends = watching.clone().drop_guard();
        let informers = Informers::new(self.client.clone(), watching);
        let lease = informers.scoped(
            &LEASES,
            Scope {
                namespace: NAMESPACE.into(),
                field_selector: format!("metadata.name={}", self.name),
                ..Scope::default()
            },
        );
        let changed = Arc::new(Notify::new());
        let wake = changed.clone();
        lease.on_change(move |_| wake.notify_one());
        tokio::select! { () = stop.cancelled() => return, ok = lease.synced() => if !ok { return } }

        let events = EventRecorder::new(self.client.clone(), self.name, "");
        let mut candidate = Candidate::new(&self.identity, self.timing, Instant::now());
        let mut last: Option<Object> = None;
        let mut term: Option<Term> = None;
        info!(lease = self.name, identity = self.identity, "standing for election");
        loop {
            look(&lease, self.name, &mut candidate, &mut last);
            let now = Instant::now();
            match candidate.step(now, clock::now()) {
                Step::Wait(until) => {
                    let ended = async {
                        match &mut term {
                            Some(t) => (&mut t.role).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = changed.notified() => {}
                        () = tokio::time::sleep_until(until.into()) => {}
                        how = ended => {
                            // Nobody told it to: another server shall try.
                            warn!(lease = self.name, panicked = how.is_err(), "the loops ended by themselves");
                            if let Some(t) = term.take() {
                                t.fence.close();
                            }
                            self.release(&mut candidate, &mut last).await;
                            candidate.ended(Instant::now());
                        }
                    }
                }
                Step::Write { over, record } => {
                    let base = last.as_ref().filter(|_| over > 0);
                    // A leader that hears nothing must not miss the end of its term.
                    let until = candidate.holds_until().unwrap_or(now + self.timing.deadline);
                    // One that is being stopped wants to know what it has to give back.
                    let patience = async {
                        stop.cancelled().await;
                        tokio::time::sleep(RELEASE).await;
                    };
                    let answer = tokio::select! {
                        () = patience => break,
                        a = tokio::time::timeout_at(until.into(), self.write(base, &record)) => a,
                    };
                    match answer {
                        Ok(Ok(o)) => {
                            candidate.wrote(now, o.revision(), record);
                            let until = now + self.timing.deadline;
                            match &term {
                                Some(t) => t.fence.extend(until),
                                None => {
                                    info!(lease = self.name, identity = self.identity, "became leader");
                                    self.tell(&events, &o, "became leader");
                                    term = Some(Term::begin(&server, self.name, until, &on, &role));
                                }
                            }
                            last = Some(o);
                        }
                        Ok(Err(e)) if e.is_conflict() || e.is_already_exists() || e.is_not_found() => {
                            debug!(lease = self.name, error = %e, "the lease was written by another");
                            candidate.lost(Instant::now());
                            let found = async { self.client.find(&LEASES, NAMESPACE, self.name).await };
                            match tokio::time::timeout_at(until.into(), found).await {
                                Ok(Ok(Some(o))) => see(o, &mut candidate, &mut last),
                                Ok(Ok(None)) => candidate.missed(u64::MAX),
                                Ok(Err(e)) => debug!(lease = self.name, error = %e, "the lease was not read"),
                                Err(_) => {}
                            }
                        }
                        Ok(Err(e)) => {
                            warn!(lease = self.name, error = %e, "failed to write the lease, trying again");
                            candidate.failed(Instant::now());
                        }
                        Err(_) => candidate.failed(Instant::now()),
                    }
                }
                Step::Resign => {
                    warn!(lease = self.name, identity = self.identity, "lost the lease, stopping its loops");
                    if let Some(t) = term.take() {
                        t.fence.close();
                        t.end(self.name).await;
                    }
                    if let Some(o) = &last {
                        self.tell(&events, o, "stopped leading");
                    }
                    candidate.ended(Instant::now());
                }
            }
        }
        if let Some(t) = term.take() {
            t.end(self.name).await;
            self.release(&mut candidate, &mut last).await;
        }
    }

    fn tell(&self, events: &EventRecorder, lease: &Object, what: &str) {
        events.normal(ObjectRef::of(&LEASES, lease), "LeaderElection", format!("{} {what}", self.identity));
    }

    async fn write(&self, over: Option<&Object>, record: &Record) -> Result<Object, Status> {
        let Some(o) = over else {
            let mut v = json!({"metadata": {"name": self.name, "namespace": NAMESPACE}});
            record.put(&mut v);
            return self.client.create(&LEASES, NAMESPACE, &v).await;
        };
        let mut v: Value = o.value().map_err(Status::internal)?;
        record.put(&mut v);
        self.client.update(&LEASES, NAMESPACE, self.name, "", &v).await
    }

    /// Gives the Lease back, where it is still ours.
    async fn release(&self, candidate: &mut Candidate, last: &mut Option<Object>) {
        let giving = async {
            loop {
                let Some((_, record)) = candidate.release(clock::now()) else { return Ok(()) };
                match self.write(last.as_ref(), &record).await {
                    // A renewal that was given up has come through all the same.
                    Err(e) if e.is_conflict() => {
                        let found = self.client.find(&LEASES, NAMESPACE, self.name).await?;
                        let Some(o) = found else { return Ok(()) };
                        see(o, candidate, last);
                    }
                    Err(e) if e.is_not_found() => return Ok(()),
                    Err(e) => return Err(e),
                    Ok(o) => {
                        see(o, candidate, last);
                        info!(lease = self.name, identity = self.identity, "gave the lease back");
                        return Ok(());
                    }
                }
            }
        };
        match tokio::time::timeout(RELEASE, giving).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => {
                warn!(lease = self.name, error = %e, "failed to give the lease back; it runs out by itself")
            }
            Err(_) => warn!(lease = self.name, "the lease was not given back in time; it runs out by itself"),
        }
    }
}

/// Takes in what the informer knows.
fn look(lease: &Informer, name: &str, candidate: &mut Candidate, last: &mut Option<Object>) {
    // In this order: what was read to be missing was missing at this revision or later.
    let revision = lease.revision();
    match lease.get(NAMESPACE, name) {
        Some(o) => see(o, candidate, last),
        None => candidate.missed(revision),
    }
}

fn see(o: Object, candidate: &mut Candidate, last: &mut Option<Object>) {
    candidate.saw(o.revision(), Record::of(&o), Instant::now());
    if last.as_ref().is_none_or(|l| l.revision() < o.revision()) {
        *last = Some(o);
    }
}

impl Term {
    fn begin<R, F>(
        server: &Arc<dyn LocalServer>,
        name: &'static str,
        until: Instant,
        on: &Handle,
        role: &R,
    ) -> Self
    where
        R: Fn(Arc<dyn LocalServer>, CancellationToken) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let fence = Arc::new(Fence::new(server.clone(), name, until));
        let token = CancellationToken::new();
        let role = on.spawn(role(fence.clone(), token.clone()));
        Self { fence, token, role }
    }

    /// Stops the role and waits for its end, with the API for as long as the term lasts; then closes the way to the API for
    /// whatever it left behind.
    async fn end(mut self, name: &str) {
        self.token.cancel();
        let mut ended = tokio::time::timeout_at(self.fence.until().into(), &mut self.role).await.is_ok();
        self.fence.close();
        if !ended {
            ended = tokio::time::timeout(WIND_DOWN, &mut self.role).await.is_ok();
        }
        if !ended {
            warn!(lease = name, "the loops did not end in time, they are dropped");
            self.role.abort();
            let _ = (&mut self.role).await;
        }
    }
}
