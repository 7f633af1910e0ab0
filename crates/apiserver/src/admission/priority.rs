//! Priority: a pod's class becomes its number and its preemption policy; one class at most is everybody's default.

use api::Status;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::json::{object, put, text};
use super::{Context, Operation, Plugin, Request};

const GROUP: &str = "scheduling.k8s.io";

pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, r: &Request<'_>) -> bool {
        r.subresource.is_empty()
            && matches!(r.operation, Operation::Create | Operation::Update)
            && (r.is_pod() || r.is(GROUP, "priorityclasses"))
    }

    async fn admit(&self, cx: &Context, r: &mut Request<'_>) -> Result<(), Status> {
        if !r.is_pod() {
            return Ok(());
        }
        if r.operation == Operation::Update {
            // Set at creation and kept: a client that doesn't know the fields must not lose them.
            for field in ["priority", "preemptionPolicy"] {
                let old = r.old.map(|o| o["spec"][field].clone()).unwrap_or_default();
                if r.object["spec"][field].is_null() && !old.is_null() {
                    put(&mut r.object, &["spec", field], old);
                }
            }
            return Ok(());
        }
        let name = text(&r.object["spec"], "priorityClassName").to_owned();
        let class = if name.is_empty() {
            default_class(cx).await?
        } else {
            match cx.reader.get(GROUP, "priorityclasses", "", &name).await? {
                Some(c) => Some(c.value().map_err(Status::internal)?),
                None => return Err(r.forbidden(format!("no PriorityClass with name {name} was found"))),
            }
        };
        let chosen = Chosen::from(class.as_ref());
        chosen.apply(r)
    }

    async fn validate(&self, cx: &Context, r: &Request<'_>) -> Result<(), Status> {
        if r.is_pod() || r.object["globalDefault"] != true {
            return Ok(());
        }
        if let Some(other) = default_class(cx).await? {
            let name = text(&other["metadata"], "name");
            if r.operation == Operation::Create || name != r.object_name() {
                return Err(r.forbidden(format!(
                    "PriorityClass {name} is already marked as default. Only one default can exist"
                )));
            }
        }
        Ok(())
    }
}

/// Of several by a race, the lowest.
async fn default_class(cx: &Context) -> Result<Option<Value>, Status> {
    let all = cx.reader.list(GROUP, "priorityclasses", "").await?;
    let marked = all.iter().filter_map(|o| o.value().ok()).filter(|v| v["globalDefault"] == true);
    Ok(marked.min_by_key(|v| v["value"].as_i64().unwrap_or(0)))
}

struct Chosen {
    class: Option<String>,
    value: i64,
    preemption: String,
}

impl Chosen {
    fn from(class: Option<&Value>) -> Self {
        let policy = class.map(|c| text(c, "preemptionPolicy")).filter(|p| !p.is_empty());
        Self {
            class: class.map(|c| text(&c["metadata"], "name").to_owned()),
            value: class.and_then(|c| c["value"].as_i64()).unwrap_or(0),
            preemption: policy.unwrap_or("PreemptLowerPriority").to_owned(),
        }
    }

    fn apply(self, r: &mut Request<'_>) -> Result<(), Status> {
        let spec = &r.object["spec"];
        if let Some(given) = spec["priority"].as_i64().filter(|p| *p != self.value) {
            return Err(r.forbidden(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
                 computed {} from the given PriorityClass name",
                self.value
            )));
        }
        let given = text(spec, "preemptionPolicy");
        if !given.is_empty() && given != self.preemption {
            return Err(r.forbidden(format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
                 controller computed {} from the given PriorityClass name",
                self.preemption
            )));
        }
        let spec = object(object(&mut r.object).entry("spec").or_insert(Value::Null));
        spec.insert("priority".into(), json!(self.value));
        spec.insert("preemptionPolicy".into(), json!(self.preemption));
        if let Some(c) = self.class {
            spec.insert("priorityClassName".into(), json!(c));
        }
        Ok(())
    }
}
