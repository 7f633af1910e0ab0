//! `x-kubernetes-validations`: CEL rules of custom resources, compiled with the schema and run when everything else holds.
//! https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::types::ObjectType;
use cel::value::Key;
use cel::{EvalError, Program, Type};
use serde_json::Value;

use super::at::At;
use super::crd::field_path::{self, Step};
use super::crd::structural;
use super::errors::ErrorList;
use super::internal::Internal;
use super::path::{Path, Place};
use super::rule_costs::{Sizes, Total};
pub use compile::newer;
use compile::{REFUSED, REFUSED_ANYWAY, compile_one};

mod compile;

/// What one rule may cost, and all rules of an object together.
const PER_RULE: u64 = 1_000_000;
const PER_OBJECT: u64 = 10_000_000;
/// Parts that rules may see of what every object has.
const TYPED: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// One compiled rule.
#[derive(Debug)]
pub struct Rule {
    text: String,
    message: String,
    message_expression: Option<Program>,
    reason: String,
    field_path: Vec<Step>,
    optional_old: bool,
    program: Program,
}

/// A property's name as it stands in expressions; `None` for one that can't be written there.
pub fn escape(name: &str) -> Option<String> {
    if matches!(name, "true" | "false" | "null" | "in") || cel::RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut chars = name.chars();
    if !chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if !chars.all(plain) {
        return None;
    }
    let s = name.replace("__", "__underscores__");
    Some(s.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__"))
}

fn flag(s: &Value, key: &str) -> bool {
    s[key].as_bool().unwrap_or(false)
}

/// What an expression sees of a value with this schema. `whole`: an object with apiVersion, kind and metadata.
fn type_of(s: &Value, whole: bool) -> Type {
    if flag(s, "x-kubernetes-int-or-string") {
        return Type::Dyn;
    }
    match s["type"].as_str().unwrap_or_default() {
        "boolean" => Type::Bool,
        "integer" => Type::Int,
        "number" => Type::Double,
        "string" => match s["format"].as_str().unwrap_or_default() {
            "byte" => Type::Bytes,
            "duration" => Type::Duration,
            "date" | "date-time" => Type::Timestamp,
            _ => Type::String,
        },
        "array" => Type::list(type_of(&s["items"], false)),
        "object" => {
            let whole = whole || flag(s, "x-kubernetes-embedded-resource");
            let properties = s["properties"].as_object().filter(|p| !p.is_empty());
            let additional = &s["additionalProperties"];
            if properties.is_none() && !whole && additional.is_object() {
                return Type::map(Type::String, type_of(additional, false));
            }
            if properties.is_none() && !whole && flag(s, "x-kubernetes-preserve-unknown-fields") {
                return Type::Dyn;
            }
            let mut fields = BTreeMap::new();
            for (name, p) in properties.into_iter().flatten() {
                if let Some(name) = escape(name) {
                    fields.insert(name, type_of(p, false));
                }
            }
            if whole {
                let text = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), Type::String)).collect();
                let meta = ObjectType { name: "object".into(), fields: text(&["name", "generateName"]) };
                fields.insert("apiVersion".into(), Type::String);
                fields.insert("kind".into(), Type::String);
                fields.insert("metadata".into(), Type::Object(Arc::new(meta)));
            }
            Type::Object(Arc::new(ObjectType { name: "object".into(), fields }))
        }
        _ => Type::Dyn,
    }
}

fn text(s: &str) -> cel::Value {
    cel::Value::from(s)
}

/// A value without a schema, as expressions see it.
pub fn untyped(v: &Value) -> cel::Value {
    match v {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => cel::Value::Bool(*b),
        Value::Number(n) => match n.as_i64() {
            Some(i) => cel::Value::Int(i),
            None => n.as_f64().map_or(cel::Value::Null, cel::Value::Double),
        },
        Value::String(s) => text(s),
        Value::Array(a) => a.iter().map(untyped).collect::<Vec<_>>().into(),
        Value::Object(o) => {
            let all: cel::Map = o.iter().map(|(k, v)| (Key::String(k.as_str().into()), untyped(v))).collect();
            cel::Value::Map(all.into())
        }
    }
}

/// A value as expressions see it. What does not fit its schema stays as it is; the schema has complained before.
fn value_of(s: &Value, v: &Value, whole: bool) -> cel::Value {
    match (s["type"].as_str().unwrap_or_default(), v) {
        ("number", Value::Number(n)) => n.as_f64().map_or(cel::Value::Null, cel::Value::Double),
        ("string", Value::String(t)) => string(s["format"].as_str().unwrap_or_default(), t),
        ("array", Value::Array(a)) => {
            a.iter().map(|v| value_of(&s["items"], v, false)).collect::<Vec<_>>().into()
        }
        ("object", Value::Object(o)) => {
            let whole = whole || flag(s, "x-kubernetes-embedded-resource");
            let properties = s["properties"].as_object();
            let additional = s.get("additionalProperties").filter(|a| a.is_object());
            let mut all = cel::Map::new();
            for (k, v) in o {
                let key = |k: &str| Key::String(k.into());
                if whole && TYPED.contains(&k.as_str()) {
                    all.insert(key(k), untyped(v));
                } else if let Some(p) = properties.and_then(|p| p.get(k)) {
                    if let Some(name) = escape(k) {
                        all.insert(key(&name), value_of(p, v, false));
                    }
                } else if let Some(p) = additional {
                    all.insert(key(k), value_of(p, v, false));
                } else if properties.is_none_or(serde_json::Map::is_empty) {
                    all.insert(key(k), untyped(v));
                }
            }
            cel::Value::Map(all.into())
        }
        _ => untyped(v),
    }
}

fn string(format: &str, t: &str) -> cel::Value {
    let made = match format {
        "byte" => {
            use base64::Engine;
            let bytes = base64::engine::general_purpose::STANDARD.decode(t).ok();
            bytes.map(|b| cel::Value::Bytes(b.into()))
        }
        "duration" => cel::functions::duration(t).ok().map(cel::Value::Duration),
        "date-time" => t.parse().ok().map(cel::Value::Timestamp),
        "date" => format!("{t}T00:00:00Z").parse().ok().map(cel::Value::Timestamp),
        _ => None,
    };
    made.unwrap_or_else(|| text(t))
}

fn trimmed<'r>(rule: &'r Value, field: &str) -> &'r str {
    rule[field].as_str().unwrap_or_default().trim()
}

/// A rule to run; `None` for one that does not compile: it was refused with the definition.
fn rule(s: &Value, this: &Type, r: &Value) -> Option<Rule> {
    let c = compile_one(this, r, &[]);
    let text = |f: &str| trimmed(r, f).to_owned();
    Some(Rule {
        text: text("rule"),
        message: text("message"),
        message_expression: c.message.transpose().ok()?,
        reason: text("reason"),
        field_path: field_path::follow(trimmed(r, "fieldPath"), s, true).map(|(p, _)| p).unwrap_or_default(),
        optional_old: flag(r, "optionalOldSelf"),
        program: c.program.ok()?,
    })
}

fn rules_of(s: &Value) -> &[Value] {
    s["x-kubernetes-validations"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The texts of the rules of one node of a definition's schema.
pub fn check_texts(s: &At, e: &mut ErrorList) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    const NO_BREAKS: &str = "must not contain line breaks";
    let broken = |t: &str| t.contains(['\n', '\r']);
    let rules = s.get("x-kubernetes-validations");
    if rules.is_empty() {
        return;
    }
    // Walks all below, so not for each node of a schema.
    let supported = structural::unsupported(s.v).is_none();
    for r in rules.iter() {
        let (message, path) = (r.get("message"), r.get("fieldPath"));
        let (text, said) = (trimmed(r.v, "rule"), trimmed(r.v, "message"));
        if text.is_empty() {
            e.required(&r.at("rule"), "rule is not specified");
        } else if !message.str().is_empty() && said.is_empty() {
            e.bad(&message, "must be non-empty if specified");
        } else if broken(said) {
            e.bad(&message, NO_BREAKS);
        } else if broken(text) && said.is_empty() {
            e.required(&message, "message must be specified if rule contains line breaks");
        }
        if !r.s("messageExpression").is_empty() && trimmed(r.v, "messageExpression").is_empty() {
            e.required(&r.at("messageExpression"), "messageExpression must be non-empty if specified");
        }
        let reason = r.get("reason");
        if !reason.is_null() && !REASONS.contains(&reason.str()) {
            e.not_supported(&reason, reason.str(), &REASONS);
        }
        if path.str().is_empty() {
            continue;
        }
        if path.str().trim().is_empty() {
            e.bad(&path, "must be non-empty if specified");
        }
        if broken(path.str()) {
            e.bad(&path, NO_BREAKS);
        }
        if supported && field_path::follow(path.str(), s.v, true).is_err() {
            e.bad(&path, "must be a valid path");
        }
    }
}

/// What holds for the rules of one node of a definition's schema by where it stands.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The value has apiVersion, kind and metadata.
    pub whole: bool,
    /// Where values stop being the same ones after a change, so that rules can't ask for what was before.
    pub alone: Option<&'a Path<'a>>,
    pub sizes: Option<&'a Sizes>,
    /// How many such values an object has at most; `None`: nobody says.
    pub times: Option<u64>,
    /// Expensive ones are stored already.
    pub tolerated: bool,
    /// Stored ones use what new ones may not.
    pub newer: bool,
}

/// The programs of the rules of one node of a definition's schema, and what they cost.
pub fn check_programs(s: &At, site: Site, total: &mut Total, e: &mut ErrorList) {
    let rules = s.get("x-kubernetes-validations");
    if rules.is_empty() {
        return;
    }
    let this = type_of(s.v, site.whole);
    let own = if site.sizes.is_some() { Sizes::default() } else { Sizes::of(s.v, site.whole) };
    let sizes = site.sizes.unwrap_or(&own);
    let times = site.times.unwrap_or_else(|| sizes.fit());
    for r in rules.iter() {
        let failed = |field: &str, why: &str, e: &mut ErrorList| {
            e.invalid(&r.at(field), Internal("ValidationRule", r.v), why);
        };
        let c = compile_one(&this, r.v, if site.newer { REFUSED_ANYWAY } else { REFUSED });
        let cost = |p: &Program| c.env.estimate(p, &|_| Some(sizes)).max;
        match &c.program {
            Ok(p) => {
                let cost = cost(p).saturating_mul(times);
                total.observe(&r.at("rule"), "rule", cost, site.tolerated, e);
            }
            Err(why) => failed("rule", why, e),
        }
        match &c.message {
            Some(Ok(p)) if c.program.is_ok() => {
                // One message is made, however many values are wrong.
                total.observe(&r.at("messageExpression"), "messageExpression", cost(p), site.tolerated, e);
            }
            // Looked at only beside a rule that compiles.
            Some(Err(why)) if c.program.is_ok() => failed("messageExpression", why, e),
            _ => {}
        }
        let optional = r.get("optionalOldSelf");
        let looks_back = c.program.as_ref().is_ok_and(|p| p.uses("oldSelf"));
        if let Some(alone) = site.alone.filter(|_| looks_back) {
            let why =
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {alone}");
            e.bad(&r.get("rule"), &why);
        } else if !looks_back && !optional.is_null() {
            e.bad(&optional, "may not be set if oldSelf is not used in rule");
        }
    }
}

/// The rules of a schema, by where they stand. Only parts that hold rules have a node.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    schema: Arc<Value>,
    whole: bool,
    root: Node,
}

#[derive(Debug, Clone, Default)]
struct Node {
    rules: Vec<Arc<Rule>>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.rules.is_empty()
            && self.properties.is_empty()
            && self.additional.is_none()
            && self.items.is_none()
    }
}

fn compile(s: &Value, whole: bool, depth: usize) -> Node {
    if depth > 64 || !s.is_object() {
        return Node::default();
    }
    let sub =
        |k: &str| s.get(k).map(|s| compile(s, false, depth + 1)).filter(|n| !n.is_empty()).map(Box::new);
    let this = if rules_of(s).is_empty() { Type::Dyn } else { type_of(s, whole) };
    Node {
        rules: rules_of(s).iter().filter_map(|r| rule(s, &this, r)).map(Arc::new).collect(),
        properties: s["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, s)| (k.clone(), compile(s, false, depth + 1)))
            .filter(|(_, n)| !n.is_empty())
            .collect(),
        additional: sub("additionalProperties"),
        items: sub("items"),
    }
}

impl Rules {
    /// `whole`: what the schema describes has apiVersion, kind and metadata.
    pub fn compile(schema: &Value, whole: bool) -> Self {
        let root = compile(schema, whole, 0);
        // The schema is looked at again only where there are rules.
        let schema = Arc::new(if root.is_empty() { Value::Null } else { schema.clone() });
        Self { schema, whole, root }
    }

    pub fn any(&self) -> bool {
        !self.root.is_empty()
    }

    /// Runs every rule on an object that its schema accepts.
    pub fn run(&self, new: &Value, old: Option<&Value>, e: &mut ErrorList) {
        if self.root.is_empty() {
            return;
        }
        let mut budget = PER_OBJECT;
        walk(&self.root, &self.schema, &At::root(new), old, self.whole, &mut budget, e);
    }
}

/// `None` once the budget is spent.
fn walk(
    n: &Node,
    s: &Value,
    a: &At,
    old: Option<&Value>,
    whole: bool,
    budget: &mut u64,
    e: &mut ErrorList,
) -> Option<()> {
    // What did not change is not complained about again.
    if a.v.is_null() || old == Some(a.v) {
        return Some(());
    }
    if !n.rules.is_empty() {
        let this = value_of(s, a.v, whole);
        let before = old.filter(|o| !o.is_null()).map(|o| value_of(s, o, whole));
        for r in &n.rules {
            one(r, s, a, &this, before.as_ref(), budget, e)?;
        }
    }
    let was = |k: &str| old.and_then(|o| o.get(k));
    match a.v {
        Value::Object(o) => {
            for k in o.keys() {
                if let Some(n) = n.properties.get(k) {
                    walk(n, &s["properties"][k], &a.get(k), was(k), false, budget, e)?;
                } else if let Some(n) = n.additional.as_ref().filter(|_| s["properties"].get(k).is_none()) {
                    let at = At::new(a.raw(k), a.p.key(k));
                    walk(n, &s["additionalProperties"], &at, was(k), false, budget, e)?;
                }
            }
        }
        Value::Array(_) => {
            if let Some(n) = &n.items {
                let before = super::custom::correlated(s, old);
                for item in a.iter() {
                    let was = before.get(&super::custom::list_key(s, item.v)).copied();
                    walk(n, &s["items"], &item, was, false, budget, e)?;
                }
            }
        }
        _ => {}
    }
    Some(())
}

fn one(
    r: &Rule,
    s: &Value,
    a: &At,
    this: &cel::Value,
    before: Option<&cel::Value>,
    budget: &mut u64,
    e: &mut ErrorList,
) -> Option<()> {
    let old = match (before, r.optional_old) {
        (Some(o), false) => o.clone(),
        (o, true) => cel::Value::Optional(o.cloned().map(Box::new)),
        // A rule about a change, and nothing changes.
        (None, false) if r.program.uses("oldSelf") => return Some(()),
        (None, false) => cel::Value::Null,
    };
    let kind = s["type"].as_str().unwrap_or("object");
    let variables = [("self", this.clone()), ("oldSelf", old)];
    let mut run = |p: &Program| {
        let mut own = PER_RULE.min(*budget);
        let before = own;
        let result = p.eval(&variables, &mut own);
        *budget -= before - own;
        result
    };
    let shown = if r.message.is_empty() { &r.text } else { &r.message };
    let result = run(&r.program);
    let text = match result {
        Ok(cel::Value::Bool(true)) => return Some(()),
        Ok(_) => {
            let made = r.message_expression.as_ref().and_then(|p| run(p).ok());
            let made = made.as_ref().and_then(cel::Value::as_str).map(str::trim);
            match made.filter(|m| !m.is_empty() && !m.contains('\n')) {
                Some(m) => m.to_owned(),
                None if r.message.is_empty() => format!("failed rule: {}", r.text),
                None => r.message.clone(),
            }
        }
        Err(EvalError::CostLimit) if *budget == 0 => {
            e.invalid(a, kind, "validation failed due to running out of cost budget, no further validation rules will be run");
            return None;
        }
        Err(EvalError::CostLimit) => {
            let why = EvalError::CostLimit;
            e.invalid(a, kind, &format!("'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"));
            return None;
        }
        Err(EvalError::Failed(why)) if why == "no such overload" => {
            e.invalid(a, kind, &format!("'{why}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"));
            return Some(());
        }
        Err(EvalError::Failed(why)) => {
            e.invalid(a, kind, &format!("{why} evaluating rule: {shown}"));
            return Some(());
        }
    };
    tell(r, kind, &Below(a.p, &r.field_path), &text, e);
    Some(())
}

/// A place, and the field below it that a rule names.
struct Below<'a>(Path<'a>, &'a [Step]);

impl Place for Below<'_> {
    fn place(&self) -> String {
        field_path::below(self.0.to_string(), self.1)
    }
}

fn tell(r: &Rule, kind: &str, at: &dyn Place, text: &str, e: &mut ErrorList) {
    match r.reason.as_str() {
        "FieldValueForbidden" => e.forbidden(at, text),
        "FieldValueRequired" => e.required(at, text),
        "FieldValueDuplicate" => e.duplicate(at, kind),
        _ => e.invalid(at, kind, text),
    }
}

#[cfg(test)]
mod tests;
