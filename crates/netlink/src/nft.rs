//! nftables tables as data: rendered purely, compared, applied as the smallest change in one transaction by the `nft`
//! program. A `Table` holds chains with rules and sets or maps with elements; names within it are ours alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::Error;

/// `ip`, `ip6` or `inet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Ip,
    Ip6,
    Inet,
}

impl Family {
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Inet => "inet",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// `type nat hook prerouting priority -100; policy accept;` for a base chain.
    pub hook: Option<String>,
    pub rules: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    /// `set` or `map`.
    pub kind: &'static str,
    /// `type ipv4_addr . inet_proto . inet_service : verdict`, with flags and timeouts.
    pub spec: String,
    /// Element to its data (empty for a set).
    pub elements: BTreeMap<String, String>,
    /// The kernel fills it: elements are never compared.
    pub dynamic: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub name: String,
    pub chains: BTreeMap<String, Chain>,
    pub sets: BTreeMap<String, Set>,
}

fn element(key: &str, data: &str) -> String {
    if data.is_empty() { key.to_owned() } else { format!("{key} : {data}") }
}

impl Table {
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self { family, name: name.into(), chains: BTreeMap::new(), sets: BTreeMap::new() }
    }

    pub fn chain(&mut self, name: impl Into<String>, rules: Vec<String>) {
        self.chains.insert(name.into(), Chain { hook: None, rules });
    }

    pub fn base(&mut self, name: impl Into<String>, hook: &str, rules: Vec<String>) {
        self.chains.insert(name.into(), Chain { hook: Some(hook.to_owned()), rules });
    }

    fn at(&self) -> String {
        format!("{} {}", self.family.as_str(), self.name)
    }

    /// The whole table, replacing whatever there was, in one transaction.
    pub fn full(&self) -> String {
        let at = self.at();
        let mut s = format!("add table {at}\ndelete table {at}\nadd table {at}\n");
        s.push_str(&Self::new(self.family, self.name.clone()).delta(self));
        s
    }

    /// Takes the table away.
    pub fn removal(&self) -> String {
        let at = self.at();
        format!("add table {at}\ndelete table {at}\n")
    }

    /// The commands that turn `self` into `new`; empty when they are equal.
    pub fn delta(&self, new: &Table) -> String {
        let at = self.at();
        let mut s = String::new();
        // Declarations first, so that rules and verdicts may refer to them in any order.
        for (name, chain) in &new.chains {
            let old = self.chains.get(name);
            if old.is_none_or(|o| o.hook != chain.hook) {
                let hook = chain.hook.as_ref().map(|h| format!(" {{ {h} }}")).unwrap_or_default();
                let _ = writeln!(s, "add chain {at} {name}{hook}");
            }
        }
        let remade = |name: &str, set: &Set| {
            self.sets.get(name).is_some_and(|o| o.kind != set.kind || o.spec != set.spec)
        };
        for (name, set) in &new.sets {
            if !self.sets.contains_key(name) {
                let _ = writeln!(s, "add {} {at} {name} {{ {} }}", set.kind, set.spec);
            }
        }
        for (name, chain) in &new.chains {
            let old = self.chains.get(name);
            if old.is_some_and(|o| o.rules == chain.rules) {
                continue;
            }
            if old.is_some_and(|o| !o.rules.is_empty()) {
                let _ = writeln!(s, "flush chain {at} {name}");
            }
            for rule in &chain.rules {
                let _ = writeln!(s, "add rule {at} {name} {rule}");
            }
        }
        for (name, set) in &new.sets {
            if set.dynamic {
                continue;
            }
            debug_assert!(!remade(name, set), "a set keeps its type for the life of the table");
            let empty = BTreeMap::new();
            let old = self.sets.get(name).map_or(&empty, |o| &o.elements);
            let gone: Vec<String> = old
                .iter()
                .filter(|(k, v)| set.elements.get(*k) != Some(v))
                .map(|(k, v)| element(k, v))
                .collect();
            let added: Vec<String> = set
                .elements
                .iter()
                .filter(|(k, v)| old.get(*k) != Some(v))
                .map(|(k, v)| element(k, v))
                .collect();
            if !gone.is_empty() {
                let _ = writeln!(s, "delete element {at} {name} {{ {} }}", gone.join(", "));
            }
            if !added.is_empty() {
                let _ = writeln!(s, "add element {at} {name} {{ {} }}", added.join(", "));
            }
        }
        // Removals last: nothing refers to them any more.
        let dead: Vec<&String> = self.chains.keys().filter(|n| !new.chains.contains_key(*n)).collect();
        for name in &dead {
            let _ = writeln!(s, "flush chain {at} {name}");
        }
        for name in &dead {
            let _ = writeln!(s, "delete chain {at} {name}");
        }
        for (name, set) in self.sets.iter().filter(|(n, _)| !new.sets.contains_key(*n)) {
            let _ = writeln!(s, "delete {} {at} {name}", set.kind);
        }
        s
    }
}

/// Feeds commands to `nft -f -` as one transaction.
pub async fn apply(commands: &str) -> Result<(), Error> {
    if commands.is_empty() {
        return Ok(());
    }
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io("start nft (install the package nftables)"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(commands.as_bytes()).await.map_err(Error::io("write to nft"))?;
    }
    let out = child.wait_with_output().await.map_err(Error::io("wait for nft"))?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr);
    Err(Error::Nft(text.lines().take(6).collect::<Vec<_>>().join("; ")))
}

/// What the kernel holds now and what it should hold: applies the difference, or everything after a failure.
pub struct Applied {
    now: Option<Table>,
}

impl Default for Applied {
    fn default() -> Self {
        Self::new()
    }
}

impl Applied {
    /// Nothing is known about the kernel's state: the first change replaces the table.
    pub fn new() -> Self {
        Self { now: None }
    }

    pub async fn set(&mut self, table: Table) -> Result<(), Error> {
        if let Some(old) = self.now.take() {
            let delta = old.delta(&table);
            match apply(&delta).await {
                Ok(()) => {
                    self.now = Some(table);
                    return Ok(());
                }
                // Somebody else changed our table, perhaps: say it and put it right.
                Err(e) => {
                    tracing::warn!(table = %table.name, error = %e, "failed to change a table, replacing it")
                }
            }
        }
        apply(&table.full()).await?;
        self.now = Some(table);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
