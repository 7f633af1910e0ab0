//! What was read of a cluster: things by kind, what is known to be missing, and what could not be read. Pure.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use scheduler::core::Cache;
use serde_json::Value;

/// One object that was read.
#[derive(Debug, Clone)]
pub struct Thing {
    pub kind: &'static str,
    pub v: Value,
}

const NONE: &Value = &Value::Null;

impl Thing {
    /// A field by its JSON pointer; null when it is not there.
    pub fn at(&self, path: &str) -> &Value {
        self.v.pointer(path).unwrap_or(NONE)
    }
    pub fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_default()
    }
    pub fn int(&self, path: &str) -> i64 {
        self.at(path).as_i64().unwrap_or(0)
    }
    pub fn list(&self, path: &str) -> &[Value] {
        items(self.at(path))
    }
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }
    pub fn ns(&self) -> &str {
        self.text("/metadata/namespace")
    }
    pub fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }
    /// `pod/web`
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind, self.name())
    }
    pub fn labels(&self) -> &Value {
        self.at("/metadata/labels")
    }
    pub fn is_deleting(&self) -> bool {
        !self.at("/metadata/deletionTimestamp").is_null()
    }
    pub fn condition(&self, name: &str) -> Option<&Value> {
        self.list("/status/conditions").iter().find(|c| c["type"] == name)
    }
    pub fn controller(&self) -> Option<&Value> {
        self.list("/metadata/ownerReferences").iter().find(|o| o["controller"] == true)
    }
    /// A kubectl command about its namespace: `-n` is added when there is one.
    pub fn kubectl(&self, words: &str) -> String {
        match self.ns() {
            "" => format!("kubectl {words}"),
            ns => format!("kubectl {words} -n {ns}"),
        }
    }
}

pub fn items(v: &Value) -> &[Value] {
    v.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub fn str_of(v: &Value) -> &str {
    v.as_str().unwrap_or_default()
}

/// What is known about one thing.
#[derive(Debug, Clone, Copy)]
pub enum Lookup<'a> {
    There(&'a Thing),
    Missing,
    /// It was not read.
    Unknown,
}

impl<'a> Lookup<'a> {
    pub fn is_missing(&self) -> bool {
        matches!(self, Lookup::Missing)
    }
    pub fn there(self) -> Option<&'a Thing> {
        match self {
            Lookup::There(t) => Some(t),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct Facts {
    /// Seconds since the epoch.
    pub now: i64,
    things: BTreeMap<&'static str, Vec<Thing>>,
    /// By kind, namespace and name; by the uid of the managing owner; events by the uid they are about. Places in `things`.
    named: HashMap<(&'static str, String, String), usize>,
    owned: HashMap<String, Vec<(&'static str, usize)>>,
    about: HashMap<String, Vec<usize>>,
    /// Pods by the node they are bound to.
    placed: HashMap<String, Vec<usize>>,
    /// The scheduler's view of it all, made once.
    pub(crate) cache: RefCell<Option<Cache>>,
    /// Kinds that were listed, with the namespace, `""` for all of them.
    listed: BTreeSet<(&'static str, String)>,
    missing: BTreeSet<(&'static str, String, String)>,
    /// Resources that could not be read, and why.
    pub unread: BTreeMap<String, String>,
    /// The last lines of a container that ended, by namespace, pod and container.
    pub logs: BTreeMap<(String, String, String), String>,
}

impl Facts {
    pub fn at(now: i64) -> Self {
        Self { now, ..Self::default() }
    }

    /// All of a kind in a namespace (`""`: in all), which makes what is not among them missing.
    pub fn set_list(&mut self, kind: &'static str, namespace: &str, all: Vec<Value>) {
        self.listed.insert((kind, namespace.to_owned()));
        all.into_iter().for_each(|v| self.set_one(kind, v));
    }

    pub fn set_one(&mut self, kind: &'static str, v: Value) {
        let t = Thing { kind, v };
        let of = self.things.entry(kind).or_default();
        let place = of.len();
        self.named.insert((kind, t.ns().to_owned(), t.name().to_owned()), place);
        if let Some(o) = t.controller() {
            self.owned.entry(str_of(&o["uid"]).to_owned()).or_default().push((kind, place));
        }
        if kind == "event" {
            let about = t.at("/involvedObject");
            let key = match str_of(&about["uid"]) {
                "" => nameless(t.ns(), str_of(&about["kind"]), str_of(&about["name"])),
                uid => uid.to_owned(),
            };
            self.about.entry(key).or_default().push(place);
        }
        if kind == "pod" && !t.text("/spec/nodeName").is_empty() {
            self.placed.entry(t.text("/spec/nodeName").to_owned()).or_default().push(place);
        }
        of.push(t);
    }

    pub fn set_missing(&mut self, kind: &'static str, namespace: &str, name: &str) {
        self.missing.insert((kind, namespace.to_owned(), name.to_owned()));
    }

    pub fn all(&self, kind: &str) -> &[Thing] {
        self.things.get(kind).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn within<'a>(&'a self, kind: &'a str, ns: &'a str) -> impl Iterator<Item = &'a Thing> {
        self.all(kind).iter().filter(move |t| t.ns() == ns)
    }

    /// Whether all of a kind in a namespace were read.
    pub fn knows(&self, kind: &'static str, ns: &str) -> bool {
        self.listed.contains(&(kind, String::new())) || self.listed.contains(&(kind, ns.to_owned()))
    }

    pub fn look(&self, kind: &'static str, ns: &str, name: &str) -> Lookup<'_> {
        let place = self.named.get(&(kind, ns.to_owned(), name.to_owned()));
        if let Some(t) = place.and_then(|i| self.all(kind).get(*i)) {
            return Lookup::There(t);
        }
        let gone = self.missing.contains(&(kind, ns.to_owned(), name.to_owned()));
        if gone || self.knows(kind, ns) { Lookup::Missing } else { Lookup::Unknown }
    }

    /// Pods that are bound to a node.
    pub fn on_node<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Thing> {
        let of = self.placed.get(node).map(Vec::as_slice).unwrap_or_default();
        of.iter().filter_map(|i| self.all("pod").get(*i))
    }

    pub fn find(&self, kind: &'static str, ns: &str, name: &str) -> Option<&Thing> {
        self.look(kind, ns, name).there()
    }

    /// The things of a kind that it manages.
    pub fn owned<'a>(&'a self, kind: &'a str, owner: &Thing) -> impl Iterator<Item = &'a Thing> {
        let of = self.owned.get(owner.uid()).map(Vec::as_slice).unwrap_or_default();
        of.iter().filter(move |(k, _)| *k == kind).filter_map(|(k, i)| self.all(k).get(*i))
    }

    /// What manages it, if that was read.
    pub fn owner(&self, t: &Thing) -> Option<&Thing> {
        let o = t.controller()?;
        let kind = crate::kind(str_of(&o["kind"]))?.name;
        self.find(kind, t.ns(), str_of(&o["name"])).filter(|x| x.uid() == str_of(&o["uid"]))
    }

    /// What a person edits to change it: the owner at the top of the chain.
    pub fn top<'a>(&'a self, t: &'a Thing) -> &'a Thing {
        let mut at = t;
        // A chain is three long at most; a circle would never end.
        for _ in 0..8 {
            match self.owner(at) {
                Some(o) => at = o,
                None => break,
            }
        }
        at
    }

    /// How to change what a pod is made of: where its template is. Pods and jobs have to be made anew.
    pub fn edit(&self, t: &Thing) -> String {
        let top = self.top(t);
        match top.kind {
            "pod" | "job" => {
                let file = format!("{}.yaml", top.name());
                let get = top.kubectl(&format!("get {} -o yaml", top.id()));
                format!("{get} > {file}   # change it, then: kubectl replace --force -f {file}")
            }
            _ => top.kubectl(&format!("edit {}", top.id())),
        }
    }

    /// The same by `kubectl set …`, where that may change it: of a pod itself only the image may.
    pub fn set(&self, t: &Thing, what: &str, rest: &str) -> String {
        let top = self.top(t);
        match top.kind {
            "job" => self.edit(t),
            "pod" if what != "image" => self.edit(t),
            _ => top.kubectl(&format!("set {what} {} {rest}", top.id())),
        }
    }

    /// Events about it, the newest first.
    pub fn events(&self, t: &Thing) -> Vec<&Thing> {
        let kind = crate::kind(t.kind).map_or("", |k| &k.resource.kind);
        let mut keys = vec![t.uid().to_owned(), nameless(t.ns(), kind, t.name())];
        if t.kind == "node" {
            // Kubelets put the name where the uid belongs.
            keys.push(t.name().to_owned());
        }
        let places = keys.iter().filter(|k| !k.is_empty()).filter_map(|k| self.about.get(k)).flatten();
        let mut out: Vec<&Thing> = places.filter_map(|i| self.all("event").get(*i)).collect();
        out.sort_by_key(|e| std::cmp::Reverse(event_time(e)));
        out
    }

    /// The newest event about it with one of the reasons.
    pub fn event(&self, t: &Thing, reasons: &[&str]) -> Option<&Thing> {
        self.events(t).into_iter().find(|e| reasons.contains(&e.text("/reason")))
    }

    /// How many seconds ago the time was; `None` for what is no time.
    pub fn since(&self, time: &str) -> Option<i64> {
        api::columns::duration::parse_time(time).map(|t| self.now.saturating_sub(t))
    }
}

/// The key of events that carry no uid.
fn nameless(ns: &str, kind: &str, name: &str) -> String {
    format!("{ns}/{kind}/{name}")
}

/// When an event was seen last, in seconds since the epoch.
pub fn event_time(e: &Thing) -> i64 {
    ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .iter()
        .filter_map(|p| api::columns::duration::parse_time(e.text(p)))
        .max()
        .unwrap_or(0)
}

/// `a, b and 3 more`: at most `most` names.
pub fn names(all: &[String], most: usize) -> String {
    match all.len() {
        n if n > most => format!("{} and {} more", all.get(..most).unwrap_or_default().join(", "), n - most),
        _ => all.join(", "),
    }
}

/// `1 pod`, `2 pods`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
