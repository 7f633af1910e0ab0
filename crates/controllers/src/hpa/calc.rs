//! How many replicas a metric asks for. Pure: pods, samples and the time in, a number out.
//! https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

/// By how much a ratio may miss 1 before anything is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances {
    pub down: f64,
    pub up: f64,
}

impl Tolerances {
    fn holds(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// What is believed of young pods.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// So long after a pod's start its CPU counts only when it is ready and was measured since.
    pub cpu_initialization: Duration,
    /// A pod that became unready so soon after its start was never ready.
    pub initial_readiness: Duration,
}

/// What one pod uses, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub value: i64,
    pub at: Timestamp,
    pub window: Duration,
}

/// By the pod's name.
pub type Samples = BTreeMap<String, Sample>;

/// The `Ready` condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    pub status: String,
    pub since: Timestamp,
}

/// What the calculation needs to know of a pod.
#[derive(Debug, Clone, Default)]
pub struct PodFacts {
    pub name: String,
    pub deleting: bool,
    pub phase: String,
    pub started: Option<Timestamp>,
    pub ready: Option<Ready>,
}

/// Whose samples count.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Groups {
    pub ready: usize,
    pub unready: BTreeSet<String>,
    pub missing: BTreeSet<String>,
    pub ignored: BTreeSet<String>,
}

/// The pods and rules of one calculation.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What the target's spec says.
    pub replicas: i32,
    pub pods: &'a [PodFacts],
    pub tolerances: Tolerances,
    pub timing: Timing,
    pub now: Timestamp,
}

fn plus(t: Timestamp, d: Duration) -> Timestamp {
    t.checked_add(d).unwrap_or(Timestamp::MAX)
}

fn unready(pod: &PodFacts, sample: &Sample, timing: Timing, now: Timestamp) -> bool {
    let (Some(ready), Some(started)) = (&pod.ready, pod.started) else { return true };
    let not_ready = ready.status == "False";
    if plus(started, timing.cpu_initialization) > now {
        not_ready || sample.at < plus(ready.since, sample.window)
    } else {
        not_ready && plus(started, timing.initial_readiness) > ready.since
    }
}

/// `cpu`: a young pod's CPU says little about what it will use.
pub fn group(pods: &[PodFacts], samples: &Samples, cpu: bool, timing: Timing, now: Timestamp) -> Groups {
    let mut out = Groups::default();
    for pod in pods {
        let name = pod.name.clone();
        if pod.deleting || pod.phase == "Failed" {
            out.ignored.insert(name);
        } else if pod.phase == "Pending" {
            out.unready.insert(name);
        } else {
            match samples.get(&pod.name) {
                None => drop(out.missing.insert(name)),
                Some(s) if cpu && unready(pod, s, timing, now) => drop(out.unready.insert(name)),
                Some(_) => out.ready += 1,
            }
        }
    }
    out
}

/// Rounded up; Go's result out of range is not defined, here it is the nearest.
fn ceil(x: f64) -> i32 {
    x.ceil() as i32
}

/// `ratio` of the samples that count, and what it becomes with those of `case.pods` that tell nothing. `missing_low` is what a
/// pod without a sample counts for when everything points down.
fn replicas(
    case: &Case<'_>,
    ratio: f64,
    groups: &Groups,
    samples: &mut Samples,
    missing_low: impl Fn(&str) -> i64,
    again: impl FnOnce(&Samples) -> Result<f64, String>,
) -> Result<i32, String> {
    let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        if case.tolerances.holds(ratio) {
            return Ok(case.replicas);
        }
        return Ok(ceil(ratio * groups.ready as f64));
    }
    let at = |value| Sample { value, at: Timestamp::UNIX_EPOCH, window: Duration::ZERO };
    if ratio < 1.0 {
        for name in &groups.missing {
            samples.insert(name.clone(), at(missing_low(name)));
        }
    } else if ratio > 1.0 {
        samples.extend(groups.missing.iter().map(|name| (name.clone(), at(0))));
    }
    if up_with_unready {
        samples.extend(groups.unready.iter().map(|name| (name.clone(), at(0))));
    }
    let new = again(samples)?;
    if case.tolerances.holds(new) || (ratio < 1.0 && new > 1.0) || (ratio > 1.0 && new < 1.0) {
        return Ok(case.replicas);
    }
    let wanted = ceil(new * samples.len() as f64);
    // The number of samples alone must not turn the direction round.
    if (new < 1.0 && wanted > case.replicas) || (new > 1.0 && wanted < case.replicas) {
        return Ok(case.replicas);
    }
    Ok(wanted)
}

/// Drops what does not count; an error when nothing is left.
fn sift(case: &Case<'_>, samples: &mut Samples, cpu: bool) -> Result<Groups, String> {
    if case.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let groups = group(case.pods, samples, cpu, case.timing, case.now);
    samples.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
    if samples.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    Ok(groups)
}

/// Ratio to the target, percentage of the requests, average.
fn utilization(
    samples: &Samples,
    requests: &BTreeMap<String, i64>,
    target: i32,
) -> Result<(f64, i32, i64), String> {
    let (mut used, mut requested, mut n) = (0i64, 0i64, 0i64);
    for (name, s) in samples {
        let Some(r) = requests.get(name) else { continue };
        used = used.saturating_add(s.value);
        requested = requested.saturating_add(*r);
        n += 1;
    }
    if requested == 0 {
        return Err("no metrics returned matched known pods".into());
    }
    let percent = i128::from(used) * 100 / i128::from(requested);
    let percent = i32::try_from(percent).unwrap_or(i32::MAX);
    Ok((f64::from(percent) / f64::from(target), percent, used / n.max(1)))
}

/// What a metric asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    pub replicas: i32,
    /// In percent of what is requested, where that is the measure.
    pub percent: Option<i32>,
    /// In thousandths.
    pub usage: i64,
}

/// By a share of what pods request.
pub fn by_utilization(
    case: &Case<'_>,
    mut samples: Samples,
    cpu: bool,
    target: i32,
    requests: impl FnOnce() -> Result<BTreeMap<String, i64>, String>,
) -> Result<Wanted, String> {
    let groups = sift(case, &mut samples, cpu)?;
    let requests = requests()?;
    let (ratio, percent, usage) = utilization(&samples, &requests, target)?;
    // On the way down a pod that tells nothing counts as fully used, or as on target where that is more.
    let low = |name: &str| {
        requests.get(name).copied().unwrap_or_default().saturating_mul(i64::from(target.max(100))) / 100
    };
    let again = |s: &Samples| utilization(s, &requests, target).map(|u| u.0);
    let replicas = replicas(case, ratio, &groups, &mut samples, low, again)?;
    Ok(Wanted { replicas, percent: Some(percent), usage })
}

/// By an average value of pods, in thousandths.
pub fn by_average(case: &Case<'_>, mut samples: Samples, cpu: bool, target: i64) -> Result<Wanted, String> {
    let groups = sift(case, &mut samples, cpu)?;
    let ratio = |s: &Samples| {
        let total = s.values().fold(0i64, |a, s| a.saturating_add(s.value));
        let usage = total / i64::try_from(s.len()).unwrap_or(i64::MAX).max(1);
        (usage as f64 / target as f64, usage)
    };
    let (first, usage) = ratio(&samples);
    let replicas = replicas(case, first, &groups, &mut samples, |_| target, |s| Ok(ratio(s).0))?;
    Ok(Wanted { replicas, percent: None, usage })
}

/// By one value, of an object or from elsewhere, that all pods share in.
pub fn by_value(case: &Case<'_>, usage: i64, target: i64) -> Result<Wanted, String> {
    let ratio = usage as f64 / target as f64;
    let replicas = if case.replicas == 0 {
        ceil(ratio)
    } else if case.tolerances.holds(ratio) {
        case.replicas
    } else {
        if case.pods.is_empty() {
            return Err(
                "unable to calculate ready pods: no pods returned by selector while calculating replica count"
                    .into(),
            );
        }
        let ready =
            |p: &&PodFacts| p.phase == "Running" && p.ready.as_ref().is_some_and(|r| r.status == "True");
        ceil(ratio * case.pods.iter().filter(ready).count() as f64)
    };
    Ok(Wanted { replicas, percent: None, usage })
}

/// By one value, of which each of `status_replicas` pods has its share.
pub fn by_share(status_replicas: i32, tolerances: Tolerances, usage: i64, target: i64) -> Wanted {
    let ratio = usage as f64 / (target as f64 * f64::from(status_replicas));
    let replicas = if tolerances.holds(ratio) { status_replicas } else { ceil(usage as f64 / target as f64) };
    let share = (usage as f64 / f64::from(status_replicas.max(1))).ceil() as i64;
    Wanted { replicas, percent: None, usage: share }
}

/// The sum of values from elsewhere; the largest number where it would be larger.
pub fn sum(values: &[i64]) -> i64 {
    values.iter().fold(0i64, |a, v| a.saturating_add(*v))
}
