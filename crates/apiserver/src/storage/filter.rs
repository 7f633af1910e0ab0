//! Which objects of a collection a request is about: label selector, field selector, name. Pure.

use std::sync::Arc;

use api::catalog::Descriptor;
use api::selector::{FieldOp, FieldSelector, LabelSelector};
use api::{Object, Status};
use store::Record;

use super::{object, parsed};

/// A compiled pair of selectors over one kind.
#[derive(Clone)]
pub struct Filter {
    kind: Arc<Descriptor>,
    labels: Option<LabelSelector>,
    /// Label, wanted value, equal or not.
    fields: Vec<(String, String, bool)>,
}

impl Filter {
    pub fn new(kind: &Arc<Descriptor>, label_selector: &str, field_selector: &str) -> Result<Self, Status> {
        let labels = match label_selector {
            "" => None,
            s => Some(LabelSelector::parse(s).map_err(|e| Status::bad_request(e.to_string()))?),
        };
        let mut fields = Vec::new();
        if !field_selector.is_empty() {
            let parsed =
                FieldSelector::parse(field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
            for t in &parsed.requirements {
                let f = kind.selectable(&t.field).map_err(|e| Status::bad_request(e.to_string()))?;
                fields.push((f.label.clone(), t.value.clone(), t.op == FieldOp::Equals));
            }
        }
        Ok(Self { kind: kind.clone(), labels, fields })
    }

    pub fn everything(kind: &Arc<Descriptor>) -> Self {
        Self { kind: kind.clone(), labels: None, fields: Vec::new() }
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_empty()
    }

    /// Names one object: the list is a lookup.
    pub fn single_name(&self) -> Option<&str> {
        self.fields.iter().find(|(l, _, eq)| *eq && l == "metadata.name").map(|(_, v, _)| v.as_str())
    }

    /// The object, if it is selected. `record` must have a value.
    pub fn select(&self, record: &Record) -> Result<Option<Object>, Status> {
        let p = parsed(record)?;
        if let Some(l) = &self.labels
            && !l.matches(&p.meta.labels)
        {
            return Ok(None);
        }
        for (label, want, equal) in &self.fields {
            let is = match label.as_str() {
                "metadata.name" => p.meta.name == *want,
                "metadata.namespace" => p.meta.namespace == *want,
                l => p.fields.is(&self.kind, &record.value, l, want),
            };
            if is != *equal {
                return Ok(None);
            }
        }
        object(record).map(Some)
    }
}
