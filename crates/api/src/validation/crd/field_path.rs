//! Paths into objects as definitions write them (`.spec.size`, `['a.b']`), followed through a schema.

use serde_json::Value;

/// One step of a path that a schema knows: a property, or any key of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Child(String),
    Key(String),
}

/// Puts a path's steps after a place.
pub fn below(place: String, steps: &[Step]) -> String {
    steps.iter().fold(place, |p, s| match s {
        Step::Child(f) if p.is_empty() => f.clone(),
        Step::Child(f) => format!("{p}.{f}"),
        Step::Key(k) => format!("{p}[{k}]"),
    })
}

/// The delimiters `.`, `[` and `]`, quoted texts, and what stands between them.
fn tokens(path: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let bytes = rest.as_bytes();
        let end = match bytes[0] {
            b'\'' => (1..bytes.len())
                .find(|i| bytes[*i] == b'\'' && bytes[i - 1] != b'\\')
                .map_or(bytes.len(), |i| i + 1),
            b'.' | b'[' | b']' => 1,
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(end);
        out.push(token);
        rest = after;
    }
    out
}

/// The steps of a path and the schema at its end. `brackets`: `['a.b']` is allowed.
pub fn follow<'s>(path: &str, schema: &'s Value, brackets: bool) -> Result<(Vec<Step>, &'s Value), String> {
    let (mut steps, mut at) = (Vec::new(), schema);
    let mut tokens = tokens(path).into_iter();
    let ended = || "unexpected end of JSON path".to_owned();
    while let Some(token) = tokens.next() {
        let name = match token {
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => {
                let quoted = tokens.next().ok_or_else(ended)?;
                let inner = quoted.strip_prefix('\'').and_then(|q| q.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                inner.replace("\\'", "'")
            }
            "." => tokens.next().ok_or_else(ended)?.to_owned(),
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let unknown = || "does not refer to a valid field".to_owned();
        let properties = at["properties"].as_object().filter(|p| !p.is_empty());
        at = match properties {
            Some(p) => {
                let next = p.get(&name).ok_or_else(unknown)?;
                steps.push(Step::Child(name));
                next
            }
            None => {
                let next = at.get("additionalProperties").filter(|a| a.is_object()).ok_or_else(unknown)?;
                steps.push(Step::Key(name));
                next
            }
        };
        if token == "[" {
            match tokens.next() {
                Some("]") => {}
                Some(other) => return Err(format!("expected ] but got {other}")),
                None => return Err(ended()),
            }
        }
    }
    Ok((steps, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_is_followed() {
        let s = json!({"properties": {"a": {"properties": {"b.c": {"type": "string"}}}, "m": {"additionalProperties": {"type": "integer"}}}});
        let all = [
            (".a['b.c']", Ok("a.b.c")),
            (".m.x", Ok("m[x]")),
            ("['m']['x']", Ok("m[x]")),
            (".a.nope", Err("does not refer to a valid field")),
            (".m.x.y", Err("does not refer to a valid field")),
            ("a", Err("expected [ or . but got: a")),
            (".", Err("unexpected end of JSON path")),
            (".a[b]", Err("expected single quoted string but got b")),
            (".a['b.c'", Err("unexpected end of JSON path")),
        ];
        for (path, wanted) in all {
            let got = follow(path, &s, true).map(|(steps, _)| below(String::new(), &steps));
            assert_eq!(got, wanted.map(str::to_owned).map_err(str::to_owned), "{path}");
        }
        assert_eq!(follow(".a['b.c']", &s, false).unwrap_err(), "array notation is not allowed");
    }
}
