//! All simulated nodes and their pods, and what is due when. Pure: time is handed in, what is to be written is handed out,
//! and what became of it comes back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::failures::{Failures, between, draw, hits};
use crate::node::{self, Block, Node};
use crate::pod::{Pod, Seen, Templates};
use crate::stage::{At, Stage, next};
use crate::status::{self, Place};

/// All in milliseconds.
const LEASE: u64 = 10_000;
const HEARTBEAT: u64 = 300_000;
const AGAIN: u64 = 2_000;
const DOWN_WITHIN: u64 = 600_000;
const DOWN_FOR: u64 = 300_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Register(u32),
    Lease(u32),
    /// Its status, and the plan that this is of.
    Beat(u32, u32),
    Down(u32),
    Up(u32),
    /// A pod's place, and the plan that this is of.
    Pod(u32, u32),
}

/// What has to be told of a pod besides its status.
pub type Event = (&'static str, &'static str, String);

/// Something to write, as its node.
#[derive(Debug)]
pub enum Act {
    Register(usize),
    Lease(usize),
    /// Its conditions.
    Beat {
        node: usize,
        plan: u32,
        /// It was not ready before.
        changed: bool,
    },
    Pod(PodAct),
}

#[derive(Debug)]
pub struct PodAct {
    place: u32,
    pub uid: u128,
    pub node: usize,
    pub namespace: Arc<str>,
    pub name: Box<str>,
    to: Stage,
    /// `None`: nothing of it is written.
    pub status: Option<Value>,
    /// Its object is removed.
    pub remove: bool,
    pub events: Vec<Event>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Written,
    /// It is not there any more.
    Gone,
    /// It may go well later.
    Failed,
}

/// Which write that was.
#[derive(Debug, Clone, Copy)]
pub enum What {
    Register(usize),
    Lease(usize),
    Beat { node: usize, plan: u32 },
    Pod { place: u32, uid: u128, to: Stage },
}

impl Act {
    pub fn what(&self) -> What {
        match self {
            Act::Register(n) => What::Register(*n),
            Act::Lease(n) => What::Lease(*n),
            Act::Beat { node, plan, .. } => What::Beat { node: *node, plan: *plan },
            Act::Pod(p) => What::Pod { place: p.place, uid: p.uid, to: p.to },
        }
    }
}

/// Failed tries and restarts once a pod comes to a stage.
pub fn counted(from: Stage, to: Stage, tries: u8, restarts: u16) -> (u8, u16) {
    match (from, to) {
        (_, Stage::NoImage) => (tries.saturating_add(1), restarts),
        (Stage::Crashed, Stage::Started) => (tries, restarts.saturating_add(1)),
        _ => (tries, restarts),
    }
}

fn short(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub struct World {
    nodes: Vec<Node>,
    pods: Vec<Option<Pod>>,
    free: Vec<u32>,
    by_uid: HashMap<u128, u32>,
    due: BinaryHeap<Reverse<(u64, Item)>>,
    templates: Templates,
    namespaces: HashSet<Arc<str>>,
    failures: Failures,
    round: u32,
}

impl World {
    pub fn new(count: usize, failures: Failures) -> Self {
        let mut w = Self {
            nodes: (0..count).map(|_| Node::default()).collect(),
            pods: Vec::new(),
            free: Vec::new(),
            by_uid: HashMap::new(),
            due: BinaryHeap::new(),
            templates: Templates::default(),
            namespaces: HashSet::new(),
            failures,
            round: 0,
        };
        for n in 0..count {
            w.push(0, Item::Register(short(n)));
            if hits(draw(n as u128, 20), failures.node) {
                w.push(between(draw(n as u128, 21), 1, DOWN_WITHIN), Item::Down(short(n)));
            }
        }
        w
    }

    fn push(&mut self, at: u64, item: Item) {
        self.due.push(Reverse((at, item)));
    }

    /// Plans a node's next word on its status; what was planned before is void.
    fn beat(&mut self, n: u32, at: u64) {
        let Some(of) = self.nodes.get_mut(n as usize) else { return };
        of.plan = of.plan.wrapping_add(1);
        let plan = of.plan;
        self.push(at, Item::Beat(n, plan));
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    fn node(&self, n: u32) -> Option<&Node> {
        self.nodes.get(n as usize)
    }

    /// Everything that is due, at most `most`.
    pub fn act(&mut self, now: u64, clock: jiff::Timestamp, most: usize) -> Vec<Act> {
        let mut out = Vec::new();
        while out.len() < most {
            match self.due.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => break,
            }
            let Some(Reverse((_, item))) = self.due.pop() else { break };
            out.extend(self.one(item, now, clock));
        }
        out
    }

    fn one(&mut self, item: Item, now: u64, clock: jiff::Timestamp) -> Option<Act> {
        match item {
            Item::Register(n) => Some(Act::Register(n as usize)),
            Item::Lease(n) => {
                let of = self.node(n)?;
                if !of.registered {
                    return None;
                }
                if of.is_silent() {
                    self.push(now + LEASE, Item::Lease(n));
                    return None;
                }
                Some(Act::Lease(n as usize))
            }
            Item::Beat(n, plan) => {
                let of = self.node(n)?;
                // Without a block, and while it is silent, it has nothing to say; both end with a plan of their own.
                if of.plan != plan || !of.registered || of.is_silent() || of.block.is_none() {
                    return None;
                }
                Some(Act::Beat { node: n as usize, plan, changed: !of.ready })
            }
            Item::Down(n) => {
                self.nodes.get_mut(n as usize)?.down = true;
                self.push(now + DOWN_FOR, Item::Up(n));
                None
            }
            Item::Up(n) => {
                self.nodes.get_mut(n as usize)?.down = false;
                self.wake(n, now);
                None
            }
            Item::Pod(place, plan) => self.pod(place, plan, now, clock),
        }
    }

    /// The stage that was planned for a pod comes.
    fn pod(&mut self, place: u32, plan: u32, now: u64, clock: jiff::Timestamp) -> Option<Act> {
        let p = self.pods.get_mut(place as usize)?.as_mut()?;
        let node = self.nodes.get_mut(p.node as usize)?;
        // A silent node's pods go on when it speaks again.
        if p.plan != plan || p.busy || node.is_silent() {
            return None;
        }
        let at = At {
            uid: p.uid,
            stage: p.stage,
            tries: p.tries,
            restarts: p.restarts,
            deleting: p.deleting,
            grace: p.grace,
            template: &p.template,
        };
        let (to, _) = next(&at, &self.failures)?;
        let sandbox = matches!(to, Stage::NoImage | Stage::Started);
        if sandbox && !p.template.host_network && p.address.is_none() {
            p.address = node.block.as_mut().and_then(Block::take);
            if p.address.is_none() {
                self.push(now + AGAIN, Item::Pod(place, plan));
                return None;
            }
        }
        let ran = p.stage.runs();
        let events = status::events(p, to);
        (p.tries, p.restarts) = counted(p.stage, to, p.tries, p.restarts);
        match to {
            Stage::Creating if p.came == 0 => p.came = clock.as_second(),
            Stage::Started => p.started = clock.as_second(),
            Stage::Crashed | Stage::Done | Stage::Failed => p.ended = clock.as_second(),
            Stage::Stopped if ran => p.ended = clock.as_second(),
            _ => {}
        }
        let host: IpAddr = node::address(p.node as usize).into();
        let own = p.address.and_then(|a| node.block.as_ref().map(|b| b.address(a)));
        let address = if p.template.host_network { Some(host) } else { own };
        let now = client::clock::rfc3339(clock);
        // What never ran has no end, and what has ended keeps it.
        let written = to != Stage::Stopping && (to != Stage::Stopped || (ran && p.started > 0));
        let status = written.then(|| status::patch(p, to, &Place { host, address, now: &now }));
        p.busy = true;
        Some(Act::Pod(PodAct {
            place,
            uid: p.uid,
            node: p.node as usize,
            namespace: p.namespace.clone(),
            name: p.name.clone(),
            to,
            status,
            remove: to == Stage::Stopped,
            events,
        }))
    }

    /// What became of a write that `act` gave.
    pub fn done(&mut self, what: What, outcome: Outcome, now: u64) {
        let count = self.nodes.len().max(1) as u64;
        match what {
            What::Register(n) => {
                let i = short(n);
                if outcome != Outcome::Written {
                    self.push(now + AGAIN, Item::Register(i));
                    return;
                }
                let Some(of) = self.nodes.get_mut(n) else { return };
                of.registered = true;
                let of_ready = of.ready;
                // Spread over time, so that they do not all come at once.
                self.push(now + n as u64 * LEASE / count, Item::Lease(i));
                // The block may have come before; and heartbeats are spread, too.
                let late = if of_ready { HEARTBEAT + n as u64 * HEARTBEAT / count } else { 0 };
                self.beat(i, now + late);
            }
            What::Lease(n) => {
                let after = if outcome == Outcome::Written { LEASE } else { AGAIN };
                self.push(now + after, Item::Lease(short(n)));
            }
            What::Beat { node, plan } => {
                let Some(of) = self.nodes.get_mut(node).filter(|n| n.plan == plan) else { return };
                let first = !of.ready;
                of.ready |= outcome == Outcome::Written;
                let after = match outcome {
                    // Spread over time from the first on.
                    Outcome::Written if first => HEARTBEAT + node as u64 * HEARTBEAT / count,
                    Outcome::Written => HEARTBEAT,
                    _ => AGAIN,
                };
                self.beat(short(node), now + after);
            }
            What::Pod { place, uid, to } => {
                let Some(Some(p)) = self.pods.get_mut(place as usize) else { return };
                if p.uid != uid {
                    return;
                }
                p.busy = false;
                match outcome {
                    Outcome::Gone => self.gone(uid),
                    Outcome::Written => {
                        p.stage = to;
                        self.plan(place, now);
                    }
                    Outcome::Failed => {
                        p.plan = p.plan.wrapping_add(1);
                        let plan = p.plan;
                        self.push(now + AGAIN, Item::Pod(place, plan));
                    }
                }
            }
        }
    }

    /// Plans a pod's next stage; what was planned before is void.
    fn plan(&mut self, place: u32, now: u64) {
        let Some(Some(p)) = self.pods.get_mut(place as usize) else { return };
        p.plan = p.plan.wrapping_add(1);
        let at = At {
            uid: p.uid,
            stage: p.stage,
            tries: p.tries,
            restarts: p.restarts,
            deleting: p.deleting,
            grace: p.grace,
            template: &p.template,
        };
        if let Some((_, after)) = next(&at, &self.failures) {
            let plan = p.plan;
            self.push(now + after, Item::Pod(place, plan));
        }
    }

    /// A node speaks again.
    fn wake(&mut self, n: u32, now: u64) {
        self.beat(n, now);
        let here = |p: &Option<Pod>| p.as_ref().is_some_and(|p| p.node == n && !p.busy);
        let all: Vec<u32> =
            self.pods.iter().enumerate().filter(|(_, p)| here(p)).map(|(i, _)| short(i)).collect();
        all.into_iter().for_each(|place| self.plan(place, now));
    }

    /// A node's object as the API has it.
    /// Nodes have to be seen before the pods on them: the addresses that those have are of their blocks.
    pub fn node_seen(&mut self, name: &str, seen: (String, Option<Block>, bool, bool), now: u64) {
        let Some(n) = node::number(name).filter(|n| *n < self.nodes.len()) else { return };
        let (uid, block, silent, ready) = seen;
        let Some(of) = self.nodes.get_mut(n) else { return };
        let was = of.is_silent();
        of.uid = uid;
        of.told_silent = silent;
        of.ready = ready;
        if of.block.is_none() {
            of.block = block;
        }
        let (silent, has) = (of.is_silent(), of.block.is_some());
        if was && !silent {
            self.wake(short(n), now);
        } else if has && !silent && !ready {
            // It has a network now, or was thought lost.
            self.beat(short(n), now);
        }
    }

    pub fn node_gone(&mut self, name: &str) {
        if let Some(of) = node::number(name).and_then(|n| self.nodes.get_mut(n)) {
            *of = Node::default();
        }
    }

    pub fn uid_of(&self, n: usize) -> &str {
        self.nodes.get(n).map_or("", |n| &n.uid)
    }

    pub fn pod_seen(&mut self, namespace: &str, name: &str, seen: Seen, now: u64) {
        let Some(n) = node::number(&seen.node).filter(|n| *n < self.nodes.len()) else { return };
        if let Some(place) = self.by_uid.get(&seen.uid).copied() {
            let round = self.round;
            let Some(Some(p)) = self.pods.get_mut(place as usize) else { return };
            p.round = round;
            let news = seen.deleting && (!p.deleting || seen.grace != p.grace);
            p.deleting |= seen.deleting;
            if news {
                p.grace = seen.grace;
                if !p.busy {
                    self.plan(place, now);
                }
            }
            return;
        }
        let namespace = match self.namespaces.get(namespace) {
            Some(known) => known.clone(),
            None => {
                let new: Arc<str> = namespace.into();
                self.namespaces.insert(new.clone());
                new
            }
        };
        let address = match self.nodes.get_mut(n).and_then(|n| n.block.as_mut()) {
            Some(b) if !seen.ip.is_empty() => b.keep(&seen.ip),
            _ => None,
        };
        let pod = Pod {
            namespace,
            name: name.into(),
            uid: seen.uid,
            node: short(n),
            template: self.templates.share(seen.template),
            stage: seen.stage,
            tries: 0,
            restarts: seen.restarts,
            deleting: seen.deleting,
            grace: seen.grace,
            address,
            came: seen.came.unwrap_or(0),
            started: seen.started.unwrap_or(0),
            ended: seen.started.or(seen.came).unwrap_or(0),
            plan: 0,
            busy: false,
            round: self.round,
        };
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.pods.push(None);
                short(self.pods.len() - 1)
            }
        };
        self.by_uid.insert(pod.uid, place);
        if let Some(slot) = self.pods.get_mut(place as usize) {
            *slot = Some(pod);
        }
        self.plan(place, now);
    }

    pub fn gone(&mut self, uid: u128) {
        let Some(place) = self.by_uid.remove(&uid) else { return };
        let Some(p) = self.pods.get_mut(place as usize).and_then(Option::take) else { return };
        self.free.push(place);
        if let (Some(a), Some(b)) =
            (p.address, self.nodes.get_mut(p.node as usize).and_then(|n| n.block.as_mut()))
        {
            b.give_back(a);
        }
    }

    /// A list of all pods begins.
    pub fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// It has ended: what was not in it is not there any more.
    pub fn sweep(&mut self) {
        let lost: Vec<u128> =
            self.pods.iter().flatten().filter(|p| p.round != self.round).map(|p| p.uid).collect();
        lost.into_iter().for_each(|uid| self.gone(uid));
    }
}

#[cfg(test)]
mod tests;
