//! Conflicts of an apply, in upstream's words.

use super::element::{Path, path_text};
use super::managers::{ManagerId, Operation};
use crate::gofmt::q;

/// A field the applier wants to change that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub manager: ManagerId,
    pub path: Path,
}

/// At least one conflict; grouped by manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

fn who(m: &ManagerId) -> String {
    let mut out = q(&m.manager);
    if !m.subresource.is_empty() {
        out += &format!(" with subresource {}", q(&m.subresource));
    }
    if m.operation == Operation::Update {
        out += &format!(" using {}", m.api_version);
    }
    out
}

impl std::fmt::Display for Conflicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [only] = self.0.as_slice() {
            let path = path_text(&only.path);
            return write!(f, "Apply failed with 1 conflict: conflict with {}: {path}", who(&only.manager));
        }
        write!(f, "Apply failed with {} conflicts: ", self.0.len())?;
        let mut last: Option<&ManagerId> = None;
        for c in &self.0 {
            if last != Some(&c.manager) {
                let gap = if last.is_some() { "\n" } else { "" };
                write!(f, "{gap}conflicts with {}:", who(&c.manager))?;
                last = Some(&c.manager);
            }
            write!(f, "\n- {}", path_text(&c.path))?;
        }
        Ok(())
    }
}

impl From<&Conflicts> for api::Status {
    fn from(c: &Conflicts) -> Self {
        let mut s = api::Status::new(api::Reason::Conflict, c.to_string());
        s.causes =
            c.0.iter()
                .map(|c| api::Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", who(&c.manager)),
                    field: path_text(&c.path),
                })
                .collect();
        s
    }
}
