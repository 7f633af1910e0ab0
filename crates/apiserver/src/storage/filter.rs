//! Which objects of a collection a request is about: label selector, field selector, name. Pure.

use std::sync::Arc;

use api::catalog::Descriptor;
use api::selector::{FieldOp, FieldSelector, LabelSelector};
use api::{Mark, Object, Status};
use store::Record;

use super::{object_of, parsed};

/// A compiled pair of selectors over one kind.
#[derive(Clone)]
pub struct Filter {
    kind: Arc<Descriptor>,
    labels: Option<LabelSelector>,
    /// Label, wanted value, equal or not.
    fields: Vec<(String, String, bool)>,
}

impl Filter {
    /// Selectors of a request for `version`.
    pub fn new(
        kind: &Arc<Descriptor>,
        version: &str,
        label_selector: &str,
        field_selector: &str,
    ) -> Result<Self, Status> {
        let labels = match label_selector {
            "" => None,
            s => Some(LabelSelector::parse(s).map_err(|e| Status::bad_request(e.to_string()))?),
        };
        let mut fields = Vec::new();
        if !field_selector.is_empty() {
            let parsed =
                FieldSelector::parse(field_selector).map_err(|e| Status::bad_request(e.to_string()))?;
            for t in &parsed.requirements {
                let f = kind.selectable(version, &t.field).map_err(|e| Status::bad_request(e.to_string()))?;
                fields.push((f.label.clone(), t.value.clone(), t.op == FieldOp::Equals));
            }
        }
        Ok(Self { kind: kind.clone(), labels, fields })
    }

    pub fn everything(kind: &Arc<Descriptor>) -> Self {
        Self { kind: kind.clone(), labels: None, fields: Vec::new() }
    }

    /// Takes out the conditions that only a converted object can meet: a webhook of the definition makes other fields
    /// of what is stored.
    pub fn take_shown(&mut self) -> Option<Shown> {
        self.kind.converter.as_ref()?;
        let stored;
        (stored, self.fields) =
            std::mem::take(&mut self.fields).into_iter().partition(|(l, ..)| l.starts_with("metadata."));
        let fields = std::mem::replace(&mut self.fields, stored);
        (!fields.is_empty()).then(|| Shown { kind: self.kind.clone(), fields })
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_empty()
    }

    /// What all selected objects have, for a read that passes over those who have not.
    pub fn marks(&self) -> u64 {
        self.labels.as_ref().map_or(Mark::default(), |l| Mark::asked_by(l.requirements())).0
    }

    /// Names one object: the list is a lookup.
    pub fn single_name(&self) -> Option<&str> {
        self.fields.iter().find(|(l, _, eq)| *eq && l == "metadata.name").map(|(_, v, _)| v.as_str())
    }

    /// By labels, name and namespace alone.
    pub fn selects_meta(&self, m: &api::Meta) -> bool {
        let field = |label: &str| match label {
            "metadata.name" => m.name(),
            "metadata.namespace" => m.namespace(),
            _ => "",
        };
        self.labels.as_ref().is_none_or(|l| l.matches(&m.labels))
            && self.fields.iter().all(|(label, want, equal)| (field(label) == want) == *equal)
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
                "metadata.name" => p.meta.name() == *want,
                "metadata.namespace" => p.meta.namespace() == *want,
                l => p.fields.is(&self.kind, &record.value, l, want),
            };
            if is != *equal {
                return Ok(None);
            }
        }
        Ok(Some(object_of(record, p)))
    }
}

/// Conditions on the fields of objects as they are shown.
#[derive(Clone)]
pub struct Shown {
    kind: Arc<Descriptor>,
    fields: Vec<(String, String, bool)>,
}

impl Shown {
    pub fn selects(&self, o: &Object) -> Result<bool, Status> {
        let v = o.value().map_err(Status::internal)?;
        Ok(self.fields.iter().all(|(label, want, equal)| {
            let is = self.kind.selectable_fields.iter().any(|f| f.label == *label && f.value(&v) == *want);
            is == *equal
        }))
    }
}
