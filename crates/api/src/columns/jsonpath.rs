//! The part of JSONPath that printer columns and selectable fields use: fields, quoted fields, indexes, `[*]`, and
//! filters on equality (`[?(@.type=="Ready")]`).

use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter { path: JsonPath, equals: bool, value: Value },
}

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// The text is no path that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON path {0:?}")]
pub struct JsonPathError(pub String);

impl JsonPath {
    /// `.spec.replicas`, also in braces.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        parse(inner.strip_prefix('$').unwrap_or(inner)).ok_or_else(|| JsonPathError(text.into()))
    }

    /// What stands at the path, in order.
    pub fn find<'v>(&self, v: &'v Value) -> Vec<&'v Value> {
        let mut now = vec![v];
        for s in &self.steps {
            let mut next = Vec::new();
            for v in now {
                step(s, v, &mut next);
            }
            now = next;
        }
        now
    }
}

fn step<'v>(s: &Step, v: &'v Value, out: &mut Vec<&'v Value>) {
    match (s, v) {
        (Step::Field(f), Value::Object(o)) => out.extend(o.get(f)),
        (Step::Index(i), Value::Array(a)) => {
            let n = i64::try_from(a.len()).unwrap_or(i64::MAX);
            let i = if *i < 0 { n + i } else { *i };
            out.extend(usize::try_from(i).ok().and_then(|i| a.get(i)));
        }
        (Step::All, Value::Array(a)) => out.extend(a),
        (Step::All, Value::Object(o)) => out.extend(o.values()),
        (Step::Filter { path, equals, value }, Value::Array(a)) => {
            out.extend(a.iter().filter(|item| {
                let found = path.find(item);
                found.first().is_some_and(|v| (*v == value) == *equals)
            }));
        }
        _ => {}
    }
}

fn parse(text: &str) -> Option<JsonPath> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(t) = rest.strip_prefix('[') {
            let end = closing(t)?;
            steps.push(bracket(t.get(..end)?)?);
            rest = t.get(end + 1..)?;
            continue;
        }
        let t = rest.strip_prefix('.')?;
        let (name, tail) = field(t);
        if name.is_empty() {
            // A lone dot is the whole value.
            if !t.is_empty() && !t.starts_with('[') {
                return None;
            }
        } else if name == "*" {
            steps.push(Step::All);
        } else {
            steps.push(Step::Field(name));
        }
        rest = tail;
    }
    Some(JsonPath { steps })
}

/// A field name, in which a backslash keeps a dot.
fn field(t: &str) -> (String, &str) {
    let mut name = String::new();
    let mut escaped = false;
    for (i, c) in t.char_indices() {
        match c {
            _ if escaped => {
                name.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '.' | '[' => return (name, t.get(i..).unwrap_or_default()),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket closes, quotes and inner brackets stepped over.
fn closing(t: &str) -> Option<usize> {
    let mut depth = 0;
    let mut quote = None;
    for (i, c) in t.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(i),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn quoted(t: &str) -> Option<&str> {
    let t = t.trim();
    ['\'', '"'].iter().find_map(|q| t.strip_prefix(*q)?.strip_suffix(*q))
}

fn bracket(t: &str) -> Option<Step> {
    let t = t.trim();
    if t == "*" {
        return Some(Step::All);
    }
    if let Some(name) = quoted(t) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Some(filter) = t.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        let (left, equals, right) = match filter.split_once("==") {
            Some((l, r)) => (l, true, r),
            None => filter.split_once("!=").map(|(l, r)| (l, false, r))?,
        };
        let value = match quoted(right) {
            Some(s) => Value::from(s),
            None => serde_json::from_str(right.trim()).ok()?,
        };
        let path = parse(left.trim().strip_prefix('@')?)?;
        return Some(Step::Filter { path, equals, value });
    }
    t.parse().ok().map(Step::Index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let v = json!({"spec": {"n": 3, "a.b": "x"}, "l": [{"t": "A", "s": "1"}, {"t": "B", "s": "2"}]});
        let cases = [
            (".spec.n", json!([3])),
            ("{.spec.n}", json!([3])),
            (".spec['a.b']", json!(["x"])),
            (r".spec.a\.b", json!(["x"])),
            (".l[0].s", json!(["1"])),
            (".l[-1].s", json!(["2"])),
            (".l[*].s", json!(["1", "2"])),
            (".l[?(@.t==\"B\")].s", json!(["2"])),
            (".l[?(@.t!='B')].s", json!(["1"])),
            (".none.at.all", json!([])),
        ];
        for (path, want) in cases {
            let found = JsonPath::parse(path).expect(path);
            let got: Vec<Value> = found.find(&v).into_iter().cloned().collect();
            assert_eq!(Value::Array(got), want, "{path}");
        }
        for bad in ["spec", ".a[", ".a[x]", ".a..b"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}
