//! Field paths (`spec.containers[0].ports[1].name`, `metadata.labels[foo]`) as a chain of borrowed segments on the
//! stack: a path costs nothing until an error is written.

use std::fmt;

#[derive(Debug, Clone, Copy)]
enum Segment<'p> {
    Root,
    Field(&'p str),
    Index(usize),
    Key(&'p str),
}

/// One step of a path, pointing at its parent.
#[derive(Debug, Clone, Copy)]
pub struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    segment: Segment<'p>,
}

impl<'p> Path<'p> {
    pub const ROOT: Path<'static> = Path { parent: None, segment: Segment::Root };

    /// A path that starts with this field; it may hold dots.
    pub const fn new(field: &'p str) -> Path<'p> {
        Path { parent: None, segment: Segment::Field(field) }
    }
    pub const fn child<'q>(&'q self, field: &'q str) -> Path<'q>
    where
        'p: 'q,
    {
        Path { parent: Some(self), segment: Segment::Field(field) }
    }
    /// Another field of the same parent.
    pub const fn sibling(&self, field: &'p str) -> Path<'p> {
        Path { parent: self.parent, segment: Segment::Field(field) }
    }
    pub const fn index<'q>(&'q self, i: usize) -> Path<'q>
    where
        'p: 'q,
    {
        Path { parent: Some(self), segment: Segment::Index(i) }
    }
    pub const fn key<'q>(&'q self, key: &'q str) -> Path<'q>
    where
        'p: 'q,
    {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn write(p: &Path<'_>, f: &mut fmt::Formatter<'_>) -> Result<bool, fmt::Error> {
            let started = match p.parent {
                Some(parent) => write(parent, f)?,
                None => false,
            };
            match p.segment {
                Segment::Root => return Ok(started),
                Segment::Field(name) if started => write!(f, ".{name}")?,
                Segment::Field(name) => f.write_str(name)?,
                Segment::Index(i) => write!(f, "[{i}]")?,
                Segment::Key(k) => write!(f, "[{k}]")?,
            }
            Ok(true)
        }
        write(self, f).map(|_| ())
    }
}

/// Anything that names a place in an object.
pub trait Place {
    fn place(&self) -> String;
}
impl Place for Path<'_> {
    fn place(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_upstream_does() {
        let root = Path::ROOT;
        let spec = root.child("spec");
        let list = spec.child("containers");
        let c = list.index(0);
        assert_eq!(c.child("name").to_string(), "spec.containers[0].name");
        assert_eq!(Path::new("metadata.labels").key("a/b").to_string(), "metadata.labels[a/b]");
        assert_eq!(root.to_string(), "");
    }
}
