//! A least and a most: of sizes and of costs. Sums and products stop at the largest number.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    /// What may be anything.
    pub const UNKNOWN: Range = Range { min: 0, max: u64::MAX };

    pub const fn new(min: u64, max: u64) -> Self {
        Self { min, max }
    }

    pub const fn of(n: u64) -> Self {
        Self::new(n, n)
    }

    pub fn plus(self, other: Self) -> Self {
        Self::new(self.min.saturating_add(other.min), self.max.saturating_add(other.max))
    }

    pub fn times(self, other: Self) -> Self {
        Self::new(self.min.saturating_mul(other.min), self.max.saturating_mul(other.max))
    }

    /// Times a part of one, rounded up.
    pub fn scaled(self, factor: f64) -> Self {
        let one = |n: u64| (n as f64 * factor).ceil() as u64;
        Self::new(one(self.min), one(self.max))
    }

    /// What holds both.
    pub fn or(self, other: Self) -> Self {
        Self::new(self.min.min(other.min), self.max.max(other.max))
    }
}
