//! The cases of upstream's tables for the calculation of replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::calc::*;

const NOW: i64 = 1_000_000;
const NORMAL: Tolerances = Tolerances { down: 0.1, up: 0.1 };
const TIMING: Timing =
    Timing { cpu_initialization: Duration::from_secs(120), initial_readiness: Duration::from_secs(10) };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("time")
}

fn sample(value: i64) -> Sample {
    Sample { value, at: Timestamp::UNIX_EPOCH, window: Duration::from_secs(60) }
}

fn samples(values: &[i64]) -> Samples {
    values.iter().enumerate().map(|(i, v)| (i.to_string(), sample(*v))).collect()
}

/// Pods by letters: `r`eady, `u`nready, `f`ailed, `d`eleted, `p`ending, `h`ot (started just now), `x` unready and hot,
/// `c` ready and started three minutes ago, `m` unready and started three minutes ago.
fn pods(letters: &str) -> Vec<PodFacts> {
    let one = |(i, c): (usize, char)| PodFacts {
        name: i.to_string(),
        deleting: c == 'd',
        phase: match c {
            'f' => "Failed",
            'p' => "Pending",
            _ => "Running",
        }
        .into(),
        started: Some(match c {
            'h' | 'x' => at(NOW),
            'c' | 'm' => at(NOW - 180),
            _ => Timestamp::UNIX_EPOCH,
        }),
        ready: Some(Ready {
            status: if "ufdpxm".contains(c) { "False" } else { "True" }.into(),
            since: Timestamp::UNIX_EPOCH,
        }),
    };
    letters.chars().enumerate().map(one).collect()
}

fn case<'a>(replicas: i32, pods: &'a [PodFacts], tolerances: Tolerances) -> Case<'a> {
    Case { replicas, pods, tolerances, timing: TIMING, now: at(NOW) }
}

/// Values of pods are of one container or the sum of all, and so are their requests.
fn utilization(
    replicas: i32,
    letters: &str,
    tolerances: Tolerances,
    values: &[i64],
    requests: &[i64],
    target: i32,
) -> Result<(i32, i32, i64), String> {
    let pods = pods(letters);
    let requests = || Ok(requests.iter().enumerate().map(|(i, r)| (i.to_string(), *r)).collect());
    let w = by_utilization(&case(replicas, &pods, tolerances), samples(values), true, target, requests)?;
    Ok((w.replicas, w.percent.expect("a percentage"), w.usage))
}

#[test]
fn shares_of_requests() {
    for (name, replicas, letters, values, target, want) in [
        ("up", 3, "rrr", &[600, 1000, 1400][..], 30, (5, 50, 1000)),
        ("up, one unready", 3, "urr", &[600, 1000, 1400], 30, (4, 60, 1200)),
        ("up, one hot", 3, "hcc", &[600, 1000, 1400], 30, (4, 60, 1200)),
        ("unready pods keep it", 3, "ruu", &[800, 1000, 1400], 30, (3, 40, 800)),
        ("hot pods keep it", 3, "cxx", &[800, 1000, 1400], 30, (3, 40, 800)),
        ("up, failed ones ignored", 2, "rrff", &[1000, 1400], 30, (4, 60, 1200)),
        ("up, deleted ones ignored", 2, "rrdd", &[1000, 1400], 30, (4, 60, 1200)),
        ("down", 5, "rrrrr", &[200, 600, 1000, 500, 500], 50, (3, 28, 560)),
        ("down without unready", 5, "rrruu", &[200, 600, 1000, 500, 500], 50, (2, 30, 600)),
        ("down without unscheduled", 5, "rpppp", &[200], 50, (1, 10, 200)),
        ("down without hot", 5, "ccchh", &[200, 600, 1000, 500, 500], 50, (2, 30, 600)),
        ("down, failed ones ignored", 5, "rrrrrff", &[200, 600, 1000, 500, 500], 50, (3, 28, 560)),
        ("down, deleted ones ignored", 5, "rrrrrdd", &[200, 600, 1000, 500, 500], 50, (3, 28, 560)),
        (
            "more samples than pods",
            4,
            "rrrr",
            &[8000, 19000, 6000, 14000, 6400, 4000],
            100,
            (24, 587, 11_750),
        ),
        ("down, some missing", 4, "rrrr", &[800, 190], 100, (3, 24, 495)),
        ("missing, on target", 2, "rr", &[2000], 100, (2, 100, 2000)),
        ("missing, above target", 2, "rr", &[3800], 100, (2, 190, 3800)),
        ("missing, below target", 2, "rr", &[1200], 100, (2, 60, 1200)),
        ("unready and missing", 3, "urr", &[200, 900], 50, (3, 45, 900)),
        ("hot and missing", 3, "hcc", &[200, 900], 50, (3, 45, 900)),
        ("up, unready and missing", 3, "urr", &[200, 4000], 50, (4, 200, 4000)),
        ("up, hot and missing", 3, "xcc", &[200, 4000], 50, (4, 200, 4000)),
        ("down, unready and missing", 4, "urrr", &[200, 200, 200], 50, (3, 10, 200)),
        ("surge without a sample", 2, "rrr", &[200, 200], 50, (2, 10, 200)),
    ] {
        let mut requests = vec![2000; letters.len()];
        if name == "more samples than pods" {
            // Samples of pods that are not there have no requests, and count for the number of pods alone.
            requests.truncate(4);
        }
        let got = utilization(replicas, letters, NORMAL, values, &requests, target);
        assert_eq!(got, Ok(want), "{name}");
    }
    // A target over what is requested: a missing pod counts as on target.
    let got = utilization(4, "urrr", NORMAL, &[400, 200, 200], &[2000, 2000, 4000, 4000], 300);
    assert_eq!(got, Ok((2, 6, 200)));
}

#[test]
fn tolerances() {
    for (name, down, up, values, want) in [
        ("within", 0.1, 0.1, &[2020, 2060, 2040], (3, 102, 2040)),
        ("none", 0.0, 0.0, &[1818, 2020, 2222], (4, 101, 2020)),
        ("within 200 %", 0.1, 2.0, &[3780, 3820, 3800], (3, 190, 3800)),
        ("beyond 8 %", 2.0, 0.08, &[2200, 2160, 2180], (4, 109, 2180)),
        ("within 36 %", 0.36, 0.1, &[1320, 1280, 1300], (3, 65, 1300)),
        ("beyond 34 %", 0.34, 0.1, &[1320, 1280, 1300], (2, 65, 1300)),
    ] {
        let got = utilization(3, "rrr", Tolerances { down, up }, values, &[1800, 2000, 2200], 100);
        assert_eq!(got, Ok(want), "{name}");
    }
}

#[test]
fn what_can_not_be_calculated() {
    let disjoint = BTreeMap::from([("older".to_owned(), sample(100))]);
    let pods = pods("r");
    let requests = || Ok(BTreeMap::from([("0".to_owned(), 2000)]));
    let got = by_utilization(&case(1, &pods, NORMAL), disjoint, true, 100, requests);
    assert_eq!(got, Err("no metrics returned matched known pods".into()));
    let missing = || Err("missing request for cpu".to_owned());
    let got = by_utilization(&case(1, &pods, NORMAL), samples(&[200]), true, 100, missing);
    assert_eq!(got, Err("missing request for cpu".into()));
    let none = by_average(&case(0, &[], NORMAL), samples(&[200]), false, 100);
    assert_eq!(none, Err("no pods returned by selector while calculating replica count".into()));
    let unready = super::calc_tests::pods("u");
    let got = by_average(&case(1, &unready, NORMAL), samples(&[200]), true, 100);
    assert_eq!(got, Err("did not receive metrics for targeted pods (pods might be unready)".into()));
}

#[test]
fn averages_of_pods() {
    let one_percent = Tolerances { down: 0.1, up: 0.01 };
    for (name, replicas, letters, tolerances, values, target, want) in [
        ("up", 3, "rrr", NORMAL, &[20_000, 10_000, 30_000][..], 15_000, (4, 20_000)),
        ("readiness counts for CPU only", 3, "ccx", NORMAL, &[50_000, 10_000, 30_000], 15_000, (6, 30_000)),
        ("so here", 3, "xcx", NORMAL, &[50_000, 15_000, 30_000], 15_000, (7, 31_666)),
        ("down", 5, "rrrrr", NORMAL, &[12_000; 5], 20_000, (3, 12_000)),
        ("within", 3, "rrr", NORMAL, &[20_000, 21_000, 21_000], 20_000, (3, 20_666)),
        ("beyond 1 %", 3, "rrr", one_percent, &[20_000, 21_000, 21_000], 20_000, (4, 20_666)),
        ("some missing", 5, "rrrrr", NORMAL, &[20_000, 19_000, 21_000], 20_000, (5, 20_000)),
        ("surge without a sample", 2, "rrr", NORMAL, &[10_000, 10_000], 17_000, (2, 10_000)),
    ] {
        let pods = pods(letters);
        let got = by_average(&case(replicas, &pods, tolerances), samples(values), false, target).expect(name);
        assert_eq!((got.replicas, got.usage), want, "{name}");
    }
}

#[test]
fn values_of_objects_and_from_elsewhere() {
    let one_percent = Tolerances { down: 0.1, up: 0.01 };
    for (name, replicas, letters, tolerances, usage, target, want) in [
        ("up", 3, "rrr", NORMAL, 20_000, 15_000, 4),
        ("far up", 3, "rrr", NORMAL, i64::MAX, 1, i32::MAX),
        ("without unready pods", 3, "uru", NORMAL, 50_000, 10_000, 5),
        ("down", 5, "rrrrr", NORMAL, 12_000, 20_000, 3),
        ("within", 3, "rrr", NORMAL, 20_666, 20_000, 3),
        ("beyond 1 %", 3, "rrr", one_percent, 20_666, 20_000, 4),
        ("down, for there are unready pods", 3, "uru", NORMAL, 8600, 4400, 2),
        ("down by a sum", 5, "rrrrr", NORMAL, 8600, 14_334, 3),
        ("within by a sum", 3, "rrr", NORMAL, 8600, 8888, 3),
        ("beyond 1 % by a sum", 3, "rrr", one_percent, 8900, 8800, 4),
        ("from nothing", 0, "", NORMAL, 8600, 4400, 2),
        ("to nothing", 0, "", NORMAL, 0, 4400, 0),
    ] {
        let pods = pods(letters);
        let got = by_value(&case(replicas, &pods, tolerances), usage, target).expect(name);
        assert_eq!((got.replicas, got.usage), (want, usage), "{name}");
    }
    assert_eq!(sum(&[i64::MAX / 2 + 1, i64::MAX / 2 + 1]), i64::MAX);
    assert!(by_value(&case(3, &[], NORMAL), 1, 100).is_err());
}

#[test]
fn shares_of_a_value() {
    let one_percent = Tolerances { down: 0.1, up: 0.01 };
    for (name, replicas, tolerances, usage, target, want) in [
        ("up", 3, NORMAL, 20_000, 5000, (4, 6667)),
        ("down", 5, NORMAL, 6000, 2000, (3, 1200)),
        ("within", 4, NORMAL, 20_166, 5000, (4, 5042)),
        ("beyond 1 %", 4, one_percent, 20_208, 5000, (5, 5052)),
        ("up by a sum", 3, NORMAL, 8600, 2150, (4, 2867)),
        ("down by a sum", 5, NORMAL, 8600, 2867, (3, 1720)),
        ("within by a sum", 3, NORMAL, 8600, 2900, (3, 2867)),
        ("beyond 1 % by a sum", 3, one_percent, 8600, 2800, (4, 2867)),
        ("too many", 1, NORMAL, i64::MAX, 1, (i32::MAX, i64::MAX)),
        ("a huge value and target", 1, NORMAL, i64::MAX, i64::MAX, (1, i64::MAX)),
        ("from nothing", 0, NORMAL, 8600, 2150, (4, 8600)),
    ] {
        let got = by_share(replicas, tolerances, usage, target);
        assert_eq!((got.replicas, got.usage), want, "{name}");
    }
}

#[test]
fn groups() {
    let ago = |s: i64| at(NOW - s);
    let pod = |phase: &str, started: Option<i64>, ready: Option<(&str, i64)>| PodFacts {
        name: "p".into(),
        deleting: false,
        phase: phase.into(),
        started: started.map(ago),
        ready: ready.map(|(status, since)| Ready { status: status.into(), since: ago(since) }),
    };
    let fresh = |window| Some(Sample { value: 1, at: at(NOW), window: Duration::from_secs(window) });
    let old = Some(Sample { value: 1, at: Timestamp::UNIX_EPOCH, window: Duration::ZERO });
    let mut deleted = pod("Pending", None, None);
    deleted.deleting = true;
    for (name, pod, sample, cpu, want) in [
        ("memory", pod("Succeeded", None, None), fresh(60), false, "ready"),
        ("no condition", pod("Succeeded", Some(0), None), old, true, "unready"),
        ("measured since ready", pod("Succeeded", Some(60), Some(("True", 30))), fresh(30), true, "ready"),
        ("measured before", pod("Succeeded", Some(60), Some(("True", 30))), fresh(60), true, "unready"),
        ("never ready", pod("Succeeded", Some(600), Some(("False", 594))), old, true, "unready"),
        ("old", pod("Succeeded", Some(180), Some(("True", 180))), old, true, "ready"),
        ("was ready once", pod("Succeeded", Some(600), Some(("False", 540))), old, true, "ready"),
        ("was ready, at the limit", pod("Succeeded", Some(600), Some(("False", 590))), old, true, "ready"),
        ("no sample", pod("Succeeded", Some(180), None), None, true, "missing"),
        ("pending", pod("Pending", None, None), None, true, "unready"),
        ("deleted", deleted, fresh(1), true, "ignored"),
        ("failed", pod("Failed", None, None), fresh(1), true, "ignored"),
    ] {
        let all: Samples = sample.map(|s| ("p".to_owned(), s)).into_iter().collect();
        let got = group(&[pod], &all, cpu, TIMING, at(NOW));
        let one = BTreeSet::from(["p".to_owned()]);
        let mut expect = Groups::default();
        match want {
            "ready" => expect.ready = 1,
            "unready" => expect.unready = one,
            "missing" => expect.missing = one,
            _ => expect.ignored = one,
        }
        assert_eq!(got, expect, "{name}");
    }
}

proptest! {
    /// Pods that tell nothing slow a change down and never turn it round.
    #[test]
    fn silence_never_turns_the_direction(
        letters in "[rup]{1,8}", values in prop::collection::vec(0i64..5000, 1..8), target in 1i32..300,
    ) {
        let n = i32::try_from(letters.len()).expect("few");
        let requests = vec![1000; letters.len()];
        if let Ok((replicas, percent, _)) = utilization(n, &letters, NORMAL, &values, &requests, target) {
            prop_assert!(replicas >= 0);
            let known = values.len() <= letters.len();
            if known && percent > target && letters.chars().all(|c| c == 'r') {
                prop_assert!(replicas >= n, "{replicas} of {n} at {percent} % of {target} %");
            }
            if known && percent < target && letters.chars().all(|c| c == 'r') {
                prop_assert!(replicas <= n, "{replicas} of {n} at {percent} % of {target} %");
            }
        }
    }
}
