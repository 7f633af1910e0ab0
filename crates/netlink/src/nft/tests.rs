//! What a change contains, and that changes lead where a full load leads: the commands are run on a model of the kernel
//! that refuses what the kernel refuses.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn table(elements: &[(&str, &str)]) -> Table {
    let mut t = Table::new(Family::Ip, "t");
    t.base(
        "pre",
        "type nat hook prerouting priority -100 ; policy accept ;",
        vec!["ip daddr . meta l4proto . th dport vmap @m".into()],
    );
    for (_, v) in elements {
        t.chain(v.trim_start_matches("goto "), vec!["accept".into()]);
    }
    let elements = elements.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    t.sets.insert(
        "m".into(),
        Set {
            kind: "map",
            spec: "type ipv4_addr . inet_proto . inet_service : verdict ;".into(),
            elements,
            dynamic: false,
        },
    );
    t
}

#[test]
fn a_change_touches_only_what_differs() {
    let a = table(&[("10.0.0.1 . tcp . 80", "goto a"), ("10.0.0.2 . tcp . 80", "goto b")]);
    let b = table(&[("10.0.0.1 . tcp . 80", "goto a"), ("10.0.0.3 . tcp . 80", "goto c")]);
    assert_eq!(a.delta(&a), "");
    assert_eq!(
        a.delta(&b),
        "add chain ip t c\nadd rule ip t c accept\n\
         delete element ip t m { 10.0.0.2 . tcp . 80 : goto b }\n\
         add element ip t m { 10.0.0.3 . tcp . 80 : goto c }\n\
         flush chain ip t b\ndelete chain ip t b\n"
    );
    assert!(a.full().starts_with("add table ip t\ndelete table ip t\nadd table ip t\nadd chain ip t a\n"));
}

/// What the kernel holds of one table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kernel {
    chains: BTreeMap<String, (String, Vec<String>)>,
    sets: BTreeMap<String, (String, BTreeMap<String, String>)>,
}

/// The chain or set that a rule or a verdict leads to.
fn target<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let at = text.find(word)?;
    text.get(at + word.len()..)?.split([' ', '}']).next()
}

impl Kernel {
    fn run(&mut self, commands: &str) {
        for line in commands.lines() {
            let (head, body) =
                line.split_once(" { ").map_or((line, None), |(h, b)| (h, Some(b.trim_end_matches(" }"))));
            let words: Vec<&str> = head.split(' ').collect();
            match words.as_slice() {
                ["add" | "delete", "table", ..] => *self = Self::default(),
                ["add", "chain", _, _, name] => {
                    let hook = body.unwrap_or_default().to_owned();
                    let old = self.chains.insert((*name).to_owned(), (hook, vec![]));
                    assert!(old.is_none(), "chain {name} is there already");
                }
                ["flush", "chain", _, _, name] => {
                    self.chains.get_mut(*name).expect("a chain to flush").1.clear()
                }
                ["delete", "chain", _, _, name] => {
                    let rules = self.chains.values().flat_map(|(_, rules)| rules);
                    let verdicts = self.sets.values().flat_map(|(_, e)| e.values());
                    assert!(
                        !rules.chain(verdicts).any(|t| target(t, "goto ") == Some(*name)),
                        "chain {name} is in use"
                    );
                    assert!(self.chains.remove(*name).expect("a chain to delete").1.is_empty());
                }
                ["add", "rule", _, _, chain, ..] => {
                    let rule = line.splitn(6, ' ').last().unwrap_or_default();
                    if let Some(c) = target(rule, "goto ") {
                        assert!(self.chains.contains_key(c), "{rule}: no such chain");
                    }
                    if let Some(s) = target(rule, "@") {
                        assert!(self.sets.contains_key(s), "{rule}: no such set");
                    }
                    self.chains.get_mut(*chain).expect("a chain for the rule").1.push(rule.to_owned());
                }
                ["add", "set" | "map", _, _, name] => {
                    let old = self
                        .sets
                        .insert((*name).to_owned(), (body.unwrap_or_default().to_owned(), BTreeMap::new()));
                    assert!(old.is_none(), "set {name} is there already");
                }
                ["delete", "set" | "map", _, _, name] => {
                    let used =
                        self.chains.values().flat_map(|(_, r)| r).any(|r| target(r, "@") == Some(*name));
                    assert!(!used, "set {name} is in use");
                    self.sets.remove(*name).expect("a set to delete");
                }
                [verb @ ("add" | "delete"), "element", _, _, name] => {
                    let (_, elements) = self.sets.get_mut(*name).expect("a set for the elements");
                    for e in body.unwrap_or_default().split(", ") {
                        let (k, v) = e.split_once(" : ").unwrap_or((e, ""));
                        if *verb == "add" {
                            assert!(
                                elements.insert(k.to_owned(), v.to_owned()).is_none(),
                                "{e} is there already"
                            );
                            if let Some(c) = target(v, "goto ") {
                                assert!(self.chains.contains_key(c), "{e}: no such chain");
                            }
                        } else {
                            assert_eq!(elements.remove(k).as_deref(), Some(v), "{e} to delete");
                        }
                    }
                }
                _ => panic!("unknown command {line}"),
            }
        }
    }
}

/// A table of few names, so that steps collide: chains with rules that lead to other chains and look into sets.
fn any_table() -> impl Strategy<Value = Table> {
    let chains = proptest::collection::btree_map(0u8..5, proptest::collection::vec(0u8..4, 0..3), 0..5);
    let elements = proptest::collection::btree_map(0u8..6, 0u8..5, 0..6);
    let dynamic: BoxedStrategy<BTreeSet<u8>> = proptest::collection::btree_set(0u8..3, 0..3).boxed();
    (chains, elements, dynamic).prop_map(|(chains, elements, dynamic)| {
        let mut t = Table::new(Family::Ip, "t");
        t.base("pre", "type nat hook prerouting priority -100 ; policy accept ;", vec!["vmap @m".into()]);
        for d in &dynamic {
            let spec = "type ipv4_addr ; flags dynamic ;".into();
            t.sets.insert(format!("d{d}"), Set { kind: "set", spec, dynamic: true, ..Set::default() });
        }
        for (c, rules) in &chains {
            let rule = |r: &u8| match (chains.contains_key(r), dynamic.contains(r)) {
                (true, _) if r > c => format!("x goto c{r}"),
                (_, true) => format!("y @d{r} accept"),
                _ => format!("accept {r}"),
            };
            t.chain(format!("c{c}"), rules.iter().map(rule).collect());
        }
        let mut m = Set { kind: "map", spec: "type x : verdict ;".into(), ..Set::default() };
        for (k, c) in elements.iter().filter(|(_, c)| chains.contains_key(c)) {
            m.elements.insert(format!("k{k}"), format!("goto c{c}"));
        }
        t.sets.insert("m".into(), m);
        t
    })
}

proptest! {
    #[test]
    fn changes_lead_where_a_full_load_leads(states in proptest::collection::vec(any_table(), 1..8)) {
        let mut kernel = Kernel::default();
        let mut last: Option<&Table> = None;
        for t in &states {
            kernel.run(&last.map_or_else(|| t.full(), |l| l.delta(t)));
            let mut fresh = Kernel::default();
            fresh.run(&t.full());
            prop_assert_eq!(&kernel, &fresh);
            last = Some(t);
        }
    }
}
