//! What the rules of a definition may cost at most: how large values can be by the limits in their schema, how often a
//! rule runs for one object, and the limits of one expression and of all in a schema. An object is never larger than a
//! request.

use std::collections::BTreeMap;

use cel::Shape;
use serde_json::Value;

use super::at::At;
use super::errors::ErrorList;
use super::path::{Path, Place};
use super::rules::escape;

/// Estimated costs of one expression, and of all expressions of a schema.
const PER_EXPRESSION: u64 = 10_000_000;
const PER_SCHEMA: u64 = 100_000_000;
/// A rule below this is not named among those that make a schema too expensive.
const NAMED: u64 = PER_SCHEMA / 100;
/// How many of them are.
const MOST_NAMED: usize = 4;
/// Bytes of a request.
const REQUEST: u64 = 3 * 1024 * 1024;
/// Characters of the largest texts of a format, and bytes of the smallest in JSON.
const DURATION: (u64, u64) = (32, 3);
const DATE: (u64, u64) = (12, 12);
const DATE_TIME: (u64, u64) = (32, 21);
/// The longest name of an object; a suffix is added to `generateName`.
const NAME: u64 = 253;

/// How large values with a schema can be.
#[derive(Debug, Default)]
pub struct Sizes {
    /// Whether expressions see the value.
    seen: bool,
    /// Characters, items or entries.
    most: u64,
    /// Bytes in JSON.
    least: u64,
    /// By their names in expressions, or their own where they have none there.
    fields: BTreeMap<String, Sizes>,
    items: Option<Box<Sizes>>,
    map: bool,
}

/// Keys of maps: upstream knows no limit of theirs, and counts none.
static KEY: Sizes = Sizes { seen: true, most: 0, least: 2, fields: BTreeMap::new(), items: None, map: false };

impl Shape for Sizes {
    fn most(&self) -> Option<u64> {
        Some(self.most)
    }
    fn field(&self, name: &str) -> Option<&dyn Shape> {
        let field = self.fields.get(name).filter(|f| f.seen && self.items.is_none())?;
        Some(field)
    }
    fn items(&self) -> Option<&dyn Shape> {
        let items = self.items.as_deref()?;
        Some(items)
    }
    fn keys(&self) -> Option<&dyn Shape> {
        self.map.then_some(&KEY as &dyn Shape)
    }
}

/// A limit that a schema sets.
fn limit(s: &Value, field: &str) -> Option<u64> {
    s[field].as_i64().map(|n| u64::try_from(n).unwrap_or(0))
}

/// Characters of a text in a schema, as bytes.
fn length(s: &Value) -> Option<u64> {
    limit(s, "maxLength").map(|n| n.saturating_mul(4))
}

fn key(name: &str) -> String {
    escape(name).unwrap_or_else(|| name.to_owned())
}

impl Sizes {
    fn text(most: u64) -> Self {
        Self { seen: true, most, least: 2, ..Self::default() }
    }

    /// `whole`: an object with apiVersion, kind and metadata.
    pub fn of(s: &Value, whole: bool) -> Self {
        let whole = whole || s["x-kubernetes-embedded-resource"] == true;
        let below = |s: &Value| Self::of(s, false);
        let properties = || s["properties"].as_object().into_iter().flatten();
        let map = s["additionalProperties"].is_object();
        let items = [&s["items"], &s["additionalProperties"]].into_iter().find(|i| i.is_object());
        let mut all = Self {
            fields: properties().map(|(name, p)| (key(name), below(p))).collect(),
            items: items.map(|i| Box::new(below(i))),
            map,
            ..Self::default()
        };
        let item = all.items.as_ref().map(|i| (i.seen, i.least));
        // Two bytes are brackets or quotes.
        let room = REQUEST - 2;
        (all.seen, all.most, all.least) = match s["type"].as_str().unwrap_or_default() {
            _ if s["x-kubernetes-int-or-string"] == true => (true, length(s).unwrap_or(room), 1),
            "array" => {
                let (seen, least) = item.unwrap_or_default();
                // A comma is behind each.
                (seen, limit(s, "maxItems").unwrap_or(room / least.saturating_add(1)), 2)
            }
            "object" if map => {
                let (seen, least) = item.unwrap_or_default();
                // So are a key, at least two bytes of quotes with one character, a colon and a comma.
                (seen, limit(s, "maxProperties").unwrap_or(room / least.saturating_add(6)), 2)
            }
            "object" => {
                if whole {
                    all.add_meta(s);
                }
                (true, 0, all.required(s))
            }
            "string" => all.string(s, room),
            "boolean" => (true, 0, 4),
            "integer" | "number" => (true, 0, 1),
            _ => (false, 0, 1),
        };
        all
    }

    fn string(&self, s: &Value, room: u64) -> (bool, u64, u64) {
        let (most, least) = match s["format"].as_str().unwrap_or_default() {
            "byte" => (limit(s, "maxLength").unwrap_or(room), 2),
            "duration" => DURATION,
            "date" => DATE,
            "date-time" => DATE_TIME,
            _ => {
                let values = s["enum"].as_array().filter(|v| !v.is_empty());
                let longest = |v: &Vec<Value>| v.iter().filter_map(Value::as_str).map(str::len).max();
                let longest = values.map(|v| longest(v).map_or(0, |n| u64::try_from(n).unwrap_or(u64::MAX)));
                (length(s).or(longest).unwrap_or(room), 2)
            }
        };
        (true, most, least)
    }

    /// What every object has, unless the schema says all of it.
    fn add_meta(&mut self, s: &Value) {
        let properties = &s["properties"];
        let meta = &properties["metadata"];
        let names = &meta["properties"];
        let said = |s: &Value, kind: &str| s["type"] == kind;
        let texts = [&properties["kind"], &properties["apiVersion"], &names["name"], &names["generateName"]];
        if said(meta, "object") && texts.iter().all(|t| said(t, "string")) {
            return;
        }
        let name = |field: &str, most: u64| {
            let most = limit(&names[field], "maxLength").map_or(most, |n| n.min(most));
            (field.to_owned(), Self::text(most.saturating_mul(4)))
        };
        let fields = BTreeMap::from([name("name", NAME), name("generateName", NAME - 1)]);
        let meta = Self { seen: true, least: 2, fields, ..Self::default() };
        self.fields.insert("metadata".into(), meta);
        for field in ["kind", "apiVersion"] {
            self.fields.insert(field.into(), Self::text(REQUEST - 2));
        }
    }

    /// Bytes of an object with no more than it must have; what has a default need not be sent.
    fn required(&self, s: &Value) -> u64 {
        let mut names: Vec<&str> =
            s["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let one = |name: &&str| {
            let field = self.fields.get(&key(name)).filter(|f| f.seen)?;
            let sent = s["properties"][*name]["default"].is_null();
            let name = u64::try_from(name.len()).unwrap_or(u64::MAX);
            // Quotes, a colon and a comma.
            sent.then(|| name.saturating_add(field.least).saturating_add(4))
        };
        names.iter().filter_map(one).fold(2, u64::saturating_add)
    }

    pub fn property(&self, name: &str) -> Option<&Self> {
        self.fields.get(&key(name))
    }

    pub fn item(&self) -> Option<&Self> {
        self.items.as_deref()
    }

    /// How many values of this kind an object can hold, where no schema around them says it.
    pub fn fit(&self) -> u64 {
        REQUEST / self.least.saturating_add(1)
    }
}

/// By how much there are more of a value's parts than of the value; `None`: there is no limit.
pub fn parts(s: &Value) -> Option<u64> {
    match s["type"].as_str().unwrap_or_default() {
        "object" if !s["additionalProperties"].is_null() => limit(s, "maxProperties"),
        "array" => limit(s, "maxItems"),
        _ => Some(1),
    }
}

/// What the expressions of a schema cost together, and the most expensive ones.
#[derive(Debug, Default)]
pub struct Total {
    cost: u64,
    worst: Vec<(String, u64)>,
}

impl Total {
    /// Takes one expression into account, and tells where it alone is too expensive.
    pub fn observe(&mut self, at: &Path, what: &str, cost: u64, tolerated: bool, e: &mut ErrorList) {
        if cost > PER_EXPRESSION && !tolerated {
            e.forbidden(at, &over(&format!("estimated {what} cost"), cost, PER_EXPRESSION));
        }
        let named = (cost >= NAMED).then(|| (at.place(), cost));
        self.add(Self { cost, worst: named.into_iter().collect() });
    }

    pub fn add(&mut self, other: Self) {
        self.cost = self.cost.saturating_add(other.cost);
        self.worst.extend(other.worst);
        self.worst.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        self.worst.truncate(MOST_NAMED);
    }

    /// Whether the whole schema is too expensive, and by what.
    pub fn tell(&self, schema: &At, e: &mut ErrorList) {
        if self.cost <= PER_SCHEMA {
            return;
        }
        for (at, _) in &self.worst {
            let why =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            e.forbidden(&Path::new(at), why);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        e.forbidden(schema, &over(what, self.cost, PER_SCHEMA));
    }
}

fn over(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        f if f > 100.0 => "more than 100x".to_owned(),
        // Not "1.0x".
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

#[cfg(test)]
mod tests;
