//! The stages that a pod goes through on a simulated node, and how long each takes. Pure: what is drawn follows from the
//! pod's uid.

use crate::failures::{Failures, between, draw, hits};
use crate::pod::{Restart, Template};

/// How often what fails fails before it goes well.
const TRIES: u8 = 3;
/// The kubelet's back-off, in milliseconds.
const BACK_OFF: u64 = 10_000;
const LONGEST_BACK_OFF: u64 = 300_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Given to the node, which has not said anything yet.
    Bound,
    /// `ContainerCreating`
    Creating,
    /// `ErrImagePull`, then `ImagePullBackOff`
    NoImage,
    BackingOff,
    /// Running, not ready.
    Started,
    /// Running and ready.
    Ready,
    /// Ended with an error; `CrashLoopBackOff`.
    Crashed,
    /// `Succeeded`
    Done,
    /// `Failed`
    Failed,
    /// Told to end, and it still runs.
    Stopping,
    /// Ended because it was told to; its object goes next.
    Stopped,
}

impl Stage {
    pub fn is_final(self) -> bool {
        matches!(self, Stage::Done | Stage::Failed)
    }
    pub fn runs(self) -> bool {
        matches!(self, Stage::Started | Stage::Ready | Stage::Stopping)
    }
}

/// What is known of a pod when the next stage is chosen.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    pub uid: u128,
    pub stage: Stage,
    /// Failed tries of what it is at now.
    pub tries: u8,
    pub restarts: u16,
    pub deleting: bool,
    /// Seconds that it is given to end.
    pub grace: u32,
    pub template: &'a Template,
}

/// The next stage, and after how many milliseconds; `None`: it stays as it is.
pub fn next(p: &At<'_>, f: &Failures) -> Option<(Stage, u64)> {
    let drawn = |salt: u64| draw(p.uid, salt ^ (u64::from(p.tries) << 8) ^ (u64::from(p.restarts) << 16));
    if p.deleting {
        return match p.stage {
            Stage::Stopped => None,
            Stage::Stopping => {
                Some((Stage::Stopped, between(drawn(1), 100, 1500).min(u64::from(p.grace) * 1000)))
            }
            s if s.is_final() => Some((Stage::Stopped, 0)),
            _ => Some((Stage::Stopping, between(drawn(2), 5, 50))),
        };
    }
    let crashes = hits(draw(p.uid, 3), f.crash);
    match p.stage {
        Stage::Bound => Some((Stage::Creating, between(drawn(4), 20, 200))),
        Stage::Creating => {
            let fails = hits(draw(p.uid, 5), f.image) && p.tries < TRIES;
            let took = between(drawn(6), 300, 2000);
            Some((if fails { Stage::NoImage } else { Stage::Started }, took))
        }
        Stage::NoImage => Some((Stage::BackingOff, between(drawn(7), 500, 1500))),
        Stage::BackingOff => Some((Stage::Creating, back_off(p.tries))),
        Stage::Started => {
            Some((Stage::Ready, u64::from(p.template.ready_after) * 1000 + between(drawn(8), 0, 300)))
        }
        Stage::Ready => match p.template.restart {
            Restart::Always if crashes && p.restarts < u16::from(TRIES) => {
                Some((Stage::Crashed, between(drawn(9), 2_000, 20_000)))
            }
            Restart::Always => None,
            restart => {
                let fails = crashes && (restart == Restart::Never || p.restarts < u16::from(TRIES));
                let to = match (fails, restart) {
                    (false, _) => Stage::Done,
                    (true, Restart::Never) => Stage::Failed,
                    (true, _) => Stage::Crashed,
                };
                let took = p
                    .template
                    .runs_for
                    .map_or_else(|| between(drawn(10), 2_000, 10_000), |s| u64::from(s) * 1000);
                Some((to, took))
            }
        },
        Stage::Crashed => Some((Stage::Started, back_off(u8::try_from(p.restarts).unwrap_or(u8::MAX)))),
        Stage::Done | Stage::Failed | Stage::Stopping | Stage::Stopped => None,
    }
}

/// Ten seconds, doubling to five minutes.
fn back_off(tries: u8) -> u64 {
    (BACK_OFF << tries.saturating_sub(1).min(10)).min(LONGEST_BACK_OFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Failures = Failures { crash: 1_000_000, image: 1_000_000, node: 0 };

    /// The stages until it stays, at most so many, and how long they took.
    fn life(uid: u128, template: &Template, f: &Failures, deleted_after: Option<usize>) -> (Vec<Stage>, u64) {
        let (mut stage, mut tries, mut restarts, mut took) = (Stage::Bound, 0u8, 0u16, 0);
        let mut all = vec![stage];
        for n in 0..60 {
            let deleting = deleted_after.is_some_and(|d| n >= d);
            let at = At { uid, stage, tries, restarts, deleting, grace: 30, template };
            let Some((to, after)) = next(&at, f) else {
                // It stays until it is deleted.
                if deleted_after.is_none_or(|d| n >= d) {
                    break;
                }
                continue;
            };
            (tries, restarts) = crate::world::counted(stage, to, tries, restarts);
            stage = to;
            took += after;
            all.push(stage);
        }
        (all, took)
    }

    #[test]
    fn a_service_becomes_ready_and_stays() {
        use Stage::{Bound, Creating, Ready, Started};
        let (all, took) = life(1, &Template::default(), &Failures::default(), None);
        assert_eq!(all, [Bound, Creating, Started, Ready]);
        assert!(took < 3_000, "{took}");
        let slow = Template { ready_after: 20, ..Template::default() };
        assert!(life(1, &slow, &Failures::default(), None).1 >= 20_000);
    }

    #[test]
    fn what_fails_goes_well_in_the_end() {
        let (all, took) = life(1, &Template::default(), &ALL, None);
        let times = |s: Stage| all.iter().filter(|x| **x == s).count();
        assert_eq!((times(Stage::NoImage), times(Stage::Crashed)), (3, 3), "{all:?}");
        assert_eq!(all.last(), Some(&Stage::Ready));
        assert!(took > 2 * (10_000 + 20_000 + 40_000), "{took}");
    }

    #[test]
    fn jobs_end() {
        let job = |restart, runs_for| Template { restart, runs_for, ..Template::default() };
        let end = |t: &Template, f: &Failures| life(1, t, f, None).0.last().copied();
        assert_eq!(end(&job(Restart::Never, None), &Failures::default()), Some(Stage::Done));
        assert_eq!(end(&job(Restart::Never, None), &ALL), Some(Stage::Failed));
        assert_eq!(end(&job(Restart::OnFailure, None), &ALL), Some(Stage::Done));
        let (_, took) = life(1, &job(Restart::Never, Some(100)), &Failures::default(), None);
        assert!(took >= 100_000);
    }

    proptest! {
        /// Whatever happens, a pod that is deleted ends, within its grace period and a moment.
        #[test]
        fn what_is_deleted_goes(uid in any::<u128>(), after in 0usize..12, crash in 0u32..=1_000_000, image in 0u32..=1_000_000) {
            let f = Failures { crash, image, node: 0 };
            let (all, _) = life(uid, &Template::default(), &f, Some(after));
            prop_assert_eq!(all.last(), Some(&Stage::Stopped));
            prop_assert_eq!(all.iter().filter(|s| **s == Stage::Stopping).count(), 1);
        }
    }
}
