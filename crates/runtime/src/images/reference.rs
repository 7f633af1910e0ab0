//! Image names, normalised as Docker does: `busybox` is `docker.io/library/busybox:latest`. Pure.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid image name {name:?}: {why}")]
pub struct InvalidReference {
    pub name: String,
    pub why: &'static str,
}

/// `sha256:` and 64 hex digits.
pub fn is_digest(s: &str) -> bool {
    s.strip_prefix("sha256:")
        .is_some_and(|h| h.len() == 64 && h.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

impl Reference {
    pub fn parse(name: &str) -> Result<Self, InvalidReference> {
        let bad = |why| InvalidReference { name: name.to_string(), why };
        if name.is_empty() {
            return Err(bad("it is empty"));
        }
        let (rest, digest) = match name.split_once('@') {
            Some((r, d)) if is_digest(d) => (r, Some(d.to_string())),
            Some(_) => return Err(bad("the digest must be sha256 and 64 hex digits")),
            None => (name, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((p, t)) if !t.contains('/') => (p, Some(t)),
            _ => (rest, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((r, p)) if r.contains(['.', ':']) || r == "localhost" => (r, p.to_string()),
            _ => ("docker.io", path.to_string()),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let repository = match registry == "docker.io" && !repository.contains('/') {
            true => format!("library/{repository}"),
            false => repository,
        };
        if !repository.split('/').all(valid_component) {
            return Err(bad("a repository is lower-case letters, digits and single separators"));
        }
        let host = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
        if !registry.bytes().all(host) || registry.starts_with(['.', '-', ':']) {
            return Err(bad("the registry is no host name"));
        }
        if tag.is_some_and(|t| !valid_tag(t)) {
            return Err(bad("a tag is up to 128 letters, digits, '_', '.', '-'"));
        }
        let tag = tag.map(str::to_string).or_else(|| digest.is_none().then(|| "latest".to_string()));
        Ok(Reference { registry: registry.to_string(), repository, tag, digest })
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What to ask the registry for.
    pub fn selector(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.tag, &self.digest) {
            // The digest decides; a tag beside it is a comment.
            (_, Some(d)) => write!(f, "@{d}"),
            (Some(t), None) => write!(f, ":{t}"),
            (None, None) => Ok(()),
        }
    }
}

fn valid_component(c: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let b = c.as_bytes();
    let ends = b.first().copied().is_some_and(alnum) && b.last().copied().is_some_and(alnum);
    ends && b.iter().all(|b| alnum(*b) || b"._-".contains(b))
}

fn valid_tag(t: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    !t.is_empty() && t.len() <= 128 && t.bytes().all(ok) && !t.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let d = format!("sha256:{}", "a".repeat(64));
        for (given, want) in [
            ("busybox", "docker.io/library/busybox:latest".to_string()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".into()),
            ("a/b", "docker.io/a/b:latest".into()),
            ("localhost/x", "localhost/x:latest".into()),
            ("127.0.0.1:5000/x/y:v1", "127.0.0.1:5000/x/y:v1".into()),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10".into()),
            (&format!("r.io/x@{d}"), format!("r.io/x@{d}")),
            (&format!("r.io/x:1@{d}"), format!("r.io/x@{d}")),
            ("index.docker.io/library/x", "docker.io/library/x:latest".into()),
        ] {
            assert_eq!(Reference::parse(given).unwrap().to_string(), want, "{given}");
        }
        for bad in ["", "UPPER", "a b", "x:", "x@sha256:12", "a//b", "../x", "x:-a", "-a", "a/../b"] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }
}
