//! Priority and fairness, as far as it goes today: requests of administrators and of health checks are exempt, everything
//! else shares two bounded pools (reads, writes) with a bounded queue before each. Long-running requests take a seat only
//! while they start. The headers name the flow schema and priority level that a request fell into.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::{Reason, Status};
use http::HeaderValue;
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::reader::Reader;
use crate::request_info::RequestInfo;
use crate::user::{NODES_GROUP, SYSTEM_MASTERS, User};

const READS: usize = 400;
const WRITES: usize = 200;
/// Requests that may wait per pool.
const QUEUE: usize = 2000;

struct Pool {
    seats: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Pool {
    fn new(n: usize) -> Self {
        Self { seats: Arc::new(Semaphore::new(n)), waiting: AtomicUsize::new(0) }
    }
}

/// Uids by name.
#[derive(Default)]
struct Uids {
    schemas: HashMap<String, HeaderValue>,
    levels: HashMap<String, HeaderValue>,
}

pub struct Flow {
    reads: Pool,
    writes: Pool,
    /// Filled at start.
    uids: RwLock<Uids>,
}

/// Held while a request is worked on.
pub struct Seat {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Flow schema and priority level: upstream's mandatory and suggested names. Pure.
pub fn classify(user: &User, info: &RequestInfo) -> (&'static str, &'static str) {
    if user.in_group(SYSTEM_MASTERS) {
        return ("exempt", "exempt");
    }
    if !info.is_resource && matches!(info.path.as_str(), "/healthz" | "/livez" | "/readyz") {
        return ("probes", "exempt");
    }
    if user.in_group(NODES_GROUP) {
        return match (info.api_group.as_str(), info.resource.as_str(), info.subresource.as_str()) {
            ("", "nodes", "status") | ("coordination.k8s.io", "leases", _) => {
                ("system-node-high", "node-high")
            }
            _ => ("system-nodes", "system"),
        };
    }
    match user.service_account() {
        Some(("kube-system", _)) => ("kube-system-service-accounts", "workload-high"),
        Some(_) => ("service-accounts", "workload-low"),
        None if user.in_group(crate::user::UNAUTHENTICATED) => ("catch-all", "catch-all"),
        None => ("global-default", "global-default"),
    }
}

impl Default for Flow {
    fn default() -> Self {
        Self { reads: Pool::new(READS), writes: Pool::new(WRITES), uids: RwLock::default() }
    }
}

impl Flow {
    /// Learns the objects that the headers point to.
    pub async fn learn(&self, reader: &dyn Reader) -> Result<(), Status> {
        let mut all = Uids::default();
        for (uids, plural) in
            [(&mut all.schemas, "flowschemas"), (&mut all.levels, "prioritylevelconfigurations")]
        {
            for o in reader.list("flowcontrol.apiserver.k8s.io", plural, "").await? {
                if let Ok(v) = HeaderValue::from_str(o.uid()) {
                    uids.insert(o.name().to_owned(), v);
                }
            }
        }
        *self.uids.write() = all;
        Ok(())
    }

    /// Uids of a flow schema and a priority level, where they have an object.
    pub fn uids(&self, schema: &str, level: &str) -> (Option<HeaderValue>, Option<HeaderValue>) {
        let all = self.uids.read();
        (all.schemas.get(schema).cloned(), all.levels.get(level).cloned())
    }

    /// Waits for a seat, no longer than `patience`.
    pub async fn enter(&self, level: &str, read_only: bool, patience: Duration) -> Result<Seat, Status> {
        if level == "exempt" {
            return Ok(Seat { _permit: None });
        }
        let pool = if read_only { &self.reads } else { &self.writes };
        if let Ok(p) = pool.seats.clone().try_acquire_owned() {
            return Ok(Seat { _permit: Some(p) });
        }
        if pool.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            pool.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(refused());
        }
        let got = tokio::time::timeout(patience, pool.seats.clone().acquire_owned()).await;
        pool.waiting.fetch_sub(1, Ordering::Relaxed);
        match got {
            Ok(Ok(p)) => Ok(Seat { _permit: Some(p) }),
            _ => Err(refused()),
        }
    }
}

fn refused() -> Status {
    let mut s = Status::new(Reason::TooManyRequests, "Too many requests, please try again later.");
    s.retry_after_seconds = 1;
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_falls_where() {
        let info = RequestInfo { is_resource: true, resource: "pods".into(), ..RequestInfo::default() };
        assert_eq!(classify(&User::new("a", &[SYSTEM_MASTERS]), &info).1, "exempt");
        assert_eq!(classify(&User::new("system:node:a", &[NODES_GROUP]), &info).0, "system-nodes");
        assert_eq!(classify(&User::new("system:serviceaccount:x:y", &[]), &info).1, "workload-low");
        assert_eq!(classify(&User::new("bob", &["system:authenticated"]), &info).0, "global-default");
    }

    #[tokio::test]
    async fn seats_run_out_and_come_back() {
        let f = Flow { reads: Pool::new(1), writes: Pool::new(1), ..Flow::default() };
        let seat = f.enter("workload-low", true, Duration::ZERO).await.expect("seat");
        assert_eq!(f.enter("workload-low", true, Duration::ZERO).await.err().map(|s| s.code), Some(429));
        assert!(f.enter("exempt", true, Duration::ZERO).await.is_ok());
        assert!(f.enter("workload-low", false, Duration::ZERO).await.is_ok());
        drop(seat);
        assert!(f.enter("workload-low", true, Duration::ZERO).await.is_ok());
    }
}
