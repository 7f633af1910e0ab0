//! Topology keys as columns: for each key that a pod names, the domain of every node as a small number, so that counting
//! pods by domain is arithmetic on flat arrays.

use std::collections::{BTreeMap, HashMap};

use super::NodeInfo;

/// Of a node without the label.
pub const NOWHERE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub struct Column {
    ids: HashMap<String, u32>,
    /// The domain of each node, in the cache's order.
    of: Vec<u32>,
}

impl Column {
    fn id(&mut self, labels: &BTreeMap<String, String>, key: &str) -> u32 {
        let Some(value) = labels.get(key) else { return NOWHERE };
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        let id = u32::try_from(self.ids.len()).unwrap_or(NOWHERE);
        self.ids.insert(value.clone(), id);
        id
    }

    /// The domain of the node at an index.
    pub fn domain(&self, node: usize) -> u32 {
        self.of.get(node).copied().unwrap_or(NOWHERE)
    }

    pub fn of(&self) -> &[u32] {
        &self.of
    }

    pub fn domains(&self) -> usize {
        self.ids.len()
    }
}

#[derive(Debug, Default)]
pub struct Topology {
    columns: Vec<Column>,
    keys: HashMap<String, usize>,
    /// So many columns may be there before those that nobody names are dropped.
    limit: usize,
}

const LIMIT: usize = 192;

impl Topology {
    /// The column of a key, which is made when it is new.
    pub fn ensure(&mut self, key: &str, nodes: &[NodeInfo]) -> usize {
        if let Some(i) = self.keys.get(key) {
            return *i;
        }
        let mut column = Column::default();
        column.of = nodes.iter().map(|n| column.id(&n.labels, key)).collect();
        self.columns.push(column);
        self.keys.insert(key.to_owned(), self.columns.len() - 1);
        self.columns.len() - 1
    }

    pub fn find(&self, key: &str) -> Option<usize> {
        self.keys.get(key).copied()
    }

    pub fn column(&self, i: usize) -> Option<&Column> {
        self.columns.get(i)
    }

    /// Keys that no pod names, or values that no node has any more, may be more than those in use.
    pub fn is_stale(&self, nodes: usize) -> bool {
        self.columns.len() > self.limit.max(LIMIT)
            || self.columns.iter().any(|c| c.ids.len() > nodes * 2 + 64)
    }

    /// Columns of these keys alone, with the values that nodes have now.
    pub fn only<'k>(keys: impl IntoIterator<Item = &'k str>, nodes: &[NodeInfo]) -> Self {
        let mut t = Self::default();
        for key in keys {
            t.ensure(key, nodes);
        }
        t.limit = t.columns.len() * 2;
        t
    }

    /// The node at this index, which may be a new one at the end, has these labels now.
    pub fn set_node(&mut self, index: usize, labels: &BTreeMap<String, String>) {
        for (key, i) in &self.keys {
            let Some(column) = self.columns.get_mut(*i) else { continue };
            let id = column.id(labels, key);
            match column.of.get_mut(index) {
                Some(of) => *of = id,
                None => column.of.push(id),
            }
        }
    }

    /// The last node takes the place of this one.
    pub fn swap_remove(&mut self, index: usize) {
        for column in self.columns.iter_mut().filter(|c| index < c.of.len()) {
            column.of.swap_remove(index);
        }
    }
}
