//! get and list of `NodeMetrics` and `PodMetrics`: the objects they are about are selected, and told of if anything is
//! known of them.

use api::{Object, Status};
use client::{ObjectList, clock};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::points::{Points, Usage};
use crate::body::Reply;
use crate::call::Call;
use crate::handlers::{Target, output, read};
use crate::server::ApiServer;

pub async fn get(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let (ns, name) = (call.namespace(), call.name());
    let object = s.reader().get("", &target.kind.plural, ns, name).await?;
    s.resource_metrics.ask().await;
    let metrics = object.and_then(|o| of(&s.resource_metrics.points.read(), target, &o, clock::now()));
    let full = if ns.is_empty() { name.to_owned() } else { format!("{ns}/{name}") };
    // The metrics-server calls them by their kind here.
    let missing = || Status::not_found(&target.kind.group, &target.kind.kind.to_lowercase(), &full);
    let metrics = metrics.ok_or_else(missing)?;
    let o = Object::from_value(metrics, 0).map_err(Status::internal)?;
    output::object(s, call, target, o, StatusCode::OK).await
}

pub async fn list(s: &ApiServer, call: &Call, target: &Target) -> Result<Reply, Status> {
    let filter = read::filter(call, target)?;
    s.resource_metrics.ask().await;
    let ns = if target.kind.namespaced { call.namespace() } else { "" };
    let objects = s.reader().list("", &target.kind.plural, ns).await?;
    let now = clock::now();
    let items = {
        let points = s.resource_metrics.points.read();
        let selected = objects.iter().filter(|o| filter.selects_meta(o.meta()));
        selected
            .filter_map(|o| of(&points, target, o, now))
            .map(|v| Object::from_value(v, 0).map_err(Status::internal))
            .collect::<Result<Vec<_>, _>>()?
    };
    let list = ObjectList { items, revision: s.storage.revision(), ..ObjectList::default() };
    output::list(s, call, target, list).await
}

/// What is known of an object.
fn of(points: &Points, target: &Target, o: &Object, now: Timestamp) -> Option<Value> {
    let mut v = json!({"kind": target.kind.kind, "apiVersion": target.api_version(),
        "metadata": {"name": o.name(), "creationTimestamp": clock::rfc3339(now)}});
    let labels = &o.meta().labels;
    if labels.iter().next().is_some() {
        let all = labels.iter().map(|(k, v)| (k.to_owned(), json!(v)));
        v["metadata"]["labels"] = Value::Object(all.collect());
    }
    let measured = if target.kind.namespaced {
        v["metadata"]["namespace"] = json!(o.namespace());
        let containers = points.pod(&(o.namespace().to_owned(), o.name().to_owned()))?;
        let one = |(name, u): &(String, Usage)| json!({"name": name, "usage": usage(u)});
        v["containers"] = containers.iter().map(one).collect();
        containers.into_iter().map(|(_, u)| u).min_by_key(|u| u.at_ms)?
    } else {
        let u = points.node(o.name())?;
        v["usage"] = usage(&u);
        u
    };
    let at = Timestamp::from_millisecond(measured.at_ms).unwrap_or(now);
    v["timestamp"] = json!(clock::rfc3339(at));
    v["window"] = json!(api::time::go_duration(measured.window_ms.saturating_mul(1_000_000)));
    Some(v)
}

fn usage(u: &Usage) -> Value {
    let canonical = |q: String| api::quantity::canonical(&q).unwrap_or(q);
    let memory = match u.memory % 1024 {
        0 => canonical(format!("{}Ki", u.memory / 1024)),
        _ => u.memory.to_string(),
    };
    json!({"cpu": canonical(format!("{}n", u.nano_cores)), "memory": memory})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        let of = |nano_cores, memory| usage(&Usage { at_ms: 0, window_ms: 1, nano_cores, memory });
        assert_eq!(of(1_234_567, 4096), json!({"cpu": "1234567n", "memory": "4Ki"}));
        assert_eq!(of(2_000_000_000, 1000), json!({"cpu": "2", "memory": "1000"}));
        assert_eq!(of(0, 0), json!({"cpu": "0", "memory": "0"}));
    }
}
