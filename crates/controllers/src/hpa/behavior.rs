//! From what a metric asks for to what is done: limits, rates and stabilisation windows. Pure, over the autoscaler's memory.
//! https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#configurable-scaling-behavior

use std::time::Duration;

use jiff::Timestamp;

use super::view::{Behavior, Rules};

/// Where nothing else is said, a target at most doubles, or comes to this.
const UP_AT_LEAST: i32 = 4;

/// A reason and a message.
pub type Why = (&'static str, &'static str);

const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");
const UP_RATE: Why =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_RATE: Why =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: Why = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: Why = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);

/// What is remembered of one autoscaler. It is lost with the process, as upstream's is.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What metrics asked for, before limits.
    recommendations: Vec<(i32, Timestamp)>,
    known: bool,
    /// By how many replicas it went up and down, and when.
    ups: Vec<(i32, Timestamp)>,
    downs: Vec<(i32, Timestamp)>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub replicas: i32,
    /// For `AbleToScale`.
    pub able: Why,
    /// For `ScalingLimited`, with its status.
    pub limited: (bool, Why),
}

#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub current: i32,
    pub min: i32,
    pub max: i32,
}

fn ago(now: Timestamp, seconds: i64) -> Timestamp {
    let d = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    now.checked_sub(d).unwrap_or(Timestamp::MIN)
}

impl Memory {
    /// The size that it was met at counts as the first recommendation.
    pub fn met(&mut self, current: i32, now: Timestamp) {
        if !std::mem::replace(&mut self.known, true) {
            self.recommendations.push((current, now));
        }
    }

    /// Without rules of its own: only the way down is stabilised, over `window`.
    pub fn decide(&mut self, desired: i32, b: Bounds, window: Duration, now: Timestamp) -> Decided {
        let cutoff = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        self.recommendations.retain(|(_, at)| *at >= cutoff);
        let highest = self.recommendations.iter().map(|r| r.0).max().unwrap_or(desired).max(desired);
        self.recommendations.push((desired, now));
        let able = if highest == desired { READY } else { DOWN_STABILIZED };
        let rate = b.current.saturating_mul(2).max(UP_AT_LEAST);
        let (most, why) = if b.max > rate { (rate, UP_RATE) } else { (b.max, TOO_MANY) };
        let (replicas, why) = if highest < b.min {
            (b.min, TOO_FEW)
        } else if highest > most {
            (most, why)
        } else {
            (highest, WITHIN)
        };
        Decided { replicas, able, limited: (replicas != highest, why) }
    }

    /// By the rules that the autoscaler carries; `window` stands in where none is given for the way down.
    pub fn decide_by(
        &mut self,
        behavior: &Behavior,
        desired: i32,
        b: Bounds,
        window: Duration,
        now: Timestamp,
    ) -> Decided {
        let down_window = i64::try_from(window.as_secs()).unwrap_or(i64::MAX);
        let (up, down) = (&behavior.scale_up, &behavior.scale_down);
        let up_cutoff = ago(now, up.stabilization_window_seconds.unwrap_or(0));
        let down_cutoff = ago(now, down.stabilization_window_seconds.unwrap_or(down_window));
        self.recommendations.retain(|(_, at)| *at >= up_cutoff.min(down_cutoff));
        let since =
            |cutoff: Timestamp| self.recommendations.iter().filter(move |r| r.1 > cutoff).map(|r| r.0);
        let lowest = since(up_cutoff).min().unwrap_or(desired).min(desired);
        let highest = since(down_cutoff).max().unwrap_or(desired).max(desired);
        self.recommendations.push((desired, now));
        let stable = b.current.max(lowest).min(highest);
        let able = match (stable == desired, desired >= b.current) {
            (true, _) => READY,
            (false, true) => UP_STABILIZED,
            (false, false) => DOWN_STABILIZED,
        };
        let (replicas, why) = self.within_rates(behavior, stable, b, now);
        Decided { replicas, able, limited: (replicas != stable, why) }
    }

    fn within_rates(&self, behavior: &Behavior, desired: i32, b: Bounds, now: Timestamp) -> (i32, Why) {
        if desired > b.current {
            let rate = self.up_limit(&behavior.scale_up, b.current, now).max(b.current);
            let (most, why) = if b.max > rate { (rate, UP_RATE) } else { (b.max, TOO_MANY) };
            if desired > most {
                return (most, why);
            }
        } else if desired < b.current {
            let rate = self.down_limit(&behavior.scale_down, b.current, now).min(b.current);
            let (least, why) = if b.min < rate { (rate, DOWN_RATE) } else { (b.min, TOO_FEW) };
            if desired < least {
                return (least, why);
            }
        }
        (desired, WITHIN)
    }

    /// How many there were at the start of the period.
    fn before(&self, current: i32, period: i64, now: Timestamp) -> i32 {
        let cutoff = ago(now, period);
        let sum = |events: &[(i32, Timestamp)]| {
            events.iter().filter(|e| e.1 > cutoff).fold(0i32, |a, e| a.saturating_add(e.0))
        };
        current.saturating_sub(sum(&self.ups)).saturating_add(sum(&self.downs))
    }

    fn up_limit(&self, rules: &Rules, current: i32, now: Timestamp) -> i32 {
        let proposed = rules.policies.iter().map(|p| {
            let start = self.before(current, p.period_seconds, now);
            match p.r#type.as_str() {
                "Pods" => start.saturating_add(p.value),
                // Rounded up: a small target must be able to grow at all.
                _ => (f64::from(start) * (1.0 + f64::from(p.value) / 100.0)).ceil() as i32,
            }
        });
        match rules.select_policy.as_deref() {
            Some("Disabled") => current,
            Some("Min") => proposed.min().unwrap_or(i32::MAX),
            _ => proposed.max().unwrap_or(i32::MIN),
        }
    }

    fn down_limit(&self, rules: &Rules, current: i32, now: Timestamp) -> i32 {
        let proposed = rules.policies.iter().map(|p| {
            let start = self.before(current, p.period_seconds, now);
            match p.r#type.as_str() {
                "Pods" => start.saturating_sub(p.value),
                _ => (f64::from(start) * (1.0 - f64::from(p.value) / 100.0)) as i32,
            }
        });
        match rules.select_policy.as_deref() {
            Some("Disabled") => current,
            Some("Min") => proposed.max().unwrap_or(i32::MIN),
            _ => proposed.min().unwrap_or(i32::MAX),
        }
    }

    /// A change that was made; remembered as long as a rule asks for it.
    pub fn scaled(&mut self, behavior: Option<&Behavior>, from: i32, to: i32, now: Timestamp) {
        let Some(behavior) = behavior else { return };
        let (events, rules) = match to > from {
            true => (&mut self.ups, &behavior.scale_up),
            false => (&mut self.downs, &behavior.scale_down),
        };
        let longest = rules.policies.iter().map(|p| p.period_seconds).max().unwrap_or(0);
        let cutoff = ago(now, longest);
        events.retain(|e| e.1 >= cutoff);
        events.push((to.saturating_sub(from).saturating_abs(), now));
    }
}
