//! Hard eviction thresholds: what must stay available, in the words of the kubelet's `--eviction-hard`. Pure.
//! https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-thresholds

use std::fmt;

use crate::quantity;

/// A share of the whole, or a number of bytes or inodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    Percent(f64),
    Amount(u64),
}

impl Threshold {
    pub const NONE: Self = Self::Amount(0);

    /// Whether less than this is left. Of a file system that counts nothing (`all` is 0) nothing is ever short.
    pub fn met(self, free: u64, all: u64) -> bool {
        match self {
            Self::Percent(p) => all > 0 && 100.0 * (free as f64) < p * all as f64,
            Self::Amount(n) => free < n,
        }
    }

    fn parse(s: &str) -> Option<Self> {
        match s.strip_suffix('%') {
            Some(p) => p.parse().ok().filter(|p| (0.0..=100.0).contains(p)).map(Self::Percent),
            None => quantity::parse(s).filter(|n| *n >= 0.0).map(|n| Self::Amount(n as u64)),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(p) => write!(f, "{p}%"),
            Self::Amount(n) => write!(f, "{n}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Eviction {
    pub memory: Threshold,
    pub nodefs: Threshold,
    pub imagefs: Threshold,
    pub nodefs_inodes: Threshold,
}

impl Default for Eviction {
    /// Upstream's defaults.
    fn default() -> Self {
        Self {
            memory: Threshold::Amount(100 << 20),
            nodefs: Threshold::Percent(10.0),
            imagefs: Threshold::Percent(15.0),
            nodefs_inodes: Threshold::Percent(5.0),
        }
    }
}

impl Eviction {
    /// `memory.available<100Mi,nodefs.available<10%`. As upstream has it, what is not named has no threshold then.
    pub fn parse(text: &str) -> Result<Self, String> {
        let none = Threshold::NONE;
        let mut e = Self { memory: none, nodefs: none, imagefs: none, nodefs_inodes: none };
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (signal, value) =
                part.split_once('<').ok_or_else(|| format!("{part:?}: SIGNAL<VALUE is wanted"))?;
            let slot = match signal {
                "memory.available" => &mut e.memory,
                "nodefs.available" => &mut e.nodefs,
                "imagefs.available" => &mut e.imagefs,
                "nodefs.inodesFree" => &mut e.nodefs_inodes,
                other => {
                    return Err(format!(
                        "{other:?} is no signal known here; there are memory.available, nodefs.available, imagefs.available and nodefs.inodesFree"
                    ));
                }
            };
            *slot = Threshold::parse(value)
                .ok_or_else(|| format!("{part:?}: {value:?} is neither a quantity nor a percentage"))?;
        }
        Ok(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_holds_and_nothing_else() {
        let e = Eviction::parse("memory.available<50Mi, nodefs.inodesFree<3%").expect("thresholds");
        assert_eq!(e.memory, Threshold::Amount(50 << 20));
        assert_eq!((e.nodefs, e.nodefs_inodes), (Threshold::NONE, Threshold::Percent(3.0)));
        for (bad, said) in [
            ("memory.available", "SIGNAL<VALUE"),
            ("pid.left<3", "no signal"),
            ("memory.available<lots", "neither"),
            ("nodefs.available<120%", "neither"),
        ] {
            assert!(Eviction::parse(bad).expect_err(bad).contains(said), "{bad}");
        }
    }

    #[test]
    fn short_of_what() {
        assert!(Threshold::Percent(10.0).met(9, 100) && !Threshold::Percent(10.0).met(10, 100));
        assert!(!Threshold::Percent(10.0).met(0, 0) && !Threshold::NONE.met(0, 100));
        assert!(Threshold::Amount(5).met(4, 100));
    }
}
