//! What the families find: causes with their evidence and what would help, and the report made of them.

use serde_json::{Value, json};

use crate::facts::Thing;

/// How near to the root a cause is; the smallest is named first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Something is missing, refused or broken, and this is it.
    Root,
    /// The state that holds the thing up; what is behind it may be elsewhere.
    State,
    /// What follows from another cause.
    Symptom,
    /// Worth knowing; nothing is held up by it alone.
    Note,
}

/// Where it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// `pod/web`, `event/Failed`.
    pub object: String,
    pub field: String,
    pub value: String,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Help {
    pub text: String,
    pub command: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// For machines; never changes its meaning.
    pub code: &'static str,
    pub weight: Weight,
    /// One sentence, without the thing's name and the full stop.
    pub says: String,
    pub evidence: Vec<Evidence>,
    pub help: Vec<Help>,
    /// The things below the one asked about that it holds up.
    pub affects: Vec<String>,
}

impl Cause {
    pub fn new(code: &'static str, weight: Weight, says: impl Into<String>) -> Self {
        Self { code, weight, says: says.into(), evidence: vec![], help: vec![], affects: vec![] }
    }

    pub fn root(code: &'static str, says: impl Into<String>) -> Self {
        Self::new(code, Weight::Root, says)
    }

    pub fn state(code: &'static str, says: impl Into<String>) -> Self {
        Self::new(code, Weight::State, says)
    }

    /// A field of a thing, and its value.
    pub fn seen(mut self, thing: &Thing, field: &str, value: impl Into<String>) -> Self {
        let e = Evidence { object: thing.id(), field: field.to_owned(), value: value.into() };
        if !self.evidence.contains(&e) {
            self.evidence.push(e);
        }
        self
    }

    /// What an event said.
    pub fn event(mut self, event: Option<&Thing>) -> Self {
        if let Some(e) = event {
            let (reason, message) = (e.text("/reason"), e.text("/message"));
            let object = format!("event/{reason}");
            let found = Evidence { object, field: "message".into(), value: message.trim_end().to_owned() };
            if !self.evidence.contains(&found) {
                self.evidence.push(found);
            }
        }
        self
    }

    /// In words.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(Help { text: text.into(), command: None });
        self
    }

    pub fn run(mut self, text: impl Into<String>, command: impl Into<String>) -> Self {
        self.help.push(Help { text: text.into(), command: Some(command.into()) });
        self
    }

    fn to_json(&self) -> Value {
        let evidence: Vec<Value> = self
            .evidence
            .iter()
            .map(|e| json!({"object": e.object, "field": e.field, "value": e.value}))
            .collect();
        let help: Vec<Value> = self
            .help
            .iter()
            .map(|h| match &h.command {
                Some(c) => json!({"text": h.text, "command": c}),
                None => json!({"text": h.text}),
            })
            .collect();
        let weight = match self.weight {
            Weight::Root => "root",
            Weight::State => "state",
            Weight::Symptom => "symptom",
            Weight::Note => "note",
        };
        json!({"code": self.code, "weight": weight, "cause": self.says, "affects": self.affects,
            "evidence": evidence, "help": help})
    }
}

/// One thing and its causes, the nearest to the root first; none: it does what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub causes: Vec<Cause>,
}

impl Finding {
    /// Something is wrong, not just worth knowing.
    pub fn is_broken(&self) -> bool {
        self.causes.iter().any(|c| c.weight != Weight::Note)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// What could not be read, and why.
    pub unread: Vec<(String, String)>,
}

impl Report {
    pub fn to_json(&self) -> Value {
        let finding = |f: &Finding| {
            let causes: Vec<Value> = f.causes.iter().map(Cause::to_json).collect();
            json!({"kind": f.kind, "namespace": f.namespace, "name": f.name, "ok": !f.is_broken(), "causes": causes})
        };
        let unread: Vec<Value> =
            self.unread.iter().map(|(what, why)| json!({"resource": what, "why": why})).collect();
        json!({"findings": self.findings.iter().map(finding).collect::<Vec<_>>(), "unread": unread})
    }
}
