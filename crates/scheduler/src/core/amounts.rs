//! Amounts of resources as integers: CPU in thousandths, everything else in whole units.

use std::collections::BTreeMap;

use api::quantity::Quantity;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Amounts {
    pub cpu_milli: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub pods: i64,
    /// Extended resources, huge pages, ….
    pub other: BTreeMap<String, i64>,
}

impl Amounts {
    /// From a ResourceList; what does not parse counts as nothing (the API has refused it before).
    pub fn from_list(list: &BTreeMap<String, String>) -> Self {
        let mut out = Self::default();
        for (name, text) in list {
            let Ok(q) = text.parse::<Quantity>() else { continue };
            match name.as_str() {
                "cpu" => out.cpu_milli = q.milli_value(),
                "memory" => out.memory = q.value(),
                "ephemeral-storage" => out.ephemeral_storage = q.value(),
                "pods" => out.pods = q.value(),
                _ => {
                    out.other.insert(name.clone(), q.value());
                }
            }
        }
        out
    }

    /// CPU and memory for scores: pods without requests count a little, so that they spread as well (upstream's 100m and
    /// 200 MiB).
    pub fn wanted(&self) -> (i64, i64) {
        let or = |v: i64, default: i64| if v > 0 { v } else { default };
        (or(self.cpu_milli, 100), or(self.memory, 200 << 20))
    }

    /// By the name in a ResourceList.
    pub fn of(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu_milli,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            "pods" => self.pods,
            other => self.other.get(other).copied().unwrap_or(0),
        }
    }

    pub fn add(&mut self, o: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_add(o.cpu_milli);
        self.memory = self.memory.saturating_add(o.memory);
        self.ephemeral_storage = self.ephemeral_storage.saturating_add(o.ephemeral_storage);
        self.pods = self.pods.saturating_add(o.pods);
        for (k, v) in &o.other {
            let e = self.other.entry(k.clone()).or_default();
            *e = e.saturating_add(*v);
        }
    }

    pub fn sub(&mut self, o: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_sub(o.cpu_milli);
        self.memory = self.memory.saturating_sub(o.memory);
        self.ephemeral_storage = self.ephemeral_storage.saturating_sub(o.ephemeral_storage);
        self.pods = self.pods.saturating_sub(o.pods);
        for (k, v) in &o.other {
            let e = self.other.entry(k.clone()).or_default();
            *e = e.saturating_sub(*v);
        }
    }

    /// The larger of both, resource by resource.
    pub fn max(&mut self, o: &Self) {
        self.cpu_milli = self.cpu_milli.max(o.cpu_milli);
        self.memory = self.memory.max(o.memory);
        self.ephemeral_storage = self.ephemeral_storage.max(o.ephemeral_storage);
        self.pods = self.pods.max(o.pods);
        for (k, v) in &o.other {
            let e = self.other.entry(k.clone()).or_default();
            *e = (*e).max(*v);
        }
    }
}
