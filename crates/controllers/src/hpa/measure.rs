//! What one metric of an autoscaler asks for: its figures read, the calculation made, and its part of the status.

use api::Object;
use api::quantity::{Format, Quantity};
use api::selector::LabelSelector;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Settings;
use super::calc::{self, Case, Timing, Tolerances, Wanted};
use super::metrics::Metrics;
use super::pods::{facts, requests};
use super::target::{Scale, Targets};
use super::view::{Custom, Metric, Reference, Resource, Spec, milli};

/// What one autoscaler is measured by.
pub struct Measure<'a> {
    pub metrics: &'a Metrics,
    pub targets: &'a Targets,
    pub settings: Settings,
    pub namespace: &'a str,
    pub spec: &'a Spec,
    pub scale: &'a Scale,
    /// Those that the target's selector names.
    pub pods: &'a [Object],
    pub now: Timestamp,
}

/// What a metric proposes.
pub struct Proposal {
    pub replicas: i32,
    /// For the reason of a change.
    pub name: String,
    /// For `currentMetrics`.
    pub status: Value,
}

/// What is wrong, and the reason of the event and the condition that tell it.
pub struct Failure {
    pub reason: &'static str,
    /// As it stands in the condition and the first event.
    pub told: String,
    /// With what was attempted before it.
    pub whole: String,
}

fn quantity(milli: i64, format: Format) -> Value {
    json!(Quantity::from_milli(milli, format).to_string())
}

/// A selector's text; everything where there is none, nothing where it can't be read.
fn selector(v: &Value) -> Result<String, String> {
    match v {
        Value::Null => Ok(String::new()),
        v => LabelSelector::from_value(v).map(|s| s.to_string()).map_err(|e| e.to_string()),
    }
}

/// A selector as upstream's messages show it.
fn shown(v: &Value) -> String {
    if v.is_null() {
        return "nil".into();
    }
    let pairs: String = v["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}: {},", v.as_str().unwrap_or_default()))
        .collect();
    let one = |e: &Value| {
        let text = |f: &str| e[f].as_str().unwrap_or_default().to_owned();
        let values: Vec<&str> =
            e["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
            text("key"),
            text("operator"),
            values.join(" ")
        )
    };
    let expressions: String = v["matchExpressions"].as_array().into_iter().flatten().map(one).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{pairs}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn identifier(c: &Custom) -> Value {
    let mut v = json!({"name": c.metric.name});
    if !c.metric.selector.is_null() {
        v["selector"] = c.metric.selector.clone();
    }
    v
}

impl Measure<'_> {
    pub async fn one(&self, m: &Metric) -> Result<Proposal, Failure> {
        match m.r#type.as_str() {
            "Resource" => {
                let r = m.resource.clone().unwrap_or_default();
                let got = self.resource(&r, "").await.map(|(p, current)| Proposal {
                    status: json!({"type": "Resource", "resource": {"name": r.name, "current": current}}),
                    ..p
                });
                let what = format!("failed to get {} resource metric value", r.name);
                got.map_err(|told| failure("FailedGetResourceMetric", &what, told))
            }
            "ContainerResource" => {
                let r = m.container_resource.clone().unwrap_or_default();
                let got = self.resource(&r, &r.container).await.map(|(p, current)| Proposal {
                    status: json!({"type": "ContainerResource",
                        "containerResource": {"name": r.name, "container": r.container, "current": current}}),
                    ..p
                });
                let what = format!("failed to get {} container metric value", r.container);
                got.map_err(|told| failure("FailedGetContainerResourceMetric", &what, told))
            }
            "Pods" => {
                let c = m.pods.clone().unwrap_or_default();
                let got = self.of_pods(&c).await;
                got.map_err(|told| failure("FailedGetPodsMetric", "failed to get pods metric value", told))
            }
            "Object" => {
                let c = m.object.clone().unwrap_or_default();
                let got = self.of_object(&c).await;
                got.map_err(|told| {
                    failure("FailedGetObjectMetric", "failed to get object metric value", told)
                })
            }
            "External" => {
                let c = m.external.clone().unwrap_or_default();
                let what = format!("failed to get {} external metric value", c.metric.name);
                let got = self.external(&c).await;
                got.map_err(|told| failure("FailedGetExternalMetric", &what, told))
            }
            other => {
                let told = format!("unknown metric source type \"{other}\"");
                Err(Failure { reason: "InvalidMetricSourceType", whole: told.clone(), told })
            }
        }
    }

    fn tolerances(&self) -> Tolerances {
        let own = |up: bool| {
            let b = self.spec.behavior.as_ref()?;
            if up { b.scale_up.tolerance() } else { b.scale_down.tolerance() }
        };
        let usual = self.settings.tolerance;
        Tolerances { down: own(false).unwrap_or(usual), up: own(true).unwrap_or(usual) }
    }

    /// Runs a calculation over the pods.
    fn over_pods(
        &self,
        calculate: impl FnOnce(&Case<'_>, &[Value]) -> Result<Wanted, String>,
    ) -> Result<Wanted, String> {
        let values = self.pods.iter().map(Object::value).collect::<Result<Vec<_>, _>>();
        let values = values.map_err(|e| e.to_string())?;
        let pods: Vec<_> = values.iter().map(facts).collect();
        let timing = Timing {
            cpu_initialization: self.settings.cpu_initialization,
            initial_readiness: self.settings.initial_readiness,
        };
        let case = Case {
            replicas: self.scale.replicas(),
            pods: &pods,
            tolerances: self.tolerances(),
            timing,
            now: self.now,
        };
        calculate(&case, &values)
    }

    /// The proposal without a status, and the current value.
    async fn resource(&self, r: &Resource, container: &str) -> Result<(Proposal, Value), String> {
        let name = &r.name;
        let format = if name == "memory" { Format::BinarySI } else { Format::DecimalSI };
        let cpu = name == "cpu";
        let measured = self.metrics.resource(self.namespace, self.scale.selector(), name, container).await;
        let measured = measured.map_err(|e| format!("unable to get metrics for resource {name}: {e}"));
        if let Some(target) = milli(r.target.average_value.as_ref()) {
            let w = measured.and_then(|s| self.over_pods(|case, _| calc::by_average(case, s, cpu, target)));
            let w = w.map_err(|e| format!("failed to get {name} usage: {e}"))?;
            let p = Proposal { replicas: w.replicas, name: format!("{name} resource"), status: Value::Null };
            return Ok((p, json!({"averageValue": quantity(w.usage, format)})));
        }
        let Some(target) = r.target.average_utilization else {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".into());
        };
        let w = measured.and_then(|s| {
            self.over_pods(|case, pods| {
                calc::by_utilization(case, s, cpu, target, || requests(pods, container, name))
            })
        });
        let w = w.map_err(|e| format!("failed to get {name} utilization: {e}"))?;
        let of = if container.is_empty() { "resource" } else { "container resource" };
        let p = Proposal {
            replicas: w.replicas,
            name: format!("{name} {of} utilization (percentage of request)"),
            status: Value::Null,
        };
        let current =
            json!({"averageUtilization": w.percent.unwrap_or(0), "averageValue": quantity(w.usage, format)});
        Ok((p, current))
    }

    async fn of_pods(&self, c: &Custom) -> Result<Proposal, String> {
        let name = &c.metric.name;
        let target = milli(c.target.average_value.as_ref()).unwrap_or(0);
        let by = selector(&c.metric.selector)?;
        let samples = self.metrics.of_pods(self.namespace, self.scale.selector(), name, &by).await;
        let samples = samples.map_err(|e| format!("unable to get metric {name}: {e}"))?;
        let w = self.over_pods(|case, _| calc::by_average(case, samples, false, target))?;
        Ok(Proposal {
            replicas: w.replicas,
            name: format!("pods metric {name}"),
            status: json!({"type": "Pods", "pods": {"metric": identifier(c),
                "current": {"averageValue": quantity(w.usage, Format::DecimalSI)}}}),
        })
    }

    async fn object_value(&self, c: &Custom, by: &str) -> Result<i64, String> {
        let about: Reference = serde_json::from_value(c.described_object.clone()).unwrap_or_default();
        let (name, ns) = (&c.metric.name, self.namespace);
        let value = async {
            let resource = match (about.kind.as_str(), about.group()) {
                ("Namespace", "") => None,
                _ => {
                    let found = self.targets.resource(&about).await.map_err(|e| {
                        let kind = match about.group() {
                            "" => about.kind.clone(),
                            group => format!("{}.{group}", about.kind),
                        };
                        format!("unable to fetch metrics from custom metrics API: unable to map kind {kind} to resource: {e}")
                    })?;
                    Some(found)
                }
            };
            self.metrics.of_object(ns, &about, resource.as_ref(), name, by).await
        };
        let value = value.await;
        value.map_err(|e| format!("unable to get metric {name} on {} {ns}/{}: {e}", about.kind, about.name))
    }

    async fn of_object(&self, c: &Custom) -> Result<Proposal, String> {
        let name = &c.metric.name;
        let by = selector(&c.metric.selector)?;
        let status = |current: Value| {
            json!({"type": "Object", "object": {"describedObject": c.described_object, "metric": identifier(c),
                "current": current}})
        };
        let kind = c.target.r#type.as_str();
        if let Some(target) = milli(c.target.value.as_ref()).filter(|_| kind == "Value") {
            let usage = self.object_value(c, &by).await?;
            let w = self.over_pods(|case, _| calc::by_value(case, usage, target))?;
            let about = c.described_object["kind"].as_str().unwrap_or_default();
            return Ok(Proposal {
                replicas: w.replicas,
                name: format!("{about} metric {name}"),
                status: status(json!({"value": quantity(w.usage, Format::DecimalSI)})),
            });
        }
        if let Some(target) = milli(c.target.average_value.as_ref()).filter(|_| kind == "AverageValue") {
            let usage = self.object_value(c, &by).await;
            let usage = usage.map_err(|e| format!("failed to get {name} object metric: {e}"))?;
            let w = calc::by_share(self.scale.status_replicas(), self.tolerances(), usage, target);
            return Ok(Proposal {
                replicas: w.replicas,
                name: format!("external metric {name}({})", shown(&c.metric.selector)),
                status: status(json!({"averageValue": quantity(w.usage, Format::DecimalSI)})),
            });
        }
        Err("invalid object metric source: neither a value target nor an average value target was set".into())
    }

    async fn external(&self, c: &Custom) -> Result<Proposal, String> {
        let name = &c.metric.name;
        let by = selector(&c.metric.selector)?;
        let status = |current: Value| json!({"type": "External", "external": {"metric": identifier(c), "current": current}});
        let shown = shown(&c.metric.selector);
        let sum = async {
            let all = self.metrics.external(self.namespace, name, &by).await;
            all.map(|all| calc::sum(&all))
                .map_err(|e| format!("unable to get external metric {}/{name}/{shown}: {e}", self.namespace))
        };
        let named = format!("external metric {name}({shown})");
        if let Some(target) = milli(c.target.average_value.as_ref()) {
            let usage = sum.await.map_err(|e| format!("failed to get {name} external metric: {e}"))?;
            let w = calc::by_share(self.scale.status_replicas(), self.tolerances(), usage, target);
            let current = json!({"averageValue": quantity(w.usage, Format::DecimalSI)});
            return Ok(Proposal { replicas: w.replicas, name: named, status: status(current) });
        }
        if let Some(target) = milli(c.target.value.as_ref()) {
            let usage = sum.await;
            let w = usage.and_then(|u| self.over_pods(|case, _| calc::by_value(case, u, target)));
            let w = w.map_err(|e| format!("failed to get external metric {name}: {e}"))?;
            let current = json!({"value": quantity(w.usage, Format::DecimalSI)});
            return Ok(Proposal { replicas: w.replicas, name: named, status: status(current) });
        }
        Err("invalid external metric source: neither a value target nor an average value target was set"
            .into())
    }
}

fn failure(reason: &'static str, what: &str, told: String) -> Failure {
    Failure { reason, whole: format!("{what}: {told}"), told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_in_messages() {
        assert_eq!(shown(&Value::Null), "nil");
        let v = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]});
        assert_eq!(
            shown(&v),
            "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
        );
        assert_eq!(selector(&v).as_deref(), Ok("a=b,k in (x,y)"));
        assert_eq!(selector(&Value::Null).as_deref(), Ok(""));
    }
}
