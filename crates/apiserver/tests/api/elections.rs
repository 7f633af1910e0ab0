//! Elections over a real API: of several candidates one runs its role, a leader that hears nothing stops in time, and one
//! that is stopped makes room at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use client::{Client, Election, LocalBody, LocalIdentity, LocalServer, Timing};
use http::{Request, Response};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::setup::Server;

const USER: &str = "system:kube-scheduler";
const NAME: &str = "kube-scheduler";
const TIMING: Timing = Timing {
    lease: Duration::from_secs(3),
    deadline: Duration::from_secs(2),
    retry: Duration::from_millis(100),
};

/// The API, while it is not cut off.
struct Line {
    server: Arc<dyn LocalServer>,
    cut: AtomicBool,
}

#[async_trait]
impl LocalServer for Line {
    async fn serve(&self, request: Request<Bytes>) -> Response<LocalBody> {
        if self.cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.server.serve(request).await
    }
}

/// Who began and who ended, in order.
type News = mpsc::UnboundedSender<(usize, bool)>;

struct Running {
    line: Arc<Line>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn stand(s: &Server, number: usize, active: &Arc<AtomicUsize>, news: &News) -> Running {
    let line = Arc::new(Line { server: Arc::new(s.api.clone()), cut: AtomicBool::new(false) });
    let election = Election {
        client: Client::local(line.clone(), LocalIdentity::user(USER, &[]), NAME),
        name: NAME,
        identity: format!("c{number}"),
        timing: TIMING,
    };
    let (active, news) = (active.clone(), news.clone());
    let role = move |api: Arc<dyn LocalServer>, token: CancellationToken| {
        let (active, news) = (active.clone(), news.clone());
        async move {
            assert_eq!(active.fetch_add(1, Ordering::SeqCst), 0, "two at once");
            let client = Client::local(api, LocalIdentity::user(USER, &[]), NAME);
            let allowed = client.find(&api::resource::NODES, "", "n").await;
            assert!(allowed.is_ok(), "{allowed:?}");
            let _ = news.send((number, true));
            token.cancelled().await;
            active.fetch_sub(1, Ordering::SeqCst);
            let _ = news.send((number, false));
        }
    };
    let stop = CancellationToken::new();
    let task = tokio::spawn(election.run(Arc::new(s.api.clone()), Handle::current(), stop.clone(), role));
    Running { line, stop, task }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_after_the_other() {
    let s = Server::start().await;
    let active = Arc::new(AtomicUsize::new(0));
    let (news, mut seen) = mpsc::unbounded_channel();
    let mut all: Vec<Option<Running>> = (0..3).map(|n| Some(stand(&s, n, &active, &news))).collect();
    let mut leader = match seen.recv().await {
        Some((n, true)) => n,
        other => panic!("{other:?}"),
    };
    // Cut off twice: the term ends before another's begins, and the one that was cut off may come back.
    for _ in 0..2 {
        let cut = all[leader].as_ref().expect("it runs").line.clone();
        cut.cut.store(true, Ordering::SeqCst);
        assert_eq!(seen.recv().await, Some((leader, false)));
        match seen.recv().await {
            Some((n, true)) if n != leader => leader = n,
            other => panic!("{other:?}"),
        }
        cut.cut.store(false, Ordering::SeqCst);
    }
    // Stopped one by one, until nobody is left.
    for left in (0..3).rev() {
        let one = all[leader].take().expect("it runs");
        one.stop.cancel();
        assert_eq!(seen.recv().await, Some((leader, false)));
        one.task.await.expect("an orderly end");
        let lease = s.client.get(&api::resource::LEASES, "kube-system", NAME).await.expect("lease");
        let holder = lease.value().expect("value")["spec"]["holderIdentity"].clone();
        assert_ne!(holder, format!("c{leader}"), "given back before it ended");
        if left > 0 {
            match seen.recv().await {
                Some((n, true)) if n != leader => leader = n,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(active.load(Ordering::SeqCst), 0);
}
