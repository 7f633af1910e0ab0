//! Counters under upstream's names, in the Prometheus text format. Bounded: labels come from the catalog, never from the
//! outside.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;

const BUCKETS: [f64; 14] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// What a request is counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Labels<'a> {
    pub verb: &'static str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// `cluster`, `namespace`, `resource`.
    pub scope: &'static str,
}

/// The labels as one text: what rows are found by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String);

/// Stands in no label.
const BETWEEN: char = '\0';

impl Labels<'_> {
    pub fn key(&self) -> Key {
        let parts = [self.verb, self.group, self.version, self.resource, self.subresource, self.scope];
        let mut text = String::with_capacity(parts.iter().map(|p| p.len() + 1).sum());
        for p in parts {
            text.push_str(p);
            text.push(BETWEEN);
        }
        Key(text)
    }
}

impl Key {
    /// As they stand in the exposition.
    fn render(&self) -> String {
        let mut parts = self.0.split(BETWEEN);
        let mut next = || parts.next().unwrap_or_default();
        let (verb, group, version, resource) = (next(), next(), next(), next());
        let (subresource, scope) = (next(), next());
        format!(
            "component=\"apiserver\",group=\"{group}\",resource=\"{resource}\",scope=\"{scope}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\""
        )
    }
}

#[derive(Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    sum: f64,
    count: u64,
}

#[derive(Default)]
struct Row {
    codes: BTreeMap<u16, u64>,
    latency: Histogram,
}

#[derive(Default)]
struct Inner {
    requests: BTreeMap<Key, Row>,
    terminations: BTreeMap<u16, u64>,
}

#[derive(Default)]
pub struct Metrics {
    inner: Mutex<Inner>,
    pub in_flight_read: std::sync::atomic::AtomicI64,
    pub in_flight_write: std::sync::atomic::AtomicI64,
    pub long_running: std::sync::atomic::AtomicI64,
}

impl Metrics {
    pub fn request(&self, key: Key, code: u16, took: Option<Duration>) {
        let mut m = self.inner.lock();
        let row = m.requests.entry(key).or_default();
        *row.codes.entry(code).or_default() += 1;
        if let Some(took) = took {
            let h = &mut row.latency;
            let s = took.as_secs_f64();
            h.sum += s;
            h.count += 1;
            for (slot, limit) in h.buckets.iter_mut().zip(BUCKETS) {
                *slot += u64::from(s <= limit);
            }
        }
    }

    pub fn terminated(&self, code: u16) {
        *self.inner.lock().terminations.entry(code).or_default() += 1;
    }

    /// The whole exposition; `objects` is the number of stored objects per resource.
    pub fn render(&self, store: store::Stats, objects: &[(String, u64)]) -> String {
        use std::sync::atomic::Ordering::Relaxed;
        let mut o = String::with_capacity(16 * 1024);
        let m = self.inner.lock();
        o.push_str("# HELP apiserver_request_total Counter of apiserver requests by verb, resource and code.\n# TYPE apiserver_request_total counter\n");
        for (key, row) in &m.requests {
            let b = key.render();
            for (code, n) in &row.codes {
                let _ = writeln!(o, "apiserver_request_total{{code=\"{code}\",dry_run=\"\",{b}}} {n}");
            }
        }
        o.push_str("# HELP apiserver_request_duration_seconds Response latency by verb and resource.\n# TYPE apiserver_request_duration_seconds histogram\n");
        for (key, row) in m.requests.iter().filter(|(_, row)| row.latency.count > 0) {
            let (b, h) = (key.render(), &row.latency);
            for (n, limit) in h.buckets.iter().zip(BUCKETS) {
                let _ = writeln!(o, "apiserver_request_duration_seconds_bucket{{{b},le=\"{limit}\"}} {n}");
            }
            let _ = writeln!(o, "apiserver_request_duration_seconds_bucket{{{b},le=\"+Inf\"}} {}", h.count);
            let _ = writeln!(o, "apiserver_request_duration_seconds_sum{{{b}}} {}", h.sum);
            let _ = writeln!(o, "apiserver_request_duration_seconds_count{{{b}}} {}", h.count);
        }
        o.push_str("# HELP apiserver_request_terminations_total Requests refused in self-defence.\n# TYPE apiserver_request_terminations_total counter\n");
        for (code, n) in &m.terminations {
            let _ = writeln!(
                o,
                "apiserver_request_terminations_total{{code=\"{code}\",component=\"apiserver\"}} {n}"
            );
        }
        o.push_str("# HELP apiserver_current_inflight_requests Requests being served.\n# TYPE apiserver_current_inflight_requests gauge\n");
        for (kind, n) in [("mutating", &self.in_flight_write), ("readOnly", &self.in_flight_read)] {
            let _ = writeln!(
                o,
                "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {}",
                n.load(Relaxed)
            );
        }
        o.push_str("# HELP apiserver_longrunning_requests Watches and streams being served.\n# TYPE apiserver_longrunning_requests gauge\n");
        let _ = writeln!(
            o,
            "apiserver_longrunning_requests{{component=\"apiserver\"}} {}",
            self.long_running.load(Relaxed)
        );
        o.push_str("# HELP apiserver_storage_objects Stored objects by resource.\n# TYPE apiserver_storage_objects gauge\n");
        for (r, n) in objects {
            let _ = writeln!(o, "apiserver_storage_objects{{resource=\"{r}\"}} {n}");
        }
        for (name, help, v) in [
            ("kelson_store_revision", "Newest durable revision.", store.revision),
            ("kelson_store_compacted_revision", "Oldest revision that can still be read.", store.compacted),
            ("kelson_store_keys", "Keys in the store.", store.keys),
            ("kelson_store_memory_bytes", "Bytes of values in memory.", store.bytes_in_memory),
            ("apiserver_storage_size_bytes", "Bytes of the store's files.", store.bytes_on_disk),
            ("kelson_store_fsyncs_total", "Calls of fdatasync.", store.fsyncs),
        ] {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            let _ = writeln!(o, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {v}");
        }
        process(&mut o);
        o
    }
}

/// What the kernel knows about this process.
fn process(o: &mut String) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|s| s.parse::<f64>().ok()).unwrap_or_default();
    let cpu = (number(11) + number(12)) / 100.0;
    let rss = number(21) * 4096.0;
    let fds = std::fs::read_dir("/proc/self/fd").map(|d| d.count()).unwrap_or_default();
    let _ = writeln!(
        o,
        "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {cpu}\n# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {rss}\n# TYPE process_open_fds gauge\nprocess_open_fds {fds}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_counts_and_buckets() {
        let m = Metrics::default();
        let l = Labels { verb: "GET", resource: "pods", scope: "resource", ..Labels::default() };
        m.request(l.key(), 200, Some(Duration::from_millis(30)));
        m.request(l.key(), 404, None);
        let out = m.render(store::Stats::default(), &[("pods".into(), 3)]);
        let labels = "component=\"apiserver\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"\"";
        for code in [200, 404] {
            let line = format!("apiserver_request_total{{code=\"{code}\",dry_run=\"\",{labels}}} 1\n");
            assert!(out.contains(&line), "{out}");
        }
        assert!(out.contains(&format!("apiserver_request_duration_seconds_count{{{labels}}} 1\n")));
        assert!(out.contains("le=\"0.05\"} 1"));
        assert!(out.contains("le=\"0.025\"} 0"));
        assert!(out.contains("apiserver_storage_objects{resource=\"pods\"} 3"));
    }
}
