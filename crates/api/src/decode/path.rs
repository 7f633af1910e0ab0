//! Where the decoder stands, as a list on the call stack; text is made only when something is wrong.

#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Field(&'a str),
    Key(&'a str),
    Index(usize),
}

pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Option<Step<'a>>,
}

impl<'a> Path<'a> {
    pub(super) const ROOT: Path<'static> = Path { parent: None, step: None };

    pub(super) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    pub(super) fn push(&'a self, step: Step<'a>) -> Path<'a> {
        Path { parent: Some(self), step: Some(step) }
    }

    fn steps(&self) -> Vec<Step<'_>> {
        let mut out = Vec::new();
        let mut at = Some(self);
        while let Some(p) = at {
            out.extend(p.step);
            at = p.parent;
        }
        out.reverse();
        out
    }

    /// `spec.containers[0].name`, with `last` appended when it is not empty.
    pub(super) fn full(&self, last: &str) -> String {
        let mut s = String::new();
        let dot = |s: &mut String, name: &str| {
            if !s.is_empty() {
                s.push('.');
            }
            s.push_str(name);
        };
        for step in self.steps() {
            match step {
                Step::Field(n) | Step::Key(n) => dot(&mut s, n),
                Step::Index(i) => s.push_str(&format!("[{i}]")),
            }
        }
        if !last.is_empty() {
            dot(&mut s, last);
        }
        s
    }

    /// Struct fields only, as Go's type errors name the place.
    pub(super) fn fields(&self) -> String {
        let names: Vec<&str> = self
            .steps()
            .into_iter()
            .filter_map(|s| match s {
                Step::Field(n) => Some(n),
                _ => None,
            })
            .collect();
        names.join(".")
    }
}
