//! A kubelet's `/metrics/resource` as figures. Pure: text of Prometheus' exposition format in, a scrape out.

use std::collections::BTreeMap;

/// Cumulative CPU time and memory of something, at a time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    pub at_ms: i64,
    /// When it began to count; unknown for nodes and from kubelets that do not say.
    pub start_ms: Option<i64>,
    pub cpu_nanos: u64,
    pub memory: u64,
}

/// Namespace and name.
pub type PodKey = (String, String);

/// What one node said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scrape {
    pub node: Option<Point>,
    /// Containers by name. A pod one of whose containers is told of incompletely is left out, as the metrics-server has it.
    pub pods: BTreeMap<PodKey, BTreeMap<String, Point>>,
}

#[derive(Default)]
struct Partial {
    cpu: Option<(u64, i64)>,
    memory: Option<u64>,
    start_ms: Option<i64>,
}

impl Partial {
    fn whole(&self) -> Option<Point> {
        let (cpu_nanos, at_ms) = self.cpu?;
        Some(Point { at_ms, start_ms: self.start_ms, cpu_nanos, memory: self.memory? })
    }
}

/// One line: name, labels, value and time.
struct Line<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
    at_ms: Option<i64>,
}

fn line(text: &str) -> Option<Line<'_>> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let (name, labels, rest) = match text.find('{') {
        Some(open) => {
            let close = open + text.get(open..)?.find('}')?;
            (text.get(..open)?, text.get(open + 1..close)?, text.get(close + 1..)?)
        }
        None => {
            let (name, rest) = text.split_once(' ')?;
            (name, "", rest)
        }
    };
    let mut words = rest.split_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    let at_ms = words.next().and_then(|w| w.parse().ok());
    (value.is_finite() && value >= 0.0).then_some(Line { name, labels, value, at_ms })
}

/// Names of containers, pods and namespaces need no escapes, so none are undone.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|l| {
        let (k, v) = l.split_once('=')?;
        (k.trim() == name).then(|| v.trim().trim_matches('"'))
    })
}

/// `now_ms` stands where a line carries no time.
pub fn parse(text: &str, now_ms: i64) -> Scrape {
    let mut node = Partial::default();
    let mut all: BTreeMap<PodKey, BTreeMap<String, Partial>> = BTreeMap::new();
    for l in text.lines().filter_map(line) {
        let nanos = || ((l.value * 1e9).round() as u64, l.at_ms.unwrap_or(now_ms));
        match l.name {
            "node_cpu_usage_seconds_total" => node.cpu = Some(nanos()),
            "node_memory_working_set_bytes" => node.memory = Some(l.value as u64),
            name if name.starts_with("container_") => {
                let of = |n| label(l.labels, n).map(str::to_owned);
                let (Some(c), Some(ns), Some(pod)) = (of("container"), of("namespace"), of("pod")) else {
                    continue;
                };
                let one = all.entry((ns, pod)).or_default().entry(c).or_default();
                match name {
                    "container_cpu_usage_seconds_total" => one.cpu = Some(nanos()),
                    "container_memory_working_set_bytes" => one.memory = Some(l.value as u64),
                    "container_start_time_seconds" => one.start_ms = Some((l.value * 1e3).round() as i64),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let whole = |containers: BTreeMap<String, Partial>| {
        containers.into_iter().map(|(name, p)| Some((name, p.whole()?))).collect::<Option<BTreeMap<_, _>>>()
    };
    let pods = all.into_iter().filter_map(|(key, c)| Some((key, whole(c)?))).collect();
    Scrape { node: node.whole(), pods }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelets_text() {
        let text = "# HELP container_cpu_usage_seconds_total x\n# TYPE container_cpu_usage_seconds_total counter\n\
            container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 4.710169 1633253812125\n\
            container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 1.253376e+06 1633253812125\n\
            container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 1.63325e+09\n\
            container_cpu_usage_seconds_total{pod=\"half\",container=\"c\",namespace=\"n\"} 1\n\
            container_swap_usage_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 0 1\n\
            node_cpu_usage_seconds_total 357.35 1633253809720\n\
            node_memory_working_set_bytes 1.6e+09 1633253809720\n\
            scrape_error 0\n";
        let s = parse(text, 7);
        let node = Point {
            at_ms: 1_633_253_809_720,
            start_ms: None,
            cpu_nanos: 357_350_000_000,
            memory: 1_600_000_000,
        };
        assert_eq!(s.node, Some(node));
        let c = Point {
            at_ms: 1_633_253_812_125,
            start_ms: Some(1_633_250_000_000),
            cpu_nanos: 4_710_169_000,
            memory: 1_253_376,
        };
        let pods: Vec<_> = s.pods.into_iter().collect();
        assert_eq!(pods, [(("n".into(), "p".into()), BTreeMap::from([("c".into(), c)]))]);
    }

    #[test]
    fn what_says_no_time_was_measured_now() {
        let s = parse("node_cpu_usage_seconds_total 1\nnode_memory_working_set_bytes 2\n", 7);
        assert_eq!(s.node.map(|n| n.at_ms), Some(7));
    }

    #[test]
    fn nonsense_is_passed_over() {
        for text in [
            "",
            "{",
            "node_cpu_usage_seconds_total",
            "node_cpu_usage_seconds_total x",
            "a{b=\"c\" 1",
            "node_cpu_usage_seconds_total NaN 3",
        ] {
            assert_eq!(parse(text, 0), Scrape::default(), "{text}");
        }
    }
}
