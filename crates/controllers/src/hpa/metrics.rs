//! Where figures come from: metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io.

use std::time::Duration;

use api::Resource;
use api::quantity::Quantity;
use api::resource::POD_METRICS;
use client::{Client, ListParams, clock, segment};
use jiff::Timestamp;
use serde_json::Value;

use super::calc::{Sample, Samples};
use super::view::Reference;

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
/// In the order in which they are taken.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];
/// Of a figure that does not say over which time it was taken.
const WINDOW: Duration = Duration::from_secs(60);

fn milli(v: &Value) -> Option<i64> {
    let text = match v {
        Value::String(s) => s.clone(),
        Value::Number(n) => n.to_string(),
        _ => return None,
    };
    Quantity::parse(&text).ok().map(|q| q.milli_value())
}

fn time(v: &Value) -> Timestamp {
    v.as_str().and_then(clock::parse).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Go's form of a duration.
fn window(v: &Value) -> Duration {
    let nanos = v.as_str().and_then(api::time::go_nanos).unwrap_or(0);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// Samples of a resource: of one container, or the sum of a pod's.
fn resource_samples(items: &[Value], resource: &str, container: &str) -> Samples {
    let one = |m: &Value| {
        let containers = m["containers"].as_array()?;
        let value = if container.is_empty() {
            let all = containers.iter().map(|c| milli(&c["usage"][resource])).collect::<Option<Vec<_>>>()?;
            (!all.is_empty()).then(|| super::calc::sum(&all))?
        } else {
            milli(&containers.iter().find(|c| c["name"] == container)?["usage"][resource])?
        };
        let sample = Sample { value, at: time(&m["timestamp"]), window: window(&m["window"]) };
        Some((m["metadata"]["name"].as_str()?.to_owned(), sample))
    };
    items.iter().filter_map(one).collect()
}

/// Of pods, by a custom metric.
fn pod_samples(items: &[Value]) -> Samples {
    let one = |m: &Value| {
        // The older version says `window`.
        let seconds = m["windowSeconds"].as_u64().or_else(|| m["window"].as_u64());
        let window = seconds.map_or(WINDOW, Duration::from_secs);
        let sample = Sample { value: milli(&m["value"])?, at: time(&m["timestamp"]), window };
        Some((m["describedObject"]["name"].as_str()?.to_owned(), sample))
    };
    items.iter().filter_map(one).collect()
}

pub struct Metrics {
    pub client: Client,
}

impl Metrics {
    pub async fn resource(
        &self,
        namespace: &str,
        selector: &str,
        resource: &str,
        container: &str,
    ) -> Result<Samples, String> {
        let params = ListParams { label_selector: selector.to_owned(), ..ListParams::default() };
        let list = self.client.list(&POD_METRICS, namespace, &params).await;
        let list = list.map_err(|e| format!("unable to fetch metrics from resource metrics API: {e}"))?;
        let items: Vec<Value> = list.items.iter().filter_map(|o| o.value().ok()).collect();
        if items.is_empty() {
            return Err("no metrics returned from resource metrics API".into());
        }
        Ok(resource_samples(&items, resource, container))
    }

    /// Where the custom metrics of the version that is served stand.
    async fn custom_root(&self) -> Result<String, String> {
        let group = match self.client.json(&format!("/apis/{CUSTOM}"), &[]).await {
            Ok(g) => g,
            Err(e) if e.code == 404 => {
                return Err(format!("no custom metrics API ({CUSTOM}) registered"));
            }
            Err(e) => return Err(e.to_string()),
        };
        let served = |v: &str| {
            group["versions"].as_array().into_iter().flatten().any(|s| s["version"].as_str() == Some(v))
        };
        let preferred = group["preferredVersion"]["version"].as_str().unwrap_or_default();
        let mut wanted = CUSTOM_VERSIONS.into_iter().filter(|v| *v == preferred).chain(CUSTOM_VERSIONS);
        let version = wanted.find(|v| served(v)).ok_or("no known available metric versions found")?;
        Ok(format!("/apis/{CUSTOM}/{version}"))
    }

    async fn custom(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, String> {
        let failed = |e: String| format!("unable to fetch metrics from custom metrics API: {e}");
        let root = self.custom_root().await.map_err(failed)?;
        let v = self.client.json(&format!("{root}{path}"), query).await.map_err(|e| failed(e.to_string()))?;
        Ok(v["items"].as_array().cloned().unwrap_or_default())
    }

    /// A custom metric of pods.
    pub async fn of_pods(
        &self,
        namespace: &str,
        selector: &str,
        metric: &str,
        metric_selector: &str,
    ) -> Result<Samples, String> {
        let path = format!("/namespaces/{namespace}/pods/*/{}", segment(metric));
        let query = [("labelSelector", selector), ("metricLabelSelector", metric_selector)];
        let items = self.custom(&path, &query).await?;
        if items.is_empty() {
            return Err("no metrics returned from custom metrics API".into());
        }
        Ok(pod_samples(&items))
    }

    /// A custom metric of one object; `resource` is where its kind stands, unless it is a namespace.
    pub async fn of_object(
        &self,
        namespace: &str,
        about: &Reference,
        resource: Option<&Resource>,
        metric: &str,
        metric_selector: &str,
    ) -> Result<i64, String> {
        let path = match resource {
            // Nobody measures another namespace than their own.
            None => format!("/namespaces/{namespace}/metrics/{}", segment(metric)),
            Some(r) => {
                let plural = match r.group.as_ref() {
                    "" => r.plural.to_string(),
                    group => format!("{}.{group}", r.plural),
                };
                format!("/namespaces/{namespace}/{plural}/{}/{}", segment(&about.name), segment(metric))
            }
        };
        let items = self.custom(&path, &[("metricLabelSelector", metric_selector)]).await?;
        match items.as_slice() {
            [one] => milli(&one["value"]).ok_or_else(|| "the custom metrics API told no value".to_owned()),
            all => Err(format!(
                "unable to fetch metrics from custom metrics API: the custom metrics API server returned {} results when we asked for exactly one",
                all.len()
            )),
        }
    }

    pub async fn external(&self, namespace: &str, metric: &str, selector: &str) -> Result<Vec<i64>, String> {
        let path = format!("/apis/{EXTERNAL}/v1beta1/namespaces/{namespace}/{}", segment(metric));
        let v = self.client.json(&path, &[("labelSelector", selector)]).await;
        let v = v.map_err(|e| format!("unable to fetch metrics from external metrics API: {e}"))?;
        let all: Vec<i64> =
            v["items"].as_array().into_iter().flatten().filter_map(|m| milli(&m["value"])).collect();
        if all.is_empty() {
            return Err("no metrics returned from external metrics API".into());
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn samples_of_a_resource() {
        let c = |name: &str, cpu: &str| json!({"name": name, "usage": {"cpu": cpu}});
        let m = |name: &str, containers: Value| json!({"metadata": {"name": name}, "timestamp": "1970-01-01T00:00:09Z", "window": "15.5s", "containers": containers});
        let items = [
            m("two", json!([c("a", "100m"), c("b", "1500000n")])),
            m("one", json!([c("a", "1")])),
            m("none", json!([])),
            m("half", json!([c("a", "1"), {"name": "b", "usage": {}}])),
        ];
        let all = resource_samples(&items, "cpu", "");
        let value = |s: &Samples, name: &str| s.get(name).map(|s| s.value);
        assert_eq!((all.len(), value(&all, "two"), value(&all, "one")), (2, Some(102), Some(1000)));
        let s = all.get("two").copied().expect("a sample");
        assert_eq!((s.window, s.at.as_second()), (Duration::from_millis(15_500), 9));
        let b = resource_samples(&items, "cpu", "b");
        assert_eq!((b.len(), value(&b, "two")), (1, Some(2)));
        assert!(resource_samples(&items, "memory", "").is_empty());
    }

    #[test]
    fn samples_of_pods() {
        let m = |name: &str, more: Value| {
            let mut v = json!({"describedObject": {"name": name}, "value": "20"});
            v.as_object_mut().expect("object").extend(more.as_object().cloned().unwrap_or_default());
            v
        };
        let items =
            [m("a", json!({})), m("b", json!({"windowSeconds": 5})), m("c", json!({"window": 7})), json!({})];
        let all = pod_samples(&items);
        let windows: Vec<u64> = all.values().map(|s| s.window.as_secs()).collect();
        assert_eq!((windows, all.values().all(|s| s.value == 20_000)), (vec![60, 5, 7], true));
    }
}
