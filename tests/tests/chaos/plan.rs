//! What happens when, from a seed. Pure: the same seed and time give the same plan.

use std::time::Duration;

use testkit::Cut;
use testkit::rng::Rng;

/// What users do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Scale {
        what: &'static str,
        to: u64,
    },
    Roll(&'static str),
    /// Deletes one pod of these, in the order of their names.
    DeletePod {
        of: &'static str,
        nth: u64,
    },
    /// Evicts all pods that a budget is about, at once.
    Evict,
    /// Cordons a node, evicts what is on it, and lets pods in again after a while.
    Drain {
        node: usize,
        seconds: u64,
    },
    Job {
        indexed: bool,
        completions: u64,
        parallelism: u64,
    },
}

/// What breaks; it is made good after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of an agent; a pod that was there is deleted by force meanwhile.
    KillAgent(usize),
    KillServer,
    /// kill -9 of the server so many milliseconds after a scale: between two steps of a loop.
    KillMidway {
        milliseconds: u64,
        to: u64,
    },
    Cut {
        host: usize,
        way: Cut,
    },
    PauseServer,
    PauseAgent(usize),
    /// The server starts anew with a clock that is off.
    ShiftClock {
        seconds: i64,
    },
    /// With several servers: whoever leads is stopped, or killed.
    PauseLeader,
    KillLeader,
    LoseEtcd(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Op(Op),
    Break(Fault),
    Mend(Fault),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub at: Duration,
    pub action: Action,
}

/// Workloads that are scaled, with their bounds.
pub const SCALED: [(&str, u64, u64); 3] = [("web", 3, 7), ("big", 2, 9), ("db", 2, 5)];

fn op(rng: &mut Rng) -> Op {
    match rng.within(0, 12) {
        0..=3 => {
            let (what, low, high) = *rng.one(&SCALED);
            Op::Scale { what, to: rng.within(low, high) }
        }
        4 | 5 => Op::Roll(rng.one::<&str>(&["web", "db", "each"])),
        6 | 7 => Op::DeletePod { of: rng.one::<&str>(&["web", "db", "each", "big"]), nth: rng.within(0, 3) },
        8 => Op::Evict,
        9 => Op::Drain { node: drained(rng), seconds: rng.within(3, 8) },
        _ => job(rng),
    }
}

fn job(rng: &mut Rng) -> Op {
    Op::Job { indexed: rng.within(0, 2) == 0, completions: rng.within(3, 9), parallelism: rng.within(1, 4) }
}

fn drained(rng: &mut Rng) -> usize {
    usize::try_from(rng.within(0, 3)).unwrap_or_default()
}

/// Each kind of fault once, with what chance gives it.
fn faults(rng: &mut Rng, several: bool) -> Vec<Fault> {
    let agent = |rng: &mut Rng| 1 + usize::try_from(rng.within(0, 2)).unwrap_or_default();
    let ways = [Cut::In, Cut::Out, Cut::Both];
    let mut all = vec![
        Fault::KillAgent(agent(rng)),
        Fault::Cut { host: agent(rng), way: *rng.one(&ways) },
        Fault::PauseAgent(agent(rng)),
        Fault::KillServer,
        Fault::KillMidway { milliseconds: rng.within(0, 150), to: rng.within(4, 7) },
        Fault::ShiftClock { seconds: *rng.one(&[-20, -5, 5, 20]) },
    ];
    if several {
        let member = usize::try_from(rng.within(0, 3)).unwrap_or_default();
        all.extend([Fault::PauseLeader, Fault::KillLeader, Fault::LoseEtcd(member)]);
    } else {
        all.extend([Fault::PauseServer, Fault::Cut { host: 0, way: *rng.one(&ways) }]);
    }
    rng.shuffle(&mut all);
    all
}

/// Steps in their order, the last some time before the end. With `several` there is more than one server.
pub fn make(seed: u64, length: Duration, several: bool) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let mut steps = Vec::new();
    let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    // What every run has, so that none is without it.
    let mut first = vec![
        Op::Scale { what: "big", to: 8 },
        Op::Scale { what: "web", to: 6 },
        job(&mut rng),
        Op::Job { indexed: false, completions: 5, parallelism: 2 },
        Op::Roll("db"),
        Op::Evict,
        Op::Drain { node: 1, seconds: 4 },
        Op::Roll("web"),
        Op::Scale { what: "db", to: 2 },
        Op::DeletePod { of: "db", nth: 0 },
    ];
    rng.shuffle(&mut first);
    let (mut at, mut first) = (500, first.into_iter());
    while at < length {
        let op = first.next().unwrap_or_else(|| op(&mut rng));
        steps.push(Step { at: Duration::from_millis(at), action: Action::Op(op) });
        at += rng.within(700, 2500);
    }
    let (mut at, mut next) = (4000, Vec::new());
    loop {
        if next.is_empty() {
            next = faults(&mut rng, several);
        }
        let Some(fault) = next.pop() else { break };
        let lasts = rng.within(2000, 9000);
        if at + lasts > length {
            break;
        }
        for (at, action) in [(at, Action::Break(fault)), (at + lasts, Action::Mend(fault))] {
            steps.push(Step { at: Duration::from_millis(at), action });
        }
        at += lasts + rng.within(1000, 4000);
    }
    steps.sort_by_key(|s| s.at);
    steps
}

#[test]
fn a_seed_is_a_plan() {
    let minute = Duration::from_secs(60);
    assert_eq!(make(7, minute, true), make(7, minute, true));
    assert_ne!(make(7, minute, true), make(8, minute, true));
    let plan = make(7, Duration::from_secs(600), true);
    let count = |is: fn(&Action) -> bool| plan.iter().filter(|s| is(&s.action)).count();
    let (broken, mended) =
        (count(|a| matches!(a, Action::Break(_))), count(|a| matches!(a, Action::Mend(_))));
    assert!(broken > 20 && broken == mended, "{broken} {mended}");
    // One at a time.
    let mut open = 0;
    for s in &plan {
        match s.action {
            Action::Break(_) => open += 1,
            Action::Mend(_) => open -= 1,
            Action::Op(_) => {}
        }
        assert!((0..=1).contains(&open));
    }
    assert!(make(7, minute, false).iter().all(|s| !matches!(s.action, Action::Break(Fault::KillLeader))));
}
